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
mod layout;
mod past;
mod pieces;
#[cfg(test)]
mod tests;

pub use backward::Convolved;
pub use filter::{FilterNetwork, FilterTaps};
pub use form::{Form, Input};
#[cfg(test)]
pub(in crate::ops) use large::KERNELS as FFT_KERNELS;
pub use past::Past;

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::fft::{Direction, stride};
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Element, Floats, Gpu, Source, expect_len, lock};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use filter::Spectra;
use large::Large;
use layout::Layout;
use past::Lane;
use pieces::{Batches, Piece, WORDS, Words, Work};
use std::ops::Range;
use std::sync::atomic::AtomicIsize;
use std::sync::{Arc, Mutex};

pub(in crate::ops) const KERNELS: Source = Source::new(
    "long_conv/kernel.cu",
    concat!(
        include_str!("../tiles.cu"),
        include_str!("../convolved.cu"),
        include_str!("../kernel.cu"),
    ),
);

/// Rows and channels of a block's tile.
const SIDE: usize = 64;
const WIDE: usize = 64;
/// Rows of a tile where a short convolution's outputs are convolved on.
const STRIP: usize = 128;
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
        let signals = (self.workspace / (size * size_of::<f32>())).max(1);
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
        let blocks = batch.longest.div_ceil(x.side()) * columns * batch.count;
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
                layout.span.div_ceil(x.side()) * count.div_ceil(WIDE) * pieces,
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
        let blocks = kept.div_ceil(x.side()) * self.channels.div_ceil(WIDE);
        launch.blocks(blocks, THREADS, 0)
    }
}

/// A size that the callers' own arithmetic guarantees.
fn mismatch(what: &str) -> Error {
    Error::new(Kind::Internal, format!("long convolution: {what}"))
}
