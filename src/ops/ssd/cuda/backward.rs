//! Gradients of the scan: the states before each chunk of rows again, the gradients to those after
//! it, and then each chunk by itself.

use super::{SLOPE_KERNELS, Ssd, SsdState};
use crate::error::{Error, Result};
use crate::ops::cuda::launch::THREADS;
use crate::ops::cuda::{Packed, expect_len};
use crate::ops::sums::cuda::column_sums;
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;

/// Rows of a chunk, as in the kernels.
const CHUNK: usize = 64;

/// Gradients to what a [`Ssd`] is made of and took.
#[derive(Debug)]
pub struct SsdSlopes {
    /// (T, I + 2GN).
    pub xbc: CudaSlice<f32>,
    /// (T, H).
    pub steps: CudaSlice<f32>,
    /// (H).
    pub a_log: CudaSlice<f32>,
    /// (H).
    pub bias: CudaSlice<f32>,
    /// (H).
    pub skip: CudaSlice<f32>,
}

impl Ssd {
    /// From the gradient to the output, (T, I), in f32 throughout. `before` is the state from which
    /// the step went on: a constant.
    pub fn backward(
        &self,
        grad: &CudaSlice<f32>,
        [xbc, steps]: [&CudaSlice<f32>; 2],
        before: &SsdState,
        segments: &[Segment],
    ) -> Result<SsdSlopes> {
        let (gpu, sizes) = (&*self.gpu, self.sizes);
        let packed = gpu.pack(segments)?.in_tiles(gpu, CHUNK)?;
        packed.expect_lanes(before.lanes)?;
        let (rows, chunks) = (packed.rows(), packed.tile_count());
        expect_len("scan", xbc, rows * sizes.columns())?;
        expect_len("time steps", steps, rows * sizes.heads)?;
        expect_len("gradient of a scan", grad, rows * sizes.inner())?;
        let new = |len: usize| gpu.unwritten::<f32>(len);
        let values = sizes.inner() * sizes.states;
        let (states, later) = (new(chunks * values)?, new(chunks * values)?);
        let sums = new(chunks * sizes.heads)?;
        let parts = new(rows * sizes.heads * 2 * sizes.states)?;
        let (to_xbc, to_steps) = (new(rows * sizes.columns())?, new(rows * sizes.heads)?);
        let (rates, skips) = (new(chunks * sizes.heads)?, new(chunks * sizes.heads)?);

        let arrays = [
            xbc,
            steps,
            &self.rate,
            &self.bias,
            &self.skip,
            grad,
            &before.values,
            &states,
            &later,
            &sums,
        ];
        let outs = [&to_xbc, &to_steps, &parts, &rates, &skips].map(|x| gpu.address(x));
        let pointers = self.pointers(&arrays, &packed);
        let ints = [
            sizes.heads,
            sizes.channels,
            sizes.groups,
            sizes.states,
            self.padded(),
        ];
        let kernel = |name: &str| {
            let launch = gpu.kernel(SLOPE_KERNELS, name)?;
            Ok::<_, Error>(launch.structure(&pointers, &ints))
        };
        let (least, most) = self.limit;
        let blocks = chunks * sizes.heads;
        for name in ["ssd_states", "ssd_later"] {
            let launch = kernel(name)?.float(least).float(most);
            launch.blocks(blocks, THREADS, 0)?;
        }
        let walk = segments.len() * values.div_ceil(THREADS);
        kernel("ssd_walk")?.blocks(walk, THREADS, 0)?;
        let launch = kernel("ssd_slopes")?.structure(&outs, &[]);
        launch.float(least).float(most).blocks(blocks, THREADS, 0)?;
        let launch = kernel("ssd_groups")?.structure(&outs, &[]);
        launch
            .long(rows)
            .over(rows * 2 * sizes.groups * sizes.states)?;
        Ok(SsdSlopes {
            a_log: column_sums(gpu, &rates, sizes.heads)?,
            bias: column_sums(gpu, &to_steps, sizes.heads)?,
            skip: column_sums(gpu, &skips, sizes.heads)?,
            xbc: to_xbc,
            steps: to_steps,
        })
    }

    /// The addresses of arrays, and of tiles and segments.
    pub(super) fn pointers(&self, arrays: &[&CudaSlice<f32>], packed: &Packed) -> Vec<u64> {
        let places = [&packed.tiles, &packed.segments].map(|x| self.gpu.address(x));
        let arrays = arrays.iter().map(|array| self.gpu.address(array));
        arrays.chain(places).collect()
    }
}
