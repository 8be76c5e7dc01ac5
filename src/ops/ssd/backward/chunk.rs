//! The gradients of one chunk, in the terms of [`super`].

use super::super::chunk::{CHUNK, Scratch, decay, scale};
use crate::ops::math::{mul_add, simd};
use crate::ops::matrix::{Matrix, multiply};
use crate::ops::unwritten;

/// What one head has in a chunk.
pub(super) struct Here<'a> {
    pub x: Matrix<'a>,     // (Q, P)
    pub y: Matrix<'a>,     // (Q, P), ȳ
    pub b: Matrix<'a>,     // (Q, N)
    pub c: Matrix<'a>,     // (Q, N)
    pub scores: &'a [f32], // (Q, Q), C Bᵀ
}

/// The gradients of one chunk.
pub(super) struct Work {
    to_scores: Vec<f32>,  // (Q, Q), L ∘ M̄ of all heads
    pub to_b: Vec<f32>,   // (Q, N), of all heads
    pub to_c: Vec<f32>,   // as to_b
    to_weights: Vec<f32>, // (Q, Q), M̄
    pub to_x: Vec<f32>,   // (Q, P)
    passed: Vec<f32>,     // (Q, P), B Gᵀ
    seen: Vec<f32>,       // (Q, N), (exp(c) ∘ ȳ) S
    /// To c.
    pub to_exponents: [f32; CHUNK],
    /// To d, but for what comes through c.
    pub to_steps: [f32; CHUNK],
    pub channels: usize,
    pub states: usize,
}

impl Work {
    pub fn new(channels: usize, states: usize) -> Self {
        Self {
            to_scores: unwritten(CHUNK * CHUNK),
            to_b: unwritten(CHUNK * states),
            to_c: unwritten(CHUNK * states),
            to_weights: unwritten(CHUNK * CHUNK),
            to_x: unwritten(CHUNK * channels),
            passed: unwritten(CHUNK * channels),
            seen: unwritten(CHUNK * states),
            to_exponents: [0.0; CHUNK],
            to_steps: [0.0; CHUNK],
            channels,
            states,
        }
    }

    /// Nothing has come yet to the scores, B and C of a chunk of n rows.
    pub fn begin_chunk(&mut self, n: usize) {
        self.to_scores[..n * n].fill(0.0);
        self.to_b[..n * self.states].fill(0.0);
        self.to_c[..n * self.states].fill(0.0);
    }

    /// The gradients within the chunk, by which a head begins; returns that to D.
    pub fn within_chunk(&mut self, scratch: &mut Scratch, here: &Here, skip: f32) -> f32 {
        let (n, channels) = (here.x.rows, self.channels);
        self.to_exponents = [0.0; CHUNK];
        self.to_steps = [0.0; CHUNK];
        let to_weights = &mut self.to_weights[..n * n];
        multiply(to_weights, 0.0, here.y, here.x.transposed());
        within(self, scratch, here.scores, n);
        let weights = Matrix::new(&scratch.weights[..n * n], [n, n], n);
        let to_x = &mut self.to_x[..n * channels];
        multiply(to_x, 0.0, weights.transposed(), here.y);
        direct(&mut self.to_x, here.x, here.y, skip)
    }

    /// Adds the gradients that come back from the state after the chunk: `later` is that to it.
    pub fn add_after(&mut self, scratch: &mut Scratch, here: &Here, later: &[f32], state: &[f32]) {
        let (n, channels, states) = (here.x.rows, self.channels, self.states);
        let after = Matrix::new(later, [channels, states], states);
        let passed = &mut self.passed[..n * channels];
        multiply(passed, 0.0, here.b, after.transposed());
        let kept = scale(scratch, here.x.values, here.x.strides.0, n);
        let scaled = Matrix::new(&scratch.y[..n * channels], [n, channels], channels);
        multiply(&mut self.to_b[..n * states], 1.0, scaled, after);
        after_rows(self, scratch, here.x, n, kept * product(later, state));
    }

    /// Adds the gradients that the state before the chunk brings. Leaves `exp(c) ∘ ȳ` in the
    /// scratch's y.
    pub fn add_before(&mut self, scratch: &mut Scratch, here: &Here, state: &[f32]) {
        let (n, channels, states) = (here.x.rows, self.channels, self.states);
        decayed(scratch, here.y);
        let scaled = Matrix::new(&scratch.y[..n * channels], [n, channels], channels);
        let before = Matrix::new(state, [channels, states], states);
        multiply(&mut self.seen[..n * states], 0.0, scaled, before);
        before_rows(self, here.c, n);
    }

    /// From the gradient to the state after the chunk to that before it, with what
    /// [`Work::add_before`] has left.
    pub fn pass_before(&self, scratch: &Scratch, here: &Here, later: &mut [f32]) {
        let (n, channels) = (here.x.rows, self.channels);
        let scaled = Matrix::new(&scratch.y[..n * channels], [n, channels], channels);
        let kept = total_decay(scratch, n);
        multiply(later, kept, scaled.transposed(), here.c);
    }

