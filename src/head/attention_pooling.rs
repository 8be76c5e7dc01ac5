//! A compact head for whole sequences: windowed attention over the encoder's hidden vectors, then
//! learned queries that bring them together by what they say and where they stand.
//!
//! ```text
//! s, v = LocalAttention(x)                                    (Q scores, Q · E values)
//! y    = attention_pool(s, v)                                 (Q · E)
//! ```
//!
//! The queries' places begin apart: query q looks at about the q-th of Q stretches of the places
//! around a sequence's centre, so that y begins as a coarse picture of the sequence, in its order;
//! where each looks is learned from there. Scores begin at zero.
//!
//! Weights: those of [`LocalAttention`] under `local`, and `places.weight` (Q, P).

use super::local_attention::{LocalAttention, LocalSizes, LocalState};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::{Device, PoolSizes, PoolState, Tensor, attention_pool};
use crate::sequence::Segment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
    pub fn create(
        sizes: PoolingSizes,
        seed: u64,
    ) -> Result<BTreeMap<String, candle_core::Tensor>> {
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
            let away = move |place: usize| (place as f32 - centre) / stretch.max(1.0);
            (0..places).map(move |place| -0.5 * away(place).powi(2).min(18.0))
        };
        let values: Vec<f32> = (0..queries).flat_map(of_query).collect();
        let values = Tensor::from_vec(values, (queries, places), &Device::Cpu)?;
        tensors.insert("places.weight".to_string(), values.stored()?);
        Ok(tensors)
    }

    /// Hidden vectors (T, D) of whole sequences, the segments, to (B, Q · E) in memory, wherever the
    /// vectors lie.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn forward(&self, hidden: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let hidden = hidden.in_memory()?;
        let rows = self.local.forward(&hidden, segments, &mut self.local.start(0))?;
        attention_pool(&rows.logits, &self.places, self.sizes, segments)
    }

    /// An empty state.
    pub fn start(&self) -> PoolingState {
        PoolingState {
            local: self.local.start(1),
            pooled: PoolState::default(),
        }
    }

    /// Reads consecutive vectors (T, D) of one sequence, the segment, of `length` in all; its summary
    /// (Q · E), if it ends with them.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn read(
        &self,
        hidden: &Tensor,
        segment: Segment,
        length: usize,
        state: &mut PoolingState,
    ) -> Result<Option<Vec<f32>>> {
        let rows = self.local.forward(hidden, &[segment], &mut state.local)?;
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
