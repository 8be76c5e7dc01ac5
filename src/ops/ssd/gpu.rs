//! The scan of Mamba-2 on a GPU.

use super::{Ssd, SsdState, cuda};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::Gpu;
use crate::ops::tensor::refuse;
use crate::sequence::Segment;
use std::sync::Arc;

impl Ssd {
    /// As [`Ssd::forward`], of values on the GPU; not differentiated there.
    pub(super) fn forward_on_gpu(
        &self,
        gpu: &Arc<Gpu>,
        [xbc, steps]: [&Tensor; 2],
        state: &mut SsdState,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let tracked = xbc.is_tracked() || steps.is_tracked() || self.tracked.is_some();
        refuse("the scan of Mamba-2", tracked)?;
        let scan = self.on_gpu.get(|| {
            let rate: Vec<f32> = self.rate.iter().map(|&rate| rate as f32).collect();
            let parameters = [&rate[..], &self.bias, &self.skip];
            let band = gpu.rounded().then_some(cuda::Ssd::BAND);
            cuda::Ssd::new(gpu, self.sizes, parameters, self.limit, band)
        })?;
        let lanes = state.values.len() / self.state_len();
        state.on_gpu.resume(gpu)?;
        let state = state
            .on_gpu
            .own(|| scan.start(lanes), |state| state.fork(gpu))?;
        let (values, raw) = (xbc.gpu_values(gpu)?, steps.gpu_values(gpu)?);
        let out = scan.forward(values, raw, state, segments)?;
        Ok(Tensor::on_gpu(gpu, out, &[xbc.dim(0)?, self.sizes.inner()]))
    }
}
