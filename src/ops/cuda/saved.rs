//! States of unfinished sequences, as a file keeps them.

use super::Gpu;
use crate::error::{Error, Kind, Result};
use cudarc::driver::CudaSlice;
use serde::{Deserialize, Serialize};

/// A state in memory: sizes and values, as the device has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    pub(in crate::ops) sizes: Vec<usize>,
    pub(in crate::ops) values: Vec<f32>,
}

impl Saved {
    /// The values of so many lanes; waits for the work that computes them.
    pub(in crate::ops) fn of_lanes(lanes: usize, values: &CudaSlice<f32>) -> Result<Self> {
        Ok(Self {
            sizes: vec![lanes],
            values: download(values)?,
        })
    }

    /// The inverse of [`Saved::of_lanes`].
    pub(in crate::ops) fn to_lanes(&self, gpu: &Gpu) -> Result<(usize, CudaSlice<f32>)> {
        let [lanes] = self.sizes[..] else {
            return Err(Error::new(Kind::Internal, "another op's state"));
        };
        Ok((lanes, gpu.upload(&self.values)?))
    }
}

/// A state that can leave the device and return to it, with the same bits.
pub trait Stored: Sized {
    /// A copy in memory; waits for the work that computes it.
    fn store(&self) -> Result<Saved>;

    /// The state that was stored.
    ///
    /// # Errors
    /// Internal: it was another one.
    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self>;
}

/// A copy in memory.
pub(in crate::ops) fn download(values: &CudaSlice<f32>) -> Result<Vec<f32>> {
    let stream = values.stream();
    let out = stream.clone_dtoh(values)?;
    stream.synchronize()?;
    Ok(out)
}
