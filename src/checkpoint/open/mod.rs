//! Opens a model's directory in Hugging Face layout.

mod weight_files;

use super::bundled::{self, Bundled};
use super::copies::one_copy;
use super::{Architecture, Config, Tokenizer, Weights, digests, hub, int8, layout, safetensors};
use crate::error::{Error, Kind, Result};
use crate::io::sha256::{Digest, Summing, digest_of};
use crate::io::source;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::{Path, PathBuf};
pub(super) use weight_files::weight_files;
use weight_files::{INDEX, SINGLE, check_index, directory};

/// A model as read from its directory: configuration and weights, not yet an encoder.
pub struct Checkpoint {
    /// The directory.
    pub dir: PathBuf,
    /// What the configuration describes.
    pub architecture: Architecture,
    /// `config.json`.
    pub config: Config,
    /// What the tokenizer's files beside it say.
    pub tokenizer: Tokenizer,
    /// All tensors by name, on the CPU.
    pub weights: Weights,
    /// SHA-256 in hex over the weight files, in the order of their names. For a single file, what
    /// `sha256sum` prints. It is summed up while the model is built.
    pub digest: Digest,
    /// The directory's own name, or the one on Hugging Face.
    pub name: String,
    /// Where it comes from, in words: `bundled`, or a directory.
    pub origin: String,
}

/// The files of the model, or the adapter, that this path or name means; none of a bundled one.
///
/// # Errors
/// Usage: not the name of a model. Io: the system does not say what is there.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if bundled::find(path)?.is_some() {
        return Ok(Vec::new());
    }
    let dir = match hub::locate(path) {
        Ok((dir, _)) => dir,
        Err(error) if error.kind() == Kind::Io => return Err(error),
        Err(_) => return Ok(Vec::new()),
    };
    let failed = |e| Error::io(&dir, &e);
    let entries = match fs::read_dir(&dir) {
        // Reported by whoever opens it.
        Err(e) if [NotFound, NotADirectory].contains(&e.kind()) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let belongs = |path: &Path| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let is_sums = path.file_name().is_some_and(|name| name == digests::SUMS);
        is_sums || ["json", "safetensors", "txt", "model"].contains(&extension)
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if belongs(&path) && source::is_file(&path)? {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Checkpoint {
    /// Opens the directory at `path`, the bundled model of that name, or the directory of
    /// `hf:owner/name[@revision]` in Hugging Face's cache: `config.json` beside `model.safetensors`, or beside the shards that
    /// `model.safetensors.index.json` lists. If `SHA256SUMS` lies there, these files must have its
    /// digests.
    ///
    /// Memory: the weights. Errors are of kind `Model`, or `Usage` for a
    /// pickle, which only `models convert` reads.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(bundled) = bundled::find(path)? {
            return Self::bundled(bundled);
        }
        let (located, published) = hub::locate(path)?;
        let path = located.as_path();
        directory(path)?;
        let config_path = path.join("config.json");
        if !source::is_file(&config_path)? {
            return Err(Error::model("no config.json")
                .file(path.display())
                .todo("give a directory with config.json and model.safetensors"));
        }
        let files = weight_files(path)?;
        let sums = path.join(digests::SUMS);
        let mut known = Vec::new();
        if source::is_file(&sums)? {
            let files = [&files[..], std::slice::from_ref(&config_path)].concat();
            known = digests::of(&files)?;
            digests::check(&sums, &known)?;
        }
        let config = Config::read(&config_path)?;
        let architecture = Architecture::of(&config)?;
        // What was held against a file of sums is not summed again.
        let known = known.into_iter().next().filter(|_| files.len() == 1);
        let sum = known.is_none().then(Summing::begin).transpose()?;
        let mut tensors = BTreeMap::new();
        for file in &files {
            safetensors::read(file, &mut tensors, sum.as_ref())?;
        }
        if !source::is_file(&path.join(SINGLE))? {
            check_index(&path.join(INDEX), &tensors)?;
        }
        int8::widen(&mut tensors).map_err(|error| error.file(path.display()))?;
        one_copy(tensors.keys().map(String::as_str)).map_err(|error| error.file(path.display()))?;
        let absolute = fs::canonicalize(path).map_err(|e| Error::io(path, &e))?;
        let name = absolute.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            dir: path.to_path_buf(),
            architecture,
            config,
            tokenizer: Tokenizer::read(path, architecture)?,
            weights: Weights::new(path.display(), tensors),
            digest: match sum {
                Some(sum) => sum.finish(),
                None => known.map(|(_, digest)| digest).unwrap_or_default().into(),
            },
            name: published.unwrap_or_else(|| name.to_string_lossy().into_owned()),
            origin: path.display().to_string(),
        })
    }
}

