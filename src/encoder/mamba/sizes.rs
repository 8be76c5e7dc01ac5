//! The sizes of a Mamba model, from its `config.json`: transformers' or mamba_ssm's keys.

use crate::checkpoint::Config;
use crate::encoder::{Facts, Vocabulary};
use crate::error::Result;
use crate::ops::SelectiveScan;

/// Keys of transformers' configuration. Those that are not read concern training and kernels.
const KEYS: [&str; 22] = [
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
    "use_associative_scan",
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
    /// Are they RMS norms, as in all published models? Else layer norms, of mamba_ssm only.
    pub rms_norm: bool,
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
        if config.has("d_model") {
            let original = Original::read(config)?;
            let mixer = MixerSizes::read(&original.mixer, original.width)?;
            return Ok(Self {
                width: original.width,
                layers: original.layers,
                vocabulary: original.vocabulary,
                eps: original.eps,
                rms_norm: original.rms_norm,
                mixer,
            });
        }
        config.deny_unknown(&KEYS)?;
        silu(config)?;
        let width = config.size("hidden_size", 1..=1 << 16, Some(768))?;
        let expand = config.size("expand", 1..=64, Some(2))?;
        Ok(Self {
            width,
            layers: config.size("num_hidden_layers", 1..=1 << 12, Some(32))?,
            vocabulary: config.size("vocab_size", 1..=1 << 20, Some(50280))?,
            eps: config.epsilon("layer_norm_epsilon", 1e-5)?,
            rms_norm: true,
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

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        let flops = self.layers * (self.mixer.flops() + self.mixer.flops_in_out());
        Facts {
            state_bytes: self.layers * self.mixer.state_bytes(),
            ..Facts::state_space(self.width, self.layers, flops, vocabulary)
        }
    }
}

/// What mamba_ssm's configurations of Mamba and Mamba-2 have in common.
pub(in crate::encoder) struct Original {
    pub width: usize,
    pub layers: usize,
    pub vocabulary: usize,
    pub eps: f64,
    pub rms_norm: bool,
    /// `ssm_cfg`.
    pub mixer: Config,
}

impl Original {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config) -> Result<Self> {
        config.deny_unknown(&ORIGINAL_KEYS)?;
        if !config.sizes("attn_layer_idx", 0..=1 << 12)?.is_empty() {
            return Err(config.error("attn_layer_idx", "attention layers are not supported"));
        }
        if config.size("d_intermediate", 0..=1 << 20, Some(0))? != 0 {
            return Err(config.error("d_intermediate", "feed-forward layers are not supported"));
        }
        let multiple = config.size("pad_vocab_size_multiple", 1..=1 << 20, Some(8))?;
        let vocabulary = config.size("vocab_size", 1..=1 << 20, Some(50277))?;
        Ok(Self {
            width: config.size("d_model", 1..=1 << 16, None)?,
            layers: config.size("n_layer", 1..=1 << 12, Some(64))?,
            vocabulary: vocabulary.next_multiple_of(multiple),
            eps: config.epsilon("norm_epsilon", 1e-5)?,
            rms_norm: config.flag("rms_norm", Some(true))?,
            mixer: config.object("ssm_cfg")?,
        })
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

/// An error unless `hidden_act` of transformers' configurations is SiLU.
pub(in crate::encoder) fn silu(config: &Config) -> Result<()> {
    match config.text("hidden_act", Some("silu"))?.as_str() {
        "silu" | "swish" => Ok(()),
        _ => Err(config.error("hidden_act", "only silu, the published one, is supported")),
    }
}
