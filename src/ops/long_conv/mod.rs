//! The gated long convolution of Hyena, streamed exactly: Poli et al. 2023, arXiv:2302.10866.
//!
//! For one channel, `y[t] = x0[t] · (b · v[t] + Σ_{s < L} k[s] · v[t − s])` with `v = x1 · x2`: the
//! filter k is as long as the training context L, so every output looks back over L inputs, and
//! there is no finite state. What is carried from call to call is the past itself, and the sums
//! that it already owes to the future. Both live in one ring of S ≥ L − 1 slots a channel: before
//! position t a slot holds `v[t]`, after it the part of the sum for `y[t]` that inputs before t
//! have contributed so far. Position t's slot changes its meaning exactly when t is read.
//!
//! Work is tiled by powers of two (relaxed multiplication, van der Hoeven 2002; for long
//! convolutions Oncescu et al. 2024, arXiv:2410.12982). When position e is reached and W is the
//! largest power of two that divides e, the last W inputs are convolved with k[0, 2W) and added
//! to the next W sums: one FFT of size 2W. At the ring's end, W = S and the next turn's sums
//! replace the past: inputs further back meet only zeros of the filter. Within a piece of W
//! inputs that arrive at once, one FFT of size 2W with k[0, W) does. That is O(log² L) a base,
//! exact at any split of the input, and the state is S values a channel, no spectra.
//!
//! Two channels are the real and imaginary part of one complex signal z. With real filters a
//! and b, the product spectrum is `A[k] · (Z[k] + conj Z[N − k]) / 2 + B[k] · (Z[k] − conj Z[N − k]) / 2`:
//! one complex FFT serves two channels.

mod backward;
pub(super) mod cuda;
mod fork;
mod gpu;
mod spectrum;

