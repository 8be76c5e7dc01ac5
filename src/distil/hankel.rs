//! Poles of a filter from the singular vectors of its Hankel matrix: Kung 1978; as the
//! eigensystem realisation algorithm, Juang & Pappa 1985.
//!
//! The matrix `S[i, j] = f[i + j]`, n × n, is never formed: products with it are correlations, by
//! FFT. It is symmetric, so its leading singular vectors are eigenvectors, found in the range of
//! a few random products (Halko, Martinsson & Tropp 2011, arXiv:0909.4061).

use nalgebra::{DMatrix, Schur};
use num_complex::Complex64;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use rustfft::{Fft, FftPlanner};
use std::sync::Arc;

/// Random vectors beyond those asked for.
const SPARE: usize = 8;
/// Products that sharpen the range.
const POWERS: usize = 2;
/// Singular values below this part of the largest one are rounding of the f32 taps and of the FFT.
const NOISE: f64 = 1e-9;

/// At most `modes` poles with an imaginary part of at least 0 (a complex one stands for itself
/// and its conjugate) of the real sequence `f`. None where nothing was found.
pub fn poles(f: &[f64], modes: usize) -> Vec<Complex64> {
    let n = f.len().div_ceil(2);
    if n < 2 {
        return Vec::new();
    }
    let Some(basis) = leading(f, n, (2 * modes).min(n - 1)) else {
        return Vec::new();
    };
    // A = U[..n−1]⁺ U[1..]; with orthonormal columns U[..n−1]ᵀU[..n−1] = I − u uᵀ, u the last row.
    let shifted = basis.rows(0, n - 1).transpose() * basis.rows(1, n - 1);
    let last = basis.row(n - 1).transpose();
    // The largest order whose eigenvalues are no more than `modes` pairs and single ones.
    (1..=basis.ncols())
        .rev()
        .find_map(|order| {
            let m = shifted.view((0, 0), (order, order));
            let u = last.rows(0, order);
            let rest = 1.0 - u.norm_squared();
            let a = m + u * (u.transpose() * m) / rest.max(f64::EPSILON);
            let eigenvalues = Schur::try_new(a, 1e-14, 10_000)?.complex_eigenvalues();
            let found: Vec<Complex64> = eigenvalues
                .iter()
                .map(|e| Complex64::new(e.re, e.im))
                .filter(|e| e.im >= 0.0 && e.re.is_finite() && e.im.is_finite())
                .collect();
            (found.len() <= modes).then_some(found)
        })
        .unwrap_or_default()
}

/// Up to `count` eigenvectors of the Hankel matrix (n, count), by falling magnitude of their
/// eigenvalues, as far as these stand out from noise.
fn leading(f: &[f64], n: usize, count: usize) -> Option<DMatrix<f64>> {
    let hankel = Hankel::new(f, n);
    // Equal filters give equal poles.
    let mut rng = StdRng::seed_from_u64(1);
    let mut y = DMatrix::from_fn(n, (count + SPARE).min(n), |_, _| {
        StandardNormal.sample(&mut rng)
    });
    for _ in 0..=POWERS {
        y = hankel.product(&y).qr().q();
    }
    let small = y.transpose() * hankel.product(&y);
    let small = (&small + small.transpose()) * 0.5;
    let eigen = small.try_symmetric_eigen(1e-15, 10_000)?;
    let size = |i: &usize| eigen.eigenvalues[*i].abs();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let largest = order.first().map(size)?;
    order.truncate(count);
    order.retain(|i| size(i) > NOISE * largest);
    if order.is_empty() {
        None
    } else {
        Some(y * eigen.eigenvectors.select_columns(&order))
    }
}

/// Products with a Hankel matrix.
struct Hankel {
    n: usize,
    forward: Arc<dyn Fft<f64>>,
    inverse: Arc<dyn Fft<f64>>,
    spectrum: Vec<Complex64>,
}

impl Hankel {
    /// Of the first 2n − 1 values of `f`.
    fn new(f: &[f64], n: usize) -> Self {
        let size = (2 * n - 1).next_power_of_two();
        let mut planner = FftPlanner::new();
        let forward = planner.plan_fft_forward(size);
        let mut spectrum = vec![Complex64::default(); size];
        for (s, f) in spectrum.iter_mut().zip(&f[..(2 * n - 1).min(f.len())]) {
            s.re = *f / size as f64;
        }
        forward.process(&mut spectrum);
        Self {
            n,
            forward,
            inverse: planner.plan_fft_inverse(size),
            spectrum,
        }
    }

    /// (n, k) to (n, k). `y[i] = Σ_j f[i + j] x[j]` is the convolution of f with x reversed, at
    /// n − 1 + i; what a cyclic one of size 2n − 1 wraps lands before that.
    fn product(&self, x: &DMatrix<f64>) -> DMatrix<f64> {
        let n = self.n;
        let mut y = DMatrix::zeros(n, x.ncols());
        let mut buffer = Vec::new();
        // Two real columns are the parts of one complex signal.
        for first in (0..x.ncols()).step_by(2) {
            let second = (first + 1 < x.ncols()).then_some(first + 1);
            buffer.clear();
            buffer.resize(self.spectrum.len(), Complex64::default());
            for (i, z) in buffer[..n].iter_mut().enumerate() {
                let row = n - 1 - i;
                *z = Complex64::new(x[(row, first)], second.map_or(0.0, |c| x[(row, c)]));
            }
            self.forward.process(&mut buffer);
            for (z, s) in buffer.iter_mut().zip(&self.spectrum) {
                *z *= s;
            }
            self.inverse.process(&mut buffer);
            for (i, z) in buffer[n - 1..2 * n - 1].iter().enumerate() {
                y[(i, first)] = z.re;
                if let Some(second) = second {
                    y[(i, second)] = z.im;
                }
            }
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_equal_those_with_the_matrix() {
        for n in [1, 2, 5, 32, 33] {
            let f: Vec<f64> = (0..2 * n - 1).map(|i| (i as f64 * 0.7).sin()).collect();
            let x = DMatrix::from_fn(n, 3, |i, j| ((i * 3 + j) as f64).cos());
            let expected = DMatrix::from_fn(n, n, |i, j| f[i + j]) * &x;
            let error = (Hankel::new(&f, n).product(&x) - expected).amax();
            assert!(error < 1e-12, "{n}: {error}");
        }
    }
}
