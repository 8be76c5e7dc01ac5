//! Gradients of the selective scan, from the last row to the first.
//!
//! With g the gradient to h, `g_t = ȳ_t C_t + a_{t+1} g_{t+1}` where `a = exp(δ A)`:
//!
//! ```text
//! C_t ← Σ_channels ȳ_t h_t            δ u ← Σ_states g_t B_t
//! B_t ← Σ_channels g_t δ_t u_t        δ_t ← Σ_states g_t a_t h_{t−1} A    A ← Σ_t g_t a_t h_{t−1} δ_t
//! ```
//!
//! The forward pass keeps h before each tile of 64 rows; a tile's own h and a are computed again.
//! Sums over channels are kept by lane while a task goes through its groups, and taken across the
//! lanes once a tile. What a segment carries in is a constant (truncated back-propagation).

use super::{Four, Group, Inputs, Lanes, ROWS, STATES, SelectiveScan, Tile, WIDTH, lanes, prepare};
use crate::error::Result;
use crate::ops::activation::silu_slope;
use crate::ops::linear::{to_input, to_weight};
use crate::ops::math::{self, mul_add, simd};
use crate::ops::sums::{column_sums, total};
use crate::ops::{Tensor, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;
use std::ops::Range;

/// Groups of channels that one task goes through tile by tile.
const GROUPS: usize = 4;
/// Lanes that sums over channels are kept in.
const FOLDED: usize = WIDTH / 2;

/// What a step keeps for its gradients.
pub(super) struct Step {
    pub scan: SelectiveScan,
    pub u: Tensor,
    pub projected: Tensor,
    pub added: Option<Tensor>,
    pub gate: Option<Tensor>,
    pub segments: Vec<Segment>,
    /// Each group's hidden states before each tile, in the order of scanning.
    pub before: Vec<Vec<Four>>,
}

/// Rows that a task writes, each its columns of the row: the gradients to u, to what softplus is
/// taken of, to `added` and to the gate; none where there is no such input.
type Outs<'a> = [Vec<&'a mut [f32]>; 4];

/// The sums of one task.
struct Sums {
    /// To A, times A: of each group, states in fours.
    rate: Vec<Vec<Four>>,
    skip: Vec<Lanes>,
    /// To B and C, each padded to whole fours: a row's B, then its C.
    bc: Vec<f32>,
}

