//! The scan of Mamba-2 on a GPU.

use super::{Ssd, SsdState, cuda};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::Gpu;
use crate::sequence::Segment;
use std::sync::Arc;

impl Ssd {
    /// As [`Ssd::forward`], of values on the GPU.
    pub(super) fn forward_on_gpu(
        &self,
        gpu: &Arc<Gpu>,
        [xbc, steps]: [&Tensor; 2],
        state: &mut SsdState,
        segments: &[Segment],
    ) -> Result<Tensor> {
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
        let tracked = xbc.is_tracked() || steps.is_tracked() || self.tracked.is_some();
        let before = tracked.then(|| state.fork(gpu)).transpose()?;
        let raw = steps.gpu_values(gpu)?;
        let out = scan.forward(xbc.gpu_floats(gpu)?, raw, state, segments)?;
        let out = Tensor::on_gpu(gpu, out, &[xbc.dim(0)?, self.sizes.inner()]);
        let Some(before) = before else {
            return Ok(out);
        };
        let constant = xbc.detach(); // in the place of what is not differentiated
        let [a_log, bias, skip] = match &self.tracked {
            Some(tracked) => tracked.each_ref(),
            None => [&constant; 3],
        };
        let parents = [xbc, steps, a_log, bias, skip];
        let (steps, heads) = (steps.detach(), self.sizes.heads);
        let (on_gpu, gpu, segments) = (self.on_gpu.clone(), Arc::clone(gpu), segments.to_vec());
        let xbc = constant.clone();
        Ok(out.derived(parents, move |grad| {
            let inputs = [xbc.gpu_values(&gpu)?, steps.gpu_values(&gpu)?];
            let slopes =
                on_gpu
                    .made()?
                    .backward(grad.gpu_values(&gpu)?, inputs, &before, &segments)?;
            let parameters = [slopes.a_log, slopes.bias, slopes.skip]
                .map(|values| Some(Tensor::on_gpu(&gpu, values, &[heads])));
            let [a_log, bias, skip] = parameters;
            Ok([
                Some(Tensor::on_gpu(&gpu, slopes.xbc, xbc.dims())),
                Some(Tensor::on_gpu(&gpu, slopes.steps, steps.dims())),
                a_log,
                bias,
                skip,
            ])
        }))
    }
}
