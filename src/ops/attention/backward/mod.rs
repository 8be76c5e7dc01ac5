//! Gradients of attention to the queries, keys and values of a step. A tile's weights are computed
//! again from the logarithm of each row's sum: Dao 2023, arXiv:2307.08691, section 3.1.2.
//!
//! With weights `P = exp(S − log sum)` and ȳ the gradient to the output y:
//!
//! ```text
//! V ← Pᵀ ȳ        Q ← Z K / √d        K ← Zᵀ Q / √d        Z = P ∘ (ȳ Vᵀ − ȳ·y)
//! ```
//!
//! Keys and values of earlier steps are constants (truncated back-propagation).

use super::rotary::{self, Rotary};
use super::{Attention, Matrix, PAGE, QUERIES, Sequence, math, multiply, only};
use crate::error::Result;
use crate::ops::{Tensor, math::simd, unwritten, with_slices};
use rayon::prelude::*;

/// What a step keeps for its gradients.
pub(super) struct Step {
    pub attention: Attention,
    /// Queries and keys, rotated: (T, 2D).
    pub turned: Vec<f32>,
    pub sequences: Vec<Sequence>,
    /// The logarithms of the rows' sums: of each tile (H, rows).
    pub sums: Vec<f32>,
    pub out: Tensor, // (T, D)
}

/// The gradients of one head of one sequence's rows, before they are turned back: (rows, d) each.
pub(super) struct Head {
    pub queries: Vec<f32>,
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl Head {
    /// Zeros, of so many rows of `width` columns.
    pub fn zeros(rows: usize, width: usize) -> Self {
        let zeros = || vec![0.0; rows * width];
        Self {
            queries: zeros(),
            keys: zeros(),
            values: zeros(),
        }
    }
}

/// The gradients of the columns `[q | k | v]` (T, 3D), from those of all `heads` of each sequence, one
/// after the other. `positions`: of each row.
pub(super) fn together(
    found: &[Head],
    heads: usize,
    width: usize,
    (rotary, positions): (Option<&Rotary>, &[usize]),
) -> Vec<f32> {
    let d = heads * width;
    let mut to_rows = unwritten(positions.len() * 3 * d);
    let (mut rest, mut positions) = (&mut to_rows[..], positions);
    for found in found.chunks_exact(heads) {
        let rows = found[0].queries.len() / width;
        let (here, later) = rest.split_at_mut(rows * 3 * d);
        let (places, others) = positions.split_at(rows);
        (rest, positions) = (later, others);
        here.par_chunks_exact_mut(3 * d)
            .zip(places)
            .with_min_len(16)
            .enumerate()
            .for_each(|(i, (row, position))| {
                for (head, found) in found.iter().enumerate() {
                    let parts = [&found.queries, &found.keys, &found.values];
                    for (part, from) in row.chunks_exact_mut(d).zip(parts) {
                        part[head * width..][..width].copy_from_slice(&from[i * width..][..width]);
                    }
                }
                if let Some(rotary) = rotary {
                    let turn = rotary.turn(*position);
                    rotary::turn_back(&mut row[..2 * d], &turn, width);
                }
            });
    }
    to_rows
}

impl Step {
    /// To the columns `[q | k | v]` (T, 3D).
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        let Attention { heads, width, .. } = self.attention;
        let d = heads * width;
        let rows = self.turned.len() / (2 * d);
        let to_rows = with_slices([grad, &self.out], |[grad, out]| {
            let sequences = self.sequences.iter();
            let tasks: Vec<_> = sequences
                .flat_map(|sequence| (0..heads).map(move |head| (sequence, head)))
                .collect();
            let found: Vec<Head> = tasks
                .into_par_iter()
                .map(|(sequence, head)| self.head(sequence, head, grad, out))
                .collect();
            let sequences = self.sequences.iter();
            let positions = sequences.flat_map(|of| of.from..of.from + of.rows.len());
            let positions: Vec<usize> = positions.collect();
            let rotary = self.attention.rotary.as_ref();
            Ok(together(&found, heads, width, (rotary, &positions)))
        })?;
        Tensor::from_vec(to_rows, (rows, 3 * d), grad.device())
    }

