//! Short causal depthwise convolution that carries its last inputs from call to call.

mod backward;
pub(super) mod cuda;

use super::cuda::{Carried, Floats, OnGpu};
use super::{
    Activation, Device, expect_branchable, expect_shape, math, math::mul_add, math::simd,
    unwritten, with_slices,
};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::Gpu;
use crate::ops::timing;
use crate::sequence::{Branch, Segment};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Rows of a tile.
const ROWS: usize = 64;
/// Rows and channels whose sums stay in registers while all taps pass: of 128 taps 4 times as fast as
/// a row of sums in memory to which each tap is added.
const TOGETHER: usize = 8;
const LANES: usize = 16;

/// `y[t, c] = bias[c] + Σ_j weight[c, j] · x[t − (K−1) + j, c]`, zeros before a sequence's start.
#[derive(Clone, Debug)]
pub struct ShortConv {
    taps: Vec<f32>, // (K, C): the last row multiplies the current token
    bias: Vec<f32>, // (C)
    activation: Activation,
    reversed: bool,
    /// Taps (K, C) and bias (C) as tensors, if gradients pass to either.
    tracked: Option<[Tensor; 2]>,
    on_gpu: OnGpu<cuda::ShortConv>,
}

/// The last K−1 inputs of each lane's unfinished sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tail {
    rows: Vec<f32>, // (lanes, K−1, C)
    /// On a GPU these instead.
    on_gpu: Carried<cuda::Tail>,
}

impl ShortConv {
    /// `weight` (C, 1, K) as PyTorch stores a depthwise convolution, `bias` (C).
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Self> {
        let (channels, _, taps) = weight.dims3()?;
        let taps = weight.reshape((channels, taps))?.t()?;
        let bias = match bias {
            Some(bias) => bias.clone(),
            None => Tensor::zeros(channels, &Device::Cpu)?,
        };
        let tracked = taps.is_tracked() || bias.is_tracked();
        Ok(Self {
            taps: taps.flatten_all()?.to_vec1()?,
            bias: bias.to_vec1()?,
            activation,
            reversed: false,
            tracked: tracked.then_some([taps, bias]),
            on_gpu: OnGpu::default(),
        })
    }

