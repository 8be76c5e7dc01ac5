//! Sums over many rows, in an order that depends on the sizes alone.

use crate::error::Result;
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Gpu, Source, expect_len};
use cudarc::driver::CudaSlice;

pub(in crate::ops) const KERNELS: Source = Source::new("sums/kernel.cu", include_str!("kernel.cu"));

/// Rows of a part, at least, and parts, at most.
const ROWS: usize = 256;
const PARTS: usize = 256;
/// Columns of a block.
const COLUMNS: usize = 32;

/// What a row's values are multiplied with before they are summed: `(b − mean) · scale`, `b`
/// (T, D) and one mean, 0 where there is none, and one scale a row.
pub(in crate::ops) struct Factor<'a> {
    pub b: &'a CudaSlice<f32>,
    pub mean: Option<&'a CudaSlice<f32>>,
    pub scale: &'a CudaSlice<f32>,
}

/// The sum of all rows of `x` (T, `width`): (`width`).
pub fn column_sums(gpu: &Gpu, x: &CudaSlice<f32>, width: usize) -> Result<CudaSlice<f32>> {
    weighted(gpu, x, None, width)
}

/// The same, of the rows times a factor.
pub(in crate::ops) fn weighted(
    gpu: &Gpu,
    a: &CudaSlice<f32>,
    factor: Option<&Factor>,
    width: usize,
) -> Result<CudaSlice<f32>> {
    let rows = a.len() / width.max(1);
    expect_len("sum", a, rows * width)?;
    let part = rows.div_ceil(PARTS).max(ROWS);
    let parts = rows.div_ceil(part).max(1);
    let out = gpu.unwritten(parts * width)?;
    gpu.kernel(KERNELS, "column_sums")?
        .array(&out)
        .array(a)
        .optional(factor.map(|factor| factor.b))
        .optional(factor.and_then(|factor| factor.mean))
        .optional(factor.map(|factor| factor.scale))
        .long(rows)
        .int(width)
        .long(part)
        .blocks(parts * width.div_ceil(COLUMNS), THREADS, 0)?;
    match parts {
        1 => Ok(out),
        _ => column_sums(gpu, &out, width),
    }
}

/// The sum of all values, in f64. Waits for it.
pub(in crate::ops) fn total(gpu: &Gpu, x: &CudaSlice<f32>) -> Result<f64> {
    let out: CudaSlice<f64> = gpu.unwritten(1)?;
    gpu.kernel(KERNELS, "sum_wide")?
        .array(&out)
        .array(x)
        .long(x.len())
        .blocks(1, THREADS, 0)?;
    Ok(gpu.download(&out)?.into_iter().sum())
}