use super::cuda::{Carried, Gpu, OnGpu};
use super::{Device, expect_branchable, expect_shape, math::simd, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use crate::sequence::{Branch, Segment};
pub use backward::TapsTensor;
pub use cuda::{FilterNetwork, FilterTaps};
use num_complex::Complex32;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use spectrum::{Convolver, Spectra, Spectrum};
use std::ops::Range;
use std::sync::Arc;

/// Evaluates for all channels what their first n taps have in common.
pub type Taps = dyn Fn(usize) -> Box<TapRows> + Send + Sync;
/// Those n taps of the filters of a range of channels: (channels, n), zeros beyond the filter.
pub type TapRows = dyn Fn(Range<usize>) -> Vec<f32>;

/// How the filters' taps are computed on a GPU.
pub type GpuTaps = dyn Fn(&Arc<Gpu>) -> Result<FilterTaps> + Send + Sync;

/// Channels of one task: 16 values are one cache line of a row.
const GROUP: usize = 16;
/// Complex signals of one task.
const PAIRS: usize = GROUP / 2;
/// Up to this many inputs a plain loop beats the FFT.
const DIRECT: usize = 32;
/// The longest piece that one diagonal FFT takes.
const DIAGONAL: usize = 1 << 15;
/// Up to this many inputs an FFT is faster than several of blocks.
const UNIT: usize = 1 << 15;
/// Blocks of a push that is larger.
const BLOCKS: usize = 8;

/// The filters of one layer, and those spectra of them that fit the budget.
pub struct LongConv {
    channels: usize,
    ring: usize,
    bias: Vec<f32>,
    spectra: Spectra,
    length: usize,
    taps: Arc<Taps>,
    gpu_taps: Arc<GpuTaps>,
    on_gpu: OnGpu<cuda::LongConv>,
    bias_tensor: Tensor,
    /// The taps as a function of parameters.
    tracked: Option<Arc<TapsTensor>>,
}

/// The past of each lane's unfinished sequence: `lanes · ring · channels` values at most, memory
/// touched only as far as a sequence has come.
#[derive(Clone, Serialize, Deserialize)]
pub struct Past {
    lanes: Vec<Lane>,
    /// On a GPU these instead.
    on_gpu: Carried<cuda::Past>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Lane {
    /// Next position, in `0..ring`.
    position: usize,
    /// Slots that are not zero lie below this.
    touched: usize,
    /// One ring a channel pair; empty until the lane is first used. Of a fork, whose past has paid
    /// all that it owes, as many slots as it may run tokens.
    slots: Vec<Vec<Complex32>>,
}

impl Lane {
    fn ring(&self) -> usize {
        self.slots.first().map_or(0, Vec::len)
    }
}

/// Rows that are one diagonal convolution, and the sums that the past owes them, if there is one.
struct Short<'a> {
    rows: Range<usize>,
    diagonal: Option<Arc<Spectrum>>,
    owed: Option<&'a [Vec<Complex32>]>,
}

/// Inputs that one diagonal convolution takes, and the push that follows it.
struct Tile {
    position: usize,
    width: usize,
    /// k[0, width) in an FFT of twice the width; none for a width that is done directly.
    diagonal: Option<Arc<Spectrum>>,
    push: Option<Push>,
    /// The push's spectrum; none for one that is done directly, or that is not kept.
    pushed: Option<Arc<Spectrum>>,
}

/// The last `width` inputs before `from`, convolved into the next `count` sums.
#[derive(Clone, Copy)]
struct Push {
    from: usize,
    width: usize,
    count: usize,
}

impl LongConv {
    /// Filters of `length` taps, the skip weights `bias` (C), and room in bytes for spectra that
    /// are kept rather than computed at each use.
    pub fn new(length: usize, bias: &Tensor, taps: Arc<Taps>, budget: usize) -> Result<Self> {
        let bias_tensor = bias.clone();
        let bias: Vec<f32> = bias.to_vec1()?;
        let host = Arc::clone(&taps);
        Ok(Self {
            length,
            gpu_taps: Arc::new(move |_| Ok(FilterTaps::Host(Arc::clone(&host)))),
            on_gpu: OnGpu::default(),
            channels: bias.len(),
            ring: ring(length),
            spectra: Spectra::new(length, bias.len(), Arc::clone(&taps), budget),
            taps,
            bias,
            bias_tensor,
            tracked: None,
        })
    }

    /// The same convolution, whose filters are differentiated: by `taps`, at no more positions
    /// than a sequence has come.
    #[must_use]
    pub fn differentiable(mut self, taps: Arc<TapsTensor>) -> Self {
        self.tracked = Some(taps);
        self
    }

    /// The same convolution, whose taps a GPU computes itself.
    #[must_use]
    pub fn with_gpu_taps(mut self, taps: Arc<GpuTaps>) -> Self {
        self.gpu_taps = taps;
        self
    }

    /// An empty past for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Past {
        Past {
            lanes: vec![Lane::default(); lanes],
            on_gpu: Carried::default(),
        }
    }

    /// Bytes of one lane's past when a sequence is at least as long as the filter.
    pub fn past_bytes(length: usize, channels: usize) -> usize {
        ring(length) * channels.next_multiple_of(2) * size_of::<f32>()
    }

    /// (T, 3C), the columns x0, x1 and x2, to the gated convolution (T, C).
    pub fn forward(&self, x: &Tensor, past: &mut Past, segments: &[Segment]) -> Result<Tensor> {
        self.forward_branched(x, past, segments, &[])
    }

    /// The same of a step with branches, which is for GPUs.
    ///
    /// # Errors
    /// Internal: there are branches on the CPU, or where gradients pass.
    pub fn forward_branched(
        &self,
        x: &Tensor,
        past: &mut Past,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        let (rows, _) = x.dims2()?;
        expect_shape("long convolution", x, &[rows, 3 * self.channels])?;
        let tracked = x.is_tracked() || self.tracked.is_some() || self.bias_tensor.is_tracked();
        expect_branchable(x, tracked, branches)?;
        if let Device::Cuda(gpu) = x.device() {
            return self.on_gpu(gpu, x, tracked, past, segments, branches);
        }
        if tracked {
            return backward::forward(self, x, past, segments);
        }
        self.values(x, true, past, segments)
    }

    /// The numbers alone; not `gated`, before they are multiplied with x0.
    fn values(
        &self,
        x: &Tensor,
        gated: bool,
        past: &mut Past,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let (rows, _) = x.dims2()?;
        let out = with_slices([x], |[x]| {
            let mut out = unwritten(rows * self.channels);
            let io = Columns {
                x,
                gated,
                out: out.as_mut_ptr(),
                channels: self.channels,
                bias: &self.bias,
            };
            let mut short = Vec::new();
            let mut from = 0;
            for segment in segments {
                let rows = from..from + segment.len;
                from = rows.end;
                if self.is_short(segment, past)? {
                    short.push((rows, segment));
                    continue;
                }
                let mut own = Lane::default();
                let lane = if segment.starts && segment.ends {
                    &mut own
                } else {
                    past.lanes.get_mut(segment.lane).ok_or_else(|| {
                        Error::new(Kind::Internal, format!("no lane {}", segment.lane))
                    })?
                };
                if segment.starts {
                    self.reset(lane);
                }
                self.stream(&io, rows, lane, segment.ends);
            }
            let short = short.into_iter().map(|(rows, segment)| {
                let owed = past.lanes.get(segment.lane).filter(|_| !segment.starts);
                Ok(Short {
                    rows,
                    diagonal: self.diagonal(segment.len.next_power_of_two()),
                    owed: owed.map(|lane| lane.slots.as_slice()),
                })
            });
            self.whole(&io, &short.collect::<Result<Vec<_>>>()?);
            Ok(out)
        })?;
        Tensor::from_vec(out, (rows, self.channels), x.device())
    }

    /// Whether one diagonal convolution does: nothing is kept, and what is owed is known.
    fn is_short(&self, segment: &Segment, past: &Past) -> Result<bool> {
        if segment.starts {
            return Ok(segment.ends && segment.len <= DIAGONAL);
        }
        let Some(lane) = past.lanes.get(segment.lane).filter(|l| self.is_fork(l)) else {
            return Ok(false);
        };
        if lane.position + segment.len > lane.ring() {
            let what = "a fork was run for more tokens than it has room for";
            return Err(Error::new(Kind::Internal, what));
        }
        Ok(segment.ends && lane.position == 0 && segment.len <= DIAGONAL)
    }

    fn reset(&self, lane: &mut Lane) {
        if lane.ring() != self.ring {
            lane.touched = 0;
            lane.slots = (0..self.channels.div_ceil(2))
                .into_par_iter()
                .map(|_| vec![Complex32::default(); self.ring])
                .collect();
        }
        let touched = lane.touched;
        lane.slots
            .par_iter_mut()
            .for_each(|slots| slots[..touched].fill(Complex32::default()));
        (lane.position, lane.touched) = (0, 0);
    }

    /// Sequences that end within this step, and start or fork in it: one diagonal convolution,
    /// nothing kept.
    fn whole(&self, io: &Columns, sequences: &[Short]) {
        (0..self.channels.div_ceil(GROUP))
            .into_par_iter()
            .for_each(|group| {
                for Short {
                    rows,
                    diagonal,
                    owed,
                } in sequences
                {
                    let v = io.load(group, rows);
                    let mut y = vec![Complex32::default(); v.len()];
                    let pairs = v.chunks(rows.len()).zip(y.chunks_mut(rows.len()));
                    Convolver::with(|convolver| {
                        for (pair, (v, y)) in (group * PAIRS..self.channels.div_ceil(2)).zip(pairs)
                        {
                            if let Some(owed) = owed.and_then(|owed| owed.get(pair)) {
                                y.copy_from_slice(&owed[..y.len()]);
                            }
                            self.add_diagonal(convolver, diagonal.as_deref(), pair, v, y);
                        }
                    });
                    io.store(group, rows, &v, &y);
                }
            });
    }

    /// One segment of a sequence whose past is kept.
    fn stream(&self, io: &Columns, rows: Range<usize>, lane: &mut Lane, ends: bool) {
        let mut from = rows.start;
        let ring = lane.ring();
        while from < rows.end {
            let (span, tiles) = self.plan(from..rows.end, lane.position, ring, ends);
            lane.slots
                .par_chunks_mut(PAIRS)
                .enumerate()
                .for_each(|(group, slots)| {
                    let v = io.load(group, &span);
                    let mut y = unwritten(v.len());
                    let pairs = v
                        .chunks(span.len())
                        .zip(y.chunks_mut(span.len()))
                        .zip(slots);
                    Convolver::with(|convolver| {
                        for (pair, ((v, y), slots)) in (group * PAIRS..).zip(pairs) {
                            self.run(convolver, &tiles, pair, v, y, slots);
                        }
                    });
                    io.store(group, &span, &v, &y);
                });
            for tile in &tiles {
                let reached = tile.push.map_or(0, |push| (push.from % ring) + push.count);
                lane.touched = lane.touched.max(tile.position + tile.width).max(reached);
                lane.position = self.after(tile.position + tile.width, ring);
            }
            // A push whose spectrum is not kept ends its span, and runs over all channels here.
            if let Some(push) = tiles
                .last()
                .and_then(|tile| tile.push.filter(|_| tile.pushed.is_none()))
                && push.width > DIRECT
            {
                self.spectra.push(&mut lane.slots, push, push.unit());
            }
            from = span.end;
        }
    }

    /// Tiles from a ring position on: as far as `rows` reach, or to the first push whose spectrum
    /// is not kept.
    fn plan(
        &self,
        rows: Range<usize>,
        position: usize,
        ring: usize,
        ends: bool,
    ) -> (Range<usize>, Vec<Tile>) {
        let (mut to, mut position) = (rows.start, position);
        let mut tiles = Vec::new();
        while to < rows.end {
            let rest = rows.end - to;
            let width = if ends && is_one_diagonal(position, rest, ring) {
                rest
            } else {
                width(position, rest.min(ring - position))
            };
            to += width;
            let push = if !ends || to < rows.end {
                self.push(position + width, ring)
            } else {
                None
            };
            let pushed = push
                .filter(|push| push.width > DIRECT)
                .and_then(|push| self.pushed(push, ring));
            let computed = push.is_some_and(|push| push.width > DIRECT) && pushed.is_none();
            tiles.push(Tile {
                position,
                width,
                diagonal: self.diagonal(width.next_power_of_two()),
                push,
                pushed,
            });
            position = self.after(position + width, ring);
            if computed {
                break;
            }
        }
        (rows.start..to, tiles)
    }

    /// The next position when `reached` is: a ring turns, a fork's slots come to their end.
    fn after(&self, reached: usize, ring: usize) -> usize {
        if ring == self.ring {
            reached % ring
        } else {
            reached
        }
    }

    /// What position `reached` owes to the sums after it; nothing at the end of a fork.
    fn push(&self, reached: usize, ring: usize) -> Option<Push> {
        let width = if reached == self.ring {
            reached
        } else {
            1 << reached.trailing_zeros()
        };
        let count = if reached < ring {
            width.min(ring - reached)
        } else if ring == self.ring {
            ring
        } else {
            return None;
        };
        Some(Push {
            from: reached,
            width,
            count,
        })
    }

    /// The spectrum of a push, if it is kept.
    fn pushed(&self, push: Push, ring: usize) -> Option<Arc<Spectrum>> {
        let (taps, size) = (2 * push.width, 2 * push.width);
        // Not worth keeping are large ones of which few sums are needed.
        if push.width == push.count || push.width <= UNIT {
            self.spectra.kept(taps, size)
        } else if ring == self.ring {
            None
        } else {
            // Those of forks are as few as forks are short.
            Some(self.spectra.always(taps, size))
        }
    }

    /// The spectrum for a piece of `width` inputs, which need not be kept: it is in any case.
    fn diagonal(&self, width: usize) -> Option<Arc<Spectrum>> {
        (width > DIRECT).then(|| self.spectra.always(width, 2 * width))
    }

    /// One channel pair through the tiles of a span.
    fn run(
        &self,
        convolver: &mut Convolver,
        tiles: &[Tile],
        pair: usize,
        v: &[Complex32],
        y: &mut [Complex32],
        slots: &mut [Complex32],
    ) {
        let mut from = 0;
        for tile in tiles {
            let v = &v[from..from + tile.width];
            let y = &mut y[from..from + tile.width];
            from += tile.width;
            let here = &mut slots[tile.position..tile.position + tile.width];
            y.copy_from_slice(here);
            here.copy_from_slice(v);
            self.add_diagonal(convolver, tile.diagonal.as_deref(), pair, v, y);
            match (tile.push, &tile.pushed) {
                (Some(push), Some(spectrum)) => {
                    // Of the same inputs, the diagonal has left the transform.
                    if push.width != tile.width {
                        convolver.transform(spectrum, &slots[push.from - push.width..push.from]);
                    }
                    let sums = convolver.convolve(spectrum, pair);
                    push.store(slots, 0, &sums[push.width..]);
                }
                (Some(push), None) if push.width <= DIRECT => self.push_direct(pair, slots, push),
                _ => {}
            }
        }
    }

    /// `y[t] += Σ_{s ≤ t} k[s] v[t − s]`
    fn add_diagonal(
        &self,
        convolver: &mut Convolver,
        spectrum: Option<&Spectrum>,
        pair: usize,
        v: &[Complex32],
        y: &mut [Complex32],
    ) {
        if let Some(spectrum) = spectrum {
            convolver.transform(spectrum, v);
            add(y, convolver.convolve(spectrum, pair));
            return;
        }
        let taps = self.spectra.head(pair);
        for (s, k) in taps.iter().enumerate().take(v.len()) {
            for (y, v) in y[s..].iter_mut().zip(v) {
                y.re += k.re * v.re;
                y.im += k.im * v.im;
            }
        }
    }

    fn push_direct(&self, pair: usize, slots: &mut [Complex32], push: Push) {
        let (past, future) = slots.split_at_mut(push.from);
        let taps = self.spectra.head(pair);
        for (j, v) in past.iter().rev().take(push.width).enumerate() {
            for (y, k) in future.iter_mut().take(push.count).zip(&taps[j + 1..]) {
                y.re += k.re * v.re;
                y.im += k.im * v.im;
            }
        }
    }
}

