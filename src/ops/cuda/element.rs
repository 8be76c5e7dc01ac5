//! Types of values on the device.

use super::Gpu;
use cudarc::driver::{CudaSlice, DeviceRepr};
use half::bf16;

/// What kernels write: f32, or bf16 where a matrix product reads it next.
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