    /// The same convolution from the last row of each segment to its first. A segment then
    /// `starts` at the sequence's right end.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.reversed = true;
        self
    }

    /// Zeros for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Tail {
        Tail {
            rows: vec![0.0; lanes * self.tail_len()],
            on_gpu: Carried::default(),
        }
    }

    /// Lanes that go on from lanes of other tails.
    ///
    /// # Errors
    /// Internal: one of them lies on a GPU.
    pub fn fork(&self, from: &[(&Tail, usize)]) -> Result<Tail> {
        let len = self.tail_len();
        let rows = from.iter();
        let rows = rows.flat_map(|(tail, lane)| &tail.rows[lane * len..][..len]);
        Ok(Tail {
            rows: rows.copied().collect(),
            on_gpu: Carried::forked(from.iter().map(|(tail, _)| &tail.on_gpu))?,
        })
    }

    /// (T, C) to (T, C).
    pub fn forward(&self, x: &Tensor, tail: &mut Tail, segments: &[Segment]) -> Result<Tensor> {
        self.forward_branched(x, tail, segments, &[])
    }

    /// The same of a step with branches, which is for GPUs.
    ///
    /// # Errors
    /// Internal: there are branches on the CPU, or where gradients pass.
    pub fn forward_branched(
        &self,
        x: &Tensor,
        tail: &mut Tail,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        let _span = timing::span("short convolution");
        let channels = self.bias.len();
        let rows = x.dim(0)?;
        expect_shape("short convolution", x, &[rows, channels])?;
        let constant = x.detach(); // in the place of what is not differentiated
        let [taps, bias] = match &self.tracked {
            Some([taps, bias]) => [taps, bias],
            None => [&constant; 2],
        };
        let kept = x.is_tracked() || self.tracked.is_some();
        expect_branchable(x, kept || self.reversed, branches)?;
        if let Device::Cuda(gpu) = x.device() {
            let (conv, tail) = self.lent(gpu, tail)?;
            let before = kept.then(|| tail.fork(gpu)).transpose()?;
            let Some(before) = before else {
                // What was rounded for it, it gives on rounded.
                return Ok(match x.gpu_floats(gpu)? {
                    Floats::F32(values) => {
                        let out = conv.forward(values, tail, segments, branches)?;
                        Tensor::on_gpu(gpu, out, x.dims())
                    }
                    Floats::Bf16(values) => {
                        let out = conv.forward(values, tail, segments, branches)?;
                        Tensor::rounded_on_gpu(gpu, out, x.dims())
                    }
                });
            };
            let out = conv.forward(x.gpu_values(gpu)?, tail, segments, branches)?;
            let out = Tensor::on_gpu(gpu, out, x.dims());
            let step = backward::GpuStep {
                gpu: Arc::clone(gpu),
                conv: self.on_gpu.clone(),
                x: constant.clone(),
                segments: segments.to_vec(),
                before,
                wanted: [taps, bias].map(Tensor::is_tracked),
            };
            return Ok(out.derived([x, taps, bias], move |grad| step.backward(grad)));
        }
        let mut before = Vec::new();
        let out = with_slices([x], |[x]| {
            let mut out = unwritten(x.len());
            let mut from = 0;
            let mut rest = &mut out[..];
            for segment in segments {
                let x = &x[from * channels..][..segment.len * channels];
                let (out, later) = rest.split_at_mut(x.len());
                let rows = self.segment(out, x, tail, segment);
                before.extend(kept.then_some(rows));
                rest = later;
                from += segment.len;
            }
            Ok(out)
        })?;
        let out = Tensor::from_vec(out, x.dims(), x.device())?;
        if !kept {
            return Ok(out);
        }
        let step = backward::Step {
            conv: self.clone(),
            x: constant.clone(),
            segments: segments.to_vec(),
            before,
            weights: self.tracked.is_some(),
        };
        Ok(out.derived([x, taps, bias], move |grad| step.backward(grad)))
    }

    /// This convolution on the GPU and the tails there, for an op that convolves as it reads.
    pub(super) fn lent<'a>(
        &'a self,
        gpu: &Arc<Gpu>,
        tail: &'a mut Tail,
    ) -> Result<(&'a cuda::ShortConv, &'a mut cuda::Tail)> {
        let conv = self.on_gpu.get(|| self.to_gpu(gpu))?;
        let lanes = (tail.rows.len() / self.tail_len().max(1)).max(1);
        tail.on_gpu.resume(gpu)?;
        let tail = tail
            .on_gpu
            .own(|| conv.start(lanes), |tail| tail.fork(gpu))?;
        Ok((conv, tail))
    }

    /// Whether gradients pass to taps or bias.
    pub(super) fn is_tracked(&self) -> bool {
        self.tracked.is_some()
    }

    fn to_gpu(&self, gpu: &Arc<Gpu>) -> Result<cuda::ShortConv> {
        let channels = self.bias.len();
        let taps = self.taps.len() / channels;
        let weight = (0..channels).flat_map(|c| self.taps.iter().skip(c).step_by(channels));
        let weight: Vec<f32> = weight.copied().collect(); // (C, K)
        let (bias, activation) = (&self.bias, self.activation);
        cuda::ShortConv::new(gpu, &weight, taps, bias, activation, self.reversed)
    }

    /// Gives the K−1 rows before the segment.
    fn segment(&self, out: &mut [f32], x: &[f32], tail: &mut Tail, segment: &Segment) -> Vec<f32> {
        let channels = self.bias.len();
        let len = self.tail_len();
        // What came before this segment: the lane's tail, zeros at a sequence's start.
        let before = if segment.starts {
            vec![0.0; len]
        } else {
            tail.rows[segment.lane * len..][..len].to_vec()
        };
        out.par_chunks_mut(ROWS * channels)
            .enumerate()
            .for_each(|(i, out)| {
                convolve(self, out, x, &before, i * ROWS, self.activation);
            });
        if !segment.ends {
            let tail = &mut tail.rows[segment.lane * len..][..len];
            let kept = len.saturating_sub(x.len());
            tail[..kept].copy_from_slice(&before[len - kept..]);
            let fresh = &mut tail[kept..];
            if self.reversed {
                // The rows scanned last are the first ones.
                fresh
                    .chunks_exact_mut(channels)
                    .rev()
                    .zip(x.chunks_exact(channels))
                    .for_each(|(tail, x)| tail.copy_from_slice(x))
            } else {
                fresh.copy_from_slice(&x[x.len() - (len - kept)..])
            }
        }
        before
    }

    /// Values of one lane's tail: (K−1) · C.
    fn tail_len(&self) -> usize {
        self.taps.len() - self.bias.len()
    }
}

