//! HyenaDNA: Nguyen et al. 2023, arXiv:2306.15794; the operator is Poli et al. 2023,
//! arXiv:2302.10866.
//!
//! Symbols: T tokens in a step, D width, L the filter's length (the trained context), E = 5
//! features of a filter position, F = 64 width of the filter network.
//! Keys: `hyena.backbone.layers.{i}.mixer.in_proj.weight`, … (also `backbone.` and
//! `model.backbone.`).
//!
//! A model whose filters were distilled ([`crate::distil`]) has `"filter": "modal"`, `"modes"` and,
//! for each layer, `filter_fn.modal.{poles,residues,h0}`: its state is a few numbers a channel.
//!
//! Differences from the published code: `forward` continues a sequence from its state, beyond L
//! too, where the filter is zero; the convolution is tiled (see [`crate::ops::LongConv`]).

mod filter;
mod operator;

pub use filter::ImplicitFilter;

use super::facts::{CPU_STEP, GPU_STEP, Layer};
use super::layers::LayerTaps;
use super::{Branch, Encoder, Facts, Segment, Vocabulary};
use crate::checkpoint::{Config, Weights};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::{Activation, FeedForward, LayerNorm, Linear, LongConv, Modal, ShortConv, Tail};
use operator::{Operator, OperatorState};
use serde::{Deserialize, Serialize};

/// Spectra that are kept take no more than this in all layers together.
const SPECTRA: usize = 9 << 28;
/// Room for spectra in all layers together that is not saved on.
const ROOM: usize = 5 << 26;

/// Bases of a step on the CPU with filters of 2¹⁶ taps or more, whose convolution then has fewer and
/// larger pieces: 6 % less time for HyenaDNA medium-160k.
const LONG_CPU_STEP: usize = 1 << 15;
/// Bases of a step on a GPU at most with filters of 2¹⁸ taps or more: a step must be long for a
/// long convolution to be cheap. With a million taps these are FFTs of 2²² points.
const LONG_GPU_STEP: usize = 3 << 20;

/// Positions and rates of decay belong to the architecture. Of modes, the poles are not trained
/// either: nothing holds them within the unit circle, and the slowest lie nearer to it than one
/// step of the optimiser is long (1 / 2048 against a rate of 1 / 1000), beyond which a filter grows
/// with the sequence. The filter from which they were distilled may stay beside them.
const FIXED: [&str; 2] = ["pos_emb.", "modulation.deltas"];
/// The same with modes in place of filters.
const FIXED_MODAL: [&str; 4] = [
    "pos_emb.",
    "modulation.deltas",
    ".poles",
    "implicit_filter.",
];

/// Keys of Hugging Face's configuration. Those that are not read say how it was trained.
const KEYS: [&str; 22] = [
    "filter",
    "modes",
    "activation_freq",
    "d_inner",
    "d_model",
    "emb_dim",
    "embed_dropout",
    "filter_order",
    "filter_shift",
    "hyena_dropout",
    "hyena_filter_dropout",
    "hyena_order",
    "initializer_range",
    "layer_norm_epsilon",
    "max_seq_len",
    "n_layer",
    "num_inner_mlps",
    "pad_vocab_size_multiple",
    "short_filter_order",
    "train_freq",
    "use_bias",
    "vocab_size",
];

/// Keys of the original's configuration, and of its object `layer`.
const ORIGINAL_KEYS: [&str; 18] = [
    "filter",
    "modes",
    "checkpoint_mixer",
    "checkpoint_mlp",
    "d_inner",
    "d_model",
    "embed_dropout",
    "filter_shift",
    "fused_dropout_add_ln",
    "fused_mlp",
    "layer",
    "layer_norm_epsilon",
    "n_layer",
    "pad_vocab_size_multiple",
    "resid_dropout",
    "residual_in_fp32",
    "return_hidden_state",
    "vocab_size",
];

/// See [`ORIGINAL_KEYS`].
const LAYER_KEYS: [&str; 13] = [
    "_name_",
    "emb_dim",
    "filter_order",
    "l_max",
    "local_order",
    "lr",
    "lr_pos_emb",
    "modulate",
    "num_inner_mlps",
    "order",
    "short_filter_order",
    "w",
    "wd",
];

