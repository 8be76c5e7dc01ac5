//! What logits say of bases, on a GPU: seven numbers travel instead of a vocabulary.

use super::{Asked, PREDICTIONS};
use crate::error::Result;
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Gpu, Source};
use cudarc::driver::CudaSlice;
use rayon::prelude::*;

pub(in crate::ops) const KERNELS: Source =
    Source::new("prediction/kernel.cu", include_str!("kernel.cu"));

/// Of `logits` (T, `width`), whose rows and tokens the caller knows to be there:
/// (asked, [`PREDICTIONS`]).
pub fn predictions(
    gpu: &Gpu,
    logits: &CudaSlice<f32>,
    width: usize,
    asked: &[Asked],
    letters: [u32; 4],
) -> Result<CudaSlice<f32>> {
    let each = asked.par_iter();
    let rows: Vec<u32> = each.clone().map(|(row, _)| *row as u32).collect();
    let tokens: Vec<u32> = each.map(|(_, token)| token.unwrap_or(u32::MAX)).collect();
    let out = gpu.unwritten(asked.len() * PREDICTIONS)?;
    gpu.kernel(KERNELS, "predictions")?
        .array(&out)
        .array(logits)
        .array(&gpu.upload(&rows)?)
        .array(&gpu.upload(&tokens)?)
        .array(&gpu.upload(&letters)?)
        .long(asked.len())
        .int(width)
        .blocks(asked.len().div_ceil(THREADS / 32), THREADS, 0)?;
    Ok(out)
}
