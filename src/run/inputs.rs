//! The inputs of a run stay as they were when it began.

use crate::error::{Error, Result};
use crate::io::source::{self, is_remote, shown};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What tells that a file is the one that was opened, with the same content.
#[derive(PartialEq)]
enum Stamp {
    /// Device, inode, size, and the time of its last change in seconds and nanoseconds.
    Local(u64, u64, u64, i64, i64),
    /// Of a file that lies elsewhere, its size and its ends: [`source::stamp`].
    Remote(String),
}

/// Regular and remote files that a run reads, as they were when it began.
pub struct Inputs(Vec<(PathBuf, Stamp)>);

impl Inputs {
    /// Looks at these files; pipes, and what a server gives once only, cannot be looked at twice.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let stamped = |path: &PathBuf| Some((path.clone(), stamp(path).ok()??));
        Self(paths.into_iter().filter_map(stamped).collect())
    }

    /// An error if one of them is another file now, or was written to.
    ///
    /// # Errors
    /// Input; Io if it cannot be looked at.
    pub fn must_be_unchanged(&self) -> Result<()> {
        for (path, was) in &self.0 {
            match stamp(path)? {
                Some(is) if is == *was => {}
                None if is_remote(path) => {
                    let name = shown(path);
                    tracing::warn!(
                        "{name}: cannot be looked at again: it may have changed meanwhile"
                    );
                }
                _ => {
                    return Err(Error::input("it changed while it was read")
                        .file(shown(path))
                        .todo("run again when nothing writes to it"));
                }
            }
        }
        Ok(())
    }
}

fn stamp(path: &PathBuf) -> Result<Option<Stamp>> {
    if is_remote(path) {
        // What cannot be opened is said by whoever reads it.
        return Ok(source::stamp(path).ok().flatten().map(Stamp::Remote));
    }
    let found = match fs::metadata(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(path, &error)),
        found => found.ok().filter(fs::Metadata::is_file),
    };
    Ok(found.map(|found| {
        Stamp::Local(
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
        )
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_to_replaced_or_removed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.fa");
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&path, ">b\nAC\n").unwrap(),
            &|| {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_len(3).unwrap();
            },
            &|| {
                fs::write(dir.path().join("b"), ">a\nAC\n").unwrap();
                fs::rename(dir.path().join("b"), &path).unwrap();
            },
            &|| fs::remove_file(&path).unwrap(),
        ];
        for change in changes {
            fs::write(&path, ">a\nAC\n").unwrap();
            let inputs = Inputs::of([&path]);
            inputs.must_be_unchanged().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            change();
            let error = inputs.must_be_unchanged().unwrap_err();
            assert_eq!(error.exit_code(), 3);
            assert!(error.to_string().contains("a.fa: it changed"), "{error}");
        }
    }
}
