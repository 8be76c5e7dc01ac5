//! A directory that appears under its name complete, or not at all.

use crate::error::{Error, Result};
use crate::io::atomic;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A usage error if something is at `target` already, other than an empty directory.
pub fn must_be_free(target: &Path) -> Result<()> {
    let taken = match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => target.symlink_metadata().is_ok(),
    };
    match taken {
        true => Err(Error::usage("exists already")
            .file(target.display())
            .todo("remove it, or give another directory")),
        false => Ok(()),
    }
}

/// A temporary directory beside its final place; removed when dropped without commit.
pub struct Staging {
    temporary: PathBuf,
    /// Locked, so that no other process takes the directory for stale; where there are no locks,
    /// its process's id is all that tells.
    _lock: Option<File>,
    target: PathBuf,
}

impl Staging {
    /// Begins a directory that will stand at `target`. A usage error if something is there
    /// already, other than an empty directory.
    pub fn begin(target: &Path) -> Result<Self> {
        must_be_free(target)?;
        let name = target
            .file_name()
            .ok_or_else(|| Error::usage("not the name of a directory").file(target.display()))?;
        let prefix = format!(".{}.tmp-", name.to_string_lossy());
        remove_stale(target, &prefix);
        let temporary = target.with_file_name(format!("{prefix}{}", std::process::id()));
        atomic::remember(&temporary);
        if let Err(e) = fs::create_dir(&temporary) {
            atomic::remove_directory(&temporary);
            return Err(Error::io(&temporary, &e));
        }
        let lock = File::open(&temporary)
            .ok()
            .filter(|dir| dir.try_lock().is_ok());
        Ok(Self {
            temporary,
            _lock: lock,
            target: target.to_path_buf(),
        })
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
        sync(&self.temporary)
            .and_then(|()| fs::rename(&self.temporary, &self.target))
            .map_err(|e| Error::io(&self.target, &e))?;
        match self
            .target
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => sync(parent),
            None => sync(Path::new(".")),
        }
        .map_err(|e| Error::io(&self.target, &e))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a commit there is nothing to remove.
        atomic::remove_directory(&self.temporary);
    }
}

/// Removes what killed processes left beside `target`, or one that had this process's id.
fn remove_stale(target: &Path, prefix: &str) {
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
    let Ok(entries) = fs::read_dir(parent.unwrap_or(Path::new("."))) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(prefix));
        let Some(pid) = pid.and_then(|pid| pid.parse::<i32>().ok()) else {
            continue;
        };
        let own = pid.cast_unsigned() == std::process::id();
        let path = entry.path();
        let locked = File::open(&path)
            .is_ok_and(|dir| matches!(dir.try_lock(), Err(TryLockError::WouldBlock)));
        let dead = pid > 0 && (own || !atomic::is_alive(pid));
        if dead && !locked && fs::remove_dir_all(&path).is_ok() {
            tracing::info!("removed {}, which a killed run left", path.display());
        }
    }
}
