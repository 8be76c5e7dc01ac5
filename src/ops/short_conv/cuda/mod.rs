//! Short causal depthwise convolution that carries its last inputs.

mod backward;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::ops::Activation;
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Element, Gpu, Packed, Saved, Source, Stored, expect_len, vector};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use half::bf16;
use std::sync::Arc;

pub(in crate::ops) const KERNELS: Source =
    Source::new("short_conv/kernel.cu", include_str!("../kernel.cu"));

/// Rows of a thread where there are many taps; as in the kernel.
const ROWS: usize = 16;

/// `y[t, c] = activation(bias[c] + Σ_j weight[c, j] · x[t − (K−1) + j, c])`, zeros before a start.
#[derive(Debug)]
pub struct ShortConv {
    gpu: Arc<Gpu>,
    weight: CudaSlice<f32>, // (K, C)
    bias: CudaSlice<f32>,   // (C)
    taps: usize,
    channels: usize,
    activation: Activation,
    reversed: bool,
}

/// A convolution of 3 taps for another op's kernels.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Within<'a> {
    /// (T, C).
    pub x: &'a CudaSlice<bf16>,
    /// (3, C) and (C).
    pub weight: &'a CudaSlice<f32>,
    pub bias: &'a CudaSlice<f32>,
    /// (lanes, 2, C): before the step.
    pub tails: &'a CudaSlice<f32>,
}

/// The last K−1 inputs of each lane's unfinished sequence, oldest first: (lanes, K−1, C).
#[derive(Debug)]
pub struct Tail {
    lanes: usize,
    rows: CudaSlice<f32>,
}

impl ShortConv {
    /// `weight` (C, K), `bias` (C). `reversed` reads each segment from its last row to its first.
    pub fn new(
        gpu: &Arc<Gpu>,
        weight: &[f32],
        taps: usize,
        bias: &[f32],
        activation: Activation,
        reversed: bool,
    ) -> Result<Self> {
        let channels = bias.len();
        if taps == 0 || weight.len() != channels * taps {
            return Err(Error::new(Kind::Internal, "a filter of another shape"));
        }
        let mut by_tap = Vec::with_capacity(weight.len());
        for j in 0..taps {
            by_tap.extend(weight.iter().skip(j).step_by(taps));
        }
        Ok(Self {
            weight: gpu.upload(&by_tap)?,
            bias: gpu.upload(bias)?,
            gpu: Arc::clone(gpu),
            taps,
            channels,
            activation,
            reversed,
        })
    }

    /// Zeros for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Result<Tail> {
        Ok(Tail {
            lanes,
            rows: self.gpu.zeros(lanes * self.tail_len())?,
        })
    }

    /// (T, C) to (T, C) of the same type. There are no branches where segments are read in reverse.
    pub fn forward<E: Element>(
        &self,
        x: &CudaSlice<E>,
        tail: &mut Tail,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<CudaSlice<E>> {
        let gpu = &*self.gpu;
        let packed = gpu.pack_branched(segments, branches)?;
        packed.expect_lanes(tail.lanes)?;
        expect_len("tail", &tail.rows, (tail.lanes * self.tail_len()).max(1))?;
        expect_len("short convolution", x, packed.rows() * self.channels)?;
        let out = self.convolve(x, tail, &packed, self.activation)?;
        self.keep(x, tail, &packed, segments)?;
        Ok(out)
    }

    /// Moves the tails past segments of `x`.
    fn keep<E: Element>(
        &self,
        x: &CudaSlice<E>,
        tail: &Tail,
        packed: &Packed,
        segments: &[Segment],
    ) -> Result<()> {
        if segments.iter().all(|segment| segment.ends) {
            return Ok(());
        }
        self.gpu
            .kernel(KERNELS, &format!("keep_tail_{}", E::NAME))?
            .array(&tail.rows)
            .array(x)
            .array(&packed.segments)
            .int(self.taps)
            .int(self.channels)
            .int(self.reversed.into())
            .blocks(self.channels.div_ceil(THREADS) * segments.len(), THREADS, 0)
    }

    /// What the kernels of an op need that convolves as it reads `x` (T, C), in the place of
    /// [`ShortConv::forward`]: they are for 3 taps.
    pub(in crate::ops) fn within<'a>(
        &'a self,
        x: &'a CudaSlice<bf16>,
        tail: &'a Tail,
    ) -> Option<Within<'a>> {
        let plain = self.taps == 3 && !self.reversed && self.activation == Activation::None;
        plain.then_some(Within {
            x,
            weight: &self.weight,
            bias: &self.bias,
            tails: &tail.rows,
        })
    }

    /// Moves the tails past segments of `x` that [`ShortConv::within`] was for.
    pub(in crate::ops) fn pass(
        &self,
        x: &CudaSlice<bf16>,
        tail: &mut Tail,
        segments: &[Segment],
    ) -> Result<()> {
        let packed = self.gpu.pack_branched(segments, &[])?;
        packed.expect_lanes(tail.lanes)?;
        self.keep(x, tail, &packed, segments)
    }

    fn convolve<E: Element>(
        &self,
        x: &CudaSlice<E>,
        tail: &Tail,
        packed: &Packed,
        activation: Activation,
    ) -> Result<CudaSlice<E>> {
        let gpu = &*self.gpu;
        let out = gpu.unwritten(x.len())?;
        let few = matches!(self.taps, 3 | 4 | 7);
        let lanes = vector(self.channels);
        let name = if few {
            format!("short_conv_{}_{}_{lanes}", E::NAME, self.taps)
        } else {
            format!("short_conv_{}", E::NAME)
        };
        let launch = gpu
            .kernel(KERNELS, &name)?
            .array(&out)
            .array(x)
            .array(&tail.rows)
            .array(&self.weight)
            .array(&self.bias)
            .array(&packed.tiles)
            .array(&packed.segments)
            .int(packed.tile_count());
        let (launch, blocks) = if few {
            let threads = self.channels / lanes * packed.tile_count();
            (launch, threads.div_ceil(THREADS))
        } else {
            let launch = launch.int(packed.longest()).int(self.taps);
            (launch, self.blocks(packed))
        };
        launch
            .int(self.channels)
            .int(activation as usize)
            .int(self.reversed.into())
            .blocks(blocks, THREADS, 0)?;
        Ok(out)
    }

    /// Blocks of the kernels for many taps: a warp has 32 channels of some rows of a tile.
    fn blocks(&self, packed: &Packed) -> usize {
        let warps = packed.longest().div_ceil(ROWS) * self.channels.div_ceil(32);
        (warps * packed.tile_count()).div_ceil(THREADS / 32)
    }

    /// Values of one lane's tail.
    fn tail_len(&self) -> usize {
        (self.taps - 1) * self.channels
    }
}

impl Tail {
    /// A copy that runs on by itself.
    pub fn fork(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            lanes: self.lanes,
            rows: gpu.copy(&self.rows)?,
        })
    }
}

impl Stored for Tail {
    fn store(&self) -> Result<Saved> {
        Saved::of_lanes(self.lanes, &self.rows)
    }

    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self> {
        let (lanes, rows) = saved.to_lanes(gpu)?;
        Ok(Self { lanes, rows })
    }
}
