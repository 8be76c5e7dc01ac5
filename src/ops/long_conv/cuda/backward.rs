//! Gradients of the gated long convolution, by FFT: see the file of its CPU form.
//!
//! A piece of a segment is one FFT of v and one of d, which begins with the piece and goes on as
//! far as the filter reaches: so each product of a v and a later d is counted once.

use super::{Batches, KERNELS, Layout, LongConv, Past, Piece, SIDE, WIDE};
use crate::error::Result;
use crate::ops::cuda::expect_len;
use crate::ops::cuda::fft::{Direction, fast, stride};
use crate::ops::cuda::launch::THREADS;
use crate::ops::sums::cuda::column_sums;
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;

/// What a convolution read and gave.
#[derive(Clone, Copy)]
pub struct Convolved<'a> {
    /// (T, 3C).
    pub x: &'a CudaSlice<f32>,
    /// What was multiplied with x0: (T, C).
    pub sums: &'a CudaSlice<f32>,
    /// The filters, as far as a segment reaches: (C, n).
    pub taps: &'a CudaSlice<f32>,
    /// What the step began with, if the taps' gradient is wanted.
    pub before: Option<&'a Past>,
    /// Inputs after which what was carried in is no longer counted: a sequence's past since the
    /// last multiple of it is.
    pub turn: usize,
}

/// Gradients to what a [`LongConv`] is made of and took.
pub struct ConvSlopes {
    /// (T, 3C).
    pub x: CudaSlice<f32>,
    /// (C, n), if it is wanted.
    pub taps: Option<CudaSlice<f32>>,
    /// (C).
    pub bias: CudaSlice<f32>,
}

impl LongConv {
    /// From the gradient to the output, (T, C). What a segment carried in is a constant, which the
    /// taps' gradient counts.
    pub fn backward(
        &self,
        grad: &CudaSlice<f32>,
        io: &Convolved,
        segments: &[Segment],
    ) -> Result<ConvSlopes> {
        let gpu = &*self.gpu;
        let rows = segments.iter().map(|segment| segment.len).sum::<usize>();
        expect_len("long convolution", io.x, rows * 3 * self.channels)?;
        expect_len("sums", io.sums, rows * self.channels)?;
        expect_len("gradient", grad, rows * self.channels)?;
        let reach = io.taps.len() / self.channels.max(1);
        expect_len("taps", io.taps, reach * self.channels)?;
        let (out, products) = (gpu.unwritten(io.x.len())?, gpu.unwritten(grad.len())?);
        let to_taps = io.before.map(|_| gpu.zeros(io.taps.len())).transpose()?;
        let outs = (&out, &products, to_taps.as_ref());
        for ((taps, size), pieces) in self.pieces_back(io, segments) {
            self.correlate(outs, grad, io, [taps.min(reach), reach, size], &pieces)?;
        }
        Ok(ConvSlopes {
            x: out,
            taps: to_taps,
            bias: column_sums(gpu, &products, self.channels)?,
        })
    }

    fn pieces_back(&self, io: &Convolved, segments: &[Segment]) -> Batches {
        let mut batches = Batches::new();
        let (most, step) = self.largest();
        let mut row = 0;
        for segment in segments {
            let lane = io.before.filter(|_| !segment.starts);
            let lane = lane.and_then(|past| past.lanes.get(segment.lane));
            let position = lane.map_or(0, |lane| lane.position);
            let past = (position % io.turn).min(self.length - 1);
            let mut add = |done: usize, len: usize, past: usize, ahead: usize, key| {
                let ring = lane.and_then(|lane| lane.ring.as_ref());
                let capacity = lane.map_or(0, |lane| lane.capacity);
                batches.entry(key).or_default().push(Piece {
                    ring: ring.map_or(0, |ring| self.gpu.address(ring)),
                    row: row + done,
                    len,
                    past,
                    inside: 0,
                    slot: (position - past) % capacity.max(1),
                    capacity,
                    ahead,
                    zeros: 0,
                    sums: 0,
                    begin: row,
                    lane: None,
                    blank: 0,
                });
            };
            if past + segment.len <= step {
                // As in the forward pass.
                let len = fast(segment.len);
                let taps = self.length.min(fast(past + len));
                add(0, segment.len, past, 0, (taps, fast(len + taps - 1)));
            } else {
                let (mut done, mut past) = (0, past);
                while done < segment.len {
                    let len = (step - past).min(segment.len - done);
                    let ahead = (self.length - 1).min(segment.len - done - len);
                    add(done, len, past, ahead, (self.length, most));
                    (done, past) = (done + len, 0);
                }
            }
            row += segment.len;
        }
        batches
    }

