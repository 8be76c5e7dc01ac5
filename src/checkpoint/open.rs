//! Opens a model's directory in Hugging Face layout.

use super::bundled::{self, Bundled};
use super::{
    Architecture, Config, Tokenizer, Weights, digests, hub, is_embedding, layout, presets,
    safetensors,
};
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
            let files = [&files[..], std::slice::from_ref(&config_path)].concat();
            digests::check(&sums, &digests::of(&files)?)?;
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
        one_copy(&tensors).map_err(|error| error.file(path.display()))?;
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
    language_model || name.starts_with("crocuta_heads.")
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
        return Err(if safetensors::is_pickle_or_zip(&start) {
            pickle(path)
        } else {
            error("is a file")
                .todo("give the directory that holds config.json and model.safetensors")
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
    Err(other_weights(dir)?)
}

/// The error for a directory without weights of the usual names, which says what is there.
fn other_weights(dir: &Path) -> Result<Error> {
    let entries = fs::read_dir(dir).map_err(|e| Error::io(dir, &e))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|e| Error::io(dir, &e))?.path());
    }
    paths.sort();
    let with = |endings: &[&str]| {
        let ending = |path: &&PathBuf| {
            let extension = path.extension().and_then(|e| e.to_str());
            extension.is_some_and(|extension| endings.contains(&extension))
        };
        paths.iter().filter(ending).cloned().collect::<Vec<_>>()
    };
    let error = |what: String| Error::model(what).file(dir.display());
    let none = format!("neither {SINGLE} nor {INDEX}");
    let others = with(&["safetensors"]);
    let name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    Ok(match &others[..] {
        [one] if name(one) == "adapter_model.safetensors" => {
            error(format!("{none}, but an adapter"))
                .todo("give it as --adapter, and its base model as --model")
        }
        [one] => error(format!("{none}, but {}", name(one))).todo(format!(
            "if these are the weights, rename the file to {SINGLE}"
        )),
        [first, .., last] => {
            let (count, first, last) = (others.len(), name(first), name(last));
            error(format!("{none}, but {count} files from {first} to {last}"))
                .todo(format!("fetch {INDEX}, which says what is in which"))
        }
        [] => match with(&["bin", "ckpt", "pt", "pth", "pkl"]).first() {
            Some(path) => pickle(path),
            None => match with(&["gguf", "h5", "msgpack", "npz", "onnx"]).first() {
                Some(path) => error(format!("{none}, but {}", name(path)))
                    .todo("fetch the model's weights in the safetensors format"),
                None => error(none),
            },
        },
    })
}

/// An error if the tensors are two copies of a model's, as of its weights and of their means over
/// the training: which is meant, only the user knows.
fn one_copy(tensors: &BTreeMap<String, candle_core::Tensor>) -> Result<()> {
    let below = |prefix: &str| -> BTreeSet<&str> {
        let names = tensors.keys();
        names.filter_map(|name| name.strip_prefix(prefix)).collect()
    };
    let embeddings: Vec<&String> = tensors.keys().filter(|name| is_embedding(name)).collect();
    for (i, a) in embeddings.iter().enumerate() {
        for b in &embeddings[i + 1..] {
            let (Some(a), Some(b)) = apart(a, b) else {
                continue;
            };
            let (first, second) = (below(a), below(b));
            let both = first.intersection(&second).count();
            if both > 1 && 2 * both >= first.len().min(second.len()) {
                let what = format!("two copies of the weights: {a}* and {b}*");
                let todo = "keep the tensors of one of them in the file";
                return Err(Error::model(what).todo(todo));
            }
        }
    }
    Ok(())
}

/// The beginnings of two names, each with its dot or empty, before the parts that they end with
/// alike; none if they end differently.
fn apart<'a>(a: &'a str, b: &'a str) -> (Option<&'a str>, Option<&'a str>) {
    let parts = |name: &'a str| name.split_inclusive('.').rev();
    let alike = parts(a).zip(parts(b)).take_while(|(a, b)| a == b);
    let length: usize = alike.map(|(part, _)| part.len()).sum();
    let before = |name: &'a str| (length > 0).then(|| &name[..name.len() - length]);
    (before(a), before(b))
}

/// The index's tensors, each with its shard. Shards are plain names: a path in a downloaded file
/// must not lead out of the directory.
fn shards(index: &Path) -> Result<Vec<(String, String)>> {
    let map = Config::read(index)?.object("weight_map")?;
    let pairs = map.as_json().keys().map(|tensor| {
        let shard = map.text(tensor, None)?;
        let plain = !shard.contains(['/', '\\', '\0']) && shard.ends_with(".safetensors");
        if plain {
            Ok((tensor.clone(), shard))
        } else {
            Err(map.error(
                tensor,
                format!("{shard} is not the plain name of a safetensors file"),
            ))
        }
    });
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    if pairs.is_empty() {
        Err(Error::model("weight_map is missing or empty").file(index.display()))
    } else {
        Ok(pairs)
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
    fn weights_of_another_name_are_named_with_what_to_do() {
        let config = ("config.json", CONFIG.as_bytes());
        for (files, words) in [
            (
                &["weights.safetensors"][..],
                &["weights.safetensors", "rename"],
            ),
            (&["adapter_model.safetensors"], &["an adapter", "--adapter"]),
            (
                &["model-1-of-2.safetensors", "model-2-of-2.safetensors"],
                &[
                    "2 files from model-1-of-2.safetensors",
                    "fetch model.safetensors.index.json",
                ],
            ),
            (&["model.gguf"], &["model.gguf", "safetensors format"]),
        ] {
            let files = files.iter().map(|name| (*name, b"".as_slice()));
            let dir = model(&files.chain([config]).collect::<Vec<_>>());
            refused(dir.path(), Kind::Model, words);
        }
    }

    #[test]
    fn two_copies_of_the_weights_are_an_error_that_names_both() {
        let tensors = |names: &[&str]| -> BTreeMap<String, candle_core::Tensor> {
            let zero = || {
                candle_core::Tensor::zeros(1, candle_core::DType::F32, &candle_core::Device::Cpu)
            };
            names
                .iter()
                .map(|name| (name.to_string(), zero().unwrap()))
                .collect()
        };
        for names in [
            &[
                "ema.b.embeddings.weight",
                "ema.b.norm",
                "model.b.embeddings.weight",
                "model.b.norm",
            ][..],
            &[
                "b.embeddings.weight",
                "b.norm",
                "ema.b.embeddings.weight",
                "ema.b.norm",
            ],
            &[
                "b.embeddings.weight",
                "b.norm",
                "b.x",
                "ema.b.embeddings.weight",
                "ema.b.norm",
                "ema.n",
            ],
        ] {
            let error = one_copy(&tensors(names)).unwrap_err().to_string();
            assert!(error.contains("ema.*"), "{error}");
        }
        for names in [
            &[
                "b.embeddings.weight",
                "b.layers.0.norm.weight",
                "lm_head.weight",
            ][..],
            &[
                "b.word_embeddings.weight",
                "b.token_type_embeddings.weight",
                "b.position_embeddings.weight",
            ],
            &[
                "b.word_embeddings.weight",
                "b.embeddings.weight",
                "crocuta_heads.embed.weight",
            ],
        ] {
            one_copy(&tensors(names)).unwrap();
        }
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