impl Checkpoint {
    /// What the `metrics.json` of `crocuta fit` beside the weights says of their training, if it is
    /// there and can be read.
    pub fn record(&self) -> Option<Value> {
        let text = match bundled::find(&self.dir).ok()? {
            Some(bundled) => bundled.record.to_string(),
            None => fs::read_to_string(self.dir.join("metrics.json")).ok()?,
        };
        serde_json::from_str(&text).ok()
    }

    fn bundled(from: &Bundled) -> Result<Self> {
        let path = Path::new(from.name);
        let config = Config::parse(path.join("config.json").display(), from.config)?;
        let mut tensors = BTreeMap::new();
        safetensors::read_from(from.weights, path, &mut tensors)?;
        int8::widen(&mut tensors).map_err(|error| error.file(from.name))?;
        Ok(Self {
            dir: path.to_path_buf(),
            architecture: Architecture::of(&config)?,
            config,
            tokenizer: Tokenizer::default(),
            weights: Weights::new(from.name, tensors),
            digest: digest_of(from.weights).into(),
            name: from.name.to_string(),
            origin: "bundled".to_string(),
        })
    }

    /// The same model with other weights.
    #[must_use]
    pub fn with(&self, weights: Weights) -> Self {
        Self {
            dir: self.dir.clone(),
            architecture: self.architecture,
            config: self.config.clone(),
            tokenizer: self.tokenizer.clone(),
            weights,
            digest: self.digest.clone(),
            name: self.name.clone(),
            origin: self.origin.clone(),
        }
    }

    /// The tensors that an encoder built from this left alone, besides the heads.
    pub fn unused(&self) -> Vec<String> {
        let mut unused = self.weights.unused();
        unused.retain(|name| !is_of_a_head(name));
        unused
    }

    /// `error`, met when an encoder asked for a tensor, with all that is wrong: up to ten tensors
    /// that are missing, have another shape than the configuration says, or are not of such a
    /// model. As it is if the tensors are not named as in the published layout.
    pub fn explain(&self, error: Error) -> Error {
        let Ok(plan) = layout::plan(&self.config) else {
            return error;
        };
        let expected: BTreeMap<_, _> = plan
            .iter()
            .map(|planned| (planned.entry.name.as_str(), &planned.entry.shape))
            .collect();
        let found: BTreeSet<_> = self.weights.names().collect();
        if !found.iter().any(|name| expected.contains_key(name)) {
            return error;
        }
        let mut faults = Vec::new();
        for (name, shape) in &expected {
            match self.weights.shape(name) {
                None => faults.push(format!("{name} is missing, expected {shape:?}")),
                Some(other) if other != shape.as_slice() => {
                    faults.push(format!("{name} is {other:?}, expected {shape:?}"));
                }
                Some(_) => {}
            }
        }
        let extra = found.iter();
        let extra = extra.filter(|name| !expected.contains_key(*name) && !is_of_a_head(name));
        faults.extend(extra.map(|name| format!("{name} is not expected")));
        if faults.is_empty() {
            return error;
        }
        let count = faults.len();
        faults.truncate(10);
        let more = if count > 10 { ", …" } else { "" };
        Error::model(format!(
            "{count} tensors do not fit config.json: {}{more}",
            faults.join(", ")
        ))
        .file(self.dir.display())
    }
}

/// Whether a tensor of this name is a head's, which encoders leave alone.
fn is_of_a_head(name: &str) -> bool {
    let language_model = name.contains("lm_head") || name.contains("unembed");
    // BERT's: over masked tokens, and of its first token.
    let bert = name.starts_with("cls.") || name.contains("pooler.");
    language_model || bert || name.starts_with("crocuta_heads.")
}

#[cfg(test)]
mod tests;
