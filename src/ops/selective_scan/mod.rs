//! The selective scan of Mamba: Gu & Dao 2023, arXiv:2312.00752, algorithm 2; f32 throughout.
//!
//! Symbols: T rows of a step, I channels, N states of a channel, R rank of the time step.
//!
//! Channels are the SIMD lanes, so the sum over states needs no shuffles; 32 channels × 4 states
//! stay in registers along the time axis. Measured on one thread of a Sapphire Rapids: 0.15 ns
//! for each of the T · I · N updates (one exponential each), 0.3 ns with time steps and gate.

mod backward;
pub(super) mod cuda;
mod gpu;

use super::cuda::{Carried, OnGpu};
use super::math::{self, mul_add, simd};
use super::{Device, expect_shape, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use crate::ops::timing;
use crate::sequence::Segment;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// Channels of a group: two AVX-512 registers.
const WIDTH: usize = 32;
/// States of a channel that are advanced together.
const STATES: usize = 4;
/// Rows of a tile: its scratch stays in the L1 cache.
const ROWS: usize = 64;

/// One value for each channel of a group.
type Lanes = [f32; WIDTH];
/// One value for each channel of a group and each of four states.
type Four = [Lanes; STATES];

/// `h_t = exp(δ_t A) h_{t−1} + δ_t u_t B_t`, `y_t = h_t · C_t + D u_t`, `δ = softplus(W_δ low + b_δ)`.
#[derive(Clone, Debug)]
pub struct SelectiveScan {
    groups: Vec<Group>,
    channels: usize,
    states: usize,
    rank: usize,
    reversed: bool,
    /// `a_log`, `skip`, `step_weight` and `step_bias` as given.
    parameters: [Tensor; 4],
    on_gpu: OnGpu<cuda::SelectiveScan>,
}

/// The parameters of up to [`WIDTH`] channels, zeros for those that are not there.
#[derive(Clone, Debug)]
struct Group {
    decay: Vec<Four>,        // A · log2 e: states in fours
    step_weight: Vec<Lanes>, // W_δ: (R)
    step_bias: Lanes,
    skip: Lanes, // D
}

/// The hidden states h of each lane's unfinished sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScanState {
    groups: Vec<Vec<Four>>, // (lanes, states in fours) each
    /// On a GPU these instead.
    on_gpu: Carried<cuda::ScanState>,
}

