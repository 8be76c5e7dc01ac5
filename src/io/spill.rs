//! Scratch files. [`Scratch`] is read and written anywhere: what a chromosome needs between two
//! layers. [`Spill`] is written forwards and read backwards, block by block: how the reverse
//! strand of a chromosome is put into reference order without holding it in memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use bytemuck::{cast_slice, cast_slice_mut};

/// Bytes of a number.
const NUMBER: u64 = size_of::<f32>() as u64;

/// Bytes on disk.
///
/// The file has no name, so its space is free again when the process ends, however it ends.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    /// Where it lay, for messages.
    directory: PathBuf,
}

impl Scratch {
    /// Opens a scratch file in `directory`.
    ///
    /// # Errors
    /// `Io` if `directory` is missing or cannot be written.
    pub fn create(directory: &Path) -> Result<Self> {
        let file = nameless(directory).map_err(|e| failed(directory, e))?;
        Ok(Self {
            file,
            directory: directory.to_path_buf(),
        })
    }

    /// Fills `bytes` with those from byte `start` on.
    ///
    /// # Errors
    /// `Io` if the disk refuses, or nothing was written there.
    pub fn read(&self, start: u64, bytes: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(bytes, start);
        read.map_err(|e| failed(&self.directory, e))
    }

    /// Writes `bytes` from byte `start` on, over what was there.
    ///
    /// # Errors
    /// `Io` if the disk refuses.
    pub fn write(&self, start: u64, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all_at(bytes, start);
        written.map_err(|e| failed(&self.directory, e))
    }

    /// Fills `numbers` with those from number `first` on, in a file of nothing else.
    ///
    /// # Errors
    /// `Io` if the disk refuses, or nothing was written there.
    pub fn read_numbers(&self, first: u64, numbers: &mut [f32]) -> Result<()> {
        self.read(first * NUMBER, cast_slice_mut(numbers))
    }

    /// Writes `numbers` from number `first` on, over what was there.
    ///
    /// # Errors
    /// `Io` if the disk refuses.
    pub fn write_numbers(&self, first: u64, numbers: &[f32]) -> Result<()> {
        self.write(first * NUMBER, cast_slice(numbers))
    }
}

/// A file without a name.
#[cfg(target_os = "linux")]
fn nameless(directory: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options.custom_flags(libc::O_TMPFILE);
    match options.open(directory) {
        // File systems and kernels that know no such files say so in many ways; what else is wrong
        // with the directory is wrong for the other kind, too.
        Err(_) => unlinked(directory),
        file => file,
    }
}

#[cfg(not(target_os = "linux"))]
fn nameless(directory: &Path) -> io::Result<File> {
    unlinked(directory)
}

/// A file whose name is taken away at once; a kill between the two leaves it.
fn unlinked(directory: &Path) -> io::Result<File> {
    let (process, random) = (std::process::id(), rand::random::<u64>());
    let path = directory.join(format!(".crocuta-{process}-{random:016x}"));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let file = options.open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// Blocks of bytes on disk, last in, first out. In memory there are 8 bytes a block.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let mut spill = crocuta::io::spill::Spill::create(dir.path())?;
/// spill.push(b"first")?;
/// spill.push(b"second")?;
/// assert_eq!(spill.pop()?.as_deref(), Some(&b"second"[..]));
/// assert_eq!(spill.pop()?.as_deref(), Some(&b"first"[..]));
/// assert_eq!(spill.pop()?, None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Spill {
    scratch: Scratch,
    /// Where each block ends.
    ends: Vec<u64>,
}

impl Spill {
    /// Opens a scratch file in `directory`.
    ///
    /// # Errors
    /// `Io` if `directory` is missing or cannot be written.
    pub fn create(directory: &Path) -> Result<Self> {
        Ok(Self {
            scratch: Scratch::create(directory)?,
            ends: Vec::new(),
        })
    }

