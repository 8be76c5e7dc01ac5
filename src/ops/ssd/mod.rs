//! The scan of Mamba-2 by state space duality: Dao & Gu 2024, arXiv:2405.21060, section 6.
//!
//! Symbols: T rows of a step, H heads of P channels (I = H · P), G groups of heads that share B
//! and C, N states of a channel, Q rows of a chunk.
//!
//! `S_t = exp(d_t A) S_{t−1} + d_t x_t B_tᵀ` and `y_t = S_t C_t + D x_t` for each head, with a
//! scalar A and the time step `d = softplus(raw + bias)`. Within a chunk that is three matrix
//! products: with `c_i = Σ_{j ≤ i} d_j A`,
//! `Y = (L ∘ C Bᵀ) X + exp(c) ∘ (C Sᵀ) + D X`, `L_ij = exp(c_i − c_j) d_j` for j ≤ i, else 0, and
//! `S ← exp(c_Q) S + Σ_j exp(c_Q − c_j) d_j x_j B_jᵀ`. C Bᵀ is computed once a group. Chunks begin
//! at a segment's start: how a sequence is split changes results by rounding only.

mod backward;
mod chunk;
pub(super) mod cuda;
mod gpu;

use super::cuda::{Carried, OnGpu};
use super::math::{self, simd};
use super::matrix::{Matrix, multiply};
use super::{Device, expect_shape, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use crate::ops::timing;
use crate::sequence::{Segment, mirrored};
use chunk::{CHUNK, Chunk, Scratch, add, chunks, scale, weigh};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Chunks whose C Bᵀ are kept at a time; a head's chunks in a band run one after the other.
const BAND: usize = 32;
/// Rows of a tile of time steps.
const ROWS: usize = 1024;

/// The sizes of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SsdSizes {
    /// H.
    pub heads: usize,
    /// P, channels of a head.
    pub channels: usize,
    /// G, a divisor of H; head h belongs to group h / (H / G).
    pub groups: usize,
    /// N, states of a channel.
    pub states: usize,
}

impl SsdSizes {
    /// I = H · P, the width of x and y.
    pub fn inner(&self) -> usize {
        self.heads * self.channels
    }

    /// I + 2GN, the width of x, B and C side by side.
    pub fn columns(&self) -> usize {
        self.inner() + 2 * self.groups * self.states
    }

    /// Bytes of [`SsdState`] for one sequence.
    pub fn state_bytes(&self) -> usize {
        self.inner() * self.states * size_of::<f32>()
    }

    /// Operations a row in the matrix products.
    pub fn flops(&self) -> usize {
        let head = 2 * CHUNK * self.channels + 4 * self.channels * self.states;
        self.heads * head + self.groups * 2 * CHUNK * self.states
    }
}

/// The scan of one layer.
#[derive(Clone, Debug)]
pub struct Ssd {
    sizes: SsdSizes,
    rate: Vec<f64>, // (H), A · log2 e
    bias: Vec<f32>, // (H)
    skip: Vec<f32>, // (H), D
    limit: (f32, f32),
    reversed: bool,
    /// a_log, bias and skip as tensors, if gradients pass to any of them.
    tracked: Option<[Tensor; 3]>,
    on_gpu: OnGpu<cuda::Ssd>,
}

/// The states S of each lane's unfinished sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SsdState {
    values: Vec<f32>, // (lanes, H, P, N)
    /// On a GPU these instead.
    on_gpu: Carried<cuda::SsdState>,
}

/// What the chunks of a band read.
struct Inputs<'a> {
    xbc: &'a [f32],   // (T, I + 2GN)
    steps: &'a [f32], // (T, H)
    segments: &'a [Segment],
}

/// One head along the chunks of one segment in a band.
struct Task<'a> {
    head: usize,
    chunks: &'a [Chunk],
    scores: &'a [f32], // (chunks, G, Q, Q)
    state: &'a mut [f32],
    out: Vec<&'a mut [f32]>, // (rows)(P)
}

