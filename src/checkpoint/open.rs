//! Opens a model's directory in Hugging Face layout.

use super::bundled::{self, Bundled};
use super::{Architecture, Config, Tokenizer, Weights, digests, hub, layout, presets, safetensors};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

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
    /// `sha256sum` prints.
    pub digest: String,
    /// The directory's own name, or the one on Hugging Face.
    pub name: String,
    /// Where it comes from, in words: `bundled`, or a directory.
    pub origin: String,
}

/// The files of the model, or the adapter, that this path or name means; none of a bundled one.
///
/// # Errors
/// Usage: not the name of a model.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if bundled::find(path).is_some() {
        return Ok(Vec::new());
    }
    let Ok((dir, _)) = hub::locate(path) else {
        return Ok(Vec::new());
    };
    // What is not there is reported by whoever opens it.
    let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    let belongs = |path: &Path| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        let is_sums = path.file_name().is_some_and(|name| name == digests::SUMS);
        is_sums || ["json", "safetensors", "txt", "model"].contains(&extension)
    };
    files.retain(|path| path.is_file() && belongs(path));
    files.sort();
    Ok(files)
}

impl Checkpoint {
    /// Opens the directory at `path`, the bundled model of that name, or the directory of
    /// `hf:owner/name[@revision]` in Hugging Face's cache: `config.json` beside `model.safetensors`, or beside the shards that
    /// `model.safetensors.index.json` lists. If `SHA256SUMS` lies there, these files must have its
    /// digests.
    ///
    /// Memory: the weights, and one tensor twice. Errors are of kind `Model`, or `Usage` for a
    /// pickle, which only `models convert` reads.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(bundled) = bundled::find(path) {
            return Self::bundled(bundled);
        }
        let (located, published) = hub::locate(path)?;
        let path = located.as_path();
        directory(path)?;
        let config_path = path.join("config.json");
        if !config_path.is_file() {
            return Err(Error::model("no config.json")
                .file(path.display())
                .todo("give a directory with config.json and model.safetensors"));
        }
        let files = weight_files(path)?;
        let sums = path.join(digests::SUMS);
        if sums.is_file() {
            digests::check(
                &sums,
                &[&files[..], std::slice::from_ref(&config_path)].concat(),
            )?;
        }
        let config = Config::read(&config_path)?;
        let architecture = Architecture::of(&config)?;
        let (mut tensors, mut sum) = (BTreeMap::new(), Sha256::new());
        for file in &files {
            safetensors::read(file, &mut tensors, &mut sum)?;
        }
        if !path.join(SINGLE).is_file() {
            check_index(&path.join(INDEX), &tensors)?;
        }
        let absolute = fs::canonicalize(path).map_err(|e| Error::io(path, &e))?;
        let name = absolute.file_name().unwrap_or(path.as_os_str());
        Ok(Self {
            dir: path.to_path_buf(),
            architecture,
            config,
            tokenizer: Tokenizer::read(path)?,
            weights: Weights::new(path.display(), tensors),
            digest: safetensors::hex(sum),
            name: published.unwrap_or_else(|| name.to_string_lossy().into_owned()),
            origin: path.display().to_string(),
        })
    }
}

impl Checkpoint {
    fn bundled(from: &Bundled) -> Result<Self> {
        let path = Path::new(from.name);
        let config = Config::parse(path.join("config.json").display(), from.config)?;
        let (mut tensors, mut sum) = (BTreeMap::new(), Sha256::new());
        let length = from.weights.len() as u64;
        safetensors::read_from(from.weights, length, path, &mut tensors, &mut sum)?;
        Ok(Self {
            dir: path.to_path_buf(),
            architecture: Architecture::of(&config)?,
            config,
            tokenizer: Tokenizer::default(),
            weights: Weights::new(from.name, tensors),
            digest: safetensors::hex(sum),
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
        let head = |name: &str| name.contains("lm_head") || name.contains("unembed");
        unused.retain(|name| !head(name) && !name.starts_with("crocuta_heads."));
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
        let extra = found.iter().filter(|name| !expected.contains_key(*name));
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

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// An error unless `path` is a directory, with what to do instead.
fn directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let error = |what: &str| Error::model(what).file(path.display());
    if path.is_file() {
        let mut start = Vec::new();
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        file.take(8)
            .read_to_end(&mut start)
            .map_err(|e| Error::io(path, &e))?;
        return Err(match safetensors::is_pickle_or_zip(&start) {
            true => pickle(path),
            false => error("is a file")
                .todo("give the directory that holds config.json and model.safetensors"),
        });
    }
    Err(match path.to_str().filter(|name| presets().any(|preset| preset == *name)) {
        Some(name) => error("no such directory, but a preset").todo(format!(
            "make untrained weights with `crocuta models new --preset {name} -o DIR`, or give the directory of the published ones"
        )),
        None => error("no such model").todo("give a directory with config.json and model.safetensors"),
    })
}

/// The safetensors files of the directory, sorted by name.
pub(super) fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = dir.join(INDEX);
    if index.is_file() {
        let shards = shards(&index)?
            .into_iter()
            .map(|(_, shard)| shard)
            .collect::<BTreeSet<_>>();
        return Ok(shards.into_iter().map(|shard| dir.join(shard)).collect());
    }
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, &e))? {
        let path = entry.map_err(|e| Error::io(dir, &e))?.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        if ["bin", "ckpt", "pt", "pth", "pkl"].contains(&extension) {
            return Err(pickle(&path));
        }
    }
    Err(Error::model(format!("neither {SINGLE} nor {INDEX}")).file(dir.display()))
}

