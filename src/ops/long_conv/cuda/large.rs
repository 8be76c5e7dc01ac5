//! Convolutions with signals of 2¹⁷ to 2²³ values, by FFTs in three passes over memory: cuFFT's
//! need five and more, since it does not know that a product and the way back follow.

use crate::error::Result;
use crate::ops::cuda::fft::stride;
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::{Gpu, Source};
use cudarc::driver::CudaSlice;

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
        self.columns(gpu, "columns", taps, channels)?;
        self.kernel(gpu, "filter_rows")?
            .array(taps)
            .long(self.stride())
            .blocks(channels * self.column / 2, self.row / 8, 0)
    }

    /// Signals (pieces, channels, stride), convolved with filters of which the spectra are given.
    pub(super) fn convolve(
        &self,
        gpu: &Gpu,
        signals: &CudaSlice<f32>,
        filters: &CudaSlice<f32>,
        [pieces, channels]: [usize; 2],
    ) -> Result<()> {
        self.columns(gpu, "columns", signals, pieces * channels)?;
        self.kernel(gpu, "signal_rows")?
            .array(signals)
            .array(filters)
            .int(pieces)
            .long(channels)
            .long(self.stride())
            .float(0.25 / (self.column * self.row) as f32)
            .blocks(pieces * channels * self.column / 2, self.row / 8, 0)?;
        self.columns(gpu, "columns_back", signals, pieces * channels)
    }

    fn columns(&self, gpu: &Gpu, name: &str, signals: &CudaSlice<f32>, count: usize) -> Result<()> {
        let wide = BLOCK / self.column;
        // One number is skipped after so many as a thread has.
        let shared = (BLOCK + BLOCK / HELD) * size_of::<[f32; 2]>();
        self.kernel(gpu, name)?
            .array(signals)
            .long(self.stride())
            .blocks(count * self.row / wide, BLOCK / HELD, shared)
    }

    fn kernel<'a>(&self, gpu: &'a Gpu, name: &str) -> Result<Launch<'a>> {
        gpu.kernel_for(KERNELS, &self.defines(), name)
    }

    /// Complex numbers from one signal to the next.
    fn stride(&self) -> usize {
        stride(2 * self.column * self.row) / 2
    }
}
