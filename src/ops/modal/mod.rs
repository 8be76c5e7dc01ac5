//! Filters that are sums of exponentials, run as recurrences: the modal form of S4D (Gu et al.
//! 2022, arXiv:2206.11893) and of StripedHyena (Massaroli et al. 2023, arXiv:2310.18780).
//!
//! Symbols: T rows of a step, C channels, N modes of a channel.
//!
//! Channels are the SIMD lanes; the recurrence runs row by row, so any split of a sequence gives
//! the same bits. A chunk form (a local convolution plus powers of the poles) would do more work
//! a row for N below some hundreds.

mod backward;
pub(super) mod cuda;
mod gpu;

use super::cuda::Carried;
use super::math::{mul_add, simd};
use super::{Device, expect_branchable, expect_shape, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::timing;
use crate::sequence::{Branch, Segment};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Channels of a group: one AVX-512 register, one cache line of a row.
const WIDTH: usize = 16;
/// Modes that are advanced together: four keep their poles, residues and states in registers.
const MODES: usize = 4;
/// Rows of a tile: its scratch stays in the L1 cache.
const ROWS: usize = 128;

/// One value for each channel of a group.
type Lanes = [f32; WIDTH];
/// One value for each channel of a group and each of four modes.
type Four = [Lanes; MODES];

/// `s_t = λ s_{t−1} + g_t`, `y_t = Re Σ_n R_n s_t + D g_t`: the convolution of g with the filter
/// `h[t] = Re Σ_n R_n λ_n^t`, and a skip.
#[derive(Clone, Debug)]
pub struct Modal {
    groups: Vec<Group>,
    channels: usize,
    /// 2 with complex poles and residues, 1 with real ones.
    parts: usize,
    /// Modes in fours, the last filled up with zeros.
    fours: usize,
    /// Poles, residues and skip as given; where there is no skip, a constant in its place.
    parameters: [Tensor; 3],
    skipped: bool,
}

/// The parameters of up to [`WIDTH`] channels, zeros for those that are not there. Fours of real
/// parts, each followed by its four of imaginary parts if there are any.
#[derive(Clone, Debug)]
struct Group {
    poles: Vec<Four>,
    residues: Vec<Four>,
    skip: Lanes,
}

/// The modes' values s of each lane's unfinished sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModalState {
    values: Vec<Four>, // (groups, lanes, fours, parts)
    /// On a GPU these instead.
    on_gpu: Carried<cuda::ModalState>,
}

impl Modal {
    /// Complex `poles` λ and `residues` R, both (C, N, 2) as real and imaginary part, and the
    /// skip D (C), if there is one.
    ///
    /// Only the poles given count: where conjugate ones are implied, double the residues.
    pub fn complex(poles: &Tensor, residues: &Tensor, skip: Option<&Tensor>) -> Result<Self> {
        let (channels, modes, _) = poles.dims3()?;
        expect_shape("poles", poles, &[channels, modes, 2])?;
        Self::new(poles, residues, skip, 2)
    }

    /// Real `poles` λ and `residues` R, both (C, N), and the skip D (C), if there is one.
    pub fn real(poles: &Tensor, residues: &Tensor, skip: Option<&Tensor>) -> Result<Self> {
        poles.dims2()?;
        Self::new(poles, residues, skip, 1)
    }

    fn new(poles: &Tensor, residues: &Tensor, skip: Option<&Tensor>, parts: usize) -> Result<Self> {
        let (channels, modes) = (poles.dim(0)?, poles.dim(1)?);
        expect_shape("residues", residues, poles.dims())?;
        if let Some(skip) = skip {
            expect_shape("skip", skip, &[channels])?;
        }
        let fours = modes.div_ceil(MODES).max(1);
        let groups = with_slices(
            [poles, residues, skip.unwrap_or(poles)],
            |[poles, residues, skip_values]| {
                let group = |first: usize| {
                    let width = WIDTH.min(channels - first);
                    let arranged = |values: &[f32]| {
                        let mut arranged = vec![[[0.0; WIDTH]; MODES]; fours * parts];
                        for c in 0..width {
                            let channel = &values[(first + c) * modes * parts..][..modes * parts];
                            for (i, &value) in channel.iter().enumerate() {
                                let (mode, part) = (i / parts, i % parts);
                                arranged[mode / MODES * parts + part][mode % MODES][c] = value;
                            }
                        }
                        arranged
                    };
                    let mut lanes = [0.0; WIDTH];
                    if skip.is_some() {
                        lanes[..width].copy_from_slice(&skip_values[first..first + width]);
                    }
                    Group {
                        poles: arranged(poles),
                        residues: arranged(residues),
                        skip: lanes,
                    }
                };
                Ok((0..channels).step_by(WIDTH).map(group).collect())
            },
        )?;
        let none = poles.detach(); // in the place of what is not differentiated
        Ok(Self {
            groups,
            channels,
            parts,
            fours,
            parameters: [poles, residues, skip.unwrap_or(&none)].map(Tensor::clone),
            skipped: skip.is_some(),
        })
    }

