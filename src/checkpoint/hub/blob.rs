//! One file of a model, from the hub into the cache: it goes on where it was cut off, and is held
//! against its size and its digest.

use super::Name;
use super::client::{Client, Failed, Remote};
use crate::error::{Error, Kind, Result};
use crate::io::sha256::hex;
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tries in a row that bring no byte.
const TRIES: u32 = 5;

/// A wait before the next try, doubled each time.
const WAIT: Duration = Duration::from_millis(200);

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 17;

/// Does `work` until it is done, or fails for good, or often in a row.
pub fn persist<T>(mut work: impl FnMut() -> Result<T, Failed>) -> Result<T> {
    let mut wait = WAIT;
    for _ in 1..TRIES {
        match work() {
            Ok(done) => return Ok(done),
            Err(Failed { error, passing }) if !passing => return Err(*error),
            Err(Failed { error, .. }) => tracing::debug!("{error}: trying again"),
        }
        std::thread::sleep(wait);
        wait *= 2;
    }
    work().map_err(|failed| *failed.error)
}

/// Brings a file to `blobs`, unless it is there, and says where it lies; `arrived` is told of
/// bytes.
///
/// # Errors
/// Io; Usage: another process fetches it; Model: it is not what the hub says.
pub fn fetch(
    client: &Client,
    name: &Name,
    remote: &Remote,
    blobs: &Path,
    arrived: &mut dyn FnMut(u64),
) -> Result<PathBuf> {
    let blob = blobs.join(&remote.etag);
    if fs::metadata(&blob).is_ok_and(|found| found.len() == remote.size) {
        arrived(remote.size);
        return Ok(blob);
    }
    let mut part = Part::open(blobs.join(format!("{}.incomplete", remote.etag)), remote)?;
    arrived(part.length);
    let mut tries = 0;
    while part.length < remote.size {
        let before = part.length;
        match part.go_on(client, name, remote, arrived) {
            Ok(()) => {}
            Err(Failed { error, passing }) if !passing => return Err(*error),
            Err(Failed { error, .. }) => {
                tries = if part.length > before { 1 } else { tries + 1 };
                if tries >= TRIES {
                    return Err(*error);
                }
                tracing::info!("{error}: going on at byte {}", part.length);
                std::thread::sleep(WAIT * 2u32.pow(tries));
            }
        }
    }
    part.complete(name, remote, &blob)?;
    Ok(blob)
}

/// The bytes of a file that are here.
struct Part {
    path: PathBuf,
    /// Locked.
    file: File,
    length: u64,
    sum: Sha256,
}

impl Part {
    /// What an earlier run left, or nothing yet.
    fn open(path: PathBuf, remote: &Remote) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io(&path, &e);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(failed)?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Error::usage("another process fetches it")
                .file(path.display())
                .todo("wait for its end"));
        }
        let (mut length, mut sum) = (0, Sha256::new());
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = file.read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            sum.update(&buffer[..n]);
            length += n as u64;
        }
        let mut part = Self {
            path,
            file,
            length,
            sum,
        };
        if length > remote.size {
            part.start_again()?;
        }
        Ok(part)
    }

    fn start_again(&mut self) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(|e| Error::io(&self.path, &e))?;
        self.length = 0;
        self.sum = Sha256::new();
        Ok(())
    }

    /// Reads from one connection, as far as that goes.
    fn go_on(
        &mut self,
        client: &Client,
        name: &Name,
        remote: &Remote,
        arrived: &mut dyn FnMut(u64),
    ) -> Result<(), Failed> {
        let (start, mut bytes) = client.open(name, remote, self.length)?;
        if start != self.length {
            self.start_again().map_err(Failed::last)?;
            if start != 0 {
                let what = "the server sent another part of the file";
                return Err(Failed::passing(Error::new(Kind::Io, what).file(name)));
            }
        }
        let mut buffer = vec![0; BUFFER];
        while self.length < remote.size {
            let room = (remote.size - self.length).min(BUFFER as u64) as usize;
            let n = bytes.read(&mut buffer[..room]).unwrap_or(0);
            if n == 0 {
                let what = format!("cut off at byte {} of {}", self.length, remote.size);
                return Err(Failed::passing(Error::new(Kind::Io, what).file(name)));
            }
            let written = self.file.write_all(&buffer[..n]);
            written.map_err(|e| Failed::last(Error::io(&self.path, &e)))?;
            self.sum.update(&buffer[..n]);
            self.length += n as u64;
            arrived(n as u64);
        }
        Ok(())
    }

    /// Gives the file its name, if it is what the hub says.
    fn complete(self, name: &Name, remote: &Remote, blob: &Path) -> Result<()> {
        let found = hex(&self.sum.finalize());
        // Of small files the hub states a hash of git's.
        let is_sha256 =
            remote.etag.len() == 64 && remote.etag.bytes().all(|b| b.is_ascii_hexdigit());
        if is_sha256 && found != remote.etag.to_ascii_lowercase() {
            fs::remove_file(&self.path).map_err(|e| Error::io(&self.path, &e))?;
            let what = format!("its SHA-256 is {found}, but the hub says {}", remote.etag);
            return Err(Error::model(what).file(name).todo("fetch it again"));
        }
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, blob))
            .map_err(|e| Error::io(blob, &e))
    }
}
