//! Rows of a table by index: an embedding.

pub(super) mod cuda;

use super::linear::cuda::to_weight;
use super::{Device, Held, Tensor, unwritten, with_held, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::timing;
use bytemuck::Pod;
use rayon::prelude::*;

/// Columns of a task.
const COLUMNS: usize = 64;

impl Tensor {
    /// Entries of dimension `dim` by index (u32).
    pub fn index_select(&self, indices: &Self, dim: usize) -> Result<Self> {
        let _span = timing::span("gather");
        if let (Some(rows), Device::Cuda(gpu), 0) = (indices.gpu_indices(), indices.device(), dim) {
            let (count, width) = self.dims2()?;
            let out = cuda::gather(gpu, self.gpu_values(gpu)?, rows, width)?;
            let out = Self::on_gpu(gpu, out, &[rows.len(), width]);
            let indices = indices.clone();
            return Ok(out.derived([self], move |grad| {
                Ok([Some(scatter_on_gpu(grad, &indices, count)?)])
            }));
        }
        let (rows, shape) = (indices.cpu()?, self.dims().to_vec());
        let out = match dim {
            0 => rows_of(&Self::from(self.cpu()?), &rows.to_vec1()?)?.to_device(self.device())?,
            _ => self.map(|x| x.index_select(&rows, dim))?,
        };
        Ok(out.derived([self], move |grad| {
            if let ([count, _], 0) = (&shape[..], dim) {
                return Ok([Some(scatter(grad, &rows.to_vec1()?, *count)?)]);
            }
            let zeros = Self::zeros(shape.clone(), &Device::Cpu)?.cpu()?;
            Ok([Some(grad.map(|x| zeros.index_add(&rows, x, dim))?)])
        }))
    }
}

/// The rows picked of a table (count, ..), on all threads: weights are put in order so.
fn rows_of(table: &Tensor, picked: &[u32]) -> Result<Tensor> {
    let mut shape = table.dims().to_vec();
    let Some(count) = shape.first_mut() else {
        return Err(Error::new(Kind::Internal, "rows of a single number"));
    };
    if picked.iter().any(|&row| row as usize >= *count) {
        return Err(Error::new(Kind::Internal, "a row beyond the table"));
    }
    *count = picked.len();
    let width = shape[1..].iter().product();
    with_held([table], |[table]| match table {
        Held::F32(table) => Tensor::from_vec(picks(table, picked, width), shape, &Device::Cpu),
        Held::Bf16(table) => Tensor::from_vec(picks(table, picked, width), shape, &Device::Cpu),
    })
}

fn picks<T: Pod + Send + Sync>(table: &[T], picked: &[u32], width: usize) -> Vec<T> {
    let mut out = unwritten(picked.len() * width);
    if width > 0 {
        let rows = out.par_chunks_mut(width).zip(picked);
        let rows = rows.with_min_len((1 << 14) / width + 1);
        rows.for_each(|(to, &row)| {
            to.copy_from_slice(&table[row as usize * width..][..width]);
        });
    }
    out
}

/// From the gradient of the rows picked, (T, D), that of a table of `count` rows: each row's sum.
fn scatter(grad: &Tensor, picked: &[u32], count: usize) -> Result<Tensor> {
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
fn scatter_on_gpu(grad: &Tensor, picked: &Tensor, count: usize) -> Result<Tensor> {
    let (_, width) = grad.dims2()?;
    let (Device::Cuda(gpu), Some(picked)) = (grad.device(), picked.gpu_indices()) else {
        return Err(Error::new(Kind::Internal, "indices of another device"));
    };
    let picked = cuda::one_hot(gpu, picked, count)?;
    let out = to_weight(gpu, &picked, grad.gpu_values(gpu)?, [count, width])?;
    Ok(Tensor::on_gpu(gpu, out, &[count, width]))
}

#[cfg(test)]
mod tests;
