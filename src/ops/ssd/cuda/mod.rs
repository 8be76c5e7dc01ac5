//! The scan of Mamba-2 in three passes over tiles of rows: each tile's own final state, the states
//! between tiles one after the other, and the outputs. Where bf16 suffices, matrix products over
//! chunks of rows instead.

mod backward;
mod chunks;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::ops::SsdSizes;
use crate::ops::cuda::{Floats, Gpu, Saved, Source, Stored, expect_len};
use crate::ops::tensor::cuda::widen;
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;
use std::sync::Arc;

pub(in crate::ops) const KERNELS: Source =
    Source::new("ssd/kernel.cu", include_str!("../kernel.cu"));
pub(in crate::ops) const CHUNK_KERNELS: Source =
    Source::new("ssd/chunks.cu", include_str!("../chunks.cu"));
pub(in crate::ops) const SLOPE_KERNELS: Source =
    Source::new("ssd/slopes.cu", include_str!("../slopes.cu"));

/// Threads of a channel, as in the kernel.
const SHARE: usize = 4;
/// Channels of a block.
const CHANNELS: usize = 64;
/// Of one channel, in the registers of its threads.
const STATES: usize = 256;
/// Threads of a block between the tiles.
const THREADS: usize = 128;

/// `S_t = exp(d_t A) S_{t−1} + d_t x_t B_tᵀ`, `y_t = S_t C_t + D x_t`, `d = softplus(raw + bias)`
#[derive(Debug)]
pub struct Ssd {
    gpu: Arc<Gpu>,
    sizes: SsdSizes,
    rate: CudaSlice<f32>, // (H): A · log2 e
    bias: CudaSlice<f32>, // (H)
    skip: CudaSlice<f32>, // (H)
    limit: (f32, f32),
    band: Option<usize>, // chunks at a time
}

/// The states S of each lane's unfinished sequence: (lanes, I, N padded).
#[derive(Debug)]
pub struct SsdState {
    lanes: usize,
    values: CudaSlice<f32>,
}

impl Ssd {
    /// Chunks at a time that keep a GPU busy: 2¹⁶ rows.
    pub const BAND: usize = 512;

    /// `rate` A · log2 e, `bias` of the time step and `skip` D, (H) each, and the limits of the
    /// time step. `band`: matrix products of bf16 numbers over so many chunks at a time, where
    /// sizes and segments suit them; none: f32 throughout.
    ///
    /// # Errors
    /// Of kind usage for more than 256 states a channel.
    pub fn new(
        gpu: &Arc<Gpu>,
        sizes: SsdSizes,
        [rate, bias, skip]: [&[f32]; 3],
        limit: (f32, f32),
        band: Option<usize>,
    ) -> Result<Self> {
        let SsdSizes {
            heads,
            channels,
            groups,
            states,
        } = sizes;
        let lens = [rate, bias, skip].map(<[f32]>::len);
        if lens != [heads; 3] || [heads, channels, groups, states].contains(&0) {
            return Err(Error::new(Kind::Internal, "a scan of another shape"));
        }
        if states > STATES {
            return Err(Error::usage(format!(
                "{states} states a channel: scans on the GPU have {STATES} at most"
            ))
            .todo("run with --device cpu"));
        }
        Ok(Self {
            gpu: Arc::clone(gpu),
            sizes,
            rate: gpu.upload(rate)?,
            bias: gpu.upload(bias)?,
            skip: gpu.upload(skip)?,
            limit,
            band,
        })
    }

    /// Zeros for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Result<SsdState> {
        Ok(SsdState {
            lanes,
            values: self.gpu.zeros(lanes * self.state_len())?,
        })
    }

    /// y (T, I) of `xbc` (T, I + 2GN), whose columns are x, B and C, of either type, and of the time
    /// steps before bias and softplus `steps` (T, H).
    pub fn forward(
        &self,
        xbc: Floats,
        steps: &CudaSlice<f32>,
        state: &SsdState,
        segments: &[Segment],
    ) -> Result<CudaSlice<f32>> {
        let (gpu, sizes) = (&*self.gpu, self.sizes);
        let packed = gpu.pack(segments)?;
        packed.expect_lanes(state.lanes)?;
        xbc.expect_len("scan", packed.rows() * sizes.columns())?;
        expect_len("time steps", steps, packed.rows() * sizes.heads)?;
        if let Some(band) = self.band.filter(|_| self.fits_chunks(&packed)) {
            return self.forward_in_chunks((xbc, steps), state, &packed, band);
        }
        let wide;
        let xbc = match xbc {
            Floats::F32(xbc) => xbc,
            Floats::Bf16(xbc) => {
                wide = widen(gpu, xbc)?;
                &wide
            }
        };
        let tiles = packed.tile_count();
        let ends: CudaSlice<f32> = gpu.unwritten(tiles * self.state_len())?;
        let sums: CudaSlice<f32> = gpu.unwritten(tiles * sizes.heads)?;
        let arrays = [
            xbc,
            steps,
            &self.rate,
            &self.bias,
            &self.skip,
            &state.values,
            &ends,
            &sums,
        ];
        let pointers = self.pointers(&arrays, &packed);
        let ints = [sizes.heads, sizes.channels, sizes.groups, sizes.states];
        let channels = sizes.channels.min(CHANNELS);
        let defines = [
            format!("STATES={}", self.padded()),
            format!("SLICE={channels}"),
        ];
        let kernel = |name: &str| {
            let launch = gpu.kernel_for(KERNELS, &defines, name)?;
            Ok::<_, Error>(launch.structure(&pointers, &ints))
        };
        let limited = |name: &str| {
            let launch = kernel(name)?;
            Ok::<_, Error>(launch.float(self.limit.0).float(self.limit.1))
        };
        let blocks = tiles * sizes.heads * sizes.channels.div_ceil(channels);
        let threads = (channels * SHARE).next_multiple_of(32);
        if tiles > segments.len() {
            limited("ssd_ends")?.blocks(blocks, threads, 0)?;
        }
        let between = segments.len() * self.state_len().div_ceil(THREADS);
        kernel("ssd_carry")?.blocks(between, THREADS, 0)?;
        let out = gpu.unwritten(packed.rows() * sizes.inner())?;
        limited("ssd_outputs")?
            .array(&out)
            .blocks(blocks, threads, 0)?;
        Ok(out)
    }

    /// N filled up.
    fn padded(&self) -> usize {
        self.sizes.states.next_multiple_of(4 * SHARE)
    }

    /// Values of one lane's state.
    fn state_len(&self) -> usize {
        self.sizes.inner() * self.padded()
    }
}

impl SsdState {
    /// A copy that runs on by itself.
    pub fn fork(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            lanes: self.lanes,
            values: gpu.copy(&self.values)?,
        })
    }
}

impl Stored for SsdState {
    fn store(&self) -> Result<Saved> {
        Saved::of_lanes(self.lanes, &self.values)
    }

    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self> {
        let (lanes, values) = saved.to_lanes(gpu)?;
        Ok(Self { lanes, values })
    }
}
