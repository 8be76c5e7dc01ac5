//! Multi-head softmax attention: Vaswani et al. 2017, arXiv:1706.03762, with rotary positions: Su
//! et al. 2021, arXiv:2104.09864.
//!
//! Scores are never held for a whole sequence: a tile of queries meets one page of keys at a time
//! and keeps a running maximum and sum (Rabe & Staats 2021, arXiv:2112.05682; Dao et al. 2022,
//! arXiv:2205.14135). Memory grows with T, not T².
//!
//! A causal form carries the keys, already rotated, and values of each unfinished sequence from
//! call to call, in pages at fixed positions. Pages are shared between a state and its clones:
//! a fork copies no more than the last page. With a window W, query p sees keys p − W + 1 to p, and
//! pages that no later query can see are dropped.
//!
//! For gradients the logarithm of each row's sum is kept, never the weights.

mod backward;
mod cache;
pub(super) mod cuda;
mod gpu;
mod nystrom;
mod performer;
mod rotary;

use super::cuda::OnGpu;
use super::{Device, expect_branchable, expect_shape, math, math::simd, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use crate::ops::timing;
use crate::sequence::{Branch, Segment};
pub use cache::Cache;
use cache::{Lane, PAGE};
pub use nystrom::Nystrom;
pub use performer::{Performer, Sums};
use rayon::prelude::*;
pub use rotary::Rotary;
use rotary::no_lane;
use std::ops::Range;

/// Queries of a tile.
const QUERIES: usize = 128;

/// Which keys a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its own and those before it. Streams.
    Causal,
    /// All of its sequence, which must start and end within one step.
    Bidirectional,
}

/// Attention over rows of queries, keys and values.
#[derive(Clone, Debug)]
pub struct Attention {
    heads: usize,
    width: usize, // of a head
    reach: Reach,
    rotary: Option<Rotary>,
    window: Option<usize>,
    on_gpu: OnGpu<cuda::Attention>,
}

/// A segment within a step, and all keys and values that it sees.
struct Sequence {
    lane: Lane,
    /// Position of its first row.
    from: usize,
    rows: Range<usize>,
}

impl Attention {
    /// `heads` of `width` d each.
    pub fn new(heads: usize, width: usize, reach: Reach, rotary: Option<Rotary>) -> Self {
        Self {
            heads,
            width,
            reach,
            rotary,
            window: None,
            on_gpu: OnGpu::default(),
        }
    }

    /// Lets a query see only the keys less than `window` (at least 1) positions away.
    pub fn set_window(&mut self, window: Option<usize>) {
        self.window = window.map(|window| window.max(1));
        self.on_gpu = OnGpu::default();
    }

