//! The language-model head: hidden vectors to logits over tokens, logits to probabilities of
//! bases.

use crate::checkpoint::{Checkpoint, tied_key};
use crate::encoder::{Facts, Model, Vocabulary};
use crate::error::{Error, Result};
use crate::ops::{self, Linear, Tensor, timing};
use crate::sequence::{A, C, G, N, T, base, complement};
use rayon::prelude::*;

/// The key of `config.json` by whose number, above 0, all logits are divided: what `crocuta fit
/// --calibrate` found.
pub const TEMPERATURE: &str = "_crocuta_temperature";

/// Hidden vectors (T, D) to logits (T, V).
pub struct LanguageModel {
    /// None of a published Transformer, which says itself what its tokens mean for bases.
    linear: Option<Linear>,
    vocabulary: Vocabulary,
    /// For hidden vectors (T, 2D) of both strands: the rows of complementary tokens exchanged.
    complement: Option<Linear>,
}

impl LanguageModel {
    /// The head stored in the checkpoint, or the embedding where the two are tied.
    pub fn load(checkpoint: &Checkpoint, model: &Model, facts: &Facts) -> Result<Self> {
        if let Some(pretrained) = model.pretrained() {
            if !pretrained.has_head() {
                return Err(no_head(checkpoint, facts.head));
            }
            return Ok(Self {
                linear: None,
                vocabulary: facts.vocabulary.clone(),
                complement: None,
            });
        }
        let shape = [facts.vocabulary.size, model.embedding().dim(1)?];
        let name = facts.head;
        let weight = match checkpoint.weights.below(&[name]) {
            Some(weights) => weights.tensor(name, &shape)?,
            None if facts.always_tied || tied(checkpoint)? => model.embedding().clone(),
            None => return Err(no_head(checkpoint, name)),
        };
        let weight = match checkpoint.config.number(TEMPERATURE, Some(1.0))? {
            1.0 => weight,
            t if t > 0.0 => weight.affine(1.0 / t, 0.0)?,
            t => {
                let what = format!("{t}, but a temperature is above 0");
                return Err(checkpoint.config.error(TEMPERATURE, what));
            }
        };
        let complement = match model.complement() {
            Some(complement) => {
                let rows = Tensor::new(complement, weight.device())?;
                Some(Linear::new(weight.index_select(&rows, 0)?, None))
            }
            None => None,
        };
        Ok(Self {
            linear: Some(Linear::new(weight, None)),
            vocabulary: facts.vocabulary.clone(),
            complement,
        })
    }

    /// (T, D) to (T, V); (T, 2D) if the encoder returns both strands.
    ///
    /// The strands' logits are added, the other strand's at the complementary tokens: the reverse
    /// complement of a sequence has the same logits, reversed and complemented, to the bit.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let _span = timing::whole("head");
        let Some(linear) = &self.linear else {
            return Ok(hidden.clone());
        };
        let Some(complement) = &self.complement else {
            return linear.forward(hidden);
        };
        let width = hidden.dim(1)? / 2;
        let strand = hidden.narrow(1, 0, width)?;
        let other = hidden.narrow(1, width, width)?.flip(1)?;
        let logits = linear.forward(&strand)?;
        complement.forward_residual(&other, &logits)
    }

    /// Length of the logits, V.
    pub fn width(&self) -> usize {
        self.vocabulary.size
    }

    /// The natural logarithm of the probability that logits give to the base `code`, of all tokens;
    /// none for N.
    pub fn log_probability(&self, logits: &[f32], code: u8) -> Option<f64> {
        if base(code) == N {
            return None;
        }
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
        let logit = logits[self.vocabulary.token(code) as usize];
        Some(f64::from(logit - largest) - all.ln())
    }

    /// What the logits after the bases before say of the base `code`: the numbers of
    /// [`ops::predict`] into `out`. Without logits (a sequence's first base) `out` stays; for N its
    /// first number does.
    ///
    /// `reverse`: code and logits are of the reverse strand; probabilities are given for the
    /// letters of the forward strand.
    pub fn predict(&self, logits: &[f32], code: u8, reverse: bool, out: &mut [f32]) {
        if !logits.is_empty() {
            ops::predict(logits, self.token(code), self.letters(reverse), out);
        }
    }

    /// The same for each of `asked`, a row of `logits` (T, V) and the code of the base that it
    /// predicts, where the logits lie: (asked, 7). The first number is NaN for N, and all are where
    /// a logit of the row is not finite.
    ///
    /// # Errors
    /// Internal: no such row.
    pub fn predictions(&self, logits: &Tensor, asked: &[(usize, u8)]) -> Result<Tensor> {
        let asked: Vec<_> = asked
            .par_iter()
            .map(|(row, code)| (*row, self.token(*code)))
            .collect();
        ops::predictions(logits, &asked, self.letters(false))
    }

    fn token(&self, code: u8) -> Option<u32> {
        (base(code) != N).then(|| self.vocabulary.token(code))
    }

    /// The tokens of A, C, G and T, or of their complements.
    fn letters(&self, reverse: bool) -> [u32; 4] {
        [A, C, G, T].map(|letter| {
            let read = if reverse { complement(letter) } else { letter };
            self.vocabulary.token(read)
        })
    }
}

fn no_head(checkpoint: &Checkpoint, name: &str) -> Error {
    let what = "no such tensor, but the configuration says that it is not the embedding";
    let error = checkpoint.weights.error(name, what);
    error.todo("give a checkpoint that was saved with its language-model head")
}

/// Does the configuration say that the head is the embedding, where none is stored?
fn tied(checkpoint: &Checkpoint) -> Result<bool> {
    let config = &checkpoint.config;
    config.flag(tied_key(config), Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Device, PREDICTIONS};

    #[test]
    fn predictions_are_those_of_a_softmax_and_turn_with_the_strand() {
        let vocabulary = Vocabulary::characters(16);
        let weight = Tensor::zeros((16, 4), &Device::Cpu).unwrap();
        let head = LanguageModel {
            linear: Some(Linear::new(weight, None)),
            vocabulary,
            complement: None,
        };
        let logits: Vec<f32> = (0..16).map(|i| i as f32 / 4.0).collect();
        let mut out = [f32::NAN; PREDICTIONS];
        head.predict(&[], 0, false, &mut out);
        assert!(out.iter().all(|x| x.is_nan()));
        head.predict(&logits, 1, false, &mut out);
        let all: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        let four: f64 = logits[7..11].iter().map(|&x| f64::from(x).exp()).sum();
        assert!((f64::from(out[0]) - (2.0f64.exp() / all).ln()).abs() < 1e-6);
        assert!((f64::from(out[1]) - 1.75f64.exp() / four).abs() < 1e-6);
        assert!((f64::from(out[5]) - (1.0 - four / all)).abs() < 1e-6);
        let forward = out;
        head.predict(&logits, 2, true, &mut out);
        let mut turned = forward[1..5].to_vec();
        turned.reverse();
        assert_eq!(out[1..5], turned);
    }
}
