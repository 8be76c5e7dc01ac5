//! Bidirectional attention by landmarks, in linear time: Nyströmformer, Xiong et al. 2021,
//! arXiv:2102.03902.
//!
//! `softmax(Q K̃ᵀ) · A⁺ · softmax(Q̃ Kᵀ) V + conv(V)`, `A = softmax(Q̃ K̃ᵀ)`, all scores over √d: the
//! landmarks Q̃ and K̃ are means of m runs of queries and keys of equal length. Every output depends
//! on the whole sequence: it does not stream.

mod backward;

use super::rotary::{self, Rotary};
use super::{Matrix, beside, multiply, weigh, whole};
use crate::error::Result;
use crate::ops::{Tensor, timing};
use crate::ops::{expect_shape, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;
use std::ops::Range;

/// Rows of a tile.
const ROWS: usize = 256;
/// Of the iteration for the pseudo-inverse, as published.
const ITERATIONS: usize = 6;

/// Nyström attention over rows of queries, keys and values of whole sequences.
#[derive(Clone, Debug)]
pub struct Nystrom {
    heads: usize,
    width: usize, // d, of a head
    landmarks: usize,
    conv: Tensor,   // (heads, 1, K)
    taps: Vec<f32>, // its values
    rotary: Option<Rotary>,
}

/// A head of one sequence: queries, keys and values, (n, d) each.
struct Head<'a> {
    parts: [Matrix<'a>; 3],
    taps: &'a [f32],
}

impl Nystrom {
    /// `conv` is (heads, 1, K), K odd: the taps of each head's convolution over its values.
    pub fn new(
        width: usize,
        landmarks: usize,
        conv: &Tensor,
        rotary: Option<Rotary>,
    ) -> Result<Self> {
        let (heads, _, _) = conv.dims3()?;
        Ok(Self {
            heads,
            width,
            landmarks,
            conv: conv.clone(),
            taps: conv.to_vec1()?,
            rotary,
        })
    }

    /// (T, 3D), the columns `[q | k | v]` of D = heads · d each, to (T, D).
    pub fn forward(&self, x: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let _span = timing::span("attention");
        let (rows, d) = (x.dim(0)?, self.heads * self.width);
        expect_shape("nystrom", x, &[rows, 3 * d])?;
        whole(segments)?;
        let (out, turned, positions) = with_slices([x], |[x]| {
            let positions = rotary::positions(Vec::new(), segments)?;
            let turned = rotary::turned(self.rotary.as_ref(), x, &positions, self.width);
            let heads: Vec<Vec<f32>> = (0..self.heads)
                .into_par_iter()
                .map(|head| {
                    let runs = spans(segments).into_par_iter();
                    let runs = runs.map(|span| {
                        let head = self.head(head, &turned, x, span);
                        head.run(self.landmarks)
                    });
                    runs.collect::<Vec<_>>().concat()
                })
                .collect();
            Ok((beside(&heads, rows, self.width), turned, positions))
        })?;
        let out = Tensor::from_vec(out, (rows, d), x.device())?;
        if !x.is_tracked() && !self.conv.is_tracked() {
            return Ok(out);
        }
        let step = backward::Step {
            nystrom: self.clone(),
            x: x.detach(),
            turned,
            positions,
            segments: segments.to_vec(),
        };
        Ok(out.derived([x, &self.conv], move |grad| step.backward(grad)))
    }

    /// One head of the sequence of these rows.
    fn head<'a>(
        &'a self,
        head: usize,
        turned: &'a [f32],
        x: &'a [f32],
        rows: Range<usize>,
    ) -> Head<'a> {
        let (d, taps) = (self.heads * self.width, self.taps.len() / self.heads);
        let parts = [(turned, 2, 0), (turned, 2, 1), (x, 3, 2)];
        Head {
            parts: parts.map(|(values, of, part)| Matrix {
                values: &values[(rows.start * of + part) * d + head * self.width..],
                rows: rows.len(),
                columns: self.width,
                strides: (of * d, 1),
            }),
            taps: &self.taps[head * taps..][..taps],
        }
    }
}

