//! Arrays of numbers, and what ops are functions of.

mod arithmetic;
mod array;
pub(super) mod cuda;
mod gradient;
mod later;
mod shape;
mod slices;

use super::cuda::{Floats, Gpu};
use crate::error::{Error, Kind, Result};
use crate::sequence::Branch;
use array::{Array, Data};
use candle_core::{DType, NdArray, Shape, WithDType};
use cudarc::driver::CudaSlice;
pub use gradient::Gradients;
use gradient::Node;
#[cfg(test)]
pub(crate) use gradient::check;
use half::bf16;
pub use later::Later;
pub(crate) use slices::{Held, with_held, with_slices};
use std::any::Any;
use std::sync::{Arc, OnceLock};

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

    /// In words: the CPU, or GPU 0.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "the CPU".to_string(),
            Self::Cuda(gpu) => format!("GPU {}", gpu.ordinal()),
        }
    }
}

/// A row-major array of f32 values or u32 indices, of up to a few dimensions. Cheap to clone:
/// the values are shared and never change. A weight that matrix products read may be held in bf16,
/// as it is stored: whatever is computed of it is what its f32 values give.
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
        let array = Array::new(gpu, Data::F32(data, OnceLock::new()), dims);
        Self {
            values: Values::Cuda(Arc::new(array)),
            node: None,
        }
    }

    /// `dims` values on a GPU that matrix products read next.
    pub(crate) fn rounded_on_gpu(gpu: &Arc<Gpu>, data: CudaSlice<bf16>, dims: &[usize]) -> Self {
        let array = Array::new(gpu, Data::Bf16(data, OnceLock::new()), dims);
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

    /// The values on the GPU as they lie there, for ops that read either type.
    pub(crate) fn gpu_floats(&self, gpu: &Arc<Gpu>) -> Result<Floats<'_>> {
        if let Values::Cuda(array) = &self.values
            && let Data::Bf16(data, _) = &*array.data
        {
            return Ok(Floats::Bf16(data));
        }
        self.gpu_values(gpu).map(Floats::F32)
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

    /// The same values in memory: what is computed of them there is differentiated, and gradients go
    /// back to where the values lie.
    pub fn in_memory(&self) -> Result<Self> {
        match self.device() {
            Device::Cpu => Ok(self.clone()),
            Device::Cuda(_) => {
                let there = self.to_device(&Device::Cpu)?;
                Ok(there.derived([self], |grad| Ok([Some(grad.clone())])))
            }
        }
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
        Ok(self.wide()?.flatten_all()?.to_vec1()?)
    }

    /// A copy of the values, row by row.
    pub fn to_vec2<T: WithDType>(&self) -> Result<Vec<Vec<T>>> {
        Ok(self.wide()?.to_vec2()?)
    }

    /// The values as a file of weights stores them.
    pub fn stored(&self) -> Result<candle_core::Tensor> {
        self.cpu()
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

    /// The same, in f32 where they are held in bf16.
    fn wide(&self) -> Result<candle_core::Tensor> {
        let values = self.cpu()?;
        Ok(match values.dtype() {
            DType::BF16 => values.to_dtype(DType::F32)?,
            _ => values,
        })
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
            values: Values::Cpu(values, Arc::default()),
            node: None,
        }
    }
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
