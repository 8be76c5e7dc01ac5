//! `hf:owner/name[@revision]`: models in the cache that Hugging Face's tools fill, and with the
//! feature `hub` how they come there. Nothing else opens a connection.

#[cfg(feature = "hub")]
mod blob;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod pull;

#[cfg(feature = "hub")]
pub use pull::{Plan, plan};

use crate::error::{Error, Result};
use crate::io::source;
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory in a snapshot that holds what was made of its pickles.
const CONVERTED: &str = "crocuta";

/// A model on Hugging Face: `owner/name[@revision]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    repository: String,
    revision: Option<String>,
}

impl Name {
    /// Reads a name, with or without `hf:` before it.
    ///
    /// # Errors
    /// Usage: it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let model = text.strip_prefix("hf:").unwrap_or(text);
        let (repository, revision) = match model.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (model, None),
        };
        let parts: Vec<_> = repository.split('/').collect();
        if parts.len() != 2 || !parts.iter().chain(&revision).all(|part| plain(part)) {
            return Err(Error::usage("not the name of a model on Hugging Face")
                .file(text)
                .todo("write hf:owner/name or hf:owner/name@revision"));
        }
        Ok(Self {
            repository: repository.to_string(),
            revision: revision.map(str::to_string),
        })
    }

    /// The branch, tag or commit.
    fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Its folder in a cache.
    fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.repository.replace('/', "--")))
    }

    /// The commands that bring it into the cache.
    pub fn commands(&self) -> String {
        let revision = self.revision.as_deref();
        let option = revision.map_or_else(String::new, |name| format!(" --revision {name}"));
        let tool = format!("`hf download {}{option}`", self.repository);
        if cfg!(feature = "hub") {
            format!("`crocuta models pull {self}` or {tool}")
        } else {
            tool
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// The directory of the model `path`, and its name if it is `hf:owner/name[@revision]`, which is
/// looked up in the cache; any other path is itself.
///
/// # Errors
/// Usage: not such a name. Model: not in the cache; says with which command it comes there.
pub fn locate(path: &Path) -> Result<(PathBuf, Option<String>)> {
    let Some(text) = path.to_str().filter(|text| text.starts_with("hf:")) else {
        return Ok((path.to_path_buf(), None));
    };
    let name = Name::parse(text)?;
    let cache = cache()?;
    let folder = name.folder(&cache);
    // Branches and tags are files that hold a commit; a commit stands for itself.
    let reference = folder.join("refs").join(name.revision());
    let commit = if source::is_file(&reference)? {
        fs::read_to_string(&reference).map_err(|e| Error::io(&reference, &e))?
    } else {
        name.revision().to_string()
    };
    let commit = commit.trim();
    let snapshot = folder.join("snapshots").join(commit);
    if !plain(commit) || !snapshot.is_dir() {
        let what = format!("not in the cache {}", cache.display());
        let todo = format!("run {}, which brings it there", name.commands());
        return Err(Error::model(what).file(path.display()).todo(todo));
    }
    let converted = snapshot.join(CONVERTED);
    let directory = if converted.is_dir() {
        converted
    } else {
        snapshot
    };
    Ok((directory, Some(name.to_string())))
}

/// Can it be a part of a path, and not lead out of it?
fn plain(part: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
}

/// A variable of the environment that says something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The directory that a variable names, and one below it.
fn directory(name: &str, below: &str) -> Option<PathBuf> {
    let path = PathBuf::from(variable(name)?);
    Some(at_home(path, variable("HOME")).join(below))
}

/// Where Hugging Face's tools keep what is theirs.
fn home() -> Option<PathBuf> {
    directory("HF_HOME", "")
        .or_else(|| directory("XDG_CACHE_HOME", "huggingface"))
        .or_else(|| directory("HOME", ".cache/huggingface"))
}

/// Where they keep what they download.
fn cache() -> Result<PathBuf> {
    directory("HF_HUB_CACHE", "")
        .or_else(|| home().map(|home| home.join("hub")))
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
