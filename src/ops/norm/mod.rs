//! Layer and root-mean-square normalisation over the last dimension, in f32.

mod backward;
pub(super) mod cuda;

use super::{Device, expect_shape, math, math::simd, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::{Element, Gpu};
use crate::ops::timing;
use cudarc::driver::CudaSlice;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a tile: enough work for a task, small enough for the L2 cache.
const ROWS: usize = 64;

/// `(x − mean) / √(var + eps) · weight + bias`, biased variance (Ba et al. 2016, arXiv:1607.06450).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor, // (D)
    bias: Tensor,   // (D)
    eps: f32,
}

impl LayerNorm {
    /// Both `weight` and `bias` are (D).
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self {
            weight,
            bias,
            eps: eps as f32,
        }
    }

    /// The weight and the bias.
    pub(super) fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    pub(super) fn eps(&self) -> f32 {
        self.eps
    }

    /// An error unless rows of `x` have this norm's width.
    pub(super) fn expect(&self, x: &Tensor) -> Result<()> {
        expect_shape("layer norm weight", &self.weight, &[x.width()])
    }

    /// (…, D) to (…, D).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let _span = timing::span("norm");
        self.expect(x)?;
        if let Device::Cuda(gpu) = x.device() {
            let (weight, bias) = (self.weight.gpu_values(gpu)?, self.bias.gpu_values(gpu)?);
            let out = cuda::layer_norm(gpu, x.gpu_values(gpu)?, weight, bias, self.eps)?;
            return Ok(self.derived(Tensor::on_gpu(gpu, out, x.dims()), x));
        }
        self.on_cpu(x)
    }

    /// The same, for matrix products alone: on a GPU whose products take bf16, it is bf16 already.
    pub fn forward_to_product(&self, x: &Tensor) -> Result<Tensor> {
        match x.device() {
            Device::Cuda(gpu) if gpu.rounded() => {
                expect_shape("layer norm weight", &self.weight, &[x.width()])?;
                let (weight, bias) = (self.weight.gpu_values(gpu)?, self.bias.gpu_values(gpu)?);
                let out = cuda::layer_norm(gpu, x.gpu_values(gpu)?, weight, bias, self.eps)?;
                Ok(self.derived(Tensor::rounded_on_gpu(gpu, out, x.dims()), x))
            }
            _ => self.forward(x),
        }
    }

    fn on_cpu(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.elem_count();
        let out = with_slices([x, &self.weight, &self.bias], |[x, weight, bias]| {
            let mut out = unwritten(x.len());
            out.par_chunks_mut(ROWS * width)
                .zip(x.par_chunks(ROWS * width))
                .for_each(|(out, x)| layer_norm(out, x, weight, bias, self.eps));
            Ok(out)
        })?;
        Ok(self.derived(Tensor::from_vec(out, x.dims(), x.device())?, x))
    }

    fn derived(&self, out: Tensor, x: &Tensor) -> Tensor {
        let backward = backward::layer_norm([x, &self.weight], self.eps);
        out.derived([x, &self.weight, &self.bias], backward)
    }
}

simd! {
pub(super) fn layer_norm(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    let width = weight.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let mean = sum(x, |x| x) / width as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = (x - mean) * scale * weight + bias;
        }
    }
}
}

/// `x / rms(x) · weight` (Zhang & Sennrich 2019, arXiv:1910.07467).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor, // (D)
    /// Inside the root: `√(mean(x²) + eps)`.
    inside: f32,
    /// Outside the root: `√mean(x²) + eps`, as StripedHyena does.
    outside: f32,
}

impl RmsNorm {
    /// `eps` is added to the mean square, inside the root (Mamba, Llama).
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self {
            weight,
            inside: eps as f32,
            outside: 0.0,
        }
    }

    /// `eps` is added to the root (StripedHyena).
    pub fn with_eps_outside(weight: Tensor, eps: f64) -> Self {
        Self {
            weight,
            inside: 0.0,
            outside: eps as f32,
        }
    }

    /// The weight.
    pub(super) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// An error unless rows of `x` have this norm's width.
    pub(super) fn expect(&self, x: &Tensor) -> Result<()> {
        expect_shape("norm weight", &self.weight, &[x.width()])
    }

    /// Of rows, with the weight's values, on one thread.
    pub(super) fn rows(&self, out: &mut [f32], x: &[f32], weight: &[f32]) {
        rms_norm(out, x, weight, self.inside, self.outside);
    }

    /// (…, D) to (…, D).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let _span = timing::span("norm");
        self.expect(x)?;
        if let Device::Cuda(gpu) = x.device() {
            let (values, weight) = (x.gpu_values(gpu)?, self.weight.gpu_values(gpu)?);
            let out = cuda::rms_norm(gpu, values, weight, self.inside, self.outside)?;
            return Ok(self.derived(Tensor::on_gpu(gpu, out, x.dims()), x));
        }
        self.on_cpu(x)
    }

    /// The same, for matrix products alone: on a GPU whose products take bf16, it is bf16 already.
    pub fn forward_to_product(&self, x: &Tensor) -> Result<Tensor> {
        match x.device() {
            Device::Cuda(gpu) if gpu.rounded() => {
                self.expect(x)?;
                let (values, weight) = (x.gpu_values(gpu)?, self.weight.gpu_values(gpu)?);
                let out = cuda::rms_norm(gpu, values, weight, self.inside, self.outside)?;
                Ok(self.derived(Tensor::rounded_on_gpu(gpu, out, x.dims()), x))
            }
            _ => self.forward(x),
        }
    }

    fn on_cpu(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.elem_count();
        let out = with_slices([x, &self.weight], |[x, weight]| {
            let mut out = unwritten(x.len());
            out.par_chunks_mut(ROWS * width)
                .zip(x.par_chunks(ROWS * width))
                .for_each(|(out, x)| self.rows(out, x, weight));
            Ok(out)
        })?;
        Ok(self.derived(Tensor::from_vec(out, x.dims(), x.device())?, x))
    }

    fn derived(&self, out: Tensor, x: &Tensor) -> Tensor {
        let backward = backward::rms_norm([x, &self.weight], self.inside, self.outside);
        out.derived([x, &self.weight], backward)
    }
}