/// The sizes of a model, from its `config.json`: Hugging Face's or the original's keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// D, `d_model`.
    pub width: usize,
    /// `n_layer`.
    pub layers: usize,
    /// Width of the feed-forward layer, `d_inner`.
    pub inner: usize,
    /// L, `max_seq_len` or `layer.l_max`.
    pub length: usize,
    /// Tokens, `vocab_size` padded to a multiple of `pad_vocab_size_multiple`.
    pub vocabulary: usize,
    /// E, `emb_dim`.
    pub features: usize,
    /// F, `filter_order`.
    pub filter_width: usize,
    /// Hidden layers of the filter network, `num_inner_mlps`.
    pub filter_layers: usize,
    /// Taps of the short convolution, `short_filter_order`.
    pub short: usize,
    /// Of the final norm, `layer_norm_epsilon`.
    pub eps: f64,
    /// Added to the filter's decay; 0.05 in the published inference code, `filter_shift`.
    pub shift: f64,
    /// Complex exponentials of a filter, `modes`, if `filter` is `modal`; none for the published
    /// `implicit` one.
    pub modes: Option<usize>,
}

impl Hyperparameters {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config) -> Result<Self> {
        let layer = config.object("layer")?;
        // The original configuration keeps the operator's keys in an object of their own.
        let original = config.has("layer");
        let operator = if original { &layer } else { config };
        if original {
            config.deny_unknown(&ORIGINAL_KEYS)?;
            layer.deny_unknown(&LAYER_KEYS)?;
        } else {
            config.deny_unknown(&KEYS)?
        }
        let width = config.size("d_model", 1..=1 << 16, Some(256))?;
        let order_key = if original { "order" } else { "hyena_order" };
        if operator.size(order_key, 1..=64, Some(2))? != 2 {
            return Err(operator.error(order_key, "only order 2, the published one, is supported"));
        }
        let vocabulary = config.size("vocab_size", 1..=1 << 20, Some(12))?;
        let multiple = config.size("pad_vocab_size_multiple", 1..=1 << 20, Some(8))?;
        let length_key = if original { "l_max" } else { "max_seq_len" };
        let length = operator.size(length_key, 2..=1 << 28, Some(1024))?;
        Ok(Self {
            width,
            layers: config.size("n_layer", 1..=1 << 12, Some(12))?,
            inner: config.size("d_inner", 1..=1 << 18, Some(4 * width))?,
            length,
            vocabulary: vocabulary.next_multiple_of(multiple),
            features: operator.size("emb_dim", 3..=1 << 10, Some(3))?,
            filter_width: operator.size("filter_order", 1..=1 << 14, Some(64))?,
            filter_layers: operator.size("num_inner_mlps", 0..=1 << 8, Some(2))?,
            short: operator.size("short_filter_order", 1..=1 << 10, Some(3))?,
            eps: config.epsilon("layer_norm_epsilon", 1e-5)?,
            shift: config.number("filter_shift", Some(0.05))?,
            modes: match config.text("filter", Some("implicit"))?.as_str() {
                "implicit" => None,
                "modal" => Some(config.size("modes", 1..=1 << 10, None)?),
                _ => return Err(config.error("filter", "neither implicit nor modal")),
            },
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self) -> Facts {
        let (d, context) = (self.width, self.length - 2);
        Facts {
            width: d,
            layers: self.layers,
            // Two of the positions are for special tokens.
            context: Some(context),
            causal: true,
            vocabulary: Vocabulary::characters(self.vocabulary),
            state_bytes: self.state_bytes(),
            token_bytes: 0,
            kept_bytes: self.spectra_bytes(),
            fork_base_bytes: match self.modes {
                Some(_) => None,
                None => Some(self.layers * d * size_of::<f32>()),
            },
            flops: self.layers * 2 * (4 * d * d + 2 * d * self.inner),
            pair_flops: 0,
            fft_channels: match self.modes {
                Some(_) => 0,
                None => self.layers * d,
            },
            seen: None,
            cpu_step: if context >= 1 << 16 {
                LONG_CPU_STEP
            } else {
                CPU_STEP
            },
            gpu_step: if context >= 1 << 18 {
                LONG_GPU_STEP
            } else {
                GPU_STEP
            },
            runs_on_gpu: true,
            trains_on_gpu: true,
            branches_on_gpu: true,
            fixed: match self.modes {
                Some(_) => &FIXED_MODAL,
                None => &FIXED,
            },
            head: "lm_head.weight",
            // Its configurations say no, but it was trained so.
            always_tied: true,
            embedding: "embeddings",
            block: "layers",
            parts: &[],
            layer: "ln_f",
            recommended: None,
            pretrained: false,
            token_step: 1,
            note: self.modes.map(|modes| {
                format!(
                    "filters are sums of {modes} exponentials fitted to the original ones: \
                     distillation.json has the errors"
                )
            }),
        }
    }

    /// Bytes of state for one unfinished sequence that is at least as long as the filter.
    pub fn state_bytes(&self) -> usize {
        let tail = (self.short - 1) * 3 * self.width * size_of::<f32>();
        let operator = match self.modes {
            Some(modes) => Modal::state_bytes(self.width, modes, true),
            None => LongConv::past_bytes(self.length, self.width),
        };
        self.layers * (tail + operator)
    }

    /// Bytes of filter spectra that the model keeps at most, besides those of diagonals.
    pub fn spectra_bytes(&self) -> usize {
        if self.modes.is_some() {
            return 0;
        }
        // Of a large model, as much as the past takes: room for all but the largest sizes, which
        // are used once or twice a turn of the ring. Of a small one, all: six times the past.
        let past = self.layers * LongConv::past_bytes(self.length, self.width);
        (6 * past).min(past.max(ROOM)).min(SPECTRA)
    }
}

/// What a sequence leaves behind: two rows before the short convolution, and the gated past or
/// the modes that stand for it.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    layers: Vec<(Tail, OperatorState)>,
}

