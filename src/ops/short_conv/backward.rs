//! Gradients of a short convolution: to its input, its taps and its bias.
//!
//! What a segment carries in is a constant: its taps' gradient counts it, no gradient goes back to
//! it (truncated back-propagation).

use super::{ROWS, ShortConv, convolve, cuda};
use crate::error::Result;
use crate::ops::cuda::{Gpu, OnGpu};
use crate::ops::sums::total;
use crate::ops::{Activation, Tensor, activation::slopes, math::simd, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a task that sums the gradients of taps and bias.
const BLOCK: usize = 16 * ROWS;

/// What a step of a convolution keeps for its gradients.
pub(super) struct Step {
    pub conv: ShortConv,
    pub x: Tensor,
    pub segments: Vec<Segment>,
    /// The K−1 rows before each segment.
    pub before: Vec<Vec<f32>>,
    /// Whether gradients are wanted of the taps or the bias.
    pub weights: bool,
}

/// The same of a step on a GPU.
pub(super) struct GpuStep {
    pub gpu: Arc<Gpu>,
    pub conv: OnGpu<cuda::ShortConv>,
    pub x: Tensor,
    pub segments: Vec<Segment>,
    /// The tails before the step.
    pub before: cuda::Tail,
    /// Whether gradients are wanted of the taps, and of the bias.
    pub wanted: [bool; 2],
}

impl GpuStep {
    /// To `x` (T, C), the taps (K, C) and the bias (C).
    pub fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let gpu = &self.gpu;
        let (grad, x) = (grad.gpu_values(gpu)?, self.x.gpu_values(gpu)?);
        let conv = self.conv.made()?;
        let [to_x, taps, bias] =
            conv.backward(grad, x, &self.before, &self.segments, self.wanted)?;
        let channels = self.x.width();
        Ok([
            to_x.map(|to_x| Tensor::on_gpu(gpu, to_x, self.x.dims())),
            taps.map(|taps| {
                let shape = [taps.len() / channels, channels];
                Tensor::on_gpu(gpu, taps, &shape)
            }),
            bias.map(|bias| Tensor::on_gpu(gpu, bias, &[channels])),
        ])
    }
}

/// A segment's rows.
struct Part<'a> {
    x: &'a [f32],
    before: &'a [f32],
}

impl Step {
    /// To `x` (T, C), the taps (K, C) and the bias (C).
    pub fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let channels = self.conv.bias.len();
        let (out, sums) = with_slices([grad, &self.x], |[grad, x]| {
            let mut out = unwritten(x.len());
            let (mut rest, mut from) = (&mut out[..], 0);
            let mut sums = Vec::new();
            for (segment, before) in self.segments.iter().zip(&self.before) {
                let len = segment.len * channels;
                let (out, later) = rest.split_at_mut(len);
                let x = &x[from..from + len];
                let inner = self.inner(&grad[from..from + len], &Part { x, before });
                let grad = inner.as_deref().unwrap_or(&grad[from..from + len]);
                out.par_chunks_mut(ROWS * channels)
                    .enumerate()
                    .for_each(|(i, out)| {
                        let (taps, reversed) = (&self.conv.taps, self.conv.reversed);
                        to_input(out, grad, taps, channels, i * ROWS, reversed);
                    });
                if self.weights {
                    sums.push(self.to_weights(grad, &Part { x, before }));
                }
                (rest, from) = (later, from + len);
            }
            Ok((out, total(sums)))
        })?;
        let device = self.x.device();
        let out = Some(Tensor::from_vec(out, self.x.dims(), device)?);
        if !self.weights {
            return Ok([out, None, None]);
        }
        let (taps, bias) = sums.split_at(self.conv.taps.len());
        let taps = Tensor::from_slice(taps, (taps.len() / channels, channels), device)?;
        let bias = Tensor::from_slice(bias, channels, device)?;
        Ok([out, Some(taps), Some(bias)])
    }

    /// The gradient before the activation, where there is one: what went into it is computed again.
    fn inner(&self, grad: &[f32], part: &Part) -> Option<Vec<f32>> {
        let conv = &self.conv;
        if conv.activation == Activation::None {
            return None;
        }
        let tile = ROWS * conv.bias.len();
        let mut out = unwritten(grad.len());
        out.par_chunks_mut(tile)
            .zip(grad.par_chunks(tile))
            .enumerate()
            .for_each(|(i, (out, grad))| {
                let mut inner = unwritten(out.len());
                let first = i * ROWS;
                convolve(
                    conv,
                    &mut inner,
                    part.x,
                    part.before,
                    first,
                    Activation::None,
                );
                slopes(out, grad, &inner, conv.activation);
            });
        Some(out)
    }

    /// To the taps (K, C), and behind them the bias (C).
    fn to_weights(&self, grad: &[f32], part: &Part) -> Vec<f32> {
        let channels = self.conv.bias.len();
        let blocks = grad.par_chunks(BLOCK * channels).enumerate();
        let sums = blocks.map(|(i, grad)| {
            let mut sums = vec![0.0; self.conv.taps.len() + channels];
            let (taps, bias) = sums.split_at_mut(self.conv.taps.len());
            let first = i * BLOCK;
            correlate(
                taps,
                bias,
                grad,
                part.x,
                part.before,
                first,
                self.conv.reversed,
            );
            sums
        });
        total(sums.collect())
    }
}

