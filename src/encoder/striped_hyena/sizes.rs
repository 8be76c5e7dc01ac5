//! The sizes of a StripedHyena model, from its `config.json`.

use super::{ADDED, FilterKind};
use crate::checkpoint::Config;
use crate::encoder::facts::{CPU_STEP, GPU_STEP};
use crate::encoder::{Facts, Recommended, Vocabulary};
use crate::error::Result;
use crate::ops::{Attention, Reach, Rotary};

/// The sizes of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// D, `hidden_size`.
    pub width: usize,
    /// What mixes tokens in each block.
    pub mixers: Vec<MixerKind>,
    /// H, `num_attention_heads`.
    pub heads: usize,
    /// M, `inner_mlp_size`.
    pub inner: usize,
    /// Tokens, `vocab_size`.
    pub vocabulary: usize,
    /// Bases of the training context, `max_seqlen` or `max_sequence_len`.
    pub context: usize,
    /// Of the norms, `eps`.
    pub eps: f64,
    /// Of the rotary frequencies, `rotary_emb_base`.
    pub base: f64,
    /// Positions are divided by it, `rotary_emb_scaling_factor`.
    pub scale: f64,
    /// Taps of the convolution behind the projections, `short_filter_length`.
    pub short: usize,
    /// Has that convolution a bias?
    pub short_bias: bool,
    /// Have the projections of the Hyena blocks a bias?
    pub projection_bias: bool,
    /// Have their output layers a bias?
    pub hyena_out_bias: bool,
    /// Has the projection to queries, keys and values a bias?
    pub qkv_bias: bool,
    /// Has the output layer of attention a bias?
    pub attention_out_bias: bool,
    /// Order of the projections' rows in the file.
    pub hyena_order: Order,
    /// Order of the rows of queries, keys and values in the file.
    pub qkv_order: Order,
    /// Is the feed-forward gate of the first block alone activated?
    pub first_activated: bool,
    /// What a user should know of the numbers.
    pub note: Option<&'static str>,
    /// The layer that the authors advise to use.
    pub recommended: Option<Recommended>,
    /// Attention sees only the keys less than this far away, `attention_window`. `None`, as
    /// published: all of them.
    pub window: Option<usize>,
}

/// What mixes tokens in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixerKind {
    /// Attention.
    Attention,
    /// A Hyena operator.
    Hyena(FilterKind),
}

/// How three projections of D rows lie in one matrix of 3D rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other.
    Whole,
    /// The three of the first head, those of the second head, …
    PerHead,
    /// The three of the first channel, those of the second channel, …
    PerChannel,
}

/// Rotary frequencies belong to the architecture. The poles of modal filters are not trained
/// either: nothing holds them within the unit circle, and the slowest lie nearer to it than one
/// step of the optimiser is long (1 / 2048 against a rate of 1 / 1000), beyond which a filter grows
/// with the sequence. Their residues are trained.
const FIXED: [&str; 3] = ["inv_freq", ".log_poles", ".poles"];

/// Keys that Evo and Evo 2 share. Those that are not read concern training, kernels and the way that a prompt is read.
const KEYS: [&str; 55] = [
    "attention_window",
    "attn_block_dtype",
    "attn_layer_idxs",
    "column_split",
    "column_split_hyena",
    "eps",
    "final_norm",
    "hidden_size",
    "hyena_block_dtype",
    "hyena_filter_groups",
    "hyena_out_proj_bias",
    "inference_mode",
    "inner_mlp_size",
    "inner_size_multiple_of",
    "log_intermediate_values",
    "make_vocab_size_divisible_by",
    "max_batch_size",
    "max_seqlen",
    "max_sequence_len",
    "mha_out_proj_bias",
    "mlp_activation",
    "mlp_dtype",
    "mlp_init_method",
    "mlp_output_init_method",
    "model_name",
    "model_parallel_size",
    "num_attention_heads",
    "num_filters",
    "num_layers",
    "params_dtype",
    "pile_parallel_size",
    "pipe_parallel_size",
    "prefill_style",
    "print_activations",
    "proj_groups",
    "qkv_proj_bias",
    "rng_fork",
    "rotary_emb_base",
    "rotary_emb_scaling_factor",
    "short_filter_bias",
    "short_filter_length",
    "smeared_gqa",
    "split_k0",
    "state_size",
    "tie_embeddings",
    "tokenizer_type",
    "use_cache",
    "use_flash_attention_2",
    "use_flash_attn",
    "use_flash_depthwise",
    "use_flash_rmsnorm",
    "use_flashfft",
    "use_interpolated_rotary_pos_emb",
    "use_laughing_hyena",
    "vocab_size",
];

