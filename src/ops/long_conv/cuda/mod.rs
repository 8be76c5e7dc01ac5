//! The gated long convolution of Hyena by FFT over whole pieces of a step.
//!
//! For one channel, `y[t] = x0[t] · (b · v[t] + Σ_{s < L} k[s] · v[t − s])` with `v = x1 · x2`. A
//! lane keeps the last L − 1 values of v. A piece of n new inputs is one FFT of the past and the
//! new ones, times the filter's spectrum of the same size, and back; results that wrapped around
//! fall on the past. Unlike on the CPU there is no tiling by powers of two: a GPU wants steps of
//! 10⁵ tokens and more, for which one large FFT is the least work.
//!
//! Equal pieces of all segments and a group of channels, as many as the workspace holds, go
//! through one batch of FFTs.

mod backward;
mod branches;
mod filter;
mod large;
mod past;
#[cfg(test)]
mod tests;

pub use backward::Convolved;
pub use filter::{FilterNetwork, FilterTaps};
#[cfg(test)]
pub(in crate::ops) use large::KERNELS as FFT_KERNELS;
pub use past::Past;

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::fft::{Direction, fast, stride};
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Element, Floats, Gpu, Source, lock};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use filter::Spectra;
use large::Large;
use past::Lane;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicIsize;
use std::sync::{Arc, Mutex};

pub(in crate::ops) const KERNELS: Source =
    Source::new("long_conv/kernel.cu", include_str!("../kernel.cu"));

/// Rows and channels of a block's tile.
const SIDE: usize = 64;
const WIDE: usize = 64;
/// Pieces whose spectra one thread multiplies.
const TOGETHER: usize = 8;

/// The filters of one layer, and those spectra of them that there is room for.
pub struct LongConv {
    gpu: Arc<Gpu>,
    length: usize,
    channels: usize,
    bias: CudaSlice<f32>, // (C)
    spectra: Mutex<Spectra>,
    /// Bytes of signals in one batch of FFTs; as much again are the filters' and, where it is used,
    /// cuFFT's.
    workspace: usize,
}

/// A stretch of rows of one segment that one FFT of each channel takes.
struct Piece {
    ring: u64,
    row: usize,
    len: usize,
    /// Inputs before it that the filter reaches.
    past: usize,
    /// Those of them that are rows of this step.
    inside: usize,
    slot: usize,
    capacity: usize,
    /// Rows after it from which gradients come.
    ahead: usize,
    /// Those of its rows, and so many before them, for which the step has no inputs: zeros.
    zeros: usize,
    /// Its first row among what is summed for branches.
    sums: usize,
}

/// Words of a description.
const WORDS: usize = 12;
/// What one FFT takes of each channel, as the kernels read it.
type Words = [u32; WORDS];

/// Pieces by taps of the filter and size of the FFT.
type Batches = BTreeMap<(usize, usize), Vec<Piece>>;

/// Signals of some channels, convolved, and what they are of.
struct Batch {
    signals: CudaSlice<f32>,
    descriptions: CudaSlice<u32>,
    count: usize,
    /// Rows of the longest.
    longest: usize,
    channels: Range<usize>,
    size: usize,
}

impl LongConv {
    /// Filters of `length` taps, the skip weights `bias` (C), the room in bytes for spectra that
    /// are kept rather than computed at each use, which layers share, and bytes of workspace for
    /// the FFTs (about three times as much is used in all).
    pub fn new(
        gpu: &Arc<Gpu>,
        length: usize,
        bias: &[f32],
        taps: FilterTaps,
        room: Arc<AtomicIsize>,
        workspace: usize,
    ) -> Result<Self> {
        Ok(Self {
            gpu: Arc::clone(gpu),
            length: length.max(1),
            channels: bias.len(),
            bias: gpu.upload(bias)?,
            spectra: Mutex::new(Spectra::new(length.max(1), taps, room)),
            workspace,
        })
    }

