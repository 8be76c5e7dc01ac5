//! The language-model head: hidden vectors to logits over tokens.

use crate::checkpoint::{Architecture, Checkpoint};
use crate::encoder::{Facts, Model};
use crate::error::Result;
use crate::ops::Linear;
use candle_core::Tensor;

/// Hidden vectors (T, D) to logits (T, V).
pub struct LanguageModel {
    linear: Linear,
    /// For hidden vectors (T, 2D) of both strands: the rows of complementary tokens exchanged.
    complement: Option<Linear>,
}

impl LanguageModel {
    /// The head stored in the checkpoint, or the embedding where the two are tied.
    pub fn load(checkpoint: &Checkpoint, model: &Model, facts: &Facts) -> Result<Self> {
        let shape = [facts.vocabulary.size, model.embedding().dim(1)?];
        let names = match checkpoint.architecture {
            Architecture::HyenaDna => ["lm_head.weight", "model.lm_head.weight"],
            Architecture::Evo1 | Architecture::Evo2 => {
                ["unembed.weight", "backbone.unembed.weight"]
            }
            _ => ["lm_head.weight", "lm_head.lm_head.weight"],
        };
        let stored = names.into_iter().find(|name| checkpoint.weights.has(name));
        let weight = match stored {
            Some(name) => checkpoint.weights.tensor(name, &shape)?,
            None => model.embedding().clone(),
        };
        let complement = match model.complement() {
            Some(complement) => {
                let rows = Tensor::new(complement, weight.device())?;
                Some(Linear::new(weight.index_select(&rows, 0)?, None))
            }
            None => None,
        };
        Ok(Self {
            linear: Linear::new(weight, None),
            complement,
        })
    }

    /// (T, D) to (T, V); (T, 2D) if the encoder returns both strands.
    ///
    /// The strands' logits are added, the other strand's at the complementary tokens: the reverse
    /// complement of a sequence has the same logits, reversed and complemented, to the bit.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let Some(complement) = &self.complement else {
            return self.linear.forward(hidden);
        };
        let width = hidden.dim(1)? / 2;
        let strand = hidden.narrow(1, 0, width)?.contiguous()?;
        let other = hidden.narrow(1, width, width)?.contiguous()?.flip(&[1])?;
        let logits = self.linear.forward(&strand)?;
        complement.forward_residual(&other, &logits)
    }
}
