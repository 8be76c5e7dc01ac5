//! Rows brought together on a GPU.

use super::Reduction;
use crate::error::Result;
use crate::ops::cuda::{Gpu, Source, vector};
use cudarc::driver::CudaSlice;
use std::ops::Range;

pub(in crate::ops) const KERNELS: Source = Source::new("pool/kernel.cu", include_str!("kernel.cu"));

/// Runs of rows of `x` (T, `width`), which the caller knows to be in range and not empty, to one
/// row each: (runs, `width`).
pub fn pool(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    runs: &[Range<usize>],
    width: usize,
    how: Reduction,
) -> Result<CudaSlice<f32>> {
    let ends = runs.iter().flat_map(|run| [run.start, run.end]);
    let ends: Vec<u32> = ends.map(|row| row as u32).collect();
    let out = gpu.unwritten(runs.len() * width)?;
    let lanes = vector(width);
    gpu.kernel(KERNELS, &format!("pool_{lanes}"))?
        .array(&out)
        .array(x)
        .array(&gpu.upload(&ends)?)
        .long(runs.len())
        .int(width)
        .int(how as usize)
        .over(runs.len() * width / lanes)?;
    Ok(out)
}
