//! Chunks of segments, and what one head computes of one, by the formulas of [`super`].

use crate::ops::math::{self, mul_add, simd};
use crate::sequence::Segment;
use std::ops::Range;

/// Q. Longer chunks do more work within, shorter ones make the products inefficient.
pub(super) const CHUNK: usize = 64;

/// Up to [`CHUNK`] rows of one segment.
pub(super) struct Chunk {
    pub segment: usize,
    pub rows: Range<usize>,
    /// Of its segment.
    pub first: bool,
    pub last: bool,
}

/// The chunks of all segments.
pub(super) fn chunks(segments: &[Segment]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut from = 0;
    for (i, segment) in segments.iter().enumerate() {
        for first in (0..segment.len).step_by(CHUNK) {
            let n = CHUNK.min(segment.len - first);
            chunks.push(Chunk {
                segment: i,
                rows: from + first..from + first + n,
                first: first == 0,
                last: first + n == segment.len,
            });
        }
        from += segment.len;
    }
    chunks
}

/// What one head needs for one chunk.
pub(super) struct Scratch {
    pub steps: [f32; CHUNK], // d
    /// c · log2 e in two parts: differences of far smaller size stay exact.
    pub high: [f32; CHUNK],
    pub low: [f32; CHUNK],
    pub weights: Vec<f32>, // (Q, Q), L ∘ C Bᵀ
    pub y: Vec<f32>,       // (Q, P)
    pub before: Vec<f32>,  // (Q, P), C Sᵀ
    pub channels: usize,
}

impl Scratch {
    pub fn new(channels: usize) -> Self {
        Self {
            steps: [0.0; CHUNK],
            high: [0.0; CHUNK],
            low: [0.0; CHUNK],
            weights: vec![0.0; CHUNK * CHUNK],
            y: vec![0.0; CHUNK * channels],
            before: vec![0.0; CHUNK * channels],
            channels,
        }
    }

    pub fn decays<'a>(&mut self, steps: impl Iterator<Item = &'a f32>, rate: f64) {
        let mut sum = 0.0;
        for (i, &step) in steps.enumerate() {
            sum += f64::from(step) * rate;
            self.steps[i] = step;
            self.high[i] = sum as f32;
            self.low[i] = (sum - f64::from(self.high[i])) as f32;
        }
    }
}

/// `2ˣ`, 0 below 2⁻¹⁰⁰: products with what is smaller would be subnormal, and those cost some
/// hundred cycles each (measured: the scan takes five times as long where heads decay that fast).
#[inline(always)]
pub(super) fn decay<const FMA: bool>(x: f32) -> f32 {
    if x < -100.0 {
        0.0
    } else {
        math::exp2::<FMA>(x)
    }
}

simd! {
/// `weights_ij = scores_ij exp(c_i − c_j) d_j` for j ≤ i, else 0, of n rows.
pub(super) fn weigh(scratch: &mut Scratch, scores: &[f32], n: usize) {
    let Scratch { steps, high, low, weights, .. } = scratch;
    let rows = weights.chunks_exact_mut(n).zip(scores.chunks_exact(n));
    for (i, (weights, scores)) in rows.enumerate() {
        let (lower, upper) = weights.split_at_mut(i + 1);
        let earlier = high.iter().zip(&*low).zip(&*steps);
        for ((weight, score), ((h, l), step)) in lower.iter_mut().zip(scores).zip(earlier) {
            *weight = score * step * decay::<FMA>((high[i] - h) + (low[i] - l));
        }
        upper.fill(0.0);
    }
}
}

simd! {
/// Row i of `Y + exp(c) ∘ (C Sᵀ) + D X`.
pub(super) fn add(out: &mut [f32], scratch: &Scratch, x: &[f32], skip: f32, i: usize) {
    let kept = decay::<FMA>(scratch.high[i]);
    let row = i * out.len()..(i + 1) * out.len();
    let terms = scratch.y[row.clone()].iter().zip(&scratch.before[row]).zip(x);
    for (out, ((y, before), x)) in out.iter_mut().zip(terms) {
        *out = mul_add::<FMA>(kept, *before, mul_add::<FMA>(skip, *x, *y));
    }
}
}

simd! {
/// Rows `exp(c_n − c_j) d_j x_j` in place of y; returns exp(c_n).
pub(super) fn scale(scratch: &mut Scratch, x: &[f32], stride: usize, n: usize) -> f32 {
    let Scratch { steps, high, low, y, channels, .. } = scratch;
    let (h, l) = (high[n - 1], low[n - 1]);
    for (j, y) in y.chunks_exact_mut(*channels).take(n).enumerate() {
        let factor = steps[j] * decay::<FMA>((h - high[j]) + (l - low[j]));
        for (y, x) in y.iter_mut().zip(&x[j * stride..]) {
            *y = factor * x;
        }
    }
    decay::<FMA>(h)
}
}
