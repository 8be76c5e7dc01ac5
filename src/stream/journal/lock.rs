//! What keeps a second process out of a journal.

use crate::error::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The name of the file that is locked.
pub(super) const LOCK: &str = "lock";

/// How often a lock is tried for that others remove meanwhile.
const ATTEMPTS: usize = 100;

/// What keeps a second process out of a directory, which is made, as long as it is open. The
/// directory itself is locked by those that put files there.
pub(super) fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK);
    for _ in 0..ATTEMPTS {
        match fs::create_dir_all(directory) {
            // It was there, and a run that has ended removed it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !directory.exists() => {
                continue;
            }
            made => made.map_err(|e| Error::io(directory, &e))?,
        }
        // No file, if someone made it so.
        let _ = fs::remove_dir(&path);
        let opened = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = match opened {
            // A run that has ended removed the directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(|e| Error::io(&path, &e))?,
        };
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(occupied(directory));
        }
        // Locked, or on a file system that has no locks; but a run that has ended may have removed
        // the file before it was.
        if file_id(file.metadata()) == file_id(fs::metadata(&path)) {
            return Ok(file);
        }
    }
    Err(occupied(directory))
}

fn occupied(directory: &Path) -> Error {
    let error = Error::usage("another process is at work on these checkpoints");
    error
        .file(directory.display())
        .todo("wait for it, or end it")
}

/// Device and inode, if there is such a file.
fn file_id(found: io::Result<fs::Metadata>) -> Option<(u64, u64)> {
    found.ok().map(|found| (found.dev(), found.ino()))
}