/// The rows of each segment.
fn spans(segments: &[Segment]) -> Vec<Range<usize>> {
    let each = segments.iter().scan(0, |from, segment| {
        *from += segment.len;
        Some(*from - segment.len..*from)
    });
    each.collect()
}

/// The landmarks of a head: m means of queries and of keys, (m, d) each.
struct Landmarks {
    queries: Vec<f32>,
    keys: Vec<f32>,
    /// A: softmax(Q̃ K̃ᵀ), (m, m).
    weights: Vec<f32>,
    /// softmax(Q̃ Kᵀ) V, (m, d).
    seen: Vec<f32>,
    /// The logarithms of the sums of exp(Q̃ Kᵀ), (m).
    logs: Vec<f32>,
}

impl Head<'_> {
    fn run(&self, landmarks: usize) -> Vec<f32> {
        let [queries, ..] = self.parts;
        let (n, width) = (queries.rows, queries.columns);
        let marks = self.landmarks(landmarks);
        let m = landmarks.min(n);
        let inverse = inverses(&marks.weights, m).pop().unwrap_or_default();
        let middle = product(&inverse, &marks.seen, [m, m, width], [false, false], 1.0);
        let middle = Matrix::new(&middle, m, width);
        let k = Matrix::new(&marks.keys, m, width);
        let mut out = unwritten(n * width);
        for (i, out) in out.chunks_mut(ROWS * width).enumerate() {
            let weights = scores(queries.at(i * ROWS, ROWS), k, |_, row| softmax(row));
            let weights = Matrix::new(&weights, out.len() / width, m);
            multiply(out, false, weights, middle, 1.0);
        }
        self.convolve(&mut out);
        out
    }

    /// The landmarks, and what they see of the keys and values, a tile at a time.
    fn landmarks(&self, landmarks: usize) -> Landmarks {
        let [queries, keys, values] = self.parts;
        let (n, width) = (queries.rows, queries.columns);
        let m = landmarks.min(n);
        let (q, k) = (means(queries, m), means(keys, m));
        let mut seen = vec![0.0; m * width];
        let (mut largest, mut sums) = (vec![f32::NEG_INFINITY; m], vec![0.0; m]);
        for from in (0..n).step_by(ROWS) {
            let scores = scores(
                Matrix::new(&q, m, width),
                keys.at(from, ROWS),
                |i, scores| {
                    let seen = &mut seen[i * width..][..width];
                    weigh(scores, &mut largest[i], &mut sums[i], seen);
                },
            );
            let scores = Matrix::new(&scores, m, ROWS.min(n - from));
            multiply(&mut seen, true, scores, values.at(from, ROWS), 1.0);
        }
        for (row, sum) in seen.chunks_exact_mut(width).zip(&sums) {
            row.iter_mut().for_each(|x| *x /= sum);
        }
        let logs = sums.iter().zip(&largest);
        Landmarks {
            weights: scores(
                Matrix::new(&q, m, width),
                Matrix::new(&k, m, width),
                |_, row| softmax(row),
            ),
            queries: q,
            keys: k,
            seen,
            logs: logs.map(|(sum, largest)| sum.ln() + largest).collect(),
        }
    }

    /// `out[t] += Σ_j taps[j] · v[t + j − K/2]`, zeros beyond the ends.
    fn convolve(&self, out: &mut [f32]) {
        let values = self.parts[2];
        let half = self.taps.len() / 2;
        for (t, out) in out.chunks_exact_mut(values.columns).enumerate() {
            for (j, tap) in self.taps.iter().enumerate() {
                let Some(row) = (t + j).checked_sub(half).filter(|row| *row < values.rows) else {
                    continue;
                };
                let row = &values.values[row * values.strides.0..][..values.columns];
                for (out, v) in out.iter_mut().zip(row) {
                    *out += tap * v;
                }
            }
        }
    }
}

/// `x yᵀ / √d`, each row through `f`.
fn scores(x: Matrix, y: Matrix, mut f: impl FnMut(usize, &mut [f32])) -> Vec<f32> {
    let mut scores = unwritten(x.rows * y.rows);
    let scale = 1.0 / (x.columns as f32).sqrt();
    multiply(&mut scores, false, x, y.transposed(), scale);
    for (i, row) in scores.chunks_exact_mut(y.rows).enumerate() {
        f(i, row);
    }
    scores
}

