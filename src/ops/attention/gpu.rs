//! Attention on a GPU, and its gradient there.

use super::{Attention, Cache, Reach, Rotary, cuda, whole};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::Gpu;
use crate::sequence::{Branch, Segment};
use std::sync::Arc;

impl Attention {
    /// As [`Attention::forward`], of values on the GPU.
    pub(super) fn forward_on_gpu(
        &self,
        gpu: &Arc<Gpu>,
        x: &Tensor,
        cache: &mut Cache,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        if self.reach == Reach::Bidirectional {
            whole(segments)?;
        }
        let attention = self.on_gpu.get(|| self.made_on(gpu))?;
        let lanes = cache.lanes.len();
        cache.on_gpu.resume(gpu)?;
        let own = || Ok(attention.start(lanes));
        let carried = cache.on_gpu.own(own, |cache| Ok(cache.clone()))?;
        let (values, keep) = (x.gpu_values(gpu)?, x.is_tracked());
        let (rows, shape) = ((segments, branches), [x.dim(0)?, self.heads * self.width]);
        // What attention gives is read by a product next.
        if gpu.rounded() && !keep {
            let (out, _) = attention.forward(values, carried, rows, false)?;
            return Ok(Tensor::rounded_on_gpu(gpu, out, &shape));
        }
        let (out, kept) = attention.forward(values, carried, rows, keep)?;
        let out = Tensor::on_gpu(gpu, out, &shape);
        let Some(kept) = kept else { return Ok(out) };
        let (input, output, on_gpu) = (x.detach(), out.clone(), self.on_gpu.clone());
        let (gpu, segments) = (Arc::clone(gpu), segments.to_vec());
        Ok(out.derived([x], move |slope| {
            let attention = on_gpu.made()?;
            let (x, out) = (input.gpu_values(&gpu)?, output.gpu_values(&gpu)?);
            let back = attention.slopes(x, out, slope.gpu_values(&gpu)?, &kept, &segments)?;
            Ok([Some(Tensor::on_gpu(&gpu, back, input.dims()))])
        }))
    }

    fn made_on(&self, gpu: &Arc<Gpu>) -> Result<cuda::Attention> {
        let rotary = self.rotary.as_ref().map(Rotary::parts);
        let both = self.reach == Reach::Bidirectional;
        let shape = [self.heads, self.width];
        cuda::Attention::new(gpu, shape, both, self.window, rotary)
    }

    /// Takes the kernel of tensor cores before Hopper's.
    #[cfg(test)]
    pub(in crate::ops) fn make_portable(&self, gpu: &Arc<Gpu>) -> Result<()> {
        self.on_gpu.get(|| Ok(self.made_on(gpu)?.portable()))?;
        Ok(())
    }
}
