//! Products of columns: the gates between the convolutions of Hyena and in gated MLPs.

pub(super) mod cuda;

use super::{
    Activation, Device, activation, expect_shape, math, math::simd, unwritten, with_slices,
};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::timing;
use rayon::prelude::*;
use std::sync::Arc;

/// Rows of a tile.
const ROWS: usize = 64;

/// As [`gate`] of an activated first factor, for a product that reads it next: where that rounds
/// what it reads, it is rounded at once.
pub fn gate_to_product(
    a: (&Tensor, usize),
    b: (&Tensor, usize),
    width: usize,
    activation: Activation,
) -> Result<Tensor> {
    let rows = expect_blocks(a, b, width)?;
    let tracked = a.0.is_tracked() || b.0.is_tracked();
    match a.0.device() {
        Device::Cuda(gpu) if gpu.rounded() && !tracked => {
            let (a, b) = ((a.0.gpu_floats(gpu)?, a.1), (b.0.gpu_floats(gpu)?, b.1));
            let out = cuda::gate(gpu, rows, a, b, width, activation)?;
            Ok(Tensor::rounded_on_gpu(gpu, out, &[rows, width]))
        }
        Device::Cpu if !tracked => on_cpu(a, b, width, activation),
        _ if activation == Activation::None => gate(a, b, width),
        _ => gate((&activation::activate(a.0, activation)?, a.1), b, width),
    }
}

/// `a[:, i·C..] · b[:, j·C..]`, element by element: (T, C).
///
/// `a` is a tensor of any number of column blocks, each of `width` C, and the block i of it to
/// take; `b` likewise.
pub fn gate(a: (&Tensor, usize), b: (&Tensor, usize), width: usize) -> Result<Tensor> {
    let _span = timing::span("gate");
    let rows = expect_blocks(a, b, width)?;
    let wanted = [a.0, b.0].map(Tensor::is_tracked);
    let kept = ((a.0.detach(), a.1), (b.0.detach(), b.1));
    if let Device::Cuda(gpu) = a.0.device() {
        let factors = ((a.0.gpu_floats(gpu)?, a.1), (b.0.gpu_floats(gpu)?, b.1));
        let out = cuda::gate(gpu, rows, factors.0, factors.1, width, Activation::None)?;
        let out = Tensor::on_gpu(gpu, out, &[rows, width]);
        let (gpu, together) = (Arc::clone(gpu), a.0.is_same(b.0));
        return Ok(out.derived([a.0, b.0], move |grad| {
            let grad = grad.gpu_values(&gpu)?;
            let (a, b) = ((&kept.0.0, kept.0.1), (&kept.1.0, kept.1.1));
            let (to_a, to_b) = (
                (a.1, (b.0.gpu_values(&gpu)?, b.1)),
                (b.1, (a.0.gpu_values(&gpu)?, a.1)),
            );
            let slopes = |to: &Tensor, factors| -> Result<Tensor> {
                let blocks = to.width() / width;
                let out = cuda::gate_slopes(&gpu, grad, factors, width, blocks)?;
                Ok(Tensor::on_gpu(&gpu, out, to.dims()))
            };
            // Two blocks of one tensor: its gradient in one pass.
            if together {
                return Ok([Some(slopes(a.0, (to_a, Some(to_b)))?), None]);
            }
            Ok([
                wanted[0].then(|| slopes(a.0, (to_a, None))).transpose()?,
                wanted[1].then(|| slopes(b.0, (to_b, None))).transpose()?,
            ])
        }));
    }
    let out = on_cpu(a, b, width, Activation::None)?;
    Ok(out.derived([a.0, b.0], move |grad| {
        let (a, b) = ((&kept.0.0, kept.0.1), (&kept.1.0, kept.1.1));
        Ok([
            wanted[0].then(|| slopes(grad, b, a, width)).transpose()?,
            wanted[1].then(|| slopes(grad, a, b, width)).transpose()?,
        ])
    }))
}

