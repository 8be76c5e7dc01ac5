//! StripedHyena: Hyena operators with short or modal filters, and a few layers of attention
//! between them. Poli et al. 2023 (github.com/togethercomputer/stripedhyena). [`evo1`](super::evo1)
//! and [`evo2`](super::evo2) say which filters stand where, and how the checkpoints name them.
//!
//! Symbols: T tokens in a step, D width, H heads, M width of the feed-forward layer, K taps.
//! Keys: `blocks.{i}.projections.weight`, `blocks.{i}.inner_mha_cls.Wqkv.weight`, …, below any
//! prefix, as `backbone.`
//!
//! Differences from the published code: projections are permuted when they are loaded, so that
//! their columns are `[x2 | x1 | v]` and `[q | k | v]` whatever the order in the file; everything
//! is computed in f32; `forward` continues a sequence from its state.

mod filter;
mod sizes;

use super::facts::Layer;
use super::layers::LayerTaps;
use super::{Branch, Encoder, Facts, Segment};
use crate::checkpoint::Weights;
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use crate::ops::{
    Activation, Attention, Cache, GatedFeedForward, Linear, RmsNorm, ShortConv, Tail, gate,
    gate_to_product,
};
pub use filter::FilterKind;
use filter::{Filter, FilterState};
use serde::{Deserialize, Serialize};
pub(super) use sizes::mixers;
pub use sizes::{Hyperparameters, MixerKind, Order};

/// The module of a block whose output the authors of Evo 2 advise to use.
pub(super) const ADDED: &str = "mlp.l3";

/// A StripedHyena encoder.
pub struct Model {
    sizes: Hyperparameters,
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: RmsNorm,
}

struct Block {
    pre_norm: RmsNorm,
    mixer: Mixer,
    mlp: GatedFeedForward,
}

enum Mixer {
    Hyena(Box<Hyena>),
    Attention {
        qkv: Linear,
        attention: Box<Attention>,
        out: Linear,
    },
}

struct Hyena {
    projections: Linear,
    short_conv: ShortConv,
    filter: Filter,
    out: Linear,
}

/// What a sequence leaves behind.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    blocks: Vec<BlockState>,
}

#[derive(Clone, Serialize, Deserialize)]
enum BlockState {
    /// The last rows of the projections, and what the filter carries.
    Hyena(Tail, FilterState),
    Attention(Cache),
}

impl Model {
    /// Takes the weights, below any prefix.
    pub fn load(sizes: Hyperparameters, weights: &Weights) -> Result<Self> {
        let below = weights.below(&["embedding_layer.weight"]);
        let weights = below.unwrap_or_else(|| weights.clone());
        let blocks = (0..sizes.mixers.len())
            .map(|i| Block::load(&sizes, i, &weights.at("blocks").at(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            embedding: weights
                .at("embedding_layer")
                .tensor("weight", &[sizes.vocabulary, sizes.width])?,
            blocks,
            norm: norm(&weights.at("norm"), &sizes)?,
            sizes,
        })
    }

    /// The embedding (V, D), to which the output head is tied where it is not stored.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// As [`super::Model::set_attention_window`].
    pub fn set_attention_window(&mut self, window: Option<usize>, facts: &mut Facts) -> Result<()> {
        self.sizes.window = window;
        let mut found = false;
        for block in &mut self.blocks {
            if let Mixer::Attention { attention, .. } = &mut block.mixer {
                attention.set_window(window);
                found = true;
            }
        }
        if !found {
            return Err(Error::usage(
                "the model has no attention to set a window for",
            ));
        }
        *facts = self.sizes.facts();
        Ok(())
    }
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        let start = |block: &Block| match &block.mixer {
            Mixer::Attention { attention, .. } => BlockState::Attention(attention.start(lanes)),
            Mixer::Hyena(hyena) => {
                BlockState::Hyena(hyena.short_conv.start(lanes), hyena.filter.start(lanes))
            }
        };
        Ok(State {
            blocks: self.blocks.iter().map(start).collect(),
        })
    }

