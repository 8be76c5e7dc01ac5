//! The selective scan of Mamba in three passes over tiles of rows: each tile's own final state,
//! the states between tiles one after the other, and the outputs.
//!
//! The first and the last pass compute the time steps rather than write them to memory. With
//! one thread a channel, its N states and the weights of its time step stay in registers.

mod backward;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::packed::Packed;
use crate::ops::cuda::{Element, Floats, Gpu, Operand, Saved, Source, Stored, blas, expect_len};
use crate::sequence::Segment;

use cudarc::driver::CudaSlice;
use std::sync::Arc;

pub(in crate::ops) const KERNELS: Source =
    Source::new("selective_scan/kernel.cu", include_str!("../kernel.cu"));

/// As in the kernel.
const THREADS: usize = 128;
/// Of one channel, in the registers of one thread.
const STATES: usize = 64;
/// Weights of a time step that fit beside them.
const RANK: usize = 32;

/// `h_t = exp(δ_t A) h_{t−1} + δ_t u_t B_t`, `y_t = h_t · C_t + D u_t`, `δ = softplus(W_δ low + b_δ)`.
#[derive(Debug)]
pub struct SelectiveScan {
    gpu: Arc<Gpu>,
    decay: CudaSlice<f32>,       // (N padded, I): A · log2 e
    skip: CudaSlice<f32>,        // (I)
    step_weight: CudaSlice<f32>, // (R, I) in registers, else (I, R)
    step_bias: CudaSlice<f32>,   // (I)
    channels: usize,
    states: usize,
    padded: usize,
    rank: usize,
    reversed: bool,
}

/// The hidden states h of each lane's unfinished sequence: (lanes, N padded, I).
#[derive(Debug)]
pub struct ScanState {
    lanes: usize,
    values: CudaSlice<f32>,
}

/// What a scan reads: the columns of `projected` are the low-rank time step, B and C.
#[derive(Clone, Copy, Debug)]
pub struct ScanInputs<'a> {
    /// (T, I).
    pub u: Floats<'a>,
    /// (T, R + 2N).
    pub projected: &'a CudaSlice<f32>,
    /// (T, I).
    pub added: Option<&'a CudaSlice<f32>>,
    /// (T, I), of the type that u has.
    pub gate: Option<Floats<'a>>,
}

/// The hidden states before each tile of a step: (tiles, N padded, I).
#[derive(Debug)]
pub struct ScanStarts(CudaSlice<f32>);

/// What the kernels share, and the arrays that live as long as they run.
struct Work {
    packed: Arc<Packed>,
    /// The time steps before bias and softplus, if they are not computed in registers; tiles' sums.
    _arrays: (Option<CudaSlice<f32>>, CudaSlice<f32>),
    pointers: [u64; 14],
    gradients: bool,
    /// Whether u and the gate are bf16.
    rounded: bool,
}

/// Places in [`Work::pointers`].
const HIDDEN: usize = 9;
const ENDS: usize = 10;

impl SelectiveScan {
    /// `a_log` (I, N) with `A = −exp(a_log)`, `skip` (I), `step_weight` (I, R), `step_bias` (I).
    /// `reversed` scans each segment from its last row to its first.
    ///
    /// # Errors
    /// Of kind usage for more than 64 states a channel.
    pub fn new(
        gpu: &Arc<Gpu>,
        a_log: &[f32],
        skip: &[f32],
        step_weight: &[f32],
        step_bias: &[f32],
        reversed: bool,
    ) -> Result<Self> {
        let channels = skip.len();
        let (states, rank) = match channels {
            0 => (0, 0),
            _ => (a_log.len() / channels, step_weight.len() / channels),
        };
        if states == 0
            || rank == 0
            || a_log.len() != channels * states
            || step_weight.len() != channels * rank
            || step_bias.len() != channels
        {
            return Err(Error::new(
                Kind::Internal,
                "scan parameters of other shapes",
            ));
        }
        let padded = states.next_multiple_of(4);
        if padded > STATES {
            return Err(Error::usage(format!(
                "{states} states a channel: scans on the GPU have {STATES} at most"
            ))
            .todo("run with --device cpu"));
        }
        let mut decay = vec![0f32; padded * channels];
        for (c, row) in a_log.chunks_exact(states).enumerate() {
            for (n, &a) in row.iter().enumerate() {
                let rate = -f64::from(a).exp() * std::f64::consts::LOG2_E;
                decay[n * channels + c] = rate as f32;
            }
        }
        let mut scan = Self {
            gpu: Arc::clone(gpu),
            decay: gpu.upload(&decay)?,
            skip: gpu.upload(skip)?,
            step_weight: gpu.upload(step_weight)?,
            step_bias: gpu.upload(step_bias)?,
            channels,
            states,
            padded,
            rank,
            reversed,
        };
        if scan.in_registers() {
            let transposed = (0..rank).flat_map(|r| step_weight.iter().skip(r).step_by(rank));
            let transposed: Vec<f32> = transposed.copied().collect();
            scan.step_weight = gpu.upload(&transposed)?;
        }
        Ok(scan)
    }

    /// Whether the kernel computes the time steps itself, rather than a product before it.
    fn in_registers(&self) -> bool {
        self.rank <= RANK && self.rank.is_multiple_of(4) && self.padded <= 16
    }

