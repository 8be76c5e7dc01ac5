//! The operator's two forms: the exact convolution with the implicit filter, and the recurrence
//! of a filter that was distilled to a sum of exponentials (Massaroli et al. 2023,
//! arXiv:2310.18780).

use super::{Filter, Hyperparameters};
use crate::checkpoint::Weights;
use crate::encoder::Segment;
use crate::error::{Error, Kind, Result};
use crate::ops::{self, LongConv, Modal, ModalState, Past, TapRows};
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
pub(super) enum Carried {
    Implicit(Past),
    Modal(ModalState),
}

impl Operator {
    /// Takes the weights below `filter_fn`; `budget` is room in bytes for spectra.
    pub(super) fn load(sizes: &Hyperparameters, weights: &Weights, budget: usize) -> Result<Self> {
        let d = sizes.width;
        let bias = weights.tensor("bias", &[d])?;
        let Some(n) = sizes.modes else {
            let filter = Arc::new(Filter::load(sizes, weights)?);
            let [here, there] = [&filter; 2].map(Arc::clone);
            let taps = Arc::new(move |n| {
                let (filter, hidden) = (Arc::clone(&here), here.hidden(n));
                Box::new(move |channels| filter.channels(&hidden, channels, n)) as Box<TapRows>
            });
            let conv = LongConv::new(sizes.length, &bias, taps, budget)?
                .with_gpu_taps(Arc::new(move |gpu| there.to_gpu(gpu)));
            return Ok(Self::Implicit(match filter.is_tracked() {
                true => conv.differentiable(Arc::new(move |n| Filter::tensor(&filter, n))),
                false => conv,
            }));
        };
        // The original filter may stay beside the modes, so that they can be compared: checked, and
        // known to belong here, but not kept.
        if weights.at("implicit_filter").has("0.weight") {
            Filter::load(sizes, weights)?;
        }
        let stored = weights.at("modal");
        let poles = stored.tensor("poles", &[d, n, 2])?;
        let residues = stored.tensor("residues", &[d, n, 2])?;
        let h0 = stored.tensor("h0", &[d])?;
        let (residues, skip) = undelayed(&poles, &residues, &h0, &bias)
            .map_err(|what| weights.error(&stored.full("poles"), what))?;
        let residues = Tensor::from_vec(residues, (d, n, 2), &Device::Cpu)?;
        let skip = Tensor::from_vec(skip, d, &Device::Cpu)?;
        Ok(Self::Modal {
            modal: Modal::complex(&poles, &residues, Some(&skip))?,
            width: d,
        })
    }

    pub(super) fn start(&self, lanes: usize) -> Carried {
        match self {
            Self::Implicit(conv) => Carried::Implicit(conv.start(lanes)),
            Self::Modal { modal, .. } => Carried::Modal(modal.start(lanes)),
        }
    }

    pub(super) fn fork(&self, from: &[(&Carried, usize)], room: usize) -> Result<Carried> {
        match self {
            Self::Implicit(conv) => {
                let pasts = from.iter().map(|(carried, lane)| match carried {
                    Carried::Implicit(past) => Ok((past, *lane)),
                    Carried::Modal(_) => Err(foreign_state()),
                });
                let pasts = pasts.collect::<Result<Vec<_>>>()?;
                conv.fork(&pasts, room).map(Carried::Implicit)
            }
            Self::Modal { modal, .. } => {
                let states = from.iter().map(|(carried, lane)| match carried {
                    Carried::Modal(state) => Ok((state, *lane)),
                    Carried::Implicit(_) => Err(foreign_state()),
                });
                let states = states.collect::<Result<Vec<_>>>()?;
                Ok(Carried::Modal(modal.fork(&states)))
            }
        }
    }

    /// (T, 3D), the columns x0, x1 and v, to `x0 · ((h + bias δ) * (x1 · v))` (T, D).
    pub(super) fn forward(
        &self,
        u: &Tensor,
        carried: &mut Carried,
        segments: &[Segment],
    ) -> Result<Tensor> {
        match (self, carried) {
            (Self::Implicit(conv), Carried::Implicit(past)) => conv.forward(u, past, segments),
            (Self::Modal { modal, width }, Carried::Modal(state)) => {
                let g = ops::gate((u, 1), (u, 2), *width)?;
                let y = modal.forward(&g, state, segments)?;
                ops::gate((u, 0), (&y, 0), *width)
            }
            _ => Err(foreign_state()),
        }
    }
}

fn foreign_state() -> Error {
    Error::new(Kind::Internal, "the state is another operator's")
}

/// [`Modal`] sums `Re Σ R' λ^t` from t = 0 on: R' = R / λ, and the skip takes off what that adds
/// at t = 0. In f64, so that h[0] stays what it is.
fn undelayed(
    poles: &Tensor,
    residues: &Tensor,
    h0: &Tensor,
    bias: &Tensor,
) -> Result<(Vec<f32>, Vec<f32>), String> {
    let values = |x: &Tensor| {
        let flat = x.flatten_all().and_then(|x| x.to_vec1::<f32>());
        flat.map_err(|e| e.to_string())
    };
    let (poles, residues) = (values(poles)?, values(residues)?);
    let (h0, bias) = (values(h0)?, values(bias)?);
    let complex = |x: &[f32]| Complex64::new(f64::from(x[0]), f64::from(x[1]));
    let per_channel = poles.len() / h0.len();
    let mut scaled = Vec::with_capacity(residues.len());
    let mut skip = Vec::with_capacity(h0.len());
    for (c, (h0, bias)) in h0.iter().zip(&bias).enumerate() {
        let at = c * per_channel..(c + 1) * per_channel;
        let mut sum = 0.0;
        for (pole, residue) in poles[at.clone()].chunks(2).zip(residues[at].chunks(2)) {
            let (pole, residue) = (complex(pole), complex(residue));
            if pole.norm().is_nan() || pole.norm() >= 1.0 {
                return Err(format!("channel {c}: a pole of magnitude {}", pole.norm()));
            }
            let ratio = match residue.norm() == 0.0 {
                true => Complex64::default(),
                false => residue / pole,
            };
            let stored = [ratio.re as f32, ratio.im as f32];
            if !stored[0].is_finite() || !stored[1].is_finite() {
                return Err(format!("channel {c}: a pole of zero with a residue"));
            }
            scaled.extend(stored);
            sum += f64::from(stored[0]);
        }
        skip.push((f64::from(*h0) + f64::from(*bias) - sum) as f32);
    }
    Ok((scaled, skip))
}
