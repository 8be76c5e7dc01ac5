//! The modal filter on a GPU, and its gradients there.

use super::{Modal, ModalState, cuda};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::Gpu;
use crate::sequence::{Branch, Segment};
use std::sync::Arc;

impl Modal {
    /// As [`Modal::forward`], of values on the GPU.
    pub(super) fn on_gpu(
        &self,
        gpu: &Arc<Gpu>,
        g: &Tensor,
        state: &mut ModalState,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        let kernels = self.kernels(gpu)?;
        let lanes = state.values.len() / (self.groups.len() * self.fours * self.parts).max(1);
        state.on_gpu.resume(gpu)?;
        let carried = state
            .on_gpu
            .own(|| kernels.start(gpu, lanes), |state| state.fork(gpu))?;
        let [poles, residues, skip] = &self.parameters;
        let before = self.is_tracked().then(|| carried.fork(gpu)).transpose()?;
        let values = g.gpu_values(gpu)?;
        let out = kernels.forward_branched(gpu, values, carried, segments, branches)?;
        let out = Tensor::on_gpu(gpu, out, g.dims());
        let (modal, input, wanted) = (self.clone(), g.detach(), g.is_tracked());
        let (gpu, segments) = (Arc::clone(gpu), segments.to_vec());
        Ok(out.derived([g, poles, residues, skip], move |slope| {
            let kernels = modal.kernels(&gpu)?;
            let (g, slope) = (input.gpu_values(&gpu)?, slope.gpu_values(&gpu)?);
            let mut slopes = [None, None, None, None];
            if wanted {
                let back = kernels.back(&gpu, slope, &segments)?;
                slopes[0] = Some(Tensor::on_gpu(&gpu, back, input.dims()));
            }
            if let Some(before) = &before {
                let sums = kernels.slopes(&gpu, g, slope, before, &segments)?;
                let [poles, residues, skip] = &modal.parameters;
                slopes[1] = Some(Tensor::on_gpu(&gpu, sums.poles, poles.dims()));
                slopes[2] = Some(Tensor::on_gpu(&gpu, sums.residues, residues.dims()));
                let skip = modal.skipped.then_some(skip);
                slopes[3] = skip.map(|skip| Tensor::on_gpu(&gpu, sums.skip, skip.dims()));
            }
            Ok(slopes)
        }))
    }

    fn kernels<'a>(&'a self, gpu: &Arc<Gpu>) -> Result<cuda::Modal<'a>> {
        let [poles, residues, skip] = &self.parameters;
        let skip = self.skipped.then(|| skip.gpu_values(gpu)).transpose()?;
        Ok(cuda::Modal {
            poles: poles.gpu_values(gpu)?,
            residues: residues.gpu_values(gpu)?,
            skip,
            channels: self.channels,
            modes: poles.dim(1)?,
            parts: self.parts,
        })
    }
}
