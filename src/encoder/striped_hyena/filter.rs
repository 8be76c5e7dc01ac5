//! The filters of StripedHyena's Hyena operators, and what they carry from call to call.

use super::foreign_state;
use crate::checkpoint::Weights;
use crate::encoder::{Branch, Segment};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::{Activation, Modal, ModalState, ShortConv, Tail};
use serde::{Deserialize, Serialize};

/// What filters the gated input of a Hyena operator, and how the checkpoint stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind {
    /// That many taps `h` (G, 1, K) for G groups of channels, the last one the current token's.
    Short(usize),
    /// That many taps `h` (G, 1, K), the first one the current token's, and the skip weight `D`
    /// (D).
    Medium(usize),
    /// That many real exponentials: `log_poles` (D, N, 1), `residues` (D, N) and `D`.
    Real(usize),
    /// That many complex exponentials: `poles` and `residues` (D, N, 1, 2), real and imaginary
    /// parts, and `D`.
    Complex(usize),
}

/// A filter of D channels.
pub(super) enum Filter {
    Taps(ShortConv),
    Modal(Modal),
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum FilterState {
    Taps(Tail),
    Modal(ModalState),
}

impl FilterKind {
    /// Operations a base.
    pub(super) fn flops(self, d: usize) -> usize {
        match self {
            Self::Short(taps) | Self::Medium(taps) => 2 * taps * d,
            Self::Real(n) => 4 * n * d,
            Self::Complex(n) => 12 * n * d,
        }
    }

    /// Bytes of one lane's state.
    pub(super) fn state_bytes(self, d: usize) -> usize {
        match self {
            Self::Short(taps) | Self::Medium(taps) => (taps - 1) * d * size_of::<f32>(),
            Self::Real(n) => Modal::state_bytes(d, n, false),
            Self::Complex(n) => Modal::state_bytes(d, n, true),
        }
    }
}

impl Filter {
    /// Takes the weights below `filter`.
    pub(super) fn load(kind: FilterKind, d: usize, weights: &Weights) -> Result<Self> {
        let taps = |h: &Tensor| ShortConv::new(h, None, Activation::None).map(Self::Taps);
        let skip = || weights.tensor("D", &[d]);
        match kind {
            FilterKind::Short(count) => taps(&grouped(d, count, weights)?),
            FilterKind::Medium(count) => {
                let h = grouped(d, count, weights)?.flip(2)?;
                let now = h.narrow(2, count - 1, 1)?;
                let now = now.add(&skip()?.reshape((d, 1, 1))?)?;
                match count {
                    1 => taps(&now),
                    _ => taps(&Tensor::cat(&[h.narrow(2, 0, count - 1)?, now], 2)?),
                }
            }
            FilterKind::Real(n) => {
                let poles = weights.tensor("log_poles", &[d, n, 1])?.exp()?;
                let residues = weights.tensor("residues", &[d, n])?;
                let modal = Modal::real(&poles.reshape((d, n))?, &residues, Some(&skip()?))?;
                Ok(Self::Modal(modal))
            }
            FilterKind::Complex(n) => {
                let shape = (d, n, 2);
                let poles = weights.tensor("poles", &[d, n, 1, 2])?.reshape(shape)?;
                let residues = weights.tensor("residues", &[d, n, 1, 2])?.reshape(shape)?;
                let modal = Modal::complex(&poles, &residues, Some(&skip()?))?;
                Ok(Self::Modal(modal))
            }
        }
    }

    pub(super) fn start(&self, lanes: usize) -> FilterState {
        match self {
            Self::Taps(conv) => FilterState::Taps(conv.start(lanes)),
            Self::Modal(modal) => FilterState::Modal(modal.start(lanes)),
        }
    }

    pub(super) fn fork(&self, from: &[(&FilterState, usize)]) -> Result<FilterState> {
        match self {
            Self::Taps(conv) => {
                let tails = from.iter().map(|(state, lane)| match state {
                    FilterState::Taps(tail) => Ok((tail, *lane)),
                    FilterState::Modal(_) => Err(foreign_state()),
                });
                let tails = tails.collect::<Result<Vec<_>>>()?;
                conv.fork(&tails).map(FilterState::Taps)
            }
            Self::Modal(modal) => {
                let states = from.iter().map(|(state, lane)| match state {
                    FilterState::Modal(state) => Ok((state, *lane)),
                    FilterState::Taps(_) => Err(foreign_state()),
                });
                let states = states.collect::<Result<Vec<_>>>()?;
                modal.fork(&states).map(FilterState::Modal)
            }
        }
    }

    /// (T, D) to (T, D).
    pub(super) fn forward(
        &self,
        g: &Tensor,
        state: &mut FilterState,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Tensor> {
        match (self, state) {
            (Self::Taps(conv), FilterState::Taps(tail)) => {
                conv.forward_branched(g, tail, segments, branches)
            }
            (Self::Modal(modal), FilterState::Modal(state)) => {
                modal.forward_branched(g, state, segments, branches)
            }
            _ => Err(foreign_state()),
        }
    }
}

/// `h` (G, 1, K), each filter repeated for its D / G channels: (D, 1, K).
fn grouped(d: usize, taps: usize, weights: &Weights) -> Result<Tensor> {
    let groups = weights.shape("h").and_then(|shape| shape.first());
    let groups = groups
        .copied()
        .filter(|g| *g > 0 && d.is_multiple_of(*g))
        .unwrap_or(d);
    let h = weights.tensor("h", &[groups, 1, taps])?;
    let rows: Vec<u32> = (0..d).map(|c| (c / (d / groups)) as u32).collect();
    super::select(&h, &rows)
}
