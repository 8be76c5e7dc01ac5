//! Gradients of the scan, chunk by chunk from the last.
//!
//! With ȳ the gradient to the output and G that to the state after a chunk, M = L ∘ C Bᵀ,
//! `w_j = exp(c_Q − c_j) d_j` and `M̄ = ȳ Xᵀ`:
//!
//! ```text
//! X ← Mᵀ ȳ + D ȳ + w ∘ (B Gᵀ)                  S ← exp(c_Q) G + (exp(c) ∘ ȳ)ᵀ C
//! C ← (L ∘ M̄) B + (exp(c) ∘ ȳ) S               B ← (L ∘ M̄)ᵀ C + (w ∘ X) G
//! ```
//!
//! The exponents c and the steps d get theirs from the same products, row by row. States are kept
//! before each band of chunks and computed again within it. What a segment carries in is a
//! constant (truncated back-propagation).

mod chunk;

use super::chunk::{CHUNK, Chunk, Scratch, chunks, scale};
use super::{BAND, Inputs, Ssd, SsdSizes};
use crate::error::Result;
use crate::ops::math::{self, simd};
use crate::ops::matrix::{Matrix, multiply};
use crate::ops::sums::column_sums;
use crate::ops::{Tensor, unwritten, with_slices};
use crate::sequence::Segment;
use chunk::{Here, Work};
use rayon::prelude::*;
use std::ops::Range;

/// Heads, of one group, of a task: their gradients to B and C are summed as they come.
const HEADS: usize = 4;

/// What a step keeps for its gradients.
pub(super) struct Step {
    pub scan: Ssd,
    pub xbc: Tensor,
    pub steps: Tensor,
    pub segments: Vec<Segment>,
    /// The state before each run of chunks of one segment in a band: (H, P, N).
    pub before: Vec<Vec<f32>>,
}

/// Some heads along a run of chunks.
struct Task<'a> {
    heads: Range<usize>,
    chunks: &'a [Chunk],
    scores: &'a [f32],    // (chunks, G, Q, Q)
    before: &'a [f32],    // (heads, P, N)
    later: &'a mut [f32], // G, as before
}

/// The gradients of a task's rows, and its sums.
struct Found {
    heads: Range<usize>,
    x: Vec<f32>,     // (rows, heads, P)
    bc: Vec<f32>,    // (rows, 2N)
    steps: Vec<f32>, // (rows, heads), to d
    rate: Vec<f64>,  // (heads), to A
    skip: Vec<f64>,  // (heads)
}

impl Found {
    fn new(task: &Task, sizes: SsdSizes) -> Self {
        let rows: usize = task.chunks.iter().map(|chunk| chunk.rows.len()).sum();
        let count = task.heads.len();
        Self {
            heads: task.heads.clone(),
            x: unwritten(rows * count * sizes.channels),
            bc: unwritten(rows * 2 * sizes.states),
            steps: unwritten(rows * count),
            rate: vec![0.0; count],
            skip: vec![0.0; count],
        }
    }

    /// Takes the gradients to x, d and A of the task's head i in a chunk with these steps, whose
    /// rows begin at `at`.
    fn take_rows(&mut self, work: &Work, steps: &[f32], at: usize, i: usize, rate: f64) {
        let (count, channels) = (self.heads.len(), work.channels);
        let rate = rate * std::f64::consts::LN_2; // A
        let mut sum = 0.0; // of the gradients to the exponents from a row on
        for (row, step) in steps.iter().enumerate().rev() {
            sum += f64::from(work.to_exponents[row]);
            self.rate[i] += sum * f64::from(*step);
            let place = (at + row) * count + i;
            self.steps[place] = (f64::from(work.to_steps[row]) + rate * sum) as f32;
            self.x[place * channels..][..channels]
                .copy_from_slice(&work.to_x[row * channels..][..channels]);
        }
    }

    /// Takes the gradients to B and C of a chunk of n rows, which begin at `at`.
    fn take_group_rows(&mut self, work: &Work, at: usize, n: usize) {
        let states = work.states;
        let rows = self.bc[at * 2 * states..][..n * 2 * states].chunks_exact_mut(2 * states);
        let to_b = work.to_b.chunks_exact(states);
        for (row, (b, c)) in rows.zip(to_b.zip(work.to_c.chunks_exact(states))) {
            row[..states].copy_from_slice(b);
            row[states..].copy_from_slice(c);
        }
    }
}

