//! A directory that appears under its name complete, or not at all.

use crate::error::{Error, Result};
use std::fs::{self, File};
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
        let name = format!(".{}.tmp-{}", name.to_string_lossy(), std::process::id());
        let temporary = target.with_file_name(name);
        // Left over from a killed process that had the same id.
        let _ = fs::remove_dir_all(&temporary);
        fs::create_dir(&temporary).map_err(|e| Error::io(&temporary, &e))?;
        Ok(Self {
            temporary,
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
        let _ = fs::remove_dir_all(&self.temporary);
    }
}