/// How many rows both have, if they have the blocks.
fn expect_blocks(a: (&Tensor, usize), b: (&Tensor, usize), width: usize) -> Result<usize> {
    let (rows, _) = a.0.dims2()?;
    for (x, block) in [a, b] {
        let (_, all) = x.dims2()?;
        expect_shape("gate", x, &[rows, (all / width).max(block + 1) * width])?;
    }
    Ok(rows)
}

fn on_cpu(
    a: (&Tensor, usize),
    b: (&Tensor, usize),
    width: usize,
    activation: Activation,
) -> Result<Tensor> {
    let ((rows, a_width), b_width) = (a.0.dims2()?, b.0.width());
    let out = with_slices([a.0, b.0], |[x, y]| {
        let mut out = unwritten(rows * width);
        out.par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * a_width))
            .zip(y.par_chunks(ROWS * b_width))
            .for_each(|((out, x), y)| {
                let rows = out
                    .chunks_exact_mut(width)
                    .zip(x.chunks_exact(a_width).zip(y.chunks_exact(b_width)));
                for (out, (x, y)) in rows {
                    let (x, y) = (&x[a.1 * width..], &y[b.1 * width..]);
                    multiply_activated(out, x, y, activation);
                }
            });
        Ok(out)
    })?;
    Tensor::from_vec(out, (rows, width), a.0.device())
}

/// The gradient to the block `to.1` of `to.0`, whose other blocks get none.
fn slopes(
    grad: &Tensor,
    other: (&Tensor, usize),
    to: (&Tensor, usize),
    width: usize,
) -> Result<Tensor> {
    let (rows, to_width) = to.0.dims2()?;
    let other_width = other.0.width();
    let out = with_slices([grad, other.0], |[grad, x]| {
        let mut out = vec![0.0; rows * to_width];
        out.par_chunks_mut(ROWS * to_width)
            .zip(x.par_chunks(ROWS * other_width))
            .zip(grad.par_chunks(ROWS * width))
            .for_each(|((out, x), grad)| {
                let rows = out
                    .chunks_exact_mut(to_width)
                    .zip(x.chunks_exact(other_width).zip(grad.chunks_exact(width)));
                for (out, (x, grad)) in rows {
                    let out = &mut out[to.1 * width..][..width];
                    multiply(out, grad, &x[other.1 * width..]);
                }
            });
        Ok(out)
    })?;
    Tensor::from_vec(out, to.0.dims(), grad.device())
}

impl Tensor {
    /// The product of two tensors of the same shape, value by value.
    pub fn mul(&self, other: &Self) -> Result<Self> {
        let out = match self.floats_on() {
            Some(gpu) => {
                let width = self.width();
                let rows = self.elem_count() / width.max(1);
                let (a, b) = (self.gpu_floats(gpu)?, other.gpu_floats(gpu)?);
                Self::on_gpu(
                    gpu,
                    cuda::gate(gpu, rows, (a, 0), (b, 0), width, Activation::None)?,
                    self.dims(),
                )
            }
            None => {
                let right = other.cpu()?;
                self.map(|x| x.mul(&right))?
            }
        };
        let (a, b) = (self.detach(), other.detach());
        Ok(out.derived([self, other], move |grad| {
            Ok([Some(grad.mul(&b)?), Some(grad.mul(&a)?)])
        }))
    }
}

simd! {
fn multiply(out: &mut [f32], x: &[f32], y: &[f32]) {
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = x * y;
    }
}
}

simd! {
fn multiply_activated(out: &mut [f32], x: &[f32], y: &[f32], activation: Activation) {
    let all = out.iter_mut().zip(x).zip(y);
    match activation {
        Activation::None => all.for_each(|((out, x), y)| *out = x * y),
        Activation::GeluTanh => all.for_each(|((out, x), y)| *out = math::gelu_tanh::<FMA>(*x) * y),
        Activation::GeluErf => all.for_each(|((out, x), y)| *out = math::gelu_erf::<FMA>(*x) * y),
        Activation::Silu => all.for_each(|((out, x), y)| *out = math::silu::<FMA>(*x) * y),
    }
}
}

#[cfg(test)]
mod tests;
