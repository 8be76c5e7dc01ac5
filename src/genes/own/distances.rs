//! How far a gene starts behind the end of the one before it on its strand: in operons a few bases,
//! often with the codons of stop and start overlapping by four bases or one.

use super::{Found, Orf, SURE, odds};
use crate::genes::code::GeneticCode;
use crate::genes::gene::Gene;

/// The first distances of bins; below 0 genes overlap.
const BINS: [i64; 12] = [-60, -20, -8, -4, -3, -1, 0, 10, 25, 50, 100, 200];
/// Distances from here on say nothing.
pub const FAR: u64 = 200;
/// Codons around a start within which other starts are looked at.
const WITHIN: i64 = 100;
/// Genes on top in each bin.
const FEW: f64 = 5.0;

/// What distances say, in nats.
pub struct Distances([f64; BINS.len() - 1]);

/// The bin of a distance; the last one is that of all others.
fn bin(distance: i64) -> usize {
    match BINS.partition_point(|first| *first <= distance) {
        0 => BINS.len() - 1,
        behind => behind - 1,
    }
}

impl Distances {
    pub(super) fn learn(code: GeneticCode, found: &[Found]) -> Self {
        let mut counts = [[0.0; 2]; BINS.len()];
        for found in found {
            let mut genes: Vec<&Gene> = found.genes.iter().collect();
            genes.sort_by_key(|gene| (gene.start, gene.end));
            for pair in genes.windows(2) {
                let (first, second) = (pair[0], pair[1]);
                let gene = if first.reverse { first } else { second };
                let whole = gene.first_codon.is_some() && gene.score >= SURE;
                if first.reverse != second.reverse || !whole {
                    continue;
                }
                let distance = second.start as i64 - first.end as i64;
                counts[bin(distance)][0] += 1.0;
                for place in Orf::new(code, found, gene).others(WITHIN) {
                    counts[bin(distance + 3 * place)][1] += 1.0;
                }
            }
        }
        let totals = [0, 1].map(|i| counts.iter().map(|count| count[i]).sum());
        let [.., far] = counts;
        let far = odds(far, totals, FEW);
        let mut said = [0.0; BINS.len() - 1];
        for (said, count) in said.iter_mut().zip(counts) {
            *said = odds(count, totals, FEW) - far;
        }
        Self(said)
    }

    /// What this distance says for a start, against starting far from another gene.
    pub fn score(&self, distance: i64) -> f64 {
        self.0.get(bin(distance)).copied().unwrap_or(0.0)
    }
}
