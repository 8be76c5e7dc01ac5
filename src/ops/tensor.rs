//! Arrays of numbers, and what ops are functions of.

use super::gradient::Node;
use crate::error::{Error, Kind, Result};
use candle_core::{NdArray, Shape, Storage, WithDType};
use std::borrow::Borrow;
use std::sync::Arc;

/// Where a tensor's values lie, and where ops on it run.
#[derive(Clone, Debug)]
pub enum Device {
    /// In memory; on the processor.
    Cpu,
}

/// A row-major array of f32 values or u32 indices, of up to a few dimensions. Cheap to clone:
/// the values are shared and never change.
///
/// A tensor computed from a [parameter](Tensor::parameter) remembers how, so that
/// [`Tensor::backward`] can differentiate it; others remember nothing.
///
/// ```
/// # use crocuta::ops::{Device, Tensor};
/// let x = Tensor::from_vec(vec![1f32, 2., 3., 4., 5., 6.], (2, 3), &Device::Cpu)?;
/// assert_eq!(x.narrow(1, 1, 2)?.to_vec2::<f32>()?, [[2., 3.], [5., 6.]]);
/// # Ok::<(), crocuta::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tensor {
    values: Values,
    pub(super) node: Option<Arc<Node>>,
}

#[derive(Clone, Debug)]
enum Values {
    Cpu(candle_core::Tensor),
}