    fn fork(&self, from: &[(&State, usize)], _room: usize) -> Result<State> {
        let block = |(i, block): (usize, &Block)| {
            let states = || from.iter().map(|(state, lane)| (&state.blocks[i], *lane));
            Ok(match &block.mixer {
                Mixer::Attention { .. } => {
                    let caches = states().map(|(state, lane)| match state {
                        BlockState::Attention(cache) => Ok((cache, lane)),
                        BlockState::Hyena(..) => Err(foreign_state()),
                    });
                    BlockState::Attention(Cache::fork(&caches.collect::<Result<Vec<_>>>()?)?)
                }
                Mixer::Hyena(hyena) => {
                    let (mut tails, mut filters) = (Vec::new(), Vec::new());
                    for (state, lane) in states() {
                        let BlockState::Hyena(tail, filter) = state else {
                            return Err(foreign_state());
                        };
                        tails.push((tail, lane));
                        filters.push((filter, lane));
                    }
                    let filter = hyena.filter.fork(&filters)?;
                    BlockState::Hyena(hyena.short_conv.fork(&tails)?, filter)
                }
            })
        };
        let blocks = self.blocks.iter().enumerate().map(block);
        Ok(State {
            blocks: blocks.collect::<Result<_>>()?,
        })
    }

    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        self.run(tokens, (segments, &[]), state, layers)
    }
}

impl Model {
    /// Vectors (T, D) at each of `layers`, of the rows of segments and then of branches.
    pub(super) fn run(
        &self,
        tokens: &Tensor,
        rows: (&[Segment], &[Branch]),
        state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        let mut taps = LayerTaps::new(layers, self.blocks.len())?;
        let mut x = self.embedding.index_select(tokens, 0)?; // (T, D)
        let blocks = self.blocks.iter().zip(&mut state.blocks);
        for (i, (block, state)) in blocks.enumerate().take(taps.depth()) {
            taps.put(Layer::After(i), &x);
            let y = block.pre_norm.forward_to_product(&x)?;
            x = block.mixer.forward(&y, &x, state, rows)?; // (T, D)
            let added = Layer::Within(i, ADDED);
            x = if taps.want(added) {
                let y = block.mlp.alone(&x)?; // (T, D)
                taps.put(added, &y);
                y.add(&x)?
            } else {
                block.mlp.forward(&x)? // (T, D), `x + l3(act(l1 norm x) · l2 norm x)`
            };
        }
        taps.finish(&x, |x| self.norm.forward(x))
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, i: usize, weights: &Weights) -> Result<Self> {
        let (d, inner) = (sizes.width, sizes.inner);
        let mixer = match sizes.mixers[i] {
            MixerKind::Attention => Mixer::attention(sizes, &weights.at("inner_mha_cls"))?,
            MixerKind::Hyena(kind) => Mixer::hyena(sizes, kind, weights)?,
        };
        let mlp = weights.at("mlp");
        Ok(Self {
            pre_norm: norm(&weights.at("pre_norm"), sizes)?,
            mixer,
            mlp: GatedFeedForward::new(
                norm(&weights.at("post_norm"), sizes)?,
                [
                    linear(&mlp.at("l1"), false, d, inner, None)?,
                    linear(&mlp.at("l2"), false, d, inner, None)?,
                    linear(&mlp.at("l3"), false, inner, d, None)?,
                ],
                if i > 0 && sizes.first_activated {
                    Activation::None
                } else {
                    Activation::GeluErf
                },
            ),
        })
    }
}

