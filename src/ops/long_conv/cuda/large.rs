//! Convolutions with signals of 2¹⁷ to 2²³ values, by FFTs in three passes over memory: cuFFT's
//! need five and more, since it does not know that a product and the way back follow.

use super::layout::Layout;
use crate::error::Result;
use crate::ops::cuda::fft::stride;
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::{Gpu, Source};
use cudarc::driver::CudaSlice;
use std::ops::Range;

pub(in crate::ops) const KERNELS: Source =
    Source::new("long_conv/fft.cu", include_str!("../fft.cu"));

/// Numbers that a thread has.
const HELD: usize = 16;
/// Numbers of a block of columns.
const BLOCK: usize = 8192;

/// How signals of one size are transformed: as matrices of `column` · `row` complex numbers.
#[derive(Clone, Copy)]
pub(super) struct Large {
    column: usize,
    row: usize,
}

impl Large {
    /// For signals of `size` values, where that is a size for these kernels, and the GPU has the
    /// shared memory that they take: 68 KB a block.
    pub(super) fn new(gpu: &Gpu, size: usize) -> Option<Self> {
        let bits = size.ilog2() - 1;
        let fits = size.is_power_of_two() && (16..=22).contains(&bits) && gpu.capability >= 80;
        fits.then(|| Self {
            column: 1 << (bits / 2),
            row: 1 << bits.div_ceil(2),
        })
    }

    /// What the kernels are compiled for.
    pub(super) fn defines(&self) -> [String; 2] {
        [
            format!("COLUMN={}", self.column),
            format!("ROW={}", self.row),
        ]
    }

    /// Taps of filters to their spectra, in the order that [`Large::convolve`] reads.
    pub(super) fn filters(&self, gpu: &Gpu, taps: &CudaSlice<f32>, channels: usize) -> Result<()> {
        let all = Layout::whole(2 * self.column * self.row);
        self.columns(gpu, (taps, all), taps, channels)?;
        self.kernel(gpu, "filter_rows")?
            .array(taps)
            .long(self.stride())
            .blocks(channels * self.column / 2, self.row / 8, 0)
    }

    /// Signals (pieces, channels, stride), convolved with filters of which the spectra are given: of
    /// each the values `wanted`.
    pub(super) fn convolve(
        &self,
        gpu: &Gpu,
        (signals, layout): (&CudaSlice<f32>, Layout),
        filters: &CudaSlice<f32>,
        [pieces, channels]: [usize; 2],
        wanted: Range<usize>,
    ) -> Result<()> {
        let count = pieces * channels;
        let own = layout
            .rounded
            .then(|| gpu.unwritten(count * 2 * self.stride()));
        let own = own.transpose()?;
        let spectra = own.as_ref().unwrap_or(signals);
        self.columns(gpu, (signals, layout), spectra, count)?;
        self.kernel(gpu, "signal_rows")?
            .array(spectra)
            .array(filters)
            .int(pieces)
            .long(channels)
            .long(self.stride())
            .float(0.25 / (self.column * self.row) as f32)
            .blocks(count * self.column / 2, self.row / 8, 0)?;
        let [threads, shared] = self.block();
        self.kernel(gpu, &format!("columns_back_{}", layout.name()))?
            .array(spectra)
            .long(self.stride())
            .array(signals)
            .long(layout.stride / 2)
            .int(wanted.start / 2)
            .int(wanted.end.div_ceil(2))
            .blocks(count * self.row * self.column / BLOCK, threads, shared)
    }

    /// Columns of signals to those of what becomes their spectra.
    fn columns(
        &self,
        gpu: &Gpu,
        (signals, layout): (&CudaSlice<f32>, Layout),
        spectra: &CudaSlice<f32>,
        count: usize,
    ) -> Result<()> {
        let [threads, shared] = self.block();
        self.kernel(gpu, &format!("columns_{}", layout.name()))?
            .array(signals)
            .long(layout.stride / 2)
            .int(layout.span / 2)
            .array(spectra)
            .long(self.stride())
            .blocks(count * self.row * self.column / BLOCK, threads, shared)
    }

    /// Threads, and bytes of shared memory, of a block of columns: one number is skipped after so
    /// many as a thread has.
    fn block(&self) -> [usize; 2] {
        let shared = (BLOCK + BLOCK / HELD) * size_of::<[f32; 2]>();
        [BLOCK / HELD, shared]
    }

    fn kernel<'a>(&self, gpu: &'a Gpu, name: &str) -> Result<Launch<'a>> {
        gpu.kernel_for(KERNELS, &self.defines(), name)
    }

    /// Complex numbers from one signal to the next.
    fn stride(&self) -> usize {
        stride(2 * self.column * self.row) / 2
    }
}
