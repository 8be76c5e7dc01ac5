//! The language-model head: hidden vectors to logits over tokens.

use crate::checkpoint::{Architecture, Checkpoint};
use crate::encoder::{Facts, Model};
use crate::error::Result;
use crate::ops::Linear;
use candle_core::Tensor;

/// Hidden vectors (T, D) to logits (T, V).
pub struct LanguageModel {
    linear: Linear,
}

impl LanguageModel {
    /// The head stored in the checkpoint, or the embedding where the two are tied.
    pub fn load(checkpoint: &Checkpoint, model: &Model, facts: &Facts) -> Result<Self> {
        let shape = [facts.vocabulary.size, facts.width];
        let names = match checkpoint.architecture {
            Architecture::HyenaDna => ["lm_head.weight", "model.lm_head.weight"],
            _ => ["lm_head.weight", "lm_head.lm_head.weight"],
        };
        let stored = names.into_iter().find(|name| checkpoint.weights.has(name));
        let weight = match stored {
            Some(name) => checkpoint.weights.tensor(name, &shape)?,
            None => model.embedding().clone(),
        };
        Ok(Self {
            linear: Linear::new(weight, None),
        })
    }

    /// (T, D) to (T, V).
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        self.linear.forward(hidden)
    }
}
