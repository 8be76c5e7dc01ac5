//! Low-rank adapters: `W' = W + s · B A` (Hu et al. 2021, arXiv:2106.09685), in the files of
//! Hugging Face's PEFT.
//!
//! Names: `base_model.model.<module>.lora_A.weight` (r, in) and `….lora_B.weight` (out, r); whole
//! tensors that come with the adapter (heads) are `base_model.model.<tensor>`.

use crate::checkpoint::{self, Config, Weights};
use crate::error::{Error, Result};
use crate::ops::{Linear, Tensor};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

const PREFIX: &str = "base_model.model.";
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

/// What [`read`] found.
pub struct Adapter {
    /// Keys that the adapter adds to `config.json`: the heads that come with it.
    pub config: Map<String, Value>,
    /// The model's tensors that differ from the base model's, by name, and the heads'.
    pub tensors: BTreeMap<String, candle_core::Tensor>,
}

/// Reads the adapter in `dir` and applies it to the weights of its base model.
///
/// # Errors
/// Model: a file is missing or damaged, the adapter is of a kind other than LoRA on linear layers
/// (DoRA, embeddings, convolutions), or its tensors do not fit the weights.
pub fn read(dir: &Path, base: &Weights) -> Result<Adapter> {
    let config = Config::read(&dir.join("adapter_config.json"))?;
    let kind = config.text("peft_type", None)?;
    if kind != "LORA" {
        return Err(config.error("peft_type", format!("{kind}, but only LORA is supported")));
    }
    for key in ["use_dora", "fan_in_fan_out"] {
        if config.flag(key, Some(false))? {
            return Err(config.error(key, "only false is supported"));
        }
    }
    let stored = checkpoint::read_tensors(&dir.join(WEIGHTS))?;
    let own = Weights::new(dir.join(WEIGHTS).display(), stored.clone());
    let mut tensors = BTreeMap::new();
    for (name, tensor) in &stored {
        let place = |what: String| Error::model(what).file(dir.display()).place(name);
        let path = name
            .strip_prefix(PREFIX)
            .ok_or_else(|| place(format!("does not begin with {PREFIX}")))?;
        if path.ends_with(".lora_B.weight") {
            continue;
        }
        if let Some(module) = path.strip_suffix(".lora_A.weight") {
            let weight = format!("{module}.weight");
            let shape = base
                .shape(&weight)
                .map(<[usize]>::to_vec)
                .unwrap_or_default();
            let ([out, inner], &[rank, _]) =
                (shape[..].try_into().unwrap_or([0, 0]), tensor.dims())
            else {
                return Err(place("not for a matrix".to_string()));
            };
            if out == 0 {
                return Err(place(format!("the model has no matrix {weight}")));
            }
            let a = own.tensor(name, &[rank, inner])?;
            let b = own.tensor(&format!("{PREFIX}{module}.lora_B.weight"), &[out, rank])?;
            let factor = factor(&config, module, rank)?;
            let changed = adapted(&base.tensor(&weight, &shape)?, &a, &b, factor)?;
            tensors.insert(weight, changed.stored()?);
            continue;
        }
        if path.contains(".lora_") {
            return Err(place(
                "only adapters of linear layers are supported".to_string(),
            ));
        }
        let path = path.replace(".modules_to_save", "");
        if base
            .shape(&path)
            .is_some_and(|shape| shape != tensor.dims())
        {
            return Err(place(format!(
                "shape {:?} is not the model's",
                tensor.dims()
            )));
        }
        tensors.insert(path, tensor.clone());
    }
    let added = config.object("crocuta_config")?;
    Ok(Adapter {
        config: added.as_json().clone(),
        tensors,
    })
}

/// s of a module: what the patterns say of it, else what all have.
fn factor(config: &Config, module: &str, rank: usize) -> Result<f64> {
    let pattern = |key: &str| -> Result<Option<f64>> {
        let patterns = config.object(key)?;
        let ends = |name: &&str| module == *name || module.ends_with(&format!(".{name}"));
        match patterns.keys().find(ends) {
            Some(name) => patterns.number(name, None).map(Some),
            None => Ok(None),
        }
    };
    let expected = match pattern("rank_pattern")? {
        Some(rank) => rank as usize,
        None => config.size("r", 1..=1 << 16, None)?,
    };
    if expected != rank {
        let what = format!("{expected}, but the tensors of {module} have rank {rank}");
        return Err(config.error("r", what));
    }
    let alpha = match pattern("alpha_pattern")? {
        Some(alpha) => alpha,
        None => config.number("lora_alpha", None)?,
    };
    let root = config.flag("use_rslora", Some(false))?;
    Ok(alpha
        / if root {
            (rank as f64).sqrt()
        } else {
            rank as f64
        })
}

