//! Mamba: Gu & Dao 2023, arXiv:2312.00752.
//!
//! Symbols: T tokens in a step, D width, I inner width, N states of a channel, R rank of the
//! time step, K taps of the short convolution.
//! Keys: `backbone.layers.{i}.mixer.in_proj.weight`, … (transformers and mamba_ssm, which differ
//! in `embeddings` and `embedding`; the prefix may be missing).
//!
//! Differences from the published code: `forward` continues a sequence from its state; the time
//! step's projection runs inside the scan (see [`crate::ops::SelectiveScan`]).

use super::{Encoder, Facts, Segment, Vocabulary};
use crate::checkpoint::{Config, Weights};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::{Activation, Hidden, Linear, RmsNorm, SelectiveScan, ShortConv, Tail};
use serde::{Deserialize, Serialize};

/// Keys of transformers' configuration. Those that are not read concern training and kernels.
const KEYS: [&str; 21] = [
    "conv_kernel",
    "expand",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_norm_epsilon",
    "num_hidden_layers",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "state_size",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_rank",
    "time_step_scale",
    "use_bias",
    "use_conv_bias",
    "use_mambapy",
    "vocab_size",
];

/// Keys of mamba_ssm's configuration.
const ORIGINAL_KEYS: [&str; 13] = [
    "attn_cfg",
    "attn_layer_idx",
    "d_intermediate",
    "d_model",
    "fused_add_norm",
    "n_layer",
    "norm_epsilon",
    "pad_vocab_size_multiple",
    "residual_in_fp32",
    "rms_norm",
    "ssm_cfg",
    "tie_embeddings",
    "vocab_size",
];

/// Keys of mamba_ssm's `ssm_cfg`.
const MIXER_KEYS: [&str; 13] = [
    "bias",
    "conv_bias",
    "d_conv",
    "d_state",
    "dt_init",
    "dt_init_floor",
    "dt_max",
    "dt_min",
    "dt_rank",
    "dt_scale",
    "expand",
    "layer",
    "use_fast_path",
];

/// The sizes of a model, from its `config.json`: transformers' or mamba_ssm's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// D, `hidden_size` or `d_model`.
    pub width: usize,
    /// `num_hidden_layers` or `n_layer`.
    pub layers: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Of every norm.
    pub eps: f64,
    /// The mixer's sizes.
    pub mixer: MixerSizes,
}

/// The sizes of a selective state space layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixerSizes {
    /// D.
    pub width: usize,
    /// I, `intermediate_size` or `expand` times the width.
    pub inner: usize,
    /// N, `state_size` or `d_state`.
    pub states: usize,
    /// R, `time_step_rank` or `dt_rank`; "auto" is D / 16, rounded up.
    pub rank: usize,
    /// K, `conv_kernel` or `d_conv`.
    pub taps: usize,
    /// The projections in and out have a bias.
    pub bias: bool,
    /// The short convolution has a bias.
    pub conv_bias: bool,
}

impl Hyperparameters {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config) -> Result<Self> {
        if !config.has("hidden_size") {
            return Self::read_mamba_ssm(config);
        }
        config.deny_unknown(&KEYS)?;
        let width = config.size("hidden_size", 1..=1 << 16, None)?;
        let expand = config.size("expand", 1..=64, Some(2))?;
        if config.text("hidden_act", Some("silu"))? != "silu" {
            return Err(config.error("hidden_act", "only silu, the published one, is supported"));
        }
        Ok(Self {
            width,
            layers: config.size("num_hidden_layers", 1..=1 << 12, Some(32))?,
            vocabulary: config.size("vocab_size", 1..=1 << 20, Some(50280))?,
            eps: config.number("layer_norm_epsilon", Some(1e-5))?,
            mixer: MixerSizes {
                width,
                inner: config.size("intermediate_size", 1..=1 << 20, Some(expand * width))?,
                states: config.size("state_size", 1..=1 << 12, Some(16))?,
                rank: rank(config, "time_step_rank", width)?,
                taps: config.size("conv_kernel", 1..=1 << 10, Some(4))?,
                bias: config.flag("use_bias", Some(false))?,
                conv_bias: config.flag("use_conv_bias", Some(true))?,
            },
        })
    }

    fn read_mamba_ssm(config: &Config) -> Result<Self> {
        config.deny_unknown(&ORIGINAL_KEYS)?;
        let width = config.size("d_model", 1..=1 << 16, None)?;
        if !config.sizes("attn_layer_idx", 0..=1 << 12)?.is_empty() {
            return Err(config.error("attn_layer_idx", "attention layers are not supported"));
        }
        if config.size("d_intermediate", 0..=1 << 20, Some(0))? != 0 {
            return Err(config.error("d_intermediate", "feed-forward layers are not supported"));
        }
        if !config.flag("rms_norm", Some(true))? {
            return Err(config.error(
                "rms_norm",
                "only RMS norms, the published ones, are supported",
            ));
        }
        let multiple = config.size("pad_vocab_size_multiple", 1..=1 << 20, Some(8))?;
        Ok(Self {
            width,
            layers: config.size("n_layer", 1..=1 << 12, None)?,
            vocabulary: config
                .size("vocab_size", 1..=1 << 20, None)?
                .next_multiple_of(multiple),
            eps: config.number("norm_epsilon", Some(1e-5))?,
            mixer: MixerSizes::read(&config.object("ssm_cfg")?, width)?,
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        Facts {
            width: self.width,
            layers: self.layers,
            context: None,
            causal: true,
            vocabulary,
            state_bytes: self.layers * self.mixer.state_bytes(),
            token_bytes: 0,
            kept_bytes: 0,
            flops: self.layers * (self.mixer.flops() + self.mixer.flops_in_out()),
            layer: "norm_f",
            note: None,
        }
    }
}

impl MixerSizes {
    /// Reads mamba_ssm's `ssm_cfg`.
    pub fn read(config: &Config, width: usize) -> Result<Self> {
        config.deny_unknown(&MIXER_KEYS)?;
        Ok(Self {
            width,
            inner: width * config.size("expand", 1..=64, Some(2))?,
            states: config.size("d_state", 1..=1 << 12, Some(16))?,
            rank: rank(config, "dt_rank", width)?,
            taps: config.size("d_conv", 1..=1 << 10, Some(4))?,
            bias: config.flag("bias", Some(false))?,
            conv_bias: config.flag("conv_bias", Some(true))?,
        })
    }

    /// Bytes of state of one layer for one unfinished sequence.
    pub fn state_bytes(&self) -> usize {
        let tail = (self.taps - 1) * self.inner * size_of::<f32>();
        tail + SelectiveScan::hidden_bytes(self.inner, self.states)
    }

    /// Operations a token in the products of `StateSpace`.
    pub fn flops(&self) -> usize {
        2 * self.inner * (2 * self.rank + 2 * self.states)
    }

    /// Operations a token in the projections in and out.
    pub fn flops_in_out(&self) -> usize {
        2 * 3 * self.inner * self.width
    }
}

/// R, a number or "auto".
fn rank(config: &Config, key: &str, width: usize) -> Result<usize> {
    let auto = width.div_ceil(16);
    match config.text(key, Some("auto")) {
        Ok(text) if text == "auto" => Ok(auto),
        _ => config.size(key, 1..=1 << 16, Some(auto)),
    }
}

/// What a sequence leaves behind in each layer.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    layers: Vec<Carry>,
}

