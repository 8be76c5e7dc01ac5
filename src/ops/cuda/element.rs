//! Types of values on the device.

use super::{Gpu, expect_len};
use crate::error::Result;
use cudarc::driver::{CudaSlice, DeviceRepr};
use half::bf16;

/// What kernels write: f32; or bf16 where a matrix product reads it next, or where they read bf16.
pub trait Element: DeviceRepr + sealed::Sealed {
    /// As kernels are named: `f32` or `bf16`.
    const NAME: &'static str;
    /// Whether this is bf16.
    const IS_BF16: bool;
}

impl Element for f32 {
    const NAME: &'static str = "f32";
    const IS_BF16: bool = false;
}

impl Element for bf16 {
    const NAME: &'static str = "bf16";
    const IS_BF16: bool = true;
}

/// Values as they lie on the device, for kernels that read either type.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// In f32.
    F32(&'a CudaSlice<f32>),
    /// Rounded.
    Bf16(&'a CudaSlice<bf16>),
}

impl Floats<'_> {
    /// As kernels are named.
    pub fn name(&self) -> &'static str {
        match self {
            Self::F32(_) => f32::NAME,
            Self::Bf16(_) => bf16::NAME,
        }
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Where they begin.
    pub(in crate::ops) fn address(&self, gpu: &Gpu) -> u64 {
        match self {
            Self::F32(values) => gpu.address(values),
            Self::Bf16(values) => gpu.address(values),
        }
    }

    /// Checks a length that the callers' own arithmetic guarantees.
    pub(in crate::ops) fn expect_len(&self, name: &str, len: usize) -> Result<()> {
        match self {
            Self::F32(values) => expect_len(name, values, len),
            Self::Bf16(values) => expect_len(name, values, len),
        }
    }
}

impl<'a> From<&'a CudaSlice<f32>> for Floats<'a> {
    fn from(values: &'a CudaSlice<f32>) -> Self {
        Self::F32(values)
    }
}

impl<'a> From<&'a CudaSlice<bf16>> for Floats<'a> {
    fn from(values: &'a CudaSlice<bf16>) -> Self {
        Self::Bf16(values)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
}

/// A matrix on the device, as matrix products take it.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Operand {
    pub address: u64,
    pub bf16: bool,
    /// From one row to the next, in values.
    pub stride: usize,
}

impl Operand {
    /// Rows of `stride` values, from value `from` on.
    pub(in crate::ops) fn new<E: Element>(
        gpu: &Gpu,
        values: &CudaSlice<E>,
        from: usize,
        stride: usize,
    ) -> Self {
        Self {
            address: gpu.address(values) + (from * size_of::<E>()) as u64,
            bf16: E::IS_BF16,
            stride,
        }
    }
}

/// Values that one access moves: four where rows begin at multiples of four.
pub(in crate::ops) fn vector(width: usize) -> usize {
    if width.is_multiple_of(4) { 4 } else { 1 }
}
