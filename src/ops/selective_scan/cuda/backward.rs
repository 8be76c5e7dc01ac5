//! Gradients of the selective scan: the forward pass again, which leaves the states before each
//! block of rows, and a scan from the last row to the first.

use super::{ENDS, HIDDEN, KERNELS, ScanInputs, ScanStarts, SelectiveScan, THREADS, Work};
use crate::error::Result;
use crate::ops::cuda::blas::{self, Form};
use crate::ops::cuda::launch::Launch;
use crate::ops::cuda::{Operand, expect_len};
use crate::ops::linear::cuda::to_weight;
use crate::ops::sums::cuda::column_sums;
use crate::ops::tensor::cuda::{Columns, copy_columns};
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;

/// Rows between kept states, as in the kernel.
const BLOCK: usize = 8;

/// Gradients to what a [`SelectiveScan`] is made of and took.
#[derive(Debug)]
pub struct ScanSlopes {
    /// (T, I).
    pub u: CudaSlice<f32>,
    /// (T, R + 2N).
    pub projected: CudaSlice<f32>,
    /// (T, I); none where the gradient is that to the output.
    pub added: Option<CudaSlice<f32>>,
    /// (T, I), if there is a gate.
    pub gate: Option<CudaSlice<f32>>,
    /// (I, N).
    pub a_log: CudaSlice<f32>,
    /// (I).
    pub skip: CudaSlice<f32>,
    /// (I, R).
    pub step_weight: CudaSlice<f32>,
    /// (I).
    pub step_bias: CudaSlice<f32>,
}

impl SelectiveScan {
    /// From the gradient to the output, (T, I). What a segment carried in is a constant.
    pub fn backward(
        &self,
        grad: &CudaSlice<f32>,
        io: &ScanInputs,
        starts: &ScanStarts,
        segments: &[Segment],
    ) -> Result<ScanSlopes> {
        let gpu = &*self.gpu;
        let mut work = self.work(io, segments, true)?;
        let (rows, tiles) = (work.packed.rows(), work.packed.tile_count());
        let (len, values) = (rows * self.channels, self.padded * self.channels);
        expect_len("gradient of a scan", grad, len)?;
        expect_len("states of a scan", &starts.0, tiles * values)?;
        let new = |len: usize| gpu.unwritten::<f32>(len);
        let (step, u, to_step) = (new(len)?, new(len)?, new(len)?);
        let gated = || io.gate.map(|_| new(len)).transpose();
        let (inner, gate) = (gated()?, gated()?);
        let (before, later) = (new((rows / BLOCK + tiles) * values)?, new(tiles * values)?);
        let blocks = self.channels.div_ceil(THREADS);
        let sums = new(rows * blocks * 2 * self.states)?;
        let (rates, skips) = (
            new(tiles * self.channels * self.states)?,
            new(tiles * self.channels)?,
        );
        let address = |x: &Option<CudaSlice<f32>>| x.as_ref().map_or(0, |x| gpu.address(x));
        let pointers = [
            gpu.address(grad),
            gpu.address(&step),
            address(&inner),
            address(&gate),
            gpu.address(&before),
            gpu.address(&later),
            gpu.address(&u),
            gpu.address(&to_step),
            gpu.address(&sums),
            gpu.address(&rates),
            gpu.address(&skips),
        ];
        let launch = |work: &Work, name: &str| -> Result<Launch> {
            Ok(self.launch(work, name)?.structure(&pointers, &[]))
        };
        let all = self.blocks(&work.packed);
        work.pointers[ENDS] = gpu.address(&starts.0);
        launch(&work, "scan_again")?.blocks(all, THREADS, 0)?;
        if tiles > segments.len() {
            launch(&work, "scan_slope_ends")?.blocks(all, THREADS, 0)?;
        }
        work.pointers[HIDDEN] = 0;
        work.pointers[ENDS] = gpu.address(&later);
        self.carry(&work, !self.reversed)?;
        launch(&work, "scan_slopes")?.blocks(all, THREADS, 0)?;
        let (projected, step_weight) = self.through_steps(&to_step, io, &sums, rows)?;
        Ok(ScanSlopes {
            u,
            projected,
            added: inner,
            gate,
            a_log: column_sums(gpu, &rates, self.channels * self.states)?,
            skip: column_sums(gpu, &skips, self.channels)?,
            step_weight,
            step_bias: column_sums(gpu, &to_step, self.channels)?,
        })
    }

    /// The gradients to the projections (T, R + 2N) and to the time steps' weight (I, R), from that
    /// to the time steps before bias and softplus (T, I), and the parts of those to B and C.
    fn through_steps(
        &self,
        to_step: &CudaSlice<f32>,
        io: &ScanInputs,
        sums: &CudaSlice<f32>,
        rows: usize,
    ) -> Result<(CudaSlice<f32>, CudaSlice<f32>)> {
        let gpu = &*self.gpu;
        let (channels, rank) = (self.channels, self.rank);
        let width = rank + 2 * self.states;
        let out = gpu.unwritten(rows * width)?;
        // In registers the weight lies turned.
        let (form, stride) = if self.in_registers() {
            (Form::Layer, channels)
        } else {
            (Form::Plain, rank)
        };
        blas::batched(
            gpu,
            form,
            (Operand::new(gpu, &out, 0, width), 0),
            (Operand::new(gpu, to_step, 0, channels), 0),
            (Operand::new(gpu, &self.step_weight, 0, stride), 0),
            [rows, channels, rank],
            1,
        )?;
        gpu.kernel_for(KERNELS, &self.sizes(true, false), "scan_projections")?
            .array(&out)
            .array(sums)
            .long(rows)
            .int(rank)
            .int(self.states)
            .int(channels.div_ceil(THREADS))
            .over(rows * 2 * self.states)?;
        let low = gpu.unwritten(rows * rank)?;
        let columns = |stride| Columns { from: 0, stride };
        copy_columns(
            gpu,
            (&low, columns(rank)),
            (io.projected, columns(width)),
            [rows, rank],
        )?;
        let weight = to_weight(gpu, to_step, &low, [channels, rank])?;
        Ok((out, weight))
    }
}
