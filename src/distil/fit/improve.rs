//! Residues of given poles, and both improved together.

use super::bounded;
use super::grid::Grid;
use nalgebra::{DMatrix, DVector};
use num_complex::Complex64;

/// Steps of the improvement.
const STEPS: usize = 30;

/// The residues that fit best: linear least squares in their parts, `Re R λ^t = Re R Re λ^t −
/// Im R Im λ^t`. Directions in which the modes hardly differ are left out.
pub(super) fn residues(grid: &Grid, exponents: &[Complex64]) -> Vec<Complex64> {
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
pub(super) fn improve(grid: &Grid, mut exponents: Vec<Complex64>, slowest: f64) -> Vec<Complex64> {
    let mut found = residues(grid, &exponents);
    let mut error = remaining(grid, &exponents, &found);
    let exact = 1e-14 * grid.values.norm_squared();
    let mut damping = 1e-3;
    for _ in 0..STEPS {
        if error.norm_squared() <= exact {
            break;
        }
        let jacobian = jacobian(grid, &exponents, &found);
        // A product of two matrices takes the blocked kernel, `tr_mul` a dot product a number.
        let normal = jacobian.transpose() * &jacobian;
        let gradient = jacobian.tr_mul(&error);
        let before = error.norm_squared();
        let mut better = false;
        while !better && damping < 1e8 {
            let Some(step) = damped_step(&normal, &gradient, damping) else {
                damping *= 10.0;
                continue;
            };
            let (tried, residues) = moved(&exponents, &found, &step, slowest);
            let rest = remaining(grid, &tried, &residues);
            better = rest.norm_squared() < before;
            damping *= if better { 0.2 } else { 10.0 };
            if better {
                (exponents, found, error) = (tried, residues, rest);
            }
        }
        if !better || error.norm_squared() > before * (1.0 - 1e-3) {
            break;
        }
    }
    exponents
}

/// What the modes leave of the samples.
fn remaining(grid: &Grid, exponents: &[Complex64], residues: &[Complex64]) -> DVector<f64> {
    let mut rest = grid.values.clone();
    for (exponent, residue) in exponents.iter().zip(residues) {
        for row in 0..rest.len() {
            rest[row] -= (residue * grid.power(row, *exponent)).re;
        }
    }
    rest
}

/// The slopes of the modes' sum along (α, θ, Re R, Im R) of each: (samples, 4 · modes).
fn jacobian(grid: &Grid, exponents: &[Complex64], residues: &[Complex64]) -> DMatrix<f64> {
    let mut jacobian = DMatrix::zeros(grid.times.len(), 4 * exponents.len());
    for (n, (exponent, residue)) in exponents.iter().zip(residues).enumerate() {
        for row in 0..grid.times.len() {
            let power = grid.power(row, *exponent);
            let slope = residue * power * grid.times[row];
            let columns = [-slope.re, -slope.im, power.re, -power.im];
            for (i, value) in columns.into_iter().enumerate() {
                jacobian[(row, 4 * n + i)] = value;
            }
        }
    }
    jacobian
}

/// The step against the gradient, the shorter the more it is damped; none if the matrix is not
/// positive definite.
fn damped_step(
    normal: &DMatrix<f64>,
    gradient: &DVector<f64>,
    damping: f64,
) -> Option<DVector<f64>> {
    let mut damped = normal.clone();
    for i in 0..damped.nrows() {
        damped[(i, i)] += damping * damped[(i, i)].max(f64::MIN_POSITIVE);
    }
    damped.cholesky().map(|factors| factors.solve(gradient))
}

/// Exponents and residues after a step.
fn moved(
    exponents: &[Complex64],
    residues: &[Complex64],
    step: &DVector<f64>,
    slowest: f64,
) -> (Vec<Complex64>, Vec<Complex64>) {
    let exponents = exponents.iter().enumerate();
    let residues = residues.iter().enumerate();
    (
        exponents
            .map(|(n, e)| bounded(e + Complex64::new(-step[4 * n], step[4 * n + 1]), slowest))
            .collect(),
        residues
            .map(|(n, r)| r + Complex64::new(step[4 * n + 2], step[4 * n + 3]))
            .collect(),
    )
}
