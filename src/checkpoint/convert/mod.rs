//! `models convert`: PyTorch files into a directory in Hugging Face layout.

use super::copies::one_copy;
use super::pickle::Pickle;
use super::safetensors::{self, Entry};
use super::staging::Staging;
use super::tokenizer::TOKENIZERS;
use super::torch::{Archive, View};
use super::{Architecture, Config, bundled, child, presets};
use crate::error::{Error, Result};
use crate::io::{sha256, source};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Converts the PyTorch file `file` to the new directory `out`, in the process that `child`
/// starts: it must call [`convert_as_child`] with the arguments that are appended here, FILE,
/// DIR and CONFIG, print an error as one line to stderr and exit with its code.
///
/// The process may use 2 GiB of address space, or four times the file if that is more, and 10 s
/// and a second for each 20 MB. A tokenizer beside the configuration is kept. Whatever goes wrong there is one error here, and leaves nothing
/// behind. `config` is the model's configuration; by default the `config.json` beside the file.
/// Returns the SHA-256 of `model.safetensors`.
pub fn convert_in_child(
    mut child: Command,
    file: &Path,
    out: &Path,
    config: Option<&Path>,
) -> Result<String> {
    if file.is_dir() || bundled::find(file)?.is_some() {
        let error = Error::usage("a model, not a PyTorch checkpoint").file(file.display());
        let todo = "say what it becomes, by --dtype, --distil or --attention, or name the file of a \
                    checkpoint";
        return Err(error.todo(todo));
    }
    let config = match config {
        Some(config) => config.to_path_buf(),
        None => beside(file)?,
    };
    let size = std::fs::metadata(file)
        .map_err(|e| Error::io(file, &e))?
        .len();
    let staging = Staging::begin(out)?;
    child.arg(file).arg(staging.path()).arg(&config);
    for name in TOKENIZERS {
        let path = config.with_file_name(name);
        if source::is_file(&path)? {
            let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, &e))?;
            staging.write(name, &bytes)?;
        }
    }
    child::run(child, file, child::time_limit(size))?;
    let digest = sha256::digest(&staging.path().join("model.safetensors"))?;
    staging.commit()?;
    Ok(digest)
}

/// What the child process does: limits itself, then converts `file` into the existing directory
/// `dir`.
pub fn convert_as_child(file: &Path, dir: &Path, config: &Path) -> Result<()> {
    let size = std::fs::metadata(file)
        .map_err(|e| Error::io(file, &e))?
        .len();
    child::confine(size)?;
    convert(file, dir, config)
}

/// The configuration that lies beside the weights.
fn beside(file: &Path) -> Result<PathBuf> {
    let config = file.with_file_name("config.json");
    if source::is_file(&config)? {
        Ok(config)
    } else {
        Err(Error::usage("no config.json beside it")
            .file(file.display())
            .todo("give --config FILE"))
    }
}

/// Converts `file` into the existing directory `dir`, in this process: for files that are trusted, and
/// for tests of those that are not.
pub fn convert(file: &Path, dir: &Path, config_path: &Path) -> Result<()> {
    let mut config = Config::read(config_path)?;
    let architecture = Architecture::of(&config)?;
    let mut archive = Archive::open(file)?;
    let bytes = archive.pickle()?;
    let pickle = Pickle::read(&bytes).map_err(|e| e.file(file.display()))?;
    let mut views = archive.views(&pickle)?;
    one_copy(views.keys().map(String::as_str)).map_err(|e| e.file(file.display()))?;
    // Transformer Engine's scaling history (Evo 2): not weights.
    views.retain(|name, _| !name.ends_with("._extra_state"));
    if architecture == Architecture::HyenaDna {
        views = hyenadna_names(views, &mut archive).map_err(|e| e.file(file.display()))?;
        config = hyenadna_config(config)?;
    }
    // Tied tensors share a storage; many more views than that are an attack on the disk.
    let size = std::fs::metadata(file)
        .map_err(|e| Error::io(file, &e))?
        .len();
    let total = views
        .values()
        .map(|view| view.entry.bytes() as u64)
        .fold(0, u64::saturating_add);
    if total / 4 > size {
        return Err(
            Error::model(format!("{total} bytes of tensors in a file of {size}"))
                .file(file.display()),
        );
    }
    let path = dir.join("config.json");
    File::create(&path)
        .and_then(|mut out| {
            out.write_all(config.to_text().as_bytes())
                .and_then(|()| out.sync_all())
        })
        .map_err(|e| Error::io(&path, &e))?;
    let entries = views.iter().map(|(name, view)| Entry {
        name: name.clone(),
        ..view.entry.clone()
    });
    let entries = entries.collect();
    safetensors::write(
        &dir.join("model.safetensors"),
        entries,
        |entry| match views.get(&entry.name) {
            Some(view) => archive.read(view),
            None => Ok(Vec::new()),
        },
    )
    .map_err(|error| error.file(file.display()))?;
    Ok(())
}

