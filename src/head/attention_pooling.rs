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
//! The head adds to its logits a linear model of the pairs of neighbouring bases at their places
//! ([`pairs`]): the weight array of splice sites (Zhang and Marr 1993), which on the splice junctions
//! of UCI finds a percent more than single bases at their places.
//!
//! Weights: those of [`LocalAttention`] under `local`, and `places.weight` (Q, P).

use super::local_attention::{LocalAttention, LocalSizes, LocalState};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::{Device, PoolSizes, PoolState, Tensor, attention_pool, place_within};
use crate::sequence::{N, Segment, base};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Columns of bases beside a hidden vector.
pub const BASES: usize = 4;
/// Pairs of bases at a place.
pub const PAIRS: usize = BASES * BASES;
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

    /// P.
    pub fn places(&self) -> usize {
        self.sizes.places
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

/// Which pair of neighbouring bases ends at each of so many `places` around the centre of a sequence
/// of `length` bases: of consecutive ones from `from` on, behind the base `before`, the indices of
/// those that are there among all pairs of all places (16 P).
pub fn pairs(
    codes: &[u8],
    before: Option<u8>,
    (from, length): (usize, usize),
    places: usize,
) -> impl Iterator<Item = usize> {
    let first = before.into_iter().chain(codes.iter().copied());
    let second = codes.iter().enumerate().skip(usize::from(before.is_none()));
    second.zip(first).filter_map(move |((i, code), before)| {
        let place = place_within(from + i, length, places)?;
        let (before, code) = (base(before), base(*code));
        (before < N && code < N)
            .then(|| PAIRS * place + BASES * usize::from(before) + usize::from(code))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_bases_stand_at_their_places_however_a_sequence_is_cut() {
        // Base 3 of 6 is at place 2 of 4: places 0 to 3 are bases 1 to 4.
        let codes = [3, 0, 1, N, 2, 2];
        let of = |range: std::ops::Range<usize>, before| -> Vec<usize> {
            pairs(&codes[range.clone()], before, (range.start, 6), 4).collect()
        };
        assert_eq!(of(0..6, None), [12, 16 + 1]);
        assert_eq!([of(0..2, None), of(2..6, Some(0))].concat(), of(0..6, None));
        assert_eq!(of(1..6, None), [16 + 1]);
        assert!(of(0..0, Some(0)).is_empty());
    }
}
