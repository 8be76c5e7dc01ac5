//! Filters that are sums of exponentials, and their gradients, in three passes over tiles of rows:
//! each tile's own final states, the states between tiles one after the other, and the outputs.
//!
//! One thread has up to sixteen numbers of one channel's state in registers; a channel with more
//! has several threads of a warp.

#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::ops::beside::{add_beside, beside};
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::packed::Packed;
use crate::ops::cuda::{Gpu, Saved, Source, Stored, expect_len};
use crate::ops::sums::cuda::column_sums;
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use std::sync::Arc;

pub(in crate::ops) const KERNELS: Source =
    Source::new("modal/kernel.cu", include_str!("../kernel.cu"));

/// As in the kernel.
const THREADS: usize = 128;
/// Numbers of a thread's state.
const NUMBERS: usize = 16;

/// `s_t = λ s_{t−1} + g_t`, `y_t = Re Σ_n R_n s_t + D g_t`
#[derive(Clone, Copy, Debug)]
pub struct Modal<'a> {
    /// λ: (C, N, parts).
    pub poles: &'a CudaSlice<f32>,
    /// R: (C, N, parts).
    pub residues: &'a CudaSlice<f32>,
    /// D: (C).
    pub skip: Option<&'a CudaSlice<f32>>,
    /// C.
    pub channels: usize,
    /// N.
    pub modes: usize,
    /// 2 with complex poles and residues, 1 with real ones.
    pub parts: usize,
}

/// The values s of each lane's unfinished sequence: (lanes, N, parts, C).
#[derive(Debug)]
pub struct ModalState {
    lanes: usize,
    values: CudaSlice<f32>,
}

/// Gradients to what a [`Modal`] is made of and took.
#[derive(Debug)]
pub struct ModalSlopes {
    /// (C, N, parts).
    pub poles: CudaSlice<f32>,
    /// (C, N, parts).
    pub residues: CudaSlice<f32>,
    /// (C).
    pub skip: CudaSlice<f32>,
}

/// What a launch reads and writes beside the parameters; 0 for what is not there.
#[derive(Clone, Copy, Default)]
struct Places {
    g: u64,
    slope: u64,
    state: u64,
    ends: u64,
    sums: [u64; 3],
    reversed: bool,
}

