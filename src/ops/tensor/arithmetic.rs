//! Arithmetic on each value.

use super::{Device, Tensor, cuda, expect_shape, with_slices};
use crate::error::Result;
use crate::ops::math::simd;
use crate::ops::unwritten;
use candle_core::DType;
use rayon::prelude::*;

/// Values of a tile of a sum.
const SUMMED: usize = 1 << 14;

impl Tensor {
    /// The sum of two tensors of the same shape.
    pub fn add(&self, other: &Self) -> Result<Self> {
        let out = match self.device() {
            Device::Cuda(gpu) => {
                let sum = cuda::add(gpu, self.gpu_values(gpu)?, other.gpu_values(gpu)?)?;
                Self::on_gpu(gpu, sum, self.dims())
            }
            Device::Cpu => {
                expect_shape("sum", other, self.dims())?;
                let out = with_slices([self, other], |[x, y]| {
                    let mut out = unwritten(x.len());
                    let parts = x.par_chunks(SUMMED).zip(y.par_chunks(SUMMED));
                    out.par_chunks_mut(SUMMED)
                        .zip(parts)
                        .for_each(|(out, (x, y))| sums(out, x, y));
                    Ok(out)
                })?;
                Self::from_vec(out, self.dims(), self.device())?
            }
        };
        Ok(out.derived([self, other], |grad| {
            Ok([Some(grad.clone()), Some(grad.clone())])
        }))
    }

    /// `factor · x + shift`
    pub fn affine(&self, factor: f64, shift: f64) -> Result<Self> {
        let out = match self.floats_on() {
            Some(gpu) => {
                let x = self.gpu_values(gpu)?;
                let out = cuda::affine(gpu, x, factor as f32, shift as f32)?;
                Self::on_gpu(gpu, out, self.dims())
            }
            None => self.map(|x| x.to_dtype(DType::F32)?.affine(factor, shift))?,
        };
        Ok(out.derived([self], move |grad| Ok([Some(grad.affine(factor, 0.0)?)])))
    }

    /// `exp(x)` of each value.
    pub fn exp(&self) -> Result<Self> {
        let out = self.map(|x| x.to_dtype(DType::F32)?.exp())?;
        let kept = out.cpu()?;
        Ok(out.derived([self], move |grad| Ok([Some(grad.map(|x| x.mul(&kept))?)])))
    }
}

simd! {
fn sums(out: &mut [f32], x: &[f32], y: &[f32]) {
    for (out, (x, y)) in out.iter_mut().zip(x.iter().zip(y)) {
        *out = x + y;
    }
}
}
