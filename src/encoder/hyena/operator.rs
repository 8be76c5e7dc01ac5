//! The operator's two forms: the exact convolution with the implicit filter, and the recurrence
//! of a filter that was distilled to a sum of exponentials (Massaroli et al. 2023,
//! arXiv:2310.18780).

use super::{Hyperparameters, ImplicitFilter};
use crate::checkpoint::Weights;
use crate::encoder::{Branch, Segment};
use crate::error::{Error, Kind, Result};
use crate::ops::{self, Activation, LongConv, Modal, ModalState, Past, ShortConv, Tail, TapRows};
use crate::ops::{Device, Tensor};
use num_complex::Complex64;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What convolves the gated input.
pub(super) enum Operator {
    /// With the implicit filter, exactly.
    Implicit(LongConv),
    /// With `h[0] = h0`, `h[t] = Re Σ_n R_n λ_n^{t−1}`: constant state, an approximation.
    Modal { modal: Modal, width: usize },
}

/// What a sequence leaves behind of its gated input.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum OperatorState {
    Implicit(Past),
    Modal(ModalState),
}

impl Operator {
    /// Takes the weights below `filter_fn`; `budget` is room in bytes for spectra.
    pub(super) fn load(sizes: &Hyperparameters, weights: &Weights, budget: usize) -> Result<Self> {
        let d = sizes.width;
        let bias = weights.tensor("bias", &[d])?;
        let Some(n) = sizes.modes else {
            let filter = Arc::new(ImplicitFilter::load(sizes, weights)?);
            let [here, there] = [&filter; 2].map(Arc::clone);
            let taps = Arc::new(move |n| {
                let (filter, hidden) = (Arc::clone(&here), here.hidden(n));
                Box::new(move |channels| filter.channels(&hidden, channels, n)) as Box<TapRows>
            });
            let conv = LongConv::new(sizes.length, &bias, taps, budget)?
                .with_gpu_taps(Arc::new(move |gpu| there.to_gpu(gpu)));
            return Ok(Self::Implicit(if filter.is_tracked() {
                conv.differentiable(Arc::new(move |n, device| {
                    ImplicitFilter::tensor(&filter, n, device)
                }))
            } else {
                conv
            }));
        };
        // The original filter may stay beside the modes, so that they can be compared: checked, and
        // known to belong here, but not kept.
        if weights.at("implicit_filter").has("0.weight") {
            ImplicitFilter::load(sizes, weights)?;
        }
        let stored = weights.at("modal");
        let poles = stored.tensor("poles", &[d, n, 2])?;
        let residues = stored.tensor("residues", &[d, n, 2])?;
        let h0 = stored.tensor("h0", &[d])?;
        let residues = undelayed(&poles, &residues)?
            .map_err(|what| weights.error(&stored.full("poles"), what))?;
        let skip = skip(&residues, &h0, &bias)?;
        let modal = Modal::complex(&poles, &residues, Some(&skip))?;
        Ok(Self::Modal { modal, width: d })
    }

    pub(super) fn start(&self, lanes: usize) -> OperatorState {
        match self {
            Self::Implicit(conv) => OperatorState::Implicit(conv.start(lanes)),
            Self::Modal { modal, .. } => OperatorState::Modal(modal.start(lanes)),
        }
    }

    pub(super) fn fork(
        &self,
        from: &[(&OperatorState, usize)],
        room: usize,
    ) -> Result<OperatorState> {
        match self {
            Self::Implicit(conv) => {
                let pasts = from.iter().map(|(carried, lane)| match carried {
                    OperatorState::Implicit(past) => Ok((past, *lane)),
                    OperatorState::Modal(_) => Err(foreign_state()),
                });
                let pasts = pasts.collect::<Result<Vec<_>>>()?;
                conv.fork(&pasts, room).map(OperatorState::Implicit)
            }
            Self::Modal { modal, .. } => {
                let states = from.iter().map(|(carried, lane)| match carried {
                    OperatorState::Modal(state) => Ok((state, *lane)),
                    OperatorState::Implicit(_) => Err(foreign_state()),
                });
                let states = states.collect::<Result<Vec<_>>>()?;
                modal.fork(&states).map(OperatorState::Modal)
            }
        }
    }

