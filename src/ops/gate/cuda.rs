//! Gradients of functions of single rows and single values.

use super::super::{Gpu, compile, expect_len};
use super::vector;
use crate::error::Result;
use crate::ops::Activation;
use cudarc::driver::CudaSlice;

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
    gpu.kernel(compile::GRADIENT, &format!("slopes_{lanes}"))?
        .array(&out)
        .array(grad)
        .array(x)
        .long(x.len())
        .int(activation as usize)
        .over(x.len() / lanes)?;
    Ok(out)
}

/// A factor of a gate whose gradient is asked for: the block of columns that it is, and the other
/// factor, rows of any number of blocks, with the block that was taken of it.
pub type Factor<'a> = (usize, (&'a CudaSlice<f32>, usize));

/// The gradient of a gate to (T, `blocks` · C), in the columns of each factor, zeros elsewhere;
/// `grad` is (T, `width` C). A second factor is another block of the same rows.
pub fn gate_slopes(
    gpu: &Gpu,
    grad: &CudaSlice<f32>,
    factors: (Factor, Option<Factor>),
    width: usize,
    blocks: usize,
) -> Result<CudaSlice<f32>> {
    let rows = grad.len() / width.max(1);
    expect_len("gradient", grad, rows * width)?;
    let total = blocks * width;
    let out = gpu.unwritten(rows * total)?;
    let lanes = vector(width);
    let describe = |factor: Option<Factor>| match factor {
        None => (0, [0; 3]),
        Some((to, (other, from))) => {
            let stride = other.len() / rows.max(1);
            (gpu.address(other), [stride, from * width, to * width])
        }
    };
    let (first, second) = (describe(Some(factors.0)), describe(factors.1));
    gpu.kernel(compile::GRADIENT, &format!("gate_slopes_{lanes}"))?
        .array(&out)
        .array(grad)
        .structure(&[first.0], &first.1)
        .structure(&[second.0], &second.1)
        .long(rows)
        .int(width)
        .int(total)
        .over(rows * total / lanes)?;
    Ok(out)
}

/// The gradient of a gated linear unit to `x` (T, 2C); `grad` is (T, C).
pub fn glu_slopes(
    gpu: &Gpu,
    grad: &CudaSlice<f32>,
    x: &CudaSlice<f32>,
    width: usize,
) -> Result<CudaSlice<f32>> {
    let rows = grad.len() / width.max(1);
    expect_len("gradient", grad, rows * width)?;
    expect_len("gated linear unit", x, 2 * rows * width)?;
    let out = gpu.unwritten(x.len())?;
    let lanes = vector(width);
    gpu.kernel(compile::GRADIENT, &format!("glu_slopes_{lanes}"))?
        .array(&out)
        .array(grad)
        .array(x)
        .long(rows)
        .int(width)
        .over(rows * width / lanes)?;
    Ok(out)
}

/// Rows that are 1 at their index, 0 elsewhere: (count, `width`). Their product with gradients is
/// an embedding's.
pub fn one_hot(gpu: &Gpu, indices: &CudaSlice<u32>, width: usize) -> Result<CudaSlice<f32>> {
    let count = indices.len();
    let out = gpu.unwritten(count * width)?;
    gpu.kernel(compile::GRADIENT, "one_hot")?
        .array(&out)
        .array(indices)
        .long(count)
        .int(width)
        .over(count * width)?;
    Ok(out)
}
