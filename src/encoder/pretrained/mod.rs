//! Published Transformers in Hugging Face's layout, run by candle-transformers: the baselines that
//! did not come from here. GENERator is a Llama, GenomeOcean a Mistral, MarinDNA a Qwen3, DNABERT
//! and DNABERT-2 are BERTs.
//!
//! A segment is a whole sequence: it becomes tokens, one forward pass gives a vector for each, and
//! each base gets that of its token, the last one that begins no later. Nothing is carried from one
//! segment to the next. The classes give the last layer alone, and run on the CPU.
//!
//! Token ids of this encoder are bases: A, C, G, T, N, and one that is masked.

mod bases;
mod class;

use super::facts::{CPU_STEP, Layer};
use super::{Encoder, Facts, Segment, Vocabulary};
use crate::checkpoint::{Class, Config, Token, Weights, Words};
use crate::error::{Error, Kind, Result};
use crate::ops::{Device, Tensor};
use bases::Bases;
use class::Network;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;

/// The letters of this encoder's tokens.
const LETTERS: &[u8; 6] = b"ACGTNN";
/// The token of a masked base.
const MASKED: u32 = 5;

/// The sizes of a model, from its `config.json`.
#[derive(Clone, Debug)]
pub struct Hyperparameters {
    /// The class.
    pub class: Class,
    /// D, `hidden_size`.
    pub width: usize,
    /// `num_hidden_layers`.
    pub layers: usize,
    /// `num_attention_heads`.
    pub heads: usize,
    /// `intermediate_size`: of the feed-forward layer, or of each expert.
    pub inner: usize,
    /// V, `vocab_size`.
    pub vocabulary: usize,
    /// Tokens of a window at most: `max_position_embeddings`, or `sliding_window` where less.
    pub positions: usize,
    /// The head is the embedding where none is stored, `tie_word_embeddings`.
    pub tied: bool,
    /// What candle-transformers is told.
    told: Value,
}

impl Hyperparameters {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config, class: Class) -> Result<Self> {
        let width = config.size("hidden_size", 2..=1 << 16, None)?;
        let heads = config.size("num_attention_heads", 1..=width, None)?;
        if !width.is_multiple_of(heads) {
            let what = format!("{heads} heads do not divide width {width}");
            return Err(config.error("num_attention_heads", what));
        }
        let layers = config.size("num_hidden_layers", 1..=1 << 12, None)?;
        let inner = config.size("intermediate_size", 1..=1 << 20, None)?;
        let vocabulary = config.size("vocab_size", 1..=1 << 24, None)?;
        let mut positions = config.size("max_position_embeddings", 4..=1 << 24, Some(512))?;
        let mut told = json!({
            "vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner,
            "num_hidden_layers": layers, "num_attention_heads": heads,
            "max_position_embeddings": positions, "hidden_act": config.text(
                "hidden_act", Some(if class.causal() { "silu" } else { "gelu" }))?,
        });
        let more = if class.causal() {
            if let Some(window) = sliding(config, class)? {
                positions = positions.min(window);
            }
            decoder(config, class, (width, heads))?
        } else {
            json!({
                "type_vocab_size": config.size("type_vocab_size", 1..=1 << 10, Some(2))?,
                "layer_norm_eps": config.number("layer_norm_eps", Some(1e-12))?,
                "hidden_dropout_prob": 0.0, "initializer_range": 0.02, "pad_token_id": 0,
            })
        };
        if let (Some(told), Value::Object(more)) = (told.as_object_mut(), more) {
            told.extend(more);
        }
        Ok(Self {
            class,
            width,
            layers,
            heads,
            inner,
            vocabulary,
            positions,
            tied: config.flag("tie_word_embeddings", Some(!class.causal()))?,
            told,
        })
    }

    /// What a user wants to know of the model, whose tokens are `words`. `longest`: tokens of an
    /// input at most, where the tokenizer says so.
    ///
    /// # Errors
    /// Model: the tokenizer fails.
    pub fn facts(&self, words: &Words, longest: Option<usize>) -> Result<Facts> {
        let around = words.tokens(&[])?.len();
        let tokens = self.positions.min(longest.unwrap_or(usize::MAX));
        let tokens = tokens.saturating_sub(around).max(1);
        let longest = words.longest();
        let (context, step) = match words.step() {
            Some(step) => (tokens * step + longest - step, step),
            // A token covers one base at least.
            None => (tokens, 1),
        };
        let feed_forward = if self.class.causal() { 3 } else { 2 };
        let flops = self.layers * 2 * (4 * self.width + feed_forward * self.inner) * self.width;
        Ok(Facts {
            context: Some(context),
            causal: self.class.causal(),
            pair_flops: 0,
            fft_channels: 0,
            cpu_step: CPU_STEP,
            runs_on_gpu: false,
            trains_on_gpu: false,
            pretrained: true,
            token_step: step,
            block: "layers",
            layer: if self.class.causal() {
                "norm"
            } else {
                "encoder"
            },
            note: Some(format!(
                "it reads windows of at most {} tokens, each alone; a base has the vector of its \
                 token",
                self.positions
            )),
            ..Facts::state_space(
                self.width,
                self.layers,
                flops / step,
                Vocabulary {
                    size: if words.mask().is_some() { 6 } else { 5 },
                    bases: [0, 1, 2, 3, 4],
                    mask: words.mask().map(|_| MASKED),
                },
            )
        })
    }

    /// The configuration of a class of candle-transformers; `positions`: how a BERT tells them.
    fn tell<T: DeserializeOwned>(&self, positions: &str) -> Result<T> {
        let mut told = self.told.clone();
        told["position_embedding_type"] = positions.into();
        serde_json::from_value(told).map_err(|e| Error::model(format!("config.json: {e}")))
    }
}