simd! {
fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], inside: f32, outside: f32) {
    let width = weight.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let mean_square = sum(x, |x| x * x) / width as f32;
        let scale = 1.0 / ((mean_square + inside).sqrt() + outside);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}
}

/// The RMS norm of `y · silu(gate)`, as Mamba-2 does before its projection out.
#[derive(Clone, Debug)]
pub struct GatedRmsNorm {
    weight: Tensor, // (D)
    groups: usize,
    eps: f32,
}

impl GatedRmsNorm {
    /// `weight` is (D); each of `groups` equal parts of a row is normalised by itself.
    pub fn new(weight: Tensor, groups: usize, eps: f64) -> Self {
        Self {
            weight,
            groups,
            eps: eps as f32,
        }
    }

    /// (T, D) to (T, D).
    pub fn forward(&self, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
        let _span = timing::span("norm");
        self.expect(y, gate)?;
        if let Device::Cuda(gpu) = y.device() {
            let out = Tensor::on_gpu(gpu, self.on_gpu(gpu, y, gate)?, y.dims());
            return Ok(self.derived(out, y, gate));
        }
        let width = self.weight.elem_count();
        let out = with_slices([y, gate, &self.weight], |[y, gate, weight]| {
            let mut out = unwritten(y.len());
            out.par_chunks_mut(ROWS * width)
                .zip(y.par_chunks(ROWS * width))
                .zip(gate.par_chunks(ROWS * width))
                .for_each(|((out, y), gate)| {
                    gated_rms_norm(out, y, gate, weight, width / self.groups, self.eps);
                });
            Ok(out)
        })?;
        let out = Tensor::from_vec(out, y.dims(), y.device())?;
        Ok(self.derived(out, y, gate))
    }

    /// The same, for matrix products alone: on a GPU whose products take bf16, it is bf16 already.
    pub fn forward_to_product(&self, y: &Tensor, gate: &Tensor) -> Result<Tensor> {
        match y.device() {
            Device::Cuda(gpu) if gpu.rounded() => {
                self.expect(y, gate)?;
                let out = Tensor::rounded_on_gpu(gpu, self.on_gpu(gpu, y, gate)?, y.dims());
                Ok(self.derived(out, y, gate))
            }
            _ => self.forward(y, gate),
        }
    }

    fn expect(&self, y: &Tensor, gate: &Tensor) -> Result<()> {
        let width = self.weight.elem_count();
        expect_shape("gated norm", y, &[y.dim(0)?, width])?;
        expect_shape("gate", gate, y.dims())
    }

    fn on_gpu<O: Element>(
        &self,
        gpu: &Arc<Gpu>,
        y: &Tensor,
        gate: &Tensor,
    ) -> Result<CudaSlice<O>> {
        let (values, gates) = (y.gpu_values(gpu)?, gate.gpu_floats(gpu)?);
        let weight = self.weight.gpu_values(gpu)?;
        cuda::gated_rms_norm(gpu, values, gates, weight, self.groups, self.eps)
    }

    fn derived(&self, out: Tensor, y: &Tensor, gate: &Tensor) -> Tensor {
        let parents = [y, gate, &self.weight];
        let backward = backward::gated_rms_norm(parents, self.groups, self.eps);
        out.derived(parents, backward)
    }
}

simd! {
fn gated_rms_norm(out: &mut [f32], y: &[f32], gate: &[f32], weight: &[f32], group: usize, eps: f32) {
    for ((out, y), gate) in out.iter_mut().zip(y).zip(gate) {
        *out = y * math::silu::<FMA>(*gate);
    }
    for row in out.chunks_exact_mut(weight.len()) {
        for (out, weight) in row.chunks_exact_mut(group).zip(weight.chunks_exact(group)) {
            let scale = 1.0 / (sum(out, |x| x * x) / group as f32 + eps).sqrt();
            for (out, weight) in out.iter_mut().zip(weight) {
                *out *= scale * weight;
            }
        }
    }
}
}

/// Sums `f(x)` in 16 lanes: vectorisable, and more exact than one running sum.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut groups = x.chunks_exact(16);
    for group in &mut groups {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane += f(x);
        }
    }
    let rest: f32 = groups.remainder().iter().map(|&x| f(x)).sum();
    across(lanes) + rest
}

/// Sums `x · y`, as [`sum`].
#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (xs, x) = x.as_chunks::<16>();
    let (ys, y) = y.as_chunks::<16>();
    for (x, y) in xs.iter().zip(ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    across(lanes) + x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>()
}

#[inline(always)]
fn across(mut lanes: [f32; 16]) -> f32 {
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests;
