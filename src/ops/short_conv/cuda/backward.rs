//! Gradients of a short convolution: to its input, its taps and its bias.

use super::{KERNELS, ShortConv, Tail};
use crate::error::Result;
use crate::ops::Activation;
use crate::ops::activation::cuda as activations;
use crate::ops::cuda::expect_len;
use crate::ops::cuda::launch::THREADS;
use crate::ops::sums::cuda as sums;
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;

/// Parts that the rows are cut into, at most: each has taps' gradients of its own.
const PARTS: usize = 256;
const WARPS: usize = THREADS / 32;

impl ShortConv {
    /// To `x` (T, C), the taps (K, C) and the bias (C); the last two if they are wanted. `before` is
    /// the tail as it was before this step; no gradient goes back to it.
    pub fn backward(
        &self,
        grad: &CudaSlice<f32>,
        x: &CudaSlice<f32>,
        before: &Tail,
        segments: &[Segment],
        wanted: [bool; 2],
    ) -> Result<[Option<CudaSlice<f32>>; 3]> {
        let gpu = &*self.gpu;
        let packed = gpu.pack(segments)?;
        packed.expect_lanes(before.lanes)?;
        let len = packed.rows() * self.channels;
        expect_len("short convolution", x, len)?;
        expect_len("gradient", grad, len)?;
        let inner;
        let grad = match self.activation {
            Activation::None => grad,
            activation => {
                let plain = self.convolve(x, before, &packed, Activation::None)?;
                inner = activations::slopes(gpu, grad, &plain, activation)?;
                &inner
            }
        };
        let out = gpu.unwritten(len)?;
        let few = if self.taps <= 4 { 4 } else { 8 };
        gpu.kernel(KERNELS, &format!("short_conv_to_input_{few}"))?
            .array(&out)
            .array(grad)
            .array(&self.weight)
            .array(&packed.tiles)
            .array(&packed.segments)
            .int(packed.tile_count())
            .int(packed.longest())
            .int(self.taps)
            .int(self.channels)
            .int(self.reversed.into())
            .blocks(self.blocks(&packed), THREADS, 0)?;
        let taps = wanted[0].then(|| {
            let parts = packed.tile_count().min(PARTS);
            let sums = gpu.unwritten(parts * self.weight.len())?;
            let together = match self.taps {
                0..=4 => 4,
                5..=8 => 8,
                _ => 16,
            };
            let warps = parts * self.channels.div_ceil(32) * self.taps.div_ceil(together);
            gpu.kernel(KERNELS, &format!("short_conv_to_taps_{together}"))?
                .array(&sums)
                .array(grad)
                .array(x)
                .array(&before.rows)
                .array(&packed.tiles)
                .array(&packed.segments)
                .int(packed.tile_count())
                .int(parts)
                .int(self.taps)
                .int(self.channels)
                .int(self.reversed.into())
                .blocks(warps.div_ceil(WARPS), THREADS, 0)?;
            sums::column_sums(gpu, &sums, self.weight.len())
        });
        let bias = wanted[1].then(|| sums::column_sums(gpu, grad, self.channels));
        Ok([Some(out), taps.transpose()?, bias.transpose()?])
    }
}