impl SelectiveScan {
    /// `a_log` (I, N) with `A = −exp(a_log)`, `skip` (I), `step_weight` (I, R), `step_bias` (I).
    pub fn new(
        a_log: &Tensor,
        skip: &Tensor,
        step_weight: &Tensor,
        step_bias: &Tensor,
    ) -> Result<Self> {
        let (channels, states) = a_log.dims2()?;
        let (_, rank) = step_weight.dims2()?;
        expect_shape("D", skip, &[channels])?;
        expect_shape("time step weight", step_weight, &[channels, rank])?;
        expect_shape("time step bias", step_bias, &[channels])?;
        let groups = with_slices(
            [a_log, skip, step_weight, step_bias],
            |[a_log, skip, weight, bias]| {
                let group = |group: usize| {
                    // Column `j` of a (I, width) matrix for the group's channels.
                    let column = |values: &[f32], width: usize, j: usize| {
                        let rows = values.chunks_exact(width).skip(group * WIDTH);
                        let mut lanes = [0.0; WIDTH];
                        for (lane, row) in lanes.iter_mut().zip(rows) {
                            *lane = row[j];
                        }
                        lanes
                    };
                    let rate = |n: usize| {
                        if n < states {
                            column(a_log, states, n)
                                .map(|a| (-f64::from(a).exp() * std::f64::consts::LOG2_E) as f32)
                        } else {
                            [0.0; WIDTH]
                        }
                    };
                    Group {
                        decay: (0..states.div_ceil(STATES))
                            .map(|four| std::array::from_fn(|n| rate(four * STATES + n)))
                            .collect(),
                        step_weight: (0..rank).map(|r| column(weight, rank, r)).collect(),
                        step_bias: column(bias, 1, 0),
                        skip: column(skip, 1, 0),
                    }
                };
                Ok((0..channels.div_ceil(WIDTH)).map(group).collect())
            },
        )?;
        Ok(Self {
            groups,
            channels,
            states,
            rank,
            reversed: false,
            parameters: [a_log, skip, step_weight, step_bias].map(Tensor::clone),
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
    pub fn start(&self, lanes: usize) -> ScanState {
        let zeros = vec![[[0.0; WIDTH]; STATES]; lanes * self.fours()];
        ScanState {
            groups: vec![zeros; self.groups.len()],
            on_gpu: Carried::default(),
        }
    }

    /// Lanes that go on from lanes of other hidden states.
    ///
    /// # Errors
    /// Internal: one of them lies on a GPU.
    pub fn fork(&self, from: &[(&ScanState, usize)]) -> Result<ScanState> {
        let len = self.fours();
        let group = |group: usize| {
            let lanes = from.iter();
            let lanes = lanes.flat_map(|(hidden, lane)| &hidden.groups[group][lane * len..][..len]);
            lanes.copied().collect()
        };
        Ok(ScanState {
            groups: (0..self.groups.len()).map(group).collect(),
            on_gpu: Carried::forked(from.iter().map(|(hidden, _)| &hidden.on_gpu))?,
        })
    }

    /// Bytes of [`ScanState`] for one sequence of a scan of this many channels and states.
    pub fn hidden_bytes(channels: usize, states: usize) -> usize {
        channels.next_multiple_of(WIDTH) * states.next_multiple_of(STATES) * size_of::<f32>()
    }

    /// `(y + added) · silu(gate)`: (T, I), from `u` (T, I) and `projected` (T, R + 2N), whose
    /// columns are the low-rank time step, B and C; `added` and `gate` are (T, I), if given.
    pub fn forward(
        &self,
        u: &Tensor,
        projected: &Tensor,
        added: Option<&Tensor>,
        gate: Option<&Tensor>,
        hidden: &mut ScanState,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let _span = timing::span("selective scan");
        let rows = u.dim(0)?;
        for (name, tensor) in [("scan", Some(u)), ("added", added), ("gate", gate)] {
            if let Some(tensor) = tensor {
                expect_shape(name, tensor, &[rows, self.channels])?;
            }
        }
        let width = self.rank + 2 * self.states;
        expect_shape("scan projections", projected, &[rows, width])?;
        if rows != segments.iter().map(|segment| segment.len).sum::<usize>() {
            return Err(Error::new(Kind::Internal, "the segments are not the rows"));
        }
        let tracked = [u, projected].into_iter().chain(&self.parameters);
        let tracked = tracked.chain(added).chain(gate).any(Tensor::is_tracked);
        if let Device::Cuda(gpu) = u.device() {
            let io = gpu::Inputs {
                u,
                projected,
                added,
                gate,
            };
            return self.on_gpu(gpu, &io, tracked, hidden, segments);
        }
        let [a_log, skip, weight, bias] = &self.parameters;
        let (out, before) = with_slices(
            [u, projected, added.unwrap_or(u), gate.unwrap_or(u)],
            |[u, projected, added_values, gate_values]| {
                let io = Inputs {
                    u,
                    projected: &self.padded(projected),
                    added: added.map(|_| added_values),
                    gate: gate.map(|_| gate_values),
                    channels: self.channels,
                };
                Ok(self.run(&io, hidden, segments, tracked))
            },
        )?;
        let out = Tensor::from_vec(out, u.dims(), u.device())?;
        if !tracked {
            return Ok(out);
        }
        let step = backward::Step {
            scan: self.clone(),
            u: u.detach(),
            projected: projected.detach(),
            added: added.map(Tensor::detach),
            gate: gate.map(Tensor::detach),
            segments: segments.to_vec(),
            before: before.into_iter().flatten().collect(),
        };
        let constant = u.detach(); // in the place of what is not there
        let [added, gate] = [added, gate].map(|x| x.unwrap_or(&constant));
        let parents = [u, projected, added, gate, a_log, skip, weight, bias];
        Ok(out.derived(parents, move |grad| step.backward(grad)))
    }

    /// The numbers alone; and of each group, if they are `tracked`, the states that its gradients
    /// begin with.
    fn run(
        &self,
        io: &Inputs,
        hidden: &mut ScanState,
        segments: &[Segment],
        tracked: bool,
    ) -> (Vec<f32>, Vec<Option<Vec<Four>>>) {
        let mut out = unwritten(io.u.len());
        let mut before = vec![tracked.then(Vec::new); self.groups.len()];
        let rows = out.len() / self.channels;
        let mut columns: Vec<Vec<&mut [f32]>> = Vec::new();
        columns.resize_with(self.groups.len(), || Vec::with_capacity(rows));
        for row in out.chunks_exact_mut(self.channels) {
            for (column, part) in columns.iter_mut().zip(row.chunks_mut(WIDTH)) {
                column.push(part);
            }
        }
        columns
            .into_par_iter()
            .zip(&mut hidden.groups)
            .zip(&mut before)
            .enumerate()
            .for_each(|(group, ((mut out, hidden), before))| {
                self.group(group, io, &mut out, hidden, segments, before);
            });
        (out, before)
    }

    /// `projected` with B and C filled up with zeros to whole fours.
    fn padded<'a>(&self, projected: &'a [f32]) -> Cow<'a, [f32]> {
        let (states, padded) = (self.states, self.fours() * STATES);
        if states == padded {
            return Cow::Borrowed(projected);
        }
        let zeros = || std::iter::repeat_n(0.0, padded - states);
        let mut out = Vec::new();
        for row in projected.chunks_exact(self.rank + 2 * states) {
            let (low_b, c) = row.split_at(self.rank + states);
            out.extend_from_slice(low_b);
            out.extend(zeros());
            out.extend_from_slice(c);
            out.extend(zeros());
        }
        Cow::Owned(out)
    }

    /// All segments of one group of channels, one after the other. The states before each tile go
    /// to `before`, if given.
    fn group(
        &self,
        group: usize,
        io: &Inputs,
        out: &mut [&mut [f32]],
        hidden: &mut [Four],
        segments: &[Segment],
        before: &mut Option<Vec<Four>>,
    ) {
        let columns = group * WIDTH..self.channels.min((group + 1) * WIDTH);
        let group = &self.groups[group];
        let mut tile = Tile::default();
        let mut from = 0;
        for segment in segments {
            let kept = segment.lane * self.fours()..(segment.lane + 1) * self.fours();
            let mut h = if segment.starts {
                vec![[[0.0; WIDTH]; STATES]; self.fours()]
            } else {
                hidden[kept.clone()].to_vec()
            };
            for done in (0..segment.len).step_by(ROWS) {
                let n = ROWS.min(segment.len - done);
                let first = if self.reversed {
                    from + segment.len - done - n
                } else {
                    from + done
                };
                let rows = first..first + n;
                if let Some(before) = before {
                    before.extend_from_slice(&h);
                }
                prepare(&mut tile, group, io, &rows, &columns);
                recur(&mut tile, group, io, &rows, self.reversed, &mut h);
                finish(&mut out[rows.clone()], &mut tile, io, &rows, &columns);
            }
            if !segment.ends {
                hidden[kept].copy_from_slice(&h);
            }
            from += segment.len;
        }
    }

    /// Fours of states of a channel.
    fn fours(&self) -> usize {
        self.states.div_ceil(STATES)
    }
}

struct Inputs<'a> {
    u: &'a [f32],         // (T, I)
    projected: &'a [f32], // (T, R + 2N), N a multiple of STATES
    added: Option<&'a [f32]>,
    gate: Option<&'a [f32]>,
    channels: usize,
}