impl Ssd {
    /// `a_log` (H) with `A = −exp(a_log)`, `bias` of the time step (H), `skip` D (H), and the
    /// limits of the time step.
    pub fn new(
        sizes: SsdSizes,
        a_log: &Tensor,
        bias: &Tensor,
        skip: &Tensor,
        limit: (f64, f64),
    ) -> Result<Self> {
        for (name, tensor) in [("A", a_log), ("time step bias", bias), ("D", skip)] {
            expect_shape(name, tensor, &[sizes.heads])?;
        }
        let tracked = [a_log, bias, skip].iter().any(|x| x.is_tracked());
        let rate = |a: f32| -f64::from(a).exp() * std::f64::consts::LOG2_E;
        Ok(Self {
            sizes,
            rate: a_log.to_vec1::<f32>()?.into_iter().map(rate).collect(),
            bias: bias.to_vec1()?,
            skip: skip.to_vec1()?,
            limit: (limit.0 as f32, limit.1 as f32),
            reversed: false,
            tracked: tracked.then(|| [a_log, bias, skip].map(Tensor::clone)),
            on_gpu: OnGpu::default(),
        })
    }

    /// The same scan from the last row of each segment to its first. A segment then `starts`
    /// where the scan does: at the sequence's right end.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.reversed = true;
        self
    }

    /// Zeros for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> SsdState {
        SsdState {
            values: vec![0.0; lanes * self.state_len()],
            on_gpu: Carried::default(),
        }
    }

    /// Lanes that go on from lanes of other states.
    ///
    /// # Errors
    /// Internal: one of them lies on a GPU.
    pub fn fork(&self, from: &[(&SsdState, usize)]) -> Result<SsdState> {
        let len = self.state_len();
        let lanes = from.iter();
        let lanes = lanes.flat_map(|(state, lane)| &state.values[lane * len..][..len]);
        Ok(SsdState {
            values: lanes.copied().collect(),
            on_gpu: Carried::forked(from.iter().map(|(state, _)| &state.on_gpu))?,
        })
    }

    /// y (T, I) of `xbc` (T, I + 2GN), whose columns are x, B and C, and of the time steps before
    /// bias and softplus `steps` (T, H).
    pub fn forward(
        &self,
        xbc: &Tensor,
        steps: &Tensor,
        state: &mut SsdState,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let _span = timing::span("state space duality");
        let rows = xbc.dim(0)?;
        expect_shape("scan", xbc, &[rows, self.sizes.columns()])?;
        expect_shape("time steps", steps, &[rows, self.sizes.heads])?;
        if rows != segments.iter().map(|segment| segment.len).sum::<usize>() {
            return Err(Error::new(Kind::Internal, "the segments are not the rows"));
        }
        if !self.reversed {
            return self.scan(xbc, steps, state, segments);
        }
        let mirrored = Tensor::new(mirrored(segments), xbc.device())?;
        let turned = |x: &Tensor| x.index_select(&mirrored, 0);
        turned(&self.scan(&turned(xbc)?, &turned(steps)?, state, segments)?)
    }

    /// From the first row of each segment to its last.
    fn scan(
        &self,
        xbc: &Tensor,
        steps: &Tensor,
        state: &mut SsdState,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let (rows, inner) = (xbc.dim(0)?, self.sizes.inner());
        if let Device::Cuda(gpu) = xbc.device() {
            return self.forward_on_gpu(gpu, [xbc, steps], state, segments);
        }
        let chunks = chunks(segments);
        let keep = xbc.is_tracked() || steps.is_tracked() || self.tracked.is_some();
        let mut before = keep.then(Vec::new);
        let out = with_slices([xbc, steps], |[xbc, steps]| {
            let io = Inputs {
                xbc,
                steps: &self.steps(steps),
                segments,
            };
            let mut out = unwritten(rows * inner);
            let mut rest = &mut out[..];
            let mut carried = Vec::new();
            for band in chunks.chunks(BAND) {
                let rows = band.iter().map(|chunk| chunk.rows.len()).sum::<usize>();
                let (here, later) = rest.split_at_mut(rows * inner);
                rest = later;
                self.band(&io, band, here, state, &mut carried, before.as_mut())?;
            }
            Ok(out)
        })?;
        let out = Tensor::from_vec(out, (rows, inner), xbc.device())?;
        let Some(before) = before else {
            return Ok(out);
        };
        let constant = xbc.detach(); // in the place of what is not differentiated
        let [a_log, bias, skip] = match &self.tracked {
            Some(tracked) => tracked.each_ref(),
            None => [&constant; 3],
        };
        let step = backward::Step {
            scan: self.clone(),
            xbc: constant.clone(),
            steps: steps.detach(),
            segments: segments.to_vec(),
            before,
        };
        let parents = [xbc, steps, a_log, bias, skip];
        Ok(out.derived(parents, move |grad| step.backward(grad)))
    }

    /// d: (T, H).
    fn steps(&self, raw: &[f32]) -> Vec<f32> {
        let mut steps = unwritten(raw.len());
        let tile = ROWS * self.sizes.heads;
        steps
            .par_chunks_mut(tile)
            .zip(raw.par_chunks(tile))
            .for_each(|(steps, raw)| time_steps(steps, raw, &self.bias, self.limit));
        steps
    }

    /// Some chunks in order; `carried` is the state of the segment that a band's end cuts. To
    /// `before` goes the state before each run of chunks of one segment.
    fn band(
        &self,
        io: &Inputs,
        band: &[Chunk],
        out: &mut [f32],
        state: &mut SsdState,
        carried: &mut Vec<f32>,
        before: Option<&mut Vec<Vec<f32>>>,
    ) -> Result<()> {
        let SsdSizes {
            heads,
            channels,
            groups,
            states,
        } = self.sizes;
        let len = self.state_len();
        let scores = self.scores(io, band);
        let runs: Vec<&[Chunk]> = band.chunk_by(|a, b| a.segment == b.segment).collect();
        let mut live = Vec::with_capacity(runs.len());
        for run in &runs {
            let segment = &io.segments[run[0].segment];
            live.push(match (run[0].first, segment.starts) {
                (false, _) => std::mem::take(carried),
                (true, true) => vec![0.0; len],
                (true, false) => state.lane(segment.lane, len)?.to_vec(),
            });
        }
        if let Some(before) = before {
            before.extend(live.iter().cloned());
        }

        let mut tasks = Vec::with_capacity(runs.len() * heads);
        let (mut rows, mut scores) = (out.chunks_exact_mut(heads * channels), &scores[..]);
        for (run, live) in runs.iter().zip(&mut live) {
            let (here, later) = scores.split_at(run.len() * groups * CHUNK * CHUNK);
            scores = later;
            let first = tasks.len();
            let state = live.chunks_exact_mut(channels * states);
            tasks.extend(state.enumerate().map(|(head, state)| Task {
                head,
                chunks: run,
                scores: here,
                state,
                out: Vec::new(),
            }));
            let count = run.iter().map(|chunk| chunk.rows.len()).sum();
            for row in rows.by_ref().take(count) {
                let parts = row.chunks_exact_mut(channels);
                for (task, part) in tasks[first..].iter_mut().zip(parts) {
                    task.out.push(part);
                }
            }
        }
        tasks.into_par_iter().for_each(|task| self.head(io, task));

        for (run, live) in runs.iter().zip(live) {
            let (Some(last), segment) = (run.last(), &io.segments[run[0].segment]) else {
                continue;
            };
            match (last.last, segment.ends) {
                (false, _) => *carried = live,
                (true, true) => {}
                (true, false) => state.lane(segment.lane, len)?.copy_from_slice(&live),
            }
        }
        Ok(())
    }

    /// C Bᵀ of each chunk and group, rows of a short chunk end to end: (chunks, G, Q, Q).
    fn scores(&self, io: &Inputs, band: &[Chunk]) -> Vec<f32> {
        let groups = self.sizes.groups;
        let mut scores = unwritten(band.len() * groups * CHUNK * CHUNK);
        scores
            .par_chunks_mut(CHUNK * CHUNK)
            .enumerate()
            .for_each(|(i, scores)| {
                let (rows, group) = (&band[i / groups].rows, i % groups);
                let scores = &mut scores[..rows.len() * rows.len()];
                let (b, c) = (self.b(io, rows, group), self.c(io, rows, group));
                multiply(scores, 0.0, c, b.transposed());
            });
        scores
    }

    fn head(&self, io: &Inputs, task: Task) {
        let SsdSizes {
            heads,
            channels,
            groups,
            states,
        } = self.sizes;
        let (head, group) = (task.head, task.head / (heads / groups));
        let mut scratch = Scratch::new(channels);
        let mut out = task.out.into_iter();
        let scores = task.scores.chunks_exact(groups * CHUNK * CHUNK);
        for (chunk, scores) in task.chunks.iter().zip(scores) {
            let (n, segment) = (chunk.rows.len(), &io.segments[chunk.segment]);
            let scores = &scores[group * CHUNK * CHUNK..][..n * n];
            let x = self.columns(io, &chunk.rows, head * channels, channels);
            let steps = io.steps[chunk.rows.start * heads + head..].iter();
            scratch.decays(steps.step_by(heads).take(n), self.rate[head]);

            weigh(&mut scratch, scores, n);
            let weights = Matrix::new(&scratch.weights[..n * n], [n, n], n);
            multiply(&mut scratch.y[..n * channels], 0.0, weights, x);
            let empty = chunk.first && segment.starts;
            if empty {
                scratch.before[..n * channels].fill(0.0);
            } else {
                let (before, state) = (&mut scratch.before[..n * channels], &*task.state);
                let state = Matrix::new(state, [channels, states], states);
                multiply(
                    before,
                    0.0,
                    self.c(io, &chunk.rows, group),
                    state.transposed(),
                );
            }
            for (i, out) in out.by_ref().take(n).enumerate() {
                add(
                    out,
                    &scratch,
                    &x.values[i * x.strides.0..],
                    self.skip[head],
                    i,
                );
            }
            if !(chunk.last && segment.ends) {
                let keep = scale(&mut scratch, x.values, x.strides.0, n);
                let scaled = Matrix::new(&scratch.y[..n * channels], [n, channels], channels);
                let b = self.b(io, &chunk.rows, group);
                multiply(task.state, keep, scaled.transposed(), b);
            }
        }
    }

    fn b<'a>(&self, io: &Inputs<'a>, rows: &Range<usize>, group: usize) -> Matrix<'a> {
        let first = self.sizes.inner() + group * self.sizes.states;
        self.columns(io, rows, first, self.sizes.states)
    }

    fn c<'a>(&self, io: &Inputs<'a>, rows: &Range<usize>, group: usize) -> Matrix<'a> {
        self.b(io, rows, self.sizes.groups + group)
    }

    fn columns<'a>(
        &self,
        io: &Inputs<'a>,
        rows: &Range<usize>,
        first: usize,
        count: usize,
    ) -> Matrix<'a> {
        let width = self.sizes.columns();
        let values = &io.xbc[rows.start * width + first..];
        Matrix::new(values, [rows.len(), count], width)
    }

    /// Values of one lane's state.
    fn state_len(&self) -> usize {
        self.sizes.inner() * self.sizes.states
    }
}

impl SsdState {
    fn lane(&mut self, lane: usize, len: usize) -> Result<&mut [f32]> {
        self.values
            .get_mut(lane * len..(lane + 1) * len)
            .ok_or_else(|| Error::new(Kind::Internal, format!("no lane {lane}")))
    }
}

simd! {
fn time_steps(steps: &mut [f32], raw: &[f32], bias: &[f32], limit: (f32, f32)) {
    let width = bias.len();
    for (steps, raw) in steps.chunks_exact_mut(width).zip(raw.chunks_exact(width)) {
        for ((step, raw), bias) in steps.iter_mut().zip(raw).zip(bias) {
            *step = math::softplus::<FMA>(raw + bias).max(limit.0).min(limit.1);
        }
    }
}
}

#[cfg(test)]
mod tests;
