//! From probabilities of tokens to probabilities of bases.
//!
//! Of a token that covers bases t, those of base j given the ones before it in the token are sums
//! over tokens: `P(b) = S(t[..j] b) / S(t[..j])`, S(x) the probability of all tokens that begin with
//! x. Where a token begins, the one before it had to end there:
//! `P(b) = S(b) · P(before) / S(before)`. So the sum of the logarithms over a sequence is that of
//! the tokens' own; of k-mers, which all have one length, the second factor is 1.
//!
//! A model that reads both sides says of each token what it says of every base in it; where tokens
//! overlap, the mean of what they say.

use crate::checkpoint::{Token, Words};
use rayon::prelude::*;
use std::sync::Arc;

/// The logarithm of a probability of nothing: finite, as all numbers of a model are.
pub const NEVER: f32 = -80.0;

/// What rounding leaves of a probability of nothing.
const ROUNDING: f64 = 1e-12;

/// Where the model says nothing: no base is more likely than another.
const NOTHING: [f64; 4] = [0.25; 4];

/// The logarithms of the probabilities of A, C, G, T, and of all else.
type Row = [f32; 5];

/// The tokens that stand for bases.
pub struct Bases {
    words: Arc<Words>,
    /// In the order of their bases.
    texts: Vec<(Box<[u8]>, usize)>,
    /// V.
    vocabulary: usize,
}

impl Bases {
    /// Of a model of so many tokens.
    pub fn new(words: Arc<Words>, vocabulary: usize) -> Self {
        let known = words.texts().filter(|(id, _)| (*id as usize) < vocabulary);
        let mut texts: Vec<(Box<[u8]>, usize)> =
            known.map(|(id, text)| (text.into(), id as usize)).collect();
        texts.sort();
        Self {
            words,
            texts,
            vocabulary,
        }
    }

    /// What each base of a sequence but the first says of the next one: `logits` (tokens, V) after
    /// each token of `letters`. `of_bases`: the place of each base's token.
    pub fn next(
        &self,
        logits: &[f32],
        (letters, tokens): (&[u8], &[Token]),
        of_bases: &[usize],
    ) -> Vec<Row> {
        let after = |place: usize| softmax(&logits[place * self.vocabulary..][..self.vocabulary]);
        let rows = (0..of_bases.len()).into_par_iter().flat_map_iter(|base| {
            let place = of_bases[base];
            // A token's first base brings the rows of all its bases.
            let first = base == 0 || of_bases[base - 1] != place;
            let rows = first.then(|| {
                let known = place.checked_sub(1).map(after);
                let ends = match place.checked_sub(2).map(after) {
                    Some(before) => self.ends(&before, tokens[place - 1].id),
                    None => 1.0,
                };
                let count = of_bases[base..].iter().take_while(|p| **p == place).count();
                self.within(known.as_deref(), &letters[base..base + count], ends)
            });
            rows.into_iter().flatten()
        });
        let mut rows: Vec<Row> = rows.collect();
        // The first base has nothing before it; the last one says what comes next.
        if !rows.is_empty() {
            rows.remove(0);
        }
        if let Some(&place) = of_bases.last() {
            let (known, before) = (after(place), place.checked_sub(1).map(after));
            let ends = before.map_or(1.0, |before| self.ends(&before, tokens[place].id));
            rows.extend(self.within(Some(&known), b"N", ends));
        }
        rows
    }

    /// The rows of the bases of a token, from the probabilities of all tokens there. `ends`: the
    /// probability that the token before ended where it did.
    fn within(&self, known: Option<&[f64]>, bases: &[u8], ends: f64) -> Vec<Row> {
        let row = |place: usize| {
            let Some(known) = known else {
                return row(NOTHING);
            };
            let prefix = &bases[..place];
            let all = if place == 0 {
                1.0
            } else {
                self.mass(known, prefix)
            };
            if all <= 0.0 {
                return row(NOTHING);
            }
            let factor = if place == 0 { ends } else { 1.0 };
            row(b"ACGT".map(|letter| {
                let longer = [prefix, &[letter]].concat();
                factor * self.mass(known, &longer) / all
            }))
        };
        (0..bases.len()).map(row).collect()
    }

    /// What is said of each of so many bases by the tokens that cover it.
    pub fn own(&self, logits: &[f32], tokens: &[Token], bases: usize) -> Vec<Row> {
        let said: Vec<_> = tokens
            .par_iter()
            .zip(logits.par_chunks_exact(self.vocabulary))
            .map(|(token, logits)| {
                let (known, mut sums) = (softmax(logits), vec![[0f64; 4]; token.bases.len()]);
                for (text, id) in &self.texts {
                    for (sum, letter) in sums.iter_mut().zip(text) {
                        let place = b"ACGT".iter().position(|known| known == letter);
                        sum[place.unwrap_or_default()] += known[*id];
                    }
                }
                sums
            })
            .collect();
        let (mut sums, mut counts) = (vec![[0f64; 4]; bases], vec![0f64; bases]);
        for (token, said) in tokens.iter().zip(said) {
            for (base, said) in token.bases.clone().zip(said) {
                counts[base] += 1.0;
                sums[base]
                    .iter_mut()
                    .zip(said)
                    .for_each(|(sum, x)| *sum += x);
            }
        }
        let rows = sums
            .into_iter()
            .zip(counts)
            .map(|(sum, count)| match count {
                0.0 => row(NOTHING),
                _ => row(sum.map(|x| x / count)),
            });
        rows.collect()
    }

    /// The probability that a token ends where it does, of all that begin with its bases.
    fn ends(&self, known: &[f64], id: u32) -> f64 {
        let all = self
            .words
            .text(id)
            .map_or(0.0, |text| self.mass(known, text));
        match known.get(id as usize) {
            Some(one) if all > 0.0 => one / all,
            _ => 1.0,
        }
    }

    /// The probability of all tokens that begin with these bases.
    fn mass(&self, known: &[f64], prefix: &[u8]) -> f64 {
        let from = self.texts.partition_point(|(text, _)| &**text < prefix);
        let here = self.texts[from..].iter();
        let here = here.take_while(|(text, _)| text.starts_with(prefix));
        here.map(|(_, id)| known[*id]).sum()
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|&x| f64::from(x - largest).exp())
        .collect();
    let all: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / all).collect()
}

/// Logarithms, with what the four bases leave.
fn row(four: [f64; 4]) -> Row {
    let rest = 1.0 - four.iter().sum::<f64>();
    let rest = if rest < ROUNDING { 0.0 } else { rest };
    let [a, c, g, t] = four;
    [a, c, g, t, rest].map(|p| (p.ln() as f32).max(NEVER))
}
