//! The sizes of a Mamba-2 model, from its `config.json`: transformers' or mamba_ssm's keys.

use crate::checkpoint::Config;
use crate::encoder::mamba::{Original, silu};
use crate::encoder::{Facts, Vocabulary};
use crate::error::Result;
use crate::ops::SsdSizes;

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
    /// The mixer's sizes.
    pub mixer: MixerSizes,
}

/// The sizes of a mixer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixerSizes {
    /// D.
    pub width: usize,
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
        let eps = config.epsilon("layer_norm_epsilon", 1e-5)?;
        Ok(Self {
            width,
            layers: config.size("num_hidden_layers", 1..=1 << 12, Some(64))?,
            vocabulary: config.size("vocab_size", 1..=1 << 20, Some(32768))?,
            eps,
            rms_norm: true,
            mixer: MixerSizes {
                width,
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
            },
        })
    }

    fn read_mamba_ssm(config: &Config) -> Result<Self> {
        let original = Original::read(config)?;
        Ok(Self {
            width: original.width,
            layers: original.layers,
            vocabulary: original.vocabulary,
            eps: original.eps,
            rms_norm: original.rms_norm,
            mixer: MixerSizes::read(&original.mixer, original.width)?,
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        let mixer = &self.mixer;
        let flops = self.layers * (mixer.scan.flops() + mixer.flops_in_out());
        Facts {
            state_bytes: self.layers * mixer.state_bytes(),
            note: (mixer.gate_groups < mixer.scan.groups).then(|| {
                "its gated norms take all channels together, as transformers did when config.json \
                 was written; without transformers_version there each group is normalised by \
                 itself, as in mamba_ssm"
                    .to_string()
            }),
            ..Facts::state_space(self.width, self.layers, flops, vocabulary)
        }
    }
}

impl MixerSizes {
    /// Reads mamba_ssm's `ssm_cfg`.
    pub fn read(config: &Config, width: usize) -> Result<Self> {
        config.deny_unknown(&MIXER_KEYS)?;
        only(config, "rmsnorm", true)?;
        only(config, "norm_before_gate", false)?;
        only(config, "D_has_hdim", false)?;
        let inner = width * config.size("expand", 1..=64, Some(2))?;
        if config.size("d_ssm", 1..=1 << 22, Some(inner))? != inner {
            return Err(config.error("d_ssm", "only the whole inner width is supported"));
        }
        let channels = config.size("headdim", 1..=1 << 16, Some(64))?;
        let groups = config.size("ngroups", 1..=1 << 16, Some(1))?;
        if !inner.is_multiple_of(channels) {
            return Err(config.error("headdim", "does not divide expand × d_model"));
        }
        if !(inner / channels).is_multiple_of(groups) {
            return Err(config.error("ngroups", "does not divide the number of heads"));
        }
        Ok(Self {
            width,
            scan: SsdSizes {
                heads: inner / channels,
                channels,
                groups,
                states: config.size("d_state", 1..=1 << 16, Some(128))?,
            },
            taps: config.size("d_conv", 1..=1 << 10, Some(4))?,
            bias: config.flag("bias", Some(false))?,
            conv_bias: config.flag("conv_bias", Some(true))?,
            limit: limit(config, "dt_limit")?,
            gate_groups: groups,
            // Whatever the configuration says of the other norms.
            gate_eps: 1e-5,
        })
    }

    /// Width of the projection in: z, then x, B and C, then the time steps.
    pub fn projected(&self) -> usize {
        self.scan.inner() + self.scan.columns() + self.scan.heads
    }

    /// Bytes of state of one layer for one unfinished sequence.
    fn state_bytes(&self) -> usize {
        let tail = (self.taps - 1) * self.scan.columns() * size_of::<f32>();
        tail + self.scan.state_bytes()
    }

    /// Operations a token in the projections in and out.
    pub fn flops_in_out(&self) -> usize {
        2 * self.width * (self.projected() + self.scan.inner())
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
