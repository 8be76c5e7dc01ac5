//! The classes of candle-transformers, and the names by which they find their weights.
//!
//! Llama and Mistral there give the last token's logits alone. Both are Qwen2 without biases of
//! queries, keys and values, which gives the hidden vectors of all tokens. Mixtral's are had token
//! by token, with its keys and values kept and the identity in the place of its head: slower, but
//! the same numbers.

use super::Hyperparameters;
use crate::checkpoint::{Class, Weights};
use crate::error::{Error, Kind, Result};
use crate::ops;
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, Module, VarBuilder};
use candle_transformers::models::{bert, jina_bert, mixtral, qwen2, qwen3};
use std::sync::{Arc, Mutex};

/// Tokens of a step of Qwen2, whose scores are held for a whole step: (heads, step, tokens).
const STEP: usize = 512;
/// Heads that are a single matrix.
const HEADS: [&str; 2] = ["lm_head.weight", "embed_out.weight"];

/// A model of one of the classes, and its head.
pub struct Network {
    body: Body,
    head: Head,
}

enum Body {
    Qwen2(qwen2::Model),
    Qwen3(qwen3::Model),
    Mixtral(mixtral::Model),
    Bert(bert::BertModel),
    MosaicBert(jina_bert::BertModel),
}

#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
enum Head {
    Missing,
    Linear(Tensor), // (V, D)
    Masked(bert::BertOnlyMLMHead),
}

impl Network {
    /// The model, and its embedding (V, D).
    ///
    /// # Errors
    /// Model: a tensor is missing or does not fit.
    pub fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<(Self, ops::Tensor)> {
        let causal = sizes.class.causal();
        let (first, above) = if causal {
            ("embed_tokens.weight", "model.")
        } else {
            ("embeddings.word_embeddings.weight", "")
        };
        let Some(below) = weights.below(&[first]) else {
            let error = weights.error(first, "missing tensor");
            return Err(error.todo("give a checkpoint in Hugging Face's layout"));
        };
        let embedding = below.tensor(first, &[sizes.vocabulary, sizes.width])?;
        let failed = Arc::new(Mutex::new(None));
        let names = Names {
            class: sizes.class,
            below,
            all: weights.clone(),
            above,
            width: sizes.width,
            embedding: embedding.stored()?,
            failed: Arc::clone(&failed),
        };
        let names = VarBuilder::from_backend(Box::new(names), DType::F32, Device::Cpu);
        let built = Body::load(sizes, &names).and_then(|body| {
            let head = Head::load(sizes, &names, weights, &embedding)?;
            Ok(Self { body, head })
        });
        match built {
            Ok(network) => Ok((network, embedding)),
            // What our own weights said is clearer than what the library made of it.
            Err(error) => Err(failed
                .lock()
                .ok()
                .and_then(|mut it| it.take())
                .unwrap_or(error)),
        }
    }

    /// Whether there is a head.
    pub fn has_head(&self) -> bool {
        !matches!(self.head, Head::Missing)
    }

    /// The last layer's vectors (T, D) of a sequence of T tokens.
    pub fn forward(&self, ids: Vec<u32>) -> Result<Tensor> {
        let count = ids.len();
        let tensor = |ids: &[u32]| Tensor::new(ids, &Device::Cpu)?.unsqueeze(0); // (1, T)
        let hidden = match &self.body {
            // A copy shares the weights and brings keys and values of its own.
            Body::Qwen2(model) => {
                let mut model = model.clone();
                let mut parts = Vec::new();
                for (i, ids) in ids.chunks(STEP).enumerate() {
                    parts.push(model.forward(&tensor(ids)?, i * STEP, None)?);
                }
                Tensor::cat(&parts, 1)?
            }
            Body::Qwen3(model) => model.clone().forward(&tensor(&ids)?, 0)?,
            Body::Mixtral(model) => {
                let mut model = model.clone();
                let mut parts = Vec::with_capacity(count);
                for (i, id) in ids.iter().enumerate() {
                    parts.push(model.forward(&tensor(&[*id])?, i)?);
                }
                Tensor::cat(&parts, 1)?
            }
            Body::Bert(model) => {
                let ids = tensor(&ids)?;
                model.forward(&ids, &ids.zeros_like()?, None)?
            }
            Body::MosaicBert(model) => model.forward(&tensor(&ids)?)?,
        };
        Ok(hidden.squeeze(0)?)
    }

    /// The logits (T, V) of vectors (T, D).
    ///
    /// # Errors
    /// Internal: there is no head.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        match &self.head {
            Head::Missing => Err(Error::new(Kind::Internal, "no language-model head")),
            Head::Linear(weight) => Ok(hidden.matmul(&weight.t()?)?),
            Head::Masked(head) => Ok(head.forward(hidden)?),
        }
    }
}

