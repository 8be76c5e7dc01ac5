//! The scan of Mamba-2 in chunks, as matrix products of bf16 numbers that sum in f32.
//!
//! Chunks are Q = 128 rows of one segment, filled up with zeros, in bands of so many at a time.
//! Time steps, decays and the state that goes from chunk to chunk are f32. All passes are bound by
//! memory: with 8 heads of 64 channels and 128 states, 24 KB a row, of which 8 KB are the left
//! factors, written and read, and 5 KB what the scan is given, in f32, and gives. A row takes
//! 12.8 ns on an H100 (8.6 would be the least at 2.8 TB/s), where the recurrence takes 30.9 for its
//! arithmetic.
//! Shorter chunks have more states, longer ones larger factors: 114 rows would be the least.

use super::{CHUNK_KERNELS, Ssd, SsdState, THREADS};
use crate::error::Result;
use crate::ops::cuda::blas::{self, Form};
use crate::ops::cuda::packed::{CHUNK, Packed};
use crate::ops::cuda::{Element, Floats, Gpu, Operand};
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;
use half::bf16;

/// Columns of B and C of a block, as in the kernel.
const SPAN: usize = 64;
/// Rows of the left factors of a block, as in the kernel.
const ROWS: usize = 16;
/// Threads of a block, as in the kernel.
const BLOCK: usize = 256;

/// Some chunks in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Band {
    first: usize,
    count: usize,
    row: usize,
    rows: usize,
    /// The first segment, and how many have chunks here.
    segment: usize,
    segments: usize,
}

/// What lives as long as a band, for the largest one.
struct Space {
    sums: CudaSlice<f32>,    // (chunks, H, Q)
    late: CudaSlice<f32>,    // (chunks, H, Q)
    bc: CudaSlice<bf16>,     // (chunks, Q, 2GN)
    scaled: CudaSlice<bf16>, // (chunks, Q, I)
    scores: CudaSlice<f32>,  // (chunks, G, Q, Q)
    left: CudaSlice<bf16>,   // (chunks, H, Q, Q + N)
    right: CudaSlice<bf16>,  // (chunks, Q + N, I)
}

impl Ssd {
    /// Whether products take these sizes, and chunks are half full at least.
    pub(super) fn fits_chunks(&self, packed: &Packed) -> bool {
        let sizes = self.sizes;
        // Rows of 16 bytes and pairs of four values.
        let aligned = [sizes.channels, sizes.states].iter().all(|n| n % 8 == 0);
        let chunks = packed.source().iter().map(|s| s.len.div_ceil(CHUNK));
        let padded = chunks.sum::<usize>() * CHUNK;
        aligned && sizes.heads.is_multiple_of(sizes.groups) && padded <= 2 * packed.rows()
    }

    /// As [`Ssd::forward`], which checks lengths, `most` chunks at a time.
    pub(super) fn forward_in_chunks(
        &self,
        (xbc, steps): (Floats, &CudaSlice<f32>),
        state: &SsdState,
        packed: &Packed,
        most: usize,
    ) -> Result<CudaSlice<f32>> {
        let (gpu, sizes) = (&*self.gpu, self.sizes);
        let inner = sizes.inner();
        let chunks = packed.chunks(gpu)?;
        let bands = bands(packed.source(), most.max(1));
        let space = Space::new(self, most.clamp(1, chunks.tile_count()))?;
        // One segment of a lane may read its state in the pass in which the next one writes it.
        let before = gpu.copy(&state.values)?;
        let carry = || gpu.unwritten::<f32>(inner * sizes.states);
        let (mut from, mut to) = (carry()?, carry()?);
        let out = gpu.unwritten(packed.rows() * inner)?;
        let longest = bands.iter().filter(|band| band.is_padded());
        let longest = longest.map(|band| band.count).max().unwrap_or(0);
        let filled_up: CudaSlice<f32> = gpu.unwritten(longest * CHUNK * inner)?;
        for band in bands {
            let arrays = [
                steps,
                &self.rate,
                &self.bias,
                &self.skip,
                &before,
                &state.values,
                &from,
                &to,
            ];
            let arrays = arrays.iter().map(|array| gpu.address(array));
            let tables = [gpu.address(&chunks.tiles), gpu.address(&chunks.segments)];
            let arrays = std::iter::once(xbc.address(gpu)).chain(arrays);
            let pointers: Vec<u64> = arrays.chain(space.addresses(gpu)).chain(tables).collect();
            let ints = [
                sizes.heads,
                sizes.channels,
                sizes.groups,
                sizes.states,
                self.padded(),
                band.first,
                band.count,
                band.segment,
            ];
            let kernel = |name: &str| {
                let launch = gpu.kernel(CHUNK_KERNELS, name)?;
                Ok::<_, crate::error::Error>(launch.structure(&pointers, &ints))
            };
            let parts = sizes.heads + (2 * sizes.groups * sizes.states).div_ceil(SPAN);
            kernel(&format!("chunk_inputs_{}", xbc.name()))?
                .float(self.limit.0)
                .float(self.limit.1)
                .blocks(band.count * parts, BLOCK, 0)?;
            space.scores_and_ends(self, band.count)?;
            kernel("chunk_weights")?.blocks(band.count * (CHUNK / ROWS), BLOCK, 0)?;
            let values = (inner * sizes.states).div_ceil(THREADS);
            kernel("chunk_carry")?.blocks(band.segments * values, THREADS, 0)?;
            if band.is_padded() {
                space.outputs(self, band.count, &filled_up, 0)?;
                kernel("chunk_rows")?
                    .array(&filled_up)
                    .array(&out)
                    .over(band.count * CHUNK * inner / 4)?;
            } else {
                space.outputs(self, band.count, &out, band.row)?;
            }
            std::mem::swap(&mut from, &mut to);
        }
        Ok(out)
    }
}

