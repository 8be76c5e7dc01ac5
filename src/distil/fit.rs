//! One filter as a sum of exponentials: `h[t] ≈ Re Σ_n R_n λ_n^{t−1}` for t from 1 on.
//!
//! Poles come from the Hankel matrix of the filter's samples, residues by linear least squares,
//! and both are improved together by Levenberg–Marquardt steps on the squared error. A pole is
//! λ = exp(−α + iθ), α from 1/L to 5: what lies beyond the filter's end decays.

use super::hankel;
use nalgebra::{DMatrix, DVector};
use num_complex::Complex64;
use std::f64::consts::PI;

/// Samples that suffice for the poles, where the filter is smooth.
const SAMPLES: usize = 2048;
/// Relative error of interpolating between samples below which it is smooth.
const SMOOTH: f64 = 1e-4;
/// The first taps, all of which count: a filter may begin with a spike.
const HEAD: usize = 512;
/// The fastest decay: a mode that is gone after three taps.
const FASTEST: f64 = 5.0;
/// Steps of the improvement, none for filters that are so rough that they need more samples than
/// this: few modes cannot follow them in any case.
const STEPS: usize = 30;
const STEP_SAMPLES: usize = 8192;

/// Poles and residues as they are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Modes {
    /// λ, real and imaginary part; magnitude below 1.
    pub poles: Vec<[f32; 2]>,
    /// R; zero for modes that were not needed.
    pub residues: Vec<[f32; 2]>,
}

/// How far a fitted filter is from the original, relative to the original's norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// `Σ |h − ĥ| / Σ |h|`: bounds the output's error, relative to the largest gated input.
    pub l1: f64,
    /// `√(Σ (h − ĥ)² / Σ h²)`
    pub l2: f64,
    /// `Σ |ĥ[t]| / Σ |h|` for t from L to 4L, where the original is zero.
    pub beyond: f64,
}

/// Fits `modes` (at least 1) exponentials to the taps `h[1..]`. Deterministic. Memory: 32 modes
/// or so a sample, of which there are 2048 where the filter is smooth and L at most.
pub fn fit(h: &[f32], modes: usize) -> Modes {
    let mut fitted = Modes {
        poles: vec![[0.0; 2]; modes],
        residues: vec![[0.0; 2]; modes],
    };
    let f: Vec<f64> = h.iter().skip(1).map(|&x| f64::from(x)).collect();
    if f.iter().all(|x| *x == 0.0) || f.iter().any(|x| !x.is_finite()) {
        return fitted;
    }
    let stride = stride(&f);
    let samples: Vec<f64> = f.iter().step_by(stride).copied().collect();
    let slowest = 1.0 / h.len() as f64;
    let mut exponents: Vec<Complex64> = hankel::poles(&samples, modes)
        .into_iter()
        .filter(|pole| pole.norm() > 0.0)
        .map(|pole| bounded(pole.ln() / stride as f64, slowest))
        .collect();
    if exponents.is_empty() {
        exponents.push(Complex64::new(-slowest, 0.0));
    }
    let grid = Grid::new(&f, stride);
    if grid.times.len() <= STEP_SAMPLES {
        exponents = improve(&grid, exponents, slowest);
    }
    // Residues are fitted to the poles as rounded: near 1 an f32 has few digits of the decay.
    for (pole, exponent) in fitted.poles.iter_mut().zip(&exponents) {
        *pole = rounded(exponent.exp());
    }
    let stored: Vec<Complex64> = fitted.poles[..exponents.len()]
        .iter()
        .map(|pole| complex(*pole).ln())
        .collect();
    for (residue, found) in fitted.residues.iter_mut().zip(residues(&grid, &stored)) {
        *residue = [found.re as f32, found.im as f32];
    }
    fitted
}

impl Modes {
    /// The errors of these modes as a stand-in for the taps `h`, the first of which is kept.
    pub fn errors(&self, h: &[f32]) -> Errors {
        let mut state: Vec<(Complex64, Complex64)> = self
            .poles
            .iter()
            .zip(&self.residues)
            .filter(|(_, residue)| **residue != [0.0; 2])
            .map(|(pole, residue)| (complex(*pole), complex(*residue)))
            .collect();
        let mut next = || {
            let mut sum = 0.0;
            for (pole, term) in &mut state {
                sum += term.re;
                *term *= *pole;
            }
            sum
        };
        let (mut sums, mut squares) = ([0.0; 2], [0.0; 2]);
        for (t, h) in h.iter().enumerate() {
            let h = f64::from(*h);
            let error = if t == 0 { 0.0 } else { h - next() };
            sums = [sums[0] + error.abs(), sums[1] + h.abs()];
            squares = [squares[0] + error * error, squares[1] + h * h];
        }
        let tail: f64 = (0..3 * h.len()).map(|_| next().abs()).sum();
        let part = |x: f64, of: f64| if of > 0.0 { x / of } else { 0.0 };
        Errors {
            l1: part(sums[0], sums[1]),
            l2: part(squares[0], squares[1]).sqrt(),
            beyond: part(tail, sums[1]),
        }
    }
}