impl Tensor {
    /// The values in row-major order, without a copy. An error if they do not fill the shape.
    pub fn from_vec<T: WithDType>(
        values: Vec<T>,
        shape: impl Into<Shape>,
        device: &Device,
    ) -> Result<Self> {
        let cpu = candle_core::Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)?;
        Self::from(cpu).to_device(device)
    }

    /// A copy of the values in row-major order.
    pub fn from_slice<T: WithDType>(
        values: &[T],
        shape: impl Into<Shape>,
        device: &Device,
    ) -> Result<Self> {
        Self::from_vec(values.to_vec(), shape, device)
    }

    /// From nested arrays, slices or vectors.
    pub fn new<A: NdArray>(values: A, device: &Device) -> Result<Self> {
        let cpu = candle_core::Tensor::new(values, &candle_core::Device::Cpu)?;
        Self::from(cpu).to_device(device)
    }

    /// Zeros, f32.
    pub fn zeros(shape: impl Into<Shape>, device: &Device) -> Result<Self> {
        let shape = shape.into();
        Self::from_vec(vec![0f32; shape.elem_count()], shape, device)
    }

    /// The same values on another device; not differentiated.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        match (&self.values, device) {
            (Values::Cpu(_), Device::Cpu) => Ok(self.clone()),
        }
    }

    /// Where the values lie.
    pub fn device(&self) -> &Device {
        match &self.values {
            Values::Cpu(_) => &Device::Cpu,
        }
    }

    /// Lengths of the dimensions.
    pub fn dims(&self) -> &[usize] {
        match &self.values {
            Values::Cpu(values) => values.dims(),
        }
    }

    /// Length of one dimension.
    pub fn dim(&self, dim: usize) -> Result<usize> {
        let found = self.dims().get(dim).copied();
        found.ok_or_else(|| self.wrong_rank(dim + 1))
    }

    /// Length of the last dimension; 1 for a scalar.
    pub fn width(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// Lengths of the only two dimensions.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        match *self.dims() {
            [a, b] => Ok((a, b)),
            _ => Err(self.wrong_rank(2)),
        }
    }

    /// Lengths of the only three dimensions.
    pub fn dims3(&self) -> Result<(usize, usize, usize)> {
        match *self.dims() {
            [a, b, c] => Ok((a, b, c)),
            _ => Err(self.wrong_rank(3)),
        }
    }

    /// The number of values.
    pub fn elem_count(&self) -> usize {
        self.dims().iter().product()
    }

    /// A copy of the values in row-major order.
    pub fn to_vec1<T: WithDType>(&self) -> Result<Vec<T>> {
        Ok(self.cpu()?.to_vec1()?)
    }

    /// A copy of the values, row by row.
    pub fn to_vec2<T: WithDType>(&self) -> Result<Vec<Vec<T>>> {
        Ok(self.cpu()?.to_vec2()?)
    }

    /// The values as a file of weights stores them.
    pub fn stored(&self) -> Result<candle_core::Tensor> {
        self.cpu()
    }

    /// `len` entries of dimension `dim`, from `start` on.
    pub fn narrow(&self, dim: usize, start: usize, len: usize) -> Result<Self> {
        let out = self.map(|x| x.narrow(dim, start, len)?.contiguous())?;
        let after = self.dim(dim)? - start - len;
        Ok(out.derived([self], move |grad| {
            Ok([Some(grad.map(|x| x.pad_with_zeros(dim, start, after))?)])
        }))
    }

    /// Entries of dimension `dim` by index (u32).
    pub fn index_select(&self, indices: &Self, dim: usize) -> Result<Self> {
        let (rows, shape) = (indices.cpu()?, self.dims().to_vec());
        let out = self.map(|x| x.index_select(&rows, dim))?;
        Ok(out.derived([self], move |grad| {
            let zeros = Self::zeros(shape.clone(), &Device::Cpu)?.cpu()?;
            Ok([Some(grad.map(|x| zeros.index_add(&rows, x, dim))?)])
        }))
    }

    /// The entries of dimension `dim` in reverse order.
    pub fn flip(&self, dim: usize) -> Result<Self> {
        let out = self.map(|x| x.flip(&[dim])?.contiguous())?;
        Ok(out.derived([self], move |grad| Ok([Some(grad.flip(dim)?)])))
    }

    /// The same values in row-major order under another shape.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Self> {
        let (shape, old) = (shape.into(), self.dims().to_vec());
        let out = self.map(|x| x.reshape(shape.clone()))?;
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
        let parts: Vec<_> = tensors.iter().map(Self::cpu).collect::<Result<_>>()?;
        let out = Self::from(candle_core::Tensor::cat(&parts, dim)?).to_device(first.device())?;
        let lens: Vec<usize> = tensors.iter().map(|x| x.dim(dim)).collect::<Result<_>>()?;
        Ok(out.derived_from(&tensors, move |grad| {
            let mut from = 0;
            let parts = lens.iter().map(|&len| {
                from += len;
                grad.narrow(dim, from - len, len).map(Some)
            });
            parts.collect()
        }))
    }

    /// The sum of two tensors of the same shape.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let right = other.cpu()?;
        let out = self.map(|x| x.add(&right))?;
        Ok(out.derived([self, other], |grad| {
            Ok([Some(grad.clone()), Some(grad.clone())])
        }))
    }

    /// The product of two tensors of the same shape, value by value.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        let right = other.cpu()?;
        let out = self.map(|x| x.mul(&right))?;
        let (a, b) = (self.detach(), other.detach());
        Ok(out.derived([self, other], move |grad| {
            Ok([Some(grad.mul(&b)?), Some(grad.mul(&a)?)])
        }))
    }

    /// `factor · x + shift`
    pub fn affine(&self, factor: f64, shift: f64) -> Result<Self> {
        let out = self.map(|x| x.affine(factor, shift))?;
        Ok(out.derived([self], move |grad| Ok([Some(grad.affine(factor, 0.0)?)])))
    }

    /// `exp(x)` of each value.
    pub fn exp(&self) -> Result<Self> {
        let out = self.map(candle_core::Tensor::exp)?;
        let kept = out.cpu()?;
        Ok(out.derived([self], move |grad| Ok([Some(grad.map(|x| x.mul(&kept))?)])))
    }

    /// Runs `f` on the values in memory; the result returns to this tensor's device. For what
    /// happens once in loading a model: on a GPU the values travel.
    fn map(
        &self,
        f: impl FnOnce(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>,
    ) -> Result<Self> {
        Self::from(f(&self.cpu()?)?).to_device(self.device())
    }

    /// The values in memory.
    fn cpu(&self) -> Result<candle_core::Tensor> {
        match &self.values {
            Values::Cpu(values) => Ok(values.clone()),
        }
    }

    fn wrong_rank(&self, rank: usize) -> Error {
        let what = format!("shape {:?}, expected {rank} dimensions", self.dims());
        Error::new(Kind::Internal, what)
    }
}

/// A tensor as read from a file.
impl From<candle_core::Tensor> for Tensor {
    fn from(values: candle_core::Tensor) -> Self {
        Self {
            values: Values::Cpu(values),
            node: None,
        }
    }
}

/// Runs `f` on the values of contiguous f32 tensors on the CPU.
pub(crate) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let guards = tensors.map(|tensor| match &tensor.values {
        Values::Cpu(values) => values.storage_and_layout(),
    });
    let mut slices = [&[][..]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            return Err(Error::new(Kind::Internal, "this op runs on the CPU only"));
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(Error::new(Kind::Internal, "a tensor is not contiguous"));
        };
        *slice = &storage.as_slice::<f32>()?[start..end];
    }
    f(slices)
}