/// The names of LongSafari's -hf files, from those of its Lightning files: these begin with
/// `model.`, have `.layer.` in mixers and MLPs if gradients were checkpointed, store the one
/// frequency of three sines three times, may leave out the tied head, and hold metrics.
fn hyenadna_names(
    views: BTreeMap<String, View>,
    archive: &mut Archive,
) -> Result<BTreeMap<String, View>> {
    let mut named = BTreeMap::new();
    let mut shared = Vec::new();
    for (old, view) in views {
        let name = old.strip_prefix("model.").unwrap_or(&old);
        let name = name
            .replace(".mixer.layer.", ".mixer.")
            .replace(".mlp.layer.", ".mlp.");
        let name = if name.starts_with("backbone.") {
            format!("hyena.{name}")
        } else {
            name
        };
        let ours = name.starts_with("hyena.backbone.") || name == "lm_head.weight";
        if !ours || old.contains("torchmetrics") {
            continue;
        }
        if let Some(at) = name
            .strip_suffix(".3.freq")
            .or_else(|| name.strip_suffix(".5.freq"))
        {
            shared.push((format!("{at}.1.freq"), old, view));
        } else if named.insert(name.clone(), view).is_some() {
            return Err(Error::model("there under two names").place(format!("tensor {name}")));
        }
    }
    for (first, old, view) in shared {
        let values = named
            .get(&first)
            .map(|first| archive.read(first))
            .transpose()?;
        if values != Some(archive.read(&view)?) {
            let what = format!("differs from {first}, but the three sines share their frequency");
            return Err(Error::model(what).place(format!("tensor {old}")));
        }
    }
    let embedding = "hyena.backbone.embeddings.word_embeddings.weight";
    if let (Some(view), false) = (
        named.get(embedding).cloned(),
        named.contains_key("lm_head.weight"),
    ) {
        named.insert("lm_head.weight".into(), view);
    }
    if named.is_empty() {
        Err(Error::model("no tensor of a HyenaDNA model"))
    } else {
        Ok(named)
    }
}

/// The -hf configuration that says what the original one does; one that is -hf already is kept.
fn hyenadna_config(config: Config) -> Result<Config> {
    if !config.has("layer") {
        return Ok(config);
    }
    let layer = config.object("layer")?;
    let any = 1..=usize::MAX;
    let width = config.size("d_model", 1..=1 << 20, None)?;
    let layers = config.size("n_layer", any.clone(), None)?;
    let mut hf = presets::hyenadna(width, layers, layer.size("l_max", any.clone(), None)?);
    if !layer.flag("modulate", Some(true))? {
        return Err(layer.error(
            "modulate",
            "false, but only modulated filters are supported",
        ));
    }
    if layer.size("order", any.clone(), Some(2))? != 2 {
        return Err(layer.error("order", "only order 2, the published one, is supported"));
    }
    let frequency = layer.number("w", Some(1.0))?;
    let found: Map<String, Value> = [
        (
            "d_inner",
            json!(config.size("d_inner", any.clone(), Some(4 * width))?),
        ),
        (
            "vocab_size",
            json!(config.size("vocab_size", any.clone(), Some(12))?),
        ),
        (
            "pad_vocab_size_multiple",
            json!(config.size("pad_vocab_size_multiple", any.clone(), Some(8))?),
        ),
        (
            "embed_dropout",
            json!(config.number("embed_dropout", Some(0.1))?),
        ),
        (
            "emb_dim",
            json!(layer.size("emb_dim", any.clone(), Some(3))?),
        ),
        (
            "filter_order",
            json!(layer.size("filter_order", any.clone(), Some(64))?),
        ),
        (
            "num_inner_mlps",
            json!(layer.size("num_inner_mlps", any.clone(), Some(2))?),
        ),
        (
            "short_filter_order",
            json!(layer.size("short_filter_order", any, Some(3))?),
        ),
        ("activation_freq", json!(frequency)),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .into_iter()
    .collect();
    if let Some(hf) = hf.as_object_mut() {
        hf.extend(found);
    }
    Config::parse("config.json", &hf.to_string())
}

#[cfg(test)]
mod tests;
