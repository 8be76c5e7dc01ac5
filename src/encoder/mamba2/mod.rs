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

use super::facts::Layer;
use super::layers::LayerTaps;
use super::mamba::{Norm, Original, backbone, projection, silu};
use super::{Encoder, Facts, Segment, Vocabulary};
use crate::checkpoint::{Config, Weights};
use crate::error::Result;
use crate::ops::{
    Activation, GatedRmsNorm, Linear, ShortConv, Ssd, SsdSizes, SsdState, Tail, Tensor,
};
use serde::{Deserialize, Serialize};

/// Keys of transformers' configuration. Those that are not read concern training and kernels, or
/// are of early files, which no release of transformers reads.
const KEYS: [&str; 27] = [
    "chunk_size",
    "conv_kernel",
    "expand",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_norm_epsilon",
    "n_groups",
    "norm_before_gate",
    "num_heads",
    "num_hidden_layers",
    "rescale_prenorm_residual",
    "residual_in_fp32",
    "rms_norm",
    "state_size",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_limit",
    "time_step_max",
    "time_step_min",
    "time_step_rank",
    "time_step_scale",
    "use_bias",
    "use_conv_bias",
    "vocab_size",
];

/// Keys of mamba_ssm's `ssm_cfg`.
const MIXER_KEYS: [&str; 22] = [
    "A_init_range",
    "D_has_hdim",
    "bias",
    "chunk_size",
    "conv_bias",
    "conv_init",
    "d_conv",
    "d_ssm",
    "d_state",
    "dt_init_floor",
    "dt_limit",
    "dt_max",
    "dt_min",
    "expand",
    "headdim",
    "layer",
    "ngroups",
    "norm_before_gate",
    "process_group",
    "rmsnorm",
    "sequence_parallel",
    "use_mem_eff_path",
];

/// The first release of transformers whose gated norm takes each group by itself.
const GROUPED: (u32, u32) = (5, 23);

/// The sizes of a model, from its `config.json`: transformers' or mamba_ssm's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// D, `hidden_size` or `d_model`.
    pub width: usize,
    /// `num_hidden_layers` or `n_layer`.
    pub layers: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
    /// Of the norms before the layers and after the last one.
    pub eps: f64,
    /// Are these RMS norms, as in all published models? Else layer norms, of mamba_ssm only.
    pub rms_norm: bool,
    /// H, P, G and N.
    pub scan: SsdSizes,
    /// K, `conv_kernel` or `d_conv`.
    pub taps: usize,
    /// The projections in and out have a bias.
    pub bias: bool,
    /// The short convolution has a bias.
    pub conv_bias: bool,
    /// Least and largest time step, `time_step_limit` or `dt_limit`.
    pub limit: (f64, f64),
    /// Parts of I that the gated norm normalises by themselves.
    pub gate_groups: usize,
    /// Of the gated norm.
    pub gate_eps: f64,
}