    /// What the short convolution gives of `u` (T, 3D), the columns x0, x1 and v, to
    /// `x0 · ((h + bias δ) * (x1 · v))` (T, D).
    pub(super) fn forward(
        &self,
        u: &Tensor,
        (short, tail): (&ShortConv, &mut Tail),
        carried: &mut OperatorState,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        match (self, carried) {
            (Self::Implicit(conv), OperatorState::Implicit(past)) => {
                conv.forward_convolved(u, (short, tail), past, segments, branches)
            }
            (Self::Modal { modal, width }, OperatorState::Modal(state)) => {
                let u = &short.forward_branched(u, tail, segments, branches)?;
                let g = ops::gate((u, 1), (u, 2), *width)?;
                let y = modal.forward_branched(&g, state, segments, branches)?;
                ops::gate_to_product((u, 0), (&y, 0), *width, Activation::None)
            }
            _ => Err(foreign_state()),
        }
    }
}

fn foreign_state() -> Error {
    Error::new(Kind::Internal, "the state is another operator's")
}

/// [`Modal`] sums `Re Σ R' λ^t` from t = 0 on: R' = R / λ (D, N, 2). The inner error says why the
/// poles cannot be.
fn undelayed(poles: &Tensor, residues: &Tensor) -> Result<Result<Tensor, String>> {
    let (d, n, _) = poles.dims3()?;
    let [pole_values, residue_values] = [poles, residues].map(complex);
    let (pole_values, residue_values) = (pole_values?, residue_values?);
    let mut ratios = Vec::with_capacity(d * n);
    for (i, (pole, residue)) in pole_values.iter().zip(&residue_values).enumerate() {
        let c = i / n;
        if pole.norm().is_nan() || pole.norm() >= 1.0 {
            return Ok(Err(format!(
                "channel {c}: a pole of magnitude {}",
                pole.norm()
            )));
        }
        let ratio = if residue.norm() == 0.0 {
            Complex64::default()
        } else {
            residue / pole
        };
        if !(ratio.re as f32).is_finite() || !(ratio.im as f32).is_finite() {
            return Ok(Err(format!("channel {c}: a pole of zero with a residue")));
        }
        ratios.push(ratio);
    }
    let tensor = move |values: Vec<Complex64>| {
        let parts = values.iter().flat_map(|x| [x.re as f32, x.im as f32]);
        Tensor::from_vec(parts.collect(), (d, n, 2), &Device::Cpu)
    };
    let out = tensor(ratios.clone())?;
    // A complex number's gradient passes from f(z) to z times the conjugate of the derivative.
    Ok(Ok(out.derived([poles, residues], move |grad| {
        let (mut to_poles, mut to_residues) = (Vec::new(), Vec::new());
        for ((grad, pole), ratio) in complex(grad)?.iter().zip(&pole_values).zip(&ratios) {
            // A pole of zero has no residue: it does nothing.
            let through = if pole.norm() == 0.0 {
                Complex64::default()
            } else {
                grad / pole.conj()
            };
            to_residues.push(through);
            to_poles.push(-through * ratio.conj());
        }
        Ok([Some(tensor(to_poles)?), Some(tensor(to_residues)?)])
    })))
}

/// `h0 + bias − Re Σ R'` (D): [`Modal`] adds R' at t = 0. In f64, so that h[0] stays what it is.
fn skip(residues: &Tensor, h0: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (d, n, _) = residues.dims3()?;
    let (h0_values, bias_values): (Vec<f32>, Vec<f32>) = (h0.to_vec1()?, bias.to_vec1()?);
    let residue_values = complex(residues)?;
    let sums = residue_values
        .chunks(n)
        .map(|row| row.iter().map(|x| x.re).sum::<f64>());
    let skips = h0_values.iter().zip(&bias_values).zip(sums);
    let skips = skips.map(|((h0, bias), sum)| (f64::from(*h0) + f64::from(*bias) - sum) as f32);
    let out = Tensor::from_vec(skips.collect(), d, &Device::Cpu)?;
    Ok(out.derived([residues, h0, bias], move |grad| {
        let values: Vec<f32> = grad.to_vec1()?;
        let parts = values.iter().flat_map(|x| [-x, 0.0].repeat(n));
        let to_residues = Tensor::from_vec(parts.collect(), (d, n, 2), &Device::Cpu)?;
        Ok([Some(to_residues), Some(grad.clone()), Some(grad.clone())])
    }))
}

/// The complex numbers of real and imaginary parts (…, 2).
fn complex(x: &Tensor) -> Result<Vec<Complex64>> {
    let values: Vec<f32> = x.flatten_all()?.to_vec1()?;
    let pairs = values.chunks_exact(2);
    Ok(pairs
        .map(|x| Complex64::new(f64::from(x[0]), f64::from(x[1])))
        .collect())
}