impl Hyperparameters {
    /// Reads and checks what the two architectures' configurations share, in Hugging Face's or
    /// the original's keys. What is not in the configuration is as in Evo. `own_keys` are those
    /// that the other one does not have.
    pub(in crate::encoder) fn read(
        config: &Config,
        mixers: Vec<MixerKind>,
        own_keys: &[&str],
    ) -> Result<Self> {
        config.deny_unknown(&[&KEYS, own_keys].concat())?;
        let width = config.size("hidden_size", 2..=1 << 16, None)?;
        if !config.flag("final_norm", Some(true))? {
            let what = "only true, the published value, is supported";
            return Err(config.error("final_norm", what));
        }
        for key in ["proj_groups", "hyena_filter_groups"] {
            config.size(key, 1..=1, Some(1))?;
        }
        if config.text("mlp_activation", Some("gelu"))? != "gelu" {
            return Err(config.error(
                "mlp_activation",
                "only gelu, the published one, is supported",
            ));
        }
        let rows = config.size("make_vocab_size_divisible_by", 1..=1 << 16, Some(8))?;
        let multiple = config.size("inner_size_multiple_of", 1..=1 << 16, Some(16))?;
        let inner = (width * 8 / 3).next_multiple_of(multiple);
        let length_key = if config.has("max_seqlen") {
            "max_seqlen"
        } else {
            "max_sequence_len"
        };
        Ok(Self {
            width,
            mixers,
            heads: heads(config, width)?,
            inner: config.size("inner_mlp_size", 1..=1 << 20, Some(inner))?,
            vocabulary: config
                .size("vocab_size", 128..=1 << 20, Some(512))?
                .next_multiple_of(rows),
            context: config.size(length_key, 1..=1 << 40, Some(8192))?,
            eps: config.epsilon("eps", 1e-6)?,
            base: positive(config, "rotary_emb_base", 1e4)?,
            scale: if config.flag("use_interpolated_rotary_pos_emb", Some(false))? {
                positive(config, "rotary_emb_scaling_factor", 1.0)?
            } else {
                1.0
            },
            short: config.size("short_filter_length", 1..=1 << 10, Some(3))?,
            short_bias: config.flag("short_filter_bias", Some(true))?,
            projection_bias: true,
            hyena_out_bias: config.flag("hyena_out_proj_bias", Some(true))?,
            qkv_bias: config.flag("qkv_proj_bias", Some(true))?,
            attention_out_bias: config.flag("mha_out_proj_bias", Some(true))?,
            hyena_order: if config.flag("column_split_hyena", Some(true))? {
                Order::PerHead
            } else {
                Order::Whole
            },
            qkv_order: Order::Whole,
            first_activated: false,
            note: None,
            recommended: None,
            window: if config.has("attention_window") {
                Some(config.size("attention_window", 1..=1 << 30, None)?)
            } else {
                None
            },
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self) -> Facts {
        let (d, layers) = (self.width, self.mixers.len());
        let states = self.mixers.iter().map(|mixer| match mixer {
            MixerKind::Attention => self.window.map_or(0, |w| Attention::window_bytes(d, w)),
            MixerKind::Hyena(filter) => {
                filter.state_bytes(d) + (self.short - 1) * 3 * d * size_of::<f32>()
            }
        });
        let caches = self
            .mixers
            .iter()
            .filter(|mixer| **mixer == MixerKind::Attention)
            .count();
        let filters = self.mixers.iter().map(|mixer| match mixer {
            MixerKind::Attention => 0,
            MixerKind::Hyena(filter) => filter.flops(d),
        });
        let filters: usize = filters.sum();
        Facts {
            width: d,
            layers,
            context: Some(self.context),
            causal: true,
            vocabulary: Vocabulary::bytes(self.vocabulary),
            state_bytes: states.fold(0, usize::saturating_add),
            token_bytes: match self.window {
                None => caches * Attention::token_bytes(d),
                Some(_) => 0,
            },
            kept_bytes: 0,
            fork_base_bytes: None,
            flops: layers * 2 * (4 * d * d + 3 * d * self.inner) + filters,
            pair_flops: caches * Attention::pair_flops(d),
            fft_channels: 0,
            seen: self.window,
            cpu_step: CPU_STEP,
            gpu_step: GPU_STEP,
            runs_on_gpu: true,
            trains_on_gpu: true,
            branches_on_gpu: true,
            fixed: &FIXED,
            head: "unembed.weight",
            always_tied: false,
            embedding: "embedding_layer",
            block: "blocks",
            parts: &[ADDED],
            layer: "norm",
            recommended: self.recommended.clone(),
            pretrained: false,
            token_step: 1,
            note: self.note.map(str::to_string),
        }
    }

    /// The attention of every attention block.
    pub(super) fn attention(&self) -> Attention {
        let width = self.width / self.heads;
        let rotary = Rotary::new(width, self.base, self.scale);
        let mut attention = Attention::new(self.heads, width, Reach::Causal, Some(rotary));
        attention.set_window(self.window);
        attention
    }

    /// The rows of `[first | second | third]`, D each, in the file's order.
    pub(super) fn rows(&self, order: Order) -> Vec<u32> {
        let (d, head) = (self.width, self.width / self.heads);
        let row = |part: usize, c: usize| match order {
            Order::Whole => part * d + c,
            Order::PerHead => (c / head * 3 + part) * head + c % head,
            Order::PerChannel => 3 * c + part,
        };
        let rows = (0..3).flat_map(|part| (0..d).map(move |c| row(part, c) as u32));
        rows.collect()
    }
}

/// Reads which block has which mixer from lists of block numbers. Each block must be in one.
pub(in crate::encoder) fn mixers(
    config: &Config,
    lists: &[(&str, MixerKind)],
) -> Result<Vec<MixerKind>> {
    let layers = config.size("num_layers", 1..=1 << 12, None)?;
    let mut mixers = vec![None; layers];
    for (key, kind) in lists {
        for i in config.sizes(key, 0..=layers - 1)? {
            if mixers[i].replace(*kind).is_some() {
                return Err(config.error(key, format!("block {i} is in two lists")));
            }
        }
    }
    let missing = |i| config.error("num_layers", format!("block {i} is in no list"));
    let named = mixers
        .into_iter()
        .enumerate()
        .map(|(i, kind)| kind.ok_or_else(|| missing(i)));
    named.collect()
}

/// Reads `num_attention_heads` heads of D values in all, an even number each.
fn heads(config: &Config, width: usize) -> Result<usize> {
    let heads = config.size("num_attention_heads", 1..=width, None)?;
    match width % (2 * heads) {
        0 => Ok(heads),
        _ => Err(config.error(
            "num_attention_heads",
            format!("{heads} heads do not divide width {width} into even parts"),
        )),
    }
}

fn positive(config: &Config, key: &str, default: f64) -> Result<f64> {
    let value = config.number(key, Some(default))?;
    if value > 0.0 {
        Ok(value)
    } else {
        Err(config.error(key, "is not positive"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::preset;
    use crate::encoder::{evo1, evo2};
    use serde_json::{Value, json};

    fn config(name: &str, changes: &[(&str, Value)]) -> Config {
        let mut config = preset(name).unwrap();
        for (key, value) in changes {
            config.insert(key.to_string(), value.clone());
        }
        Config::new(name, config)
    }

    #[test]
    fn published_configurations_are_read() {
        let long = evo1::read(&config("evo-1-131k", &[])).unwrap();
        assert_eq!(
            (long.scale, long.context, long.inner),
            (16.0, 131_072, 10_928)
        );
        let short = evo1::read(&config("evo-1-8k", &[("inner_mlp_size", Value::Null)])).unwrap();
        assert_eq!(
            (short.scale, short.context, short.inner),
            (1.0, 8192, 10_928)
        );
        let facts = short.facts();
        // 29 blocks of 8 complex numbers and 2 rows of 3 a channel, 3 caches.
        assert_eq!(facts.state_bytes, 29 * 4096 * (16 + 6) * 4);
        assert_eq!(facts.token_bytes, 3 * 2 * 4096 * 4);
        assert_eq!(facts.note, None);
        let evo2 = evo2::read(&config("evo2-1b", &[])).unwrap();
        assert!(evo2.facts().note.is_some_and(|note| note.contains("FP8")));
        assert_eq!(evo2.mixers[10], MixerKind::Attention);
        assert_eq!(evo2.mixers[5], MixerKind::Hyena(FilterKind::Medium(128)));
    }

    #[test]
    fn a_window_bounds_the_state() {
        let mut sizes = evo2::read(&config("evo2-7b", &[])).unwrap();
        let open = sizes.facts();
        sizes.window = Some(1000);
        let bounded = sizes.facts();
        assert!(open.token_bytes > 0 && bounded.token_bytes == 0);
        let cache = bounded.state_bytes - open.state_bytes;
        assert!((1000 * open.token_bytes..1300 * open.token_bytes).contains(&cache));
    }

    #[test]
    fn what_is_not_computed_as_asked_is_an_error_that_names_the_key() {
        for (key, value) in [
            ("hyena_layer_idxs", json!([0, 1])),
            ("attn_layer_idxs", json!([8, 16, 24, 25])),
            ("attn_layer_idxs", json!([8, 16, 99])),
            ("num_attention_heads", json!(3)),
            ("proj_groups", json!(2)),
            ("mlp_activation", json!("silu")),
            ("rotary_emb_base", json!(0)),
        ] {
            let error = evo1::read(&config("evo-1-8k", &[(key, value)])).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model);
            assert!(error.to_string().contains("key "), "{error}");
        }
        let flipped = config("evo2-1b", &[("hyena_flip_x1x2", json!(true))]);
        assert!(evo2::read(&flipped).is_err());
    }
}