/// The HyenaDNA encoder.
pub struct Model {
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: LayerNorm,
}

struct Block {
    norm1: LayerNorm,
    mixer: Mixer,
    mlp: FeedForward,
}

struct Mixer {
    in_proj: Linear,
    short_conv: ShortConv,
    operator: Operator,
    out_proj: Linear,
}

impl Model {
    /// Takes the weights below `backbone`.
    pub fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let backbone = backbone(weights);
        let d = sizes.width;
        let budget = sizes.spectra_bytes() / sizes.layers;
        let blocks = (0..sizes.layers)
            .map(|i| Block::load(sizes, &backbone.at("layers").at(i), budget))
            .collect::<Result<_>>()?;
        let words = backbone.at("embeddings").at("word_embeddings");
        Ok(Self {
            embedding: words.tensor("weight", &[sizes.vocabulary, d])?,
            blocks,
            norm: layer_norm(&backbone.at("ln_f"), d, sizes.eps)?,
        })
    }

    /// The embedding (V, D), to which the output head is tied where it is not stored.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }

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
        let blocks = self.blocks.iter().zip(&mut state.layers);
        for (i, (block, (tail, carried))) in blocks.enumerate().take(taps.depth()) {
            taps.put(Layer::After(i), &x);
            let y = block.norm1.forward_to_product(&x)?;
            x = block.mixer.forward(&y, &x, tail, carried, rows)?; // (T, D)
            x = block.mlp.forward(&x)?; // (T, D), inner width 4D
        }
        taps.finish(&x, |x| self.norm.forward(x))
    }
}

/// The encoder's weights, whichever prefix they were saved with.
fn backbone(weights: &Weights) -> Weights {
    let probe = "embeddings.word_embeddings.weight";
    ["hyena.backbone", "model.backbone"]
        .map(|prefix| weights.at(prefix))
        .into_iter()
        .find(|weights| weights.has(probe))
        .unwrap_or_else(|| weights.at("backbone"))
}

