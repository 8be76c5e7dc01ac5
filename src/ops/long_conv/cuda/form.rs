//! In which form signals lie in memory, and what they are made of.

use super::layout::Layout;
use super::{Large, SIDE, STRIP};
use crate::ops::cuda::fft::stride;
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::{Floats, Gpu};
use crate::ops::short_conv::cuda::Within;
use cudarc::driver::CudaSlice;

/// How signals are held before FFTs and after them; spectra are f32.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Exact,
    /// Those of large FFTs in bf16: a row's rounding stays its own. The skip weights are part of the
    /// filters, so that what was convolved is not read again.
    Rounded,
}

impl Form {
    /// The form for a GPU on which products round, or do not.
    pub fn of(gpu: &Gpu) -> Self {
        if gpu.rounded() {
            Self::Rounded
        } else {
            Self::Exact
        }
    }

    /// Signals for an FFT of `size` values, of which those from `used` on are zeros.
    pub(super) fn layout(self, gpu: &Gpu, size: usize, used: usize) -> Layout {
        if Large::new(gpu, size).is_none() {
            return Layout::whole(size);
        }
        let span = used.next_multiple_of(SIDE).min(size);
        let rounded = self == Self::Rounded;
        let stride = if rounded { span } else { stride(size) };
        Layout {
            span,
            stride,
            rounded,
        }
    }
}

/// x0, x1 and x2, (T, 3C).
#[derive(Clone, Copy)]
pub enum Input<'a> {
    Plain(Floats<'a>),
    /// As a short convolution gives them: only to bf16 outputs.
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

    /// Rows of a tile.
    pub(super) fn side(&self) -> usize {
        match self {
            Self::Plain(_) => SIDE,
            Self::Convolved(_) => STRIP,
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
