//! A model on its device.

use crate::encoder::{Branch, Encoder, Facts, Layer, Model, Segment, State};
use crate::error::{Error, Kind, Result};
use crate::ops::{Device, Tensor};

/// An encoder, what is known of it, and where it runs.
pub struct Engine {
    /// The encoder.
    pub model: Model,
    /// Its sizes and tokens.
    pub facts: Facts,
    /// Where it runs.
    pub device: Device,
    /// The layers that a run computes: those whose vectors it gives; and last, the one that its
    /// heads read.
    pub layers: Vec<Layer>,
}

/// Windows, in bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Length of a window.
    pub size: usize,
    /// Bases that a window shares with the next; less than `size`.
    pub overlap: usize,
    /// The encoder is bidirectional: rows come from a window's centre, else from its end.
    pub centred: bool,
}

impl Windows {
    /// Bases of one sequence of `bases` that are read again, since windows share them.
    pub fn shared(&self, bases: u64) -> u64 {
        let (size, overlap) = (self.size as u64, self.overlap as u64);
        bases.saturating_sub(size).div_ceil((size - overlap).max(1)) * overlap
    }
}

impl Engine {
    /// The tokens of base codes.
    pub fn tokens<'a>(&self, codes: impl IntoIterator<Item = &'a u8>) -> Vec<u32> {
        let codes = codes.into_iter();
        codes
            .map(|&code| self.facts.vocabulary.token(code))
            .collect()
    }

    /// Vectors (T, D) of tokens (T) at each of the layers.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn forward(
        &self,
        tokens: Vec<u32>,
        segments: &[Segment],
        state: &mut State,
    ) -> Result<Vec<Tensor>> {
        let tokens = Tensor::new(tokens, &self.device)?; // (T)
        self.model
            .forward_layers(&tokens, segments, state, &self.layers)
    }

    /// Vectors (T, N · D) of tokens (T), those of N layers side by side.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn vectors(
        &self,
        tokens: Vec<u32>,
        segments: &[Segment],
        state: &mut State,
    ) -> Result<Tensor> {
        side_by_side(self.forward(tokens, segments, state)?)
    }

    /// What the heads read, (T, D), and the vectors that the run gives, (T, N · D), if it gives any.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn hidden(
        &self,
        tokens: Vec<u32>,
        segments: &[Segment],
        state: &mut State,
    ) -> Result<(Tensor, Option<Tensor>)> {
        given(self.forward(tokens, segments, state)?)
    }

    /// The same of a step whose last tokens are branches.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn hidden_branched(
        &self,
        tokens: Vec<u32>,
        segments: &[Segment],
        branches: &[Branch],
        state: &mut State,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let tokens = Tensor::new(tokens, &self.device)?; // (T)
        let rows = (segments, branches);
        given(
            self.model
                .forward_branched(&tokens, rows, state, &self.layers)?,
        )
    }

    /// The logits (T, V) of each base from the run in which it was masked: base i in run
    /// `turns[i]` of `stride`.
    ///
    /// # Errors
    /// Model: the vocabulary has no mask token; and those of `run`.
    pub fn masked(
        &self,
        tokens: &[u32],
        turns: &[usize],
        stride: usize,
        run: &mut impl FnMut(Vec<u32>) -> Result<Vec<f32>>,
    ) -> Result<Vec<f32>> {
        let mask = self.mask()?;
        let mut logits = Vec::new();
        for turn in 0..stride {
            let mut masked = tokens.to_vec();
            for (token, &at) in masked.iter_mut().zip(turns) {
                *token = if at == turn { mask } else { *token };
            }
            let values = run(masked)?;
            let width = values.len() / turns.len();
            logits.resize(values.len(), 0.0);
            let rows = logits
                .chunks_exact_mut(width)
                .zip(values.chunks_exact(width));
            for ((kept, row), &at) in rows.zip(turns) {
                if at == turn {
                    kept.copy_from_slice(row);
                }
            }
        }
        Ok(logits)
    }

    /// The token that masks a base.
    ///
    /// # Errors
    /// Model: the vocabulary has none.
    pub fn mask(&self) -> Result<u32> {
        self.facts.vocabulary.mask.ok_or_else(|| {
            Error::model("the model's vocabulary has no mask token, so it cannot predict bases")
        })
    }
}

/// What the heads read, of the layers of a run, and what it gives.
fn given(mut found: Vec<Tensor>) -> Result<(Tensor, Option<Tensor>)> {
    let hidden = found.pop();
    let hidden = hidden.ok_or_else(|| Error::new(Kind::Internal, "no layer"))?;
    let given = (!found.is_empty()).then(|| side_by_side(found));
    Ok((hidden, given.transpose()?))
}

fn side_by_side(mut layers: Vec<Tensor>) -> Result<Tensor> {
    match layers.pop() {
        Some(only) if layers.is_empty() => Ok(only),
        last => {
            layers.extend(last);
            Tensor::cat(&layers, 1)
        }
    }
}
