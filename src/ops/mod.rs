//! Numeric kernels on [tensors](Tensor), one op a folder: `mod.rs` is its form on the CPU, on slices
//! (rayon over rows or channels, SIMD chosen at run time), which is tested against a plain f64 loop;
//! `backward.rs` has its gradients; `cuda.rs`, or `cuda/`, is its form on an NVIDIA GPU, from the
//! kernels in `kernel.cu`, and `gpu.rs`, or `mod.rs`, runs it on tensors that lie there. [`cuda`] is
//! what ops on a GPU share.
//!
//! Work is cut into tiles whose size depends on the shapes alone, never on the number of
//! threads: results are the same bits with any number of threads.

mod activation;
mod attention;
mod attention_pool;
mod beside;
mod binary_cross_entropy;
mod cross_entropy;
pub mod cuda;
mod feed_forward;
mod gate;
mod gather;
mod glu;
mod linear;
mod long_conv;
pub mod math;
mod matrix;
mod modal;
mod norm;
mod pool;
mod prediction;
mod segment_mean;
mod selective_scan;
mod short_conv;
mod ssd;
mod sums;
mod tensor;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod timing;
mod unwritten;

pub use activation::gelu_erf;
pub use attention::{Attention, Cache, Nystrom, Performer, Reach, Rotary, Sums};
pub use attention_pool::{PoolSizes, PoolState, attention_pool, place_within};
pub use binary_cross_entropy::binary_cross_entropy;
pub use cross_entropy::{cross_entropy, surprisals};
pub use feed_forward::{FeedForward, GatedFeedForward};
pub use gate::{gate, gate_to_product};
pub use glu::glu_residual;
pub use linear::{Linear, rounds_on_cpu};
pub use long_conv::{
    FilterNetwork, FilterTaps, GpuTaps, LongConv, Past, TapRows, Taps, TapsTensor, long_conv_flops,
};
pub use math::Activation;
pub(crate) use matrix::{Matrix, multiply};
pub use modal::{Modal, ModalState};
pub use norm::{GatedRmsNorm, LayerNorm, RmsNorm};
pub use pool::{Reduction, pool};
pub use prediction::{Asked, PREDICTIONS, predict, predictions};
pub use segment_mean::segment_mean;
pub use selective_scan::{ScanState, SelectiveScan};
pub use short_conv::{ShortConv, Tail};
pub use ssd::{Ssd, SsdSizes, SsdState};
pub(crate) use sums::total;
#[cfg(test)]
pub(crate) use tensor::check;
pub use tensor::{Device, Gradients, Later, Tensor};
pub(crate) use tensor::{Held, expect_branchable, expect_shape, with_held, with_slices};
pub(crate) use unwritten::unwritten;