/// Tokens that attention sees at most: within a window of that length it is exact without one.
fn sliding(config: &Config, class: Class) -> Result<Option<usize>> {
    let qwen = matches!(class, Class::Qwen2 | Class::Qwen3);
    let used = !qwen || config.flag("use_sliding_window", Some(false))?;
    if !used || !config.has("sliding_window") {
        return Ok(None);
    }
    config.size("sliding_window", 4..=1 << 24, None).map(Some)
}

/// What the decoders have besides: norms, positions, groups of heads, experts.
fn decoder(config: &Config, class: Class, (width, heads): (usize, usize)) -> Result<Value> {
    let groups = config.size("num_key_value_heads", 1..=heads, Some(heads))?;
    if !heads.is_multiple_of(groups) {
        let what = format!("{groups} do not divide {heads} heads");
        return Err(config.error("num_key_value_heads", what));
    }
    let own = if class == Class::Qwen3 {
        128
    } else {
        width / heads
    };
    let head = config.size("head_dim", 2..=1 << 12, Some(own))?;
    if class != Class::Qwen3 && head * heads != width {
        let what = format!("{heads} heads of {head} are not the width {width}");
        return Err(config.error("head_dim", what));
    }
    if !head.is_multiple_of(2) {
        return Err(config.error("head_dim", format!("{head} is odd")));
    }
    // Since version 5 of transformers in an object of their own.
    let rotary = config.object("rope_parameters")?;
    let scaling = config.object("rope_scaling")?;
    for object in [&rotary, &scaling] {
        for key in ["rope_type", "type"] {
            let kind = object.text(key, Some("default"))?;
            if kind != "default" {
                return Err(object.error(key, format!("positions of type {kind} are not known")));
            }
        }
    }
    let theta = config.number("rope_theta", Some(rotary.number("rope_theta", Some(1e4))?))?;
    let biased = config.flag("attention_bias", Some(false))?;
    if (biased && class != Class::Qwen3) || config.flag("mlp_bias", Some(false))? {
        return Err(config.error("attention_bias", "biases in these layers are not known"));
    }
    Ok(json!({
        "num_key_value_heads": groups, "head_dim": head, "attention_bias": biased,
        "rope_theta": theta, "rms_norm_eps": config.number("rms_norm_eps", Some(1e-6))?,
        // Windows are no longer than what attention sees.
        "sliding_window": 1u64 << 40, "use_sliding_window": false, "max_window_layers": 0,
        "tie_word_embeddings": false, "use_flash_attn": false,
        "num_local_experts": config.size("num_local_experts", 1..=1 << 12, Some(8))?,
        "num_experts_per_tok": config.size("num_experts_per_tok", 1..=1 << 12, Some(2))?,
    }))
}

/// A published Transformer.
pub struct Model {
    sizes: Hyperparameters,
    words: Arc<Words>,
    bases: Bases,
    embedding: Tensor, // (V, D)
    network: Network,
}

/// Nothing is carried.
#[derive(Clone, Serialize, Deserialize)]
pub struct State;

impl Model {
    /// Takes the weights.
    pub fn load(sizes: Hyperparameters, words: Arc<Words>, weights: &Weights) -> Result<Self> {
        let (network, embedding) = Network::load(&sizes, weights)?;
        Ok(Self {
            bases: Bases::new(Arc::clone(&words), sizes.vocabulary),
            embedding,
            network,
            words,
            sizes,
        })
    }

    /// The embedding (V, D) of tokens.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// How bases become tokens.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// Whether it was saved with its language-model head.
    pub fn has_head(&self) -> bool {
        self.network.has_head()
    }