    /// An empty cache for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Cache {
        Cache::new(lanes)
    }

    /// Bytes that a cache of D = heads · d columns grows by with each token, where no window
    /// bounds it.
    pub fn token_bytes(d: usize) -> usize {
        2 * d * size_of::<f32>()
    }

    /// Operations for each query and key of D = heads · d columns: the score, and its share of the
    /// values.
    pub fn pair_flops(d: usize) -> usize {
        4 * d
    }

    /// Bytes of one lane's cache with a window.
    pub fn window_bytes(d: usize, window: usize) -> usize {
        window
            .saturating_add(PAGE)
            .saturating_mul(Self::token_bytes(d))
    }

    /// (T, 3D), the columns `[q | k | v]` of D = heads · d each, to (T, D).
    pub fn forward(&self, x: &Tensor, cache: &mut Cache, segments: &[Segment]) -> Result<Tensor> {
        self.forward_branched(x, cache, segments, &[])
    }

    /// The same of a step with branches, which is for GPUs.
    ///
    /// # Errors
    /// Internal: there are branches on the CPU, or where gradients pass.
    pub fn forward_branched(
        &self,
        x: &Tensor,
        cache: &mut Cache,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        let _span = timing::span("attention");
        let (rows, d) = (x.dim(0)?, self.heads * self.width);
        expect_shape("attention", x, &[rows, 3 * d])?;
        expect_branchable(x, x.is_tracked(), branches)?;
        if let Device::Cuda(gpu) = x.device() {
            return self.forward_on_gpu(gpu, x, cache, segments, branches);
        }
        let (out, turned, sequences, sums) = with_slices([x], |[x]| {
            if self.reach == Reach::Bidirectional {
                whole(segments)?;
            }
            let next = cache.lanes.iter().map(|lane| lane.next).collect();
            let positions = rotary::positions(next, segments)?;
            let turned = rotary::turned(self.rotary.as_ref(), x, &positions, self.width); // (T, 2D)
            let sequences = self.store(x, &turned, cache, segments)?;
            let mut out = unwritten(rows * d);
            let mut tiles = Vec::new();
            let mut rest = &mut out[..];
            for sequence in &sequences {
                let (here, later) = rest.split_at_mut(sequence.rows.len() * d);
                tiles.extend(
                    here.chunks_mut(QUERIES * d)
                        .enumerate()
                        .map(|tile| (sequence, tile)),
                );
                rest = later;
            }
            let tiles = tiles.into_par_iter().map(|(sequence, (i, out))| {
                let n = out.len() / d;
                let (heads, sums): (Vec<_>, Vec<_>) = (0..self.heads)
                    .into_par_iter()
                    .map(|head| self.tile(&turned, sequence, head, i * QUERIES, n))
                    .unzip();
                for (head, from) in heads.iter().enumerate() {
                    let rows = out.chunks_exact_mut(d).zip(from.chunks_exact(self.width));
                    for (out, from) in rows {
                        out[head * self.width..][..self.width].copy_from_slice(from);
                    }
                }
                sums.concat()
            });
            let sums = tiles.collect::<Vec<_>>().concat();
            Ok((out, turned, sequences, sums))
        })?;
        let out = Tensor::from_vec(out, (rows, d), x.device())?;
        if !x.is_tracked() {
            return Ok(out);
        }
        let step = backward::Step {
            attention: self.clone(),
            turned,
            sequences,
            sums,
            out: out.clone(),
        };
        Ok(out.derived([x], move |grad| Ok([Some(step.backward(grad)?)])))
    }

    /// Appends the rows' keys and values to their lanes.
    fn store(
        &self,
        x: &[f32],
        turned: &[f32],
        cache: &mut Cache,
        segments: &[Segment],
    ) -> Result<Vec<Sequence>> {
        let d = self.heads * self.width;
        let mut sequences = Vec::with_capacity(segments.len());
        let mut start = 0;
        for segment in segments {
            let rows = start..start + segment.len;
            start = rows.end;
            let mut own = Lane::default();
            let lane = if segment.starts && segment.ends {
                &mut own
            } else {
                cache
                    .lanes
                    .get_mut(segment.lane)
                    .ok_or_else(|| no_lane(segment))?
            };
            if segment.starts {
                *lane = Lane::default();
            }
            let from = lane.next;
            let keys = turned[rows.start * 2 * d..rows.end * 2 * d].chunks_exact(2 * d);
            let values = x[rows.start * 3 * d..rows.end * 3 * d].chunks_exact(3 * d);
            lane.append(keys.map(|row| &row[d..]), values.map(|row| &row[2 * d..]));
            sequences.push(Sequence {
                lane: lane.clone(),
                from,
                rows,
            });
            if segment.ends {
                *lane = Lane::default();
            } else if let Some(window) = self.window {
                lane.drop_before((lane.next + 1).saturating_sub(window));
            }
        }
        Ok(sequences)
    }

    /// The keys that the query at `position` sees, in a sequence known up to `end`.
    fn seen(&self, position: usize, end: usize) -> Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        let first = (position + 1).saturating_sub(window);
        match self.reach {
            Reach::Causal => first..position + 1,
            Reach::Bidirectional => first..end.min(position.saturating_add(window)),
        }
    }

    /// The columns of `width` d from `first` on of `n` rows, `stride` values from one to the next.
    fn head<'a>(&self, rows: &'a [f32], first: usize, n: usize, stride: usize) -> Matrix<'a> {
        Matrix {
            values: &rows[first..],
            rows: n,
            columns: self.width,
            strides: (stride, 1),
        }
    }

    /// One head of `n` queries from row `first` of a sequence on: (n, d), and the logarithms of
    /// the sums of `exp(score)` (n).
    fn tile(
        &self,
        turned: &[f32],
        sequence: &Sequence,
        head: usize,
        first: usize,
        n: usize,
    ) -> (Vec<f32>, Vec<f32>) {
        let (d, width) = (self.heads * self.width, self.width);
        let at = (sequence.rows.start + first) * 2 * d + head * width;
        let queries = self.head(turned, at, n, 2 * d);
        let scale = 1.0 / (width as f32).sqrt();
        let position = sequence.from + first;
        let seen = |row: usize| self.seen(position + row, sequence.lane.next);
        let mut out = vec![0.0; n * width];
        let (mut largest, mut sums) = (vec![f32::NEG_INFINITY; n], vec![0.0; n]);
        let mut scores = unwritten(n * PAGE);
        let all = seen(0).start..seen(n - 1).end;
        for (start, page) in sequence.lane.pages(all.clone()) {
            // Of the page, what a query of the tile sees.
            let from = all.start.saturating_sub(start);
            let columns = (all.end - start).min(page.keys.len() / d) - from;
            let start = start + from;
            let scores = &mut scores[..n * columns];
            let [keys, values] = [&page.keys, &page.values]
                .map(|rows| self.head(&rows[from * d..], head * width, columns, d));
            multiply(scores, false, queries, keys.transposed(), scale);
            for (row, weights) in scores.chunks_exact_mut(columns).enumerate() {
                let weights = only(weights, seen(row), start);
                let out = &mut out[row * width..][..width];
                weigh(weights, &mut largest[row], &mut sums[row], out);
            }
            let weights = Matrix::new(scores, n, columns);
            multiply(&mut out, true, weights, values, 1.0);
        }
        for (out, sum) in out.chunks_exact_mut(width).zip(&sums) {
            out.iter_mut().for_each(|x| *x /= sum);
        }
        let logs = sums.iter().zip(&largest);
        (out, logs.map(|(sum, largest)| sum.ln() + largest).collect())
    }
}

