//! Activations by themselves, and their gradients.

use super::{Activation, Device, cuda, math, math::simd, unwritten, with_slices};
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
        Activation::GeluTanh => map(out, x, math::gelu_tanh),
        Activation::GeluErf => map(out, x, math::gelu_erf),
        Activation::Silu => map(out, x, math::silu),
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
        Activation::GeluTanh => scale(out, grad, x, gelu_tanh_slope),
        Activation::GeluErf => scale(out, grad, x, gelu_erf_slope),
        Activation::Silu => scale(out, grad, x, silu_slope),
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
pub(super) fn silu_slope(x: f32) -> f32 {
    let s = math::sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

/// Of `x · sigmoid(u)`, `u = 1.595769 (x + 0.044715 x³)`.
#[inline(always)]
fn gelu_tanh_slope(x: f32) -> f32 {
    let s = math::sigmoid(1.595_769 * (x + 0.044_715 * x * x * x));
    s * (1.0 + x * (1.0 - s) * 1.595_769 * (1.0 + 0.134_145 * x * x))
}

/// `Φ(x) + x φ(x)`
#[inline(always)]
fn gelu_erf_slope(x: f32) -> f32 {
    math::normal(x) + x * 0.398_942_3 * math::exp(-0.5 * x * x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient::check::{close, random, wide};

    #[test]
    fn gradients_equal_differences_in_f64() {
        let x = random(&[300, 70], 1).affine(9.0, 0.0).unwrap().parameter();
        let ones = x.affine(0.0, 1.0).unwrap().detach();
        // Φ by summing its density: trapezoids of 2e-4 err by 1e-9.
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let gelu_tanh = |x: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        };
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let difference = |f: &dyn Fn(f64) -> f64, x: f64| (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
        let slopes = |activation| {
            let out = activate(&x, activation).unwrap();
            wide(out.backward(ones.clone()).unwrap().of(&x).unwrap())
        };
        let expected = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
            wide(&x).into_iter().map(|x| difference(f, x)).collect()
        };
        close("silu", &slopes(Activation::Silu), &expected(&silu), 2e-6);
        close(
            "tanh",
            &slopes(Activation::GeluTanh),
            &expected(&gelu_tanh),
            2e-6,
        );
        // (x Φ)′ = Φ + x φ, and (x Φ)″ = (2 − x²) φ: two differences of the first are the second.
        let step = 1e-2;
        for x in (-600..600).map(|i| f64::from(i) * step) {
            let [low, high] = [x, x + step].map(|x| f64::from(gelu_erf_slope(x as f32)));
            let middle = x + step / 2.0;
            let curvature = (2.0 - middle * middle) * density(middle);
            assert!(((high - low) / step - curvature).abs() < 2e-4, "{x}");
        }
        assert!((gelu_erf_slope(0.0) - 0.5).abs() < 1e-6);
        assert!(gelu_erf_slope(-20.0).abs() < 1e-30 && (gelu_erf_slope(20.0) - 1.0).abs() < 1e-6);
    }
}
