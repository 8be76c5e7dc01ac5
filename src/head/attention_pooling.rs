//! A compact head for whole sequences: windowed attention over the encoder's hidden vectors, then
//! learned queries that bring them together by what they say and where they stand.
//!
//! ```text
//! x    = hidden vector, and 4 at the letter of the base beside it      (D + 4)
//! s, v = LocalAttention(x)                                    (Q scores, Q · E values)
//! y    = attention_pool(s, v)                                 (Q · E)
//! ```
//!
//! The queries' places begin apart: query q looks at about the q-th of Q stretches of the places
//! around a sequence's centre, so that y begins as a coarse picture of the sequence, in its order;
//! where each looks is learned from there. Scores begin at zero.
//!
//! The bases stand beside the vectors, since what a causal encoder knows after a base is mixed with all
//! before it: with few sequences to learn from, a head finds a letter at its place sooner than it
//! finds the direction of the vectors that stands for it.
//!
//! The head adds to its logits a linear model of the bases at their places ([`AttentionPooling::letters`]).
//!
//! Weights: those of [`LocalAttention`] under `local`, and `places.weight` (Q, P).

use super::local_attention::{LocalAttention, LocalSizes, LocalState};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::{Device, PoolSizes, PoolState, Tensor, attention_pool};
use crate::sequence::{N, Segment, base};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Columns of bases beside a hidden vector.
pub const BASES: usize = 4;
/// What stands there for the base itself: of the size of a hidden vector's larger numbers.
const BASE: f32 = 4.0;

/// The sizes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolingSizes {
    /// Of the windowed attention, whose classes are scores and values.
    pub local: LocalSizes,
    /// Of what brings its rows together.
    pub pool: PoolSizes,
}

/// The head's part that reads sequences.
pub struct AttentionPooling {
    sizes: PoolSizes,
    local: LocalAttention,
    places: Tensor, // (Q, P)
}

/// What it has read of a sequence that goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolingState {
    local: LocalState,
    pooled: PoolState,
}

impl AttentionPooling {
    /// Takes the head's weights.
    ///
    /// # Errors
    /// Model: they are missing or do not fit.
    pub fn load(sizes: PoolingSizes, weights: &Weights) -> Result<Self> {
        let PoolSizes {
            queries, places, ..
        } = sizes.pool;
        Ok(Self {
            sizes: sizes.pool,
            local: LocalAttention::load(sizes.local, &weights.at("local"))?,
            places: weights.at("places").tensor("weight", &[queries, places])?,
        })
    }

    /// Untrained weights by their names. The same seed gives the same values.
    ///
    /// # Errors
    /// None in practice.
    pub fn create(sizes: PoolingSizes, seed: u64) -> Result<BTreeMap<String, candle_core::Tensor>> {
        let PoolSizes {
            queries, places, ..
        } = sizes.pool;
        let local = LocalAttention::create(sizes.local, seed)?.into_iter();
        let local = local.map(|(name, tensor)| (format!("local.{name}"), tensor));
        let mut tensors: BTreeMap<_, _> = local.collect();
        if let Some(classes) = tensors.get_mut("local.classes.weight") {
            let mut values: Vec<f32> = classes.flatten_all()?.to_vec1()?;
            values[..queries * sizes.local.width].fill(0.0);
            *classes = Tensor::from_vec(values, classes.dims(), &Device::Cpu)?.stored()?;
        }
        let stretch = places as f32 / queries as f32;
        let of_query = |q: usize| {
            let centre = (q as f32 + 0.5) * stretch - 0.5;
            let spread = (stretch / 2.0).max(0.5);
            let away = move |place: usize| (place as f32 - centre) / spread;
            (0..places).map(move |place| -0.5 * away(place).powi(2).min(18.0))
        };
        let values: Vec<f32> = (0..queries).flat_map(of_query).collect();
        let values = Tensor::from_vec(values, (queries, places), &Device::Cpu)?;
        tensors.insert("places.weight".to_string(), values.stored()?);
        Ok(tensors)
    }

    /// Hidden vectors (T, D) and codes (T) of whole sequences, the segments, to (B, Q · E) in memory,
    /// wherever the vectors lie.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn forward(&self, hidden: &Tensor, codes: &[u8], segments: &[Segment]) -> Result<Tensor> {
        let hidden = beside(&hidden.in_memory()?, codes)?;
        let rows = self
            .local
            .forward(&hidden, segments, &mut self.local.start(0))?;
        attention_pool(&rows.logits, &self.places, self.sizes, segments)
    }

    /// Numbers of [`AttentionPooling::letters`].
    pub fn letters_width(&self) -> usize {
        BASES * self.sizes.places
    }

    /// Which base stands at each place of a sequence of `length` bases, of consecutive ones from
    /// `from` on: 1 in `row` (4 P) for each.
    pub fn letters(&self, codes: &[u8], (from, length): (usize, usize), row: &mut [f32]) {
        for (i, code) in codes.iter().enumerate() {
            let place = self.sizes.place_within(from + i, length);
            if let (Some(place), true) = (place, base(*code) < N) {
                row[BASES * place + usize::from(base(*code))] = 1.0;
            }
        }
    }

    /// An empty state.
    pub fn start(&self) -> PoolingState {
        PoolingState {
            local: self.local.start(1),
            pooled: PoolState::default(),
        }
    }

    /// Reads consecutive vectors (T, D), in memory, and codes (T) of one sequence, the segment, of
    /// `length` in all; its summary (Q · E), if it ends with them.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn read(
        &self,
        (hidden, codes): (&Tensor, &[u8]),
        (segment, length): (Segment, usize),
        state: &mut PoolingState,
    ) -> Result<Option<Vec<f32>>> {
        let hidden = beside(hidden, codes)?;
        let rows = self.local.forward(&hidden, &[segment], &mut state.local)?;
        let values: Vec<f32> = rows.logits.flatten_all()?.to_vec1()?;
        let places: Vec<f32> = self.places.flatten_all()?.to_vec1()?;
        for piece in rows.pieces {
            let from = (piece.offset, length);
            state.pooled.add(&values, self.sizes, &places, from);
        }
        let ended = segment.ends;
        Ok(ended.then(|| state.pooled.finish(self.sizes.width)))
    }
}

/// Vectors (T, D) with the bases beside them: (T, D + 4).
fn beside(hidden: &Tensor, codes: &[u8]) -> Result<Tensor> {
    let mut letters = vec![0.0; codes.len() * BASES];
    for (row, code) in letters.chunks_exact_mut(BASES).zip(codes) {
        if base(*code) < N {
            row[usize::from(base(*code))] = BASE;
        }
    }
    let letters = Tensor::from_vec(letters, (codes.len(), BASES), &Device::Cpu)?;
    Tensor::cat(&[hidden, &letters], 1)
}