/// Samples of the filter whose weighted squares stand for all of them.
struct Grid {
    times: Vec<f64>,
    /// Square roots of the weights.
    weights: Vec<f64>,
    /// Weighted values.
    values: DVector<f64>,
}

impl Grid {
    /// The head tap by tap, then every `stride`-th.
    fn new(f: &[f64], stride: usize) -> Self {
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

    /// `√w λ^t`
    fn power(&self, row: usize, exponent: Complex64) -> Complex64 {
        (exponent * self.times[row]).exp() * self.weights[row]
    }
}

/// The largest power of two whose samples determine what lies between them.
fn stride(f: &[f64]) -> usize {
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

/// An exponent −α + iθ within its bounds.
fn bounded(exponent: Complex64, slowest: f64) -> Complex64 {
    let decay = (-exponent.re).clamp(slowest, FASTEST.max(slowest));
    Complex64::new(-decay, exponent.im.clamp(0.0, PI))
}

fn complex(x: [f32; 2]) -> Complex64 {
    Complex64::new(f64::from(x[0]), f64::from(x[1]))
}

/// A pole as stored: its magnitude stays below 1 by more than f32 could lose.
fn rounded(pole: Complex64) -> [f32; 2] {
    let pole = pole * ((1.0 - 2.0 * f64::from(f32::EPSILON)) / pole.norm()).min(1.0);
    [pole.re as f32, pole.im as f32]
}

/// The residues that fit best: linear least squares in their parts, `Re R λ^t = Re R Re λ^t −
/// Im R Im λ^t`. Directions in which the modes hardly differ are left out.
fn residues(grid: &Grid, exponents: &[Complex64]) -> Vec<Complex64> {
    let mut columns = DMatrix::zeros(grid.times.len(), 2 * exponents.len());
    for (n, exponent) in exponents.iter().enumerate() {
        for row in 0..grid.times.len() {
            let power = grid.power(row, *exponent);
            columns[(row, 2 * n)] = power.re;
            columns[(row, 2 * n + 1)] = -power.im;
        }
    }
    let scales: Vec<f64> = columns.column_iter().map(|column| column.norm()).collect();
    for (mut column, scale) in columns.column_iter_mut().zip(&scales) {
        if *scale > 0.0 {
            column /= *scale;
        }
    }
    // A short filter has fewer samples than columns: no thin triangle then.
    let (matrix, values) = match columns.nrows() > columns.ncols() {
        true => {
            let factors = columns.qr();
            (factors.r(), factors.q().tr_mul(&grid.values))
        }
        false => (columns, grid.values.clone()),
    };
    let solution = matrix
        .try_svd(true, true, 1e-15, 10_000)
        .and_then(|svd| svd.solve(&values, 1e-11 * svd.singular_values.max()).ok());
    let Some(solution) = solution else {
        return vec![Complex64::default(); exponents.len()];
    };
    let part = |i: usize| match scales[i] > 0.0 {
        true => solution[i] / scales[i],
        false => 0.0,
    };
    (0..exponents.len())
        .map(|n| Complex64::new(part(2 * n), part(2 * n + 1)))
        .collect()
}

/// Levenberg–Marquardt steps in (α, θ, Re R, Im R) of all modes together.
fn improve(grid: &Grid, mut exponents: Vec<Complex64>, slowest: f64) -> Vec<Complex64> {
    let rest = |exponents: &[Complex64], residues: &[Complex64]| {
        let mut rest = grid.values.clone();
        for (exponent, residue) in exponents.iter().zip(residues) {
            for row in 0..rest.len() {
                rest[row] -= (residue * grid.power(row, *exponent)).re;
            }
        }
        rest
    };
    let mut found = residues(grid, &exponents);
    let mut error = rest(&exponents, &found);
    let exact = 1e-14 * grid.values.norm_squared();
    let mut damping = 1e-3;
    for _ in 0..STEPS {
        if error.norm_squared() <= exact {
            break;
        }
        let mut jacobian = DMatrix::zeros(grid.times.len(), 4 * exponents.len());
        for (n, (exponent, residue)) in exponents.iter().zip(&found).enumerate() {
            for row in 0..grid.times.len() {
                let power = grid.power(row, *exponent);
                let slope = residue * power * grid.times[row];
                let columns = [-slope.re, -slope.im, power.re, -power.im];
                for (i, value) in columns.into_iter().enumerate() {
                    jacobian[(row, 4 * n + i)] = value;
                }
            }
        }
        // A product of two matrices takes the blocked kernel, `tr_mul` a dot product a number.
        let normal = jacobian.transpose() * &jacobian;
        let gradient = jacobian.tr_mul(&error);
        let before = error.norm_squared();
        let mut better = false;
        while !better && damping < 1e8 {
            let mut damped = normal.clone();
            for i in 0..damped.nrows() {
                damped[(i, i)] += damping * damped[(i, i)].max(f64::MIN_POSITIVE);
            }
            let Some(step) = damped.cholesky().map(|factors| factors.solve(&gradient)) else {
                damping *= 10.0;
                continue;
            };
            let tried: Vec<Complex64> = exponents
                .iter()
                .enumerate()
                .map(|(n, e)| bounded(e + Complex64::new(-step[4 * n], step[4 * n + 1]), slowest))
                .collect();
            let residues: Vec<Complex64> = found
                .iter()
                .enumerate()
                .map(|(n, r)| r + Complex64::new(step[4 * n + 2], step[4 * n + 3]))
                .collect();
            let remaining = rest(&tried, &residues);
            better = remaining.norm_squared() < before;
            damping *= if better { 0.2 } else { 10.0 };
            if better {
                (exponents, found, error) = (tried, residues, remaining);
            }
        }
        if !better || error.norm_squared() > before * (1.0 - 1e-3) {
            break;
        }
    }
    exponents
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `h[0] = 0.3`, then the modes' sum.
    fn filter(modes: &[(f64, f64, f64, f64)], length: usize) -> Vec<f32> {
        (0..length)
            .map(|t| match t {
                0 => 0.3,
                _ => modes
                    .iter()
                    .map(|(size, angle, re, im)| {
                        // A pole that can be stored: others are rounded, below.
                        let pole = complex(rounded(Complex64::from_polar(*size, *angle)));
                        (Complex64::new(*re, *im) * pole.powi(t as i32 - 1)).re
                    })
                    .sum::<f64>() as f32,
            })
            .collect()
    }

    #[test]
    fn a_filter_that_is_a_sum_of_modes_is_recovered() {
        let modes = [
            (0.995, 0.3, 1.0, 0.5),
            (0.9, 1.7, -0.4, 0.8),
            (0.98, 0.0, 0.7, 0.0),
            (0.97, PI, 0.2, 0.0),
        ];
        for (length, count) in [(1000, 4), (1000, 7), (3000, 4)] {
            let h = filter(&modes, length);
            let errors = fit(&h, count).errors(&h);
            assert!(
                errors.l1 < 1e-6 && errors.l2 < 1e-6,
                "{length} {count} {errors:?}"
            );
            assert!(errors.beyond < 0.1, "{errors:?}");
        }
    }

    #[test]
    fn a_long_smooth_filter_is_followed_from_few_samples() {
        let length = 40_000;
        let modes = [(0.9999, 0.001, 1.0, 0.0), (0.9997, 0.0, 0.5, 0.0)];
        let h = filter(&modes, length);
        assert!(stride(&h[1..].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()) > 4);
        let errors = fit(&h, 2).errors(&h);
        assert!(errors.l2 < 1e-3, "{errors:?}");
    }

    #[test]
    fn any_taps_give_stable_modes_and_true_errors() {
        let noise = |t: usize| ((t * t * 31 + t * 7) as f32).sin();
        let filters = [
            (0..300).map(noise).collect::<Vec<_>>(),
            vec![0.0; 50],
            vec![1.0; 50],
            vec![1.0, 2.0],
            vec![1.0, 2.0, -3.0],
            (0..40).map(|t| if t == 3 { 1.0 } else { 0.0 }).collect(),
            vec![f32::NAN; 20],
        ];
        for h in filters {
            let modes = fit(&h, 5);
            let size = |pole: &[f32; 2]| complex(*pole).norm();
            assert!(modes.poles.iter().all(|pole| size(pole) < 1.0), "{modes:?}");
            let finite = modes.residues.iter().flatten().all(|x| x.is_finite());
            assert!(finite, "{modes:?}");
            // The errors by their definition.
            let value = |t: usize| {
                let terms = modes.poles.iter().zip(&modes.residues);
                terms
                    .map(|(p, r)| (complex(*r) * complex(*p).powi(t as i32 - 1)).re)
                    .sum::<f64>()
            };
            let absolute: f64 = h.iter().map(|&x| f64::from(x).abs()).sum();
            let differences = (1..h.len()).map(|t| (value(t) - f64::from(h[t])).abs());
            let expected = differences.sum::<f64>() / absolute.max(f64::MIN_POSITIVE);
            let found = modes.errors(&h).l1;
            assert!(
                (found - expected).abs() < 1e-9 || h[0].is_nan(),
                "{found} {expected}"
            );
        }
    }
}
