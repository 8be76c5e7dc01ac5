//! Which of a directory's files hold the weights; and if none do, what to do about what is there.

use super::super::{Config, bundled, presets, safetensors};
use crate::error::{Error, Result};
use crate::io::source;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Names that are more alike than this, of 1,000, are one name misspelt.
const ALIKE: u32 = 930;

/// An error unless `path` is a directory, with what to do instead.
pub(super) fn directory(path: &Path) -> Result<()> {
    let error = |what: &str| Error::model(what).file(path.display());
    if source::is_file(path)? {
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
    if path.try_exists().unwrap_or(true) {
        return Ok(());
    }
    let name = path.to_str().unwrap_or_default();
    if presets().any(|preset| preset == name) {
        return Err(error("no such directory, but a preset").todo(format!(
            "make untrained weights with `crocuta models new --preset {name} -o DIR`, or give the directory of the published ones"
        )));
    }
    Err(error("no such model").todo(meant(name)))
}

/// What the name of a model that is not there was meant to be.
fn meant(name: &str) -> String {
    let known = bundled().chain(presets());
    let likeness = |known: &&str| (strsim::jaro_winkler(known, name) * 1000.0) as u32;
    if let Some(close) = known
        .max_by_key(likeness)
        .filter(|known| likeness(known) > ALIKE)
    {
        return format!("did you mean {close}?");
    }
    let (owner, model) = name.split_once('/').unwrap_or_default();
    if !owner.is_empty() && !model.is_empty() && !model.contains('/') && !Path::new(owner).exists()
    {
        return format!("for a model of Hugging Face write hf:{name}");
    }
    "give a directory with config.json and model.safetensors, or a name that `crocuta models list` has".to_string()
}

/// The safetensors files of the directory, sorted by name.
pub(in crate::checkpoint) fn weight_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let single = dir.join(SINGLE);
    if source::is_file(&single)? {
        return Ok(vec![single]);
    }
    let index = dir.join(INDEX);
    if source::is_file(&index)? {
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
pub(super) fn check_index(
    index: &Path,
    tensors: &BTreeMap<String, candle_core::Tensor>,
) -> Result<()> {
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
