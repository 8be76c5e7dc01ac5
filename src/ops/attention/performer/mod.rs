//! Causal attention with positive random features, in linear time: Performer, Choromanski et al.
//! 2020, arXiv:2009.14794, FAVOR+.
//!
//! With x' = x / d^¼ and features W (F, d), `exp(q·k / √d)` is the mean over W's rows of
//! `φ(q') φ(k')`, `φ(x') = exp(W x' − |x'|²/2)`. So the sums over past keys of φ(k) v and φ(k) are all
//! that a query needs: a finite state. The published form subtracts from the exponent of a key its
//! maximum over the whole sequence, which a stream does not know; none is needed, as
//! `w·x − |x|²/2 ≤ |w|²/2`. For a query the maximum over its own features cancels.

mod backward;

use super::rotary::{self, Rotary};
use super::{Matrix, beside, multiply};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::math::{self, simd};
use crate::ops::{expect_shape, timing, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows of a tile.
const ROWS: usize = 128;
/// Added to every feature, as published.
const EPS: f32 = 1e-6;

/// Performer attention over rows of queries, keys and values. Streams.
#[derive(Clone, Debug)]
pub struct Performer {
    heads: usize,
    width: usize,       // d, of a head
    features: Vec<f32>, // (F, d)
    rotary: Option<Rotary>,
}

/// The sums over each lane's unfinished sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sums {
    /// The next position of each lane.
    next: Vec<usize>,
    values: Vec<f32>, // (heads, lanes, F, d + 1): Σ φ(k) [v | 1]
}

impl Performer {
    /// `features` is (F, d), shared by the heads.
    pub fn new(heads: usize, features: &Tensor, rotary: Option<Rotary>) -> Result<Self> {
        let (_, width) = features.dims2()?;
        Ok(Self {
            heads,
            width,
            features: features.to_vec1()?,
            rotary,
        })
    }