    /// The logits (T, V) after each of T tokens.
    ///
    /// # Errors
    /// Internal: it was saved without its head.
    pub fn token_logits(&self, ids: Vec<u32>) -> Result<Tensor> {
        let hidden = self.network.forward(ids)?;
        Ok(Tensor::from(self.network.logits(&hidden)?))
    }

    /// The bases of the token of each base of a sequence, whose tokens for this encoder are `codes`.
    ///
    /// # Errors
    /// Model: the tokenizer fails.
    pub fn tokens_of_bases(&self, codes: &[u32]) -> Result<Vec<Range<usize>>> {
        let tokens = self.words.tokens(&letters(codes))?;
        let places = Words::of_bases(&tokens, codes.len())?;
        let bases = |place: usize| tokens[place].bases.clone();
        Ok(places.into_iter().map(bases).collect())
    }

    /// One sequence: at each layer the values of its bases, row by row.
    fn sequence(&self, codes: &[u32], layers: &[Layer], out: &mut [Vec<f32>]) -> Result<()> {
        let letters = letters(codes);
        let mut tokens = self.words.tokens(&letters)?;
        if let Some(mask) = self.words.mask() {
            for token in &mut tokens {
                if codes[token.bases.clone()].contains(&MASKED) {
                    token.id = mask;
                }
            }
        }
        self.check(&tokens, codes.len())?;
        let of_bases = Words::of_bases(&tokens, codes.len())?;
        let ids = tokens.iter().map(|token| token.id).collect();
        let hidden = self.network.forward(ids)?; // (tokens, D)
        for (layer, out) in layers.iter().zip(out) {
            match layer {
                Layer::Norm => {
                    let hidden = hidden.flatten_all()?.to_vec1::<f32>()?;
                    let width = self.sizes.width;
                    for place in &of_bases {
                        out.extend(&hidden[place * width..][..width]);
                    }
                }
                Layer::Bases => {
                    let logits = self.network.logits(&hidden)?.flatten_all()?;
                    let logits = logits.to_vec1::<f32>()?; // (tokens, V)
                    let rows = if self.sizes.class.causal() {
                        self.bases.next(&logits, (&letters, &tokens), &of_bases)
                    } else {
                        self.bases.own(&logits, &tokens, codes.len())
                    };
                    let masked = self.words.mask().map(|_| bases::NEVER);
                    out.extend(
                        rows.iter()
                            .flat_map(|row| row.iter().copied().chain(masked)),
                    );
                }
                Layer::After(_) | Layer::Within(..) => {
                    return Err(Error::new(Kind::Internal, "the last layer alone is given"));
                }
            }
        }
        Ok(())
    }

    /// An error unless the model can read these tokens.
    fn check(&self, tokens: &[Token], bases: usize) -> Result<()> {
        let Hyperparameters {
            positions,
            vocabulary,
            ..
        } = self.sizes;
        if tokens.len() > positions {
            let count = tokens.len();
            let what =
                format!("a window of {bases} bases is {count} tokens, more than {positions}");
            return Err(Error::usage(what).todo("give a shorter --window"));
        }
        if let Some(token) = tokens.iter().find(|token| token.id as usize >= vocabulary) {
            let id = token.id;
            let what = format!("the tokenizer gives token {id}, but the model has {vocabulary}");
            return Err(Error::model(what));
        }
        Ok(())
    }
}

/// The letters of a sequence.
fn letters(codes: &[u32]) -> Vec<u8> {
    let letter = |code: &u32| LETTERS.get(*code as usize).copied().unwrap_or(b'N');
    codes.iter().map(letter).collect()
}

impl Encoder for Model {
    type State = State;

    fn start(&self, _lanes: usize) -> Result<State> {
        Ok(State)
    }

    fn fork(&self, _from: &[(&State, usize)], _room: usize) -> Result<State> {
        Ok(State)
    }

    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        _state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        let codes: Vec<u32> = tokens.to_vec1()?;
        let mut found = vec![Vec::new(); layers.len()];
        let mut from = 0;
        for segment in segments {
            if !(segment.starts && segment.ends) {
                let what = "a published Transformer reads whole sequences only";
                return Err(Error::new(Kind::Internal, what));
            }
            let codes = &codes[from..from + segment.len];
            from += segment.len;
            self.sequence(codes, layers, &mut found)?;
        }
        let rows = codes.len();
        let found = found.into_iter().map(|values| {
            let width = values.len() / rows.max(1);
            Tensor::from_vec(values, (rows, width), &Device::Cpu)
        });
        found.collect()
    }
}

#[cfg(test)]
mod tests;
