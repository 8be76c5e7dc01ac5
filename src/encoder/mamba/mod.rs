//! Mamba: Gu & Dao 2023, arXiv:2312.00752.
//!
//! Symbols: T tokens in a step, D width, I inner width, N states of a channel, R rank of the
//! time step, K taps of the short convolution.
//! Keys: `backbone.layers.{i}.mixer.in_proj.weight`, … (transformers and mamba_ssm, which differ
//! in `embeddings` and `embedding`; below any prefix).
//!
//! Differences from the published code: `forward` continues a sequence from its state; the time
//! step's projection runs inside the scan (see [`crate::ops::SelectiveScan`]).

mod sizes;

pub use sizes::{Hyperparameters, MixerSizes};
pub(super) use sizes::{Original, silu};

use super::facts::Layer;
use super::layers::LayerTaps;
use super::{Encoder, Segment};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::{
    Activation, LayerNorm, Linear, RmsNorm, ScanState, SelectiveScan, ShortConv, Tail, Tensor,
};
use serde::{Deserialize, Serialize};

/// What a sequence leaves behind in each layer.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    layers: Vec<Carry>,
}

/// The Mamba encoder.
pub struct Model {
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: Norm,
}

struct Block {
    norm: Norm,
    in_u: Linear,
    in_z: Linear,
    state_space: StateSpace,
    out_proj: Linear,
}

impl Model {
    /// Takes the weights below `backbone`.
    pub fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let (backbone, words) = backbone(weights);
        let blocks = (0..sizes.layers)
            .map(|i| Block::load(sizes, &backbone.at("layers").at(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            embedding: words.tensor("weight", &[sizes.vocabulary, sizes.width])?,
            blocks,
            norm: Norm::load(
                &backbone.at("norm_f"),
                sizes.width,
                sizes.eps,
                sizes.rms_norm,
                false,
            )?,
        })
    }

    /// The embedding (V, D), to which the output head is tied where it is not stored.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }
}

/// The encoder's weights and its embedding, however they were saved.
pub(super) fn backbone(weights: &Weights) -> (Weights, Weights) {
    let backbone = weights.below(&["layers.0.norm.weight"]);
    let backbone = backbone.unwrap_or_else(|| weights.at("backbone"));
    let words = ["embeddings", "embedding"].map(|name| backbone.at(name));
    let stored = words.iter().find(|words| words.has("weight")).cloned();
    let [words, _] = words;
    (backbone, stored.unwrap_or(words))
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        let layer = |block: &Block| block.state_space.start(lanes);
        Ok(State {
            layers: self.blocks.iter().map(layer).collect(),
        })
    }

    fn fork(&self, from: &[(&State, usize)], _room: usize) -> Result<State> {
        let layer = |(i, block): (usize, &Block)| {
            let carries = from.iter().map(|(state, lane)| (&state.layers[i], *lane));
            block.state_space.fork(&carries.collect::<Vec<_>>())
        };
        let layers = self.blocks.iter().enumerate().map(layer);
        Ok(State {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        let mut taps = LayerTaps::new(layers, self.blocks.len())?;
        let mut x = self.embedding.index_select(tokens, 0)?; // (T, D)
        let blocks = self.blocks.iter().zip(&mut state.layers);
        for (i, (block, carry)) in blocks.enumerate().take(taps.depth()) {
            taps.put(Layer::After(i), &x);
            x = block.forward(&x, carry, segments)?; // (T, D)
        }
        taps.finish(&x, |x| self.norm.forward(x))
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let mixer = weights.at("mixer");
        let MixerSizes {
            width, inner, bias, ..
        } = sizes.mixer;
        let (in_u, in_z) = halves(
            projection(&mixer.at("in_proj"), [2 * inner, width], bias)?,
            weights.rounded(),
        )?;
        let (out, out_bias) = projection(&mixer.at("out_proj"), [width, inner], bias)?;
        Ok(Self {
            norm: Norm::load(&weights.at("norm"), width, sizes.eps, sizes.rms_norm, false)?,
            in_u,
            in_z,
            state_space: StateSpace::load(&sizes.mixer, &mixer)?,
            out_proj: Linear::new(out, out_bias).rounding(weights.rounded()),
        })
    }

    /// (T, D) to (T, D), residual included.
    fn forward(&self, x: &Tensor, carry: &mut Carry, segments: &[Segment]) -> Result<Tensor> {
        let y = self.norm.forward_to_product(x)?;
        let u = self.in_u.forward_rounded(&y)?; // (T, I)
        let z = self.in_z.forward_rounded(&y)?; // (T, I)
        let y = self
            .state_space
            .forward(&u, None, Some(&z), carry, segments)?; // (T, I)
        self.out_proj.forward_residual(&y, x)
    }
}

/// Between the projections in and out: short convolution, selection and scan, in one direction.
pub(super) struct StateSpace {
    conv: ShortConv,
    x_proj: Linear,
    scan: SelectiveScan,
}

/// What a sequence leaves behind in a `StateSpace`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Carry {
    tail: Tail,
    hidden: ScanState,
}

