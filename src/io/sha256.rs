//! SHA-256 digests, in lower-case hexadecimal as `sha256sum` prints them.

use super::threads;
use crate::error::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

/// That of a file.
///
/// # Errors
/// Io.
pub fn digest(path: &Path) -> Result<String> {
    let digest = File::open(path).and_then(digest_from);
    digest.map_err(|e| Error::io(path, &e))
}

/// That of all that is read.
///
/// # Errors
/// The reader's.
pub fn digest_from(reader: impl Read) -> io::Result<String> {
    let mut sum = Sha256::new();
    io::copy(&mut BufReader::with_capacity(1 << 20, reader), &mut sum)?;
    Ok(hex(&sum.finalize()))
}

/// That of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest that a thread of its own sums up while whoever began it goes on.
pub struct Summing {
    pieces: mpsc::Sender<Piece>,
    digest: Digest,
}

/// Adds bytes.
type Piece = Box<dyn FnOnce(&mut Sha256) + Send>;

impl Summing {
    /// A digest of no bytes.
    ///
    /// # Errors
    /// Memory: no thread can be started.
    pub fn begin() -> Result<Self> {
        let (pieces, received) = mpsc::channel::<Piece>();
        let sum = move || {
            let mut sum = Sha256::new();
            received.iter().for_each(|piece| piece(&mut sum));
            hex(&sum.finalize())
        };
        let thread = threads::start(sum)?;
        let digest = Digest(Arc::new(Waited {
            thread: Mutex::new(Some(thread)),
            known: OnceLock::new(),
        }));
        Ok(Self { pieces, digest })
    }

    /// Bytes that `piece` adds to the sum when all before them were added.
    pub fn add(&self, piece: impl FnOnce(&mut Sha256) + Send + 'static) {
        // The thread receives until `self` is gone.
        let _ = self.pieces.send(Box::new(piece));
    }

    /// That of all bytes, once they are summed up.
    pub fn finish(self) -> Digest {
        self.digest
    }
}

/// A digest that is known, or will be. Cheap to clone.
#[derive(Clone)]
pub struct Digest(Arc<Waited>);

struct Waited {
    thread: Mutex<Option<thread::JoinHandle<String>>>,
    known: OnceLock<String>,
}

impl Digest {
    /// In hexadecimal; waits until it is known.
    pub fn get(&self) -> &str {
        self.0.known.get_or_init(|| {
            let thread = self.0.thread.lock().map(|mut thread| thread.take());
            let summed = thread.ok().flatten().map(thread::JoinHandle::join);
            match summed {
                Some(Ok(digest)) => digest,
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                // Whoever asked first was told why.
                None => std::panic::resume_unwind(Box::new("no digest")),
            }
        })
    }
}

impl From<String> for Digest {
    fn from(digest: String) -> Self {
        Self(Arc::new(Waited {
            thread: Mutex::default(),
            known: OnceLock::from(digest),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_thread_sums_up_is_the_digest_of_all_pieces_in_their_order() {
        let sum = Summing::begin().unwrap();
        for piece in ["whole ", "gen", "omes"] {
            sum.add(move |sum| sum.update(piece));
        }
        let digest = sum.finish();
        assert_eq!(digest.clone().get(), digest_of(b"whole genomes"));
        assert_eq!(digest.get(), digest_of(b"whole genomes"));
        assert_eq!(Digest::from("known".to_string()).get(), "known");
    }
}
