//! What the logits of a language model say of bases.

pub(super) mod cuda;

use super::{Device, Tensor, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use rayon::prelude::*;

/// Numbers of one prediction: `logp_base`, `p_A`, `p_C`, `p_G`, `p_T`, `p_other`, `entropy`.
pub const PREDICTIONS: usize = 7;

/// A base that is asked for: the row of the logits that predict it, and its token if it has one.
pub type Asked = (usize, Option<u32>);

/// What rows of `logits` (T, V) say of bases, `letters` the tokens of A, C, G and T, as
/// [`predict`] says it: (asked, [`PREDICTIONS`]). All are NaN where a logit of the row is not
/// finite.
///
/// # Errors
/// Internal: a row or a token that the logits do not have.
pub fn predictions(logits: &Tensor, asked: &[Asked], letters: [u32; 4]) -> Result<Tensor> {
    let (rows, width) = logits.dims2()?;
    let is_there =
        |(row, token): &Asked| *row < rows && token.is_none_or(|token| (token as usize) < width);
    let letters_are = letters.iter().all(|&letter| (letter as usize) < width);
    if !letters_are || !asked.par_iter().all(is_there) {
        return Err(Error::new(Kind::Internal, "no such logits to read"));
    }
    if let Device::Cuda(gpu) = logits.device() {
        let out = cuda::predictions(gpu, logits.gpu_values(gpu)?, width, asked, letters)?;
        return Ok(Tensor::on_gpu(gpu, out, &[asked.len(), PREDICTIONS]));
    }
    let out = with_slices([logits], |[logits]| {
        let mut out = unwritten(asked.len() * PREDICTIONS);
        let each = out.par_chunks_exact_mut(PREDICTIONS).zip(asked);
        each.for_each(|(out, (row, token))| {
            let logits = &logits[row * width..(row + 1) * width];
            out.fill(f32::NAN);
            if logits.iter().all(|x| x.is_finite()) {
                predict(logits, *token, letters, out);
            }
        });
        Ok(out)
    })?;
    Tensor::from_vec(out, (asked.len(), PREDICTIONS), logits.device())
}

/// What one row of logits says of a token, natural logarithms: its log-probability among all
/// tokens, the probabilities of the tokens `letters` among themselves, what all others have, and
/// the entropy of the four. Without a token the first number stays as it is.
pub fn predict(logits: &[f32], token: Option<u32>, letters: [u32; 4], out: &mut [f32]) {
    let most = |logits: &[f32]| logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (letters, largest) = (letters.map(|token| logits[token as usize]), most(logits));
    let all: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    // Of these four, however little the others leave them.
    let largest_letter = most(&letters);
    let letters = letters.map(|x| f64::from(x - largest_letter).exp());
    let four: f64 = letters.iter().sum();
    let part = four * f64::from(largest_letter - largest).exp() / all;
    if let Some(token) = token {
        out[0] = (f64::from(logits[token as usize] - largest) - all.ln()) as f32;
    }
    let mut entropy = 0.0;
    for (out, p) in out[1..5].iter_mut().zip(letters) {
        let p = p / four;
        *out = p as f32;
        entropy -= if p > 0.0 { p * p.ln() } else { 0.0 };
    }
    out[5] = (1.0 - part).max(0.0) as f32;
    out[6] = entropy as f32;
}

#[cfg(test)]
mod tests;