impl Body {
    fn load(sizes: &Hyperparameters, names: &VarBuilder) -> Result<Self> {
        let names = names.clone();
        Ok(match sizes.class {
            Class::Llama | Class::Mistral | Class::Qwen2 => {
                Self::Qwen2(qwen2::Model::new(&sizes.tell("absolute")?, names)?)
            }
            Class::Qwen3 => Self::Qwen3(qwen3::Model::new(&sizes.tell("absolute")?, names)?),
            Class::Mixtral => Self::Mixtral(mixtral::Model::new(&sizes.tell("absolute")?, names)?),
            Class::Bert => Self::Bert(bert::BertModel::load(names, &sizes.tell("absolute")?)?),
            Class::MosaicBert => {
                Self::MosaicBert(jina_bert::BertModel::new(names, &sizes.tell("alibi")?)?)
            }
        })
    }
}

impl Head {
    fn load(
        sizes: &Hyperparameters,
        names: &VarBuilder,
        weights: &Weights,
        embedding: &ops::Tensor,
    ) -> Result<Self> {
        if !sizes.class.causal() {
            if weights
                .below(&["cls.predictions.transform.dense.weight"])
                .is_none()
            {
                return Ok(Self::Missing);
            }
            let config: bert::Config = sizes.tell("absolute")?;
            let head = bert::BertOnlyMLMHead::load(names.pp("cls"), &config)?;
            return Ok(Self::Masked(head));
        }
        let stored = HEADS
            .iter()
            .find_map(|head| Some((head, weights.below(&[head])?)));
        match stored {
            Some((head, below)) => {
                let weight = below.tensor(head, &[sizes.vocabulary, sizes.width])?;
                Ok(Self::Linear(weight.stored()?))
            }
            None if sizes.tied => Ok(Self::Linear(embedding.stored()?)),
            None => Ok(Self::Missing),
        }
    }
}

/// A checkpoint's tensors by the names that candle-transformers asks for.
struct Names {
    class: Class,
    /// Below the prefix of the model's body.
    below: Weights,
    all: Weights,
    /// What candle-transformers calls that prefix.
    above: &'static str,
    width: usize,
    embedding: Tensor,
    failed: Arc<Mutex<Option<Error>>>,
}

impl Names {
    fn find(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let Some(head) = name.strip_prefix("cls.predictions.") {
            return self.masked_head(name, head, shape);
        }
        if name == "lm_head.weight" {
            // Mixtral's vectors pass through its head as they are.
            return Ok(Tensor::eye(self.width, DType::F32, &Device::Cpu)?);
        }
        let name = name.strip_prefix(self.above).unwrap_or(name);
        let biased = matches!(self.class, Class::Qwen2 | Class::Qwen3);
        if name.ends_with("_proj.bias") && self.class.causal() && !biased {
            return Ok(Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        }
        if self.class == Class::MosaicBert
            && let Some(found) = self.third(name, shape)?
        {
            return Ok(found);
        }
        self.below.tensor(name, shape)?.stored()
    }

    /// Queries, keys and values of MosaicBERT, which are one matrix.
    fn third(&self, name: &str, shape: &[usize]) -> Result<Option<Tensor>> {
        for (i, part) in ["self.query.", "self.key.", "self.value."]
            .iter()
            .enumerate()
        {
            if !name.contains(part) {
                continue;
            }
            let (mut whole, rows) = (shape.to_vec(), shape[0]);
            whole[0] = 3 * rows;
            let name = name.replace(part, "self.Wqkv.");
            let all = self.below.tensor(&name, &whole)?.stored()?;
            return Ok(Some(all.narrow(0, i * rows, rows)?.contiguous()?));
        }
        Ok(None)
    }

    /// BERT's head: its last matrix is the embedding where none is stored, and its bias stands
    /// beside it.
    fn masked_head(&self, name: &str, part: &str, shape: &[usize]) -> Result<Tensor> {
        let missing = !self.all.has(name);
        match part {
            "decoder.weight" if missing => Ok(self.embedding.clone()),
            "decoder.bias" if missing => self.all.tensor("cls.predictions.bias", shape)?.stored(),
            _ => self.all.tensor(name, shape)?.stored(),
        }
    }
}

impl SimpleBackend for Names {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        _: DType,
        _: &Device,
    ) -> candle_core::Result<Tensor> {
        self.find(name, shape.dims()).map_err(|error| {
            let what = error.to_string();
            if let Ok(mut failed) = self.failed.lock() {
                failed.get_or_insert(error);
            }
            candle_core::Error::Msg(what)
        })
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(candle_core::Error::Msg(format!("no shape for {name}")))
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let short = name.strip_prefix(self.above).unwrap_or(name);
        self.below.has(short) || self.all.has(name)
    }
}
