//! The gated long convolution on a GPU, and its gradients there.

use super::cuda::{self, Convolved, Form};
use super::{LongConv, Past};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::{Floats, Gpu};
use crate::ops::short_conv::{ShortConv, Tail};
use crate::ops::timing;
use crate::sequence::{Branch, Segment};
use std::sync::Arc;

/// Bytes of signals in one batch of FFTs, at most; 2²⁷ are a fifth slower.
const WORKSPACE: usize = 1 << 31;
/// The part of a GPU's free memory that they take at most.
const PART: usize = 16;

impl LongConv {
    /// As [`LongConv::forward`], of values on the GPU.
    pub(super) fn on_gpu(
        &self,
        gpu: &Arc<Gpu>,
        x: &Tensor,
        tracked: bool,
        past: &mut Past,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        let lanes = past.lanes.len();
        let (conv, past) = self.lent(gpu, past)?;
        let shape = [x.dim(0)?, self.channels];
        // A product reads it next.
        if !tracked {
            let values = x.gpu_floats(gpu)?;
            return if gpu.rounded() {
                let out = conv.forward_branched(values, past, segments, branches)?;
                Ok(Tensor::rounded_on_gpu(gpu, out, &shape))
            } else {
                let out = conv.forward_branched(values, past, segments, branches)?;
                Ok(Tensor::on_gpu(gpu, out, &shape))
            };
        }
        let carried = self.tracked.is_some() && segments.iter().any(|segment| !segment.starts);
        let before = if carried {
            past.fork(gpu)?
        } else {
            conv.start(lanes)
        };
        let reach = segments.iter().map(|segment| {
            if segment.starts {
                segment.len
            } else {
                before.position(segment.lane) % self.ring + segment.len
            }
        });
        let reach = reach.max().unwrap_or(0).min(self.length);
        let taps = match &self.tracked {
            Some(taps) => taps(reach, x.device())?,
            None => {
                let taps = (self.taps)(reach)(0..self.channels);
                Tensor::from_vec(taps, (self.channels, reach), x.device())?
            }
        };
        let values = x.gpu_values(gpu)?.into();
        let (out, sums) = if gpu.rounded() {
            let (out, sums) = conv.forward_with_sums(values, past, segments)?;
            (Tensor::rounded_on_gpu(gpu, out, &shape), sums)
        } else {
            let (out, sums) = conv.forward_with_sums(values, past, segments)?;
            (Tensor::on_gpu(gpu, out, &shape), sums)
        };
        let parents = [x, &taps, &self.bias_tensor];
        let (x, kept_taps, wanted) = (x.detach(), taps.detach(), taps.is_tracked());
        let (on_gpu, gpu, segments) = (self.on_gpu.clone(), Arc::clone(gpu), segments.to_vec());
        let (turn, channels) = (self.ring, self.channels);
        Ok(out.derived(parents, move |grad| {
            let io = Convolved {
                x: x.gpu_values(&gpu)?,
                sums: &sums,
                taps: kept_taps.gpu_values(&gpu)?,
                before: wanted.then_some(&before),
                turn,
            };
            let conv = on_gpu.made()?;
            let slopes = conv.backward(grad.gpu_values(&gpu)?, &io, &segments)?;
            let to_taps = slopes.taps;
            Ok([
                Some(Tensor::on_gpu(&gpu, slopes.x, x.dims())),
                to_taps.map(|taps| Tensor::on_gpu(&gpu, taps, kept_taps.dims())),
                Some(Tensor::on_gpu(&gpu, slopes.bias, &[channels])),
            ])
        }))
    }

    /// As [`LongConv::forward_convolved`], if the GPU has kernels for this.
    pub(super) fn within_on_gpu(
        &self,
        gpu: &Arc<Gpu>,
        u: &Tensor,
        (short, tail): (&ShortConv, &mut Tail),
        past: &mut Past,
        segments: &[Segment],
    ) -> Result<Option<Tensor>> {
        let Floats::Bf16(values) = u.gpu_floats(gpu)? else {
            return Ok(None);
        };
        let _span = timing::span("long convolution");
        let (short, tail) = short.lent(gpu, tail)?;
        let Some(input) = short.within(values, tail) else {
            return Ok(None);
        };
        let (conv, past) = self.lent(gpu, past)?;
        let out = conv.forward(input.into(), past, segments)?;
        short.pass(values, tail, segments)?;
        let shape = [u.dim(0)?, self.channels];
        Ok(Some(Tensor::rounded_on_gpu(gpu, out, &shape)))
    }

    /// This convolution on the GPU and the past there.
    fn lent<'a>(
        &'a self,
        gpu: &Arc<Gpu>,
        past: &'a mut Past,
    ) -> Result<(&'a cuda::LongConv, &'a mut cuda::Past)> {
        let conv = self.on_gpu.get(|| self.to_gpu(gpu))?;
        let lanes = past.lanes.len();
        past.on_gpu.resume(gpu)?;
        let past = past
            .on_gpu
            .own(|| Ok(conv.start(lanes)), |past| past.fork(gpu))?;
        Ok((conv, past))
    }

    fn to_gpu(&self, gpu: &Arc<Gpu>) -> Result<cuda::LongConv> {
        let taps = (self.gpu_taps)(gpu)?;
        let (free, _) = gpu.memory()?;
        let (room, workspace) = (gpu.spectra_room(), WORKSPACE.min(free / PART));
        let form = Form::of(gpu);
        cuda::LongConv::new(gpu, self.length, &self.bias, taps, room, workspace, form)
    }
}
