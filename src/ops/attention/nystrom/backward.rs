//! Gradients of Nyström attention to queries, keys and values, and to the taps of its convolution.
//!
//! With F = softmax(Q K̃ᵀ), B = softmax(Q̃ Kᵀ), Z the inverse of A = softmax(Q̃ K̃ᵀ), and ȳ the gradient
//! to F Z B V: those to F, Z and B are products, a softmax P passes `P ∘ (P̄ − P̄·P)`, and a landmark's
//! gradient goes to its run of rows. The steps of the iteration for Z are run backwards. Tiles of F
//! and B are computed again.

use super::super::backward::{Head as Gradients, together};
use super::{Head, Landmarks, Matrix, Nystrom, ROWS};
use super::{inverses, multiply, norms, product, scores, softmax, spans, steps};
use crate::error::Result;
use crate::ops::{Tensor, math, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;

/// What a step keeps for its gradients.
pub(super) struct Step {
    pub nystrom: Nystrom,
    pub x: Tensor, // (T, 3D)
    /// Queries and keys, rotated: (T, 2D).
    pub turned: Vec<f32>,
    pub positions: Vec<usize>,
    pub segments: Vec<Segment>,
}

/// Gradients to the landmarks, (m, d) each.
struct ToMarks {
    queries: Vec<f32>,
    keys: Vec<f32>,
}

impl Step {
    /// To the columns `[q | k | v]` (T, 3D), and to the taps (heads, 1, K).
    pub fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let nystrom = &self.nystrom;
        let Nystrom { heads, width, .. } = *nystrom;
        let d = heads * width;
        let (to_rows, to_taps) = with_slices([grad, &self.x], |[grad, x]| {
            let spans = spans(&self.segments).into_iter();
            let tasks: Vec<_> = spans
                .flat_map(|span| (0..heads).map(move |head| (span.clone(), head)))
                .collect();
            let found = tasks.into_par_iter().map(|(span, head)| {
                let grad = Matrix {
                    values: &grad[span.start * d + head * width..],
                    rows: span.len(),
                    columns: width,
                    strides: (d, 1),
                };
                let head = nystrom.head(head, &self.turned, x, span);
                head.backward(nystrom.landmarks, grad)
            });
            let (found, taps): (Vec<_>, Vec<_>) = found.unzip();
            let mut to_taps = vec![0.0; nystrom.taps.len()];
            for taps in taps.chunks_exact(heads) {
                let taps = taps.iter().flatten();
                to_taps.iter_mut().zip(taps).for_each(|(sum, x)| *sum += x);
            }
            let rotary = nystrom.rotary.as_ref();
            let rows = together(&found, heads, width, (rotary, &self.positions));
            Ok((rows, to_taps))
        })?;
        let rows = (self.positions.len(), 3 * d);
        let taps = (heads, 1, nystrom.taps.len() / heads);
        Ok([
            Some(Tensor::from_vec(to_rows, rows, grad.device())?),
            Some(Tensor::from_vec(to_taps, taps, grad.device())?),
        ])
    }
}

