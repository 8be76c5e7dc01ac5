//! The loss of predicting one class of many, and its gradient, in one pass.

pub(super) mod cuda;

use super::{Device, expect_shape, math, math::simd, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use rayon::prelude::*;

/// Rows of a tile.
const ROWS: usize = 1024;

/// `Σ_t weight[t] · −ln softmax(logits[t])[target[t]]` in nats, and its gradient to the logits
/// (T, V): the seed of [`Tensor::backward`] on them.
///
/// A row of weight zero counts for nothing, whatever its target. For a mean, divide the weights by
/// their sum first.
///
/// ```
/// # use crocuta::ops::{cross_entropy, Device, Tensor};
/// let logits = Tensor::new(&[[0f32, 0.0], [9.0, 1.0]], &Device::Cpu)?;
/// let (loss, gradient) = cross_entropy(&logits, &[1, 0], &[1.0, 0.0])?;
/// assert!((loss - 2f64.ln()).abs() < 1e-6);
/// assert_eq!(gradient.to_vec2::<f32>()?, [[0.5, -0.5], [0.0, 0.0]]);
/// # Ok::<(), crocuta::Error>(())
/// ```
///
/// # Errors
/// Internal: the lengths differ, or a target of a row that counts is not below V.
pub fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<(f64, Tensor)> {
    let (rows, width) = logits.dims2()?;
    expect(logits, targets, weights)?;
    if let Device::Cuda(gpu) = logits.device() {
        let values = logits.gpu_values(gpu)?;
        let (loss, out) = cuda::cross_entropy(gpu, values, targets, weights, width)?;
        return Ok((loss, Tensor::on_gpu(gpu, out, &[rows, width])));
    }
    let (losses, out) = with_slices([logits], |[logits]| {
        let mut out = unwritten(rows * width);
        let losses: Vec<f64> = out
            .par_chunks_mut(ROWS * width)
            .zip(logits.par_chunks(ROWS * width))
            .zip(targets.par_chunks(ROWS).zip(weights.par_chunks(ROWS)))
            .map(|((out, logits), (targets, weights))| tile(out, logits, targets, weights))
            .collect();
        Ok((losses, out))
    })?;
    let gradient = Tensor::from_vec(out, (rows, width), logits.device())?;
    Ok((losses.into_iter().sum(), gradient))
}

/// `−ln softmax(logits[t])[target[t]]` in nats, of each row that has a target.
///
/// # Errors
/// As [`cross_entropy`].
pub fn surprisals(logits: &Tensor, targets: &[Option<u32>]) -> Result<Vec<Option<f64>>> {
    let (_, width) = logits.dims2()?;
    let classes: Vec<u32> = targets.iter().map(|target| target.unwrap_or(0)).collect();
    let weights = targets
        .iter()
        .map(|target| f32::from(u8::from(target.is_some())));
    let weights: Vec<f32> = weights.collect();
    expect(logits, &classes, &weights)?;
    if let Device::Cuda(gpu) = logits.device() {
        let losses = cuda::losses(gpu, logits.gpu_values(gpu)?, &classes, &weights, width)?;
        let losses = losses.into_iter().zip(targets);
        return Ok(losses
            .map(|(loss, target)| target.map(|_| f64::from(loss)))
            .collect());
    }
    with_slices([logits], |[logits]| {
        let rows = logits.par_chunks(width).zip(targets);
        let losses = rows.map(|(row, target)| {
            let target = (*target)? as usize;
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
            Some(sum.ln() - f64::from(row[target] - largest))
        });
        Ok(losses.collect())
    })
}

/// Checks that each row that counts has a target that is a class.
fn expect(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<()> {
    let width = logits.width();
    expect_shape("logits", logits, &[targets.len(), width])?;
    expect_shape("logits", logits, &[weights.len(), width])?;
    let wrong = targets.iter().zip(weights);
    let wrong = wrong.filter(|(_, weight)| **weight != 0.0);
    match wrong.into_iter().find(|(x, _)| **x as usize >= width) {
        None => Ok(()),
        Some((target, _)) => {
            let what = format!("target {target} of {width} classes");
            Err(Error::new(Kind::Internal, what))
        }
    }
}

simd! {
fn tile(out: &mut [f32], logits: &[f32], targets: &[u32], weights: &[f32]) -> f64 {
    let width = out.len() / targets.len();
    let mut loss = 0.0;
    let rows = out.chunks_exact_mut(width).zip(logits.chunks_exact(width));
    for ((out, logits), (target, weight)) in rows.zip(targets.iter().zip(weights)) {
        if *weight == 0.0 {
            out.fill(0.0);
            continue;
        }
        let largest = logits.iter().fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
        let mut sum = 0.0;
        for (out, x) in out.iter_mut().zip(logits) {
            *out = math::exp::<FMA>(x - largest);
            sum += *out;
        }
        let target = *target as usize;
        loss += f64::from(*weight) * (f64::from(sum).ln() - f64::from(logits[target] - largest));
        let factor = weight / sum;
        for out in out.iter_mut() {
            *out *= factor;
        }
        out[target] -= weight;
    }
    loss
}
}

#[cfg(test)]
mod tests;
