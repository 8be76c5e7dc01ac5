//! One filter as a sum of exponentials: `h[t] ≈ Re Σ_n R_n λ_n^{t−1}` for t from 1 on.
//!
//! Poles come from the Hankel matrix of the filter's samples, residues by linear least squares,
//! and both are improved together by Levenberg–Marquardt steps on the squared error. A pole is
//! λ = exp(−α + iθ), α from 1/L to 5: what lies beyond the filter's end decays.

mod grid;
mod improve;

use super::hankel;
use grid::{Grid, stride};
use improve::{improve, residues};
use num_complex::Complex64;
use std::f64::consts::PI;

/// The fastest decay: a mode that is gone after three taps.
const FASTEST: f64 = 5.0;
/// Samples of a filter that is not improved: it is so rough that few modes cannot follow it in any
/// case.
const ROUGH: usize = 8192;
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

/// Fits up to `modes` (at least 1) exponentials to the taps `h[1..]`. For each of [`counts`], the best
/// of several fits of none and of so many and fewer, so that more modes are never worse by
/// [`Errors::l1`]. What each has beyond the taps' end is no larger than their last quarter and its own.
///
/// Deterministic. Memory: 32 modes or so a sample, of which there are 2048 where the filter is smooth
/// and L at most.
pub fn fit(h: &[f32], modes: usize) -> Vec<Modes> {
    let mut best = Modes {
        poles: Vec::new(),
        residues: Vec::new(),
    };
    let f: Vec<f64> = h.iter().skip(1).map(|&x| f64::from(x)).collect();
    let fits = f.iter().any(|x| *x != 0.0) && f.iter().all(|x| x.is_finite());
    let taps = fits.then(|| SampledTaps::new(&f));
    let mut error = best.errors(h).l1;
    let mut found = Vec::new();
    for count in counts(modes) {
        if let Some(taps) = taps.as_ref().filter(|_| error >= EXACT) {
            for tried in taps.fits(count) {
                let errors = tried.errors(h);
                if errors.is_bounded() && errors.l1 < error {
                    (error, best) = (errors.l1, tried);
                }
            }
        }
        found.push(best.filled(count));
    }
    found
}

/// How many exponentials are tried where so many are allowed: powers of two, and numbers half way
/// between them.
pub fn counts(modes: usize) -> impl Iterator<Item = usize> {
    let octaves = (0..usize::BITS - 1).map(|octave| 1usize << octave);
    let all = octaves.flat_map(|n| {
        let half = (n >= 2).then_some(n + n / 2);
        std::iter::once(n).chain(half)
    });
    all.take_while(move |count| *count <= modes)
}

/// The taps after the first one, and samples of them.
struct SampledTaps {
    samples: Vec<f64>,
    stride: usize,
    /// The slowest decay of a mode.
    slowest: f64,
    grid: Grid,
    /// The same, followed by zeros beyond the end.
    ended: Grid,
}

impl SampledTaps {
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
        if self.grid.times.len() <= ROUGH {
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
    /// The same as so many, the others zero.
    fn filled(&self, count: usize) -> Self {
        let mut filled = self.clone();
        filled.poles.resize(count, [0.0; 2]);
        filled.residues.resize(count, [0.0; 2]);
        filled
    }

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

#[cfg(test)]
mod tests;