impl Head<'_> {
    /// To the rows of one sequence, and to the taps.
    fn backward(&self, landmarks: usize, grad: Matrix) -> (Gradients, Vec<f32>) {
        let [queries, ..] = self.parts;
        let (n, width) = (queries.rows, queries.columns);
        let m = landmarks.min(n);
        let marks = self.landmarks(landmarks);
        let all = inverses(&marks.weights, m);
        let inverse = all.last().map_or(&[][..], |last| last);
        let middle = product(inverse, &marks.seen, [m, m, width], [false, false], 1.0);
        let mut found = Gradients::zeros(n, width);
        let mut to_marks = ToMarks {
            queries: vec![0.0; m * width],
            keys: vec![0.0; m * width],
        };
        let to_middle = self.queries_backward(&marks, &middle, grad, (&mut found, &mut to_marks));
        let to_seen = product(inverse, &to_middle, [m, m, width], [true, false], 1.0);
        self.keys_backward(&marks, &to_seen, (&mut found, &mut to_marks));

        let to_inverse = product(&to_middle, &marks.seen, [m, width, m], [false, true], 1.0);
        let mut to_weights = inverse_backward(&marks.weights, &all, to_inverse, m);
        for (weights, slopes) in marks
            .weights
            .chunks_exact(m)
            .zip(to_weights.chunks_exact_mut(m))
        {
            let mean = weights.iter().zip(&*slopes).map(|(p, s)| p * s).sum();
            soften(weights, slopes, mean);
        }
        let slopes = Matrix::new(&to_weights, m, m);
        let scale = 1.0 / (width as f32).sqrt();
        let keys = Matrix::new(&marks.keys, m, width);
        let of_queries = Matrix::new(&marks.queries, m, width);
        multiply(&mut to_marks.queries, true, slopes, keys, scale);
        multiply(
            &mut to_marks.keys,
            true,
            slopes.transposed(),
            of_queries,
            scale,
        );
        spread(&mut found.queries, &to_marks.queries, [n, m, width]);
        spread(&mut found.keys, &to_marks.keys, [n, m, width]);
        let taps = self.convolve_backward(grad, &mut found.values);
        (found, taps)
    }

    /// Through F, to queries and the landmarks of keys; gives the gradient to Z B V, (m, d).
    fn queries_backward(
        &self,
        marks: &Landmarks,
        middle: &[f32],
        grad: Matrix,
        (found, to_marks): (&mut Gradients, &mut ToMarks),
    ) -> Vec<f32> {
        let [queries, ..] = self.parts;
        let (width, m) = (queries.columns, marks.logs.len());
        let keys = Matrix::new(&marks.keys, m, width);
        let scale = 1.0 / (width as f32).sqrt();
        let mut to_middle = vec![0.0; m * width];
        for (i, to_queries) in found.queries.chunks_mut(ROWS * width).enumerate() {
            let (queries, grad) = (queries.at(i * ROWS, ROWS), grad.at(i * ROWS, ROWS));
            let n = queries.rows;
            let weights = scores(queries, keys, |_, row| softmax(row));
            let mut slopes = unwritten(n * m);
            let turned = Matrix::new(middle, m, width).transposed();
            multiply(&mut slopes, false, grad, turned, 1.0);
            let by = Matrix::new(&weights, n, m).transposed();
            multiply(&mut to_middle, true, by, grad, 1.0);
            for (weights, slopes) in weights.chunks_exact(m).zip(slopes.chunks_exact_mut(m)) {
                let mean = weights.iter().zip(&*slopes).map(|(p, s)| p * s).sum();
                soften(weights, slopes, mean);
            }
            let slopes = Matrix::new(&slopes, n, m);
            multiply(to_queries, false, slopes, keys, scale);
            multiply(
                &mut to_marks.keys,
                true,
                slopes.transposed(),
                queries,
                scale,
            );
        }
        to_middle
    }

    /// Through B, from the gradient to B V, (m, d), to keys, values and the landmarks of queries.
    fn keys_backward(
        &self,
        marks: &Landmarks,
        to_seen: &[f32],
        (found, to_marks): (&mut Gradients, &mut ToMarks),
    ) {
        let [_, keys, values] = self.parts;
        let (width, m) = (keys.columns, marks.logs.len());
        let queries = Matrix::new(&marks.queries, m, width);
        let scale = 1.0 / (width as f32).sqrt();
        let both = to_seen
            .chunks_exact(width)
            .zip(marks.seen.chunks_exact(width));
        let means = both.map(|(to, seen)| to.iter().zip(seen).map(|(a, b)| a * b).sum());
        let means: Vec<f32> = means.collect();
        let to_seen = Matrix::new(to_seen, m, width);
        let tiles = found.keys.chunks_mut(ROWS * width);
        for (i, (to_keys, to_values)) in
            tiles.zip(found.values.chunks_mut(ROWS * width)).enumerate()
        {
            let (keys, values) = (keys.at(i * ROWS, ROWS), values.at(i * ROWS, ROWS));
            let n = keys.rows;
            let weights = scores(queries, keys, |mark, row| {
                row.iter_mut()
                    .for_each(|x| *x = math::exp::<false>(*x - marks.logs[mark]));
            });
            let mut slopes = unwritten(m * n);
            multiply(&mut slopes, false, to_seen, values.transposed(), 1.0);
            let by = Matrix::new(&weights, m, n).transposed();
            multiply(to_values, true, by, to_seen, 1.0);
            let rows = weights.chunks_exact(n).zip(slopes.chunks_exact_mut(n));
            for ((weights, slopes), mean) in rows.zip(&means) {
                soften(weights, slopes, *mean);
            }
            let slopes = Matrix::new(&slopes, m, n);
            multiply(to_keys, false, slopes.transposed(), queries, scale);
            multiply(&mut to_marks.queries, true, slopes, keys, scale);
        }
    }

    /// Through the convolution, to the values; gives the gradients to its taps.
    fn convolve_backward(&self, grad: Matrix, to_values: &mut [f32]) -> Vec<f32> {
        let values = self.parts[2];
        let (width, half) = (values.columns, self.taps.len() / 2);
        let mut to_taps = vec![0.0; self.taps.len()];
        for t in 0..grad.rows {
            let grad = &grad.values[t * grad.strides.0..][..width];
            for (j, (tap, to_tap)) in self.taps.iter().zip(&mut to_taps).enumerate() {
                let Some(row) = (t + j).checked_sub(half).filter(|row| *row < values.rows) else {
                    continue;
                };
                let value = &values.values[row * values.strides.0..][..width];
                *to_tap += grad.iter().zip(value).map(|(g, v)| g * v).sum::<f32>();
                let to_value = &mut to_values[row * width..][..width];
                to_value
                    .iter_mut()
                    .zip(grad)
                    .for_each(|(to, g)| *to += tap * g);
            }
        }
        to_taps
    }
}

