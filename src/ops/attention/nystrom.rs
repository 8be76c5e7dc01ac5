//! Bidirectional attention by landmarks, in linear time: Nyströmformer, Xiong et al. 2021,
//! arXiv:2102.03902.
//!
//! `softmax(Q K̃ᵀ) · A⁺ · softmax(Q̃ Kᵀ) V + conv(V)`, `A = softmax(Q̃ K̃ᵀ)`, all scores over √d: the
//! landmarks Q̃ and K̃ are means of m runs of queries and keys of equal length. Every output depends
//! on the whole sequence: it does not stream.

use super::rotary::{self, Rotary};
use super::{Matrix, multiply, weigh, whole};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::timing;
use crate::ops::{constant_only, expect_shape, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;

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
    taps: Vec<f32>, // (heads, K)
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
            taps: conv.to_vec1()?,
            rotary,
        })
    }

    /// (T, 3D), the columns `[q | k | v]` of D = heads · d each, to (T, D).
    pub fn forward(&self, x: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let _span = timing::span("attention");
        let (rows, d) = (x.dim(0)?, self.heads * self.width);
        expect_shape("nystrom", x, &[rows, 3 * d])?;
        constant_only("Nyström attention", x)?;
        whole(segments)?;
        let out = with_slices([x], |[x]| {
            let positions = rotary::positions(Vec::new(), segments)?;
            let turned = rotary::turned(self.rotary.as_ref(), x, &positions, self.width);
            let starts = segments.iter().scan(0, |from, segment| {
                *from += segment.len;
                Some((*from - segment.len, segment.len))
            });
            let starts: Vec<_> = starts.collect();
            let heads: Vec<Vec<f32>> = (0..self.heads)
                .into_par_iter()
                .map(|head| {
                    let runs = starts.par_iter().map(|&(from, n)| {
                        let parts = [(&turned[..], 2, 0), (&turned[..], 2, 1), (x, 3, 2)];
                        let taps = self.taps.len() / self.heads;
                        let head = Head {
                            parts: parts.map(|(values, of, part)| Matrix {
                                values: &values[(from * of + part) * d + head * self.width..],
                                rows: n,
                                columns: self.width,
                                strides: (of * d, 1),
                            }),
                            taps: &self.taps[head * taps..][..taps],
                        };
                        head.run(self.landmarks)
                    });
                    runs.collect::<Vec<_>>().concat()
                })
                .collect();
            Ok(super::beside(&heads, rows, self.width))
        })?;
        Tensor::from_vec(out, (rows, d), x.device())
    }
}