    /// Zeros for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Sums {
        let lanes = lanes.max(1);
        Sums {
            next: vec![0; lanes],
            values: vec![0.0; self.heads * lanes * self.sums()],
        }
    }

    /// Lanes that go on from lanes of other sums.
    pub fn fork(&self, from: &[(&Sums, usize)]) -> Sums {
        let len = self.sums();
        let values = (0..self.heads).flat_map(|head| {
            from.iter().flat_map(move |(sums, lane)| {
                let kept = sums.values.len() / self.heads;
                &sums.values[head * kept + lane * len..][..len]
            })
        });
        Sums {
            next: from.iter().map(|(sums, lane)| sums.next[*lane]).collect(),
            values: values.copied().collect(),
        }
    }

    /// Bytes of [`Sums`] for one sequence, with heads of `width` and `features` F.
    pub fn state_bytes(heads: usize, width: usize, features: usize) -> usize {
        heads * features * (width + 1) * size_of::<f32>()
    }

    /// (T, 3D), the columns `[q | k | v]` of D = heads · d each, to (T, D).
    pub fn forward(&self, x: &Tensor, sums: &mut Sums, segments: &[Segment]) -> Result<Tensor> {
        let _span = timing::span("attention");
        let (rows, d) = (x.dim(0)?, self.heads * self.width);
        expect_shape("performer", x, &[rows, 3 * d])?;
        let before = x.is_tracked().then(|| sums.values.clone());
        let (out, turned, positions) = with_slices([x], |[x]| {
            let positions = rotary::positions(sums.next.clone(), segments)?;
            let turned = rotary::turned(self.rotary.as_ref(), x, &positions, self.width);
            let kept = sums.values.len() / self.heads;
            let heads: Vec<Vec<f32>> = sums
                .values
                .par_chunks_mut(kept)
                .enumerate()
                .map(|(head, sums)| self.head(head, x, &turned, sums, segments))
                .collect();
            let mut from = 0;
            for segment in segments {
                from += segment.len;
                if !segment.ends {
                    let next = sums.next.get_mut(segment.lane);
                    *next.ok_or_else(|| rotary::no_lane(segment))? = positions[from - 1] + 1;
                }
            }
            Ok((beside(&heads, rows, self.width), turned, positions))
        })?;
        let out = Tensor::from_vec(out, (rows, d), x.device())?;
        let Some(before) = before else {
            return Ok(out);
        };
        let step = backward::Step {
            performer: self.clone(),
            x: x.detach(),
            turned,
            positions,
            segments: segments.to_vec(),
            before,
            out: out.clone(),
        };
        Ok(out.derived([x], move |grad| Ok([Some(step.backward(grad)?)])))
    }

    /// F.
    fn count(&self) -> usize {
        self.features.len() / self.width
    }

    /// Values of one lane's sums in one head.
    fn sums(&self) -> usize {
        self.count() * (self.width + 1)
    }

    /// All rows of one head: (T, d). `lanes` is (lanes, F, d + 1).
    fn head(
        &self,
        head: usize,
        x: &[f32],
        turned: &[f32],
        lanes: &mut [f32],
        segments: &[Segment],
    ) -> Vec<f32> {
        let (width, len) = (self.width, self.sums());
        let mut out = Vec::with_capacity(turned.len() / self.heads / 2);
        let mut from = 0;
        for segment in segments {
            let kept = segment.lane * len..(segment.lane + 1) * len;
            let mut sums = if segment.starts {
                vec![0.0; len]
            } else {
                lanes[kept.clone()].to_vec()
            };
            let end = from + segment.len;
            while from < end {
                let n = ROWS.min(end - from);
                let stride = self.heads * width;
                let queries = &turned[from * 2 * stride + head * width..];
                let keys = &queries[stride..];
                let values = &x[from * 3 * stride + 2 * stride + head * width..];
                self.tile(&mut out, [queries, keys, values], n, &mut sums);
                from += n;
            }
            if !segment.ends {
                lanes[kept].copy_from_slice(&sums);
            }
        }
        out
    }

    /// Appends `n` rows to `out` and adds them to `sums`.
    fn tile(&self, out: &mut Vec<f32>, x: [&[f32]; 3], n: usize, sums: &mut [f32]) {
        let (width, stride) = (self.width, self.heads * self.width);
        let features = self.count();
        let [queries, keys, values] = x;
        let (q, k) = (
            self.features(queries, n, false),
            self.features(keys, n, true),
        );
        let mut v = unwritten(n * (width + 1)); // [v | 1]
        for (v, x) in v.chunks_exact_mut(width + 1).zip(values.chunks(3 * stride)) {
            v[..width].copy_from_slice(&x[..width]);
            v[width] = 1.0;
        }
        let (q, k) = (Matrix::new(&q, n, features), Matrix::new(&k, n, features));
        let v = Matrix::new(&v, n, width + 1);
        let mut weights = unwritten(n * n);
        multiply(&mut weights, false, q, k.transposed(), 1.0);
        for (i, row) in weights.chunks_exact_mut(n).enumerate() {
            row[i + 1..].fill(0.0);
        }
        let mut y = unwritten(n * (width + 1));
        multiply(
            &mut y,
            false,
            q,
            Matrix::new(sums, features, width + 1),
            1.0,
        );
        multiply(&mut y, true, Matrix::new(&weights, n, n), v, 1.0);
        multiply(sums, true, k.transposed(), v, 1.0);
        for row in y.chunks_exact(width + 1) {
            out.extend(row[..width].iter().map(|y| y / row[width]));
        }
    }

    /// φ of `n` rows: (n, F). Of keys with their length, of queries relative to their largest.
    fn features(&self, x: &[f32], n: usize, keys: bool) -> Vec<f32> {
        let (width, stride) = (self.width, 2 * self.heads * self.width);
        let features = self.count();
        let rows = Matrix {
            values: x,
            rows: n,
            columns: width,
            strides: (stride, 1),
        };
        let scale = (width as f32).powf(-0.25);
        let mut out = unwritten(n * features);
        let weight = Matrix::new(&self.features, features, width);
        multiply(&mut out, false, rows, weight.transposed(), scale);
        for (out, x) in out.chunks_exact_mut(features).zip(x.chunks(stride)) {
            let less = if keys {
                x[..width].iter().map(|x| x * x).sum::<f32>() * scale * scale / 2.0
            } else {
                out.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            };
            exponentials(out, less);
        }
        out
    }
}

simd! {
/// `x ← exp(x − less) + ε`
fn exponentials(x: &mut [f32], less: f32) {
    for x in x {
        *x = math::exp::<FMA>(*x - less) + EPS;
    }
}
}

#[cfg(test)]
mod tests;
