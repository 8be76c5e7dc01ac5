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

use super::{BAND, CHUNK, Chunk, Inputs, Scratch, Ssd, SsdSizes, chunks, decay, scale};
use crate::error::Result;
use crate::ops::math::{self, mul_add, simd};
use crate::ops::matrix::{Matrix, multiply};
use crate::ops::sums::column_sums;
use crate::ops::{Tensor, unwritten, with_slices};
use crate::sequence::Segment;
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
        let mut found: Vec<Found> = tasks.map(|task| self.task(io, grad, task)).collect();
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

    fn task(&self, io: &Inputs, grad: &[f32], task: Task) -> Found {
        let scan = &self.scan;
        let SsdSizes {
            heads,
            channels,
            groups,
            states,
        } = scan.sizes;
        let group = task.heads.start / (heads / groups);
        let (count, len) = (task.heads.len(), channels * states);
        let first = task.chunks[0].rows.start;
        let rows = task
            .chunks
            .iter()
            .map(|chunk| chunk.rows.len())
            .sum::<usize>();
        let mut found = Found {
            heads: task.heads.clone(),
            x: unwritten(rows * count * channels),
            bc: unwritten(rows * 2 * states),
            steps: unwritten(rows * count),
            rate: vec![0.0; count],
            skip: vec![0.0; count],
        };
        let mut scratch = Scratch::new(channels);
        let all = self.states(io, &task, &mut scratch);
        let mut work = Work::new(channels, states);
        for (index, chunk) in task.chunks.iter().enumerate().rev() {
            let (n, at) = (chunk.rows.len(), chunk.rows.start - first);
            let scores = &task.scores[(index * groups + group) * CHUNK * CHUNK..][..n * n];
            let (b, c) = (
                scan.b(io, &chunk.rows, group),
                scan.c(io, &chunk.rows, group),
            );
            work.to_scores[..n * n].fill(0.0);
            work.to_b[..n * states].fill(0.0);
            work.to_c[..n * states].fill(0.0);
            for (i, head) in task.heads.clone().enumerate() {
                let x = scan.columns(io, &chunk.rows, head * channels, channels);
                let y = Matrix::new(
                    &grad[chunk.rows.start * heads * channels + head * channels..],
                    [n, channels],
                    heads * channels,
                );
                self.decays(io, chunk, head, &mut scratch);
                work.to_exponents = [0.0; CHUNK];
                work.to_steps = [0.0; CHUNK];
                multiply(&mut work.to_weights[..n * n], 0.0, y, x.transposed());
                within(&mut work, &mut scratch, scores, n);
                let weights = Matrix::new(&scratch.weights[..n * n], [n, n], n);
                multiply(&mut work.to_x[..n * channels], 0.0, weights.transposed(), y);
                found.skip[i] += f64::from(direct(&mut work.to_x, x, y, scan.skip[head]));

                let later = &mut task.later[i * len..][..len];
                let state = &all[(index * count + i) * len..][..len];
                // Nothing passes back from after the segment's last row.
                if !chunk.last {
                    let after = Matrix::new(later, [channels, states], states);
                    multiply(&mut work.passed[..n * channels], 0.0, b, after.transposed());
                    let kept = scale(&mut scratch, x.values, x.strides.0, n);
                    let scaled = Matrix::new(&scratch.y[..n * channels], [n, channels], channels);
                    multiply(&mut work.to_b[..n * states], 1.0, scaled, after);
                    after_rows(&mut work, &scratch, x, n, kept * product(later, state));
                }
                // The state before the segment is a constant, and may be zero.
                if !(chunk.first && io.segments[chunk.segment].starts) {
                    decayed(&mut scratch, y);
                    let scaled = Matrix::new(&scratch.y[..n * channels], [n, channels], channels);
                    let before = Matrix::new(state, [channels, states], states);
                    multiply(&mut work.seen[..n * states], 0.0, scaled, before);
                    before_rows(&mut work, c, n);
                    if !chunk.first {
                        let kept = total_decay(&scratch, n);
                        multiply(later, kept, scaled.transposed(), c);
                    }
                }
                let rate = scan.rate[head] * std::f64::consts::LN_2; // A
                let mut sum = 0.0; // of the gradients to the exponents from a row on
                for row in (0..n).rev() {
                    sum += f64::from(work.to_exponents[row]);
                    found.rate[i] += sum * f64::from(scratch.steps[row]);
                    let step = f64::from(work.to_steps[row]) + rate * sum;
                    found.steps[(at + row) * count + i] = step as f32;
                    found.x[((at + row) * count + i) * channels..][..channels]
                        .copy_from_slice(&work.to_x[row * channels..][..channels]);
                }
            }
            let to_scores = Matrix::new(&work.to_scores[..n * n], [n, n], n);
            multiply(&mut work.to_c[..n * states], 1.0, to_scores, b);
            multiply(&mut work.to_b[..n * states], 1.0, to_scores.transposed(), c);
            let parts = work
                .to_b
                .chunks_exact(states)
                .zip(work.to_c.chunks_exact(states));
            let out = found.bc[at * 2 * states..][..n * 2 * states].chunks_exact_mut(2 * states);
            for (out, (b, c)) in out.zip(parts) {
                out[..states].copy_from_slice(b);
                out[states..].copy_from_slice(c);
            }
        }
        found
    }
}

