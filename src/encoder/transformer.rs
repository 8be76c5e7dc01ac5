//! Transformers, the baseline that other encoders are compared with: Vaswani et al. 2017,
//! arXiv:1706.03762, with the norms before the layers and rotary positions. Attention is exact or
//! one of two approximations in linear time.
//!
//! | `attention` | a token sees | streams, state |
//! |---|---|---|
//! | `causal` | itself and all before it | yes, grows with the sequence |
//! | `sliding` | itself and the `window` − 1 before it | yes, bounded |
//! | `performer` | itself and all before it, by random features | yes, bounded |
//! | `bidirectional` | the whole sequence, or less than `window` to each side | no |
//! | `nystrom` | the whole sequence, by landmarks | no |
//!
//! Symbols: T tokens in a step, D width, H heads, M width of the feed-forward layer.
//! Keys: `embedding.weight`, `layers.{i}.norm1.weight`, `layers.{i}.attention.qkv.weight` (3D, D),
//! `.out.weight`, `.features` (F, D / H) of a Performer, `.conv.weight` (H, 1, K) of Nyström's,
//! `layers.{i}.norm2.weight`, `layers.{i}.mlp.fc1.weight`, `.fc2.weight`, `norm.weight`, and
//! `lm_head.weight` if it is not tied to the embedding. No layer has a bias.

use super::facts::{CPU_STEP, GPU_STEP, Layer};
use super::layers::LayerTaps;
use super::{Encoder, Facts, Segment, Vocabulary};
use crate::checkpoint::{Config, Weights};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use crate::ops::{
    Activation, Attention, Cache, Linear, Nystrom, Performer, Reach, RmsNorm, Rotary, Sums,
};
use serde::{Deserialize, Serialize};

/// The sizes of a model, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// D, `hidden_size`.
    pub width: usize,
    /// `num_layers`.
    pub layers: usize,
    /// H, `num_heads`.
    pub heads: usize,
    /// M, `inner_size`.
    pub inner: usize,
    /// Tokens, `vocab_size`.
    pub vocabulary: usize,
    /// Bases of the training context, `max_seq_len`.
    pub context: Option<usize>,
    /// Of the norms, `norm_eps`.
    pub eps: f64,
    /// Of the rotary frequencies, `rotary_base`.
    pub base: f64,
    /// `attention`.
    pub attention: AttentionKind,
}

/// What a token sees, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionKind {
    /// What comes before it, with a `window` if there is one: `causal` and `sliding`.
    Causal(Option<usize>),
    /// The whole sequence, or less than `window` to each side: `bidirectional`.
    Bidirectional(Option<usize>),
    /// What comes before it, by that many random `features`: `performer`.
    Performer(usize),
    /// The whole sequence, by `landmarks` and a convolution of `conv_size` taps: `nystrom`.
    Nystrom {
        /// Landmarks.
        landmarks: usize,
        /// Taps.
        taps: usize,
    },
}

