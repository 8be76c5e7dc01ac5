//! Attention pooling: Q learned queries each bring the rows of a sequence together, by weights that
//! depend on what the rows say and on where they stand.
//!
//! Row i of a sequence of n rows has a score s and E values v for each query, side by side: Q scores,
//! then Q · E values. With p(i) its place, counted from the sequence's centre:
//!
//! ```text
//! y[q] = Σ_i softmax_i(s[i, q] + r[q, p(i)]) v[i, q]          (E)
//! p(i) = i − ⌊n / 2⌋ + ⌊P / 2⌋, at least 0 and at most P − 1
//! ```

mod backward;

use super::{Device, expect_shape, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use crate::sequence::Segment;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The sizes of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSizes {
    /// Q.
    pub queries: usize,
    /// E.
    pub width: usize,
    /// P.
    pub places: usize,
}

impl PoolSizes {
    /// Numbers of a row: scores and values.
    pub fn row(self) -> usize {
        self.queries * (1 + self.width)
    }

    /// Numbers of a sequence.
    pub fn out(self) -> usize {
        self.queries * self.width
    }

    /// p of row `i` of a sequence of `length` rows.
    fn place(self, i: usize, length: usize) -> usize {
        let place = (i + self.places / 2).saturating_sub(length / 2);
        place.min(self.places - 1)
    }
}

/// Row `i`'s place before it is held to so many `places`; none beyond.
pub fn place_within(i: usize, length: usize, places: usize) -> Option<usize> {
    let place = (i + places / 2).checked_sub(length / 2)?;
    (place < places).then_some(place)
}

/// What has been read of a sequence that goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolState {
    /// Of each query: the largest score, the sum of the weights relative to it, and of what they
    /// weigh.
    largest: Vec<f32>, // (Q)
    weights: Vec<f64>, // (Q)
    values: Vec<f64>,  // (Q · E)
}

impl PoolState {
    /// Adds rows (n, Q + Q · E), the first of which is row `from` of a sequence of `length` rows;
    /// `places`: r.
    pub fn add(
        &mut self,
        rows: &[f32],
        sizes: PoolSizes,
        places: &[f32],
        (from, length): (usize, usize),
    ) {
        let PoolSizes { queries, width, .. } = sizes;
        self.largest.resize(queries, f32::NEG_INFINITY);
        self.weights.resize(queries, 0.0);
        self.values.resize(sizes.out(), 0.0);
        for (i, row) in rows.chunks_exact(sizes.row()).enumerate() {
            let place = sizes.place(from + i, length);
            let (scores, values) = row.split_at(queries);
            let values = values.chunks_exact(width);
            let sums = self.values.chunks_exact_mut(width);
            for (q, (values, sums)) in values.zip(sums).enumerate() {
                let score = scores[q] + places[q * sizes.places + place];
                if score > self.largest[q] {
                    let less = f64::from(self.largest[q] - score).exp();
                    self.largest[q] = score;
                    self.weights[q] *= less;
                    sums.iter_mut().for_each(|sum| *sum *= less);
                }
                let weight = f64::from(score - self.largest[q]).exp();
                self.weights[q] += weight;
                for (sum, x) in sums.iter_mut().zip(values) {
                    *sum += weight * f64::from(*x);
                }
            }
        }
    }

    /// y (Q · E) of what was read.
    pub fn finish(&self, width: usize) -> Vec<f32> {
        let sums = self.values.chunks_exact(width).zip(&self.weights);
        sums.flat_map(|(sums, weight)| sums.iter().map(move |sum| (sum / weight) as f32))
            .collect()
    }
}

/// Rows `x` (T, Q + Q · E) in memory and r `places` (Q, P) to (B, Q · E): y of each of B whole
/// sequences, the segments, whose lengths sum to T.
///
/// # Errors
/// Internal: shapes that do not fit.
pub fn attention_pool(
    x: &Tensor,
    places: &Tensor,
    sizes: PoolSizes,
    segments: &[Segment],
) -> Result<Tensor> {
    let lengths: Vec<usize> = segments.iter().map(|segment| segment.len).collect();
    expect_shape("rows", x, &[lengths.iter().sum(), sizes.row()])?;
    expect_shape("places", places, &[sizes.queries, sizes.places])?;
    let pooled = with_slices([x, places], |[x, places]| {
        let sequences = sequences(x, &lengths, sizes.row());
        let pooled = sequences.into_par_iter().map(|rows| {
            let mut state = PoolState::default();
            state.add(rows, sizes, places, (0, rows.len() / sizes.row()));
            state.finish(sizes.width)
        });
        Ok(pooled.collect::<Vec<_>>().concat())
    })?;
    let out = Tensor::from_vec(pooled, (lengths.len(), sizes.out()), &Device::Cpu)?;
    let backward = backward::attention_pool([x, places, &out], sizes, lengths);
    Ok(out.derived([x, places], backward))
}

/// The rows of each sequence.
fn sequences<'a>(x: &'a [f32], lengths: &[usize], width: usize) -> Vec<&'a [f32]> {
    let (mut rest, mut found) = (x, Vec::with_capacity(lengths.len()));
    for len in lengths {
        let (own, later) = rest.split_at(len * width);
        found.push(own);
        rest = later;
    }
    found
}

#[cfg(test)]
mod tests;
