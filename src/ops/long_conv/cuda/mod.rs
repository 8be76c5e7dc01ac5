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
mod form;
mod large;
mod past;
#[cfg(test)]
mod tests;

pub use backward::Convolved;
pub use filter::{FilterNetwork, FilterTaps};
pub use form::{Form, Input};
#[cfg(test)]
pub(in crate::ops) use large::KERNELS as FFT_KERNELS;
pub use past::Past;

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::fft::{Direction, fast, stride};
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Element, Floats, Gpu, Source, expect_len, lock};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use filter::Spectra;
use form::Layout;
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
    form: Form,
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
    /// Its segment's first row, and its lane unless the sequence starts there.
    begin: usize,
    lane: Option<usize>,
}

/// Words of a description.
const WORDS: usize = 14;
/// What one FFT takes of each channel, as the kernels read it.
type Words = [u32; WORDS];

/// Pieces by taps of the filter and size of the FFT.
type Batches = BTreeMap<(usize, usize), Vec<Piece>>;

/// A piece or a branch: values of the past and new ones, and its description.
struct Work {
    past: usize,
    len: usize,
    words: Words,
}

/// Signals of some channels, convolved, and what they are of.
struct Batch {
    signals: CudaSlice<f32>,
    layout: Layout,
    descriptions: CudaSlice<u32>,
    count: usize,
    /// Rows of the longest.
    longest: usize,
    channels: Range<usize>,
}