/// The values at the positions `seen`, of those from `start` on; the others become zero.
fn only(row: &mut [f32], seen: Range<usize>, start: usize) -> &mut [f32] {
    let low = seen.start.saturating_sub(start).min(row.len());
    let high = seen.end.saturating_sub(start).min(row.len()).max(low);
    row[..low].fill(0.0);
    row[high..].fill(0.0);
    &mut row[low..high]
}

/// (T, heads · d) of each head's (T, d).
fn beside(heads: &[Vec<f32>], rows: usize, width: usize) -> Vec<f32> {
    let mut out = unwritten(rows * heads.len() * width);
    out.par_chunks_exact_mut(heads.len() * width)
        .with_min_len(16)
        .enumerate()
        .for_each(|(i, out)| {
            for (out, head) in out.chunks_exact_mut(width).zip(heads) {
                out.copy_from_slice(&head[i * width..][..width]);
            }
        });
    out
}

/// An error unless every segment is a whole sequence.
fn whole(segments: &[Segment]) -> Result<()> {
    if segments
        .iter()
        .all(|segment| segment.starts && segment.ends)
    {
        Ok(())
    } else {
        Err(Error::new(
            Kind::Internal,
            "bidirectional attention takes whole sequences only",
        ))
    }
}

simd! {
/// Turns scores into weights relative to the largest score so far, and brings the row's sum and
/// output from the largest before to the largest now.
fn weigh(scores: &mut [f32], largest: &mut f32, sum: &mut f32, out: &mut [f32]) {
    if scores.is_empty() {
        return;
    }
    // Sixteen lanes, as far as they go: a maximum and a sum that vectorise.
    let mut most = [*largest; 16];
    let (groups, rest) = scores.as_chunks::<16>();
    for group in groups {
        for (most, x) in most.iter_mut().zip(group) {
            *most = if *x > *most { *x } else { *most };
        }
    }
    let now = most.iter().chain(rest).fold(*largest, |a, b| a.max(*b));
    if now > *largest {
        let factor = math::exp::<FMA>(*largest - now);
        *sum *= factor;
        out.iter_mut().for_each(|x| *x *= factor);
        *largest = now;
    }
    let mut sums = [0f32; 16];
    let (groups, rest) = scores.as_chunks_mut::<16>();
    for group in groups {
        for (sum, x) in sums.iter_mut().zip(group) {
            *x = math::exp::<FMA>(*x - now);
            *sum += *x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *x = math::exp::<FMA>(*x - now);
        *sum += *x;
    }
    *sum += sums.iter().sum::<f32>();
}
}

/// A matrix within a slice, by its strides.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    /// From one row to the next, and from one column to the next.
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            strides: (columns, 1),
        }
    }

    fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            strides: (self.strides.1, self.strides.0),
            ..self
        }
    }

    /// At most `n` rows from row `first` on.
    fn at(self, first: usize, n: usize) -> Self {
        Self {
            values: &self.values[first * self.strides.0..],
            rows: n.min(self.rows - first),
            ..self
        }
    }

    /// Values from the first to the last, both included.
    fn extent(&self) -> usize {
        (self.rows - 1) * self.strides.0 + (self.columns - 1) * self.strides.1 + 1
    }
}

/// `out = scale · x y`, or `out += scale · x y`, row-major, on one thread.
fn multiply(out: &mut [f32], add: bool, x: Matrix, y: Matrix, scale: f32) {
    let (m, n, k) = (x.rows, y.columns, x.columns);
    assert!(m > 0 && n > 0 && k > 0 && y.rows == k && out.len() == m * n);
    assert!(x.extent() <= x.values.len() && y.extent() <= y.values.len());
    // SAFETY: all three matrices are not empty and lie within their slices, checked above; `out`
    // is borrowed mutably and so overlaps neither.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            x.values.as_ptr(),
            x.strides.1 as isize,
            x.strides.0 as isize,
            y.values.as_ptr(),
            y.strides.1 as isize,
            y.strides.0 as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests;
