//! Arrays of numbers, and what ops are functions of.

pub(super) mod cuda;
mod gradient;

use super::cuda::Gpu;
use super::{math::simd, unwritten};
use crate::error::{Error, Kind, Result};
use crate::sequence::Branch;
use candle_core::{DType, NdArray, Shape, Storage, WithDType};
use cuda::Columns;
use cudarc::driver::CudaSlice;
pub use gradient::Gradients;
use gradient::Node;
#[cfg(test)]
pub(crate) use gradient::check;
pub(crate) use gradient::constant_only;
pub(super) use gradient::refuse;
use half::bf16;
use rayon::prelude::*;
use std::any::Any;
use std::borrow::Borrow;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Values of a tile of a sum.
const SUMMED: usize = 1 << 14;

/// Where a tensor's values lie, and where ops on it run.
#[derive(Clone, Debug)]
pub enum Device {
    /// In memory; on the processor.
    Cpu,
    /// In the memory of a GPU.
    Cuda(Arc<Gpu>),
}

impl Device {
    /// Waits until all work that was queued there is done.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Self::Cpu => Ok(()),
            Self::Cuda(gpu) => gpu.synchronize(),
        }
    }
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
    node: Option<Arc<Node>>,
}

#[derive(Clone, Debug)]
enum Values {
    /// Weights keep their copy on the GPU that first needs them.
    Cpu(candle_core::Tensor, Arc<OnceLock<Array>>),
    Cuda(Arc<Array>),
}

/// Values on a GPU.
struct Array {
    device: Device,
    dims: Vec<usize>,
    data: Arc<Data>,
}

enum Data {
    /// And rounded, for matrix products whose gradients need it again.
    F32(CudaSlice<f32>, OnceLock<CudaSlice<bf16>>),
    U32(CudaSlice<u32>),
    /// For matrix products, and as f32 for whoever else asks.
    Bf16(CudaSlice<bf16>, OnceLock<CudaSlice<f32>>),
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?} on {:?}", self.dims, self.device)
    }
}

impl Array {
    fn upload(gpu: &Arc<Gpu>, values: &candle_core::Tensor) -> Result<Self> {
        let flat = values.flatten_all()?;
        let data = match values.dtype() {
            DType::U32 => Data::U32(gpu.upload(&flat.to_vec1()?)?),
            _ => Data::F32(gpu.upload(&flat.to_vec1()?)?, OnceLock::new()),
        };
        Ok(Self {
            device: Device::Cuda(Arc::clone(gpu)),
            dims: values.dims().to_vec(),
            data: Arc::new(data),
        })
    }

    fn download(&self) -> Result<candle_core::Tensor> {
        let Device::Cuda(gpu) = &self.device else {
            return Err(Error::new(Kind::Internal, "values of no device"));
        };
        let (dims, cpu) = (self.dims.clone(), &candle_core::Device::Cpu);
        Ok(match &*self.data {
            Data::F32(data, _) => candle_core::Tensor::from_vec(gpu.download(data)?, dims, cpu)?,
            Data::U32(data) => candle_core::Tensor::from_vec(gpu.download(data)?, dims, cpu)?,
            Data::Bf16(..) => {
                candle_core::Tensor::from_vec(gpu.download(self.floats()?)?, dims, cpu)?
            }
        })
    }

    fn floats(&self) -> Result<&CudaSlice<f32>> {
        match &*self.data {
            Data::F32(data, _) => Ok(data),
            Data::U32(_) => Err(Error::new(Kind::Internal, "indices where values belong")),
            Data::Bf16(data, wide) => match (wide.get(), &self.device) {
                (Some(wide), _) => Ok(wide),
                (None, Device::Cuda(gpu)) => {
                    let made = cuda::widen(gpu, data)?;
                    Ok(wide.get_or_init(|| made))
                }
                (None, Device::Cpu) => Err(Error::new(Kind::Internal, "values of no device")),
            },
        }
    }
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

    /// `dims` values on a GPU.
    pub(crate) fn on_gpu(gpu: &Arc<Gpu>, data: CudaSlice<f32>, dims: &[usize]) -> Self {
        let array = Array {
            device: Device::Cuda(Arc::clone(gpu)),
            dims: dims.to_vec(),
            data: Arc::new(Data::F32(data, OnceLock::new())),
        };
        Self {
            values: Values::Cuda(Arc::new(array)),
            node: None,
        }
    }

