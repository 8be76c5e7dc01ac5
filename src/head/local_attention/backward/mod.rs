//! Gradients of the windowed attention. A tile's weights are computed again.
//!
//! Rows that a sequence carried into the step are constants, and rows that wait for their right
//! context have no gradient yet (truncated back-propagation).

use super::{Held, LocalPiece, LocalSizes, QUERIES, weigh};
use crate::error::Result;
use crate::ops::{Matrix, Tensor, math::simd, multiply, total, unwritten, with_slices};
use rayon::prelude::*;

/// What a step keeps for its gradients.
pub(super) struct Step {
    pub sizes: LocalSizes,
    pub position: Vec<f32>, // (H, distances)
    pub parts: Vec<Part>,
}

/// One segment: its rows and those it carried in, and which of them came out.
pub(super) struct Part {
    pub held: Held,
    pub piece: LocalPiece,
    /// Rows of the segment.
    pub len: usize,
}

impl Part {
    /// Rows of `held` before the segment's own: keys and queries.
    fn carried(&self, d: usize) -> (usize, usize) {
        let own = |rows: &[f32]| rows.len() / d - self.len;
        (own(&self.held.keys), own(&self.held.queries))
    }
}

/// The gradients of one head of one part.
struct Head {
    queries: Vec<f32>, // (rows that came out, d)
    keys: Vec<f32>,    // (keys, d)
    values: Vec<f32>,  // as keys
    position: Vec<f32>,
}

impl Step {
    /// To the step's hidden vectors (T, D), as the residual, from that of the rows that came out.
    pub fn residual(&self, grad: &Tensor) -> Result<Tensor> {
        let d = self.sizes.width;
        let rows: usize = self.parts.iter().map(|part| part.len).sum();
        let out = with_slices([grad], |[mut grad]| {
            let mut out = Vec::with_capacity(rows * d);
            for part in &self.parts {
                let (_, carried) = part.carried(d);
                let (here, later) = grad.split_at(part.piece.len * d);
                grad = later;
                let own = &here[(carried * d).min(here.len())..];
                out.extend_from_slice(own);
                out.resize(out.len() + part.len * d - own.len(), 0.0);
            }
            Ok(out)
        })?;
        Tensor::from_vec(out, (rows, d), grad.device())
    }

    /// To the step's queries, keys and values (T, 3D) and the position biases.
    pub fn attention(&self, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let (d, heads) = (self.sizes.width, self.sizes.heads);
        let width = d / heads;
        let rows: usize = self.parts.iter().map(|part| part.len).sum();
        let mut out = vec![0.0; rows * 3 * d];
        let mut positions = Vec::new();
        with_slices([grad], |[mut grad]| {
            let mut rest = &mut out[..];
            for part in &self.parts {
                let (here, later) = grad.split_at(part.piece.len * d);
                grad = later;
                let tasks = (0..heads).into_par_iter();
                let found: Vec<_> = tasks.map(|head| self.head(part, head, here)).collect();
                let (own, later) = rest.split_at_mut(part.len * 3 * d);
                rest = later;
                let (keys, queries) = part.carried(d);
                own.par_chunks_exact_mut(3 * d)
                    .with_min_len(QUERIES)
                    .enumerate()
                    .for_each(|(i, row)| {
                        for (head, found) in found.iter().enumerate() {
                            let parts = [
                                (queries + i, &found.queries),
                                (keys + i, &found.keys),
                                (keys + i, &found.values),
                            ];
                            for (block, (row_of, from)) in parts.into_iter().enumerate() {
                                if let Some(from) = from.chunks_exact(width).nth(row_of) {
                                    row[block * d + head * width..][..width].copy_from_slice(from);
                                }
                            }
                        }
                    });
                let found = found.into_iter().map(|found| found.position);
                positions.push(found.collect::<Vec<_>>().concat());
            }
            Ok(())
        })?;
        let shape = (heads, self.sizes.distances());
        Ok([
            Some(Tensor::from_vec(out, (rows, 3 * d), grad.device())?),
            Some(Tensor::from_vec(total(positions), shape, grad.device())?),
        ])
    }

    fn head(&self, part: &Part, head: usize, grad: &[f32]) -> Head {
        let (d, window, lag) = (self.sizes.width, self.sizes.window, self.sizes.lag());
        let (held, distances) = (&part.held, self.sizes.distances());
        let width = d / self.sizes.heads;
        let known = held.keys.len() / d;
        let mut out = Head {
            queries: unwritten(part.piece.len * width),
            keys: vec![0.0; known * width],
            values: vec![0.0; known * width],
            position: vec![0.0; distances],
        };
        let bias = &self.position[head * distances..][..distances];
        let scale = 1.0 / (width as f32).sqrt();
        for (first, to_queries) in (0..)
            .step_by(QUERIES)
            .zip(out.queries.chunks_mut(QUERIES * width))
        {
            let n = to_queries.len() / width;
            // In keys that are held: those that the tile sees.
            let position = held.next + first - held.first;
            let (low, high) = (
                position.saturating_sub(window),
                (position + n + lag).min(known),
            );
            let columns = high - low;
            let matrix = |rows, from: usize, count| {
                Matrix::new(columns_of(rows, from * d + head * width), [count, width], d)
            };
            let queries = matrix(&held.queries, first, n);
            let keys = matrix(&held.keys, low, columns);
            let values = matrix(&held.values, low, columns);
            let grad = matrix(grad, first, n);
            let mut weights = unwritten(n * columns);
            multiply(&mut weights, 0.0, queries, keys.transposed());
            weigh(&mut weights, columns, position - low, window, scale, bias);
            let mut slopes = unwritten(n * columns);
            multiply(&mut slopes, 0.0, grad, values.transposed());
            let here = low * width..high * width;
            let square = |x| Matrix::new(x, [n, columns], columns);
            multiply(
                &mut out.values[here.clone()],
                1.0,
                square(&weights).transposed(),
                grad,
            );
            soften(
                &mut slopes,
                &weights,
                &mut out.position,
                columns,
                position - low,
                window,
                scale,
            );
            multiply(to_queries, 0.0, square(&slopes), keys);
            multiply(
                &mut out.keys[here],
                1.0,
                square(&slopes).transposed(),
                queries,
            );
        }
        out
    }
}

fn columns_of(rows: &[f32], from: usize) -> &[f32] {
    rows.get(from..).unwrap_or(&[])
}

simd! {
/// From the gradient to the weights (n, columns) of a softmax to that of the products of queries
/// and keys; adds that of the biases. Columns as in `weigh`.
fn soften(slopes: &mut [f32], weights: &[f32], position: &mut [f32], columns: usize, at: usize, window: usize, scale: f32) {
    let rows = slopes.chunks_exact_mut(columns).zip(weights.chunks_exact(columns));
    for (i, (slopes, weights)) in rows.enumerate() {
        let query = at + i;
        let low = query.saturating_sub(window);
        let high = (query + position.len() - window).min(columns);
        slopes[..low].fill(0.0);
        slopes[high..].fill(0.0);
        let (slopes, weights) = (&mut slopes[low..high], &weights[low..high]);
        let mean: f32 = slopes.iter().zip(weights).map(|(slope, weight)| slope * weight).sum();
        let position = &mut position[low + window - query..];
        for ((slope, weight), position) in slopes.iter_mut().zip(weights).zip(position) {
            *slope = weight * (*slope - mean);
            *position += *slope;
            *slope *= scale;
        }
    }
}
}

#[cfg(test)]
mod tests;
