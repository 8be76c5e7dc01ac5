//! Layer and root-mean-square normalisation over the last dimension, in f32.

use super::{expect_shape, math::simd, unwritten, with_slices};
use crate::error::Result;
use candle_core::Tensor;
use rayon::prelude::*;

/// Rows of a tile: enough work for a task, small enough for the L2 cache.
const ROWS: usize = 64;

/// `(x − mean) / √(var + eps) · weight + bias`, biased variance (Ba et al. 2016, arXiv:1607.06450).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor, // (D)
    bias: Tensor,   // (D)
    eps: f32,
}

impl LayerNorm {
    /// Both `weight` and `bias` are (D).
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self {
            weight,
            bias,
            eps: eps as f32,
        }
    }

    /// (…, D) to (…, D).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.elem_count();
        expect_shape(
            "layer norm weight",
            &self.weight,
            &[x.dim(candle_core::D::Minus1)?],
        )?;
        let out = with_slices([x, &self.weight, &self.bias], |[x, weight, bias]| {
            let mut out = unwritten(x.len());
            out.par_chunks_mut(ROWS * width)
                .zip(x.par_chunks(ROWS * width))
                .for_each(|(out, x)| layer_norm(out, x, weight, bias, self.eps));
            Ok(out)
        })?;
        Ok(Tensor::from_vec(out, x.shape(), x.device())?)
    }
}

simd! {
fn layer_norm(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
    let width = weight.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let mean = sum(x, |x| x) / width as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = (x - mean) * scale * weight + bias;
        }
    }
}
}

/// `x / rms(x) · weight` (Zhang & Sennrich 2019, arXiv:1910.07467).
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor, // (D)
    /// Inside the root: `√(mean(x²) + eps)`.
    inside: f32,
    /// Outside the root: `√mean(x²) + eps`, as StripedHyena does.
    outside: f32,
}

impl RmsNorm {
    /// `eps` is added to the mean square, inside the root (Mamba, Llama).
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self {
            weight,
            inside: eps as f32,
            outside: 0.0,
        }
    }

    /// `eps` is added to the root (StripedHyena).
    pub fn with_eps_outside(weight: Tensor, eps: f64) -> Self {
        Self {
            weight,
            inside: 0.0,
            outside: eps as f32,
        }
    }

    /// (…, D) to (…, D).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.elem_count();
        expect_shape(
            "norm weight",
            &self.weight,
            &[x.dim(candle_core::D::Minus1)?],
        )?;
        let out = with_slices([x, &self.weight], |[x, weight]| {
            let mut out = unwritten(x.len());
            out.par_chunks_mut(ROWS * width)
                .zip(x.par_chunks(ROWS * width))
                .for_each(|(out, x)| rms_norm(out, x, weight, self.inside, self.outside));
            Ok(out)
        })?;
        Ok(Tensor::from_vec(out, x.shape(), x.device())?)
    }
}

simd! {
fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], inside: f32, outside: f32) {
    let width = weight.len();
    for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
        let mean_square = sum(x, |x| x * x) / width as f32;
        let scale = 1.0 / ((mean_square + inside).sqrt() + outside);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}
}

/// Sums `f(x)` in 16 lanes: vectorisable, and more exact than one running sum.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut groups = x.chunks_exact(16);
    for group in &mut groups {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane += f(x);
        }
    }
    let rest: f32 = groups.remainder().iter().map(|&x| f(x)).sum();
    let mut half = 8;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0] + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn input(rows: usize, width: usize) -> (Vec<f32>, Tensor) {
        let values: Vec<f32> = (0..rows * width)
            .map(|i| ((i * 37 % 101) as f32 / 17.0).sin() * 3.0 + 1.0)
            .collect();
        let tensor = Tensor::from_slice(&values, (rows, width), &Device::Cpu).unwrap();
        (values, tensor)
    }

    fn row(values: &[f32], width: usize) -> impl Iterator<Item = Vec<f64>> + '_ {
        values
            .chunks(width)
            .map(|row| row.iter().map(|&x| f64::from(x)).collect())
    }

    #[test]
    fn norms_equal_a_plain_f64_loop() {
        for width in [5, 16, 32, 256] {
            let (values, x) = input(130, width);
            let (weights, weight) = input(1, width);
            let (_, bias) = input(1, width);
            let layer = LayerNorm::new(
                weight.flatten_all().unwrap(),
                bias.flatten_all().unwrap(),
                1e-5,
            );
            let inside = RmsNorm::new(weight.flatten_all().unwrap(), 1e-5);
            let outside = RmsNorm::with_eps_outside(weight.flatten_all().unwrap(), 1e-6);
            let layer = layer.forward(&x).unwrap().to_vec2::<f32>().unwrap();
            let inside = inside.forward(&x).unwrap().to_vec2::<f32>().unwrap();
            let outside = outside.forward(&x).unwrap().to_vec2::<f32>().unwrap();
            for (i, row) in row(&values, width).enumerate() {
                let n = width as f64;
                let mean = row.iter().sum::<f64>() / n;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
                let square = row.iter().map(|x| x * x).sum::<f64>() / n;
                for (j, x) in row.iter().enumerate() {
                    let w = f64::from(weights[j]);
                    let expected = (x - mean) / (variance + 1e-5).sqrt() * w + w;
                    assert!((f64::from(layer[i][j]) - expected).abs() < 1e-5);
                    let expected = x / (square + 1e-5).sqrt() * w;
                    assert!((f64::from(inside[i][j]) - expected).abs() < 1e-5);
                    let expected = x / (square.sqrt() + 1e-6) * w;
                    assert!((f64::from(outside[i][j]) - expected).abs() < 1e-5);
                }
            }
        }
    }
}
