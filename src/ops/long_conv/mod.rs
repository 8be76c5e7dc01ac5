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
mod columns;
pub(super) mod cuda;
mod fork;
mod gpu;
mod push;
mod spectrum;
mod tiles;

use super::cuda::{Carried, Gpu, OnGpu};
use super::short_conv::{ShortConv, Tail};
use super::{Device, expect_branchable, expect_shape, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use crate::ops::timing;
use crate::sequence::{Branch, Segment};
pub use backward::TapsTensor;
use columns::Columns;
pub use cuda::{FilterNetwork, FilterTaps};
use num_complex::Complex32;
use push::add;
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

/// Operations a base and channel where a sequence of so many bases is convolved at once: a transform
/// there and one back, of twice the power of two that holds it, by `5 N log2 N` and for two channels
/// each.
pub fn long_conv_flops(bases: u64) -> f64 {
    let n = 2.0 * bases.max(1).next_power_of_two() as f64;
    5.0 * n * n.log2() / bases.max(1) as f64
}

/// The past of each lane's unfinished sequence: `lanes · ring · channels` values from its first step
/// on, however short it is.
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
        let _span = timing::span("long convolution");
        let (rows, _) = x.dims2()?;
        expect_shape("long convolution", x, &[rows, 3 * self.channels])?;
        let tracked = self.is_tracked(x);
        expect_branchable(x, tracked, branches)?;
        if let Device::Cuda(gpu) = x.device() {
            return self.on_gpu(gpu, x, tracked, past, segments, branches);
        }
        if tracked {
            return backward::forward(self, x, past, segments);
        }
        self.values(x, true, past, segments)
    }

    /// The same of what a short convolution gives of `u` (T, 3C). A GPU on which products round
    /// convolves `u` as it reads it, in f32: what the short one gives is not stored.
    ///
    /// # Errors
    /// As of both.
    pub fn forward_convolved(
        &self,
        u: &Tensor,
        (short, tail): (&ShortConv, &mut Tail),
        past: &mut Past,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        let tracked = self.is_tracked(u) || short.is_tracked();
        if let Device::Cuda(gpu) = u.device()
            && gpu.rounded()
            && branches.is_empty()
            && !tracked
            && let Some(out) = self.within_on_gpu(gpu, u, (short, &mut *tail), past, segments)?
        {
            return Ok(out);
        }
        let x = short.forward_branched(u, tail, segments, branches)?;
        self.forward_branched(&x, past, segments, branches)
    }

    fn is_tracked(&self, x: &Tensor) -> bool {
        x.is_tracked() || self.tracked.is_some() || self.bias_tensor.is_tracked()
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

    /// The spectrum for a piece of `width` inputs, which need not be kept: it is in any case.
    fn diagonal(&self, width: usize) -> Option<Arc<Spectrum>> {
        (width > DIRECT).then(|| self.spectra.always(width, 2 * width))
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

#[cfg(test)]
mod tests;
