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
/// An error below which more modes are not tried: f32 taps have no more digits.
const EXACT: f64 = 1e-7;

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
    /// The largest `|ĥ[t]|` for t from L to 4L, relative to the largest of `|h|` and `|ĥ|` in the last
    /// quarter before L.
    pub overshoot: f64,
}

impl Errors {
    /// Whether what lies beyond the filter's length is no larger than its end.
    pub fn is_bounded(&self) -> bool {
        self.overshoot <= 1.0
    }
}

/// Fits up to `modes` (at least 1) exponentials to the taps `h[1..]`: the best of several fits, of
/// none and of 1, 2, 3, 4, 6, 8, 12, … of them, so that more modes are never worse by
/// [`Errors::l1`]. What the chosen one has beyond the taps' end is no larger than their last quarter
/// and its own.
///
/// Deterministic. Memory: 32 modes or so a sample, of which there are 2048 where the filter is smooth
/// and L at most.
pub fn fit(h: &[f32], modes: usize) -> Modes {
    let mut best = Modes {
        poles: vec![[0.0; 2]; modes],
        residues: vec![[0.0; 2]; modes],
    };
    let f: Vec<f64> = h.iter().skip(1).map(|&x| f64::from(x)).collect();
    if f.iter().all(|x| *x == 0.0) || f.iter().any(|x| !x.is_finite()) {
        return best;
    }
    let taps = Taps::new(&f);
    let mut error = best.errors(h).l1;
    for count in counts().take_while(|count| *count <= modes) {
        for mut found in taps.fits(count) {
            found.poles.resize(modes, [0.0; 2]);
            found.residues.resize(modes, [0.0; 2]);
            let errors = found.errors(h);
            if errors.is_bounded() && errors.l1 < error {
                (error, best) = (errors.l1, found);
            }
        }
        if error < EXACT {
            break;
        }
    }
    best
}

/// How many exponentials are tried: powers of two, and numbers half way between them.
fn counts() -> impl Iterator<Item = usize> {
    let octaves = (0..usize::BITS - 1).map(|octave| 1usize << octave);
    octaves.flat_map(|n| {
        let half = (n >= 2).then_some(n + n / 2);
        std::iter::once(n).chain(half)
    })
}

/// The taps after the first one, and samples of them.
struct Taps {
    samples: Vec<f64>,
    stride: usize,
    /// The slowest decay of a mode.
    slowest: f64,
    grid: Grid,
    /// The same, followed by zeros beyond the end.
    ended: Grid,
}

impl Taps {
    fn new(f: &[f64]) -> Self {
        let stride = stride(f);
        let grid = Grid::new(f, stride);
        Self {
            samples: f.iter().step_by(stride).copied().collect(),
            stride,
            slowest: 1.0 / (f.len() + 1) as f64,
            ended: grid.ended(f.len(), stride),
            grid,
        }
    }

    /// Fits of at most `count` exponentials: to the taps alone, and to the zeros after them too.
    fn fits(&self, count: usize) -> [Modes; 2] {
        let mut exponents: Vec<Complex64> = hankel::poles(&self.samples, count)
            .into_iter()
            .filter(|pole| pole.norm() > 0.0)
            .map(|pole| bounded(pole.ln() / self.stride as f64, self.slowest))
            .collect();
        if exponents.is_empty() {
            exponents.push(Complex64::new(-self.slowest, 0.0));
        }
        if self.grid.times.len() <= STEP_SAMPLES {
            exponents = improve(&self.grid, exponents, self.slowest);
        }
        // Residues are fitted to the poles as rounded: near 1 an f32 has few digits of the decay.
        let poles: Vec<[f32; 2]> = exponents.iter().map(|e| rounded(e.exp())).collect();
        let stored: Vec<Complex64> = poles.iter().map(|pole| complex(*pole).ln()).collect();
        [&self.grid, &self.ended].map(|grid| {
            let found = residues(grid, &stored).into_iter();
            Modes {
                poles: poles.clone(),
                residues: found.map(|r| [r.re as f32, r.im as f32]).collect(),
            }
        })
    }
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
        let (mut sums, mut squares, mut end) = ([0.0; 2], [0.0; 2], 0f64);
        let last = h.len() - h.len().div_ceil(4);
        for (t, h) in h.iter().enumerate() {
            let h = f64::from(*h);
            let value = if t == 0 { h } else { next() };
            let error = h - value;
            sums = [sums[0] + error.abs(), sums[1] + h.abs()];
            squares = [squares[0] + error * error, squares[1] + h * h];
            if t >= last {
                end = end.max(h.abs()).max(value.abs());
            }
        }
        let (mut tail, mut largest) = (0.0, 0f64);
        for _ in 0..3 * h.len() {
            let value = next().abs();
            tail += value;
            largest = largest.max(value);
        }
        let part = |x: f64, of: f64| if of > 0.0 { x / of } else { 0.0 };
        Errors {
            l1: part(sums[0], sums[1]),
            l2: part(squares[0], squares[1]).sqrt(),
            beyond: part(tail, sums[1]),
            overshoot: if largest > 0.0 { largest / end } else { 0.0 },
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

    /// These samples, and zeros for three times as many taps as there are, after them.
    fn ended(&self, taps: usize, stride: usize) -> Self {
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
    let (matrix, values) = if columns.nrows() > columns.ncols() {
        let factors = columns.qr();
        (factors.r(), factors.q().tr_mul(&grid.values))
    } else {
        (columns, grid.values.clone())
    };
    let solution = matrix
        .try_svd(true, true, 1e-15, 10_000)
        .and_then(|svd| svd.solve(&values, 1e-11 * svd.singular_values.max()).ok());
    let Some(solution) = solution else {
        return vec![Complex64::default(); exponents.len()];
    };
    let part = |i: usize| {
        if scales[i] > 0.0 {
            solution[i] / scales[i]
        } else {
            0.0
        }
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
    fn more_modes_are_never_worse_and_nothing_is_larger_beyond_the_end_than_before_it() {
        let decay = |t: usize, l: usize, d: f64| (-(t as f64) / l as f64 * d).exp();
        let noise = |t: usize| ((t * t * 31 + t * 7) as f64).sin();
        let tone = |t: usize, n: usize| (t as f64 * (n as f64 + 0.3) / 40.0).sin();
        for (length, last) in [(258, 3.07), (258, 15.0), (514, 1.0)] {
            let filters: [&dyn Fn(usize) -> f64; 3] = [
                &|t| decay(t, length, last) * (1..9).map(|n| tone(t, n) / n as f64).sum::<f64>(),
                &|t| decay(t, length, last) * (tone(t, 3) + 0.1 * noise(t)),
                &|t| decay(t, length, last) * (1.0 + tone(t, 1)).powi(5),
            ];
            for (i, filter) in filters.iter().enumerate() {
                let h: Vec<f32> = (0..length).map(|t| filter(t) as f32).collect();
                let mut before = f64::INFINITY;
                for modes in [1, 2, 3, 5, 8, 16, 33, 64] {
                    let errors = fit(&h, modes).errors(&h);
                    let place = format!("filter {i}, {length} taps, {last}, {modes}: {errors:?}");
                    assert!(errors.l1 <= before, "{place}, before {before}");
                    assert!(errors.is_bounded(), "{place}");
                    before = errors.l1;
                }
                assert!(before < 0.2, "filter {i}, {length} taps: {before}");
            }
        }
    }

    #[test]
    fn counts_that_are_tried_are_nested() {
        let first: Vec<usize> = counts().take(10).collect();
        assert_eq!(first, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]);
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
