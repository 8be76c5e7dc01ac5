//! What surrounds a projection to twice the width: GELU before it, a gated linear unit after it.

use super::{Activation, Device, cuda, expect_shape, math, math::simd, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use rayon::prelude::*;

/// Rows of a tile.
const ROWS: usize = 64;

/// GELU as defined, by the error function, of each value.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    let width = x.width();
    if let Device::Cuda(gpu) = x.device() {
        let out = cuda::activate(gpu, x.gpu_values(gpu)?, Activation::GeluErf)?;
        return Ok(Tensor::on_gpu(gpu, out, x.dims()));
    }
    let out = with_slices([x], |[x]| {
        let mut out = unwritten(x.len());
        out.par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * width))
            .for_each(|(out, x)| gelus(out, x));
        Ok(out)
    })?;
    Tensor::from_vec(out, x.dims(), x.device())
}

simd! {
fn gelus(out: &mut [f32], x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = math::gelu_erf(*x);
    }
}
}

/// `residual + a · sigmoid(b)`: (T, C) of `x` (T, 2C), whose halves are a and b, and of `residual`
/// (T, C). Dauphin et al. 2017, arXiv:1612.08083.
pub fn glu_residual(x: &Tensor, residual: &Tensor) -> Result<Tensor> {
    let (rows, width) = residual.dims2()?;
    expect_shape("gated linear unit", x, &[rows, 2 * width])?;
    if let Device::Cuda(gpu) = x.device() {
        let (x, residual) = (x.gpu_values(gpu)?, residual.gpu_values(gpu)?);
        let out = cuda::glu_residual(gpu, x, residual, width)?;
        return Ok(Tensor::on_gpu(gpu, out, &[rows, width]));
    }
    let out = with_slices([x, residual], |[x, residual]| {
        let mut out = unwritten(rows * width);
        out.par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(2 * ROWS * width))
            .zip(residual.par_chunks(ROWS * width))
            .for_each(|((out, x), residual)| glus(out, x, residual, width));
        Ok(out)
    })?;
    Tensor::from_vec(out, (rows, width), x.device())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Device;

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