impl Hyperparameters {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config) -> Result<Self> {
        if config.has("d_model") {
            return Self::read_mamba_ssm(config);
        }
        config.deny_unknown(&KEYS)?;
        silu(config)?;
        let width = config.size("hidden_size", 1..=1 << 16, Some(4096))?;
        let scan = SsdSizes {
            heads: config.size("num_heads", 1..=1 << 16, Some(128))?,
            channels: config.size("head_dim", 1..=1 << 16, Some(64))?,
            groups: config.size("n_groups", 1..=1 << 16, Some(8))?,
            states: config.size("state_size", 1..=1 << 16, Some(128))?,
        };
        let expand = config.number("expand", Some(2.0))?;
        if (expand * width as f64) as usize != scan.inner() {
            return Err(config.error(
                "num_heads",
                "num_heads × head_dim is not expand × hidden_size",
            ));
        }
        if !scan.heads.is_multiple_of(scan.groups) {
            return Err(config.error("n_groups", "does not divide num_heads"));
        }
        let eps = config.number("layer_norm_epsilon", Some(1e-5))?;
        Ok(Self {
            width,
            layers: config.size("num_hidden_layers", 1..=1 << 12, Some(64))?,
            vocabulary: config.size("vocab_size", 1..=1 << 20, Some(32768))?,
            eps,
            rms_norm: true,
            scan,
            taps: config.size("conv_kernel", 1..=1 << 10, Some(4))?,
            bias: config.flag("use_bias", Some(false))?,
            conv_bias: config.flag("use_conv_bias", Some(true))?,
            limit: limit(config, "time_step_limit")?,
            gate_groups: if normalises_groups(config)? {
                scan.groups
            } else {
                1
            },
            gate_eps: eps,
        })
    }

    fn read_mamba_ssm(config: &Config) -> Result<Self> {
        let Original {
            width,
            layers,
            vocabulary,
            eps,
            rms_norm,
            mixer: ssm,
        } = Original::read(config)?;
        ssm.deny_unknown(&MIXER_KEYS)?;
        only(&ssm, "rmsnorm", true)?;
        only(&ssm, "norm_before_gate", false)?;
        only(&ssm, "D_has_hdim", false)?;
        let inner = width * ssm.size("expand", 1..=64, Some(2))?;
        if ssm.size("d_ssm", 1..=1 << 22, Some(inner))? != inner {
            return Err(ssm.error("d_ssm", "only the whole inner width is supported"));
        }
        let channels = ssm.size("headdim", 1..=1 << 16, Some(64))?;
        let groups = ssm.size("ngroups", 1..=1 << 16, Some(1))?;
        if !inner.is_multiple_of(channels) {
            return Err(ssm.error("headdim", "does not divide expand × d_model"));
        }
        if !(inner / channels).is_multiple_of(groups) {
            return Err(ssm.error("ngroups", "does not divide the number of heads"));
        }
        Ok(Self {
            width,
            layers,
            vocabulary,
            eps,
            rms_norm,
            scan: SsdSizes {
                heads: inner / channels,
                channels,
                groups,
                states: ssm.size("d_state", 1..=1 << 16, Some(128))?,
            },
            taps: ssm.size("d_conv", 1..=1 << 10, Some(4))?,
            bias: ssm.flag("bias", Some(false))?,
            conv_bias: ssm.flag("conv_bias", Some(true))?,
            limit: limit(&ssm, "dt_limit")?,
            gate_groups: groups,
            // Whatever the configuration says of the other norms.
            gate_eps: 1e-5,
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        let tail = (self.taps - 1) * self.scan.columns() * size_of::<f32>();
        let projections = 2 * self.width * (self.projected() + self.scan.inner());
        let flops = self.layers * (projections + self.scan.flops());
        Facts {
            state_bytes: self.layers * (tail + self.scan.state_bytes()),
            // The scan has no gradient there yet.
            trains_on_gpu: false,
            note: (self.gate_groups < self.scan.groups).then(|| {
                "its gated norms take all channels together, as transformers did when config.json \
                 was written; without transformers_version there each group is normalised by \
                 itself, as in mamba_ssm"
                    .to_string()
            }),
            ..Facts::state_space(self.width, self.layers, flops, vocabulary)
        }
    }

    /// Width of the projection in: z, then x, B and C, then the time steps.
    fn projected(&self) -> usize {
        self.scan.inner() + self.scan.columns() + self.scan.heads
    }
}

/// An error unless `key` is `value`, which it also is when absent.
fn only(config: &Config, key: &str, value: bool) -> Result<()> {
    if config.flag(key, Some(value))? == value {
        Ok(())
    } else {
        Err(config.error(key, format!("only {value}, as published, is supported")))
    }
}

/// Does the release of transformers that wrote the file normalise each group by itself? Without a
/// release it does, as mamba_ssm, with which published models were trained.
fn normalises_groups(config: &Config) -> Result<bool> {
    let version = config.text("transformers_version", Some(""))?;
    let mut numbers = version.split('.').map(str::parse::<u32>);
    Ok(match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= GROUPED,
        _ => true,
    })
}

/// Two numbers, the second of which may be `Infinity`.
fn limit(config: &Config, key: &str) -> Result<(f64, f64)> {
    let Some(value) = config.get(key) else {
        return Ok((0.0, f64::INFINITY));
    };
    let bounds = value.as_array().map(|bounds| {
        let number = |bound: &serde_json::Value| match bound.as_str() {
            Some("Infinity") => Some(f64::INFINITY),
            _ => bound.as_f64(),
        };
        bounds.iter().map(number).collect::<Vec<_>>()
    });
    match bounds.as_deref() {
        Some(&[Some(least), Some(most)]) if least <= most => Ok((least, most)),
        _ => Err(config.error(key, "is not a list of two numbers, the lesser first")),
    }
}

