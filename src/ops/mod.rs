//! Numeric kernels on [tensors](Tensor). Each op has a CPU form on slices (rayon over rows or
//! channels, SIMD chosen at run time) and is tested against a plain f64 loop.
//!
//! Work is cut into tiles whose size depends on the shapes alone, never on the number of
//! threads: results are the same bits with any number of threads.

mod activation;
mod attention;
mod binary_cross_entropy;
mod cross_entropy;
pub mod cuda;
mod feed_forward;
mod gate;
mod gather;
mod glu;
mod gradient;
mod linear;
mod long_conv;
pub mod math;
mod matrix;
mod modal;
mod norm;
mod on_gpu;
mod pool;
mod segment_mean;
mod selective_scan;
mod short_conv;
mod ssd;
mod tensor;
#[cfg(test)]
pub(crate) mod testing;

pub use activation::gelu_erf;
pub use attention::{Attention, Cache, Nystrom, Performer, Reach, Rotary, Sums};
pub use binary_cross_entropy::binary_cross_entropy;
pub use cross_entropy::{cross_entropy, surprisals};
pub use feed_forward::FeedForward;
pub use gate::gate;
pub use glu::glu_residual;
pub use gradient::Gradients;
#[cfg(test)]
pub(crate) use gradient::check;
pub(crate) use gradient::{constant_only, total};
pub use linear::{Activation, Linear};
pub use long_conv::{GpuTaps, LongConv, Past, TapRows, Taps, TapsTensor};
pub(crate) use matrix::{Matrix, multiply};
pub use modal::{Modal, ModalState};
pub use norm::{GatedRmsNorm, LayerNorm, RmsNorm};
pub use pool::{Reduction, pool};
pub use segment_mean::segment_mean;
pub use selective_scan::{Hidden, SelectiveScan};
pub use short_conv::{ShortConv, Tail};
pub use ssd::{Ssd, SsdSizes, SsdState};
pub(crate) use tensor::with_slices;
pub use tensor::{Device, Tensor};

use crate::error::{Error, Kind, Result};

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

/// A vector of `len` values that the caller writes before anyone reads it.
///
/// Zeroing costs a pass over memory for every activation; kernels write all of their output.
pub(crate) fn unwritten<T: bytemuck::Pod>(len: usize) -> Vec<T> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is `len`, every bit pattern is a valid T, and the kernels that call
    // this write each value before it is read.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(len);
    }
    values
}
