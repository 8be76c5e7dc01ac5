//! What a genome's own genes have in common, learned from those of a first decoding: the codons that
//! they start with and the bases before those, how far from each other genes of a strand lie, and
//! which codons follow each other.
//!
//! Each is a log odds of frequencies: of the genes that were found, against the other places where
//! the same genes could start, or against the genome.

mod distances;
mod hexamers;
mod motif;
mod places;
mod site;
mod starts;

pub(super) use distances::{Distances, FAR};
pub(super) use hexamers::Hexamers;
pub(super) use places::{Around, BEFORE};
pub(super) use starts::Starts;

use super::code::GeneticCode;
use super::evidence::Evidence;
use super::gene::Gene;
use places::Orf;

/// Genes that are learned from have this score at least, in nats.
const SURE: f64 = 10.0;
/// Fewer genes than these say too little.
const LEAST: usize = 200;

/// What was learned.
pub(super) struct Own {
    pub starts: Starts,
    pub distances: Distances,
    pub hexamers: Hexamers,
}

/// A sequence, and the genes that were found in it, in their order.
pub(super) struct Found<'a> {
    /// The position of its first base.
    pub first: u64,
    pub bases: &'a [Evidence],
    pub genes: Vec<Gene>,
}

impl Own {
    /// Learns from genes; none if they are too few.
    pub fn learn(code: GeneticCode, found: &[Found]) -> Option<Self> {
        let orfs: Vec<Orf> = found.iter().flat_map(|found| found.sure(code)).collect();
        if orfs.len() < LEAST {
            return None;
        }
        Some(Self {
            starts: Starts::learn(&orfs),
            distances: Distances::learn(code, found),
            hexamers: Hexamers::learn(code, found, &orfs),
        })
    }
}

impl Found<'_> {
    /// The open reading frames of the whole genes that are sure.
    fn sure(&self, code: GeneticCode) -> impl Iterator<Item = Orf<'_>> {
        let whole = |gene: &&Gene| gene.stops && gene.first_codon.is_some() && gene.score >= SURE;
        let genes = self.genes.iter().filter(whole);
        genes.map(move |gene| Orf::new(code, self, gene))
    }
}

/// `ln (a / b)` of two counts as parts of their totals; `few`: what each has on top, in parts of the
/// first total, so that rare things say little.
fn odds(counts: [f64; 2], totals: [f64; 2], few: f64) -> f64 {
    let [yes, no] = [0, 1].map(|i| counts[i] / totals[i].max(1.0) * totals[0]);
    ((yes + few) / (no + few)).ln()
}