    /// Zeros for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Result<ScanState> {
        Ok(ScanState {
            lanes,
            values: self.gpu.zeros(lanes * self.padded * self.channels)?,
        })
    }

    /// `(y + added) · silu(gate)`: (T, I), where those two are given; and what the gradients need.
    pub fn forward<O: Element>(
        &self,
        io: &ScanInputs,
        hidden: &mut ScanState,
        segments: &[Segment],
    ) -> Result<(CudaSlice<O>, ScanStarts)> {
        let gpu = &*self.gpu;
        let mut work = self.work(io, segments, false)?;
        let packed = &work.packed;
        packed.expect_lanes(hidden.lanes)?;
        let values = self.padded * self.channels;
        let ends: CudaSlice<f32> = gpu.unwritten(packed.tile_count() * values)?;
        work.pointers[HIDDEN] = gpu.address(&hidden.values);
        work.pointers[ENDS] = gpu.address(&ends);
        if packed.tile_count() > segments.len() {
            self.launch(&work, "scan_ends")?
                .blocks(self.blocks(packed), THREADS, 0)?;
        }
        self.carry(&work, self.reversed)?;
        let out = gpu.unwritten(packed.rows() * self.channels)?;
        self.launch(&work, &format!("scan_{}", O::NAME))?
            .array(&out)
            .blocks(self.blocks(packed), THREADS, 0)?;
        Ok((out, ScanStarts(ends)))
    }

    /// What the passes have in common, once everything is known to be of one size.
    fn work(&self, io: &ScanInputs, segments: &[Segment], gradients: bool) -> Result<Work> {
        let gpu = &*self.gpu;
        let packed = gpu.pack(segments)?;
        let (rows, width) = (packed.rows(), self.rank + 2 * self.states);
        let added = io.added.map(Floats::from);
        for values in [Some(io.u), added, io.gate].into_iter().flatten() {
            values.expect_len("scan", rows * self.channels)?;
        }
        let rounded = matches!(io.u, Floats::Bf16(_));
        let alike = |gate: Floats| gate.name() == io.u.name();
        if !io.gate.is_none_or(alike) || (gradients && rounded) {
            let what = "a scan of other types than its kernels take";
            return Err(Error::new(Kind::Internal, what));
        }
        expect_len("scan projections", io.projected, rows * width)?;
        let step = if self.in_registers() {
            None
        } else {
            let step: CudaSlice<f32> = gpu.unwritten(rows * self.channels)?;
            blas::product(
                gpu,
                Operand::new(gpu, &step, 0, self.channels),
                Operand::new(gpu, io.projected, 0, width),
                Operand::new(gpu, &self.step_weight, 0, self.rank),
                [rows, self.rank, self.channels],
            )?;
            Some(step)
        };
        let sums: CudaSlice<f32> = gpu.unwritten(packed.tile_count() * self.channels)?;
        let address = |values: Option<&CudaSlice<f32>>| values.map_or(0, |x| gpu.address(x));
        let pointers = [
            io.u.address(gpu),
            gpu.address(io.projected),
            address(step.as_ref()),
            gpu.address(&self.step_weight),
            gpu.address(&self.step_bias),
            gpu.address(&self.decay),
            gpu.address(&self.skip),
            address(io.added),
            io.gate.map_or(0, |gate| gate.address(gpu)),
            0,
            0,
            gpu.address(&sums),
            gpu.address(&packed.tiles),
            gpu.address(&packed.segments),
        ];
        Ok(Work {
            packed,
            _arrays: (step, sums),
            pointers,
            gradients,
            rounded,
        })
    }

    /// From the final states of tiles, their initial ones.
    fn carry(&self, work: &Work, reversed: bool) -> Result<()> {
        let values = self.padded * self.channels;
        let blocks = work.packed.source().len() * values.div_ceil(THREADS);
        let launch = self.launch_in(work, reversed, "scan_carry")?;
        launch.blocks(blocks, THREADS, 0)
    }

    fn launch(&self, work: &Work, name: &str) -> Result<Launch<'_>> {
        self.launch_in(work, self.reversed, name)
    }

    fn launch_in(&self, work: &Work, reversed: bool, name: &str) -> Result<Launch<'_>> {
        let ints = [self.channels, self.rank, self.states, reversed.into()];
        let launch =
            self.gpu
                .kernel_for(KERNELS, &self.sizes(work.gradients, work.rounded), name)?;
        Ok(launch.structure(&work.pointers, &ints))
    }

    /// What the kernels are compiled for.
    fn sizes(&self, gradients: bool, rounded: bool) -> [String; 4] {
        let rank = if self.in_registers() { self.rank } else { 0 };
        [
            format!("STATES={}", self.padded),
            format!("RANK={rank}"),
            format!("GRADIENTS={}", u8::from(gradients)),
            format!("ROUNDED={}", u8::from(rounded)),
        ]
    }

    fn blocks(&self, packed: &Packed) -> usize {
        packed.tile_count() * self.channels.div_ceil(THREADS)
    }
}

impl ScanState {
    /// A copy that runs on by itself.
    pub fn fork(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            lanes: self.lanes,
            values: gpu.copy(&self.values)?,
        })
    }
}

impl Stored for ScanState {
    fn store(&self) -> Result<Saved> {
        Saved::of_lanes(self.lanes, &self.values)
    }

    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self> {
        let (lanes, values) = saved.to_lanes(gpu)?;
        Ok(Self { lanes, values })
    }
}