impl Push {
    /// Sums that the push adds from `first` on: to the slots that follow, or, at the ring's end,
    /// in the place of the past.
    fn store(self, slots: &mut [Complex32], first: usize, sums: &[Complex32]) {
        if self.from == slots.len() {
            slots[first..first + sums.len()].copy_from_slice(sums);
        } else {
            add(&mut slots[self.from + first..], sums);
        }
    }

    /// The blocks in which it is done if its spectrum is not kept.
    fn unit(self) -> usize {
        let divides = 1 << (self.width | self.count).trailing_zeros();
        divides.min((self.width / BLOCKS).next_power_of_two().max(UNIT))
    }
}

simd! {
/// `sums += more`, as far as both reach.
fn add(sums: &mut [Complex32], more: &[Complex32]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}
}

/// Whether the last inputs of a sequence need no tiles: nothing comes after them, so one transform
/// padded with zeros does, instead of one of each power of two that they are a sum of.
fn is_one_diagonal(position: usize, rest: usize, ring: usize) -> bool {
    let padded = rest.next_power_of_two();
    padded <= DIAGONAL && position.is_multiple_of(padded) && position + rest <= ring
}

/// The largest power of two that divides `position` and is at most `room`.
fn width(position: usize, room: usize) -> usize {
    let aligned = match position {
        0 => DIAGONAL,
        _ => DIAGONAL.min(1 << position.trailing_zeros()),
    };
    let fits = 1 << (usize::BITS - 1 - room.leading_zeros());
    aligned.min(fits)
}

