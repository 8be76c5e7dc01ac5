//! A new checkpoint from one that was opened.

use super::safetensors::{self, Entry};
use super::staging::Staging;
use super::tokenizer::TOKENIZERS;
use super::{Checkpoint, Config, int8, tied};
use crate::error::{Error, Result};
use crate::io::source;
use ::safetensors::{Dtype, View};
use candle_core::{DType, Tensor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// What a derived checkpoint has that its source has not.
#[derive(Default)]
pub struct Changes {
    /// Keys of `config.json`, added or replaced.
    pub config: Map<String, Value>,
    /// Tensors, added or replaced.
    pub tensors: BTreeMap<String, Tensor>,
    /// Other files of the directory: their names and texts.
    pub files: Vec<(&'static str, String)>,
}

/// Completes a directory: the source's configuration and tensors with changes; a head that differs
/// from the embedding is no longer said to be tied to it. Returns the SHA-256 of
/// `model.safetensors`. Memory: one tensor.
///
/// # Errors
/// Io, and what `check` finds wrong with the directory before it has its name.
pub fn write_model(
    staging: Staging,
    source: &Checkpoint,
    changes: Changes,
    check: impl FnOnce(&Path) -> Result<()>,
) -> Result<String> {
    let mut tensors: BTreeMap<_, _> = source.weights.stored().iter().collect();
    tensors.extend(&changes.tensors);
    let mut object = source.config.as_json().clone();
    object.extend(changes.config);
    let mut config = Config::new("config.json", object);
    if let Some(key) = tied::wrongly_tied(&config, &tensors)? {
        let mut object = config.as_json().clone();
        object.insert(key.to_string(), Value::Bool(false));
        config = Config::new("config.json", object);
    }
    staging.write("config.json", config.to_text().as_bytes())?;
    for (name, text) in &changes.files {
        staging.write(name, text.as_bytes())?;
    }
    for name in TOKENIZERS {
        let path = source.dir.join(name);
        if source::is_file(&path)? {
            let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, &e))?;
            staging.write(name, &bytes)?;
        }
    }
    let digest = put(&staging, "model.safetensors", &tensors)?;
    check(staging.path())?;
    staging.commit()?;
    Ok(digest)
}

/// Completes a directory with a file of tensors and some texts; as [`write_model`].
pub fn write_directory(
    staging: Staging,
    (name, tensors): (&str, &BTreeMap<String, Tensor>),
    files: &[(&'static str, String)],
) -> Result<String> {
    for (name, text) in files {
        staging.write(name, text.as_bytes())?;
    }
    let digest = put(&staging, name, &tensors.iter().collect())?;
    staging.commit()?;
    Ok(digest)
}

/// Reads a safetensors file.
pub fn read_tensors(file: &Path) -> Result<BTreeMap<String, Tensor>> {
    let mut tensors = BTreeMap::new();
    safetensors::read(file, &mut tensors, None)?;
    int8::widen(&mut tensors).map_err(|error| error.file(file.display()))?;
    Ok(tensors)
}

fn put(staging: &Staging, name: &str, tensors: &BTreeMap<&String, &Tensor>) -> Result<String> {
    let is_int8 = |name: &String, tensor: &Tensor| {
        tensor.dtype() == DType::I16 && tensors.contains_key(&int8::scale_of(name))
    };
    let entry = |(name, tensor): (&&String, &&Tensor)| Entry {
        name: (*name).clone(),
        dtype: if is_int8(name, tensor) {
            Dtype::I8
        } else {
            View::dtype(tensor)
        },
        shape: tensor.dims().to_vec(),
    };
    safetensors::write(
        &staging.path().join(name),
        tensors.iter().map(entry).collect(),
        |entry| {
            let tensor = tensors.get(&entry.name);
            let tensor = tensor.ok_or_else(|| Error::model("missing tensor").place(&entry.name))?;
            let mut bytes = View::data(tensor).into_owned();
            if entry.dtype == Dtype::I8 {
                // Numbers from -127 to 127: their lower bytes.
                bytes = bytes.into_iter().step_by(2).collect();
            }
            Ok(bytes)
        },
    )
    .map_err(|error| error.file(staging.target().display()))
}
