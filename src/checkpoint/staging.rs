//! A directory that appears under its name complete, or not at all.

use super::digests;
use super::tokenizer::TOKENIZERS;
use crate::error::{Error, Result};
use crate::io::atomic;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What training makes, besides a tokenizer's files.
const TRAINED: [&str; 7] = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "loss.svg",
    "metrics.json",
    "model.safetensors",
];

/// A usage error if something is at `target` already, other than an empty directory, unless it is what
/// a training run made and may be replaced; or if another process is making it. Changes nothing.
/// `replace`: whether --force is given; none where the command has no such option.
pub fn must_be_free(target: &Path, replace: Option<bool>) -> Result<()> {
    let taken = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => target.symlink_metadata().is_ok(),
    };
    let made = |name: &str| target.join(name).is_file();
    let trained = made("metrics.json") && (made("config.json") || made("adapter_config.json"));
    if replace == Some(true) && trained {
        only_what_training_makes(target)?;
    } else if taken {
        let todo = match replace {
            Some(true) => {
                "remove it, or give another directory: --force replaces what crocuta fit has made, \
                 and this is something else"
            }
            Some(false) if trained => "give --force to replace it, or another directory",
            _ => "remove it, or give another directory",
        };
        let error = Error::usage("exists already").file(target.display());
        return Err(error.todo(todo));
    }
    if temporaries(target)?.iter().any(|(_, in_use)| *in_use) {
        let error = Error::usage("in use: another run is making it").file(target.display());
        return Err(error.todo("wait for its end, or give another directory"));
    }
    Ok(())
}

/// A usage error if something else lies in the directory of a training run: it would be lost.
fn only_what_training_makes(target: &Path) -> Result<()> {
    let failed = |e| Error::io(target, &e);
    for entry in fs::read_dir(target).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let known = name.to_str().is_some_and(|name| {
            TRAINED.contains(&name) || TOKENIZERS.contains(&name) || name == digests::SUMS
        });
        if !known {
            let what = format!("holds {}, which no training run made", name.display());
            return Err(Error::usage(what)
                .file(target.display())
                .todo("move it away, or give another directory"));
        }
    }
    Ok(())
}

/// A temporary directory beside its final place, which no other process makes meanwhile; removed
/// when dropped without commit.
pub struct Staging {
    temporary: PathBuf,
    /// Locked, so that no other process takes the directory for stale; where there are no locks,
    /// its process's id is all that tells.
    _lock: Option<File>,
    target: PathBuf,
    /// What stands at the target is replaced.
    replace: bool,
}

impl Staging {
    /// Begins a directory that will stand at `target`: call it before any work, so that a run does
    /// not compute for hours and then find that it may not write.
    ///
    /// # Errors
    /// Usage: something is there already, other than an empty directory, or another process is
    /// making it. Io: the directory around it is missing or read-only.
    pub fn begin(target: &Path) -> Result<Self> {
        Self::replacing(target, None)
    }

    /// The same; with `replace`, as [`must_be_free`] has it, of a directory that is replaced by the
    /// new one once that is complete.
    ///
    /// # Errors
    /// As [`Staging::begin`].
    pub fn replacing(target: &Path, replace: Option<bool>) -> Result<Self> {
        let mut name = prefix(target)?;
        let parent = parent(target);
        // The directory around it stays locked until the new one is: of two runs one is first. A
        // file system without locks loses this, nothing else.
        let around = File::open(parent).map_err(|e| Error::io(parent, &e))?;
        let _ = around.lock();
        must_be_free(target, replace)?;
        for (left, in_use) in temporaries(target)? {
            if !in_use && fs::remove_dir_all(&left).is_ok() {
                tracing::info!("removed {}, which a killed run left", left.display());
            }
        }
        name.push(std::process::id().to_string());
        let temporary = target.with_file_name(name);
        atomic::remember(&temporary);
        if let Err(e) = fs::create_dir(&temporary) {
            atomic::remove_directory(&temporary);
            return Err(Error::io(&temporary, &e));
        }
        let lock = File::open(&temporary).ok().filter(|dir| dir.lock().is_ok());
        Ok(Self {
            temporary,
            _lock: lock,
            target: target.to_path_buf(),
            replace: replace == Some(true),
        })
    }