/// What a task needs for one chunk.
struct Work {
    to_scores: Vec<f32>,  // (Q, Q), L ∘ M̄ of all heads
    to_b: Vec<f32>,       // (Q, N), of all heads
    to_c: Vec<f32>,       // as to_b
    to_weights: Vec<f32>, // (Q, Q), M̄
    to_x: Vec<f32>,       // (Q, P)
    passed: Vec<f32>,     // (Q, P), B Gᵀ
    seen: Vec<f32>,       // (Q, N), (exp(c) ∘ ȳ) S
    /// To c.
    to_exponents: [f32; CHUNK],
    /// To d, but for what comes through c.
    to_steps: [f32; CHUNK],
}

impl Work {
    fn new(channels: usize, states: usize) -> Self {
        Self {
            to_scores: unwritten(CHUNK * CHUNK),
            to_b: unwritten(CHUNK * states),
            to_c: unwritten(CHUNK * states),
            to_weights: unwritten(CHUNK * CHUNK),
            to_x: unwritten(CHUNK * channels),
            passed: unwritten(CHUNK * channels),
            seen: unwritten(CHUNK * states),
            to_exponents: [0.0; CHUNK],
            to_steps: [0.0; CHUNK],
        }
    }
}

simd! {
/// The weights M again, and the gradients through them to the scores, c and d.
fn within(work: &mut Work, scratch: &mut Scratch, scores: &[f32], n: usize) {
    let Scratch { steps, high, low, weights, .. } = scratch;
    let Work { to_scores, to_weights, to_exponents, to_steps, .. } = work;
    let rows = weights.chunks_exact_mut(n).zip(scores.chunks_exact(n));
    let grads = to_scores.chunks_exact_mut(n).zip(to_weights.chunks_exact(n));
    let mut of_row = [0f32; CHUNK];
    for (i, ((weights, scores), (to_scores, grads))) in rows.zip(grads).enumerate() {
        let (high_i, low_i) = (high[i], low[i]);
        for j in 0..i + 1 {
            let kept = decay::<FMA>((high_i - high[j]) + (low_i - low[j]));
            let step = kept * steps[j];
            weights[j] = scores[j] * step;
            to_scores[j] = mul_add::<FMA>(grads[j], step, to_scores[j]);
            let through = grads[j] * scores[j] * kept;
            to_steps[j] += through;
            of_row[j] = through * steps[j];
            to_exponents[j] -= of_row[j];
        }
        weights[i + 1..].fill(0.0);
        to_exponents[i] += of_row[..i + 1].iter().sum::<f32>();
    }
}
}

simd! {
/// Adds the skip's share `D ȳ` to the gradient to x; gives `Σ ȳ x`.
fn direct(to_x: &mut [f32], x: Matrix, y: Matrix, skip: f32) -> f32 {
    let width = x.columns;
    let mut sum = 0.0;
    for (i, to_x) in to_x.chunks_exact_mut(width).take(x.rows).enumerate() {
        let (x, y) = (&x.values[i * x.strides.0..][..width], &y.values[i * y.strides.0..][..width]);
        let mut of_row = 0.0;
        for ((to_x, x), y) in to_x.iter_mut().zip(x).zip(y) {
            *to_x = mul_add::<FMA>(skip, *y, *to_x);
            of_row = mul_add::<FMA>(*x, *y, of_row);
        }
        sum += of_row;
    }
    sum
}
}

