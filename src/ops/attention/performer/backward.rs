//! Gradients of Performer attention to the queries, keys and values of a step.
//!
//! With V = [v | 1], the sums S before a row and itself, and y = φ(q) S whose last column is the sum
//! of weights, the gradients ȳ to y are those to the output over that sum. With R the sums of
//! φ(q)ᵀ ȳ over a row and those behind it,
//!
//! ```text
//! φ(q) ← ȳ Sᵀ        φ(k) ← V Rᵀ        V ← φ(k) R        x ← Wᵀ e − x Σ e,   e = exp(…) ∘ φ̄
//! ```
//!
//! a tile of rows at a time, as forward; S is kept where each tile begins. Sums of earlier steps are
//! constants (truncated back-propagation), and so are the random features, which belong to the
//! architecture.

use super::super::backward::{Head, together};
use super::{EPS, Matrix, Performer, ROWS, multiply};
use crate::error::Result;
use crate::ops::{Tensor, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;
use std::ops::Range;

/// What a step keeps for its gradients.
pub(super) struct Step {
    pub performer: Performer,
    pub x: Tensor, // (T, 3D)
    /// Queries and keys, rotated: (T, 2D).
    pub turned: Vec<f32>,
    pub positions: Vec<usize>,
    pub segments: Vec<Segment>,
    /// The sums of all lanes before the step, as [`super::Sums`] has them.
    pub before: Vec<f32>,
    pub out: Tensor, // (T, D)
}

/// One head of one segment.
struct Run<'a> {
    performer: &'a Performer,
    /// Queries and keys of the step from this head's on, strided 2D; values, strided 3D.
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    /// The gradient to the output, and the output, strided D.
    grad: &'a [f32],
    out: &'a [f32],
}

/// A tile of rows, as forward computes it.
struct Tile {
    rows: Range<usize>,
    /// φ of queries and keys, (n, F).
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>, // (n, d + 1)
}

impl Step {
    /// To the columns `[q | k | v]` (T, 3D).
    pub fn backward(&self, grad: &Tensor) -> Result<Tensor> {
        let performer = &self.performer;
        let Performer { heads, width, .. } = *performer;
        let d = heads * width;
        let to_rows = with_slices([grad, &self.x, &self.out], |[grad, x, out]| {
            let mut from = 0;
            let mut tasks = Vec::new();
            for segment in &self.segments {
                tasks.extend((0..heads).map(|head| (segment, from, head)));
                from += segment.len;
            }
            let found = tasks.into_par_iter().map(|(segment, from, head)| {
                let run = Run {
                    performer,
                    queries: &self.turned[from * 2 * d + head * width..],
                    keys: &self.turned[(from * 2 + 1) * d + head * width..],
                    values: &x[(from * 3 + 2) * d + head * width..],
                    grad: &grad[from * d + head * width..],
                    out: &out[from * d + head * width..],
                };
                run.backward(segment.len, self.carried(segment, head))
            });
            let found: Vec<Head> = found.collect();
            let rotary = performer.rotary.as_ref();
            Ok(together(&found, heads, width, (rotary, &self.positions)))
        })?;
        Tensor::from_vec(to_rows, (self.positions.len(), 3 * d), grad.device())
    }

    /// The sums that a segment began with.
    fn carried(&self, segment: &Segment, head: usize) -> Vec<f32> {
        let len = self.performer.sums();
        if segment.starts {
            return vec![0.0; len];
        }
        let kept = self.before.len() / self.performer.heads;
        self.before[head * kept + segment.lane * len..][..len].to_vec()
    }
}

