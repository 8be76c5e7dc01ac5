//! The gated linear unit.

use super::{Device, cuda, expect_shape, math, math::simd, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a tile.
const ROWS: usize = 64;

/// `residual + a · sigmoid(b)`: (T, C) of `x` (T, 2C), whose halves are a and b, and of `residual`
/// (T, C). Dauphin et al. 2017, arXiv:1612.08083.
pub fn glu_residual(x: &Tensor, residual: &Tensor) -> Result<Tensor> {
    let (rows, width) = residual.dims2()?;
    expect_shape("gated linear unit", x, &[rows, 2 * width])?;
    if let Device::Cuda(gpu) = x.device() {
        let (values, added) = (x.gpu_values(gpu)?, residual.gpu_values(gpu)?);
        let out = cuda::glu_residual(gpu, values, added, width)?;
        let out = Tensor::on_gpu(gpu, out, &[rows, width]);
        let (gpu, kept) = (Arc::clone(gpu), x.detach());
        return Ok(out.derived([x, residual], move |grad| {
            let (x, inner) = (kept.gpu_values(&gpu)?, grad.gpu_values(&gpu)?);
            let inner = cuda::glu_slopes(&gpu, inner, x, width)?;
            let inner = Tensor::on_gpu(&gpu, inner, kept.dims());
            Ok([Some(inner), Some(grad.clone())])
        }));
    }
    let out = with_slices([x, residual], |[x, residual]| {
        let mut out = unwritten(rows * width);
        out.par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(2 * ROWS * width))
            .zip(residual.par_chunks(ROWS * width))
            .for_each(|((out, x), residual)| glus(out, x, residual, width));
        Ok(out)
    })?;
    let out = Tensor::from_vec(out, (rows, width), x.device())?;
    let kept = x.detach();
    Ok(out.derived([x, residual], move |grad| {
        let inner = with_slices([grad, &kept], |[grad, x]| {
            let mut out = unwritten(x.len());
            out.par_chunks_mut(2 * ROWS * width)
                .zip(x.par_chunks(2 * ROWS * width))
                .zip(grad.par_chunks(ROWS * width))
                .for_each(|((out, x), grad)| slopes(out, x, grad, width));
            Ok(out)
        })?;
        let inner = Tensor::from_vec(inner, kept.dims(), kept.device())?;
        Ok([Some(inner), Some(grad.clone())])
    }))
}

simd! {
fn glus(out: &mut [f32], x: &[f32], residual: &[f32], width: usize) {
    let rows = out.chunks_exact_mut(width).zip(residual.chunks_exact(width));
    for ((out, residual), x) in rows.zip(x.chunks_exact(2 * width)) {
        let (a, b) = x.split_at(width);
        for ((out, residual), (a, b)) in out.iter_mut().zip(residual).zip(a.iter().zip(b)) {
            *out = residual + a * math::sigmoid(*b);
        }
    }
}
}

simd! {
fn slopes(out: &mut [f32], x: &[f32], grad: &[f32], width: usize) {
    let rows = out.chunks_exact_mut(2 * width).zip(grad.chunks_exact(width));
    for ((out, grad), x) in rows.zip(x.chunks_exact(2 * width)) {
        let (to_a, to_b) = out.split_at_mut(width);
        let (a, b) = x.split_at(width);
        let outs = to_a.iter_mut().zip(to_b).zip(grad);
        for (((to_a, to_b), grad), (a, b)) in outs.zip(a.iter().zip(b)) {
            let sigmoid = math::sigmoid(*b);
            *to_a = grad * sigmoid;
            *to_b = grad * a * sigmoid * (1.0 - sigmoid);
        }
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::gradient::check::{check, random};
    use crate::ops::{Device, gelu_erf};

    #[test]
    fn gradients_equal_differences_of_a_plain_f64_loop() {
        let inputs = [random(&[70, 10], 1), random(&[70, 5], 2)];
        let op = |x: &[Tensor]| glu_residual(&x[0], &x[1]);
        check(&inputs, 1e-5, op, |x| {
            let rows = x[0].chunks(10).zip(x[1].chunks(5));
            let glu = |x: &[f64], i: usize| x[i] / (1.0 + (-x[5 + i]).exp());
            rows.flat_map(|(x, r)| (0..5).map(move |i| r[i] + glu(x, i)))
                .collect()
        });
    }

    #[test]
    fn values_equal_candle_s() {
        let values: Vec<f32> = (0..150 * 14)
            .map(|i| (i as f32 * 0.7).sin() * 4.0)
            .collect();
        let x = Tensor::from_vec(values, (150, 14), &Device::Cpu).unwrap();
        let (a, b) = (x.narrow(1, 0, 7).unwrap(), x.narrow(1, 7, 7).unwrap());
        let residual = a.affine(0.3, 0.0).unwrap();
        let candle = |x: &Tensor| x.stored().unwrap();
        let sigmoid = (candle(&b).neg().unwrap().exp().unwrap() + 1.0).unwrap();
        let glu = (candle(&residual) + (candle(&a) / sigmoid).unwrap()).unwrap();
        for (found, expected) in [
            (gelu_erf(&x).unwrap(), candle(&x).gelu_erf().unwrap()),
            (glu_residual(&x, &residual).unwrap(), glu),
        ] {
            let error = (candle(&found) - expected)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap();
            assert!(error.to_scalar::<f32>().unwrap() < 2e-6);
        }
        assert!(glu_residual(&x, &x).is_err());
    }
}