simd! {
/// The gradients that come back from the state after the chunk, to x, c and d. `kept` is that to
/// the last c from what remains of the state before.
fn after_rows(work: &mut Work, scratch: &Scratch, x: Matrix, n: usize, kept: f32) {
    let (h, l) = (scratch.high[n - 1], scratch.low[n - 1]);
    let width = x.columns;
    let rows = work.to_x.chunks_exact_mut(width).zip(work.passed.chunks_exact(width));
    let mut sum = kept;
    for (j, (to_x, passed)) in rows.take(n).enumerate() {
        let factor = decay::<FMA>((h - scratch.high[j]) + (l - scratch.low[j]));
        let weight = factor * scratch.steps[j];
        let mut through = 0.0;
        for ((to_x, passed), x) in to_x.iter_mut().zip(passed).zip(&x.values[j * x.strides.0..]) {
            *to_x = mul_add::<FMA>(weight, *passed, *to_x);
            through = mul_add::<FMA>(*passed, *x, through);
        }
        work.to_steps[j] += factor * through;
        work.to_exponents[j] -= weight * through;
        sum += weight * through;
    }
    work.to_exponents[n - 1] += sum;
}
}

simd! {
/// Rows `exp(c_i) ȳ_i` in place of y.
fn decayed(scratch: &mut Scratch, y: Matrix) {
    let Scratch { high, y: out, channels, .. } = scratch;
    for (i, out) in out.chunks_exact_mut(*channels).take(y.rows).enumerate() {
        let kept = decay::<FMA>(high[i]);
        for (out, y) in out.iter_mut().zip(&y.values[i * y.strides.0..]) {
            *out = kept * y;
        }
    }
}
}

simd! {
/// The gradients that the state before the chunk brings, to C and c.
fn before_rows(work: &mut Work, c: Matrix, n: usize) {
    let width = c.columns;
    let rows = work.to_c.chunks_exact_mut(width).zip(work.seen.chunks_exact(width));
    for (i, (to_c, seen)) in rows.take(n).enumerate() {
        let mut through = 0.0;
        for ((to_c, seen), c) in to_c.iter_mut().zip(seen).zip(&c.values[i * c.strides.0..]) {
            *to_c += seen;
            through = mul_add::<FMA>(*seen, *c, through);
        }
        work.to_exponents[i] += through;
    }
}
}

simd! {
/// exp(c) of the last of n rows.
fn total_decay(scratch: &Scratch, n: usize) -> f32 {
    decay::<FMA>(scratch.high[n - 1])
}
}

simd! {
fn product(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (groups, rest) = (x.as_chunks::<16>(), y.as_chunks::<16>());
    for (x, y) in groups.0.iter().zip(rest.0) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum = mul_add::<FMA>(*x, *y, *sum);
        }
    }
    let last: f32 = groups.1.iter().zip(rest.1).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + last
}
}