impl Run<'_> {
    fn backward(&self, rows: usize, mut sums: Vec<f32>) -> Head {
        let (width, features) = (self.performer.width, self.performer.count());
        let mut tiles = Vec::new();
        for from in (0..rows).step_by(ROWS) {
            let tile = self.tile(from..(from + ROWS).min(rows));
            let before = sums.clone();
            let n = tile.rows.len();
            let (k, v) = (
                Matrix::new(&tile.k, n, features),
                Matrix::new(&tile.v, n, width + 1),
            );
            multiply(&mut sums, true, k.transposed(), v, 1.0);
            tiles.push((tile.rows, before));
        }
        let mut found = Head::zeros(rows, width);
        let mut behind = vec![0.0; features * (width + 1)];
        for (rows, before) in tiles.into_iter().rev() {
            self.tile_backward(&self.tile(rows), &before, &mut behind, &mut found);
        }
        found
    }

    /// φ of a tile's queries and keys, and its values beside ones.
    fn tile(&self, rows: Range<usize>) -> Tile {
        let (width, d) = (
            self.performer.width,
            self.performer.heads * self.performer.width,
        );
        let (from, n) = (rows.start, rows.len());
        let mut v = unwritten(n * (width + 1));
        let values = self.values[from * 3 * d..].chunks(3 * d);
        for (v, x) in v.chunks_exact_mut(width + 1).zip(values) {
            v[..width].copy_from_slice(&x[..width]);
            v[width] = 1.0;
        }
        Tile {
            q: self
                .performer
                .features(&self.queries[from * 2 * d..], n, false),
            k: self.performer.features(&self.keys[from * 2 * d..], n, true),
            v,
            rows,
        }
    }

    /// Adds the gradients of a tile to `found`, and what it is to the rows before it to `behind`.
    fn tile_backward(&self, tile: &Tile, before: &[f32], behind: &mut [f32], found: &mut Head) {
        let (width, features) = (self.performer.width, self.performer.count());
        let n = tile.rows.len();
        let (q, k) = (
            Matrix::new(&tile.q, n, features),
            Matrix::new(&tile.k, n, features),
        );
        let v = Matrix::new(&tile.v, n, width + 1);
        let before = Matrix::new(before, features, width + 1);
        let mut weights = unwritten(n * n);
        multiply(&mut weights, false, q, k.transposed(), 1.0);
        keep_past(&mut weights, n);
        let grad = self.to_sums(tile, before, &weights);
        let grad = Matrix::new(&grad, n, width + 1);
        let mut slopes = unwritten(n * n);
        multiply(&mut slopes, false, grad, v.transposed(), 1.0);
        keep_past(&mut slopes, n);
        let (weights, slopes) = (Matrix::new(&weights, n, n), Matrix::new(&slopes, n, n));

        let mut to_q = unwritten(n * features);
        multiply(&mut to_q, false, grad, before.transposed(), 1.0);
        multiply(&mut to_q, true, slopes, k, 1.0);
        let later = Matrix::new(behind, features, width + 1);
        let mut to_k = unwritten(n * features);
        multiply(&mut to_k, false, v, later.transposed(), 1.0);
        multiply(&mut to_k, true, slopes.transposed(), q, 1.0);
        let mut to_v = unwritten(n * (width + 1));
        multiply(&mut to_v, false, k, later, 1.0);
        multiply(&mut to_v, true, weights.transposed(), grad, 1.0);
        multiply(behind, true, q.transposed(), grad, 1.0);

        let here = tile.rows.start * width..tile.rows.end * width;
        let values = found.values[here.clone()].chunks_exact_mut(width);
        for (out, from) in values.zip(to_v.chunks_exact(width + 1)) {
            out.copy_from_slice(&from[..width]);
        }
        self.to_rows(&mut found.queries[here.clone()], &tile.q, to_q, None);
        let d = self.performer.heads * width;
        let keys = &self.keys[tile.rows.start * 2 * d..];
        self.to_rows(&mut found.keys[here], &tile.k, to_k, Some(keys));
    }

    /// The gradient to y: to the values over the sum of weights, and to that sum.
    fn to_sums(&self, tile: &Tile, before: Matrix, weights: &[f32]) -> Vec<f32> {
        let (width, d) = (
            self.performer.width,
            self.performer.heads * self.performer.width,
        );
        let (n, features) = (tile.rows.len(), self.performer.count());
        let mut grad = unwritten(n * (width + 1));
        for (i, to) in grad.chunks_exact_mut(width + 1).enumerate() {
            let row = (tile.rows.start + i) * d;
            let q = &tile.q[i * features..][..features];
            let carried = q.iter().zip(before.values.chunks_exact(width + 1));
            let carried: f32 = carried.map(|(q, sums)| q * sums[width]).sum();
            let sum = carried + weights[i * n..][..n].iter().sum::<f32>();
            let (grad, out) = (&self.grad[row..][..width], &self.out[row..][..width]);
            for (to, grad) in to.iter_mut().zip(grad) {
                *to = grad / sum;
            }
            let of_sum: f32 = grad.iter().zip(out).map(|(grad, y)| grad * y).sum();
            to[width] = -of_sum / sum;
        }
        grad
    }

    /// From gradients to φ (n, F) to those of queries, or of `keys`, whose length counts. Of a query
    /// the largest exponent was taken off, which its gradient passes through.
    fn to_rows(&self, out: &mut [f32], phi: &[f32], mut grad: Vec<f32>, keys: Option<&[f32]>) {
        let (width, features) = (self.performer.width, self.performer.count());
        let (n, d) = (out.len() / width, self.performer.heads * width);
        let scale = (width as f32).powf(-0.25);
        let mut sums = vec![0.0; n];
        let rows = grad
            .chunks_exact_mut(features)
            .zip(phi.chunks_exact(features));
        for ((grad, phi), all) in rows.zip(&mut sums) {
            for (grad, phi) in grad.iter_mut().zip(phi) {
                *grad *= phi - EPS;
                *all += *grad;
            }
            if keys.is_none() {
                let largest = phi.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                if let Some(at) = phi.iter().position(|phi| *phi == largest) {
                    grad[at] -= *all;
                }
            }
        }
        let weight = Matrix::new(&self.performer.features, features, width);
        multiply(out, false, Matrix::new(&grad, n, features), weight, scale);
        let Some(keys) = keys else { return };
        let rows = out.chunks_exact_mut(width).zip(keys.chunks(2 * d));
        for ((out, x), all) in rows.zip(&sums) {
            for (out, x) in out.iter_mut().zip(x) {
                *out -= scale * scale * x * all;
            }
        }
    }
}

/// Zeros for what comes after each row.
fn keep_past(x: &mut [f32], n: usize) {
    for (i, row) in x.chunks_exact_mut(n).enumerate() {
        row[i + 1..].fill(0.0);
    }
}
