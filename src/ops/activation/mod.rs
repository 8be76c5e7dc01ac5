//! Activations by themselves, and their gradients.

pub(super) mod cuda;

use super::{Activation, Device, math, math::simd, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use rayon::prelude::*;

/// Values of a tile.
const TILE: usize = 1 << 14;

/// GELU as defined, by the error function, of each value.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    activate(x, Activation::GeluErf)
}

/// The activation of each value.
pub(super) fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let out = match x.device() {
        Device::Cuda(gpu) => {
            let out = cuda::activate(gpu, x.gpu_values(gpu)?, activation)?;
            Tensor::on_gpu(gpu, out, x.dims())
        }
        Device::Cpu => {
            let out = with_slices([x], |[x]| {
                let mut out = unwritten(x.len());
                out.par_chunks_mut(TILE)
                    .zip(x.par_chunks(TILE))
                    .for_each(|(out, x)| apply(out, x, activation));
                Ok(out)
            })?;
            Tensor::from_vec(out, x.dims(), x.device())?
        }
    };
    let kept = x.detach();
    Ok(out.derived([x], move |grad| {
        if let Device::Cuda(gpu) = grad.device() {
            let out = cuda::slopes(
                gpu,
                grad.gpu_values(gpu)?,
                kept.gpu_values(gpu)?,
                activation,
            )?;
            return Ok([Some(Tensor::on_gpu(gpu, out, kept.dims()))]);
        }
        let out = with_slices([grad, &kept], |[grad, x]| {
            let mut out = unwritten(x.len());
            out.par_chunks_mut(TILE)
                .zip(grad.par_chunks(TILE).zip(x.par_chunks(TILE)))
                .for_each(|(out, (grad, x))| slopes(out, grad, x, activation));
            Ok(out)
        })?;
        Ok([Some(Tensor::from_vec(out, kept.dims(), kept.device())?)])
    }))
}

simd! {
fn apply(out: &mut [f32], x: &[f32], activation: Activation) {
    match activation {
        Activation::None => out.copy_from_slice(x),
        Activation::GeluTanh => map(out, x, math::gelu_tanh::<FMA>),
        Activation::GeluErf => map(out, x, math::gelu_erf::<FMA>),
        Activation::Silu => map(out, x, math::silu::<FMA>),
    }
}
}

#[inline(always)]
fn map(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f(*x);
    }
}

simd! {
/// `out = grad · f′(x)`
pub(super) fn slopes(out: &mut [f32], grad: &[f32], x: &[f32], activation: Activation) {
    match activation {
        Activation::None => out.copy_from_slice(grad),
        Activation::GeluTanh => scale(out, grad, x, gelu_tanh_slope::<FMA>),
        Activation::GeluErf => scale(out, grad, x, gelu_erf_slope::<FMA>),
        Activation::Silu => scale(out, grad, x, silu_slope::<FMA>),
    }
}
}

#[inline(always)]
fn scale(out: &mut [f32], grad: &[f32], x: &[f32], slope: impl Fn(f32) -> f32) {
    for ((out, grad), x) in out.iter_mut().zip(grad).zip(x) {
        *out = grad * slope(*x);
    }
}

#[inline(always)]
pub(super) fn silu_slope<const FMA: bool>(x: f32) -> f32 {
    let s = math::sigmoid::<FMA>(x);
    s * (1.0 + x * (1.0 - s))
}

/// Of `x · sigmoid(u)`, `u = 1.595769 (x + 0.044715 x³)`.
#[inline(always)]
fn gelu_tanh_slope<const FMA: bool>(x: f32) -> f32 {
    let s = math::sigmoid::<FMA>(1.595_769 * (x + 0.044_715 * x * x * x));
    s * (1.0 + x * (1.0 - s) * 1.595_769 * (1.0 + 0.134_145 * x * x))
}

/// `Φ(x) + x φ(x)`
#[inline(always)]
fn gelu_erf_slope<const FMA: bool>(x: f32) -> f32 {
    math::normal::<FMA>(x) + x * 0.398_942_3 * math::exp::<FMA>(-0.5 * x * x)
}

#[cfg(test)]
mod tests;
