//! Rows brought together.

pub(super) mod cuda;

use super::{Device, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// How rows become one, each dimension by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum, in order.
    Sum,
    /// The largest value; NaN if there is one.
    Max,
    /// The last row.
    Last,
}

/// Runs of rows of `x` (T, D), none of them empty, to one row each: (runs, D).
pub fn pool(x: &Tensor, runs: &[Range<usize>], how: Reduction) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    if runs.iter().any(|run| run.is_empty() || run.end > rows) {
        return Err(Error::new(Kind::Internal, "no such rows to bring together"));
    }
    if let Device::Cuda(gpu) = x.device() {
        let out = cuda::pool(gpu, x.gpu_values(gpu)?, runs, width, how)?;
        return Ok(Tensor::on_gpu(gpu, out, &[runs.len(), width]));
    }
    let out = with_slices([x], |[x]| {
        let mut out = unwritten(runs.len() * width);
        out.par_chunks_mut(width.max(1))
            .zip(runs)
            .for_each(|(out, run)| {
                let rows = &x[run.start * width..run.end * width];
                let mut rows = rows.chunks_exact(width);
                out.copy_from_slice(rows.next().unwrap_or(&[]));
                for row in rows {
                    for (pooled, &x) in out.iter_mut().zip(row) {
                        *pooled = match how {
                            Reduction::Sum => *pooled + x,
                            Reduction::Max if pooled.is_nan() || x <= *pooled => *pooled,
                            Reduction::Max | Reduction::Last => x,
                        };
                    }
                }
            });
        Ok(out)
    })?;
    Tensor::from_vec(out, (runs.len(), width), x.device())
}

#[cfg(test)]
mod tests;
