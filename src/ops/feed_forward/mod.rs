//! A norm and two dense layers beside a residual stream.

mod gated;

use super::linear::{Epilogue, Then, Work, tile};
use super::norm::layer_norm;
use super::{Activation, Device, Held, LayerNorm, Linear, unwritten, with_held, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::timing;
pub use gated::GatedFeedForward;
use rayon::prelude::*;

/// Rows of a tile: what lies between the two layers stays in the L2 cache.
const ROWS: usize = 256;
/// The same of layers that round: their weights are packed once, not for each tile.
const ROUNDED: usize = 96;

/// `x + W₂ a(W₁ norm(x) + b₁) + b₂`
#[derive(Clone, Debug)]
pub struct FeedForward {
    norm: LayerNorm,
    up: Linear,
    activation: Activation,
    down: Linear,
}

impl FeedForward {
    /// `norm` and `up` take rows of width D, `down` gives them.
    pub fn new(norm: LayerNorm, up: Linear, activation: Activation, down: Linear) -> Self {
        Self {
            norm,
            up,
            activation,
            down,
        }
    }

    /// (T, D) to (T, D). On the CPU tile by tile, so that the rows of the inner width are never in
    /// memory all together; they are where a gradient needs them.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let _span = timing::span("feed forward");
        let (norm, up, down) = (self.norm.tensors(), self.up.tensors(), self.down.tensors());
        let mut all = [&norm[..], &up, &down].into_iter().flatten();
        if !matches!(x.device(), Device::Cpu) || x.is_tracked() || all.any(|x| x.is_tracked()) {
            let y = self.norm.forward_to_product(x)?;
            let y = self.up.forward_activated(&y, self.activation)?;
            return self.down.forward_residual(&y, x);
        }
        let (rows, width) = x.dims2()?;
        self.norm.expect(x)?;
        let inner = self.up.expect(width)?;
        self.down.expect(inner)?;
        let run = |[x, norm, shift]: [&[f32]; 3], [w1, b1, w2, b2]: [Held; 4]| {
            let up = self.up.rows([w1, b1], rows);
            let down = self.down.rows([w2, b2], rows);
            let mut out = unwritten(x.len());
            let most = if self.up.rounds() { ROUNDED } else { ROWS };
            let tile = tile(rows, most);
            out.par_chunks_mut(tile * width)
                .zip(x.par_chunks(tile * width))
                .for_each_init(
                    || {
                        let (y, between) = (unwritten(tile * width), unwritten(tile * inner));
                        (y, between, Work::default())
                    },
                    |(y, between, work), (out, x)| {
                        let y = &mut y[..x.len()];
                        let between = &mut between[..x.len() / width * inner];
                        layer_norm(y, x, norm, shift, self.norm.eps());
                        let activated = Epilogue {
                            activation: self.activation,
                            then: Then::Nothing,
                        };
                        up.forward(between, y, activated, work);
                        let residual = Epilogue {
                            activation: Activation::None,
                            then: Then::Plus(x),
                        };
                        down.forward(out, between, residual, work);
                    },
                );
            Ok(out)
        };
        let out = with_held([up[0], up[1], down[0], down[1]], |weights| {
            with_slices([x, norm[0], norm[1]], |slices| run(slices, weights))
        })?;
        Tensor::from_vec(out, (rows, width), x.device())
    }
}

#[cfg(test)]
mod tests;