    /// `dims` values on a GPU that matrix products read next.
    pub(crate) fn rounded_on_gpu(gpu: &Arc<Gpu>, data: CudaSlice<bf16>, dims: &[usize]) -> Self {
        let array = Array {
            device: Device::Cuda(Arc::clone(gpu)),
            dims: dims.to_vec(),
            data: Arc::new(Data::Bf16(data, OnceLock::new())),
        };
        Self {
            values: Values::Cuda(Arc::new(array)),
            node: None,
        }
    }

    /// The values on the GPU, if they are rounded already.
    pub(crate) fn gpu_rounded(&self) -> Option<&CudaSlice<bf16>> {
        match &self.values {
            Values::Cuda(array) => match &*array.data {
                Data::Bf16(data, _) => Some(data),
                Data::F32(_, rounded) => rounded.get(),
                Data::U32(_) => None,
            },
            Values::Cpu(..) => None,
        }
    }

    /// The same, rounded now if they are not; they are kept beside the values.
    pub(crate) fn round_on_gpu(&self, gpu: &Arc<Gpu>) -> Result<&CudaSlice<bf16>> {
        if let Values::Cuda(array) = &self.values {
            match &*array.data {
                Data::Bf16(data, _) => return Ok(data),
                Data::F32(data, rounded) => {
                    if rounded.get().is_none() {
                        let _ = rounded.set(cuda::convert(gpu, data)?);
                    }
                    if let Some(rounded) = rounded.get() {
                        return Ok(rounded);
                    }
                }
                Data::U32(_) => {}
            }
        }
        Err(Error::new(Kind::Internal, "no values to round on the GPU"))
    }

    /// The GPU on which values lie that are not indices.
    pub(super) fn floats_on(&self) -> Option<&Arc<Gpu>> {
        match &self.values {
            Values::Cuda(array) => match (&array.device, &*array.data) {
                (Device::Cuda(gpu), Data::F32(..) | Data::Bf16(..)) => Some(gpu),
                _ => None,
            },
            Values::Cpu(..) => None,
        }
    }

    /// The indices on the GPU, if these are some.
    pub(crate) fn gpu_indices(&self) -> Option<&CudaSlice<u32>> {
        match &self.values {
            Values::Cuda(array) => match &*array.data {
                Data::U32(data) => Some(data),
                _ => None,
            },
            Values::Cpu(..) => None,
        }
    }

    /// The f32 values on the GPU. From memory they are copied there once, and the copy is kept.
    pub(crate) fn gpu_values(&self, gpu: &Arc<Gpu>) -> Result<&CudaSlice<f32>> {
        match &self.values {
            Values::Cuda(array) => array.floats(),
            Values::Cpu(values, copy) => match copy.get() {
                Some(array) => array.floats(),
                None => {
                    let array = Array::upload(gpu, values)?;
                    copy.get_or_init(|| array).floats()
                }
            },
        }
    }