impl Modal<'_> {
    /// Zeros for `lanes` sequences.
    pub fn start(&self, gpu: &Gpu, lanes: usize) -> Result<ModalState> {
        Ok(ModalState {
            lanes,
            values: gpu.zeros(lanes * self.len())?,
        })
    }

    /// (T, C) to (T, C).
    pub fn forward(
        &self,
        gpu: &Gpu,
        g: &CudaSlice<f32>,
        state: &mut ModalState,
        segments: &[Segment],
    ) -> Result<CudaSlice<f32>> {
        gpu.pack(segments)?.expect_lanes(state.lanes)?;
        expect_len("state", &state.values, (state.lanes * self.len()).max(1))?;
        self.run(gpu, g, Some(&state.values), segments)
    }

    /// The same of a step with branches off segments that do not end.
    pub fn forward_branched(
        &self,
        gpu: &Gpu,
        g: &CudaSlice<f32>,
        state: &mut ModalState,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<CudaSlice<f32>> {
        if branches.is_empty() {
            return self.forward(gpu, g, state, segments);
        }
        let rows = gpu.pack_branched(segments, branches)?.rows();
        expect_len("modal filter", g, rows * self.channels)?;
        let (rooms, branches) = beside(segments, branches)?;
        let differences = gpu.copy(g)?;
        add_beside(gpu, &differences, None, &branches, self.channels, -1.0)?;
        let whole = branches.iter().map(|branch| Segment {
            lane: 0,
            len: branch.len,
            starts: true,
            ends: true,
        });
        let all: Vec<_> = segments.iter().copied().chain(whole).collect();
        let out = self.forward(gpu, &differences, state, &all)?;
        let owed = self.owed(gpu, state, segments, &rooms)?;
        add_beside(gpu, &out, owed.as_ref(), &branches, self.channels, 1.0)?;
        Ok(out)
    }

    /// What sequences owe to so many rows behind a step that left this state; none to none.
    fn owed(
        &self,
        gpu: &Gpu,
        state: &ModalState,
        segments: &[Segment],
        rooms: &[usize],
    ) -> Result<Option<CudaSlice<f32>>> {
        let behind = segments.iter().zip(rooms).filter(|(_, room)| **room > 0);
        let behind: Vec<_> = behind
            .map(|(segment, room)| Segment {
                len: *room,
                starts: false,
                ..*segment
            })
            .collect();
        if behind.iter().any(|segment| segment.ends) {
            let what = "a branch beyond the end of a sequence";
            return Err(Error::new(Kind::Internal, what));
        }
        if behind.is_empty() {
            return Ok(None);
        }
        let zeros = gpu.zeros(rooms.iter().sum::<usize>() * self.channels)?;
        let mut fork = state.fork(gpu)?;
        self.forward(gpu, &zeros, &mut fork, &behind).map(Some)
    }

    /// The gradient to g, (T, C), of the gradient to y: to the rows of this step alone.
    pub fn back(
        &self,
        gpu: &Gpu,
        slope: &CudaSlice<f32>,
        segments: &[Segment],
    ) -> Result<CudaSlice<f32>> {
        self.run(gpu, slope, None, segments)
    }

    /// With a state the sequences as they go on; without, each segment from its last row to its
    /// first, from zeros.
    fn run(
        &self,
        gpu: &Gpu,
        g: &CudaSlice<f32>,
        state: Option<&CudaSlice<f32>>,
        segments: &[Segment],
    ) -> Result<CudaSlice<f32>> {
        let packed = self.pack(gpu, g, segments)?;
        let ends: CudaSlice<f32> = gpu.unwritten(packed.tile_count() * self.len())?;
        let places = Places {
            g: gpu.address(g),
            state: state.map_or(0, |state| gpu.address(state)),
            ends: gpu.address(&ends),
            reversed: state.is_none(),
            ..Places::default()
        };
        self.passes(gpu, &packed, places, ["modal_ends", "modal_carry"])?;
        let out = gpu.unwritten(g.len())?;
        self.kernel(gpu, &packed, places, "modal_outputs")?
            .array(&out)
            .blocks(self.blocks(&packed), THREADS, 0)?;
        Ok(out)
    }

    /// The gradients to the parameters, of g and the gradient to y, both (T, C). `state` is what
    /// the step began with.
    pub fn slopes(
        &self,
        gpu: &Gpu,
        g: &CudaSlice<f32>,
        slope: &CudaSlice<f32>,
        state: &ModalState,
        segments: &[Segment],
    ) -> Result<ModalSlopes> {
        let packed = self.pack(gpu, g, segments)?;
        packed.expect_lanes(state.lanes)?;
        expect_len("gradient of a modal filter", slope, g.len())?;
        let tiles = packed.tile_count();
        let ends: CudaSlice<f32> = gpu.unwritten(2 * tiles * self.len())?;
        let widths = [self.len(), self.len(), self.channels];
        let [poles, residues, skip] = widths.map(|width| gpu.unwritten::<f32>(tiles * width));
        let sums = [poles?, residues?, skip?];
        let places = Places {
            g: gpu.address(g),
            slope: gpu.address(slope),
            state: gpu.address(&state.values),
            ends: gpu.address(&ends),
            sums: sums.each_ref().map(|sums| gpu.address(sums)),
            reversed: false,
        };
        self.passes(
            gpu,
            &packed,
            places,
            ["modal_slope_ends", "modal_slope_carry"],
        )?;
        self.kernel(gpu, &packed, places, "modal_slopes")?.blocks(
            self.blocks(&packed),
            THREADS,
            0,
        )?;
        Ok(ModalSlopes {
            poles: column_sums(gpu, &sums[0], widths[0])?,
            residues: column_sums(gpu, &sums[1], widths[1])?,
            skip: column_sums(gpu, &sums[2], widths[2])?,
        })
    }

    /// The tiles, once everything is known to be of one size.
    fn pack(&self, gpu: &Gpu, g: &CudaSlice<f32>, segments: &[Segment]) -> Result<Arc<Packed>> {
        let packed = gpu.pack(segments)?;
        expect_len("modal filter", g, packed.rows() * self.channels)?;
        expect_len("poles", self.poles, self.len())?;
        expect_len("residues", self.residues, self.len())?;
        if let Some(skip) = self.skip {
            expect_len("skip", skip, self.channels)?;
        }
        if self.len() == 0 || !matches!(self.parts, 1 | 2) {
            return Err(Error::new(
                Kind::Internal,
                "a modal filter of another shape",
            ));
        }
        if self.groups() > 32 {
            let most = 32 * NUMBERS / self.parts;
            let what = format!("{} modes a channel: on the GPU {most} at most", self.modes);
            return Err(Error::usage(what).todo("run with --device cpu"));
        }
        Ok(packed)
    }

    /// The first two passes.
    fn passes(&self, gpu: &Gpu, packed: &Packed, places: Places, names: [&str; 2]) -> Result<()> {
        let segments = packed.source().len();
        if packed.tile_count() > segments {
            self.kernel(gpu, packed, places, names[0])?
                .blocks(self.blocks(packed), THREADS, 0)?;
        }
        let modes = self.channels * self.modes;
        self.kernel(gpu, packed, places, names[1])?.blocks(
            segments * modes.div_ceil(THREADS),
            THREADS,
            0,
        )
    }

    fn kernel<'a>(
        &self,
        gpu: &'a Gpu,
        packed: &Packed,
        places: Places,
        name: &str,
    ) -> Result<Launch<'a>> {
        let [poles, residues, skip] = places.sums;
        let pointers = [
            places.g,
            places.slope,
            gpu.address(self.poles),
            gpu.address(self.residues),
            self.skip.map_or(0, |skip| gpu.address(skip)),
            places.state,
            places.ends,
            poles,
            residues,
            skip,
            gpu.address(&packed.tiles),
            gpu.address(&packed.segments),
        ];
        let ints = [self.channels, self.modes, places.reversed.into()];
        let launch = gpu.kernel_for(KERNELS, &self.sizes(), name)?;
        Ok(launch.structure(&pointers, &ints))
    }

    /// What the kernels are compiled for.
    fn sizes(&self) -> [String; 3] {
        [
            format!("PARTS={}", self.parts),
            format!("MODES={}", self.modes.min(NUMBERS / self.parts)),
            format!("GROUPS={}", self.groups()),
        ]
    }

    /// Threads of a channel.
    fn groups(&self) -> usize {
        let most = NUMBERS / self.parts;
        self.modes.div_ceil(most).next_power_of_two()
    }

    fn blocks(&self, packed: &Packed) -> usize {
        packed.tile_count() * (self.channels * self.groups()).div_ceil(THREADS)
    }

    /// Numbers of a lane's state, of poles, and of residues.
    fn len(&self) -> usize {
        self.channels * self.modes * self.parts
    }
}

impl ModalState {
    /// A copy that runs on by itself.
    pub fn fork(&self, gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            lanes: self.lanes,
            values: gpu.copy(&self.values)?,
        })
    }
}

impl Stored for ModalState {
    fn store(&self) -> Result<Saved> {
        Saved::of_lanes(self.lanes, &self.values)
    }

    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self> {
        let (lanes, values) = saved.to_lanes(gpu)?;
        Ok(Self { lanes, values })
    }
}
