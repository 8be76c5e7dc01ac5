//! Arrays on a GPU.

use super::{Device, cuda};
use crate::error::{Error, Kind, Result};
use crate::ops::cuda::Gpu;
use candle_core::DType;
use cudarc::driver::CudaSlice;
use half::bf16;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Values on a GPU.
pub(super) struct Array {
    pub device: Device,
    pub dims: Vec<usize>,
    pub data: Arc<Data>,
}

pub(super) enum Data {
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
    pub fn new(gpu: &Arc<Gpu>, data: Data, dims: &[usize]) -> Self {
        Self {
            device: Device::Cuda(Arc::clone(gpu)),
            dims: dims.to_vec(),
            data: Arc::new(data),
        }
    }

    pub fn upload(gpu: &Arc<Gpu>, values: &candle_core::Tensor) -> Result<Self> {
        let flat = values.flatten_all()?;
        let data = match values.dtype() {
            DType::U32 => Data::U32(gpu.upload(&flat.to_vec1()?)?),
            _ => {
                let wide = flat.to_dtype(DType::F32)?.to_vec1()?;
                Data::F32(gpu.upload(&wide)?, OnceLock::new())
            }
        };
        Ok(Self::new(gpu, data, values.dims()))
    }

    pub fn download(&self) -> Result<candle_core::Tensor> {
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

    pub fn floats(&self) -> Result<&CudaSlice<f32>> {
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