/// The Mamba encoder.
pub struct Model {
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: RmsNorm,
}

struct Block {
    norm: RmsNorm,
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
            norm: rms_norm(&backbone.at("norm_f"), sizes.width, sizes.eps)?,
        })
    }

    /// The embedding (V, D), to which the output head is tied where it is not stored.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }
}

/// The encoder's weights and its embedding, however they were saved.
pub(super) fn backbone(weights: &Weights) -> (Weights, Weights) {
    let below = weights.at("backbone");
    let roots = [&below, weights].into_iter();
    roots
        .flat_map(|root| ["embeddings", "embedding"].map(|name| (root.clone(), root.at(name))))
        .find(|(_, words)| words.has("weight"))
        .unwrap_or_else(|| (below.clone(), below.at("embeddings")))
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        let layer = |block: &Block| block.state_space.start(lanes);
        Ok(State {
            layers: self.blocks.iter().map(layer).collect(),
        })
    }

    fn forward(&self, tokens: &Tensor, segments: &[Segment], state: &mut State) -> Result<Tensor> {
        let mut x = self.embedding.index_select(tokens, 0)?; // (T, D)
        for (block, carry) in self.blocks.iter().zip(&mut state.layers) {
            x = block.forward(&x, carry, segments)?; // (T, D)
        }
        self.norm.forward(&x)
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let mixer = weights.at("mixer");
        let MixerSizes {
            width, inner, bias, ..
        } = sizes.mixer;
        let (in_u, in_z) = halves(projection(&mixer.at("in_proj"), [2 * inner, width], bias)?)?;
        let (out, out_bias) = projection(&mixer.at("out_proj"), [width, inner], bias)?;
        Ok(Self {
            norm: rms_norm(&weights.at("norm"), width, sizes.eps)?,
            in_u,
            in_z,
            state_space: StateSpace::load(&sizes.mixer, &mixer)?,
            out_proj: Linear::new(out, out_bias),
        })
    }

    /// (T, D) to (T, D), residual included.
    fn forward(&self, x: &Tensor, carry: &mut Carry, segments: &[Segment]) -> Result<Tensor> {
        let y = self.norm.forward_to_product(x)?;
        let u = self.in_u.forward(&y)?; // (T, I)
        let z = self.in_z.forward(&y)?; // (T, I)
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
    hidden: Hidden,
}

impl StateSpace {
    /// Takes the weights of a mixer, except those of the projections in and out.
    pub fn load(sizes: &MixerSizes, weights: &Weights) -> Result<Self> {
        let (inner, states, rank) = (sizes.inner, sizes.states, sizes.rank);
        let (conv, dt) = (weights.at("conv1d"), weights.at("dt_proj"));
        let bias = match sizes.conv_bias {
            true => Some(conv.tensor("bias", &[inner])?),
            false => None,
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
                    .tensor("weight", &[rank + 2 * states, inner])?,
                None,
            ),
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
    let bias = match bias {
        true => Some(weights.tensor("bias", &[rows])?),
        false => None,
    };
    Ok((weights.tensor("weight", &[rows, columns])?, bias))
}

/// The projection in, as its halves u and z: (2I, D) to (I, D) each.
pub(super) fn halves((weight, bias): (Tensor, Option<Tensor>)) -> Result<(Linear, Linear)> {
    let inner = weight.dim(0)? / 2;
    let half = |from: usize| -> Result<Linear> {
        let bias = bias.as_ref().map(|bias| bias.narrow(0, from, inner));
        Ok(Linear::new(
            weight.narrow(0, from, inner)?,
            bias.transpose()?,
        ))
    };
    Ok((half(0)?, half(inner)?))
}

/// A norm with its weight (D).
pub(super) fn rms_norm(weights: &Weights, width: usize, eps: f64) -> Result<RmsNorm> {
    Ok(RmsNorm::new(weights.tensor("weight", &[width])?, eps))
}
