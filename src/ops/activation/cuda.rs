//! Activations on a GPU, and their gradients.

use crate::error::Result;
use crate::ops::cuda::{Element, Gpu, Source, expect_len, vector};
use crate::ops::math::Activation;
use crate::ops::tensor::cuda::each;
use cudarc::driver::CudaSlice;

pub(in crate::ops) const KERNELS: Source =
    Source::new("activation/kernel.cu", include_str!("kernel.cu"));

/// An activation of each value.
pub fn activate<O: Element>(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    activation: Activation,
) -> Result<CudaSlice<O>> {
    each(gpu, x, None, activation)
}

/// `grad · f′(x)`, value by value.
pub fn slopes(
    gpu: &Gpu,
    grad: &CudaSlice<f32>,
    x: &CudaSlice<f32>,
    activation: Activation,
) -> Result<CudaSlice<f32>> {
    expect_len("gradient", grad, x.len())?;
    let out = gpu.unwritten(x.len())?;
    let lanes = vector(x.len());
    gpu.kernel(KERNELS, &format!("slopes_{lanes}"))?
        .array(&out)
        .array(grad)
        .array(x)
        .long(x.len())
        .int(activation as usize)
        .over(x.len() / lanes)?;
    Ok(out)
}