impl Hyperparameters {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config) -> Result<Self> {
        let width = config.size("hidden_size", 2..=1 << 16, None)?;
        let heads = config.size("num_heads", 1..=width, None)?;
        if !width.is_multiple_of(2 * heads) {
            let what = format!("{heads} heads do not divide width {width} into even parts");
            return Err(config.error("num_heads", what));
        }
        let base = config.number("rotary_base", Some(1e4))?;
        if base <= 0.0 {
            return Err(config.error("rotary_base", "is not positive"));
        }
        let sized = |key: &str| {
            if config.has(key) {
                config.size(key, 1..=1 << 40, None).map(Some)
            } else {
                Ok(None)
            }
        };
        Ok(Self {
            width,
            layers: config.size("num_layers", 1..=1 << 12, None)?,
            heads,
            inner: config.size("inner_size", 1..=1 << 20, Some(4 * width))?,
            vocabulary: config.size("vocab_size", 1..=1 << 20, Some(16))?,
            context: sized("max_seq_len")?,
            eps: config.epsilon("norm_eps", 1e-5)?,
            base,
            attention: match config.text("attention", None)?.as_str() {
                "causal" => AttentionKind::Causal(None),
                "sliding" => {
                    AttentionKind::Causal(Some(config.size("window", 1..=1 << 40, None)?))
                }
                "bidirectional" => AttentionKind::Bidirectional(sized("window")?),
                "performer" => {
                    AttentionKind::Performer(config.size("features", 1..=1 << 16, Some(256))?)
                }
                "nystrom" => AttentionKind::Nystrom {
                    landmarks: config.size("landmarks", 1..=1 << 12, Some(64))?,
                    taps: config.size("conv_size", 1..=1 << 10, Some(33))?,
                },
                other => {
                    return Err(config
                        .error("attention", format!("unknown attention {other}"))
                        .todo("known are causal, sliding, bidirectional, performer and nystrom"));
                }
            },
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        let (d, head) = (self.width, self.width / self.heads);
        let (exact, seen) = match self.attention {
            AttentionKind::Causal(window) => (true, window),
            AttentionKind::Bidirectional(window) => (true, window.map(|w| w.saturating_mul(2))),
            AttentionKind::Performer(_) | AttentionKind::Nystrom { .. } => (false, None),
        };
        let pair_flops = if exact {
            self.layers * Attention::pair_flops(d)
        } else {
            0
        };
        // Queries and keys with features or landmarks, and these with values and back.
        let approximate = match self.attention {
            AttentionKind::Performer(features) => 8 * d * features,
            AttentionKind::Nystrom { landmarks, .. } => 8 * d * landmarks,
            _ => 0,
        };
        let (state, token) = match self.attention {
            AttentionKind::Causal(None) => (0, Attention::token_bytes(d)),
            AttentionKind::Causal(Some(window)) => (Attention::window_bytes(d, window), 0),
            AttentionKind::Performer(features) => {
                (Performer::state_bytes(self.heads, head, features), 0)
            }
            AttentionKind::Bidirectional(_) | AttentionKind::Nystrom { .. } => (0, 0),
        };
        Facts {
            width: d,
            layers: self.layers,
            context: self.context,
            causal: self.causal(),
            vocabulary,
            state_bytes: self.layers.saturating_mul(state),
            token_bytes: self.layers * token,
            kept_bytes: 0,
            fork_base_bytes: None,
            flops: self.layers * (2 * (4 * d * d + 2 * d * self.inner) + approximate),
            pair_flops,
            fft_channels: 0,
            seen,
            cpu_step: CPU_STEP,
            gpu_step: GPU_STEP,
            // Approximations have no form there yet.
            runs_on_gpu: exact,
            trains_on_gpu: exact,
            branches_on_gpu: false,
            // The random features of a Performer.
            fixed: &["attention.features"],
            head: "lm_head.weight",
            always_tied: false,
            embedding: "embedding",
            block: "layers",
            parts: &[],
            layer: "norm",
            recommended: None,
            pretrained: false,
            token_step: 1,
            note: None,
        }
    }

    fn causal(&self) -> bool {
        matches!(
            self.attention,
            AttentionKind::Causal(_) | AttentionKind::Performer(_)
        )
    }
}

/// A Transformer encoder.
pub struct Model {
    sizes: Hyperparameters,
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: RmsNorm,
}

struct Block {
    norm1: RmsNorm,
    qkv: Linear,
    mixer: Mixer,
    out: Linear,
    norm2: RmsNorm,
    fc1: Linear,
    fc2: Linear,
}

enum Mixer {
    Exact(Attention),
    Performer(Performer),
    Nystrom(Nystrom),
}

/// What a sequence leaves behind.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    blocks: Vec<BlockState>,
}

#[derive(Clone, Serialize, Deserialize)]
enum BlockState {
    Cache(Cache),
    Sums(Sums),
    Nothing,
}

impl Model {
    /// Takes the weights.
    pub fn load(sizes: Hyperparameters, weights: &Weights) -> Result<Self> {
        let layers = weights.at("layers");
        let blocks = (0..sizes.layers)
            .map(|i| Block::load(&sizes, &layers.at(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            embedding: weights.tensor("embedding.weight", &[sizes.vocabulary, sizes.width])?,
            blocks,
            norm: norm(weights, "norm", &sizes)?,
            sizes,
        })
    }

    /// The embedding (V, D), to which the output head is tied where none is stored.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// As [`super::Model::set_attention_window`].
    pub fn set_attention_window(&mut self, window: Option<usize>, facts: &mut Facts) -> Result<()> {
        self.sizes.attention = match self.sizes.attention {
            AttentionKind::Causal(_) => AttentionKind::Causal(window),
            AttentionKind::Bidirectional(_) => AttentionKind::Bidirectional(window),
            AttentionKind::Performer(_) | AttentionKind::Nystrom { .. } => {
                return Err(Error::usage("approximate attention has no window"));
            }
        };
        for block in &mut self.blocks {
            if let Mixer::Exact(attention) = &mut block.mixer {
                attention.set_window(window);
            }
        }
        *facts = Facts {
            context: facts.context,
            ..self.sizes.facts(facts.vocabulary.clone())
        };
        Ok(())
    }
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        let start = |block: &Block| match &block.mixer {
            Mixer::Exact(attention) => BlockState::Cache(attention.start(lanes)),
            Mixer::Performer(performer) => BlockState::Sums(performer.start(lanes)),
            Mixer::Nystrom(_) => BlockState::Nothing,
        };
        Ok(State {
            blocks: self.blocks.iter().map(start).collect(),
        })
    }