/// What [`ROWS`] rows of a group need between the passes, in the order of the rows.
struct Tile {
    step: [Lanes; ROWS],   // δ
    input: [Lanes; ROWS],  // δ u
    output: [Lanes; ROWS], // y
}

impl Default for Tile {
    fn default() -> Self {
        let zeros = [[0.0; WIDTH]; ROWS];
        Self {
            step: zeros,
            input: zeros,
            output: zeros,
        }
    }
}

/// The group's `columns` of one row, zeros for channels that are not there.
#[inline(always)]
fn lanes(values: &[f32], channels: usize, row: usize, columns: &Range<usize>) -> Lanes {
    let part = &values[row * channels..][columns.clone()];
    part.try_into().unwrap_or_else(|_| {
        let mut lanes = [0.0; WIDTH];
        lanes[..part.len()].copy_from_slice(part);
        lanes
    })
}

simd! {
/// Time steps, inputs, and what is added to the outputs.
fn prepare(tile: &mut Tile, group: &Group, io: &Inputs, rows: &Range<usize>, columns: &Range<usize>) {
    let width = io.projected.len() / (io.u.len() / io.channels);
    let outs = tile.step.iter_mut().zip(&mut tile.input).zip(&mut tile.output);
    for (row, ((step, input), y)) in rows.clone().zip(outs) {
        let mut sum = group.step_bias;
        let low = &io.projected[row * width..][..group.step_weight.len()];
        for (low, weight) in low.iter().zip(&group.step_weight) {
            for (sum, weight) in sum.iter_mut().zip(weight) {
                *sum = mul_add::<FMA>(*low, *weight, *sum);
            }
        }
        *step = sum;
        for step in step.iter_mut() {
            *step = math::softplus::<FMA>(*step);
        }
        let u = lanes(io.u, io.channels, row, columns);
        for ((input, step), u) in input.iter_mut().zip(&*step).zip(&u) {
            *input = step * u;
        }
        *y = match io.added {
            Some(added) => lanes(added, io.channels, row, columns),
            None => [0.0; WIDTH],
        };
        for ((y, skip), u) in y.iter_mut().zip(&group.skip).zip(&u) {
            *y = mul_add::<FMA>(*skip, *u, *y);
        }
    }
}
}

