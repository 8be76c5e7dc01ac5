//! An adapter's files, applied to the weights of its base model.

use super::settings::Settings;
use super::{BASE, BASE_DIGEST, OWN, PREFIX, SETTINGS, WEIGHTS, adapted};
use crate::checkpoint::{self, Config, Weights};
use crate::error::{Error, Result};
use crate::io::source::is_file;
use candle_core::Tensor;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What [`read`] found.
pub struct Adapter {
    /// Keys that the adapter adds to `config.json`: the heads that come with it.
    pub config: Map<String, Value>,
    /// The model's tensors that differ from the base model's, by name, and the heads'.
    pub tensors: BTreeMap<String, Tensor>,
}

/// The settings of the adapter in `dir`.
fn settings(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(SETTINGS);
    if is_file(&path)? {
        return Ok(path);
    }
    let error = Error::model(format!("no {SETTINGS}")).file(dir.display());
    Err(error.todo(format!(
        "give an adapter's directory: {SETTINGS} and {WEIGHTS}"
    )))
}

/// The model that an adapter was trained on.
pub(super) struct Base {
    /// As its configuration names it.
    pub name: String,
    /// The digest of its weights, if it was crocuta that trained the adapter.
    pub digest: Option<String>,
}

/// The model that the adapter in `dir` was trained on, if its configuration names it.
///
/// # Errors
/// Model: there is no configuration, or it cannot be read.
pub(super) fn base(dir: &Path) -> Result<Option<Base>> {
    let config = Config::read(&settings(dir)?)?;
    // A model that was made for the training has no digest.
    let text = |value: &Value| {
        value
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_string)
    };
    let name = config.get(BASE).and_then(text);
    let digest = config
        .get(OWN)
        .and_then(|own| own.get(BASE_DIGEST))
        .and_then(text);
    Ok(name.map(|name| Base { name, digest }))
}

/// Reads the adapter in `dir` and applies it to the weights of its base model.
///
/// # Errors
/// Model: a file is missing or damaged, the adapter is of a kind other than LoRA on linear layers
/// (DoRA, embeddings, convolutions) or began by changing the base model, its tensors do not fit the
/// weights, or one of them would not be used; what `modules_to_save` names is taken as it is.
pub fn read(dir: &Path, base: &Weights) -> Result<Adapter> {
    let settings = Settings::read(&settings(dir)?)?;
    let path = dir.join(WEIGHTS);
    let stored = checkpoint::read_tensors(&path)?;
    let reading = Reading {
        own: Weights::new(path.display(), stored.clone()),
        settings,
        base,
    };
    let mut tensors = BTreeMap::new();
    for (name, tensor) in &stored {
        let Some((changed, tensor)) = reading.changed(name, tensor)? else {
            continue;
        };
        if tensors.insert(changed.clone(), tensor).is_some() {
            let what = format!("{changed} is changed by another tensor too");
            return Err(reading.own.error(name, what));
        }
    }
    reading.embedding_has_its_head(&tensors)?;
    let added = reading.settings.config.object(OWN)?;
    Ok(Adapter {
        config: added.as_json().clone(),
        tensors,
    })
}

struct Reading<'a> {
    /// The adapter's tensors.
    own: Weights,
    settings: Settings,
    base: &'a Weights,
}

impl Reading<'_> {
    /// The tensor of the model that a tensor of the adapter makes; none for the second of a pair.
    fn changed(&self, name: &str, tensor: &Tensor) -> Result<Option<(String, Tensor)>> {
        let Some(path) = name.strip_prefix(PREFIX) else {
            let what = format!("does not begin with {PREFIX}");
            return Err(self.own.error(name, what));
        };
        if let Some(module) = path.strip_suffix(".lora_A.weight") {
            let weight = format!("{module}.weight");
            let product = self.product(name, module, tensor)?;
            return Ok(Some((weight, product)));
        }
        if let Some(module) = path.strip_suffix(".lora_B.weight") {
            let partner = format!("{module}.lora_A.weight");
            return if self.own.has(&format!("{PREFIX}{partner}")) {
                Ok(None)
            } else {
                Err(self
                    .own
                    .error(name, format!("its partner {partner} is missing")))
            };
        }
        let path = path
            .replace(".modules_to_save", "")
            .replace(".base_layer", "");
        let shape = self.base.shape(&path);
        // A head that takes the place of another may be of another shape.
        let of_a_head = path.starts_with("crocuta_heads.");
        if !of_a_head && shape.is_some_and(|shape| shape != tensor.dims()) {
            let what = format!("shape {:?} is not the model's", tensor.dims());
            return Err(self.own.error(name, what));
        }
        let known = shape.is_some() || of_a_head;
        if path.contains(".lora_") || !known && !self.settings.saves(&path)? {
            return Err(self
                .own
                .error(name, "a tensor of a kind that is not supported"));
        }
        Ok(Some((path, tensor.clone())))
    }

    /// `W + s · B A` of a module.
    fn product(&self, name: &str, module: &str, a: &Tensor) -> Result<Tensor> {
        self.settings.expects(module)?;
        let weight = format!("{module}.weight");
        let (Some(&[out, inner]), &[rank, _]) = (self.base.shape(&weight), a.dims()) else {
            return Err(self
                .own
                .error(name, format!("the model has no matrix {weight}")));
        };
        let a = self.own.tensor(name, &[rank, inner])?;
        let b = format!("{PREFIX}{module}.lora_B.weight");
        let b = self.own.tensor(&b, &[out, rank])?;
        let base = self.base.tensor(&weight, &[out, inner])?;
        adapted(&base, &a, &b, self.settings.factor(module, rank)?)?.stored()
    }

    /// An error where the embedding changes and the head, which the base model does not store beside
    /// it, is not said to change with it.
    fn embedding_has_its_head(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let head = |name: &str| checkpoint::is_head(name);
        let embedding = |name: &&String| checkpoint::is_embedding(name);
        let config = &self.settings.config;
        let apart = self.base.names().any(head) || tensors.keys().any(|name| head(name));
        match tensors.keys().find(embedding) {
            Some(name) if !apart && !config.flag("ensure_weight_tying", Some(false))? => {
                let what = "the embedding changes, but not the head, which the model ties to it";
                Err(self
                    .own
                    .error(name, what)
                    .todo("save the head beside it: modules_to_save with lm_head"))
            }
            _ => Ok(()),
        }
    }
}