    /// Pieces of one size, through batches of FFTs: `taps` of the `reach` taps that are there.
    fn correlate(
        &self,
        (out, products, to_taps): (&CudaSlice<f32>, &CudaSlice<f32>, Option<&CudaSlice<f32>>),
        grad: &CudaSlice<f32>,
        io: &Convolved,
        [taps, reach, size]: [usize; 3],
        pieces: &[Piece],
    ) -> Result<()> {
        let gpu = &*self.gpu;
        // Of v and of d.
        let signals = (self.workspace / (2 * size * size_of::<f32>())).max(1);
        let group = self.channels.min(signals);
        let together = signals / group;
        let (scale, bins) = (1.0 / size as f32, stride(size) / 2);
        for first in (0..self.channels).step_by(group) {
            let count = group.min(self.channels - first);
            let channels = first..first + count;
            let at = (first * reach * size_of::<f32>()) as u64;
            let mut filter = gpu.unwritten(count * stride(size))?;
            gpu.kernel(KERNELS, "place_taps")?
                .array(&filter)
                .address(gpu.address(io.taps) + at)
                .long(taps)
                .long(reach)
                .long(stride(size))
                .blocks(count * stride(size).div_ceil(THREADS), THREADS, 0)?;
            gpu.fft(&mut filter, size, count, Direction::Forward)?;
            let sums = to_taps.map(|_| gpu.zeros::<f32>(count * stride(size)));
            let mut sums = sums.transpose()?;
            let mut rest = pieces;
            while !rest.is_empty() {
                let batch = 1 << rest.len().min(together).ilog2();
                let (now, later) = rest.split_at(batch);
                rest = later;
                let descriptions = self.describe(now.iter().map(Piece::words))?;
                let load = |kernel: &str| -> Result<CudaSlice<f32>> {
                    let io = (io.x.into(), Some(grad));
                    let (channels, all) = (channels.clone(), Layout::whole(size));
                    let mut signals = self.load(kernel, io, &descriptions, batch, channels, all)?;
                    gpu.fft(&mut signals, size, batch * count, Direction::Forward)?;
                    Ok(signals)
                };
                let mut slopes = load("load_slopes")?;
                let inputs = sums.as_ref().map(|_| load("load_inputs")).transpose()?;
                gpu.kernel(KERNELS, "correlate")?
                    .array(&slopes)
                    .optional(inputs.as_ref())
                    .optional(sums.as_ref())
                    .array(&filter)
                    .int(batch)
                    .long(count * bins)
                    .float(scale)
                    .over(count * bins)?;
                drop(inputs);
                gpu.fft(&mut slopes, size, batch * count, Direction::Inverse)?;
                let longest = now.iter().map(|piece| piece.len).max().unwrap_or(0);
                let blocks = longest.div_ceil(SIDE) * count.div_ceil(WIDE) * batch;
                gpu.kernel(KERNELS, "store_slopes")?
                    .array(out)
                    .array(products)
                    .array(&slopes)
                    .array(io.x)
                    .array(grad)
                    .array(io.sums)
                    .array(&self.bias)
                    .array(&descriptions)
                    .int(self.channels)
                    .int(first)
                    .int(count)
                    .long(longest)
                    .long(stride(size))
                    .blocks(blocks, THREADS, 0)?;
            }
            if let (Some(to_taps), Some(sums)) = (to_taps, &mut sums) {
                gpu.fft(sums, size, count, Direction::Inverse)?;
                gpu.kernel(KERNELS, "add_taps")?
                    .address(gpu.address(to_taps) + at)
                    .array(sums)
                    .long(taps)
                    .long(reach)
                    .long(stride(size))
                    .float(scale)
                    .blocks(count * taps.div_ceil(THREADS), THREADS, 0)?;
            }
        }
        Ok(())
    }
}
