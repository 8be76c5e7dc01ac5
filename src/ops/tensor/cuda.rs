//! Values one by one, and columns of matrices, on a GPU.

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::{Element, Gpu, Source, expect_len, vector};
use crate::ops::math::Activation;
use cudarc::driver::CudaSlice;
use half::bf16;

pub(in crate::ops) const KERNELS: Source =
    Source::new("tensor/kernel.cu", include_str!("kernel.cu"));

/// `x + y`, value by value.
pub fn add<O: Element>(gpu: &Gpu, x: &CudaSlice<f32>, y: &CudaSlice<f32>) -> Result<CudaSlice<O>> {
    expect_len("sum", y, x.len())?;
    each(gpu, x, Some(y), Activation::None)
}

/// The same values, rounded where `O` is bf16.
pub fn convert<O: Element>(gpu: &Gpu, x: &CudaSlice<f32>) -> Result<CudaSlice<O>> {
    each(gpu, x, None, Activation::None)
}

/// `factor · x + shift`, value by value.
pub fn affine(gpu: &Gpu, x: &CudaSlice<f32>, factor: f32, shift: f32) -> Result<CudaSlice<f32>> {
    let out = gpu.unwritten(x.len())?;
    gpu.kernel(KERNELS, "affine")?
        .array(&out)
        .array(x)
        .float(factor)
        .float(shift)
        .long(x.len())
        .over(x.len())?;
    Ok(out)
}

/// Of each `len` entries of `inner` values the last one first.
pub fn flip(gpu: &Gpu, x: &CudaSlice<f32>, [len, inner]: [usize; 2]) -> Result<CudaSlice<f32>> {
    let out = gpu.unwritten(x.len())?;
    gpu.kernel(KERNELS, "flip")?
        .array(&out)
        .array(x)
        .int(len)
        .int(inner)
        .long(x.len())
        .over(x.len())?;
    Ok(out)
}

/// Some columns of a matrix: where they begin, and the values from one row to the next.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    /// The first of them.
    pub from: usize,
    /// Columns of the matrix.
    pub stride: usize,
}

/// Copies `width` columns of each of `rows` rows of `x` to columns of `out`.
pub fn copy_columns(
    gpu: &Gpu,
    (out, to): (&CudaSlice<f32>, Columns),
    (x, at): (&CudaSlice<f32>, Columns),
    [rows, width]: [usize; 2],
) -> Result<()> {
    for (values, columns) in [(out, to), (x, at)] {
        expect_len("columns", values, rows * columns.stride)?;
        if columns.from + width > columns.stride {
            return Err(Error::new(Kind::Internal, "no such columns"));
        }
    }
    let sizes = [width, to.stride, to.from, at.stride, at.from];
    let lanes = sizes.into_iter().map(vector).min().unwrap_or(1);
    gpu.kernel(KERNELS, &format!("copy_columns_{lanes}"))?
        .array(out)
        .array(x)
        .long(rows)
        .long(width)
        .long(to.stride)
        .long(to.from)
        .long(at.stride)
        .long(at.from)
        .over(rows * width / lanes)
}

/// Rounded values as f32.
pub fn widen(gpu: &Gpu, x: &CudaSlice<bf16>) -> Result<CudaSlice<f32>> {
    let out = gpu.unwritten(x.len())?;
    gpu.kernel(KERNELS, "to_f32")?
        .array(&out)
        .array(x)
        .long(x.len())
        .over(x.len())?;
    Ok(out)
}

/// `activation(x) + added`, value by value.
pub(in crate::ops) fn each<O: Element>(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    added: Option<&CudaSlice<f32>>,
    activation: Activation,
) -> Result<CudaSlice<O>> {
    let out = gpu.unwritten(x.len())?;
    let lanes = vector(x.len());
    gpu.kernel(KERNELS, &format!("epilogue_{}_{lanes}", O::NAME))?
        .array(&out)
        .array(x)
        .address(0)
        .optional(added)
        .long(x.len())
        .int(x.len())
        .int(activation as usize)
        .over(x.len() / lanes)?;
    Ok(out)
}

/// `len` f32 values at an address, rounded.
pub(in crate::ops) fn rounded(gpu: &Gpu, x: u64, len: usize) -> Result<CudaSlice<bf16>> {
    let out = gpu.unwritten(len)?;
    let lanes = vector(len);
    gpu.kernel(KERNELS, &format!("epilogue_bf16_{lanes}"))?
        .array(&out)
        .address(x)
        .address(0)
        .address(0)
        .long(len)
        .int(1)
        .int(0)
        .over(len / lanes)?;
    Ok(out)
}