/// The ring's length: at least `length − 1`, four to seven times a power of two, so that FFTs of
/// twice the length are fast.
fn ring(length: usize) -> usize {
    let needed = length.saturating_sub(1).max(2 * DIRECT);
    let unit = (needed.div_ceil(7)).next_power_of_two();
    // Seven units may be up to half too long: fewer, shorter ones fit closer.
    [(4, 2 * unit), (5, unit), (6, unit), (7, unit), (4, unit)]
        .into_iter()
        .map(|(times, unit)| times * unit)
        .filter(|&ring| ring >= needed)
        .min()
        .unwrap_or(8 * unit)
}

/// The rows of a step, read and written in groups of 16 columns as channel pairs.
struct Columns<'a> {
    x: &'a [f32],
    gated: bool,
    out: *mut f32,
    channels: usize,
    bias: &'a [f32],
}

// SAFETY: `out` is written through `store` only, each group by one task, and groups are disjoint
// columns.
unsafe impl Sync for Columns<'_> {}

impl Columns<'_> {
    /// `v = x1 · x2` of a group's channels: (pairs, rows).
    fn load(&self, group: usize, rows: &Range<usize>) -> Vec<Complex32> {
        let mut v = unwritten(self.columns(group).len().div_ceil(2) * rows.len());
        let x = &self.x[rows.start * 3 * self.channels..rows.end * 3 * self.channels];
        load(
            &mut v,
            x,
            self.channels,
            self.columns(group).start,
            self.columns(group).len(),
        );
        v
    }

    /// `out = x0 · (y + bias · v)`, without x0 where it is not gated.
    fn store(&self, group: usize, rows: &Range<usize>, v: &[Complex32], y: &[Complex32]) {
        let columns = self.columns(group);
        let x = &self.x[rows.start * 3 * self.channels..rows.end * 3 * self.channels];
        // SAFETY: the rows lie inside `out`, and no other task has these columns.
        let out = unsafe { self.out.add(rows.start * self.channels + columns.start) };
        store(
            out,
            x,
            self.gated,
            v,
            y,
            self.bias,
            self.channels,
            columns.start,
            columns.len(),
        );
    }

    fn columns(&self, group: usize) -> Range<usize> {
        group * GROUP..self.channels.min((group + 1) * GROUP)
    }
}

