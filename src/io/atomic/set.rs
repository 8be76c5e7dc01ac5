//! Outputs that take their names together: all of them, or none.

use super::{
    AtomicFile, Sum, Temporary, exists, fault, is_unknown, rename_no_replace, rename_with,
    sync_directory,
};
use crate::error::{Error, Kind, Result};
use rustix::fs::RenameFlags;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The outputs of one run. Each is a file that is complete beside its path when it is
/// [finished](AtomicFile::finish); [`commit`](Self::commit) then gives all of them their names.
#[derive(Clone, Debug, Default)]
pub struct OutputSet(Arc<Mutex<Members>>);

#[derive(Debug, Default)]
struct Members {
    /// Whether SHA-256 of the outputs are wanted.
    summed: bool,
    /// Paths of files that were created, and not withdrawn.
    declared: Vec<PathBuf>,
    complete: Vec<Complete>,
    /// What an earlier run left, that must not stand beside the new files.
    stale: Vec<PathBuf>,
}

/// A file that is on disk under its temporary name.
#[derive(Debug)]
struct Complete {
    name: PathBuf,
    bytes: u64,
    /// Locked until it has its name, so that no other process takes it for stale.
    _file: File,
    temporary: Temporary,
    force: bool,
}

/// How a file got its name, to undo it.
enum Renamed {
    /// There was none of that name.
    New,
    /// The one before has the temporary name now.
    Exchanged,
    /// The one before is gone: the file system cannot exchange names.
    Replaced,
}

impl OutputSet {
    /// Sums up the outputs that are created from now on.
    pub fn sum(&self) {
        self.members().summed = true;
    }

    /// Opens an output of the set, as [`AtomicFile::create`] does.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub fn create(&self, path: &Path, force: bool) -> Result<AtomicFile> {
        let mut file = AtomicFile::create(path, force)?;
        if !self.members().summed {
            file.sum = Sum::Unasked;
        }
        if file.temporary.is_some() {
            self.members().declared.push(path.to_path_buf());
            file.set = Some(self.clone());
        }
        Ok(file)
    }

    /// Removes this file with the commit: it belongs to an earlier output of the same name.
    pub fn remove_stale(&self, path: PathBuf) {
        self.members().stale.push(path);
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The paths of the files that are complete and wait for their names, and their bytes.
    pub fn complete(&self) -> Vec<(PathBuf, u64)> {
        let members = self.members();
        let complete = members.complete.iter();
        complete
            .map(|file| (file.name.clone(), file.bytes))
            .collect()
    }

    pub(super) fn add(&self, (name, bytes): (PathBuf, u64), made: (File, Temporary), force: bool) {
        let (file, temporary) = made;
        self.members().complete.push(Complete {
            name,
            bytes,
            _file: file,
            temporary,
            force,
        });
    }

    pub(super) fn withdraw(&self, path: &Path) {
        self.members().declared.retain(|declared| declared != path);
    }

    /// Gives all outputs their names. If one cannot have its own, none keeps it.
    ///
    /// # Errors
    /// `Internal` if an output was declared and not finished; `Usage` if, without `--force`, a file
    /// of its name appeared since; `Io` if the disk refuses.
    pub fn commit(&self) -> Result<()> {
        let mut members = self.members();
        let finished = |path: &PathBuf| members.complete.iter().any(|done| done.name == *path);
        if let Some(path) = members.declared.iter().find(|path| !finished(path)) {
            let what = "an output was declared and not written";
            return Err(Error::new(Kind::Internal, what).file(path.display()));
        }
        let complete = std::mem::take(&mut members.complete);
        let stale = std::mem::take(&mut members.stale);
        let mut renamed = Vec::new();
        let done = rename(&complete, &mut renamed).and_then(|()| remove(&stale));
        if done.is_err() {
            for (file, how) in complete.iter().zip(&renamed).rev() {
                file.undo(how);
            }
        }
        done
    }
}

/// Gives files their names, on disk; `renamed` says how, as far as it went.
fn rename(complete: &[Complete], renamed: &mut Vec<Renamed>) -> Result<()> {
    for file in complete {
        renamed.push(file.rename()?);
    }
    for file in complete {
        let synced = fault::point().and_then(|()| sync_directory(&file.temporary.target));
        synced.map_err(|e| Error::io(&file.name, &e))?;
    }
    Ok(())
}

fn remove(stale: &[PathBuf]) -> Result<()> {
    for path in stale {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(path, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Complete {
    fn rename(&self) -> Result<Renamed> {
        let Temporary { path, target } = &self.temporary;
        let failed = |e: &io::Error| Error::io(&self.name, e);
        fault::point().map_err(|e| failed(&e))?;
        if !self.force || !target.try_exists().unwrap_or(true) {
            return match self.temporary.rename(self.force) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    Err(exists(&self.name).place("appeared during the run"))
                }
                other => other.map(|()| Renamed::New).map_err(|e| failed(&e)),
            };
        }
        match exchange(path, target) {
            Ok(()) => Ok(Renamed::Exchanged),
            Err(e) if is_unknown(&e) => {
                fs::rename(path, target).map_err(|e| failed(&e))?;
                Ok(Renamed::Replaced)
            }
            Err(e) => Err(failed(&e)),
        }
    }

    /// As far as it goes: the run has failed already, and says why.
    fn undo(&self, how: &Renamed) {
        let Temporary { path, target } = &self.temporary;
        let _ = match how {
            Renamed::New => rename_no_replace(target, path).or_else(|_| fs::remove_file(target)),
            Renamed::Exchanged => exchange(path, target),
            Renamed::Replaced => Ok(()),
        };
    }
}

/// Two files take each other's names, at once.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    rename_with(one, other, RenameFlags::EXCHANGE)
}
