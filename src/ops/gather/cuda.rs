//! Rows picked by index on a GPU.

use crate::error::Result;
use crate::ops::cuda::{Gpu, Source, expect_len, vector};
use cudarc::driver::CudaSlice;

pub(in crate::ops) const KERNELS: Source =
    Source::new("gather/kernel.cu", include_str!("kernel.cu"));

/// Rows of `table` (any, `width`) by index, which the caller knows to be in range: (count, width).
pub fn gather(
    gpu: &Gpu,
    table: &CudaSlice<f32>,
    indices: &CudaSlice<u32>,
    width: usize,
) -> Result<CudaSlice<f32>> {
    expect_len("table", table, table.len() / width.max(1) * width)?;
    let count = indices.len();
    let out = gpu.unwritten(count * width)?;
    let lanes = vector(width);
    gpu.kernel(KERNELS, &format!("gather_{lanes}"))?
        .array(&out)
        .array(table)
        .array(indices)
        .long(count)
        .int(width)
        .over(count * width / lanes)?;
    Ok(out)
}

/// Rows that are 1 at their index, 0 elsewhere: (count, `width`). Their product with gradients is
/// an embedding's.
pub fn one_hot(gpu: &Gpu, indices: &CudaSlice<u32>, width: usize) -> Result<CudaSlice<f32>> {
    let count = indices.len();
    let out = gpu.unwritten(count * width)?;
    gpu.kernel(KERNELS, "one_hot")?
        .array(&out)
        .array(indices)
        .long(count)
        .int(width)
        .over(count * width)?;
    Ok(out)
}