impl Mixer {
    fn attention(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let d = sizes.width;
        let rows = sizes.rows(sizes.qkv_order);
        let out = weights.at("out_proj");
        // Stored, but a matter of the configuration.
        let frequencies = weights.at("rotary_emb");
        frequencies.optional("inv_freq", &[d / sizes.heads / 2])?;
        Ok(Self::Attention {
            qkv: linear(&weights.at("Wqkv"), sizes.qkv_bias, d, 3 * d, Some(&rows))?,
            attention: Box::new(sizes.attention()),
            out: linear(&out, sizes.attention_out_bias, d, d, None)?,
        })
    }

    fn hyena(sizes: &Hyperparameters, kind: FilterKind, weights: &Weights) -> Result<Self> {
        let d = sizes.width;
        let rows = sizes.rows(sizes.hyena_order);
        let short = weights.at("filter");
        let taps = short.tensor("short_filter_weight", &[3 * d, 1, sizes.short])?;
        let bias = if sizes.short_bias {
            let bias = short.tensor("short_filter_bias", &[3 * d])?;
            Some(select(&bias, &rows)?)
        } else {
            None
        };
        let (taps, none) = (select(&taps, &rows)?, Activation::None);
        let (projections, out) = (weights.at("projections"), weights.at("out_filter_dense"));
        let with_bias = sizes.projection_bias;
        Ok(Self::Hyena(Box::new(Hyena {
            projections: linear(&projections, with_bias, d, 3 * d, Some(&rows))?,
            short_conv: ShortConv::new(&taps, bias.as_ref(), none)?,
            filter: Filter::load(kind, d, &short)?,
            out: linear(&out, sizes.hyena_out_bias, d, d, None)?,
        })))
    }

    /// (T, D) to (T, D), added to `residual`.
    fn forward(
        &self,
        x: &Tensor,
        residual: &Tensor,
        state: &mut BlockState,
        (segments, branches): (&[Segment], &[Branch]),
    ) -> Result<Tensor> {
        let d = x.dim(1)?;
        match (self, state) {
            (Self::Hyena(hyena), BlockState::Hyena(tail, state)) => {
                let u = hyena.projections.forward_rounded(x)?; // (T, 3D): x2, x1, v
                let u = hyena
                    .short_conv
                    .forward_branched(&u, tail, segments, branches)?;
                let g = gate((&u, 1), (&u, 2), d)?; // (T, D)
                let y = hyena.filter.forward(&g, state, segments, branches)?;
                let y = gate_to_product((&u, 0), (&y, 0), d, Activation::None)?;
                hyena.out.forward_residual(&y, residual)
            }
            (
                Self::Attention {
                    qkv,
                    attention,
                    out,
                },
                BlockState::Attention(cache),
            ) => {
                let y = qkv.forward(x)?; // (T, 3D): q, k, v
                let y = attention.forward_branched(&y, cache, segments, branches)?; // (T, D)
                out.forward_residual(&y, residual)
            }
            _ => Err(foreign_state()),
        }
    }
}

fn foreign_state() -> Error {
    Error::new(Kind::Internal, "the state is another model's")
}

/// A layer whose rows are taken in the order of `rows`.
fn linear(
    weights: &Weights,
    biased: bool,
    from: usize,
    to: usize,
    rows: Option<&[u32]>,
) -> Result<Linear> {
    let mut weight = weights.matrix("weight", &[to, from])?;
    let mut bias = if biased {
        Some(weights.tensor("bias", &[to])?)
    } else {
        None
    };
    if let Some(rows) = rows {
        weight = select(&weight, rows)?;
        bias = bias.map(|bias| select(&bias, rows)).transpose()?;
    }
    Ok(Linear::new(weight, bias).rounding(weights.rounded()))
}

/// The named rows of a tensor.
fn select(tensor: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let rows = Tensor::new(rows, tensor.device())?;
    tensor.index_select(&rows, 0)
}

fn norm(weights: &Weights, sizes: &Hyperparameters) -> Result<RmsNorm> {
    let weight = weights.tensor("scale", &[sizes.width])?;
    Ok(RmsNorm::with_eps_outside(weight, sizes.eps))
}

#[cfg(test)]
mod tests;
