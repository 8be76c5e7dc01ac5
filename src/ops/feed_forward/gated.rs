//! A norm and a gated pair of dense layers, with a third behind them, beside a residual stream.

use super::{ROUNDED, ROWS};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::linear::{Epilogue, Rows, Then, Work, tile};
use crate::ops::timing;
use crate::ops::{
    Activation, Device, Held, Linear, RmsNorm, expect_shape, gate_to_product, unwritten, with_held,
    with_slices,
};
use rayon::prelude::*;

/// `W₃ (a(W₁ n) · W₂ n)` of n = norm(x), without biases, as in StripedHyena and Llama: Shazeer 2020,
/// arXiv:2002.05202.
#[derive(Clone, Debug)]
pub struct GatedFeedForward {
    norm: RmsNorm,
    /// W₁ and W₂ (M, D), and W₃ (D, M).
    layers: [Linear; 3],
    activation: Activation,
}

impl GatedFeedForward {
    /// `norm` takes rows of width D, `layers` are W₁, W₂ and W₃.
    pub fn new(norm: RmsNorm, layers: [Linear; 3], activation: Activation) -> Self {
        Self {
            norm,
            layers,
            activation,
        }
    }

    /// (T, D) to (T, D), added to x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, Some(x))
    }

    /// The same, not added to x.
    pub fn alone(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None)
    }

    /// On the CPU tile by tile, so that the rows of the inner width are never in memory all together;
    /// they are where a gradient needs them.
    fn run(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let _span = timing::span("feed forward");
        let [one, two, three] = &self.layers;
        let weights = [one, two, three].map(Linear::tensors);
        let mut all = weights.as_flattened().iter().chain([&x]);
        let tracked = all.any(|x| x.is_tracked()) || self.norm.weight().is_tracked();
        if tracked || !matches!(x.device(), Device::Cpu) {
            let y = self.norm.forward_to_product(x)?;
            let (opened, gate) = (one.forward_rounded(&y)?, two.forward_rounded(&y)?);
            let inner = opened.dim(1)?;
            let y = gate_to_product((&opened, 0), (&gate, 0), inner, self.activation)?;
            return match residual {
                Some(residual) => three.forward_residual(&y, residual),
                None => three.forward(&y),
            };
        }
        let (rows, width) = x.dims2()?;
        self.norm.expect(x)?;
        let inner = one.expect(width)?;
        expect_shape("weight", two.weight(), &[inner, width])?;
        expect_shape("weight", three.weight(), &[width, inner])?;
        let [[w1, b1], [w2, b2], [w3, b3]] = weights;
        let run = |[x, norm]: [&[f32]; 2], [w1, b1, w2, b2, w3, b3]: [Held; 6]| {
            let layers = [
                one.rows([w1, b1], rows),
                two.rows([w2, b2], rows),
                three.rows([w3, b3], rows),
            ];
            let mut out = unwritten(x.len());
            let most = if one.rounds() { ROUNDED } else { ROWS };
            let tile = tile(rows, most);
            out.par_chunks_mut(tile * width)
                .zip(x.par_chunks(tile * width))
                .for_each_init(Tile::default, |work, (out, x)| {
                    work.y.resize(x.len(), 0.0);
                    self.norm.rows(&mut work.y, x, norm);
                    let inner = x.len() / width * inner;
                    self.tile(out, residual.map(|_| x), &layers, inner, work);
                });
            Ok(out)
        };
        let out = with_held([w1, b1, w2, b2, w3, b3], |weights| {
            with_slices([x, self.norm.weight()], |slices| run(slices, weights))
        })?;
        Tensor::from_vec(out, (rows, width), x.device())
    }

    /// Of the normalised rows of a tile, which have so many values of the inner width.
    fn tile(
        &self,
        out: &mut [f32],
        residual: Option<&[f32]>,
        [one, two, three]: &[Rows; 3],
        inner: usize,
        tile: &mut Tile,
    ) {
        tile.opened.resize(inner, 0.0);
        tile.gated.resize(inner, 0.0);
        let epilogue = |activation, then| Epilogue { activation, then };
        let activated = epilogue(self.activation, Then::Nothing);
        one.forward(&mut tile.opened, &tile.y, activated, &mut tile.work);
        let gate = epilogue(Activation::None, Then::Times(&tile.opened));
        two.forward(&mut tile.gated, &tile.y, gate, &mut tile.work);
        let then = residual.map_or(Then::Nothing, Then::Plus);
        let last = epilogue(Activation::None, then);
        three.forward(out, &tile.gated, last, &mut tile.work);
    }
}

/// What a thread needs for a tile of rows.
#[derive(Default)]
struct Tile {
    /// Normalised, (rows, D).
    y: Vec<f32>,
    /// `a(W₁ n)` and `a(W₁ n) · W₂ n`, (rows, M).
    opened: Vec<f32>,
    gated: Vec<f32>,
    work: Work,
}
