//! The selective scan on a GPU, and its gradients there.

use super::cuda::{self, ScanInputs};
use super::{ScanState, SelectiveScan};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::cuda::{Floats, Gpu};
use crate::sequence::Segment;
use std::sync::Arc;

/// What [`SelectiveScan::forward`] takes.
pub(super) struct Inputs<'a> {
    pub u: &'a Tensor,
    pub projected: &'a Tensor,
    pub added: Option<&'a Tensor>,
    pub gate: Option<&'a Tensor>,
}

impl Inputs<'_> {
    /// In f32.
    fn values(&self, gpu: &Arc<Gpu>) -> Result<ScanInputs<'_>> {
        let gate = self.gate.map(|x| x.gpu_values(gpu)).transpose()?;
        Ok(ScanInputs {
            u: self.u.gpu_values(gpu)?.into(),
            projected: self.projected.gpu_values(gpu)?,
            added: self.added.map(|x| x.gpu_values(gpu)).transpose()?,
            gate: gate.map(Floats::from),
        })
    }

    /// With u and the gate as they lie, if they are of one type.
    fn floats(&self, gpu: &Arc<Gpu>) -> Result<ScanInputs<'_>> {
        let u = self.u.gpu_floats(gpu)?;
        let gate = self.gate.map(|x| x.gpu_floats(gpu)).transpose()?;
        if gate.is_some_and(|gate| gate.name() != u.name()) {
            return self.values(gpu);
        }
        Ok(ScanInputs {
            u,
            projected: self.projected.gpu_values(gpu)?,
            added: self.added.map(|x| x.gpu_values(gpu)).transpose()?,
            gate,
        })
    }
}

impl SelectiveScan {
    /// As [`SelectiveScan::forward`], of values on the GPU.
    pub(super) fn on_gpu(
        &self,
        gpu: &Arc<Gpu>,
        io: &Inputs,
        tracked: bool,
        hidden: &mut ScanState,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let scan = self.on_gpu.get(|| self.to_gpu(gpu))?;
        let lanes = hidden.groups.first().map_or(0, Vec::len) / self.fours();
        hidden.on_gpu.resume(gpu)?;
        let hidden = hidden
            .on_gpu
            .own(|| scan.start(lanes), |hidden| hidden.fork(gpu))?;
        let values = if tracked {
            io.values(gpu)?
        } else {
            io.floats(gpu)?
        };
        let shape = io.u.dims();
        // What is gated is read by a product next.
        let (out, starts) = if io.gate.is_some() && gpu.rounded() {
            let (out, starts) = scan.forward(&values, hidden, segments)?;
            (Tensor::rounded_on_gpu(gpu, out, shape), starts)
        } else {
            let (out, starts) = scan.forward(&values, hidden, segments)?;
            (Tensor::on_gpu(gpu, out, shape), starts)
        };
        if !tracked {
            return Ok(out);
        }
        let constant = io.u.detach(); // in the place of what is not there
        let [a_log, skip, weight, bias] = &self.parameters;
        let parents = [
            io.u,
            io.projected,
            io.added.unwrap_or(&constant),
            io.gate.unwrap_or(&constant),
            a_log,
            skip,
            weight,
            bias,
        ];
        let shapes = parents.map(|x| x.dims().to_vec());
        let (u, projected) = (io.u.detach(), io.projected.detach());
        let [added, gate] = [io.added, io.gate].map(|x| x.map(Tensor::detach));
        let (on_gpu, gpu, segments) = (self.on_gpu.clone(), Arc::clone(gpu), segments.to_vec());
        Ok(out.derived(parents, move |grad| {
            let io = Inputs {
                u: &u,
                projected: &projected,
                added: added.as_ref(),
                gate: gate.as_ref(),
            };
            let slope = grad.gpu_values(&gpu)?;
            let slopes = on_gpu
                .made()?
                .backward(slope, &io.values(&gpu)?, &starts, &segments)?;
            let tensor = |i: usize, values| Tensor::on_gpu(&gpu, values, &shapes[i]);
            let to_y = slopes.added.map(|values| tensor(2, values));
            Ok([
                Some(tensor(0, slopes.u)),
                Some(tensor(1, slopes.projected)),
                io.added.map(|_| to_y.unwrap_or_else(|| grad.clone())),
                slopes.gate.map(|values| tensor(3, values)),
                Some(tensor(4, slopes.a_log)),
                Some(tensor(5, slopes.skip)),
                Some(tensor(6, slopes.step_weight)),
                Some(tensor(7, slopes.step_bias)),
            ])
        }))
    }

    fn to_gpu(&self, gpu: &Arc<Gpu>) -> Result<cuda::SelectiveScan> {
        let [a_log, skip, weight, bias] = &self.parameters;
        let values = |x: &Tensor| x.to_vec1::<f32>();
        let (weight, bias) = (values(weight)?, values(bias)?);
        cuda::SelectiveScan::new(
            gpu,
            &values(a_log)?,
            &values(skip)?,
            &weight,
            &bias,
            self.reversed,
        )
    }
}