    /// Zeros for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> ModalState {
        let fours = self.groups.len() * lanes.max(1) * self.fours * self.parts;
        ModalState {
            values: vec![[[0.0; WIDTH]; MODES]; fours],
            on_gpu: Carried::default(),
        }
    }

    /// Lanes that go on from lanes of other states.
    ///
    /// # Errors
    /// Internal: one of them lies on a GPU.
    pub fn fork(&self, from: &[(&ModalState, usize)]) -> Result<ModalState> {
        let len = self.fours * self.parts;
        let lanes = (0..self.groups.len()).flat_map(|group| {
            from.iter().flat_map(move |(state, lane)| {
                let kept = state.values.len() / self.groups.len();
                &state.values[group * kept + lane * len..][..len]
            })
        });
        Ok(ModalState {
            values: lanes.copied().collect(),
            on_gpu: Carried::forked(from.iter().map(|(state, _)| &state.on_gpu))?,
        })
    }

    /// Bytes of [`ModalState`] for one sequence, with N modes a channel.
    pub fn state_bytes(channels: usize, modes: usize, complex: bool) -> usize {
        let values = channels.next_multiple_of(WIDTH) * modes.next_multiple_of(MODES);
        values * size_of::<f32>() * if complex { 2 } else { 1 }
    }

    /// (T, C) to (T, C).
    pub fn forward(
        &self,
        g: &Tensor,
        state: &mut ModalState,
        segments: &[Segment],
    ) -> Result<Tensor> {
        self.forward_branched(g, state, segments, &[])
    }

    /// The same of a step with branches off sequences that do not end in it, which is for GPUs.
    ///
    /// # Errors
    /// Internal: there are branches on the CPU, or where gradients pass.
    pub fn forward_branched(
        &self,
        g: &Tensor,
        state: &mut ModalState,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        let _span = timing::span("modal filter");
        let rows = g.dim(0)?;
        expect_shape("modal filter", g, &[rows, self.channels])?;
        let keep = g.is_tracked() || self.is_tracked();
        expect_branchable(g, keep, branches)?;
        if let Device::Cuda(gpu) = g.device() {
            return self.on_gpu(gpu, g, state, segments, branches);
        }
        let (out, before) = with_slices([g], |[g]| {
            let mut out = unwritten(g.len());
            let kept = state.values.len() / self.groups.len();
            let groups = self.columns(&mut out).into_par_iter();
            let before = groups
                .zip(state.values.par_chunks_mut(kept))
                .enumerate()
                .map(|(i, (mut out, state))| self.group(i, g, &mut out, state, segments, keep))
                .collect();
            Ok((out, before))
        })?;
        let out = Tensor::from_vec(out, g.dims(), g.device())?;
        if !keep {
            return Ok(out);
        }
        let [poles, residues, skip] = &self.parameters;
        let step = backward::Step {
            modal: self.clone(),
            g: g.detach(),
            segments: segments.to_vec(),
            before,
        };
        let parents = [g, poles, residues, skip];
        Ok(out.derived(parents, move |grad| step.backward(grad)))
    }

    /// Whether gradients pass to any parameter.
    fn is_tracked(&self) -> bool {
        self.parameters.iter().any(Tensor::is_tracked)
    }

    /// The columns of each group, row by row, of `rows` (T, C).
    fn columns<'a>(&self, rows: &'a mut [f32]) -> Vec<Vec<&'a mut [f32]>> {
        let mut columns: Vec<Vec<&mut [f32]>> = Vec::new();
        let count = rows.len() / self.channels;
        columns.resize_with(self.groups.len(), || Vec::with_capacity(count));
        for row in rows.chunks_exact_mut(self.channels) {
            for (column, part) in columns.iter_mut().zip(row.chunks_mut(WIDTH)) {
                column.push(part);
            }
        }
        columns
    }

    /// All segments of one group of channels, one after the other. With `keep`, gives the states
    /// before each tile: (tiles, fours, parts).
    fn group(
        &self,
        index: usize,
        g: &[f32],
        out: &mut [&mut [f32]],
        state: &mut [Four],
        segments: &[Segment],
        keep: bool,
    ) -> Vec<Four> {
        let mut before = Vec::new();
        let group = &self.groups[index];
        let len = self.fours * self.parts;
        let mut tile = Tile::default();
        let mut from = 0;
        for segment in segments {
            let kept = segment.lane * len..(segment.lane + 1) * len;
            let mut s = if segment.starts {
                vec![[[0.0; WIDTH]; MODES]; len]
            } else {
                state[kept.clone()].to_vec()
            };
            for rows in out[from..from + segment.len].chunks_mut(ROWS) {
                let g = &g[from * self.channels..][..rows.len() * self.channels];
                tile.load(g, self.channels, index * WIDTH);
                let tile_rows = rows.len();
                if keep {
                    before.extend_from_slice(&s);
                }
                match self.parts {
                    2 => complex(&mut tile, group, &mut s, tile_rows),
                    _ => real(&mut tile, group, &mut s, tile_rows),
                }
                for (out, y) in rows.iter_mut().zip(&tile.output) {
                    out.copy_from_slice(&y[..out.len()]);
                }
                from += tile_rows;
            }
            if !segment.ends {
                state[kept].copy_from_slice(&s);
            }
        }
        before
    }
}