/// The index's tensors, each with its shard. Shards are plain names: a path in a downloaded file
/// must not lead out of the directory.
fn shards(index: &Path) -> Result<Vec<(String, String)>> {
    let map = Config::read(index)?.object("weight_map")?;
    let pairs = map.as_json().keys().map(|tensor| {
        let shard = map.text(tensor, None)?;
        let plain = !shard.contains(['/', '\\', '\0']) && shard.ends_with(".safetensors");
        match plain {
            true => Ok((tensor.clone(), shard)),
            false => Err(map.error(
                tensor,
                format!("{shard} is not the plain name of a safetensors file"),
            )),
        }
    });
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    match pairs.is_empty() {
        true => Err(Error::model("weight_map is missing or empty").file(index.display())),
        false => Ok(pairs),
    }
}

/// Every tensor that the index lists must have been in the shards.
fn check_index(index: &Path, tensors: &BTreeMap<String, candle_core::Tensor>) -> Result<()> {
    match shards(index)?
        .iter()
        .find(|(tensor, _)| !tensors.contains_key(tensor))
    {
        Some((tensor, shard)) => Err(Error::model(format!("listed, but not in {shard}"))
            .file(index.display())
            .place(format!("tensor {tensor}"))),
        None => Ok(()),
    }
}

fn pickle(path: &Path) -> Error {
    Error::usage("a PyTorch pickle, which can run code when it is opened")
        .file(path.display())
        .todo("use crocuta models convert")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use ::safetensors::Dtype;

    const CONFIG: &str = r#"{"model_type": "mamba"}"#;

    /// A directory with the given files.
    fn model(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        dir
    }

    /// A safetensors file with two floats of that name.
    fn weights(name: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let entry = safetensors::Entry {
            name: name.into(),
            dtype: Dtype::F32,
            shape: vec![2],
        };
        safetensors::write(&path, vec![entry], |_| Ok(vec![0; 8])).unwrap();
        fs::read(path).unwrap()
    }

    #[track_caller]
    fn refused(path: &Path, kind: Kind, words: &[&str]) {
        let error = Checkpoint::open(path).err().unwrap();
        assert_eq!(error.kind(), kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_model_that_is_not_there_says_what_to_do() {
        refused(Path::new("nowhere/at-all"), Kind::Model, &["no such model"]);
        refused(
            Path::new("mamba-d256-l16"),
            Kind::Model,
            &["models new --preset mamba-d256-l16"],
        );
        refused(model(&[]).path(), Kind::Model, &["config.json"]);
        let config = ("config.json", CONFIG.as_bytes());
        refused(model(&[config]).path(), Kind::Model, &["model.safetensors"]);
        let dir = model(&[config, ("pytorch_model.bin", b"")]);
        refused(dir.path(), Kind::Usage, &["models convert"]);
        let file = dir.path().join("config.json");
        refused(&file, Kind::Model, &["is a file"]);
        fs::write(&file, b"PK\x03\x04").unwrap();
        refused(&file, Kind::Usage, &["models convert"]);
    }

    #[test]
    fn shards_are_read_as_one_model() {
        let index =
            br#"{"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        let (a, b) = (weights("a"), weights("b"));
        let files = [
            ("config.json", CONFIG.as_bytes()),
            (INDEX, index.as_slice()),
            ("1.safetensors", &a),
            ("2.safetensors", &b),
        ];
        let checkpoint = Checkpoint::open(model(&files).path()).unwrap();
        assert_eq!(checkpoint.weights.names().collect::<Vec<_>>(), ["a", "b"]);
        let mut sum = Sha256::new();
        sum.update([a.as_slice(), &b].concat());
        assert_eq!(checkpoint.digest, safetensors::hex(sum));

        let mut twice = files;
        twice[3].1 = &a;
        refused(
            model(&twice).path(),
            Kind::Model,
            &["tensor a", "two files"],
        );
        let other = weights("c");
        twice[3].1 = &other;
        refused(
            model(&twice).path(),
            Kind::Model,
            &["tensor b", "2.safetensors"],
        );
        refused(model(&files[..3]).path(), Kind::Io, &["2.safetensors"]);
    }

    #[test]
    fn a_shard_cannot_lie_outside_the_directory() {
        for shard in [
            "../x.safetensors",
            "/etc/passwd",
            "a/b.safetensors",
            "model.bin",
            "",
        ] {
            let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
            let dir = model(&[
                ("config.json", CONFIG.as_bytes()),
                (INDEX, index.as_bytes()),
            ]);
            refused(dir.path(), Kind::Model, &["weight_map.a"]);
        }
    }
}
