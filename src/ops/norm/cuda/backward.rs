//! Gradients of norms. Rows' statistics are computed again.

use super::{KERNELS, ROWS, THREADS};
use crate::error::Result;
use crate::ops::cuda::{Gpu, expect_len, vector};
use crate::ops::sums::cuda::{self as sums, Factor};
use cudarc::driver::CudaSlice;

/// To `x` (T, D) and the weight (D).
pub fn rms_norm_backward(
    gpu: &Gpu,
    grad: &CudaSlice<f32>,
    x: &CudaSlice<f32>,
    weight: &CudaSlice<f32>,
    inside: f32,
    outside: f32,
) -> Result<[CudaSlice<f32>; 2]> {
    let width = weight.len();
    let rows = x.len() / width;
    expect_len("norm", x, rows * width)?;
    expect_len("gradient", grad, rows * width)?;
    let out = gpu.unwritten(x.len())?;
    let scale = gpu.unwritten(rows)?;
    gpu.kernel(KERNELS, &format!("rms_norm_slopes_{}", vector(width)))?
        .array(&out)
        .array(&scale)
        .array(grad)
        .array(x)
        .array(weight)
        .long(rows)
        .int(width)
        .float(inside)
        .float(outside)
        .blocks(rows.div_ceil(ROWS), THREADS, 0)?;
    let factor = Factor {
        b: x,
        mean: None,
        scale: &scale,
    };
    Ok([out, sums::weighted(gpu, grad, Some(&factor), width)?])
}

/// To `x` (T, D), the weight (D) and the bias (D).
pub fn layer_norm_backward(
    gpu: &Gpu,
    grad: &CudaSlice<f32>,
    x: &CudaSlice<f32>,
    weight: &CudaSlice<f32>,
    eps: f32,
) -> Result<[CudaSlice<f32>; 3]> {
    let width = weight.len();
    let rows = x.len() / width;
    expect_len("layer norm", x, rows * width)?;
    expect_len("gradient", grad, rows * width)?;
    let out = gpu.unwritten(x.len())?;
    let (mean, scale) = (gpu.unwritten(rows)?, gpu.unwritten(rows)?);
    gpu.kernel(KERNELS, &format!("layer_norm_slopes_{}", vector(width)))?
        .array(&out)
        .array(&mean)
        .array(&scale)
        .array(grad)
        .array(x)
        .array(weight)
        .long(rows)
        .int(width)
        .float(eps)
        .blocks(rows.div_ceil(ROWS), THREADS, 0)?;
    let factor = Factor {
        b: x,
        mean: Some(&mean),
        scale: &scale,
    };
    let to_weight = sums::weighted(gpu, grad, Some(&factor), width)?;
    Ok([out, to_weight, sums::column_sums(gpu, grad, width)?])
}

/// To `y` and the gate (T, D) and the weight (D), of `[y, gate, weight]`.
pub fn gated_rms_norm_backward(
    gpu: &Gpu,
    grad: &CudaSlice<f32>,
    [y, gate, weight]: [&CudaSlice<f32>; 3],
    groups: usize,
    eps: f32,
) -> Result<[CudaSlice<f32>; 3]> {
    let width = weight.len() / groups.max(1);
    let parts = y.len() / width.max(1);
    expect_len("gated norm weight", weight, width * groups)?;
    expect_len("gated norm", y, parts * width)?;
    expect_len("gate", gate, y.len())?;
    expect_len("gradient", grad, y.len())?;
    let [to_y, to_gate, terms] = [(); 3].map(|()| gpu.unwritten(y.len()));
    let (to_y, to_gate, terms) = (to_y?, to_gate?, terms?);
    let name = format!("gated_rms_norm_slopes_{}", vector(width));
    gpu.kernel(KERNELS, &name)?
        .array(&to_y)
        .array(&to_gate)
        .array(&terms)
        .array(grad)
        .array(y)
        .array(gate)
        .array(weight)
        .long(parts)
        .int(width)
        .int(groups)
        .float(eps)
        .blocks(parts.div_ceil(ROWS), THREADS, 0)?;
    let to_weight = sums::column_sums(gpu, &terms, width * groups)?;
    Ok([to_y, to_gate, to_weight])
}
