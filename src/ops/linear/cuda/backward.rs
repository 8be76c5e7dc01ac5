//! Gradients of a dense layer: two matrix products.

use super::Linear;
use crate::error::Result;
use crate::ops::cuda::blas::{self, Form};
use crate::ops::cuda::{Element, Gpu, Operand, expect_len};
use crate::ops::sums::cuda as sums;
use cudarc::driver::CudaSlice;

/// Rows of a block, at least, and blocks, at most: the weight's gradient is small and its sum long,
/// so that blocks of rows are what keeps the GPU busy.
const ROWS: usize = 1024;
const BLOCKS: usize = 128;

impl Linear {
    /// `grad (T, N) · weight (N, K)`: (T, K). The gradient is rounded as inputs are.
    pub fn to_input<E: Element>(&self, grad: &CudaSlice<E>) -> Result<CudaSlice<f32>> {
        let gpu = &*self.gpu;
        let rows = grad.len() / self.width.max(1);
        expect_len("gradient", grad, rows * self.width)?;
        let out = gpu.unwritten(rows * self.inner)?;
        blas::batched(
            gpu,
            Form::Plain,
            (Operand::new(gpu, &out, 0, self.inner), 0),
            (Operand::new(gpu, grad, 0, self.width), 0),
            (self.operand(), 0),
            [rows, self.width, self.inner],
            1,
        )?;
        Ok(out)
    }
}

/// `grad (T, N)ᵀ · x (T, K)`: (N, K), as sums over blocks of rows, which are summed in their order.
pub fn to_weight<E: Element>(
    gpu: &Gpu,
    grad: &CudaSlice<E>,
    x: &CudaSlice<E>,
    [width, inner]: [usize; 2],
) -> Result<CudaSlice<f32>> {
    let rows = grad.len() / width.max(1);
    expect_len("gradient", grad, rows * width)?;
    expect_len("input", x, rows * inner)?;
    let block = rows.div_ceil(BLOCKS).max(ROWS);
    let (whole, rest) = (rows / block, rows % block);
    let values = width * inner;
    let count = whole + usize::from(rest > 0);
    let parts = gpu.unwritten(count * values)?;
    for (first, rows, batch) in [(0, block, whole), (whole, rest, usize::from(rest > 0))] {
        if batch == 0 {
            continue;
        }
        blas::batched(
            gpu,
            Form::Turned,
            (Operand::new(gpu, &parts, first * values, inner), values),
            (
                Operand::new(gpu, grad, first * block * width, width),
                block * width,
            ),
            (
                Operand::new(gpu, x, first * block * inner, inner),
                block * inner,
            ),
            [width, rows, inner],
            batch,
        )?;
    }
    match count {
        1 => Ok(parts),
        _ => sums::column_sums(gpu, &parts, values),
    }
}
