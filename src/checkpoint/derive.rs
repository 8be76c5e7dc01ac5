//! A new checkpoint from one that was opened.

use super::safetensors::{self, Entry};
use super::staging::Staging;
use super::{Checkpoint, Config};
use crate::error::{Error, Result};
use ::safetensors::View;
use candle_core::Tensor;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// What a derived checkpoint has that its source has not.
pub struct Changes {
    /// Keys of `config.json`, added or replaced.
    pub config: Map<String, Value>,
    /// Tensors, added or replaced.
    pub tensors: BTreeMap<String, Tensor>,
    /// Another file of the directory: its name and text.
    pub file: (&'static str, String),
}

/// Writes the new directory `out`: the source's configuration and tensors with the changes that
/// `make` returns. Nothing stands at `out` before all is written; whether it is free is found out
/// before `make` is called. Returns the SHA-256 of `model.safetensors`. Memory: one tensor.
pub fn derive(
    source: &Checkpoint,
    out: &Path,
    make: impl FnOnce() -> Result<Changes>,
) -> Result<String> {
    let staging = Staging::begin(out)?;
    let changes = make()?;
    let mut object = source.config.as_json().clone();
    object.extend(changes.config);
    let config = Config::new("config.json", object);
    staging.write("config.json", config.to_text().as_bytes())?;
    staging.write(changes.file.0, changes.file.1.as_bytes())?;

    let mut tensors: BTreeMap<_, _> = source.weights.stored().iter().collect();
    tensors.extend(&changes.tensors);
    let entry = |(name, tensor): (&&String, &&Tensor)| Entry {
        name: (*name).clone(),
        dtype: View::dtype(tensor),
        shape: tensor.dims().to_vec(),
    };
    let digest = safetensors::write(
        &staging.path().join("model.safetensors"),
        tensors.iter().map(entry).collect(),
        |entry| {
            let tensor = tensors.get(&entry.name);
            let bytes = tensor.map(|tensor| View::data(tensor).into_owned());
            bytes.ok_or_else(|| Error::model("missing tensor").place(&entry.name))
        },
    )?;
    staging.commit()?;
    Ok(digest)
}
