//! `hf:owner/name[@revision]`: models in the cache that Hugging Face's tools fill. Nothing is
//! downloaded here.

use crate::error::{Error, Result};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of the model `path`, and its name if it is `hf:owner/name[@revision]`, which is
/// looked up in the cache; any other path is itself.
///
/// # Errors
/// Usage: not such a name. Model: not in the cache; says with which command it comes there.
pub fn locate(path: &Path) -> Result<(PathBuf, Option<String>)> {
    let Some(model) = path.to_str().and_then(|text| text.strip_prefix("hf:")) else {
        return Ok((path.to_path_buf(), None));
    };
    let (repository, revision) = match model.split_once('@') {
        Some((repository, revision)) => (repository, Some(revision)),
        None => (model, None),
    };
    let parts: Vec<_> = repository.split('/').collect();
    let (2, true) = (
        parts.len(),
        parts.iter().chain(&revision).all(|part| plain(part)),
    ) else {
        return Err(Error::usage("not the name of a model on Hugging Face")
            .file(path.display())
            .todo("write hf:owner/name or hf:owner/name@revision"));
    };
    let cache = cache()?;
    let folder = cache.join(format!("models--{}", parts.join("--")));
    let wanted = revision.unwrap_or("main");
    // Branches and tags are files that hold a commit; a commit stands for itself.
    let commit = fs::read_to_string(folder.join("refs").join(wanted));
    let commit = commit.as_deref().map_or(wanted, str::trim);
    let snapshot = folder.join("snapshots").join(commit);
    if !plain(commit) || !snapshot.is_dir() {
        let option = revision.map_or_else(String::new, |name| format!(" --revision {name}"));
        return Err(
            Error::model(format!("not in the cache {}", cache.display()))
                .file(path.display())
                .todo(format!(
                    "run `hf download {repository}{option}`, which brings it there"
                )),
        );
    }
    Ok((snapshot, Some(model.to_string())))
}

/// Can it be a part of a path, and not lead out of it?
fn plain(part: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
}

/// Where Hugging Face's tools keep what they download.
fn cache() -> Result<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let path = |name: &str, below: &str| {
        let path = PathBuf::from(variable(name)?);
        Some(at_home(path, variable("HOME")).join(below))
    };
    path("HF_HUB_CACHE", "")
        .or_else(|| path("HF_HOME", "hub"))
        .or_else(|| path("XDG_CACHE_HOME", "huggingface/hub"))
        .or_else(|| path("HOME", ".cache/huggingface/hub"))
        .ok_or_else(|| {
            Error::usage("none of HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME is set, so there is no cache of Hugging Face's")
        })
}

/// The path, with `home` in the place of a `~` that stands for it: the shell leaves it in the values
/// of variables, and Hugging Face's tools understand it.
fn at_home(path: PathBuf, home: Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(below), Some(home)) => Path::new(&home).join(below),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_stands_for_the_home_directory() {
        for (given, expected) in [
            ("~/hf", "/home/a/hf"),
            ("~", "/home/a"),
            ("/x/~/hf", "/x/~/hf"),
            ("~b/hf", "~b/hf"),
            ("hf", "hf"),
        ] {
            let found = at_home(PathBuf::from(given), Some("/home/a".into()));
            assert_eq!(found, Path::new(expected));
        }
        assert_eq!(at_home(PathBuf::from("~/x"), None), Path::new("~/x"));
    }
}