impl Space {
    fn new(scan: &Ssd, chunks: usize) -> Result<Self> {
        let (gpu, sizes) = (&*scan.gpu, scan.sizes);
        let (rows, inner, wide) = (chunks * CHUNK, sizes.inner(), CHUNK + sizes.states);
        Ok(Self {
            sums: gpu.unwritten(rows * sizes.heads)?,
            late: gpu.unwritten(rows * sizes.heads)?,
            bc: gpu.unwritten(rows * 2 * sizes.groups * sizes.states)?,
            scaled: gpu.unwritten(rows * inner)?,
            scores: gpu.unwritten(rows * sizes.groups * CHUNK)?,
            left: gpu.unwritten(rows * sizes.heads * wide)?,
            right: gpu.unwritten(chunks * wide * inner)?,
        })
    }

    /// In the kernel's order.
    fn addresses(&self, gpu: &Gpu) -> [u64; 7] {
        [
            gpu.address(&self.sums),
            gpu.address(&self.late),
            gpu.address(&self.bc),
            gpu.address(&self.scaled),
            gpu.address(&self.scores),
            gpu.address(&self.left),
            gpu.address(&self.right),
        ]
    }

    /// C Bᵀ of each chunk and group; and below X each chunk's own final states, (N, I).
    fn scores_and_ends(&self, scan: &Ssd, chunks: usize) -> Result<()> {
        let (gpu, sizes) = (&*scan.gpu, scan.sizes);
        let (states, groups, inner) = (sizes.states, sizes.groups, sizes.inner());
        let (both, columns) = (2 * groups * states, inner / groups);
        let at = |column| (Operand::new(gpu, &self.bc, column, both), CHUNK * both);
        for group in 0..groups {
            let (b, c) = (at(group * states), at((groups + group) * states));
            let from = group * CHUNK * CHUNK;
            let scores = matrix(gpu, &self.scores, from, CHUNK, groups * CHUNK * CHUNK);
            blas::batched(
                gpu,
                Form::Layer,
                scores,
                c,
                b,
                [CHUNK, states, CHUNK],
                chunks,
            )?;
            let first = group * columns;
            let scaled = matrix(gpu, &self.scaled, first, inner, CHUNK * inner);
            let step = (CHUNK + states) * inner;
            let ends = matrix(gpu, &self.right, CHUNK * inner + first, inner, step);
            let lens = [states, CHUNK, columns];
            blas::batched(gpu, Form::Turned, ends, b, scaled, lens, chunks)?;
        }
        Ok(())
    }

    /// y of all rows of a band, padding too, from row `row` of `out` on.
    fn outputs(&self, scan: &Ssd, chunks: usize, out: &CudaSlice<f32>, row: usize) -> Result<()> {
        let (gpu, sizes) = (&*scan.gpu, scan.sizes);
        let (inner, wide) = (sizes.inner(), CHUNK + sizes.states);
        for head in 0..sizes.heads {
            let first = head * sizes.channels;
            let from = head * CHUNK * wide;
            let left = matrix(gpu, &self.left, from, wide, sizes.heads * CHUNK * wide);
            let right = matrix(gpu, &self.right, first, inner, wide * inner);
            let y = matrix(gpu, out, row * inner + first, inner, CHUNK * inner);
            let lens = [CHUNK, wide, sizes.channels];
            blas::batched(gpu, Form::Plain, y, left, right, lens, chunks)?;
        }
        Ok(())
    }
}

/// Matrices of rows of `stride` values, `step` values from one to the next.
fn matrix<E: Element>(
    gpu: &Gpu,
    values: &CudaSlice<E>,
    from: usize,
    stride: usize,
    step: usize,
) -> (Operand, usize) {
    (Operand::new(gpu, values, from, stride), step)
}

impl Band {
    /// Whether any of its chunks is short: rows of a product are then not rows of the step.
    fn is_padded(&self) -> bool {
        self.rows < self.count * CHUNK
    }
}

/// The chunks of all segments, `most` in a band.
fn bands(segments: &[Segment], most: usize) -> Vec<Band> {
    let mut bands = Vec::new();
    let (mut band, mut row) = (Band::default(), 0);
    for (i, segment) in segments.iter().enumerate() {
        for done in (0..segment.len).step_by(CHUNK) {
            if band.count == most {
                bands.push(band);
                band = Band {
                    first: band.first + most,
                    row,
                    segment: i,
                    ..Band::default()
                };
            }
            let rows = CHUNK.min(segment.len - done);
            band.count += 1;
            band.rows += rows;
            band.segments = i + 1 - band.segment;
            row += rows;
        }
    }
    bands.push(band);
    bands
}
