//! A motif of a genome's own before its starts, at a distance that varies: what ribosomes bind, or
//! what begins transcripts without leaders. Found by expectation maximisation from the six bases that
//! starts have most often and other places seldom.

use super::places::{Around, BEFORE};
use crate::sequence::N;
use std::ops::Range;

const WIDTH: usize = 6;
/// Bases between motif and start.
const SPACINGS: Range<usize> = 3..15;
const WORDS: usize = 4096;
/// Starts on top of each word, and of each base of a place.
const FEW: [f64; 2] = [3.0, 5.0];
const ROUNDS: usize = 20;

/// A share of the starts has the motif, at one of the distances; the other bases before a start are
/// as `usual`.
pub struct Motif {
    share: f64,
    spacings: [f64; SPACINGS.end - SPACINGS.start],
    /// P(base), by place in the motif.
    bases: [[f64; 4]; WIDTH],
    /// P(base) outside the motif, by distance from the start.
    pub usual: [[f64; 4]; BEFORE],
}

/// P(base) of counts.
pub fn shares<const K: usize>(counts: [f64; K]) -> [f64; K] {
    let total: f64 = counts.iter().sum();
    counts.map(|count| count / total)
}

/// P(base) by distance from the start.
pub fn composition(starts: &[Around]) -> [[f64; 4]; BEFORE] {
    let mut counts = [[FEW[1]; 4]; BEFORE];
    for around in starts {
        for (counts, base) in counts.iter_mut().zip(around.before) {
            if let Some(count) = counts.get_mut(usize::from(base)) {
                *count += 1.0;
            }
        }
    }
    counts.map(shares)
}

/// How many have each word within the distances.
fn words(set: &[Around]) -> Vec<f64> {
    let (mut counts, mut last) = (vec![0.0; WORDS], vec![usize::MAX; WORDS]);
    for (i, around) in set.iter().enumerate() {
        for spacing in SPACINGS {
            let bases = &around.before[spacing..spacing + WIDTH];
            if bases.contains(&N) {
                continue;
            }
            let word = bases
                .iter()
                .rev()
                .fold(0, |word, base| 4 * word + usize::from(*base));
            if last[word] != i {
                last[word] = i;
                counts[word] += 1.0;
            }
        }
    }
    counts
}

impl Motif {
    /// From starts, and other places where the same genes could start.
    pub(super) fn learn(starts: &[Around], others: &[Around]) -> Self {
        let [found, chance] = [starts, others].map(words);
        let part = starts.len() as f64 / (others.len() as f64).max(1.0);
        let worth = |word: usize| {
            let expected = (chance[word] + FEW[0]) * part;
            found[word] * (found[word].max(f64::MIN_POSITIVE) / expected).ln()
        };
        let first = (0..WORDS).fold(0, |best, word| {
            if worth(word) > worth(best) {
                word
            } else {
                best
            }
        });
        let base = |i: usize| {
            let base = first >> (2 * (WIDTH - 1 - i)) & 3;
            std::array::from_fn(|other| if other == base { 0.7 } else { 0.1 })
        };
        let mut motif = Self {
            share: 0.3,
            spacings: [1.0 / SPACINGS.len() as f64; SPACINGS.end - SPACINGS.start],
            bases: std::array::from_fn(base),
            usual: composition(starts),
        };
        for _ in 0..ROUNDS {
            motif = motif.better(starts);
        }
        motif
    }

    /// The odds of a start with the motif at each distance, and in all, to one without.
    fn odds(&self, around: &Around) -> ([f64; SPACINGS.end - SPACINGS.start], f64) {
        let mut each = self.spacings.map(|spacing| self.share * spacing);
        for (odds, spacing) in each.iter_mut().zip(SPACINGS) {
            for (i, bases) in self.bases.iter().enumerate() {
                let at = spacing + WIDTH - 1 - i;
                let base = usize::from(around.before[at]);
                *odds *= bases.get(base).map_or(0.25, |p| p / self.usual[at][base]);
            }
        }
        (each, 1.0 - self.share + each.iter().sum::<f64>())
    }

    /// One round of expectation maximisation.
    fn better(&self, starts: &[Around]) -> Self {
        let mut share = 1.0;
        let mut spacings = [2.0; SPACINGS.end - SPACINGS.start];
        let mut bases = [[1.0; 4]; WIDTH];
        let mut usual = [[FEW[1]; 4]; BEFORE];
        for around in starts {
            let (each, all) = self.odds(around);
            let mut within = [0.0; BEFORE];
            for ((spacing, odds), count) in SPACINGS.zip(each).zip(&mut spacings) {
                let p = odds / all;
                share += p;
                *count += p;
                for (i, counts) in bases.iter_mut().enumerate() {
                    let at = spacing + WIDTH - 1 - i;
                    within[at] += p;
                    if let Some(count) = counts.get_mut(usize::from(around.before[at])) {
                        *count += p;
                    }
                }
            }
            for ((counts, base), within) in usual.iter_mut().zip(around.before).zip(within) {
                if let Some(count) = counts.get_mut(usize::from(base)) {
                    *count += 1.0 - within;
                }
            }
        }
        Self {
            share: share / (starts.len() as f64 + 2.0),
            spacings: shares(spacings),
            bases: bases.map(shares),
            usual: usual.map(shares),
        }
    }

    /// What the motif says for a start, in nats.
    pub fn score(&self, around: &Around) -> f64 {
        self.odds(around).1.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::{A, C, G, T};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// A site that is unlike AGGAGG.
    const SITE: [u8; WIDTH] = [T, T, C, A, C, T];

    /// A start behind random bases, with the site so far before it.
    fn start(spacing: Option<usize>, rng: &mut StdRng) -> Around {
        let mut before = [0; BEFORE].map(|_| rng.random_range(0..4));
        if let Some(spacing) = spacing {
            let mut site = SITE;
            site.reverse();
            before[spacing..spacing + WIDTH].copy_from_slice(&site);
        }
        Around::new([A, T, G], before.into_iter())
    }

    #[test]
    fn a_site_that_is_unlike_others_is_learned_from_half_of_the_starts() {
        let mut rng = StdRng::seed_from_u64(3);
        let starts: Vec<Around> = (0..300)
            .map(|i| start((i % 2 == 0).then_some(6 + i % 3), &mut rng))
            .collect();
        let others: Vec<Around> = (0..900).map(|_| start(None, &mut rng)).collect();
        let motif = Motif::learn(&starts, &others);
        assert!((0.4..0.65).contains(&motif.share), "{}", motif.share);
        let mean = |spacing, rng: &mut StdRng| {
            let scores = (0..100).map(|_| motif.score(&start(spacing, rng)));
            scores.sum::<f64>() / 100.0
        };
        let [near, far, none] = [Some(7), Some(30), None].map(|spacing| mean(spacing, &mut rng));
        assert!(near > 3.0 && far < 0.5 && none < 0.5, "{near} {far} {none}");
    }
}