    /// Where to put scratch files: `given` with `--scratch`, else `$TMPDIR`, else the directory of
    /// `output`, which the user has chosen for large files; `/tmp` is often memory.
    pub fn directory(given: Option<&Path>, output: &Path) -> PathBuf {
        let tmpdir = || {
            std::env::var_os("TMPDIR")
                .filter(|d| !d.is_empty())
                .map(PathBuf::from)
        };
        match given {
            Some(given) => given.to_path_buf(),
            None => tmpdir().unwrap_or_else(|| super::atomic::directory_of(output)),
        }
    }

    /// Appends a block.
    ///
    /// # Errors
    /// `Io` if the disk refuses; the blocks before are still there.
    pub fn push(&mut self, block: &[u8]) -> Result<()> {
        let start = self.bytes();
        self.scratch.write(start, block)?;
        self.ends.push(start + block.len() as u64);
        Ok(())
    }

    /// Takes the last block off; `None` when there is none. The disk space of popped blocks is
    /// used again by the next [`push`](Self::push).
    ///
    /// # Errors
    /// `Io` if the disk refuses.
    pub fn pop(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(end) = self.ends.pop() else {
            return Ok(None);
        };
        let start = self.bytes();
        // A block was a slice in memory before, so its length fits one.
        let mut block = vec![0; (end - start) as usize];
        self.scratch.read(start, &mut block)?;
        Ok(Some(block))
    }

    /// `len` of the bytes that are held, from byte `start` on, whatever block they were pushed with.
    ///
    /// # Errors
    /// `Io` if the disk refuses, or fewer bytes are held.
    pub fn read(&self, start: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.scratch.read(start, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes of the blocks that are held.
    pub fn bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }
}

fn failed(directory: &Path, error: io::Error) -> Error {
    Error::because(Kind::Io, error)
        .file(directory.display())
        .place("scratch file")
        .todo("give --scratch a directory with room")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_last_first_and_the_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::create(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let block = |i: usize| vec![i as u8; i * 1_000];
        for i in 0..20 {
            spill.push(&block(i)).unwrap();
        }
        for i in (10..20).rev() {
            assert_eq!(spill.pop().unwrap().unwrap(), block(i));
        }
        spill.push(b"new").unwrap();
        assert_eq!(spill.pop().unwrap().unwrap(), b"new");
        for i in (0..10).rev() {
            assert_eq!(spill.pop().unwrap().unwrap(), block(i));
        }
        assert_eq!(spill.pop().unwrap(), None);
        assert_eq!(spill.bytes(), 0);
    }

    #[test]
    fn bytes_are_read_and_written_anywhere_but_not_where_there_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(directory.path()).unwrap();
        scratch.write(5, b"world").unwrap();
        scratch.write(0, b"hello").unwrap();
        scratch.write(4, b"0W").unwrap();
        let mut bytes = [0; 10];
        scratch.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"hell0World");
        let error = scratch.read(1, &mut bytes).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
    }

    #[test]
    fn a_file_system_without_nameless_files_takes_the_name_away() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch {
            file: unlinked(directory.path()).unwrap(),
            directory: directory.path().to_path_buf(),
        };
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        scratch.write(0, b"x").unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_io_error_that_names_it() {
        let error = Spill::create(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(
            error
                .to_string()
                .starts_with("/nonexistent: scratch file: "),
            "{error}"
        );
    }

    #[test]
    fn a_full_disk_is_an_io_error() {
        let scratch = Scratch {
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            directory: PathBuf::from("/dev"),
        };
        let mut spill = Spill {
            scratch,
            ends: Vec::new(),
        };
        let error = spill.push(b"x").unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains("No space left"), "{error}");
    }

    #[test]
    fn scratch_goes_where_it_is_told() {
        let given = Spill::directory(Some(Path::new("/scratch")), Path::new("out/t.parquet"));
        assert_eq!(given, Path::new("/scratch"));
    }
}