/// Rows `first..` of the convolution of [before | x], where `x` is read backwards if it is reversed.
fn convolve(
    conv: &ShortConv,
    out: &mut [f32],
    x: &[f32],
    before: &[f32],
    first: usize,
    activation: Activation,
) {
    let channels = conv.bias.len();
    let (rows, own) = (x.len() / channels, out.len() / channels);
    let reach = before.len() / channels; // K − 1
    // What these rows read, as it lies in memory: rows before them, or behind them if reversed.
    let within = if conv.reversed {
        Some(first).filter(|first| first + own + reach <= rows)
    } else {
        first.checked_sub(reach)
    };
    if let Some(from) = within {
        let window = &x[from * channels..][..(own + reach) * channels];
        return taps(conv, out, window, activation);
    }
    let mut window = Vec::with_capacity((own + reach) * channels);
    if conv.reversed {
        window.extend_from_slice(&x[first * channels..]);
        window.truncate((own + reach) * channels);
        let beyond = before.chunks_exact(channels).rev().flatten();
        window.extend(beyond.take((own + reach) * channels - window.len()));
    } else {
        window.extend_from_slice(&before[first * channels..]);
        window.extend_from_slice(&x[..(first + own) * channels]);
    }
    taps(conv, out, &window, activation);
}

simd! {
/// Sums of `window`, which has K − 1 rows more than `out`: in the order of reading, so that both
/// directions give the same bits.
fn taps(conv: &ShortConv, out: &mut [f32], window: &[f32], activation: Activation) {
    let ShortConv { taps, bias, .. } = conv;
    let channels = bias.len();
    let kernel = taps.len() / channels;
    let rows = out.len() / channels;
    assert!(window.len() == (rows + kernel - 1) * channels && taps.len() == kernel * channels);
    // Which row of the window a tap multiplies, after the output's own.
    let place = |tap: usize| if conv.reversed { kernel - 1 - tap } else { tap };
    let blocks = (rows / TOGETHER * TOGETHER, channels / LANES * LANES);
    for row in (0..blocks.0).step_by(TOGETHER) {
        for channel in (0..blocks.1).step_by(LANES) {
            let mut sums = [[0.0f32; LANES]; TOGETHER];
            sums.iter_mut().for_each(|sums| sums.copy_from_slice(&bias[channel..][..LANES]));
            for tap in 0..kernel {
                let from = (row + place(tap)) * channels + channel;
                // SAFETY: row + place + TOGETHER − 1 is less than the window's rows, tap than the
                // taps', and channel + LANES no more than the channels; their lengths are asserted.
                let (x, tap) = unsafe {
                    let tap = &*taps.as_ptr().add(tap * channels + channel).cast::<[f32; LANES]>();
                    (window.as_ptr().add(from), tap)
                };
                for (row, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: as above.
                    let x = unsafe { &*x.add(row * channels).cast::<[f32; LANES]>() };
                    for lane in 0..LANES {
                        sums[lane] = mul_add::<FMA>(x[lane], tap[lane], sums[lane]);
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                out[(row + i) * channels + channel..][..LANES].copy_from_slice(sums);
            }
        }
    }
    for (row, out) in out.chunks_exact_mut(channels).enumerate() {
        // What is left of a row that stands in a block, or all of another.
        let from = if row < blocks.0 { blocks.1 } else { 0 };
        let out = &mut out[from..];
        out.copy_from_slice(&bias[from..]);
        for (tap, taps) in taps.chunks_exact(channels).enumerate() {
            let x = &window[(row + place(tap)) * channels..][..channels];
            for ((out, x), tap) in out.iter_mut().zip(&x[from..]).zip(&taps[from..]) {
                *out = mul_add::<FMA>(*x, *tap, *out);
            }
        }
    }
    match activation {
        Activation::None => {}
        Activation::Silu => out.iter_mut().for_each(|x| *x = math::silu::<FMA>(*x)),
        Activation::GeluErf => out.iter_mut().for_each(|x| *x = math::gelu_erf::<FMA>(*x)),
        Activation::GeluTanh => out.iter_mut().for_each(|x| *x = math::gelu_tanh::<FMA>(*x)),
    }
}
}

#[cfg(test)]
mod tests;