    /// An empty past for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Past {
        let mut past = Past { lanes: Vec::new() };
        past.lanes.resize_with(lanes, Lane::default);
        past
    }

    /// (T, 3C), the columns x0, x1 and x2, to the gated convolution (T, C).
    pub fn forward<O: Element>(
        &self,
        x: Floats,
        past: &mut Past,
        segments: &[Segment],
    ) -> Result<CudaSlice<O>> {
        let out = self.gpu.unwritten(x.len() / 3)?;
        let store = self.store_pieces(&out, None, x);
        self.run(x, past, (segments, &[]), &[], store)?;
        Ok(out)
    }

    /// The same, and what is multiplied with x0, (T, C).
    pub fn forward_with_sums<O: Element>(
        &self,
        x: Floats,
        past: &mut Past,
        segments: &[Segment],
    ) -> Result<(CudaSlice<O>, CudaSlice<f32>)> {
        let (out, sums) = (
            self.gpu.unwritten(x.len() / 3)?,
            self.gpu.unwritten(x.len() / 3)?,
        );
        let store = self.store_pieces(&out, Some(&sums), x);
        self.run(x, past, (segments, &[]), &[], store)?;
        Ok((out, sums))
    }

    /// Convolves the segments, and so many rows beyond each as `rooms` say, whose inputs are zeros.
    fn run(
        &self,
        x: Floats,
        past: &mut Past,
        (segments, branches): (&[Segment], &[Branch]),
        rooms: &[usize],
        store: impl Fn(&Batch) -> Result<()>,
    ) -> Result<()> {
        let packed = self.gpu.pack_branched(segments, branches)?;
        packed.expect_lanes(past.lanes.len())?;
        x.expect_len("long convolution", packed.rows() * 3 * self.channels)?;
        let (batches, retired) = self.batches(past, segments, rooms)?;
        let mut spectra = lock(&self.spectra);
        for (key, pieces) in &batches {
            let works = pieces.iter().map(|piece| (piece.len, piece.words()));
            let works: Vec<_> = works.collect();
            self.convolve(*key, x, "load_inputs", &works, &mut spectra, &store)?;
        }
        drop((spectra, retired));
        let mut row = 0;
        for segment in segments {
            if !(segment.starts && segment.ends) {
                self.keep(x, &mut past.lanes[segment.lane], row, segment)?;
            }
            row += segment.len;
        }
        Ok(())
    }

    /// Cuts segments into pieces, and makes room for what their lanes will keep. Rings that were
    /// too short for that must live until the pieces were read: in one step a sequence may end and
    /// the next one start in its lane.
    fn batches(
        &self,
        past: &mut Past,
        segments: &[Segment],
        rooms: &[usize],
    ) -> Result<(Batches, Vec<CudaSlice<f32>>)> {
        let mut retired = Vec::new();
        let mut batches = Batches::new();
        let (mut row, mut sums) = (0, 0);
        let rooms = rooms.iter().copied().chain(std::iter::repeat(0));
        for (segment, room) in segments.iter().zip(rooms) {
            let whole = Lane::default();
            let lane = if segment.starts && segment.ends {
                &whole
            } else {
                let lane = &mut past.lanes[segment.lane];
                if segment.starts {
                    lane.position = 0;
                }
                retired.extend(self.make_room(lane, segment)?);
                lane
            };
            let ring = lane.ring.as_ref().map_or(0, |ring| self.gpu.address(ring));
            let mut add = |done: usize, len: usize, taps: usize, size: usize| {
                let position = lane.position + done;
                let past = position.min(taps - 1);
                batches.entry((taps, size)).or_default().push(Piece {
                    ring,
                    row: row + done,
                    len,
                    past,
                    inside: past.min(done),
                    slot: (position - past) % lane.capacity.max(1),
                    capacity: lane.capacity,
                    ahead: 0,
                    zeros: (done + len).saturating_sub(segment.len),
                    sums: sums + done,
                });
            };
            let (most, step) = self.largest();
            let rows = segment.len + room;
            if rows > step {
                (0..rows).step_by(step).for_each(|done| {
                    add(done, step.min(rows - done), self.length, most);
                })
            } else {
                // Sizes are rounded up so that segments of similar length share a batch.
                let len = fast(rows);
                let taps = self.length.min(fast(lane.position + len));
                add(0, rows, taps, fast(len + taps - 1));
            }
            row += segment.len;
            sums += rows;
        }
        Ok((batches, retired))
    }

    /// The largest FFT, and the rows of a piece that it takes: beyond four filter lengths, one FFT
    /// of all is more work than several.
    fn largest(&self) -> (usize, usize) {
        let size = (4 * self.length).next_power_of_two().max(1 << 12);
        (size, size - self.length + 1)
    }

    /// Lengthens a lane's ring so that it holds what the filter will reach after this segment.
    /// The ring that it replaces, if any.
    fn make_room(&self, lane: &mut Lane, segment: &Segment) -> Result<Option<CudaSlice<f32>>> {
        let gpu = &*self.gpu;
        let most = self.length - 1;
        let needed = most.min(lane.position + segment.len);
        if segment.ends || needed <= lane.capacity {
            return Ok(None);
        }
        // Nothing has wrapped around yet: the ring was shorter than the filter.
        let capacity = most.min(needed.max(2 * lane.capacity).next_multiple_of(256));
        let longer: CudaSlice<f32> = gpu.unwritten(self.channels * capacity)?;
        if let Some(ring) = lane.ring.as_ref().filter(|_| lane.position > 0) {
            gpu.kernel(KERNELS, "lengthen")?
                .array(&longer)
                .array(ring)
                .long(lane.capacity)
                .long(capacity)
                .blocks(self.channels * lane.capacity.div_ceil(THREADS), THREADS, 0)?;
        }
        lane.capacity = capacity;
        Ok(lane.ring.replace(longer))
    }

    /// Works of one size, each with its rows, through batches of FFTs, from the kernel `load` to
    /// `store`.
    fn convolve(
        &self,
        (taps, size): (usize, usize),
        x: Floats,
        load: &str,
        works: &[(usize, Words)],
        spectra: &mut Spectra,
        store: impl Fn(&Batch) -> Result<()>,
    ) -> Result<()> {
        let gpu = &*self.gpu;
        let signals = (self.workspace / (stride(size) * size_of::<f32>())).max(1);
        let group = self.channels.min(signals);
        let together = signals / group;
        let mut filters = spectra.of(gpu, self.channels, group, taps, size)?;
        for first in (0..self.channels).step_by(group) {
            let count = group.min(self.channels - first);
            let filter = filters.take(gpu, first, count)?;
            let mut rest = works;
            while !rest.is_empty() {
                // Powers of two, so that few plans serve all steps.
                let batch = 1 << rest.len().min(together).ilog2();
                let (now, later) = rest.split_at(batch);
                rest = later;
                let descriptions = self.describe(now.iter().map(|(_, words)| *words))?;
                let (io, channels) = ((x, None), first..first + count);
                let mut signals =
                    self.load(load, io, &descriptions, batch, channels.clone(), size)?;
                self.multiply(&mut signals, &filter, [batch, count], size)?;
                store(&Batch {
                    signals,
                    descriptions,
                    count: batch,
                    longest: now.iter().map(|(len, _)| *len).max().unwrap_or(0),
                    channels,
                    size,
                })?;
            }
        }
        filters.keep();
        Ok(())
    }

    /// Signals (pieces, channels, stride), convolved with filters of which the spectra are given.
    fn multiply(
        &self,
        signals: &mut CudaSlice<f32>,
        filters: &CudaSlice<f32>,
        [pieces, channels]: [usize; 2],
        size: usize,
    ) -> Result<()> {
        let gpu = &*self.gpu;
        if let Some(large) = Large::new(gpu, size) {
            return large.convolve(gpu, signals, filters, [pieces, channels]);
        }
        gpu.complex_fft(signals, size, pieces * channels, Direction::Forward)?;
        let bins = size / 4 + 1; // and as many from the other end
        gpu.kernel(KERNELS, "multiply")?
            .array(signals)
            .array(filters)
            .int(pieces)
            .long(channels)
            .long(size / 2)
            .long(stride(size) / 2)
            .float(0.5 / size as f32)
            .blocks(
                bins.div_ceil(THREADS) * channels * pieces.div_ceil(TOGETHER),
                THREADS,
                0,
            )?;
        gpu.complex_fft(signals, size, pieces * channels, Direction::Inverse)
    }

    /// Pieces' outputs, and what is multiplied with x0 for them.
    fn store_pieces<'a, O: Element>(
        &'a self,
        out: &'a CudaSlice<O>,
        sums: Option<&'a CudaSlice<f32>>,
        x: Floats<'a>,
    ) -> impl Fn(&Batch) -> Result<()> + 'a {
        let kernel = format!("store_outputs_{}_{}", x.name(), O::NAME);
        move |batch| self.store(&kernel, (out, sums), x, batch)
    }

    /// Gives on convolved signals.
    fn store<O: Element>(
        &self,
        kernel: &str,
        (out, sums): (&CudaSlice<O>, Option<&CudaSlice<f32>>),
        x: Floats,
        batch: &Batch,
    ) -> Result<()> {
        let columns = batch.channels.len().div_ceil(WIDE);
        let blocks = batch.longest.div_ceil(SIDE) * columns * batch.count;
        self.gpu
            .kernel(KERNELS, kernel)?
            .array(out)
            .optional(sums)
            .array(&batch.signals)
            .floats(x)
            .array(&self.bias)
            .array(&batch.descriptions)
            .int(self.channels)
            .int(batch.channels.start)
            .int(batch.channels.len())
            .long(batch.longest)
            .long(stride(batch.size))
            .blocks(blocks, THREADS, 0)
    }

    /// The signals of some channels of pieces, not yet transformed: v, or d of a gradient. The
    /// kernel's name ends with the type of x.
    fn load(
        &self,
        kernel: &str,
        (x, grad): (Floats, Option<&CudaSlice<f32>>),
        descriptions: &CudaSlice<u32>,
        pieces: usize,
        channels: Range<usize>,
        size: usize,
    ) -> Result<CudaSlice<f32>> {
        let gpu = &*self.gpu;
        let count = channels.len();
        let signals = gpu.unwritten(pieces * count * stride(size))?;
        gpu.kernel(KERNELS, &format!("{kernel}_{}", x.name()))?
            .array(&signals)
            .floats(x)
            .optional(grad)
            .array(descriptions)
            .int(self.channels)
            .int(channels.start)
            .int(count)
            .long(size)
            .long(stride(size))
            .blocks(
                size.div_ceil(SIDE) * count.div_ceil(WIDE) * pieces,
                THREADS,
                0,
            )?;
        Ok(signals)
    }

    fn describe(&self, works: impl Iterator<Item = Words>) -> Result<CudaSlice<u32>> {
        self.gpu.upload(&works.flatten().collect::<Vec<u32>>())
    }

    /// Moves a lane past a segment, from row `row` of the step on.
    fn keep(&self, x: Floats, lane: &mut Lane, row: usize, s: &Segment) -> Result<()> {
        if s.ends {
            // The ring stays: the next sequence may have started in this step.
            lane.position = 0;
            return Ok(());
        }
        lane.position += s.len;
        let kept = s.len.min(lane.capacity);
        let Some(ring) = lane.ring.as_ref().filter(|_| kept > 0) else {
            return Ok(());
        };
        self.gpu
            .kernel(KERNELS, &format!("keep_past_{}", x.name()))?
            .array(ring)
            .floats(x)
            .int(self.channels)
            .long(row + s.len - kept)
            .long(kept)
            .long((lane.position - kept) % lane.capacity)
            .long(lane.capacity)
            .blocks(
                kept.div_ceil(SIDE) * self.channels.div_ceil(WIDE),
                THREADS,
                0,
            )
    }
}

impl Piece {
    fn words(&self) -> Words {
        let Self {
            ring,
            row,
            len,
            past,
            inside,
            slot,
            capacity,
            ahead,
            zeros,
            sums,
        } = *self;
        let [low, high] = [ring as usize & 0xffff_ffff, (ring >> 32) as usize];
        [
            low, high, row, len, past, inside, slot, capacity, ahead, zeros, sums, 0,
        ]
        .map(|n| n as u32)
    }
}

/// A size that the callers' own arithmetic guarantees.
fn mismatch(what: &str) -> Error {
    Error::new(Kind::Internal, format!("long convolution: {what}"))
}