impl Step {
    /// To u, the projections, `added`, the gate, and the four parameters in the order of
    /// [`SelectiveScan::new`].
    pub fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 8]> {
        let scan = &self.scan;
        let (rows, channels) = self.u.dims2()?;
        let present = [true, true, self.added.is_some(), self.gate.is_some()];
        let mut outs = present.map(|present| unwritten(if present { rows * channels } else { 0 }));
        let [added, gate] = [&self.added, &self.gate].map(Option::as_ref);
        let tensors = [
            grad,
            &self.u,
            &self.projected,
            added.unwrap_or(grad),
            gate.unwrap_or(grad),
        ];
        let sums = with_slices(
            tensors,
            |[grad, u, projected, added_values, gate_values]| {
                let io = Inputs {
                    u,
                    projected: &scan.padded(projected),
                    added: added.map(|_| added_values),
                    gate: gate.map(|_| gate_values),
                    channels,
                };
                let width = GROUPS * WIDTH;
                let tasks = channels.div_ceil(width);
                let mut columns: Vec<Outs> = Vec::with_capacity(tasks);
                columns.resize_with(tasks, Outs::default);
                for (i, out) in outs.iter_mut().enumerate() {
                    for row in out.chunks_exact_mut(channels) {
                        for (task, part) in columns.iter_mut().zip(row.chunks_mut(width)) {
                            task[i].push(part);
                        }
                    }
                }
                let tasks = columns.into_par_iter().enumerate();
                let sums =
                    tasks.map(|(task, mut outs)| self.task(task * GROUPS, &io, grad, &mut outs));
                Ok(sums.collect::<Vec<_>>())
            },
        )?;
        let device = self.u.device();
        let [u, step, added, gate] = outs.map(|out| Tensor::from_vec(out, self.u.dims(), device));
        let step = step?;
        let [_, _, weight, _] = &scan.parameters;
        let low = self.projected.narrow(1, 0, scan.rank)?;
        let (mut rate, mut skip, mut bc) = (Vec::new(), Vec::new(), Vec::new());
        for task in sums {
            rate.extend(task.rate);
            skip.extend(task.skip);
            bc.push(task.bc);
        }
        let projected = self.projections(&to_input(&step, &weight.detach())?, &total(bc))?;
        let rate = scan.unpacked(&rate);
        let skip = skip.iter().flatten().take(channels).copied().collect();
        Ok([
            Some(u?),
            Some(projected),
            present[2].then_some(added).transpose()?,
            present[3].then_some(gate).transpose()?,
            Some(Tensor::from_vec(rate, (channels, scan.states), device)?),
            Some(Tensor::from_vec(skip, channels, device)?),
            Some(to_weight(&step, &low)?),
            Some(column_sums(&step)?),
        ])
    }

    /// (T, R + 2N) of the gradients to the low-rank time step (T, R) and to B and C.
    fn projections(&self, low: &Tensor, bc: &[f32]) -> Result<Tensor> {
        let (states, rank, padded) = (self.scan.states, self.scan.rank, self.scan.fours() * STATES);
        let out = with_slices([low], |[low]| {
            let mut out = Vec::with_capacity(self.projected.elem_count());
            for (low, bc) in low.chunks_exact(rank).zip(bc.chunks_exact(2 * padded)) {
                out.extend_from_slice(low);
                out.extend_from_slice(&bc[..states]);
                out.extend_from_slice(&bc[padded..][..states]);
            }
            Ok(out)
        })?;
        Tensor::from_vec(out, self.projected.dims(), low.device())
    }

    /// The groups from `first` on, tile by tile from the last scanned.
    fn task(&self, first: usize, io: &Inputs, grad: &[f32], outs: &mut Outs) -> Sums {
        let scan = &self.scan;
        let fours = scan.fours();
        let groups = first..scan.groups.len().min(first + GROUPS);
        let zeros = [[0.0; WIDTH]; STATES];
        let mut sums = Sums {
            rate: vec![vec![zeros; fours]; groups.len()],
            skip: vec![[0.0; WIDTH]; groups.len()],
            bc: unwritten(io.u.len() / io.channels * 2 * fours * STATES),
        };
        let mut work = Work::new();
        let mut folded = vec![[0.0; FOLDED]; ROWS * 2 * fours * STATES];
        let (mut from, mut tiles) = (0, 0);
        for segment in &self.segments {
            let mut carry = vec![vec![zeros; fours]; groups.len()];
            let count = segment.len.div_ceil(ROWS);
            for number in (0..count).rev() {
                let n = ROWS.min(segment.len - number * ROWS);
                let start = if scan.reversed {
                    from + segment.len - number * ROWS - n
                } else {
                    from + number * ROWS
                };
                let rows = start..start + n;
                folded.fill([0.0; FOLDED]);
                for (i, index) in groups.clone().enumerate() {
                    let tile = GroupTile {
                        io,
                        group: &scan.groups[index],
                        rows: &rows,
                        columns: index * WIDTH..io.channels.min((index + 1) * WIDTH),
                        fours,
                        reversed: scan.reversed,
                    };
                    let before = &self.before[index][(tiles + number) * fours..][..fours];
                    prepare(&mut work.tile, tile.group, io, &rows, &tile.columns);
                    gradient_to_output(&mut work, &tile, grad);
                    for four in 0..fours {
                        recompute_states(&mut work, &tile, &before[four], four);
                        let (carry, rate) = (&mut carry[i][four], &mut sums.rate[i][four]);
                        gradients_of_states(&mut work, &tile, &mut folded, carry, rate, four);
                    }
                    let to_skip = &mut sums.skip[i];
                    write_gradients(&mut work, &tile, grad, to_skip, outs, i * WIDTH);
                }
                let width = 2 * fours * STATES;
                let out = &mut sums.bc[rows.start * width..rows.end * width];
                across(out, &folded[..n * width]);
            }
            tiles += count;
            from += segment.len;
        }
        for (rate, group) in sums.rate.iter_mut().zip(&scan.groups[groups]) {
            let pairs = rate.iter_mut().zip(&group.decay);
            let pairs = pairs.flat_map(|(rate, decay)| {
                rate.as_flattened_mut().iter_mut().zip(decay.as_flattened())
            });
            pairs.for_each(|(rate, decay)| *rate *= decay * std::f32::consts::LN_2);
        }
        sums
    }
}

