//! The loss of predicting yes or no, of several questions at a time, and its gradient.

use super::{expect_shape, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use rayon::prelude::*;

/// Values of a task.
const TOGETHER: usize = 1 << 14;

/// `Σ w · −ln σ(±logit)` in nats over logits (T, K), and its gradient to them: the seed of
/// [`Tensor::backward`]. `truths` has a number for each logit: the weight w of a yes, above zero, or
/// that of a no as a negative number; 0 counts for nothing.
///
/// ```
/// # use crocuta::ops::{binary_cross_entropy, Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0.0, 5.0]], &Device::Cpu)?;
/// let (loss, gradient) = binary_cross_entropy(&logits, &[1.0, -2.0, 0.0])?;
/// assert!((loss - 3.0 * 2f64.ln()).abs() < 1e-6);
/// assert_eq!(gradient.to_vec2::<f32>()?, [[-0.5, 1.0, 0.0]]);
/// # Ok::<(), crocuta::Error>(())
/// ```
///
/// # Errors
/// Internal: the lengths differ.
pub fn binary_cross_entropy(logits: &Tensor, truths: &[f32]) -> Result<(f64, Tensor)> {
    let (rows, width) = logits.dims2()?;
    expect_shape("logits", logits, &[truths.len() / width.max(1), width])?;
    let (losses, out) = with_slices([logits], |[logits]| {
        let mut out = unwritten(rows * width);
        let parts = out
            .par_chunks_mut(TOGETHER)
            .zip(logits.par_chunks(TOGETHER));
        let losses: Vec<f64> = parts
            .zip(truths.par_chunks(TOGETHER))
            .map(|((out, logits), truths)| {
                let mut loss = 0.0;
                for ((out, x), truth) in out.iter_mut().zip(logits).zip(truths) {
                    // ln(1 + e^x) without overflow, of the side that is wrong.
                    let wrong = if *truth > 0.0 { -x } else { *x };
                    let e = (-wrong.abs()).exp();
                    loss += f64::from(truth.abs()) * f64::from(wrong.max(0.0) + e.ln_1p());
                    let slope = if wrong > 0.0 {
                        1.0 / (1.0 + e)
                    } else {
                        e / (1.0 + e)
                    };
                    *out = -truth * slope;
                }
                loss
            })
            .collect();
        Ok((losses, out))
    })?;
    let gradient = Tensor::from_vec(out, (rows, width), logits.device())?;
    Ok((losses.into_iter().sum(), gradient))
}

#[cfg(test)]
mod tests;