impl LongConv {
    /// Filters of `length` taps, the skip weights `bias` (C), the room in bytes for spectra that
    /// are kept rather than computed at each use, which layers share, the bytes of workspace for
    /// the FFTs (about three times as much is used in all), and how signals are held.
    pub fn new(
        gpu: &Arc<Gpu>,
        length: usize,
        bias: &[f32],
        taps: FilterTaps,
        room: Arc<AtomicIsize>,
        workspace: usize,
        form: Form,
    ) -> Result<Self> {
        let uploaded = gpu.upload(bias)?;
        let skip = (form == Form::Rounded).then(|| gpu.copy(&uploaded));
        let taps = (taps, skip.transpose()?);
        Ok(Self {
            gpu: Arc::clone(gpu),
            length: length.max(1),
            channels: bias.len(),
            bias: uploaded,
            form,
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
        x: Input,
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
        let x = Input::from(x);
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
        x: Input,
        past: &mut Past,
        (segments, branches): (&[Segment], &[Branch]),
        rooms: &[usize],
        store: impl Fn(&Batch) -> Result<()>,
    ) -> Result<()> {
        let packed = self.gpu.pack_branched(segments, branches)?;
        packed.expect_lanes(past.lanes.len())?;
        let len = packed.rows() * 3 * self.channels;
        match x {
            Input::Plain(x) => x.expect_len("long convolution", len)?,
            Input::Convolved(short) => expect_len("long convolution", short.x, len)?,
        }
        let (batches, retired) = self.batches(past, segments, rooms)?;
        let mut spectra = lock(&self.spectra);
        for (key, pieces) in &batches {
            let works: Vec<_> = pieces.iter().map(Piece::work).collect();
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
            let before = (!segment.starts).then_some(segment.lane);
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
                    begin: row,
                    lane: before,
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
                add(0, rows, taps, self.size(len + taps - 1));
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

    /// The size of an FFT for `n` values. Rounded, a power of two takes less time than a smaller size
    /// that cuFFT would take.
    fn size(&self, n: usize) -> usize {
        let large = n.next_power_of_two();
        if self.form == Form::Rounded && Large::new(&self.gpu, large).is_some() {
            large
        } else {
            fast(n)
        }
    }

    /// Channels of one batch of FFTs, of so many signals at most. Rounded, groups are of one size and
    /// full tiles, or at least of the four channels that tiles read at once, if there are as many.
    fn group(&self, signals: usize) -> usize {
        let most = self.channels.min(signals);
        if self.form == Form::Exact || most == self.channels {
            return most;
        }
        let even = self.channels.div_ceil(self.channels.div_ceil(signals));
        let tiles = even.next_multiple_of(WIDE);
        if tiles <= signals {
            tiles
        } else if most >= 4 {
            most - most % 4
        } else {
            most
        }
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
        x: Input,
        load: &str,
        works: &[Work],
        spectra: &mut Spectra,
        store: impl Fn(&Batch) -> Result<()>,
    ) -> Result<()> {
        let gpu = &*self.gpu;
        let signals = (self.workspace / (stride(size) * size_of::<f32>())).max(1);
        let group = self.group(signals);
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
                let past = now.iter().map(|work| work.past).min().unwrap_or(0);
                let used = now.iter().map(|work| work.past + work.len).max();
                let wanted = past..used.unwrap_or(0);
                let layout = self.form.layout(gpu, size, wanted.end);
                let descriptions = self.describe(now.iter().map(|work| work.words))?;
                let channels = first..first + count;
                let io = (x, None);
                let mut signals =
                    self.load(load, io, &descriptions, batch, channels.clone(), layout)?;
                let counts = [batch, count];
                self.multiply((&mut signals, layout), &filter, counts, size, wanted)?;
                store(&Batch {
                    signals,
                    layout,
                    descriptions,
                    count: batch,
                    longest: now.iter().map(|work| work.len).max().unwrap_or(0),
                    channels,
                })?;
            }
        }
        filters.keep();
        Ok(())
    }

    /// Signals (pieces, channels, stride), convolved with filters of which the spectra are given: of
    /// each at least the values `wanted`.
    fn multiply(
        &self,
        (signals, layout): (&mut CudaSlice<f32>, Layout),
        filters: &CudaSlice<f32>,
        [pieces, channels]: [usize; 2],
        size: usize,
        wanted: Range<usize>,
    ) -> Result<()> {
        let gpu = &*self.gpu;
        if let Some(large) = Large::new(gpu, size) {
            let counts = [pieces, channels];
            return large.convolve(gpu, (signals, layout), filters, counts, wanted);
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
        x: Input<'a>,
    ) -> impl Fn(&Batch) -> Result<()> + 'a {
        move |batch| self.store("store_outputs", (out, sums), x, batch)
    }

    /// Gives on convolved signals. The kernel's name ends with the types of signals, of x, and of
    /// what is stored.
    fn store<O: Element>(
        &self,
        kernel: &str,
        (out, sums): (&CudaSlice<O>, Option<&CudaSlice<f32>>),
        x: Input,
        batch: &Batch,
    ) -> Result<()> {
        let held = batch.layout.name();
        let kernel = format!("{kernel}_{held}_{}_{}", x.name(), O::NAME);
        let bias = (self.form == Form::Exact).then_some(&self.bias);
        let columns = batch.channels.len().div_ceil(WIDE);
        let blocks = batch.longest.div_ceil(SIDE) * columns * batch.count;
        let launch = self
            .gpu
            .kernel(KERNELS, &kernel)?
            .array(out)
            .optional(sums)
            .array(&batch.signals);
        x.on(launch)
            .optional(bias)
            .array(&batch.descriptions)
            .int(self.channels)
            .int(batch.channels.start)
            .int(batch.channels.len())
            .long(batch.longest)
            .long(batch.layout.stride)
            .blocks(blocks, THREADS, 0)
    }

    /// The signals of some channels of pieces, not yet transformed: v, or d of a gradient. The
    /// kernel's name ends with the types of signals and of x.
    fn load(
        &self,
        kernel: &str,
        (x, grad): (Input, Option<&CudaSlice<f32>>),
        descriptions: &CudaSlice<u32>,
        pieces: usize,
        channels: Range<usize>,
        layout: Layout,
    ) -> Result<CudaSlice<f32>> {
        let gpu = &*self.gpu;
        let count = channels.len();
        let signals = gpu.unwritten(pieces * count * layout.words())?;
        let held = layout.name();
        let launch = gpu
            .kernel(KERNELS, &format!("{kernel}_{held}_{}", x.name()))?
            .array(&signals);
        x.on(launch)
            .optional(grad)
            .array(descriptions)
            .int(self.channels)
            .int(channels.start)
            .int(count)
            .long(layout.span)
            .long(layout.stride)
            .blocks(
                layout.span.div_ceil(SIDE) * count.div_ceil(WIDE) * pieces,
                THREADS,
                0,
            )?;
        Ok(signals)
    }

    fn describe(&self, works: impl Iterator<Item = Words>) -> Result<CudaSlice<u32>> {
        self.gpu.upload(&works.flatten().collect::<Vec<u32>>())
    }

    /// Moves a lane past a segment, from row `row` of the step on.
    fn keep(&self, x: Input, lane: &mut Lane, row: usize, s: &Segment) -> Result<()> {
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
        let launch = self
            .gpu
            .kernel(KERNELS, &format!("keep_past_{}", x.name()))?
            .array(ring);
        let launch = x
            .on(launch)
            .int(self.channels)
            .long(row + s.len - kept)
            .long(kept)
            .long((lane.position - kept) % lane.capacity)
            .long(lane.capacity);
        let launch = match x {
            Input::Plain(_) => launch,
            Input::Convolved(_) if s.starts => launch.long(row).long(usize::MAX),
            Input::Convolved(_) => launch.long(row).long(s.lane),
        };
        let blocks = kept.div_ceil(SIDE) * self.channels.div_ceil(WIDE);
        launch.blocks(blocks, THREADS, 0)
    }
}

impl Piece {
    fn work(&self) -> Work {
        Work {
            past: self.past,
            len: self.len,
            words: self.words(),
        }
    }

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
            begin,
            lane,
        } = *self;
        let lane = lane.map_or(u32::MAX as usize, |lane| lane);
        let [low, high] = [ring as usize & 0xffff_ffff, (ring >> 32) as usize];
        [
            low, high, row, len, past, inside, slot, capacity, ahead, zeros, sums, begin, lane, 0,
        ]
        .map(|n| n as u32)
    }
}

/// A size that the callers' own arithmetic guarantees.
fn mismatch(what: &str) -> Error {
    Error::new(Kind::Internal, format!("long convolution: {what}"))
}
