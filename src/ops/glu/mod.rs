//! The gated linear unit.

pub(super) mod cuda;

use super::{Device, expect_shape, math, math::simd, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::timing;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a tile.
const ROWS: usize = 64;

/// `residual + a · sigmoid(b)`: (T, C) of `x` (T, 2C), whose halves are a and b, and of `residual`
/// (T, C). Dauphin et al. 2017, arXiv:1612.08083.
pub fn glu_residual(x: &Tensor, residual: &Tensor) -> Result<Tensor> {
    let _span = timing::span("gate");
    let (rows, width) = residual.dims2()?;
    expect_shape("gated linear unit", x, &[rows, 2 * width])?;
    if let Device::Cuda(gpu) = x.device() {
        let (values, added) = (x.gpu_floats(gpu)?, residual.gpu_values(gpu)?);
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
            *out = residual + a * math::sigmoid::<FMA>(*b);
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
            let sigmoid = math::sigmoid::<FMA>(*b);
            *to_a = grad * sigmoid;
            *to_b = grad * a * sigmoid * (1.0 - sigmoid);
        }
    }
}
}

#[cfg(test)]
mod tests;
