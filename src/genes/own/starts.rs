//! What starts of a genome's genes have in common.

use super::motif::{Motif, composition};
use super::places::{Around, BEFORE, follows_a_start};
use super::site::Sites;
use super::{Orf, odds};
use crate::sequence::{A, G, base};

/// Codons around a start within which other starts are what it is compared with.
const WITHIN: i64 = 50;
/// What the parts count. They say in part the same; chosen like the constants of the decoder.
const CODON: f64 = 1.1;
const SITE: f64 = 0.8;
const MOTIF: f64 = 0.4;
const COMPOSITION: f64 = 0.2;
/// What it costs to start right behind another start codon, of which genes take the first.
const SECOND: f64 = 1.1;
/// The nearest bases before a start that composition is looked at of.
const FROM: usize = 2;
/// Starts on top of each codon.
const FEW: f64 = 5.0;

/// Which codons and which bases before them speak for a start.
pub struct Starts {
    codons: [f64; 3],
    sites: Sites,
    motif: Motif,
    composition: [[f64; 4]; BEFORE],
}

/// ATG, GTG, TTG.
fn number(codon: [u8; 3]) -> usize {
    match base(codon[0]) {
        A => 0,
        G => 1,
        _ => 2,
    }
}

impl Starts {
    pub(super) fn learn(orfs: &[Orf]) -> Self {
        let starts: Vec<Around> = orfs.iter().map(|orf| orf.around(0)).collect();
        let others = orfs.iter().flat_map(|orf| {
            let places = orf.others(WITHIN);
            places.map(|place| orf.around(place))
        });
        let others: Vec<Around> = others.collect();
        let mut counts = [[0.0; 2]; 3];
        for (i, set) in [&starts, &others].into_iter().enumerate() {
            for around in set {
                counts[number(around.codon)][i] += 1.0;
            }
        }
        let totals = [&starts, &others].map(|set| set.len() as f64);
        let motif = Motif::learn(&starts, &others);
        let mut said = composition(&others);
        for (said, usual) in said.iter_mut().zip(motif.usual) {
            for (said, usual) in said.iter_mut().zip(usual) {
                *said = (usual / *said).ln();
            }
        }
        Self {
            codons: counts.map(|count| odds(count, totals, FEW)),
            sites: Sites::learn(&starts, &others),
            motif,
            composition: said,
        }
    }

    /// What a start codon and the bases before it say for a gene to start there, in nats.
    pub fn score(&self, around: &Around) -> f64 {
        let bases = self.composition.iter().zip(around.before).skip(FROM);
        let composition: f64 = bases
            .filter_map(|(said, base)| said.get(usize::from(base)))
            .sum();
        let second = if follows_a_start(around) { SECOND } else { 0.0 };
        CODON * self.codons[number(around.codon)]
            + SITE * self.sites.score(around)
            + MOTIF * self.motif.score(around)
            + COMPOSITION * composition
            - second
    }
}