/// What a sequence leaves behind: K − 1 rows before the short convolution, and the scan's state.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    layers: Vec<(Tail, SsdState)>,
}

/// The Mamba-2 encoder.
pub struct Model {
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: Norm,
}

struct Block {
    norm: Norm,
    in_z: Linear,
    in_xbc: Linear,
    in_step: Linear,
    conv: ShortConv,
    scan: Ssd,
    gated_norm: GatedRmsNorm,
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
        let layer = |block: &Block| (block.conv.start(lanes), block.scan.start(lanes));
        Ok(State {
            layers: self.blocks.iter().map(layer).collect(),
        })
    }

    fn fork(&self, from: &[(&State, usize)], _room: usize) -> Result<State> {
        let layer = |(i, block): (usize, &Block)| {
            let layers = || from.iter().map(|(state, lane)| (&state.layers[i], *lane));
            let tails: Vec<_> = layers().map(|(layer, lane)| (&layer.0, lane)).collect();
            let scans: Vec<_> = layers().map(|(layer, lane)| (&layer.1, lane)).collect();
            Ok((block.conv.fork(&tails)?, block.scan.fork(&scans)?))
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
        for (i, (block, (tail, state))) in blocks.enumerate().take(taps.depth()) {
            taps.put(Layer::After(i), &x);
            let y = block.norm.forward(&x)?;
            let xbc = block.in_xbc.forward(&y)?; // (T, I + 2GN)
            let xbc = block.conv.forward(&xbc, tail, segments)?;
            let steps = block.in_step.forward(&y)?; // (T, H)
            let scanned = block.scan.forward(&xbc, &steps, state, segments)?; // (T, I)
            let z = block.in_z.forward(&y)?; // (T, I)
            let y = block.gated_norm.forward(&scanned, &z)?;
            x = block.out_proj.forward_residual(&y, &x)?; // (T, D)
        }
        taps.finish(&x, |x| self.norm.forward(x))
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let mixer = weights.at("mixer");
        let Hyperparameters {
            width, scan, bias, ..
        } = *sizes;
        let (inner, columns, heads) = (scan.inner(), scan.columns(), scan.heads);
        let conv = mixer.at("conv1d");
        let conv_bias = if sizes.conv_bias {
            Some(conv.tensor("bias", &[columns])?)
        } else {
            None
        };
        let shape = [sizes.projected(), width];
        let (in_proj, in_bias) = projection(&mixer.at("in_proj"), shape, bias)?;
        let rows = |from: usize, count: usize| -> Result<Linear> {
            let bias = in_bias.as_ref().map(|bias| bias.narrow(0, from, count));
            Ok(Linear::new(
                in_proj.narrow(0, from, count)?,
                bias.transpose()?,
            ))
        };
        let (out, out_bias) = projection(&mixer.at("out_proj"), [width, inner], bias)?;
        let gate = mixer.at("norm").tensor("weight", &[inner])?;
        Ok(Self {
            norm: Norm::load(&weights.at("norm"), width, sizes.eps, sizes.rms_norm, false)?,
            in_z: rows(0, inner)?,
            in_xbc: rows(inner, columns)?,
            in_step: rows(inner + columns, heads)?,
            conv: ShortConv::new(
                &conv.tensor("weight", &[columns, 1, sizes.taps])?,
                conv_bias.as_ref(),
                Activation::Silu,
            )?,
            scan: Ssd::new(
                scan,
                &mixer.tensor("A_log", &[heads])?,
                &mixer.tensor("dt_bias", &[heads])?,
                &mixer.tensor("D", &[heads])?,
                sizes.limit,
            )?,
            gated_norm: GatedRmsNorm::new(gate, sizes.gate_groups, sizes.gate_eps),
            out_proj: Linear::new(out, out_bias),
        })
    }
}

#[cfg(test)]
mod tests;
