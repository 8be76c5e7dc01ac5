//! The same values in other places: parts of a tensor, other shapes, tensors joined.

use super::array::Array;
use super::cuda::{self, Columns};
use super::{Tensor, Values};
use crate::error::{Error, Kind, Result};
use candle_core::Shape;
use std::borrow::Borrow;
use std::sync::Arc;

impl Tensor {
    /// `len` entries of dimension `dim`, from `start` on.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        let all = self.dim(dim)?;
        let out = match self.floats_on() {
            Some(gpu) => {
                let mut dims = self.dims().to_vec();
                dims[dim] = len;
                let out = gpu.unwritten(dims.iter().product())?;
                let [rows, inner] = self.around(dim);
                let at = columns(start * inner, all * inner);
                let from = (self.gpu_values(gpu)?, at);
                let size = [rows, len * inner];
                cuda::copy_columns(gpu, (&out, columns(0, len * inner)), from, size)?;
                Self::on_gpu(gpu, out, &dims)
            }
            None => self.map(|x| x.narrow(dim, start, len)?.contiguous())?,
        };
        Ok(out.derived([self], move |grad| Ok([Some(grad.pad(dim, start, all)?)])))
    }

    /// The inverse of [`Tensor::narrow`] from a dimension of `all` entries: the others are zeros.
    fn pad(&self, dim: usize, start: usize, all: usize) -> Result<Self> {
        let len = self.dim(dim)?;
        let Some(gpu) = self.floats_on() else {
            return self.map(|x| x.pad_with_zeros(dim, start, all - start - len));
        };
        let mut dims = self.dims().to_vec();
        dims[dim] = all;
        let out = gpu.zeros(dims.iter().product())?;
        let [rows, inner] = self.around(dim);
        let to = (&out, columns(start * inner, all * inner));
        let from = (self.gpu_values(gpu)?, columns(0, len * inner));
        cuda::copy_columns(gpu, to, from, [rows, len * inner])?;
        Ok(Self::on_gpu(gpu, out, &dims))
    }

    /// The products of the dimensions before and after this one.
    fn around(&self, dim: usize) -> [usize; 2] {
        let (before, after) = self.dims().split_at(dim);
        [before.iter().product(), after.iter().skip(1).product()]
    }

    /// The entries of dimension `dim` in reverse order.
    pub fn flip(&self, dim: usize) -> Result<Self> {
        let out = match self.floats_on() {
            Some(gpu) => {
                let (len, [_, inner]) = (self.dim(dim)?, self.around(dim));
                let out = cuda::flip(gpu, self.gpu_values(gpu)?, [len, inner])?;
                Self::on_gpu(gpu, out, self.dims())
            }
            None => self.map(|x| x.flip(&[dim])?.contiguous())?,
        };
        Ok(out.derived([self], move |grad| Ok([Some(grad.flip(dim)?)])))
    }

    /// The same values in row-major order under another shape.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let (shape, old) = (shape.into(), self.dims().to_vec());
        let out = match &self.values {
            Values::Cuda(array) if shape.elem_count() == self.elem_count() => {
                let array = Array {
                    device: array.device.clone(),
                    dims: shape.into_dims(),
                    data: Arc::clone(&array.data),
                };
                let values = Values::Cuda(Arc::new(array));
                Self { values, node: None }
            }
            _ => self.map(|x| x.reshape(shape.clone()))?,
        };
        Ok(out.derived([self], move |grad| Ok([Some(grad.reshape(old.clone())?)])))
    }

    /// The same values in one dimension.
    pub fn flatten_all(&self) -> Result<Self> {
        self.reshape(self.elem_count())
    }

    /// The transposed matrix.
    pub fn t(&self) -> Result<Self> {
        let out = self.map(|x| x.t()?.contiguous())?;
        Ok(out.derived([self], |grad| Ok([Some(grad.t()?)])))
    }

    /// Tensors one behind the other along dimension `dim`.
    pub fn cat(tensors: &[impl Borrow<Self>], dim: usize) -> Result<Self> {
        let tensors: Vec<Self> = tensors.iter().map(|x| x.borrow().clone()).collect();
        let Some(first) = tensors.first() else {
            return Err(Error::new(Kind::Internal, "no tensors to join"));
        };
        let lens: Vec<usize> = tensors.iter().map(|x| x.dim(dim)).collect::<Result<_>>()?;
        let out = match first.floats_on() {
            Some(gpu) => {
                let [rows, inner] = first.around(dim);
                let mut dims = first.dims().to_vec();
                dims[dim] = lens.iter().sum();
                let out = gpu.unwritten(dims.iter().product())?;
                let mut to = columns(0, dims[dim] * inner);
                for (part, len) in tensors.iter().zip(&lens) {
                    let width = len * inner;
                    let from = (part.gpu_values(gpu)?, columns(0, width));
                    cuda::copy_columns(gpu, (&out, to), from, [rows, width])?;
                    to.from += width;
                }
                Self::on_gpu(gpu, out, &dims)
            }
            None => {
                let parts: Vec<_> = tensors.iter().map(Self::cpu).collect::<Result<_>>()?;
                Self::from(candle_core::Tensor::cat(&parts, dim)?).to_device(first.device())?
            }
        };
        Ok(out.derived_from(&tensors, move |grad| {
            let mut from = 0;
            let parts = lens.iter().map(|&len| {
                from += len;
                grad.narrow(dim, from - len, len).map(Some)
            });
            parts.collect()
        }))
    }
}

fn columns(from: usize, stride: usize) -> Columns {
    Columns { from, stride }
}