simd! {
/// The recurrence, four states at a time along all rows.
fn recur(tile: &mut Tile, group: &Group, io: &Inputs, rows: &Range<usize>, reversed: bool, h: &mut [Four]) {
    let width = io.projected.len() / (io.u.len() / io.channels);
    let states = h.len() * STATES;
    let bc = width - 2 * states;
    let projected = &io.projected[rows.start * width..rows.end * width];
    for (four, (h, decay)) in h.iter_mut().zip(&group.decay).enumerate() {
        let mut state = *h;
        let n = rows.len();
        for i in 0..n {
            let i = if reversed { n - 1 - i } else { i };
            let row = &projected[i * width + bc + four * STATES..];
            let (b, c) = (&row[..STATES], &row[states..][..STATES]);
            let (step, input) = (&tile.step[i], &tile.input[i]);
            let mut y = tile.output[i];
            for s in 0..STATES {
                for lane in 0..WIDTH {
                    let kept = math::exp2::<FMA>(step[lane] * decay[s][lane]);
                    let new = mul_add::<FMA>(kept, state[s][lane], input[lane] * b[s]);
                    state[s][lane] = new;
                    y[lane] = mul_add::<FMA>(new, c[s], y[lane]);
                }
            }
            tile.output[i] = y;
        }
        *h = state;
    }
}
}

simd! {
/// Gates the outputs and writes them.
fn finish(out: &mut [&mut [f32]], tile: &mut Tile, io: &Inputs, rows: &Range<usize>, columns: &Range<usize>) {
    for ((out, y), row) in out.iter_mut().zip(&mut tile.output).zip(rows.clone()) {
        if let Some(gate) = io.gate {
            let gate = lanes(gate, io.channels, row, columns);
            for (y, gate) in y.iter_mut().zip(gate) {
                *y *= math::silu::<FMA>(gate);
            }
        }
        out.copy_from_slice(&y[..columns.len()]);
    }
}
}

#[cfg(test)]
mod tests;