/// The implicit filter of each layer, and the weights below its `filter_fn`.
pub fn filters(
    sizes: &Hyperparameters,
    weights: &Weights,
) -> Result<Vec<(Weights, ImplicitFilter)>> {
    let layers = backbone(weights).at("layers");
    let layer = |i| {
        let weights = layers.at(i).at("mixer").at("filter_fn");
        let filter = ImplicitFilter::load(sizes, &weights)?;
        Ok((weights, filter))
    };
    (0..sizes.layers).map(layer).collect()
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        let layer = |block: &Block| {
            (
                block.mixer.short_conv.start(lanes),
                block.mixer.operator.start(lanes),
            )
        };
        Ok(State {
            layers: self.blocks.iter().map(layer).collect(),
        })
    }

    fn fork(&self, from: &[(&State, usize)], room: usize) -> Result<State> {
        let layer = |(i, block): (usize, &Block)| {
            let layers = || from.iter().map(|(state, lane)| (&state.layers[i], *lane));
            let tails: Vec<_> = layers().map(|(layer, lane)| (&layer.0, lane)).collect();
            let carried: Vec<_> = layers().map(|(layer, lane)| (&layer.1, lane)).collect();
            let operator = block.mixer.operator.fork(&carried, room)?;
            Ok((block.mixer.short_conv.fork(&tails)?, operator))
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
        self.run(tokens, (segments, &[]), state, layers)
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, weights: &Weights, budget: usize) -> Result<Self> {
        let (d, inner) = (sizes.width, sizes.inner);
        let mlp = weights.at("mlp");
        // The published block norms keep PyTorch's eps, whatever the configuration says.
        Ok(Self {
            norm1: layer_norm(&weights.at("norm1"), d, 1e-5)?,
            mixer: Mixer::load(sizes, &weights.at("mixer"), budget)?,
            mlp: FeedForward::new(
                layer_norm(&weights.at("norm2"), d, 1e-5)?,
                linear(&mlp.at("fc1"), d, inner)?,
                Activation::GeluTanh,
                linear(&mlp.at("fc2"), inner, d)?,
            ),
        })
    }
}

impl Mixer {
    fn load(sizes: &Hyperparameters, weights: &Weights, budget: usize) -> Result<Self> {
        let d = sizes.width;
        let short = weights.at("short_filter");
        Ok(Self {
            in_proj: linear(&weights.at("in_proj"), d, 3 * d)?,
            short_conv: ShortConv::new(
                &short.tensor("weight", &[3 * d, 1, sizes.short])?,
                Some(&short.tensor("bias", &[3 * d])?),
                Activation::None,
            )?,
            operator: Operator::load(sizes, &weights.at("filter_fn"), budget)?,
            out_proj: linear(&weights.at("out_proj"), d, d)?,
        })
    }

    /// (T, D) to (T, D), added to `residual`.
    fn forward(
        &self,
        x: &Tensor,
        residual: &Tensor,
        tail: &mut Tail,
        carried: &mut OperatorState,
        (segments, branches): (&[Segment], &[Branch]),
    ) -> Result<Tensor> {
        let u = self.in_proj.forward_rounded(x)?; // (T, 3D): x0, x1, x2
        let short = (&self.short_conv, tail);
        let y = self
            .operator
            .forward(&u, short, carried, segments, branches)?; // (T, D)
        self.out_proj.forward_residual(&y, residual)
    }
}

fn linear(weights: &Weights, from: usize, to: usize) -> Result<Linear> {
    let bias = weights.tensor("bias", &[to])?;
    let linear = Linear::new(weights.matrix("weight", &[to, from])?, Some(bias));
    Ok(linear.rounding(weights.rounded()))
}

/// A norm with its weight and bias (D).
pub(super) fn layer_norm(weights: &Weights, width: usize, eps: f64) -> Result<LayerNorm> {
    let (weight, bias) = (
        weights.tensor("weight", &[width])?,
        weights.tensor("bias", &[width])?,
    );
    Ok(LayerNorm::new(weight, bias, eps))
}