impl SelectiveScan {
    /// (I, N) of groups of states in fours.
    fn unpacked(&self, groups: &[Vec<Four>]) -> Vec<f32> {
        let channel = |c: usize| {
            let fours = &groups[c / WIDTH];
            (0..self.states).map(move |n| fours[n / STATES][n % STATES][c % WIDTH])
        };
        (0..self.channels).flat_map(channel).collect()
    }
}

/// One group's tile of rows.
struct GroupTile<'a> {
    io: &'a Inputs<'a>,
    group: &'a Group,
    rows: &'a Range<usize>,
    columns: Range<usize>,
    /// Of its states.
    fours: usize,
    reversed: bool,
}

/// What a group's tile needs, in the order of the rows; decays and states in that of scanning.
struct Work {
    tile: Tile,
    to_output: Vec<Lanes>, // to y
    to_input: Vec<Lanes>,  // to δ u
    to_step: Vec<Lanes>,   // to δ through the decay, over ln 2
    decays: Vec<Four>,     // a
    states: Vec<Four>,     // h before each row, and after the last
}

impl Work {
    fn new() -> Self {
        let zeros = [[0.0; WIDTH]; STATES];
        Self {
            tile: Tile::default(),
            to_output: vec![[0.0; WIDTH]; ROWS],
            to_input: vec![[0.0; WIDTH]; ROWS],
            to_step: vec![[0.0; WIDTH]; ROWS],
            decays: vec![zeros; ROWS],
            states: vec![zeros; ROWS + 1],
        }
    }
}

simd! {
/// The gradient to y, through the gate.
fn gradient_to_output(work: &mut Work, at: &GroupTile, grad: &[f32]) {
    let GroupTile { io, columns, .. } = at;
    for (i, row) in at.rows.clone().enumerate() {
        let mut to_output = lanes(grad, io.channels, row, columns);
        if let Some(gate) = io.gate {
            let gate = lanes(gate, io.channels, row, columns);
            for (x, gate) in to_output.iter_mut().zip(gate) {
                *x *= math::silu::<FMA>(gate);
            }
        }
        work.to_output[i] = to_output;
        work.to_input[i] = [0.0; WIDTH];
        work.to_step[i] = [0.0; WIDTH];
    }
}
}

simd! {
/// The recurrence of four states from those `before` the tile, keeping decays and states; adds to
/// the tile's outputs.
fn recompute_states(work: &mut Work, at: &GroupTile, before: &Four, four: usize) {
    let GroupTile { io, group, rows, fours, reversed, .. } = at;
    let (tile, decays) = (&mut work.tile, &mut work.decays[..]);
    let states = &mut work.states[..rows.len() + 1];
    states[0] = *before;
    let width = io.projected.len() / (io.u.len() / io.channels);
    let bc = width - 2 * fours * STATES;
    let projected = &io.projected[rows.start * width..rows.end * width];
    let decay = &group.decay[four];
    let mut state = states[0];
    let n = rows.len();
    for (k, (decays, states)) in decays.iter_mut().zip(&mut states[1..]).enumerate() {
        let i = if *reversed { n - 1 - k } else { k };
        let row = &projected[i * width + bc + four * STATES..];
        let (b, c) = (&row[..STATES], &row[fours * STATES..][..STATES]);
        let (step, input) = (&tile.step[i], &tile.input[i]);
        let mut y = tile.output[i];
        for s in 0..STATES {
            for lane in 0..WIDTH {
                let kept = math::exp2::<FMA>(step[lane] * decay[s][lane]);
                let new = mul_add::<FMA>(kept, state[s][lane], input[lane] * b[s]);
                decays[s][lane] = kept;
                state[s][lane] = new;
                states[s][lane] = new;
                y[lane] = mul_add::<FMA>(new, c[s], y[lane]);
            }
        }
        tile.output[i] = y;
    }
}
}