impl Step {
    /// To x, B and C; to the time steps; and to the three parameters in the order of [`Ssd::new`].
    pub fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 5]> {
        let scan = &self.scan;
        let (heads, rows) = (scan.sizes.heads, self.xbc.dim(0)?);
        let mut to_xbc = unwritten(self.xbc.elem_count());
        let mut to_steps = unwritten(rows * heads);
        let mut sums = vec![[0.0; 2]; heads]; // to A and D
        with_slices([grad, &self.xbc, &self.steps], |[grad, xbc, raw]| {
            let io = Inputs {
                xbc,
                steps: &scan.steps(raw),
                segments: &self.segments,
            };
            let chunks = chunks(&self.segments);
            let (mut kept, mut cut) = (&self.before[..], Vec::new());
            for band in chunks.chunks(BAND).rev() {
                let runs: Vec<&[Chunk]> = band.chunk_by(|a, b| a.segment == b.segment).collect();
                let (earlier, before) = kept.split_at(kept.len() - runs.len());
                kept = earlier;
                let found = self.band(&io, grad, band, (&runs, before), &mut cut);
                for (run, found) in runs.iter().zip(found) {
                    let rows = run[0].rows.start..run[run.len() - 1].rows.end;
                    self.write(&mut to_xbc, &mut to_steps, rows, &found);
                    for found in found {
                        let parts = found.rate.iter().zip(&found.skip);
                        for ([a, d], (rate, skip)) in sums[found.heads].iter_mut().zip(parts) {
                            (*a, *d) = (*a + rate, *d + skip);
                        }
                    }
                }
            }
            to_steps
                .par_chunks_exact_mut(heads)
                .zip(raw.par_chunks_exact(heads))
                .with_min_len(64)
                .for_each(|(grad, raw)| slopes(grad, raw, &scan.bias, scan.limit));
            Ok(())
        })?;
        let device = self.xbc.device();
        let to_steps = Tensor::from_vec(to_steps, (rows, heads), device)?;
        let to_bias = column_sums(&to_steps)?;
        // A = −exp(a_log) is its own slope.
        let rates = sums.iter().zip(&scan.rate);
        let to_a = rates.map(|([a, _], rate)| (a * rate * std::f64::consts::LN_2) as f32);
        let to_skip = sums.iter().map(|[_, d]| *d as f32);
        Ok([
            Some(Tensor::from_vec(to_xbc, self.xbc.dims(), device)?),
            Some(to_steps),
            Some(Tensor::from_vec(to_a.collect(), heads, device)?),
            Some(to_bias),
            Some(Tensor::from_vec(to_skip.collect(), heads, device)?),
        ])
    }

    /// The tasks of each run. `cut` is the gradient to the state of the segment that a band's end
    /// cuts: taken where it goes on after this band, left where it began before it.
    fn band(
        &self,
        io: &Inputs,
        grad: &[f32],
        band: &[Chunk],
        (runs, before): (&[&[Chunk]], &[Vec<f32>]),
        cut: &mut Vec<f32>,
    ) -> Vec<Vec<Found>> {
        let SsdSizes {
            channels,
            groups,
            states,
            ..
        } = self.scan.sizes;
        let scores = self.scan.scores(io, band);
        let mut laters: Vec<Vec<f32>> = runs
            .iter()
            .map(|run| {
                if run.last().is_some_and(|chunk| chunk.last) {
                    vec![0.0; self.scan.state_len()]
                } else {
                    std::mem::take(cut)
                }
            })
            .collect();
        let (mut tasks, mut scores) = (Vec::new(), &scores[..]);
        for ((run, later), before) in runs.iter().zip(&mut laters).zip(before) {
            let (here, rest) = scores.split_at(run.len() * groups * CHUNK * CHUNK);
            scores = rest;
            let (mut later, mut before) = (&mut later[..], &before[..]);
            for heads in self.blocks() {
                let len = heads.len() * channels * states;
                let (own, rest) = later.split_at_mut(len);
                later = rest;
                let (own_before, rest) = before.split_at(len);
                before = rest;
                tasks.push(Task {
                    heads,
                    chunks: run,
                    scores: here,
                    before: own_before,
                    later: own,
                });
            }
        }
        let tasks = tasks.into_par_iter();
        let mut found: Vec<Found> = tasks.map(|task| self.gradients(io, grad, task)).collect();
        if runs.first().is_some_and(|run| !run[0].first) {
            *cut = laters.swap_remove(0);
        }
        let blocks = found.len() / runs.len().max(1);
        let mut by_run = Vec::with_capacity(runs.len());
        while !found.is_empty() {
            let rest = found.split_off(blocks);
            by_run.push(std::mem::replace(&mut found, rest));
        }
        by_run
    }

    /// Heads of one group, up to [`HEADS`] together.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let SsdSizes { heads, groups, .. } = self.scan.sizes;
        let count = heads / groups;
        (0..groups).flat_map(move |group| {
            let firsts = (group * count..(group + 1) * count).step_by(HEADS);
            firsts.map(move |first| first..(first + HEADS).min((group + 1) * count))
        })
    }

    /// Puts the gradients of a run's blocks beside each other in their rows.
    fn write(&self, to_xbc: &mut [f32], to_steps: &mut [f32], rows: Range<usize>, found: &[Found]) {
        let sizes = self.scan.sizes;
        let (inner, states) = (sizes.inner(), sizes.states);
        let (columns, heads) = (sizes.columns(), sizes.heads);
        to_xbc[rows.start * columns..rows.end * columns]
            .par_chunks_exact_mut(columns)
            .zip(to_steps[rows.start * heads..rows.end * heads].par_chunks_exact_mut(heads))
            .with_min_len(16)
            .enumerate()
            .for_each(|(i, (row, steps))| {
                let (x, bc) = row.split_at_mut(inner);
                let (b, c) = bc.split_at_mut(sizes.groups * states);
                b.fill(0.0);
                c.fill(0.0);
                for found in found {
                    let (first, count) = (found.heads.start, found.heads.len());
                    let width = count * sizes.channels;
                    x[first * sizes.channels..][..width]
                        .copy_from_slice(&found.x[i * width..][..width]);
                    steps[first..first + count].copy_from_slice(&found.steps[i * count..][..count]);
                    let at = first / (heads / sizes.groups) * states;
                    let own = found.bc[i * 2 * states..][..2 * states].split_at(states);
                    for (sum, part) in [
                        (&mut b[at..][..states], own.0),
                        (&mut c[at..][..states], own.1),
                    ] {
                        sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
                    }
                }
            });
    }

    /// The states of a task before each of its chunks: (chunks, heads, P, N).
    fn states(&self, io: &Inputs, task: &Task, scratch: &mut Scratch) -> Vec<f32> {
        let scan = &self.scan;
        let SsdSizes {
            heads,
            channels,
            groups,
            states,
        } = scan.sizes;
        let (len, group) = (channels * states, task.heads.start / (heads / groups));
        let mut all = task.before.to_vec();
        for chunk in &task.chunks[..task.chunks.len() - 1] {
            let (n, b) = (chunk.rows.len(), scan.b(io, &chunk.rows, group));
            let before = all.len() - task.before.len();
            for (i, head) in task.heads.clone().enumerate() {
                let x = scan.columns(io, &chunk.rows, head * channels, channels);
                self.decays(io, chunk, head, scratch);
                let keep = scale(scratch, x.values, x.strides.0, n);
                let mut state = all[before + i * len..][..len].to_vec();
                let scaled = Matrix::new(&scratch.y[..n * channels], [n, channels], channels);
                multiply(&mut state, keep, scaled.transposed(), b);
                all.extend(state);
            }
        }
        all
    }

    fn decays(&self, io: &Inputs, chunk: &Chunk, head: usize, scratch: &mut Scratch) {
        let heads = self.scan.sizes.heads;
        let steps = io.steps[chunk.rows.start * heads + head..].iter();
        scratch.decays(
            steps.step_by(heads).take(chunk.rows.len()),
            self.scan.rate[head],
        );
    }

    /// The gradients of a task's rows, chunk by chunk from the last.
    fn gradients(&self, io: &Inputs, grad: &[f32], task: Task) -> Found {
        let scan = &self.scan;
        let SsdSizes {
            heads,
            channels,
            groups,
            states,
        } = scan.sizes;
        let group = task.heads.start / (heads / groups);
        let (count, len) = (task.heads.len(), channels * states);
        let mut found = Found::new(&task, scan.sizes);
        let mut scratch = Scratch::new(channels);
        let all = self.states(io, &task, &mut scratch);
        let mut work = Work::new(channels, states);
        for (index, chunk) in task.chunks.iter().enumerate().rev() {
            let n = chunk.rows.len();
            let at = chunk.rows.start - task.chunks[0].rows.start;
            let scores = &task.scores[(index * groups + group) * CHUNK * CHUNK..][..n * n];
            let (b, c) = (
                scan.b(io, &chunk.rows, group),
                scan.c(io, &chunk.rows, group),
            );
            work.begin_chunk(n);
            for (i, head) in task.heads.clone().enumerate() {
                let grad = &grad[(chunk.rows.start * heads + head) * channels..];
                let here = Here {
                    x: scan.columns(io, &chunk.rows, head * channels, channels),
                    y: Matrix::new(grad, [n, channels], heads * channels),
                    b,
                    c,
                    scores,
                };
                self.decays(io, chunk, head, &mut scratch);
                let skip = work.within_chunk(&mut scratch, &here, scan.skip[head]);
                found.skip[i] += f64::from(skip);
                let later = &mut task.later[i * len..][..len];
                let state = &all[(index * count + i) * len..][..len];
                // Nothing passes back from after the segment's last row.
                if !chunk.last {
                    work.add_after(&mut scratch, &here, later, state);
                }
                // The state before the segment is a constant, and may be zero.
                if !(chunk.first && io.segments[chunk.segment].starts) {
                    work.add_before(&mut scratch, &here, state);
                    if !chunk.first {
                        work.pass_before(&scratch, &here, later);
                    }
                }
                found.take_rows(&work, &scratch.steps[..n], at, i, scan.rate[head]);
            }
            work.through_scores(b, c);
            found.take_group_rows(&work, at, n);
        }
        found
    }
}

simd! {
/// From the gradient to time steps to that of the numbers before bias, softplus and limits.
fn slopes(grad: &mut [f32], raw: &[f32], bias: &[f32], limit: (f32, f32)) {
    for ((grad, raw), bias) in grad.iter_mut().zip(raw).zip(bias) {
        let step = math::softplus::<FMA>(raw + bias);
        let within = step >= limit.0 && step <= limit.1;
        *grad *= if within { math::sigmoid::<FMA>(raw + bias) } else { 0.0 };
    }
}
}

#[cfg(test)]
mod tests;