/// Rows that are turned at a time: their tile stays in registers and the L1 cache.
const TURN: usize = 16;

simd! {
fn load(v: &mut [Complex32], x: &[f32], channels: usize, first: usize, width: usize) {
    let rows = x.len() / (3 * channels);
    let mut tile = [[0f32; GROUP]; TURN];
    for top in (0..rows).step_by(TURN) {
        let height = TURN.min(rows - top);
        for (i, tile) in tile.iter_mut().enumerate().take(height) {
            let row = &x[(top + i) * 3 * channels..][..3 * channels];
            let x1 = &row[channels + first..][..width];
            let x2 = &row[2 * channels + first..][..width];
            for ((tile, x1), x2) in tile.iter_mut().zip(x1).zip(x2) {
                *tile = x1 * x2;
            }
        }
        for pair in 0..width.div_ceil(2) {
            let v = &mut v[pair * rows + top..][..height];
            for (v, tile) in v.iter_mut().zip(&tile) {
                *v = Complex32::new(tile[2 * pair], tile[2 * pair + 1]);
            }
        }
    }
}
}

simd! {
/// Writes the columns `first..first + width` of rows of `channels` values; `out` points to the
/// first of them.
fn store(out: *mut f32, x: &[f32], gated: bool, v: &[Complex32], y: &[Complex32], bias: &[f32], channels: usize, first: usize, width: usize) {
    let rows = x.len() / (3 * channels);
    let bias = &bias[first..][..width];
    let mut tile = [[0f32; GROUP]; TURN];
    for top in (0..rows).step_by(TURN) {
        let height = TURN.min(rows - top);
        for pair in 0..width.div_ceil(2) {
            let (even, odd) = (bias[2 * pair], bias.get(2 * pair + 1).copied().unwrap_or_default());
            let v = &v[pair * rows + top..][..height];
            let y = &y[pair * rows + top..][..height];
            for ((tile, v), y) in tile.iter_mut().zip(v).zip(y) {
                tile[2 * pair] = y.re + even * v.re;
                tile[2 * pair + 1] = y.im + odd * v.im;
            }
        }
        for (i, tile) in tile.iter().enumerate().take(height) {
            let x0 = &x[(top + i) * 3 * channels + first..][..width];
            // SAFETY: the caller has these columns of these rows to itself.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add((top + i) * channels), width) };
            if gated { out.iter_mut().zip(x0).zip(tile).for_each(|((out, x0), tile)| *out = x0 * tile) } else { out.copy_from_slice(&tile[..width]) }
        }
    }
}
}

#[cfg(test)]
mod tests;