    /// Adds the gradients to B and C through the scores of all heads.
    pub fn through_scores(&mut self, b: Matrix, c: Matrix) {
        let (n, states) = (b.rows, self.states);
        let to_scores = Matrix::new(&self.to_scores[..n * n], [n, n], n);
        multiply(&mut self.to_c[..n * states], 1.0, to_scores, b);
        multiply(&mut self.to_b[..n * states], 1.0, to_scores.transposed(), c);
    }
}

simd! {
/// The weights M again, and the gradients through them to the scores, c and d.
fn within(work: &mut Work, scratch: &mut Scratch, scores: &[f32], n: usize) {
    let Scratch { steps, high, low, weights, .. } = scratch;
    let Work { to_scores, to_weights, to_exponents, to_steps, .. } = work;
    let rows = weights.chunks_exact_mut(n).zip(scores.chunks_exact(n));
    let grads = to_scores.chunks_exact_mut(n).zip(to_weights.chunks_exact(n));
    let mut of_row = [0f32; CHUNK];
    for (i, ((weights, scores), (to_scores, grads))) in rows.zip(grads).enumerate() {
        let (high_i, low_i) = (high[i], low[i]);
        for j in 0..i + 1 {
            let kept = decay::<FMA>((high_i - high[j]) + (low_i - low[j]));
            let step = kept * steps[j];
            weights[j] = scores[j] * step;
            to_scores[j] = mul_add::<FMA>(grads[j], step, to_scores[j]);
            let through = grads[j] * scores[j] * kept;
            to_steps[j] += through;
            of_row[j] = through * steps[j];
            to_exponents[j] -= of_row[j];
        }
        weights[i + 1..].fill(0.0);
        to_exponents[i] += of_row[..i + 1].iter().sum::<f32>();
    }
}
}

simd! {
/// Adds the skip's share `D ȳ` to the gradient to x; gives `Σ ȳ x`.
fn direct(to_x: &mut [f32], x: Matrix, y: Matrix, skip: f32) -> f32 {
    let width = x.columns;
    let mut sum = 0.0;
    for (i, to_x) in to_x.chunks_exact_mut(width).take(x.rows).enumerate() {
        let (x, y) = (&x.values[i * x.strides.0..][..width], &y.values[i * y.strides.0..][..width]);
        let mut of_row = 0.0;
        for ((to_x, x), y) in to_x.iter_mut().zip(x).zip(y) {
            *to_x = mul_add::<FMA>(skip, *y, *to_x);
            of_row = mul_add::<FMA>(*x, *y, of_row);
        }
        sum += of_row;
    }
    sum
}
}

simd! {
/// The gradients that come back from the state after the chunk, to x, c and d. `kept` is that to
/// the last c from what remains of the state before.
fn after_rows(work: &mut Work, scratch: &Scratch, x: Matrix, n: usize, kept: f32) {
    let (h, l) = (scratch.high[n - 1], scratch.low[n - 1]);
    let width = x.columns;
    let rows = work.to_x.chunks_exact_mut(width).zip(work.passed.chunks_exact(width));
    let mut sum = kept;
    for (j, (to_x, passed)) in rows.take(n).enumerate() {
        let factor = decay::<FMA>((h - scratch.high[j]) + (l - scratch.low[j]));
        let weight = factor * scratch.steps[j];
        let mut through = 0.0;
        for ((to_x, passed), x) in to_x.iter_mut().zip(passed).zip(&x.values[j * x.strides.0..]) {
            *to_x = mul_add::<FMA>(weight, *passed, *to_x);
            through = mul_add::<FMA>(*passed, *x, through);
        }
        work.to_steps[j] += factor * through;
        work.to_exponents[j] -= weight * through;
        sum += weight * through;
    }
    work.to_exponents[n - 1] += sum;
}
}

simd! {
/// Rows `exp(c_i) ȳ_i` in place of y.
fn decayed(scratch: &mut Scratch, y: Matrix) {
    let Scratch { high, y: out, channels, .. } = scratch;
    for (i, out) in out.chunks_exact_mut(*channels).take(y.rows).enumerate() {
        let kept = decay::<FMA>(high[i]);
        for (out, y) in out.iter_mut().zip(&y.values[i * y.strides.0..]) {
            *out = kept * y;
        }
    }
}
}

simd! {
/// The gradients that the state before the chunk brings, to C and c.
fn before_rows(work: &mut Work, c: Matrix, n: usize) {
    let width = c.columns;
    let rows = work.to_c.chunks_exact_mut(width).zip(work.seen.chunks_exact(width));
    for (i, (to_c, seen)) in rows.take(n).enumerate() {
        let mut through = 0.0;
        for ((to_c, seen), c) in to_c.iter_mut().zip(seen).zip(&c.values[i * c.strides.0..]) {
            *to_c += seen;
            through = mul_add::<FMA>(*seen, *c, through);
        }
        work.to_exponents[i] += through;
    }
}
}

simd! {
/// exp(c) of the last of n rows.
fn total_decay(scratch: &Scratch, n: usize) -> f32 {
    decay::<FMA>(scratch.high[n - 1])
}
}

simd! {
fn product(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (groups, rest) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    for (x, y) in groups.0.iter().zip(rest.0) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum = mul_add::<FMA>(*x, *y, *sum);
        }
    }
    let last: f32 = groups.1.iter().zip(rest.1).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + last
}
}
