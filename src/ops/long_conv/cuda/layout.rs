//! How signals lie in memory.

use crate::ops::cuda::fft::stride;

/// How the signals of one batch lie in memory.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Values of each that are there; what follows is taken for zeros.
    pub span: usize,
    /// Values from one signal to the next.
    pub stride: usize,
    /// In bf16.
    pub rounded: bool,
}

impl Layout {
    /// All values, in f32.
    pub fn whole(size: usize) -> Self {
        Self {
            span: size,
            stride: stride(size),
            rounded: false,
        }
    }

    /// Words of memory for each signal.
    pub fn words(&self) -> usize {
        if self.rounded {
            self.stride / 2
        } else {
            self.stride
        }
    }

    /// The type of values in kernels' names.
    pub fn name(&self) -> &'static str {
        if self.rounded { "bf16" } else { "f32" }
    }
}