/// `P ∘ (P̄ − mean)`, the mean that of P̄ over the row.
fn soften(weights: &[f32], slopes: &mut [f32], mean: f32) {
    for (slope, weight) in slopes.iter_mut().zip(weights) {
        *slope = weight * (*slope - mean);
    }
}

/// Adds the gradients of `m` means of runs to their rows.
fn spread(rows: &mut [f32], means: &[f32], [n, m, width]: [usize; 3]) {
    for (i, mean) in means.chunks_exact(width).enumerate() {
        let run = i * n / m..(i + 1) * n / m;
        let part = 1.0 / run.len() as f32;
        for row in rows[run.start * width..run.end * width].chunks_exact_mut(width) {
            row.iter_mut().zip(mean).for_each(|(to, x)| *to += x * part);
        }
    }
}

/// The gradient to A, from that to the last of its inverses, by each step `Z' = ¼ Z T`,
/// `T = 13 I − Y U`, `U = 15 I − Y W`, `W = 7 I − Y`, `Y = A Z`.
fn inverse_backward(a: &[f32], all: &[Vec<f32>], last: Vec<f32>, m: usize) -> Vec<f32> {
    let times = |x: &[f32], y: &[f32], turned, scale| product(x, y, [m; 3], turned, scale);
    let add = |sum: &mut Vec<f32>, more: &[f32]| {
        sum.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
    };
    let (mut to_z, mut to_a) = (last, vec![0.0; m * m]);
    for z in all[..all.len() - 1].iter().rev() {
        let [y, w, u, t] = steps(a, z, m);
        let to_t = times(z, &to_z, [true, false], 0.25);
        let to_u = times(&y, &to_t, [true, false], -1.0);
        let to_w = times(&y, &to_u, [true, false], -1.0);
        let mut to_y = times(&to_t, &u, [false, true], -1.0);
        add(&mut to_y, &times(&to_u, &w, [false, true], -1.0));
        to_y.iter_mut().zip(&to_w).for_each(|(to, x)| *to -= x);
        to_z = times(&to_z, &t, [false, true], 0.25);
        add(&mut to_z, &times(a, &to_y, [true, false], 1.0));
        add(&mut to_a, &times(&to_y, z, [false, true], 1.0));
    }
    // The first is Aᵀ over its norms. That of its rows is 1 whatever the scores are.
    let [(rows, _), (columns, at)] = norms(a, m);
    let scale = rows * columns;
    let mut of_scale = 0.0;
    for i in 0..m {
        for j in 0..m {
            to_a[i * m + j] += to_z[j * m + i] / scale;
            of_scale -= to_z[j * m + i] * a[i * m + j] / (scale * scale);
        }
    }
    (0..m).for_each(|i| to_a[i * m + at] += of_scale * rows);
    to_a
}