    /// One head of one sequence, tile by tile.
    fn head(&self, sequence: &Sequence, head: usize, grad: &[f32], out: &[f32]) -> Head {
        let rows = sequence.rows.len();
        let mut found = Head::zeros(rows, self.attention.width);
        for first in (0..rows).step_by(QUERIES) {
            self.tile(&mut found, sequence, head, first, grad, out);
        }
        found
    }

    /// Adds what the queries of a tile, from row `first` of the sequence on, contribute.
    fn tile(
        &self,
        found: &mut Head,
        sequence: &Sequence,
        head: usize,
        first: usize,
        grad: &[f32],
        out: &[f32],
    ) {
        let attention = &self.attention;
        let Attention { heads, width, .. } = *attention;
        let d = heads * width;
        let n = QUERIES.min(sequence.rows.len() - first);
        let at = sequence.rows.start + first;
        let queries = attention.head(&self.turned, at * 2 * d + head * width, n, 2 * d);
        let [grad, out] = [grad, out].map(|rows| attention.head(rows, at * d + head * width, n, d));
        let sums = &self.sums[at * heads + head * n..][..n];
        let mut means = vec![0.0; n];
        products(&mut means, grad, out);
        let scale = 1.0 / (width as f32).sqrt();
        let position = sequence.from + first;
        let seen = |row: usize| attention.seen(position + row, sequence.lane.next);
        let (mut weights, mut slopes) = (unwritten(n * PAGE), unwritten(n * PAGE));
        let to_queries = &mut found.queries[first * width..][..n * width];
        for (start, page) in sequence.lane.pages(seen(0).start..seen(n - 1).end) {
            let columns = page.keys.len() / d;
            let [keys, values] = [&page.keys, &page.values]
                .map(|rows| attention.head(rows, head * width, columns, d));
            let (weights, slopes) = (&mut weights[..n * columns], &mut slopes[..n * columns]);
            multiply(weights, false, queries, keys.transposed(), scale);
            multiply(slopes, false, grad, values.transposed(), 1.0);
            let both = weights
                .chunks_exact_mut(columns)
                .zip(slopes.chunks_exact_mut(columns));
            for (row, (weights, slopes)) in both.enumerate() {
                let weights = only(weights, seen(row), start);
                soften(
                    weights,
                    only(slopes, seen(row), start),
                    sums[row],
                    means[row],
                    scale,
                );
            }
            multiply(to_queries, true, Matrix::new(slopes, n, columns), keys, 1.0);
            // Those before the step's own rows are constants.
            let first = sequence.from.saturating_sub(start).min(columns);
            if first < columns {
                let from = (start + first - sequence.from) * width;
                let here = from..from + (columns - first) * width;
                let own = |x| {
                    Matrix::new(x, n, columns)
                        .transposed()
                        .at(first, columns - first)
                };
                multiply(
                    &mut found.keys[here.clone()],
                    true,
                    own(slopes),
                    queries,
                    1.0,
                );
                multiply(&mut found.values[here], true, own(weights), grad, 1.0);
            }
        }
    }
}

simd! {
/// The product of each row of x with that of y.
fn products(out: &mut [f32], x: Matrix, y: Matrix) {
    for (row, out) in out.iter_mut().enumerate() {
        let x = &x.values[row * x.strides.0..][..x.columns];
        let y = &y.values[row * y.strides.0..][..x.len()];
        *out = x.iter().zip(y).map(|(x, y)| x * y).sum();
    }
}
}

simd! {
/// From scores to weights, and from the gradient to the weights to that of the products of queries
/// and keys.
fn soften(weights: &mut [f32], slopes: &mut [f32], sum: f32, mean: f32, scale: f32) {
    for (weight, slope) in weights.iter_mut().zip(slopes) {
        *weight = math::exp::<FMA>(*weight - sum);
        *slope = *weight * (*slope - mean) * scale;
    }
}
}

#[cfg(test)]
mod tests;
