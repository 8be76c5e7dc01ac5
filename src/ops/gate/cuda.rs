//! Products of columns on a GPU, and their gradient.

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::{Element, Floats, Gpu, Source, expect_len, vector};
use crate::ops::math::Activation;
use cudarc::driver::CudaSlice;

pub(in crate::ops) const KERNELS: Source = Source::new("gate/kernel.cu", include_str!("kernel.cu"));

/// `activation(a[:, i·C..]) · b[:, j·C..]`: (T, C), of rows of any number of blocks of `width` C
/// each, and the block to take; each factor of either type.
pub fn gate<O: Element>(
    gpu: &Gpu,
    rows: usize,
    (a, i): (Floats, usize),
    (b, j): (Floats, usize),
    width: usize,
    activation: Activation,
) -> Result<CudaSlice<O>> {
    let (stride_a, stride_b) = (a.len() / rows.max(1), b.len() / rows.max(1));
    for (values, stride, block) in [(a, stride_a, i), (b, stride_b, j)] {
        values.expect_len("gate", rows * stride)?;
        if stride % width != 0 || (block + 1) * width > stride {
            return Err(Error::new(Kind::Internal, "gate: no such columns"));
        }
    }
    let out = gpu.unwritten(rows * width)?;
    let lanes = vector(width);
    let name = format!("gate_{}_{}_{}_{lanes}", a.name(), b.name(), O::NAME);
    gpu.kernel(KERNELS, &name)?
        .array(&out)
        .floats(a)
        .floats(b)
        .long(rows)
        .int(width)
        .int(stride_a)
        .int(i * width)
        .int(stride_b)
        .int(j * width)
        .int(activation as usize)
        .over(rows * width / lanes)?;
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
    gpu.kernel(KERNELS, &format!("gate_slopes_{lanes}"))?
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