    /// Where the directory will stand.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Writes and fsyncs a small file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.temporary.join(name);
        File::create(&path)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(|e| Error::io(&path, &e))
    }

    /// Gives the directory its final name.
    pub fn commit(self) -> Result<()> {
        let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all());
        sync(&self.temporary).map_err(|e| Error::io(&self.target, &e))?;
        if self.replace && self.target.is_dir() {
            atomic::exchange(&self.temporary, &self.target)?;
        } else {
            fs::rename(&self.temporary, &self.target).map_err(|e| Error::io(&self.target, &e))?;
        }
        sync(parent(&self.target)).map_err(|e| {
            // Nothing stands there after an error.
            let _ = fs::rename(&self.target, &self.temporary);
            Error::io(&self.target, &e)
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit there is nothing to remove.
        atomic::remove_directory(&self.temporary);
    }
}

fn parent(target: &Path) -> &Path {
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// How the names of temporary directories for `target` begin; a process's id follows. An error if
/// there can be none.
fn prefix(target: &Path) -> Result<OsString> {
    atomic::must_be_in_a_directory(target)?;
    let prefix = atomic::hidden(target, ".tmp-");
    prefix.ok_or_else(|| Error::usage("not the name of a directory").file(target.display()))
}

/// The temporary directories for `target`, and whether a process works in each: others were left by
/// killed ones, or by one that had this process's id.
fn temporaries(target: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let (prefix, parent) = (prefix(target)?, parent(target));
    let entries = fs::read_dir(parent).map_err(|e| Error::io(parent, &e))?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.as_bytes().strip_prefix(prefix.as_bytes());
        let pid = pid.and_then(|pid| std::str::from_utf8(pid).ok());
        let Some(pid) = pid.and_then(|pid| pid.parse::<i32>().ok()) else {
            continue;
        };
        let path = entry.path();
        let own = pid.cast_unsigned() == std::process::id();
        let in_use = match File::open(&path).map(|dir| dir.try_lock()) {
            // Whoever made it is gone, even if another process has its id now.
            Ok(Ok(())) => false,
            Ok(Err(TryLockError::WouldBlock)) => true,
            Ok(Err(TryLockError::Error(_))) | Err(_) => pid > 0 && !own && atomic::is_alive(pid),
        };
        found.push((path, in_use));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_directory_that_another_run_is_making_is_in_use_until_that_run_ends() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let first = Staging::begin(&target).unwrap();
        let error = Staging::begin(&target).err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("out: in use"), "{error}");
        // Another name beside it is free.
        assert!(Staging::begin(&dir.path().join("out2")).is_ok());
        drop(first);
        let again = Staging::begin(&target).unwrap();
        again.write("a", b"x").unwrap();
        again.commit().unwrap();
        let error = Staging::begin(&target).err().unwrap();
        assert!(error.to_string().contains("exists already"), "{error}");
        // --force is advised where there is one that helps.
        let advice = |replace| must_be_free(&target, replace).unwrap_err().to_string();
        assert!(!advice(None).contains("--force"));
        assert!(!advice(Some(false)).contains("--force"));
        assert!(advice(Some(true)).contains("something else"));
        fs::remove_file(target.join("a")).unwrap();
        for name in ["metrics.json", "config.json"] {
            fs::write(target.join(name), "{}").unwrap();
        }
        assert!(advice(Some(false)).contains("give --force"));
        assert!(!advice(None).contains("--force"));
        must_be_free(&target, Some(true)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_may_be_of_any_bytes_and_as_long_as_the_file_system_allows() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [[0xff; 255], [b'n'; 255]] {
            let target = dir.path().join(std::ffi::OsStr::from_bytes(&bytes));
            Staging::begin(&target).unwrap().commit().unwrap();
            assert!(target.is_dir());
        }
    }

    #[test]
    fn what_a_killed_run_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        // The first process of the machine is alive, and did not make its directory.
        let left = [dead.id(), 1].map(|id| dir.path().join(format!(".out.tmp-{id}")));
        for left in &left {
            fs::create_dir(left).unwrap();
        }
        let staging = Staging::begin(&dir.path().join("out")).unwrap();
        assert!(left.iter().all(|left| !left.exists()));
        drop(staging);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