impl Head<'_> {
    fn run(&self, landmarks: usize) -> Vec<f32> {
        let [queries, keys, values] = self.parts;
        let (n, width) = (queries.rows, queries.columns);
        let m = landmarks.min(n);
        let (q, k) = (means(queries, m), means(keys, m));
        let (q, k) = (Matrix::new(&q, m, width), Matrix::new(&k, m, width));

        // softmax(Q̃ Kᵀ) V, a tile of keys at a time.
        let mut seen = vec![0.0; m * width];
        let (mut largest, mut sums) = (vec![f32::NEG_INFINITY; m], vec![0.0; m]);
        for from in (0..n).step_by(ROWS) {
            let scores = scores(q, keys.at(from, ROWS), |i, scores| {
                let seen = &mut seen[i * width..][..width];
                weigh(scores, &mut largest[i], &mut sums[i], seen);
            });
            let scores = Matrix::new(&scores, m, ROWS.min(n - from));
            multiply(&mut seen, true, scores, values.at(from, ROWS), 1.0);
        }
        for (row, sum) in seen.chunks_exact_mut(width).zip(&sums) {
            row.iter_mut().for_each(|x| *x /= sum);
        }

        let inverse = pseudo_inverse(&scores(q, k, |_, row| softmax(row)), m);
        let mut middle = unwritten(m * width);
        let seen = Matrix::new(&seen, m, width);
        multiply(&mut middle, false, Matrix::new(&inverse, m, m), seen, 1.0);
        let middle = Matrix::new(&middle, m, width);
        let mut out = unwritten(n * width);
        for (i, out) in out.chunks_mut(ROWS * width).enumerate() {
            let weights = scores(queries.at(i * ROWS, ROWS), k, |_, row| softmax(row));
            let weights = Matrix::new(&weights, out.len() / width, m);
            multiply(out, false, weights, middle, 1.0);
        }
        self.convolve(&mut out);
        out
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

/// Of `a` (m, m), by the published iteration
/// `Z ← ¼ Z (13 I − A Z (15 I − A Z (7 I − A Z)))`, from `Z = Aᵀ / (‖A‖₁ ‖A‖∞)`.
fn pseudo_inverse(a: &[f32], m: usize) -> Vec<f32> {
    let rows = a
        .chunks_exact(m)
        .map(|row| row.iter().map(|x| x.abs()).sum::<f32>());
    let columns = (0..m).map(|j| (0..m).map(|i| a[i * m + j].abs()).sum::<f32>());
    let scale = rows.fold(0.0, f32::max) * columns.fold(0.0, f32::max);
    let mut z: Vec<f32> = (0..m * m).map(|i| a[i % m * m + i / m] / scale).collect();
    let times = |x: &[f32], y: &[f32], scale: f32| {
        let mut out = unwritten(m * m);
        multiply(
            &mut out,
            false,
            Matrix::new(x, m, m),
            Matrix::new(y, m, m),
            scale,
        );
        out
    };
    for _ in 0..ITERATIONS {
        let az = times(a, &z, 1.0);
        let mut inner: Vec<f32> = az.iter().map(|x| -x).collect();
        add_diagonal(&mut inner, m, 7.0);
        for diagonal in [15.0, 13.0] {
            inner = times(&az, &inner, -1.0);
            add_diagonal(&mut inner, m, diagonal);
        }
        z = times(&z, &inner, 0.25);
    }
    z
}

fn add_diagonal(x: &mut [f32], m: usize, value: f32) {
    x.iter_mut().step_by(m + 1).for_each(|x| *x += value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Device;

    const HEADS: usize = 2;
    const WIDTH: usize = 4;
    const D: usize = HEADS * WIDTH;
    const TAPS: usize = 3;

    type Dense = Vec<Vec<f64>>;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * i % 1013) as f32 * 0.7 + seed).sin() * 1.5)
            .collect()
    }

    fn product(x: &Dense, y: &Dense) -> Dense {
        let row = |x: &Vec<f64>| {
            (0..y[0].len())
                .map(|j| x.iter().zip(y).map(|(x, y)| x * y[j]).sum())
                .collect()
        };
        x.iter().map(row).collect()
    }

    fn transposed(x: &Dense) -> Dense {
        (0..x[0].len())
            .map(|j| x.iter().map(|row| row[j]).collect())
            .collect()
    }

    fn attention(q: &Dense, k: &Dense) -> Dense {
        let scores = product(q, &transposed(k));
        let row = |row: &Vec<f64>| {
            let weights: Vec<f64> = row
                .iter()
                .map(|x| (x / (WIDTH as f64).sqrt()).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            weights.iter().map(|w| w / sum).collect()
        };
        scores.iter().map(row).collect()
    }

    /// `c I − x`
    fn less(c: f64, x: &Dense) -> Dense {
        let value = |i, j| f64::from(u8::from(i == j)) * c;
        let row = |(i, row): (usize, &Vec<f64>)| {
            row.iter()
                .enumerate()
                .map(|(j, x)| value(i, j) - x)
                .collect()
        };
        x.iter().enumerate().map(row).collect()
    }

    fn inverse(a: &Dense) -> Dense {
        let norm = |x: &Dense| {
            x.iter()
                .map(|row| row.iter().map(|x| x.abs()).sum::<f64>())
                .fold(0.0, f64::max)
        };
        let scale = norm(a) * norm(&transposed(a));
        let scaled = |x: &Dense, by: f64| -> Dense {
            x.iter()
                .map(|row| row.iter().map(|x| x * by).collect())
                .collect()
        };
        let mut z = scaled(&transposed(a), 1.0 / scale);
        for _ in 0..6 {
            let az = product(a, &z);
            let inner = less(15.0, &product(&az, &less(7.0, &az)));
            z = scaled(&product(&z, &less(13.0, &product(&az, &inner))), 0.25);
        }
        z
    }

    #[test]
    fn whole_sequences_equal_the_formula_in_f64() {
        let conv = values(HEADS * TAPS, 0.4);
        let tensor = Tensor::from_slice(&conv, (HEADS, 1, TAPS), &Device::Cpu).unwrap();
        for (rows, landmarks) in [(5, 8), (1, 2), (3 * ROWS + 5, 8), (70, 7)] {
            let nystrom = Nystrom::new(WIDTH, landmarks, &tensor, None).unwrap();
            // Another sequence goes before.
            let x = values((rows + 3) * 3 * D, 0.1);
            let segments = [3, rows].map(|len| Segment {
                lane: 0,
                len,
                starts: true,
                ends: true,
            });
            let step = Tensor::from_slice(&x, (rows + 3, 3 * D), &Device::Cpu).unwrap();
            let found = nystrom
                .forward(&step, &segments)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            let m = landmarks.min(rows);
            for head in 0..HEADS {
                let part = |part: usize| -> Dense {
                    let row = |t: usize| {
                        (0..WIDTH).map(move |i| (t + 3) * 3 * D + part * D + head * WIDTH + i)
                    };
                    (0..rows)
                        .map(|t| row(t).map(|i| f64::from(x[i])).collect())
                        .collect()
                };
                let [q, k, v] = [part(0), part(1), part(2)];
                let marks = |x: &Dense| -> Dense {
                    let mean = |j: usize| {
                        let run = &x[j * rows / m..(j + 1) * rows / m];
                        (0..WIDTH)
                            .map(|i| run.iter().map(|row| row[i]).sum::<f64>() / run.len() as f64)
                            .collect()
                    };
                    (0..m).map(mean).collect()
                };
                let (ql, kl) = (marks(&q), marks(&k));
                let middle = product(
                    &inverse(&attention(&ql, &kl)),
                    &product(&attention(&ql, &k), &v),
                );
                let expected = product(&attention(&q, &kl), &middle);
                for t in 0..rows {
                    for i in 0..WIDTH {
                        let near = (0..TAPS).filter(|j| (1..=rows).contains(&(t + j)));
                        let local: f64 = near
                            .map(|j| f64::from(conv[head * TAPS + j]) * v[t + j - 1][i])
                            .sum();
                        let expected = expected[t][i] + local;
                        let found = f64::from(found[t + 3][head * WIDTH + i]);
                        assert!(
                            (found - expected).abs() < 1e-4,
                            "{rows} {t}: {found} {expected}"
                        );
                    }
                }
            }
        }
    }
}
