//! A file for Parquet's decoder, which says "damaged" also where the system could not read.

use super::read::FirstFailure;
use crate::error::{Error, Result};
use bytes::Bytes;
use parquet::errors::{ParquetError, Result as Decoded};
use parquet::file::reader::{ChunkReader, Length};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// An open file, and the first thing that the system said against reading it. Cheap to clone.
#[derive(Clone)]
pub struct Chunks {
    file: Arc<File>,
    bytes: u64,
    failed: Arc<FirstFailure>,
}

impl Chunks {
    /// Opens a file.
    ///
    /// # Errors
    /// Io; Input: it is a directory.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (about, file) = opened.map_err(|e| Error::io(path, &e))?;
        if about.is_dir() {
            return Err(Error::input("is a directory, not a table").file(path.display()));
        }
        Ok(Self {
            file: Arc::new(file),
            bytes: about.len(),
            failed: Arc::default(),
        })
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the decoder says of the file: the system's errors are the system's.
    pub fn error(&self, path: &Path, error: ParquetError) -> Error {
        match self.failed.get() {
            Some(io) => Error::io(path, io),
            None => Error::input(format!("damaged: {error}"))
                .file(path.display())
                .caused_by(error),
        }
    }

    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        let read = self.file.read_at(to, at);
        read.inspect_err(|error| self.failed.note(error))
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> Decoded<Self::T> {
        Ok(BufReader::new(From {
            chunks: self.clone(),
            at: start,
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Decoded<Bytes> {
        // Before memory is made for it.
        if self.bytes.saturating_sub(start) < length as u64 {
            let what = format!("{length} bytes at {start} of {}", self.bytes);
            return Err(ParquetError::EOF(what));
        }
        let mut bytes = vec![0; length];
        let mut from = From {
            chunks: self.clone(),
            at: start,
        };
        from.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// The bytes of a file from a place on.
pub struct From {
    chunks: Chunks,
    at: u64,
}

impl Read for From {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.chunks.read_at(to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