    /// The same values on another device; not differentiated.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let values = match (&self.values, device) {
            (Values::Cpu(..), Device::Cpu) | (Values::Cuda(_), Device::Cuda(_)) => {
                return Ok(self.clone());
            }
            (Values::Cpu(values, _), Device::Cuda(gpu)) => {
                Values::Cuda(Arc::new(Array::upload(gpu, values)?))
            }
            (Values::Cuda(array), Device::Cpu) => return Ok(Self::from(array.download()?)),
        };
        Ok(Self { values, node: None })
    }

    /// Where the values lie.
    pub fn device(&self) -> &Device {
        match &self.values {
            Values::Cpu(..) => &Device::Cpu,
            Values::Cuda(array) => &array.device,
        }
    }

    /// Lengths of the dimensions.
    pub fn dims(&self) -> &[usize] {
        match &self.values {
            Values::Cpu(values, _) => values.dims(),
            Values::Cuda(array) => &array.dims,
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
        if let Values::Cuda(array) = &self.values
            && let Device::Cuda(gpu) = &array.device
        {
            // Straight from the GPU, where candle would copy twice more.
            let mut values: Box<dyn Any> = match &*array.data {
                Data::F32(data, _) => Box::new(gpu.download(data)?),
                Data::U32(data) => Box::new(gpu.download(data)?),
                Data::Bf16(..) => Box::new(gpu.download(array.floats()?)?),
            };
            if let Some(values) = values.downcast_mut::<Vec<T>>() {
                return Ok(std::mem::take(values));
            }
        }
        Ok(self.cpu()?.flatten_all()?.to_vec1()?)
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
        let out = self.map(|x| x.flip(&[dim])?.contiguous())?;
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

    /// The sum of two tensors of the same shape.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let out = match self.device() {
            Device::Cuda(gpu) => {
                let sum = cuda::add(gpu, self.gpu_values(gpu)?, other.gpu_values(gpu)?)?;
                Self::on_gpu(gpu, sum, self.dims())
            }
            Device::Cpu => {
                expect_shape("sum", other, self.dims())?;
                let out = with_slices([self, other], |[x, y]| {
                    let mut out = unwritten(x.len());
                    let parts = x.par_chunks(SUMMED).zip(y.par_chunks(SUMMED));
                    out.par_chunks_mut(SUMMED)
                        .zip(parts)
                        .for_each(|(out, (x, y))| sums(out, x, y));
                    Ok(out)
                })?;
                Self::from_vec(out, self.dims(), self.device())?
            }
        };
        Ok(out.derived([self, other], |grad| {
            Ok([Some(grad.clone()), Some(grad.clone())])
        }))
    }

    /// `factor · x + shift`
    pub fn affine(&self, factor: f64, shift: f64) -> Result<Self> {
        let out = match self.floats_on() {
            Some(gpu) => {
                let x = self.gpu_values(gpu)?;
                let out = cuda::affine(gpu, x, factor as f32, shift as f32)?;
                Self::on_gpu(gpu, out, self.dims())
            }
            None => self.map(|x| x.affine(factor, shift))?,
        };
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
    pub(super) fn map(
        &self,
        f: impl FnOnce(&candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>,
    ) -> Result<Self> {
        Self::from(f(&self.cpu()?)?).to_device(self.device())
    }

    /// The values in memory.
    pub(super) fn cpu(&self) -> Result<candle_core::Tensor> {
        match &self.values {
            Values::Cpu(values, _) => Ok(values.clone()),
            Values::Cuda(array) => array.download(),
        }
    }

    fn wrong_rank(&self, rank: usize) -> Error {
        let what = format!("shape {:?}, expected {rank} dimensions", self.dims());
        Error::new(Kind::Internal, what)
    }
}

fn columns(from: usize, stride: usize) -> Columns {
    Columns { from, stride }
}

simd! {
fn sums(out: &mut [f32], x: &[f32], y: &[f32]) {
    for (out, (x, y)) in out.iter_mut().zip(x.iter().zip(y)) {
        *out = x + y;
    }
}
}

/// A tensor as read from a file.
impl From<candle_core::Tensor> for Tensor {
    fn from(values: candle_core::Tensor) -> Self {
        Self {
            values: Values::Cpu(values, Arc::default()),
            node: None,
        }
    }
}

/// Runs `f` on the values of contiguous f32 tensors on the CPU.
pub(crate) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    // A weight is in memory wherever it has a copy; a value computed on a GPU is only there.
    let tensors = tensors.map(|tensor| match &tensor.values {
        Values::Cpu(values, _) => Some(values),
        Values::Cuda(_) => None,
    });
    if tensors.iter().any(Option::is_none) {
        return Err(
            Error::usage("the model has a layer that does not run on the GPU yet")
                .todo("run with --device cpu"),
        );
    }
    let mut guards = Vec::with_capacity(N);
    guards.extend(
        tensors
            .iter()
            .flatten()
            .map(|values| values.storage_and_layout()),
    );
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

/// Checks a shape that the callers' own arithmetic guarantees.
pub(crate) fn expect_shape(name: &str, tensor: &Tensor, shape: &[usize]) -> Result<()> {
    if tensor.dims() == shape {
        return Ok(());
    }
    let found = tensor.dims();
    Err(Error::new(
        Kind::Internal,
        format!("{name}: shape {found:?}, expected {shape:?}"),
    ))
}

/// Checks that a step may have these branches: they are for inference on a GPU.
pub(crate) fn expect_branchable(x: &Tensor, barred: bool, branches: &[Branch]) -> Result<()> {
    if branches.is_empty() || !barred && x.floats_on().is_some() {
        return Ok(());
    }
    let what = "branches are for inference on a GPU";
    Err(Error::new(Kind::Internal, what))
}

#[cfg(test)]
mod tests;