impl StateSpace {
    /// Takes the weights of a mixer, except those of the projections in and out.
    pub fn load(sizes: &MixerSizes, weights: &Weights) -> Result<Self> {
        let (inner, states, rank) = (sizes.inner, sizes.states, sizes.rank);
        let (conv, dt) = (weights.at("conv1d"), weights.at("dt_proj"));
        let bias = if sizes.conv_bias {
            Some(conv.tensor("bias", &[inner])?)
        } else {
            None
        };
        Ok(Self {
            conv: ShortConv::new(
                &conv.tensor("weight", &[inner, 1, sizes.taps])?,
                bias.as_ref(),
                Activation::Silu,
            )?,
            x_proj: Linear::new(
                weights
                    .at("x_proj")
                    .matrix("weight", &[rank + 2 * states, inner])?,
                None,
            )
            .rounding(weights.rounded()),
            scan: SelectiveScan::new(
                &weights.tensor("A_log", &[inner, states])?,
                &weights.tensor("D", &[inner])?,
                &dt.tensor("weight", &[inner, rank])?,
                &dt.tensor("bias", &[inner])?,
            )?,
        })
    }

    /// The same from the last token to the first.
    pub fn reversed(self) -> Self {
        Self {
            conv: self.conv.reversed(),
            x_proj: self.x_proj,
            scan: self.scan.reversed(),
        }
    }

    pub fn start(&self, lanes: usize) -> Carry {
        Carry {
            tail: self.conv.start(lanes),
            hidden: self.scan.start(lanes),
        }
    }

    fn fork(&self, from: &[(&Carry, usize)]) -> Result<Carry> {
        let tails: Vec<_> = from
            .iter()
            .map(|(carry, lane)| (&carry.tail, *lane))
            .collect();
        let hidden: Vec<_> = from
            .iter()
            .map(|(carry, lane)| (&carry.hidden, *lane))
            .collect();
        Ok(Carry {
            tail: self.conv.fork(&tails)?,
            hidden: self.scan.fork(&hidden)?,
        })
    }

    /// `(y + added) · silu(gate)`, all (T, I).
    pub fn forward(
        &self,
        u: &Tensor,
        added: Option<&Tensor>,
        gate: Option<&Tensor>,
        carry: &mut Carry,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let u = self.conv.forward(u, &mut carry.tail, segments)?; // (T, I)
        let projected = self.x_proj.forward(&u)?; // (T, R + 2N)
        self.scan
            .forward(&u, &projected, added, gate, &mut carry.hidden, segments)
    }
}

/// The weight (rows, columns) and bias (rows) of a projection in or out.
pub(super) fn projection(
    weights: &Weights,
    [rows, columns]: [usize; 2],
    bias: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let bias = if bias {
        Some(weights.tensor("bias", &[rows])?)
    } else {
        None
    };
    Ok((weights.matrix("weight", &[rows, columns])?, bias))
}

/// The projection in, as its halves u and z: (2I, D) to (I, D) each; `rounded`: in bf16 on the CPU.
pub(super) fn halves(
    (weight, bias): (Tensor, Option<Tensor>),
    rounded: bool,
) -> Result<(Linear, Linear)> {
    let inner = weight.dim(0)? / 2;
    let half = |from: usize| -> Result<Linear> {
        let bias = bias.as_ref().map(|bias| bias.narrow(0, from, inner));
        let weight = weight.narrow(0, from, inner)?;
        Ok(Linear::new(weight, bias.transpose()?).rounding(rounded))
    };
    Ok((half(0)?, half(inner)?))
}

/// The norm before a layer, or after the last one.
pub(super) enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Norm {
    /// Takes `weight` (D), and `bias` (D) unless `rms`; of channels in reverse order if `reversed`.
    pub fn load(
        weights: &Weights,
        width: usize,
        eps: f64,
        rms: bool,
        reversed: bool,
    ) -> Result<Self> {
        let values = |name| -> Result<Tensor> {
            let values = weights.tensor(name, &[width])?;
            Ok(if reversed { values.flip(0)? } else { values })
        };
        let weight = values("weight")?;
        Ok(if rms {
            Self::Rms(RmsNorm::new(weight, eps))
        } else {
            Self::Layer(LayerNorm::new(weight, values("bias")?, eps))
        })
    }

    /// (T, D) to (T, D).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Rms(norm) => norm.forward(x),
            Self::Layer(norm) => norm.forward(x),
        }
    }

    /// The same, for matrix products alone.
    pub fn forward_to_product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Rms(norm) => norm.forward_to_product(x),
            Self::Layer(norm) => norm.forward_to_product(x),
        }
    }
}
