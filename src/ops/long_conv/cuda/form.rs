//! In which form signals lie in memory, and what they are made of.

use super::Large;
use crate::ops::cuda::fft::stride;
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::{Floats, Gpu};
use crate::ops::short_conv::cuda::Within;
use cudarc::driver::CudaSlice;

/// How signals and spectra are held.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    /// In f32.
    Exact,
    /// Those of large FFTs in half the bytes: two values in a word, with errors of up to 2⁻¹¹ of the
    /// larger one. The skip weights are part of the filters, so that what was convolved is not read
    /// again.
    Packed,
}

impl Form {
    /// The form for a GPU on which products round, or do not.
    pub fn of(gpu: &Gpu) -> Self {
        if gpu.rounded() {
            Self::Packed
        } else {
            Self::Exact
        }
    }

    pub(super) fn large(self, gpu: &Gpu, size: usize) -> Option<Large> {
        Large::new(gpu, size, self == Self::Packed)
    }

    /// Whether signals of this size are pairs of values.
    pub(super) fn packs(self, gpu: &Gpu, size: usize) -> bool {
        self == Self::Packed && self.large(gpu, size).is_some()
    }

    /// Words from one signal to the next.
    pub(super) fn words(self, gpu: &Gpu, size: usize) -> usize {
        if self.packs(gpu, size) {
            stride(size) / 2
        } else {
            stride(size)
        }
    }

    /// The type of signals in kernels' names.
    pub(super) fn name(self, gpu: &Gpu, size: usize) -> &'static str {
        if self.packs(gpu, size) {
            "pairs"
        } else {
            "f32"
        }
    }
}

/// x0, x1 and x2, (T, 3C).
#[derive(Clone, Copy)]
pub enum Input<'a> {
    Plain(Floats<'a>),
    /// As a short convolution gives them: in the packed form, to bf16.
    Convolved(Within<'a>),
}

impl<'a> From<Floats<'a>> for Input<'a> {
    fn from(x: Floats<'a>) -> Self {
        Self::Plain(x)
    }
}

impl<'a> From<&'a CudaSlice<f32>> for Input<'a> {
    fn from(x: &'a CudaSlice<f32>) -> Self {
        Self::Plain(x.into())
    }
}

impl<'a> From<Within<'a>> for Input<'a> {
    fn from(x: Within<'a>) -> Self {
        Self::Convolved(x)
    }
}

impl Input<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Plain(x) => x.len(),
            Self::Convolved(short) => short.x.len(),
        }
    }

    /// As kernels are named.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Plain(x) => x.name(),
            Self::Convolved(_) => "short",
        }
    }

    /// With what kernels need to read it.
    pub(super) fn on<'g>(self, launch: Launch<'g>) -> Launch<'g> {
        match self {
            Self::Plain(x) => launch.floats(x),
            Self::Convolved(short) => launch
                .array(short.x)
                .array(short.weight)
                .array(short.bias)
                .array(short.tails),
        }
    }
}
