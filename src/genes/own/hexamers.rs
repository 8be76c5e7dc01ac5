//! Which codons follow each other in genes (Fickett and Tung 1992).

use super::{Found, Orf};
use crate::genes::code::GeneticCode;
use crate::sequence::{N, base};

/// Pairs of codons, and codons.
const PAIRS: usize = 4096;
const CODONS: usize = 64;
/// Codons of the shortest gene that is learned from.
const LONG: i64 = 100;
/// How often a pair counts as seen that is as frequent as its second codon has it.
const FEW: f64 = 30.0;

/// `ln P(codon | the one before it, in genes) − ln P(the same, anywhere)`, by pair.
pub struct Hexamers(Vec<f64>);

/// Its number, of letters without N.
fn number(bases: impl Iterator<Item = u8>) -> usize {
    bases.fold(0, |number, base| 4 * number + usize::from(base))
}

impl Hexamers {
    pub(super) fn learn(code: GeneticCode, found: &[Found], orfs: &[Orf]) -> Self {
        let (mut genes, mut all) = (vec![0.0; PAIRS], vec![0.0; PAIRS]);
        for orf in orfs.iter().filter(|orf| orf.codons >= LONG) {
            for place in 1..orf.codons - 1 {
                let pair = [orf.codon(place - 1), orf.codon(place)].concat();
                if !pair.contains(&N) {
                    genes[number(pair.into_iter())] += 1.0;
                }
            }
        }
        // Of fewer pairs than there are kinds, chance says more than the genome.
        if genes.iter().sum::<f64>() < PAIRS as f64 {
            return Self(vec![0.0; PAIRS]);
        }
        for found in found {
            for window in found.bases.windows(6) {
                let pair = [0, 1, 2, 3, 4, 5].map(|i| base(window[i].code));
                if !pair.contains(&N) {
                    all[number(pair.into_iter())] += 1.0;
                    all[number(pair.into_iter().rev().map(|base| 3 - base))] += 1.0;
                }
            }
        }
        let stops = |codon: usize| {
            let letters = [codon / 16, codon / 4 % 4, codon % 4];
            code.is_stop(letters.map(|letter| letter as u8))
        };
        let open = |pair: usize| !stops(pair / CODONS) && !stops(pair % CODONS);
        let [genes, all] = [genes, all].map(|counts| conditional(counts, open));
        let score = |pair| {
            if open(pair) {
                (genes[pair] / all[pair]).ln()
            } else {
                0.0
            }
        };
        Self((0..PAIRS).map(score).collect())
    }

    /// What the six bases of two codons of the forward strand say for their frame, and for the same
    /// frame of the reverse strand; 0 where one is unknown.
    pub fn score(&self, pair: [u8; 6]) -> [f64; 2] {
        if pair.contains(&N) {
            return [0.0; 2];
        }
        let forward = number(pair.into_iter());
        let reverse = number(pair.into_iter().rev().map(|base| 3 - base));
        [self.0[forward], self.0[reverse]]
    }
}

/// P(second codon | first codon) of counts of pairs, of those without stops.
fn conditional(mut counts: Vec<f64>, open: impl Fn(usize) -> bool) -> Vec<f64> {
    let (mut first, mut second) = ([0.0; CODONS], [1.0; CODONS]);
    for (pair, count) in counts.iter_mut().enumerate() {
        if !open(pair) {
            *count = 0.0;
        }
        first[pair / CODONS] += *count;
        second[pair % CODONS] += *count;
    }
    let total: f64 = second.iter().sum();
    let part = |(pair, count): (usize, &f64)| {
        let usual = second[pair % CODONS] / total;
        (count + FEW * usual) / (first[pair / CODONS] + FEW)
    };
    counts.iter().enumerate().map(part).collect()
}