simd! {
/// From the gradient to time steps to that of the numbers before bias, softplus and limits.
fn slopes(grad: &mut [f32], raw: &[f32], bias: &[f32], limit: (f32, f32)) {
    for ((grad, raw), bias) in grad.iter_mut().zip(raw).zip(bias) {
        let step = math::softplus(raw + bias);
        let within = step >= limit.0 && step <= limit.1;
        *grad *= if within { math::sigmoid(raw + bias) } else { 0.0 };
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check::{check, random, wide};

    fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
        Segment {
            lane,
            len,
            starts,
            ends,
        }
    }

    /// x, B and C; time steps; a_log, bias and D.
    fn inputs(sizes: SsdSizes, rows: usize, seed: u64) -> [Tensor; 5] {
        let heads = sizes.heads;
        [
            random(&[rows, sizes.columns()], seed),
            random(&[rows, heads], seed + 1),
            random(&[heads], seed + 2),
            random(&[heads], seed + 3),
            random(&[heads], seed + 4),
        ]
    }

    fn scan(sizes: SsdSizes, x: &[Tensor], limit: (f64, f64)) -> Ssd {
        Ssd::new(sizes, &x[2], &x[3], &x[4], limit).unwrap()
    }

    /// One segment by the definition, from the states s (I, N) on, which it leaves behind.
    fn plain(
        sizes: SsdSizes,
        x: &[Vec<f64>],
        rows: Range<usize>,
        limit: (f64, f64),
        s: &mut [f64],
    ) -> Vec<f64> {
        let SsdSizes {
            heads,
            channels,
            groups,
            states,
        } = sizes;
        let mut out = Vec::new();
        for t in rows {
            let row = &x[0][t * sizes.columns()..][..sizes.columns()];
            for i in 0..sizes.inner() {
                let head = i / channels;
                let step = (x[1][t * heads + head] + x[3][head]).exp().ln_1p();
                let step = step.clamp(limit.0, limit.1);
                let kept = (-step * x[2][head].exp()).exp();
                let b = sizes.inner() + head * groups / heads * states;
                let c = b + groups * states;
                let mut y = x[4][head] * row[i];
                for n in 0..states {
                    let s = &mut s[i * states + n];
                    *s = kept * *s + step * row[i] * row[b + n];
                    y += *s * row[c + n];
                }
                out.push(y);
            }
        }
        out
    }

    #[test]
    fn gradients_equal_differences_of_a_plain_f64_loop() {
        let sizes = |heads, channels, groups, states| SsdSizes {
            heads,
            channels,
            groups,
            states,
        };
        let open = (0.0, f64::INFINITY);
        for (sizes, lens, limit) in [
            (sizes(2, 2, 1, 3), [3, 2 * CHUNK + 5, 4], open),
            (sizes(4, 1, 2, 2), [2, CHUNK + 1, 3], (0.4, 1.3)),
            (sizes(12, 2, 2, 2), [1, 4, 2], open),
        ] {
            // Lane 0 was left by a segment of 5 rows; then three segments share a step.
            let segments = [
                segment(1, lens[0], true, true),
                segment(0, lens[1], false, false),
                segment(1, lens[2], true, false),
            ];
            let carried = inputs(sizes, 5, 20);
            let inputs = inputs(sizes, lens.iter().sum(), 1);
            let frozen: Vec<_> = inputs.iter().map(Tensor::detach).collect();
            let op = |x: &[Tensor]| {
                let constant = scan(sizes, &frozen, limit);
                let mut state = constant.start(2);
                let first = [segment(0, 5, true, false)];
                constant.forward(&carried[0], &carried[1], &mut state, &first)?;
                scan(sizes, x, limit).forward(&x[0], &x[1], &mut state, &segments)
            };
            let mut before = vec![0.0; sizes.inner() * sizes.states];
            let mut values: Vec<_> = inputs.iter().map(wide).collect();
            values[..2].clone_from_slice(&[wide(&carried[0]), wide(&carried[1])]);
            plain(sizes, &values, 0..5, limit, &mut before);
            check(&inputs, 5e-5, op, |x| {
                let mut from = 0;
                let runs = lens.map(|len| {
                    let mut s = vec![0.0; before.len()];
                    if len == lens[1] {
                        s.copy_from_slice(&before);
                    }
                    from += len;
                    plain(sizes, x, from - len..from, limit, &mut s)
                });
                runs.concat()
            });
        }
    }

    /// Several bands: from differences along one random direction of each input.
    #[test]
    fn bands_leave_nothing_out() {
        let sizes = SsdSizes {
            heads: 3,
            channels: 2,
            groups: 1,
            states: 3,
        };
        let rows = 2 * BAND * CHUNK + 100;
        let inputs = inputs(sizes, rows, 1);
        let open = (0.0, f64::INFINITY);
        let parameters = inputs.each_ref().map(Tensor::parameter);
        let scan = scan(sizes, &parameters, open);
        let whole = [
            segment(0, 70, true, true),
            segment(0, rows - 70, true, true),
        ];
        let mut state = scan.start(1);
        let out = scan
            .forward(&parameters[0], &parameters[1], &mut state, &whole)
            .unwrap();
        let seed = random(out.dims(), 30);
        let gradients = out.backward(seed.clone()).unwrap();
        for (i, input) in inputs.iter().enumerate() {
            let along = wide(&random(input.dims(), 40));
            let loss = |step: f64| -> f64 {
                let mut x: Vec<_> = inputs.iter().map(wide).collect();
                x[i].iter_mut()
                    .zip(&along)
                    .for_each(|(x, a)| *x += step * a);
                let parts = [0..70, 70..rows].map(|rows| {
                    plain(
                        sizes,
                        &x,
                        rows,
                        open,
                        &mut vec![0.0; sizes.inner() * sizes.states],
                    )
                });
                let y = parts.concat();
                y.iter().zip(wide(&seed)).map(|(y, seed)| y * seed).sum()
            };
            let expected = (loss(1e-6) - loss(-1e-6)) / 2e-6;
            let found = wide(gradients.of(&parameters[i]).unwrap());
            let length = found.iter().map(|x| x * x).sum::<f64>().sqrt();
            let found: f64 = found.iter().zip(&along).map(|(g, a)| g * a).sum();
            assert!(
                (found - expected).abs() < 1e-4 * length,
                "{i}: {found} {expected}"
            );
        }
    }
}