/// The files of an adapter as PEFT writes them: the text of `adapter_config.json`, and the name
/// and tensors of its weights. `tensors`: those of `lora_A` and `lora_B` by module, and whole ones.
/// `config`: what [`Adapter::config`] gives back.
pub fn files(
    scale: &Scale,
    base: &str,
    config: Map<String, Value>,
    tensors: BTreeMap<String, candle_core::Tensor>,
) -> (
    String,
    (&'static str, BTreeMap<String, candle_core::Tensor>),
) {
    let modules = |suffix: &str| {
        let names = tensors.keys().filter_map(|name| name.strip_suffix(suffix));
        names.map(str::to_string).collect::<Vec<_>>()
    };
    let whole = modules(".weight")
        .into_iter()
        .filter(|name| !name.contains(".lora_"));
    let text = json!({
        "base_model_name_or_path": base,
        "bias": "none",
        "crocuta_config": config,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "lora_alpha": scale.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": whole.collect::<Vec<_>>(),
        "peft_type": "LORA",
        "r": scale.rank,
        "target_modules": modules(".lora_A.weight"),
        "task_type": null,
    });
    let named = tensors
        .into_iter()
        .map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor));
    (format!("{text:#}\n"), (WEIGHTS, named.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor as Stored};

    fn tensor(values: &[f32], shape: (usize, usize)) -> Stored {
        Stored::from_slice(values, shape, &Device::Cpu).unwrap()
    }

    fn base() -> Weights {
        let weight = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (2, 3));
        Weights::new(
            "base",
            BTreeMap::from([("l.0.in_proj.weight".to_string(), weight)]),
        )
    }

    /// An adapter of rank 1 for `base`, whose configuration has these keys changed.
    fn merged(changes: Value) -> Result<Adapter> {
        let scale = Scale {
            rank: 1,
            alpha: 2.0,
        };
        let tensors = BTreeMap::from([
            (
                "l.0.in_proj.lora_A.weight".to_string(),
                tensor(&[1.0, 0.0, -1.0], (1, 3)),
            ),
            (
                "l.0.in_proj.lora_B.weight".to_string(),
                tensor(&[1.0, 10.0], (2, 1)),
            ),
            ("score.weight".to_string(), tensor(&[7.0], (1, 1))),
        ]);
        let (text, weights) = files(&scale, "base", Map::new(), tensors);
        let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(config["modules_to_save"], json!(["score"]));
        assert_eq!(config["target_modules"], json!(["l.0.in_proj"]));
        config.extend(changes.as_object().unwrap().clone());
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("a");
        let text = Value::Object(config).to_string();
        let files = [("adapter_config.json", text)];
        checkpoint::write_directory(&out, (weights.0, &weights.1), &files).unwrap();
        read(&out, &base())
    }

    fn weight(adapter: &Adapter) -> Vec<f32> {
        let tensor = &adapter.tensors["l.0.in_proj.weight"];
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_merged_weight_is_that_of_the_formula() {
        let adapter = merged(json!({})).unwrap();
        assert_eq!(weight(&adapter), [3.0, 2.0, 1.0, 24.0, 5.0, -14.0]);
        assert!(adapter.tensors.contains_key("score.weight"));
        let weak = merged(json!({"alpha_pattern": {"in_proj": 1}})).unwrap();
        assert_eq!(weight(&weak), [2.0, 2.0, 2.0, 14.0, 5.0, -4.0]);
        let other = merged(json!({"alpha_pattern": {"out_proj": 1}})).unwrap();
        assert_eq!(weight(&other), weight(&adapter));
    }

    #[test]
    fn what_is_not_computed_as_asked_is_an_error_that_names_the_key() {
        for (changes, key) in [
            (json!({"peft_type": "IA3"}), "peft_type"),
            (json!({"use_dora": true}), "use_dora"),
            (json!({"r": 2}), "key r"),
            (json!({"lora_alpha": null}), "lora_alpha"),
        ] {
            let error = merged(changes).err().unwrap();
            assert_eq!(error.kind(), crate::error::Kind::Model);
            assert!(error.to_string().contains(key), "{error}");
        }
    }

    #[test]
    fn adapters_are_for_linear_layers() {
        let names = [
            "blocks.0.mlp.l1.weight",
            "blocks.0.projections.weight",
            "embedding_layer.weight",
            "lm_head.weight",
            "blocks.0.norm.weight",
        ];
        let tensors = names.map(|name| (name.to_string(), tensor(&[0.0; 4], (2, 2))));
        let found = modules(&Weights::new("x", tensors.into()));
        assert_eq!(found, ["blocks.0.mlp.l1", "blocks.0.projections"]);
    }
}
