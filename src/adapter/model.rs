//! A model with adapters, and the heads that they bring.

use super::read::base;
use super::{WEIGHTS, read};
use crate::checkpoint::{Checkpoint, Config, Weights, bundled};
use crate::error::{Error, Result};
use crate::head::{HEADS, TEMPERATURE, Task};
use crate::io::sha256::{self, digest_of};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The bundled model that these adapters were trained on, if the first of them names one.
///
/// # Errors
/// Model: an adapter's configuration is missing, or cannot be read.
pub fn bundled_base(adapters: &[PathBuf]) -> Result<Option<&'static str>> {
    let Some(first) = adapters.first() else {
        return Ok(None);
    };
    let base = base(first)?;
    Ok(bundled().find(|name| base.as_ref().is_some_and(|base| base.name == *name)))
}

/// Warns if the adapter in `dir` was trained on other weights than those of this name and digest:
/// a directory may have been renamed, or have other weights since. Of adapters that say no digest
/// the names are compared, of which what stands before the last `/` is where a model was kept.
///
/// # Errors
/// Model: the adapter's configuration is missing, or cannot be read.
fn compare_base(dir: &Path, (model, digest): (&str, &str)) -> Result<()> {
    let last = |name: &str| {
        let parts = name.trim_end_matches('/').rsplit('/');
        parts.take(1).collect::<String>()
    };
    let Some(base) = base(dir)? else {
        return Ok(());
    };
    let (differs, why) = match &base.digest {
        Some(own) => (own != digest, ", whose files have another digest"),
        None => (last(&base.name) != last(model), ""),
    };
    if differs {
        tracing::warn!(
            "{}: the adapter was trained on {}, and is applied to {model}{why}: if these are not \
             the same weights, choose the model with -m",
            dir.display(),
            base.name
        );
    }
    Ok(())
}

/// The model with all of these adapters: their low-rank products add up, and it has the heads of
/// each. A head whose name is taken goes by that of its adapter's directory.
///
/// Its name is that of the model and those of the adapters with `+` between them; its digest is
/// the SHA-256 of their digests in hexadecimal, one after the other.
///
/// # Errors
/// As [`read`]; Usage where two adapters and their heads have the same names.
pub fn with_adapters(mut model: Checkpoint, adapters: &[PathBuf]) -> Result<Checkpoint> {
    let mut brought: Vec<String> = Vec::new();
    let (name, digest) = (model.name.clone(), model.digest.clone());
    for dir in adapters {
        compare_base(dir, (&name, digest.get()))?;
        let mut adapter = read(dir, &model.weights)?;
        let own = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy();
        let mut config = model.config.as_json().clone();
        if adapter
            .tensors
            .keys()
            .any(|name| !name.starts_with("crocuta_heads."))
        {
            // The heads that are there were trained on the encoder as it was.
            let mut before = Task::list(&model.config)?;
            before.iter_mut().for_each(|task| task.stale = true);
            if !before.is_empty() {
                config.insert(HEADS.to_string(), json!(before));
            }
        }
        if let Some(temperature) = adapter.config.get(TEMPERATURE) {
            config.insert(TEMPERATURE.to_string(), temperature.clone());
        }
        let mut kept = model.weights.stored().clone();
        for mut task in Task::list(&Config::new(dir.display(), adapter.config))? {
            if brought.contains(&task.name) {
                let (before, now) = (task.prefix(), format!("crocuta_heads.{own}."));
                let tensors = std::mem::take(&mut adapter.tensors).into_iter();
                let renamed = tensors.map(|(name, tensor)| match name.strip_prefix(&before) {
                    Some(part) => (format!("{now}{part}"), tensor),
                    None => (name, tensor),
                });
                adapter.tensors = renamed.collect();
                task.name = own.to_string();
            }
            if brought.contains(&task.name) {
                let what = format!("two adapters bring a head named {}", task.name);
                let error = Error::usage(what).file(dir.display());
                return Err(error.todo("rename the directory of one of them"));
            }
            // The head of this name, which it takes the place of, may be of another shape.
            kept.retain(|name, _| !name.starts_with(&task.prefix()));
            let so_far = Config::new(model.dir.display(), config.clone());
            config.insert(HEADS.to_string(), task.listed(&so_far)?);
            brought.push(task.name);
        }
        let mut tensors = kept;
        tensors.extend(adapter.tensors);
        let digests = [model.digest.get(), &sha256::digest(&dir.join(WEIGHTS))?];
        model = Checkpoint {
            weights: Weights::new(model.dir.display(), tensors),
            config: Config::new(model.dir.join("config.json").display(), config),
            digest: digest_of(digests.concat().as_bytes()).into(),
            name: format!("{}+{own}", model.name),
            ..model
        };
    }
    Ok(model)
}