fn softmax(row: &mut [f32]) {
    let (mut largest, mut sum) = (f32::NEG_INFINITY, 0.0);
    weigh(row, &mut largest, &mut sum, &mut []);
    row.iter_mut().for_each(|x| *x /= sum);
}

/// The means of `m` runs of rows: (m, d).
fn means(x: Matrix, m: usize) -> Vec<f32> {
    let mut means = vec![0.0; m * x.columns];
    for (i, mean) in means.chunks_exact_mut(x.columns).enumerate() {
        let run = i * x.rows / m..(i + 1) * x.rows / m;
        let part = 1.0 / run.len() as f32;
        for row in run {
            let row = &x.values[row * x.strides.0..][..x.columns];
            for (mean, x) in mean.iter_mut().zip(row) {
                *mean += x * part;
            }
        }
    }
    means
}

/// Pseudo-inverses of `a` (m, m), each closer than the one before, by the published iteration
/// `Z ← ¼ Z (13 I − A Z (15 I − A Z (7 I − A Z)))`, from `Z = Aᵀ / (‖A‖₁ ‖A‖∞)`.
fn inverses(a: &[f32], m: usize) -> Vec<Vec<f32>> {
    let scale = norms(a, m).iter().map(|(norm, _)| norm).product::<f32>();
    let first = (0..m * m).map(|i| a[i % m * m + i / m] / scale).collect();
    let mut all: Vec<Vec<f32>> = vec![first];
    for i in 0..ITERATIONS {
        let [.., inner] = steps(a, &all[i], m);
        all.push(product(&all[i], &inner, [m; 3], [false, false], 0.25));
    }
    all
}

/// The factors of an iteration: `A Z`, `7 I − A Z`, `15 I − A Z (…)` and `13 I − A Z (…)`.
fn steps(a: &[f32], z: &[f32], m: usize) -> [Vec<f32>; 4] {
    let az = product(a, z, [m; 3], [false, false], 1.0);
    let less = |mut x: Vec<f32>, diagonal| {
        add_diagonal(&mut x, m, diagonal);
        x
    };
    let first = less(az.iter().map(|x| -x).collect(), 7.0);
    let second = less(product(&az, &first, [m; 3], [false, false], -1.0), 15.0);
    let third = less(product(&az, &second, [m; 3], [false, false], -1.0), 13.0);
    [az, first, second, third]
}

/// The largest sums of a row and of a column of positive numbers, and which have them.
fn norms(a: &[f32], m: usize) -> [(f32, usize); 2] {
    let largest = |sum: &dyn Fn(usize) -> f32| {
        let sums = (0..m).map(|i| (sum(i), i));
        sums.fold((f32::NEG_INFINITY, 0), |best, next| {
            if next.0 > best.0 { next } else { best }
        })
    };
    [
        largest(&|i| a[i * m..][..m].iter().sum()),
        largest(&|j| (0..m).map(|i| a[i * m + j]).sum()),
    ]
}

/// `scale · x y`, rows x columns and what is summed over as `sizes` [rows, summed, columns]; each
/// matrix may be `turned`: stored as its transpose.
fn product(
    x: &[f32],
    y: &[f32],
    [rows, summed, columns]: [usize; 3],
    turned: [bool; 2],
    scale: f32,
) -> Vec<f32> {
    let matrix = |values, rows, columns, turned| {
        if turned {
            Matrix::new(values, columns, rows).transposed()
        } else {
            Matrix::new(values, rows, columns)
        }
    };
    let (x, y) = (
        matrix(x, rows, summed, turned[0]),
        matrix(y, summed, columns, turned[1]),
    );
    let mut out = unwritten(rows * columns);
    multiply(&mut out, false, x, y, scale);
    out
}

fn add_diagonal(x: &mut [f32], m: usize, value: f32) {
    x.iter_mut().step_by(m + 1).for_each(|x| *x += value);
}

#[cfg(test)]
mod tests;
