//! Functions of single rows and single values.

mod backward;

use super::{Element, Gpu, compile, expect_len};
use crate::error::{Error, Kind, Result};
use crate::ops::{Activation, Reduction};
pub use backward::{gate_slopes, glu_slopes, one_hot, slopes};
use cudarc::driver::CudaSlice;
use half::{bf16, f16};
use std::ops::Range;

/// Values that one access moves: four where rows begin at multiples of four.
pub(super) fn vector(width: usize) -> usize {
    if width.is_multiple_of(4) { 4 } else { 1 }
}

/// Rows of `table` (any, `width`) by index, which the caller knows to be in range: (count, width).
pub fn gather(
    gpu: &Gpu,
    table: &CudaSlice<f32>,
    indices: &CudaSlice<u32>,
    width: usize,
) -> Result<CudaSlice<f32>> {
    expect_len("table", table, table.len() / width.max(1) * width)?;
    let count = indices.len();
    let out = gpu.unwritten(count * width)?;
    let lanes = vector(width);
    gpu.kernel(compile::ROWS, &format!("gather_{lanes}"))?
        .array(&out)
        .array(table)
        .array(indices)
        .long(count)
        .int(width)
        .over(count * width / lanes)?;
    Ok(out)
}

/// Runs of rows of `x` (T, `width`), which the caller knows to be in range and not empty, to one
/// row each: (runs, `width`).
pub fn pool(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    runs: &[Range<usize>],
    width: usize,
    how: Reduction,
) -> Result<CudaSlice<f32>> {
    let ends = runs.iter().flat_map(|run| [run.start, run.end]);
    let ends: Vec<u32> = ends.map(|row| row as u32).collect();
    let out = gpu.unwritten(runs.len() * width)?;
    let lanes = vector(width);
    gpu.kernel(compile::ROWS, &format!("pool_{lanes}"))?
        .array(&out)
        .array(x)
        .array(&gpu.upload(&ends)?)
        .long(runs.len())
        .int(width)
        .int(how as usize)
        .over(runs.len() * width / lanes)?;
    Ok(out)
}

/// `a[:, i·C..] · b[:, j·C..]`: (T, C), of rows of any number of blocks of `width` C each, and the
/// block to take.
pub fn gate<O: Element>(
    gpu: &Gpu,
    rows: usize,
    (a, i): (&CudaSlice<f32>, usize),
    (b, j): (&CudaSlice<f32>, usize),
    width: usize,
) -> Result<CudaSlice<O>> {
    let (stride_a, stride_b) = (a.len() / rows.max(1), b.len() / rows.max(1));
    for (values, stride, block) in [(a, stride_a, i), (b, stride_b, j)] {
        expect_len("gate", values, rows * stride)?;
        if stride % width != 0 || (block + 1) * width > stride {
            return Err(Error::new(Kind::Internal, "gate: no such columns"));
        }
    }
    let out = gpu.unwritten(rows * width)?;
    let lanes = vector(width);
    gpu.kernel(compile::ROWS, &format!("gate_{}_{lanes}", O::NAME))?
        .array(&out)
        .array(a)
        .array(b)
        .long(rows)
        .int(width)
        .int(stride_a)
        .int(i * width)
        .int(stride_b)
        .int(j * width)
        .over(rows * width / lanes)?;
    Ok(out)
}

/// `residual + a · sigmoid(b)`: (T, C) of `x` (T, 2C), whose halves are a and b.
pub fn glu_residual<O: Element>(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    residual: &CudaSlice<f32>,
    width: usize,
) -> Result<CudaSlice<O>> {
    let rows = residual.len() / width.max(1);
    expect_len("residual", residual, rows * width)?;
    expect_len("gated linear unit", x, 2 * rows * width)?;
    let out = gpu.unwritten(rows * width)?;
    let lanes = vector(width);
    gpu.kernel(compile::ROWS, &format!("glu_{}_{lanes}", O::NAME))?
        .array(&out)
        .array(x)
        .array(residual)
        .long(rows)
        .int(width)
        .over(rows * width / lanes)?;
    Ok(out)
}

/// An activation of each value.
pub fn activate<O: Element>(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    activation: Activation,
) -> Result<CudaSlice<O>> {
    each(gpu, x, None, activation)
}

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
    gpu.kernel(compile::GRADIENT, "affine")?
        .array(&out)
        .array(x)
        .float(factor)
        .float(shift)
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
    gpu.kernel(compile::GRADIENT, &format!("copy_columns_{lanes}"))?
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
    gpu.kernel(compile::ROWS, "to_f32")?
        .array(&out)
        .array(x)
        .long(x.len())
        .over(x.len())?;
    Ok(out)
}

/// The same values in IEEE half precision, for tables: half the bytes to download.
pub fn half(gpu: &Gpu, x: &CudaSlice<f32>) -> Result<CudaSlice<f16>> {
    let out = gpu.unwritten(x.len())?;
    gpu.kernel(compile::ROWS, "to_f16")?
        .array(&out)
        .array(x)
        .long(x.len())
        .over(x.len())?;
    Ok(out)
}

fn each<O: Element>(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    added: Option<&CudaSlice<f32>>,
    activation: Activation,
) -> Result<CudaSlice<O>> {
    let out = gpu.unwritten(x.len())?;
    let lanes = vector(x.len());
    gpu.kernel(compile::ROWS, &format!("epilogue_{}_{lanes}", O::NAME))?
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
pub(super) fn rounded(gpu: &Gpu, x: u64, len: usize) -> Result<CudaSlice<bf16>> {
    let out = gpu.unwritten(len)?;
    let lanes = vector(len);
    gpu.kernel(compile::ROWS, &format!("epilogue_bf16_{lanes}"))?
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
