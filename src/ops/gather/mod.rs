//! The gradient of picking rows of a table: an embedding's.

use super::{Device, cuda, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use rayon::prelude::*;

/// Columns of a task.
const COLUMNS: usize = 64;

/// From the gradient of the rows picked, (T, D), that of a table of `count` rows: each row's sum.
pub(super) fn scatter(grad: &Tensor, picked: &[u32], count: usize) -> Result<Tensor> {
    let (_, width) = grad.dims2()?;
    if picked.iter().any(|&row| row as usize >= count) {
        return Err(Error::new(Kind::Internal, "a row beyond the table"));
    }
    let out = with_slices([grad], |[grad]| {
        let tasks = (0..width).into_par_iter().step_by(COLUMNS);
        let sums: Vec<_> = tasks
            .map(|from| {
                let len = COLUMNS.min(width - from);
                let mut sums = vec![0.0; count * len];
                for (&row, grad) in picked.iter().zip(grad.chunks_exact(width)) {
                    let sums = &mut sums[row as usize * len..][..len];
                    for (sum, grad) in sums.iter_mut().zip(&grad[from..]) {
                        *sum += grad;
                    }
                }
                (len, sums)
            })
            .collect();
        let mut out = Vec::with_capacity(count * width);
        for row in 0..count {
            for (len, sums) in &sums {
                out.extend_from_slice(&sums[row * len..][..*len]);
            }
        }
        Ok(out)
    })?;
    Tensor::from_vec(out, (count, width), grad.device())
}

/// The same where gradient and indices lie on a GPU: a product with rows that are 1 at their index.
pub(super) fn scatter_on_gpu(grad: &Tensor, picked: &Tensor, count: usize) -> Result<Tensor> {
    let (_, width) = grad.dims2()?;
    let (Device::Cuda(gpu), Some(picked)) = (grad.device(), picked.gpu_indices()) else {
        return Err(Error::new(Kind::Internal, "indices of another device"));
    };
    let picked = cuda::one_hot(gpu, picked, count)?;
    let out = cuda::to_weight(gpu, &picked, grad.gpu_values(gpu)?, [count, width])?;
    Ok(Tensor::on_gpu(gpu, out, &[count, width]))
}

#[cfg(test)]
mod tests {
    use crate::ops::gradient::check::{check, random};
    use crate::ops::{Device, Tensor};

    #[test]
    fn a_row_s_gradient_is_the_sum_over_its_uses() {
        let picked = [2u32, 0, 2, 2, 1, 0];
        let rows = Tensor::new(&picked, &Device::Cpu).unwrap();
        for width in [1, 150] {
            let op = |x: &[Tensor]| x[0].index_select(&rows, 0);
            check(&[random(&[4, width], 1)], 1e-6, op, |x| {
                let rows = picked
                    .iter()
                    .map(|&row| &x[0][row as usize * width..][..width]);
                rows.flatten().copied().collect()
            });
        }
    }
}
