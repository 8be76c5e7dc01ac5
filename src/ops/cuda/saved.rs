//! States of unfinished sequences, as a file keeps them.

use super::Gpu;
use crate::error::Result;
use cudarc::driver::CudaSlice;
use serde::{Deserialize, Serialize};

/// A state in memory: sizes and values, as the device has them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Saved {
    pub(super) sizes: Vec<usize>,
    pub(super) values: Vec<f32>,
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
pub(super) fn download(values: &CudaSlice<f32>) -> Result<Vec<f32>> {
    let stream = values.stream();
    let out = stream.clone_dtoh(values)?;
    stream.synchronize()?;
    Ok(out)
}
