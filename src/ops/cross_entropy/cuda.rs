//! The loss of predicting one class of many, and its gradient.

use crate::error::Result;
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Gpu, Source, expect_len};
use crate::ops::sums::cuda as sums;
use cudarc::driver::CudaSlice;

pub(in crate::ops) const KERNELS: Source =
    Source::new("cross_entropy/kernel.cu", include_str!("kernel.cu"));

/// Rows of a block.
const ROWS: usize = THREADS / 32;

/// `Σ_t weight[t] · −ln softmax(logits[t])[target[t]]` and its gradient to the logits (T, `width`).
/// The caller knows that targets are classes. Waits for the sum.
pub fn cross_entropy(
    gpu: &Gpu,
    logits: &CudaSlice<f32>,
    targets: &[u32],
    weights: &[f32],
    width: usize,
) -> Result<(f64, CudaSlice<f32>)> {
    let out = gpu.unwritten(logits.len())?;
    let losses = run(gpu, Some(&out), logits, targets, weights, width)?;
    Ok((sums::total(gpu, &losses)?, out))
}

/// The terms of that sum alone, (T), with weights of 1 and 0.
pub fn losses(
    gpu: &Gpu,
    logits: &CudaSlice<f32>,
    targets: &[u32],
    weights: &[f32],
    width: usize,
) -> Result<Vec<f32>> {
    gpu.download(&run(gpu, None, logits, targets, weights, width)?)
}

fn run(
    gpu: &Gpu,
    out: Option<&CudaSlice<f32>>,
    logits: &CudaSlice<f32>,
    targets: &[u32],
    weights: &[f32],
    width: usize,
) -> Result<CudaSlice<f32>> {
    let rows = targets.len();
    expect_len("logits", logits, rows * width)?;
    let losses = gpu.unwritten(rows)?;
    gpu.kernel(KERNELS, "cross_entropy")?
        .array(&losses)
        .optional(out)
        .array(logits)
        .array(&gpu.upload(targets)?)
        .array(&gpu.upload(weights)?)
        .long(rows)
        .int(width)
        .blocks(rows.div_ceil(ROWS), THREADS, 0)?;
    Ok(losses)
}
