//! Sums over rows, in an order that depends on the sizes alone: the same bits with any number of
//! threads.

pub(super) mod cuda;

use super::{Device, Tensor, with_slices};
use crate::error::Result;
use rayon::prelude::*;

/// Rows of a part.
const ROWS: usize = 1024;

/// The sum of all rows.
pub(in crate::ops) fn column_sums(x: &Tensor) -> Result<Tensor> {
    let width = x.width();
    if let Device::Cuda(gpu) = x.device() {
        let out = cuda::column_sums(gpu, x.gpu_values(gpu)?, width)?;
        return Ok(Tensor::on_gpu(gpu, out, &[width]));
    }
    let sum = with_slices([x], |[x]| {
        let parts = x.par_chunks(ROWS * width).map(|x| {
            let mut sum = vec![0.0; width];
            for row in x.chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            sum
        });
        Ok(total(parts.collect()))
    })?;
    Tensor::from_vec(sum, width, x.device())
}

/// The sum of vectors of one length, in their order: the same bits with any number of threads.
pub(crate) fn total(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_default();
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    sum
}