simd! {
/// Rows `first..` of the gradient to the input. In the order of reading, tap j brings the input at
/// p to the output at p + K − 1 − j.
fn to_input(out: &mut [f32], grad: &[f32], taps: &[f32], channels: usize, first: usize, reversed: bool) {
    let (kernel, rows) = (taps.len() / channels, grad.len() / channels);
    for (i, out) in out.chunks_exact_mut(channels).enumerate() {
        out.fill(0.0);
        let place = if reversed { rows - 1 - first - i } else { first + i };
        for (j, taps) in taps.chunks_exact(channels).enumerate() {
            let to = place + kernel - 1 - j;
            if to >= rows {
                continue;
            }
            let row = if reversed { rows - 1 - to } else { to };
            let grad = &grad[row * channels..][..channels];
            for ((out, grad), tap) in out.iter_mut().zip(grad).zip(taps) {
                *out += grad * tap;
            }
        }
    }
}
}

simd! {
/// Adds what the outputs `first..`, whose gradient is `grad`, contribute to taps and bias.
fn correlate(taps: &mut [f32], bias: &mut [f32], grad: &[f32], x: &[f32], before: &[f32], first: usize, reversed: bool) {
    let channels = bias.len();
    let (kernel, rows) = (taps.len() / channels, x.len() / channels);
    for (i, grad) in grad.chunks_exact(channels).enumerate() {
        for (bias, grad) in bias.iter_mut().zip(grad) {
            *bias += grad;
        }
        let place = if reversed { rows - 1 - first - i } else { first + i };
        for (j, taps) in taps.chunks_exact_mut(channels).enumerate() {
            let row = place + j;
            let x = match row.checked_sub(kernel - 1) {
                Some(row) if reversed => &x[(rows - 1 - row) * channels..][..channels],
                Some(row) => &x[row * channels..][..channels],
                None => &before[row * channels..][..channels],
            };
            for ((tap, x), grad) in taps.iter_mut().zip(x).zip(grad) {
                *tap += x * grad;
            }
        }
    }
}
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check, close, random, wide};
    use crate::ops::{Activation, ShortConv, Tensor};
    use crate::sequence::Segment;

    const C: usize = 3;

    fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
        Segment {
            lane,
            len,
            starts,
            ends,
        }
    }

    /// The convolution of one segment by its formula, from the rows before it.
    fn plain(before: &[f64], x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let all = [before, x].concat();
        let kernel = weight.len() / C;
        let rows = x.len() / C;
        let at = |t: usize, c: usize| -> f64 {
            let taps = (0..kernel).map(|j| weight[c * kernel + j] * all[(t + j) * C + c]);
            let z = bias[c] + taps.sum::<f64>();
            z / (1.0 + (-z).exp())
        };
        (0..rows)
            .flat_map(|t| (0..C).map(move |c| (t, c)))
            .map(|(t, c)| at(t, c))
            .collect()
    }

    fn flip(x: &[f64]) -> Vec<f64> {
        x.chunks(C).rev().flatten().copied().collect()
    }

    #[test]
    fn gradients_equal_differences_of_a_plain_f64_loop() {
        for (kernel, reversed) in [(1, false), (4, false), (4, true), (3, true)] {
            // Lane 0 was left by a segment of two rows; then three segments share a step.
            let carried = random(&[2, C], 9);
            let segments = [
                segment(1, 3, true, true),
                segment(0, 7, false, false),
                segment(1, 90, true, false),
            ];
            let inputs = [
                random(&[100, C], 1),
                random(&[C, 1, kernel], 2),
                random(&[C], 3),
            ];
            let op = |x: &[Tensor]| {
                let conv = ShortConv::new(&x[1], Some(&x[2]), Activation::Silu)?;
                let conv = if reversed { conv.reversed() } else { conv };
                let mut tail = conv.start(2);
                conv.forward(&carried, &mut tail, &[segment(0, 2, true, false)])?;
                conv.forward(&x[0], &mut tail, &segments)
            };
            let zeros = vec![0.0; (kernel - 1) * C];
            let mut before = wide(&carried);
            if reversed {
                before = flip(&before);
            }
            let before = [zeros.clone(), before].concat();
            let before = before[before.len() - zeros.len()..].to_vec();
            check(&inputs, 2e-5, op, |x| {
                let parts = [(0, 3, &zeros), (3, 7, &before), (10, 90, &zeros)];
                let parts = parts.map(|(from, len, before)| {
                    let part = &x[0][from * C..][..len * C];
                    if reversed {
                        flip(&plain(before, &flip(part), &x[1], &x[2]))
                    } else {
                        plain(before, part, &x[1], &x[2])
                    }
                });
                parts.concat()
            });
        }
    }

    #[test]
    fn pieces_of_a_sequence_sum_to_the_gradients_of_the_whole() {
        let (rows, kernel) = (2500, 4);
        let x = random(&[rows, C], 1);
        let weight = random(&[C, 1, kernel], 2).parameter();
        let bias = random(&[C], 3).parameter();
        let seed = random(&[rows, C], 4);
        let conv = ShortConv::new(&weight, Some(&bias), Activation::GeluErf).unwrap();
        let gradients = |cuts: &[usize]| {
            let (mut tail, mut from) = (conv.start(1), 0);
            let mut sums = [vec![0.0; C * kernel], vec![0.0; C]];
            for &to in cuts {
                let piece = [segment(0, to - from, from == 0, to == rows)];
                let x = x.narrow(0, from, to - from).unwrap();
                let out = conv.forward(&x, &mut tail, &piece).unwrap();
                let seed = seed.narrow(0, from, to - from).unwrap();
                let found = out.backward(seed).unwrap();
                for (sum, parameter) in sums.iter_mut().zip([&weight, &bias]) {
                    let part = wide(found.of(parameter).unwrap());
                    sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
                }
                from = to;
            }
            sums
        };
        let whole = gradients(&[rows]);
        for (found, expected) in gradients(&[1, 3, 700, rows]).iter().zip(&whole) {
            close("weights", found, expected, 1e-5);
        }
    }
}
