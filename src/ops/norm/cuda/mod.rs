//! Layer and root-mean-square normalisation: one warp a row.

mod backward;
#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Element, Floats, Gpu, Source, expect_len, vector};
pub use backward::{gated_rms_norm_backward, layer_norm_backward, rms_norm_backward};
use cudarc::driver::CudaSlice;

pub(in crate::ops) const KERNELS: Source =
    Source::new("norm/kernel.cu", include_str!("../kernel.cu"));

/// Rows of a block.
const ROWS: usize = THREADS / 32;

/// `(x − mean) / √(var + eps) · weight + bias` of each row of `x` (T, D); `weight` and `bias` (D).
pub fn layer_norm<O: Element>(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    weight: &CudaSlice<f32>,
    bias: &CudaSlice<f32>,
    eps: f32,
) -> Result<CudaSlice<O>> {
    let width = weight.len();
    let rows = x.len() / width;
    expect_len("layer norm", x, rows * width)?;
    expect_len("layer norm bias", bias, width)?;
    let out = gpu.unwritten(x.len())?;
    let name = format!("layer_norm_{}_{}", O::NAME, vector(width));
    gpu.kernel(KERNELS, &name)?
        .array(&out)
        .array(x)
        .array(weight)
        .array(bias)
        .long(rows)
        .int(width)
        .float(eps)
        .blocks(rows.div_ceil(ROWS), THREADS, 0)?;
    Ok(out)
}

/// `x / (√(mean(x²) + inside) + outside) · weight` of each row of `x` (T, D).
pub fn rms_norm<O: Element>(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    weight: &CudaSlice<f32>,
    inside: f32,
    outside: f32,
) -> Result<CudaSlice<O>> {
    let width = weight.len();
    let rows = x.len() / width;
    expect_len("norm", x, rows * width)?;
    let out = gpu.unwritten(x.len())?;
    let name = format!("rms_norm_{}_{}", O::NAME, vector(width));
    gpu.kernel(KERNELS, &name)?
        .array(&out)
        .array(x)
        .array(weight)
        .long(rows)
        .int(width)
        .float(inside)
        .float(outside)
        .blocks(rows.div_ceil(ROWS), THREADS, 0)?;
    Ok(out)
}

/// The RMS norm of `y · silu(gate)`, both (T, D), the gate of either type, of each of `groups` equal parts of a row.
pub fn gated_rms_norm<O: Element>(
    gpu: &Gpu,
    y: &CudaSlice<f32>,
    gate: Floats,
    weight: &CudaSlice<f32>,
    groups: usize,
    eps: f32,
) -> Result<CudaSlice<O>> {
    let width = weight.len() / groups.max(1);
    let parts = y.len() / width.max(1);
    expect_len("gated norm weight", weight, width * groups)?;
    expect_len("gated norm", y, parts * width)?;
    gate.expect_len("gate", y.len())?;
    let out = gpu.unwritten(y.len())?;
    let (types, lanes) = ([gate.name(), O::NAME].join("_"), vector(width));
    gpu.kernel(KERNELS, &format!("gated_rms_norm_{types}_{lanes}"))?
        .array(&out)
        .array(y)
        .floats(gate)
        .array(weight)
        .long(parts)
        .int(width)
        .int(groups)
        .float(eps)
        .blocks(parts.div_ceil(ROWS), THREADS, 0)?;
    Ok(out)
}
