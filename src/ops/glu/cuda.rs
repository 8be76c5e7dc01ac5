//! The gated linear unit on a GPU, and its gradient.

use crate::error::Result;
use crate::ops::cuda::{Floats, Gpu, Source, expect_len, vector};
use cudarc::driver::CudaSlice;

pub(in crate::ops) const KERNELS: Source = Source::new("glu/kernel.cu", include_str!("kernel.cu"));

/// `residual + a · sigmoid(b)`: (T, C) of `x` (T, 2C) of either type, whose halves are a and b.
pub fn glu_residual(
    gpu: &Gpu,
    x: Floats,
    residual: &CudaSlice<f32>,
    width: usize,
) -> Result<CudaSlice<f32>> {
    let rows = residual.len() / width.max(1);
    expect_len("residual", residual, rows * width)?;
    x.expect_len("gated linear unit", 2 * rows * width)?;
    let out = gpu.unwritten(rows * width)?;
    let lanes = vector(width);
    gpu.kernel(KERNELS, &format!("glu_{}_{lanes}", x.name()))?
        .array(&out)
        .floats(x)
        .array(residual)
        .long(rows)
        .int(width)
        .over(rows * width / lanes)?;
    Ok(out)
}

/// The gradient of a gated linear unit to `x` (T, 2C); `grad` is (T, C).
pub fn glu_slopes(
    gpu: &Gpu,
    grad: &CudaSlice<f32>,
    x: &CudaSlice<f32>,
    width: usize,
) -> Result<CudaSlice<f32>> {
    let rows = grad.len() / width.max(1);
    expect_len("gradient", grad, rows * width)?;
    expect_len("gated linear unit", x, 2 * rows * width)?;
    let out = gpu.unwritten(x.len())?;
    let lanes = vector(width);
    gpu.kernel(KERNELS, &format!("glu_slopes_{lanes}"))?
        .array(&out)
        .array(grad)
        .array(x)
        .long(rows)
        .int(width)
        .over(rows * width / lanes)?;
    Ok(out)
}
