//! Values that a device is still at work on.

use super::{Data, Device, Tensor, Values};
use crate::error::{Error, Kind, Result};
use cudarc::driver::CudaEvent;

/// The f32 values of a tensor, to be read when they are computed. Reading waits for them alone, not
/// for what was queued on the device since.
pub struct Later {
    tensor: Tensor,
    /// Of a device: they are computed.
    computed: Option<CudaEvent>,
}

impl Tensor {
    /// Its values, when they are computed.
    pub fn later(self) -> Result<Later> {
        let computed = match self.device() {
            Device::Cuda(gpu) => Some(gpu.mark()?),
            Device::Cpu => None,
        };
        Ok(Later {
            tensor: self,
            computed,
        })
    }
}

impl Later {
    /// Waits for the values: row by row.
    pub fn read(&self) -> Result<Vec<f32>> {
        match (&self.tensor.values, self.tensor.device(), &self.computed) {
            (Values::Cuda(array), Device::Cuda(gpu), Some(computed)) => match &*array.data {
                Data::F32(values, _) => gpu.download_after(values, computed),
                Data::U32(_) | Data::Bf16(..) => {
                    Err(Error::new(Kind::Internal, "no f32 values to read later"))
                }
            },
            _ => self.tensor.to_vec1(),
        }
    }
}