    fn fork(&self, from: &[(&State, usize)], _room: usize) -> Result<State> {
        let block = |(i, block): (usize, &Block)| {
            let states = || from.iter().map(|(state, lane)| (&state.blocks[i], *lane));
            Ok(match &block.mixer {
                Mixer::Exact(_) => {
                    let caches = states().map(|(state, lane)| match state {
                        BlockState::Cache(cache) => Ok((cache, lane)),
                        _ => Err(foreign_state()),
                    });
                    BlockState::Cache(Cache::fork(&caches.collect::<Result<Vec<_>>>()?)?)
                }
                Mixer::Performer(performer) => {
                    let sums = states().map(|(state, lane)| match state {
                        BlockState::Sums(sums) => Ok((sums, lane)),
                        _ => Err(foreign_state()),
                    });
                    BlockState::Sums(performer.fork(&sums.collect::<Result<Vec<_>>>()?))
                }
                Mixer::Nystrom(_) => BlockState::Nothing,
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
        let mut taps = LayerTaps::new(layers, self.blocks.len())?;
        let mut x = self.embedding.index_select(tokens, 0)?; // (T, D)
        let blocks = self.blocks.iter().zip(&mut state.blocks);
        for (i, (block, state)) in blocks.enumerate().take(taps.depth()) {
            taps.put(Layer::After(i), &x);
            let y = block.qkv.forward(&block.norm1.forward(&x)?)?; // (T, 3D): q, k, v
            let y = block.mixer.forward(&y, state, segments)?; // (T, D)
            x = block.out.forward_residual(&y, &x)?;
            let y = block.norm2.forward(&x)?;
            let y = block.fc1.forward_activated(&y, Activation::GeluTanh)?; // (T, M)
            x = block.fc2.forward_residual(&y, &x)?; // (T, D)
        }
        taps.finish(&x, |x| self.norm.forward(x))
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let (d, inner) = (sizes.width, sizes.inner);
        let linear = |name: &str, from: usize, to: usize| {
            let weight = weights.at(name).matrix("weight", &[to, from])?;
            Ok::<_, Error>(Linear::new(weight, None).rounding(weights.rounded()))
        };
        Ok(Self {
            norm1: norm(weights, "norm1", sizes)?,
            qkv: linear("attention.qkv", d, 3 * d)?,
            mixer: Mixer::load(sizes, &weights.at("attention"))?,
            out: linear("attention.out", d, d)?,
            norm2: norm(weights, "norm2", sizes)?,
            fc1: linear("mlp.fc1", d, inner)?,
            fc2: linear("mlp.fc2", inner, d)?,
        })
    }
}

impl Mixer {
    fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let (heads, width) = (sizes.heads, sizes.width / sizes.heads);
        let rotary = Some(Rotary::new(width, sizes.base, 1.0));
        let exact = |reach, window| {
            let mut attention = Attention::new(heads, width, reach, rotary.clone());
            attention.set_window(window);
            Ok(Self::Exact(attention))
        };
        match sizes.attention {
            AttentionKind::Causal(window) => exact(Reach::Causal, window),
            AttentionKind::Bidirectional(window) => exact(Reach::Bidirectional, window),
            AttentionKind::Performer(features) => {
                let features = weights.tensor("features", &[features, width])?;
                Ok(Self::Performer(Performer::new(heads, &features, rotary)?))
            }
            AttentionKind::Nystrom { landmarks, taps } => {
                let conv = weights.at("conv").tensor("weight", &[heads, 1, taps])?;
                Ok(Self::Nystrom(Nystrom::new(
                    width, landmarks, &conv, rotary,
                )?))
            }
        }
    }

    fn forward(&self, x: &Tensor, state: &mut BlockState, segments: &[Segment]) -> Result<Tensor> {
        match (self, state) {
            (Self::Exact(attention), BlockState::Cache(cache)) => {
                attention.forward(x, cache, segments)
            }
            (Self::Performer(performer), BlockState::Sums(sums)) => {
                performer.forward(x, sums, segments)
            }
            (Self::Nystrom(nystrom), BlockState::Nothing) => nystrom.forward(x, segments),
            _ => Err(foreign_state()),
        }
    }
}

fn foreign_state() -> Error {
    Error::new(Kind::Internal, "the state is another model's")
}

fn norm(weights: &Weights, name: &str, sizes: &Hyperparameters) -> Result<RmsNorm> {
    let weight = weights.at(name).tensor("weight", &[sizes.width])?;
    Ok(RmsNorm::new(weight, sizes.eps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, create};
    use crate::ops::Device;
    use crate::ops::testing::close;
    use serde_json::{Value, json};

    /// A new model of two layers, and what it says of itself.
    fn made(changes: Value) -> (super::super::Model, Facts) {
        let mut config = json!({
            "model_type": "crocuta-transformer",
            "hidden_size": 24,
            "num_layers": 2,
            "num_heads": 3,
            "initializer_range": 0.5,
            "features": 20,
            "landmarks": 8,
            "conv_size": 5
        });
        if let (Some(config), Value::Object(changes)) = (config.as_object_mut(), changes) {
            config.extend(changes);
        }
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("model");
        let config = Config::parse("config.json", &config.to_string()).unwrap();
        create(&config, 1, &out, 1 << 30).unwrap();
        let checkpoint = Checkpoint::open(&out).unwrap();
        let (model, facts) = super::super::Model::load(&checkpoint).unwrap();
        assert_eq!(checkpoint.weights.unused(), Vec::<String>::new());
        (model, facts)
    }

    /// Hidden vectors of one sequence in pieces of these lengths, beside other sequences.
    fn run(model: &super::super::Model, lengths: &[usize]) -> Result<Vec<Vec<f32>>> {
        let token = |i: usize| 7 + (i * i / 3 % 5) as u32;
        let mut state = model.start(2)?;
        let (mut found, mut from) = (Vec::new(), 0);
        let last = lengths.len() - 1;
        for (i, &len) in lengths.iter().enumerate() {
            let beside = Segment {
                lane: 0,
                len: 9,
                starts: true,
                ends: true,
            };
            let ours = Segment {
                lane: 1,
                len,
                starts: i == 0,
                ends: i == last,
            };
            let tokens: Vec<u32> = (3..12).chain(from..from + len).map(token).collect();
            let tokens = Tensor::new(tokens, &Device::Cpu)?;
            let hidden = model.forward(&tokens, &[beside, ours], &mut state)?;
            found.extend(hidden.to_vec2::<f32>()?.into_iter().skip(9));
            from += len;
        }
        Ok(found)
    }

    #[test]
    fn causal_forms_stream_and_the_others_refuse_pieces() {
        for (changes, causal) in [
            (json!({"attention": "causal"}), true),
            (json!({"attention": "sliding", "window": 30}), true),
            (json!({"attention": "performer"}), true),
            (json!({"attention": "bidirectional"}), false),
            (json!({"attention": "nystrom"}), false),
        ] {
            let (model, facts) = made(changes.clone());
            assert_eq!(facts.causal, causal);
            let whole = run(&model, &[330]).unwrap();
            let Ok(pieces) = run(&model, &[1, 100, 7, 222]) else {
                assert!(!causal);
                continue;
            };
            assert!(causal);
            close(
                &changes.to_string(),
                &pieces.concat(),
                &whole.concat(),
                1e-5,
            );
        }
    }

    #[test]
    fn only_unbounded_attention_has_a_state_that_grows() {
        let (mut model, mut facts) = made(json!({"attention": "causal"}));
        assert_eq!((facts.state_bytes, facts.token_bytes), (0, 2 * 2 * 24 * 4));
        let whole = run(&model, &[100]).unwrap();
        model.set_attention_window(Some(30), &mut facts).unwrap();
        assert!(facts.state_bytes > 0 && facts.token_bytes == 0);
        assert!(whole != run(&model, &[100]).unwrap());
        let (mut model, mut facts) = made(json!({"attention": "performer"}));
        assert_eq!(
            (facts.state_bytes, facts.token_bytes),
            (2 * 3 * 20 * 9 * 4, 0)
        );
        assert!(model.set_attention_window(Some(30), &mut facts).is_err());
    }
}