/// The rows of one group between the passes.
struct Tile {
    input: [Lanes; ROWS],  // g
    output: [Lanes; ROWS], // y
}

impl Default for Tile {
    fn default() -> Self {
        Self {
            input: [[0.0; WIDTH]; ROWS],
            output: [[0.0; WIDTH]; ROWS],
        }
    }
}

impl Tile {
    /// The group's columns, from `first` on, of the rows of `g` (rows, channels).
    fn load(&mut self, g: &[f32], channels: usize, first: usize) {
        let width = WIDTH.min(channels - first);
        for (lanes, row) in self.input.iter_mut().zip(g.chunks_exact(channels)) {
            lanes[..width].copy_from_slice(&row[first..first + width]);
        }
    }
}

simd! {
/// Rows `0..rows` of a tile, complex modes.
fn complex(tile: &mut Tile, group: &Group, state: &mut [Four], rows: usize) {
    skip::<FMA>(tile, group, rows);
    let modes = group.poles.chunks_exact(2).zip(group.residues.chunks_exact(2));
    for (s, (poles, residues)) in state.chunks_exact_mut(2).zip(modes) {
        let (mut re, mut im) = (s[0], s[1]);
        for (g, y) in tile.input[..rows].iter().zip(&mut tile.output[..rows]) {
            let mut sum = *y;
            for m in 0..MODES {
                for c in 0..WIDTH {
                    let (a, b) = (re[m][c], im[m][c]);
                    let (p, q) = (poles[0][m][c], poles[1][m][c]);
                    let new = mul_add::<FMA>(p, a, mul_add::<FMA>(-q, b, g[c]));
                    let imaginary = mul_add::<FMA>(p, b, q * a);
                    sum[c] = mul_add::<FMA>(residues[0][m][c], new, sum[c]);
                    sum[c] = mul_add::<FMA>(-residues[1][m][c], imaginary, sum[c]);
                    (re[m][c], im[m][c]) = (new, imaginary);
                }
            }
            *y = sum;
        }
        (s[0], s[1]) = (re, im);
    }
}
}

simd! {
/// Rows `0..rows` of a tile, real modes.
fn real(tile: &mut Tile, group: &Group, state: &mut [Four], rows: usize) {
    skip::<FMA>(tile, group, rows);
    for (s, (poles, residues)) in state.iter_mut().zip(group.poles.iter().zip(&group.residues)) {
        let mut re = *s;
        for (g, y) in tile.input[..rows].iter().zip(&mut tile.output[..rows]) {
            let mut sum = *y;
            for m in 0..MODES {
                for c in 0..WIDTH {
                    re[m][c] = mul_add::<FMA>(poles[m][c], re[m][c], g[c]);
                    sum[c] = mul_add::<FMA>(residues[m][c], re[m][c], sum[c]);
                }
            }
            *y = sum;
        }
        *s = re;
    }
}
}

/// `y = D g`
#[inline(always)]
fn skip<const FMA: bool>(tile: &mut Tile, group: &Group, rows: usize) {
    for (g, y) in tile.input[..rows].iter().zip(&mut tile.output[..rows]) {
        for c in 0..WIDTH {
            y[c] = group.skip[c] * g[c];
        }
    }
}

#[cfg(test)]
mod tests;
