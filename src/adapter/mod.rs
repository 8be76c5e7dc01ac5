//! Low-rank adapters: `W' = W + s · B A` (Hu et al. 2021, arXiv:2106.09685), in the files of
//! Hugging Face's PEFT.
//!
//! Names: `base_model.model.<module>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r); whole
//! tensors that come with the adapter (heads) are `base_model.model.<tensor>`.

mod model;
mod read;
mod settings;
#[cfg(test)]
mod tests;

pub use model::{bundled_base, with_adapters};
pub use read::{Adapter, read};

use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::{Linear, Tensor};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const PREFIX: &str = "base_model.model.";
/// The file of an adapter's settings.
const SETTINGS: &str = "adapter_config.json";
/// The key there that names the model that it was trained on.
const BASE: &str = "base_model_name_or_path";
/// The key there of what crocuta alone knows.
const OWN: &str = "crocuta_config";
/// The key in that of the digest of that model's weights.
const BASE_DIGEST: &str = "base_sha256";
/// The file of an adapter's tensors.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// How strong an adapter is, for each module.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// r.
    pub rank: usize,
    /// `lora_alpha`: the product B A counts `alpha / r` times.
    pub alpha: f64,
}

impl Scale {
    /// s.
    pub fn factor(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// `W + s · B A` of `weight` (out, in), `a` (r, in), `b` (out, r). Differentiable.
    pub fn adapt(&self, weight: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        adapted(weight, a, b, self.factor())
    }
}

fn adapted(weight: &Tensor, a: &Tensor, b: &Tensor, factor: f64) -> Result<Tensor> {
    let scaled = b.affine(factor, 0.0)?;
    Linear::new(a.t()?, None).forward_residual(&scaled, weight)
}

/// The modules of a model that adapters are for: its linear layers, by their paths. Not heads,
/// embeddings, convolutions and the networks that compute filters.
pub fn modules(weights: &Weights) -> Vec<String> {
    let other = ["norm", "embed", "conv", "head", "filter_fn"];
    let names = weights.names().filter_map(|name| {
        let module = name.strip_suffix(".weight")?;
        let matrix = weights.shape(name).is_some_and(|shape| shape.len() == 2);
        (matrix && !other.iter().any(|part| module.contains(part))).then(|| module.to_string())
    });
    names.collect()
}

/// The files of an adapter as PEFT writes them: the text of `adapter_config.json`, and the name
/// and tensors of its weights. `tensors`: those of `lora_A` and `lora_B` by module, and whole ones.
/// `base`: the name of the model that it was trained on, and the digest of its weights;
/// `config`: what [`Adapter::config`] gives back; `dropout`: what it was trained with.
pub fn files(
    (scale, dropout): (&Scale, f64),
    (base, digest): (&str, &str),
    mut config: Map<String, Value>,
    tensors: BTreeMap<String, candle_core::Tensor>,
) -> (
    String,
    (&'static str, BTreeMap<String, candle_core::Tensor>),
) {
    let adapted = tensors
        .keys()
        .filter_map(|name| name.strip_suffix(".lora_A.weight"));
    let whole = tensors.keys().filter(|name| !name.contains(".lora_"));
    let whole = whole
        .filter_map(|name| name.rsplit_once('.'))
        .map(|(module, _)| module);
    config.insert(BASE_DIGEST.to_string(), json!(digest));
    let text = json!({
        BASE: base,
        "bias": "none",
        OWN: config,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": scale.alpha,
        "lora_dropout": dropout,
        "modules_to_save": whole.collect::<BTreeSet<_>>(),
        "peft_type": "LORA",
        "r": scale.rank,
        "target_modules": adapted.collect::<Vec<_>>(),
        "task_type": null,
    });
    let named = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor));
    (format!("{text:#}\n"), (WEIGHTS, named.collect()))
}