simd! {
/// The gradients of four states, from the row scanned last to the first. `folded` holds for each
/// row the sums for B, then those for C.
fn gradients_of_states(work: &mut Work, at: &GroupTile, folded: &mut [[f32; FOLDED]], carry: &mut Four, rate: &mut Four, four: usize) {
    let GroupTile { io, group, rows, fours, reversed, .. } = at;
    let width = io.projected.len() / (io.u.len() / io.channels);
    let padded = fours * STATES;
    let bc = width - 2 * padded;
    let projected = &io.projected[rows.start * width..rows.end * width];
    let decay = &group.decay[four];
    let (mut later, mut to_rate) = (*carry, *rate);
    let n = rows.len();
    for k in (0..n).rev() {
        let i = if *reversed { n - 1 - k } else { k };
        let row = &projected[i * width + bc + four * STATES..];
        let (b, c) = (&row[..STATES], &row[padded..][..STATES]);
        let folded = &mut folded[i * 2 * padded + four * STATES..];
        let (step, input, to_output) = (&work.tile.step[i], &work.tile.input[i], &work.to_output[i]);
        let (kept, before, after) = (&work.decays[k], &work.states[k], &work.states[k + 1]);
        let (mut to_input, mut to_step) = (work.to_input[i], work.to_step[i]);
        for s in 0..STATES {
            let (mut to_b, mut to_c) = ([0.0; WIDTH], [0.0; WIDTH]);
            for lane in 0..WIDTH {
                let g = mul_add::<FMA>(to_output[lane], c[s], later[s][lane]);
                to_c[lane] = to_output[lane] * after[s][lane];
                to_b[lane] = g * input[lane];
                to_input[lane] = mul_add::<FMA>(g, b[s], to_input[lane]);
                let passed = g * kept[s][lane];
                later[s][lane] = passed;
                let through = passed * before[s][lane];
                to_step[lane] = mul_add::<FMA>(through, decay[s][lane], to_step[lane]);
                to_rate[s][lane] = mul_add::<FMA>(through, step[lane], to_rate[s][lane]);
            }
            for lane in 0..FOLDED {
                folded[s][lane] += to_b[lane] + to_b[FOLDED + lane];
                folded[padded + s][lane] += to_c[lane] + to_c[FOLDED + lane];
            }
        }
        work.to_input[i] = to_input;
        work.to_step[i] = to_step;
    }
    (*carry, *rate) = (later, to_rate);
}
}

simd! {
/// Writes the gradients of the tile's rows, at columns `first..` of the task's.
fn write_gradients(work: &mut Work, at: &GroupTile, grad: &[f32], to_skip: &mut Lanes, outs: &mut Outs, first: usize) {
    let GroupTile { io, group, rows, columns, .. } = at;
    let [to_u, to_low, to_added, to_gate] = outs;
    let width = columns.len();
    for (i, row) in (*rows).clone().enumerate() {
        let u = lanes(io.u, io.channels, row, columns);
        let (step, to_output) = (&work.tile.step[i], &work.to_output[i]);
        let (to_input, to_step) = (&work.to_input[i], &work.to_step[i]);
        let (mut of_u, mut of_low) = ([0.0; WIDTH], [0.0; WIDTH]);
        for lane in 0..WIDTH {
            let direct = group.skip[lane] * to_output[lane];
            of_u[lane] = mul_add::<FMA>(step[lane], to_input[lane], direct);
            to_skip[lane] = mul_add::<FMA>(u[lane], to_output[lane], to_skip[lane]);
            let through = to_step[lane] * std::f32::consts::LN_2;
            let to_step = mul_add::<FMA>(to_input[lane], u[lane], through);
            of_low[lane] = to_step * softplus_slope::<FMA>(step[lane]);
        }
        to_u[row][first..first + width].copy_from_slice(&of_u[..width]);
        to_low[row][first..first + width].copy_from_slice(&of_low[..width]);
        if io.added.is_some() {
            to_added[row][first..first + width].copy_from_slice(&to_output[..width]);
        }
        if let Some(gate) = io.gate {
            let (gate, grad) = (lanes(gate, io.channels, row, columns), lanes(grad, io.channels, row, columns));
            let mut of_gate = work.tile.output[i];
            for lane in 0..WIDTH {
                of_gate[lane] *= grad[lane] * silu_slope::<FMA>(gate[lane]);
            }
            to_gate[row][first..first + width].copy_from_slice(&of_gate[..width]);
        }
    }
}
}

/// The slope of softplus where its value is `y`: 1 − exp(−y), by its series where that cancels.
#[inline(always)]
fn softplus_slope<const FMA: bool>(y: f32) -> f32 {
    let series = y * (1.0 - y * 0.5 * (1.0 - y * (1.0 / 3.0) * (1.0 - y * 0.25)));
    if y < 0.03 {
        series
    } else {
        1.0 - math::exp::<FMA>(-y)
    }
}

simd! {
/// The sum of each vector's lanes.
fn across(out: &mut [f32], lanes: &[[f32; FOLDED]]) {
    for (out, lanes) in out.iter_mut().zip(lanes) {
        let mut lanes = *lanes;
        let mut half = FOLDED / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        *out = lanes[0];
    }
}
}

#[cfg(test)]
mod tests;
