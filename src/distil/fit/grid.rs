//! The samples that a filter is fitted to.

use nalgebra::DVector;
use num_complex::Complex64;

/// Samples that suffice for the poles, where the filter is smooth.
const SAMPLES: usize = 2048;
/// Relative error of interpolating between samples below which it is smooth.
const SMOOTH: f64 = 1e-4;
/// The first taps, all of which count: a filter may begin with a spike.
const HEAD: usize = 512;

/// Samples of the filter whose weighted squares stand for all of them.
pub(super) struct Grid {
    pub times: Vec<f64>,
    /// Square roots of the weights.
    weights: Vec<f64>,
    /// Weighted values.
    pub values: DVector<f64>,
}

impl Grid {
    /// The head tap by tap, then every `stride`-th.
    pub fn new(f: &[f64], stride: usize) -> Self {
        let head = HEAD.next_multiple_of(stride).min(f.len());
        let all = (0..head).chain((head..f.len()).step_by(stride));
        let times: Vec<usize> = all.collect();
        let weight = |t: &usize| if *t < head { 1.0 } else { stride as f64 };
        let weights: Vec<f64> = times.iter().map(|t| weight(t).sqrt()).collect();
        let values = times.iter().zip(&weights).map(|(t, w)| f[*t] * w);
        Self {
            values: DVector::from_vec(values.collect()),
            times: times.iter().map(|t| *t as f64).collect(),
            weights,
        }
    }

    /// These samples, and zeros for three times as many taps as there are, after them.
    pub fn ended(&self, taps: usize, stride: usize) -> Self {
        let step = stride.max(3 * taps / SAMPLES).max(1);
        let after = (taps..4 * taps).step_by(step);
        let count = after.len();
        let times = self.times.iter().copied();
        let weights = self.weights.iter().copied();
        let weight = std::iter::repeat_n((step as f64).sqrt(), count);
        Self {
            times: times.chain(after.map(|t| t as f64)).collect(),
            weights: weights.chain(weight).collect(),
            values: self
                .values
                .clone()
                .resize_vertically(self.values.len() + count, 0.0),
        }
    }

    /// `√w λ^t`
    pub fn power(&self, row: usize, exponent: Complex64) -> Complex64 {
        (exponent * self.times[row]).exp() * self.weights[row]
    }
}

/// The largest power of two whose samples determine what lies between them.
pub(super) fn stride(f: &[f64]) -> usize {
    let smooth = |stride: usize| {
        let (mut error, mut energy) = (0.0, 0.0);
        for i in (stride..f.len().saturating_sub(2 * stride)).step_by(stride) {
            let outer = f[i - stride] + f[i + 2 * stride];
            let middle = (9.0 * (f[i] + f[i + stride]) - outer) / 16.0;
            let value = f[i + stride / 2];
            error += (middle - value).powi(2);
            energy += value * value;
        }
        error <= SMOOTH * SMOOTH * energy
    };
    let mut stride = 1;
    while f.len() / (2 * stride) >= SAMPLES && smooth(2 * stride) {
        stride *= 2;
    }
    stride
}
