//! Mamba-2: Dao & Gu 2024, arXiv:2405.21060.
//!
//! Symbols: T tokens in a step, D width, H heads of P channels (I = H · P), G groups that share B
//! and C, N states of a channel, K taps of the short convolution.
//! Keys: `backbone.layers.{i}.mixer.in_proj.weight`, … (transformers and mamba_ssm, which differ
//! in `embeddings` and `embedding`; below any prefix).
//!
//! Differences from the published code: `forward` continues a sequence from its state. With more
//! than one group the published codes disagree on the gated norm: mamba_ssm normalises each group's
//! channels, transformers did so with all I together before 5.23. What wrote the configuration
//! says which is meant.

mod sizes;

pub use sizes::{Hyperparameters, MixerSizes};

use super::facts::Layer;
use super::layers::LayerTaps;
use super::mamba::{Norm, backbone, projection};
use super::{Encoder, Segment};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::{
    Activation, GatedRmsNorm, Linear, ShortConv, Ssd, SsdSizes, SsdState, Tail, Tensor,
};
use serde::{Deserialize, Serialize};

/// What a sequence leaves behind in each layer.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    layers: Vec<Carry>,
}

/// The Mamba-2 encoder.
pub struct Model {
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: Norm,
}

struct Block {
    norm: Norm,
    into: ProjectionIn,
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
            width, scan, bias, ..
        } = sizes.mixer;
        let into = [sizes.mixer.projected(), width];
        let into = projection(&mixer.at("in_proj"), into, bias)?;
        let (out, out_bias) = projection(&mixer.at("out_proj"), [width, scan.inner()], bias)?;
        Ok(Self {
            norm: Norm::load(&weights.at("norm"), width, sizes.eps, sizes.rms_norm, false)?,
            into: ProjectionIn::new(&scan, into, weights.rounded())?,
            state_space: StateSpace::load(&sizes.mixer, &mixer)?,
            out_proj: Linear::new(out, out_bias).rounding(weights.rounded()),
        })
    }

    /// (T, D) to (T, D), residual included.
    fn forward(&self, x: &Tensor, carry: &mut Carry, segments: &[Segment]) -> Result<Tensor> {
        let y = self.norm.forward_to_product(x)?;
        let xbc = self.into.xbc.forward_rounded(&y)?; // (T, I + 2GN)
        let steps = self.into.steps.forward(&y)?; // (T, H)
        let scanned = self.state_space.forward(&xbc, &steps, carry, segments)?; // (T, I)
        let z = self.into.z.forward_rounded(&y)?; // (T, I)
        let y = self.state_space.gated_to_product(&scanned, &z)?;
        self.out_proj.forward_residual(&y, x)
    }
}

/// The projection in, by what its rows give.
pub(super) struct ProjectionIn {
    /// The gate, (T, I).
    pub z: Linear,
    /// x, B and C side by side, (T, I + 2GN).
    pub xbc: Linear,
    /// The time steps, (T, H).
    pub steps: Linear,
}

impl ProjectionIn {
    /// Of the weight (2I + 2GN + H, D) and the bias; `rounded`: in bf16 on the CPU.
    pub fn new(
        scan: &SsdSizes,
        (weight, bias): (Tensor, Option<Tensor>),
        rounded: bool,
    ) -> Result<Self> {
        let (inner, columns) = (scan.inner(), scan.columns());
        let rows = |from: usize, count: usize| -> Result<Linear> {
            let bias = bias.as_ref().map(|bias| bias.narrow(0, from, count));
            let weight = weight.narrow(0, from, count)?;
            Ok(Linear::new(weight, bias.transpose()?).rounding(rounded))
        };
        Ok(Self {
            z: rows(0, inner)?,
            xbc: rows(inner, columns)?,
            steps: rows(inner + columns, scan.heads)?,
        })
    }
}

/// Between the projections in and out: short convolution, scan and gated norm, in one direction.
pub(super) struct StateSpace {
    conv: ShortConv,
    scan: Ssd,
    gated_norm: GatedRmsNorm,
}

/// What a sequence leaves behind in a `StateSpace`: K − 1 rows before the short convolution, and
/// the scan's state.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Carry {
    tail: Tail,
    scan: SsdState,
}

impl StateSpace {
    /// Takes the weights of a mixer, except those of the projections in and out.
    pub fn load(sizes: &MixerSizes, weights: &Weights) -> Result<Self> {
        let (inner, columns) = (sizes.scan.inner(), sizes.scan.columns());
        let (conv, heads) = (weights.at("conv1d"), [sizes.scan.heads]);
        let bias = if sizes.conv_bias {
            Some(conv.tensor("bias", &[columns])?)
        } else {
            None
        };
        let gate = weights.at("norm").tensor("weight", &[inner])?;
        Ok(Self {
            conv: ShortConv::new(
                &conv.tensor("weight", &[columns, 1, sizes.taps])?,
                bias.as_ref(),
                Activation::Silu,
            )?,
            scan: Ssd::new(
                sizes.scan,
                &weights.tensor("A_log", &heads)?,
                &weights.tensor("dt_bias", &heads)?,
                &weights.tensor("D", &heads)?,
                sizes.limit,
            )?,
            gated_norm: GatedRmsNorm::new(gate, sizes.gate_groups, sizes.gate_eps),
        })
    }

    /// The same from the last token to the first.
    pub fn reversed(self) -> Self {
        Self {
            conv: self.conv.reversed(),
            scan: self.scan.reversed(),
            gated_norm: self.gated_norm,
        }
    }

    pub fn start(&self, lanes: usize) -> Carry {
        Carry {
            tail: self.conv.start(lanes),
            scan: self.scan.start(lanes),
        }
    }

    fn fork(&self, from: &[(&Carry, usize)]) -> Result<Carry> {
        let tails = from.iter().map(|(carry, lane)| (&carry.tail, *lane));
        let scans = from.iter().map(|(carry, lane)| (&carry.scan, *lane));
        Ok(Carry {
            tail: self.conv.fork(&tails.collect::<Vec<_>>())?,
            scan: self.scan.fork(&scans.collect::<Vec<_>>())?,
        })
    }

    /// (T, I + 2GN) and (T, H) to (T, I).
    pub fn forward(
        &self,
        xbc: &Tensor,
        steps: &Tensor,
        carry: &mut Carry,
        segments: &[Segment],
    ) -> Result<Tensor> {
        let xbc = self.conv.forward(xbc, &mut carry.tail, segments)?;
        self.scan.forward(&xbc, steps, &mut carry.scan, segments)
    }

    /// The norm of y · silu(z), both (T, I).
    pub fn gated(&self, y: &Tensor, z: &Tensor) -> Result<Tensor> {
        self.gated_norm.forward(y, z)
    }

    /// The same, for matrix products alone.
    fn gated_to_product(&self, y: &Tensor, z: &Tensor) -> Result<Tensor> {
        self.gated_norm.forward_to_product(y, z)
    }
}

#[cfg(test)]
mod tests;
