//! A file whose caller goes on while a thread of its own writes.
//!
//! Memory: [`BLOCK`] bytes six times, of which one is filled, one written, and the others wait to be
//! written or summed.

use crate::io::atomic::AtomicFile;
use crate::io::threads::start;
use std::io::{self, Write};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes that are given to the system at once.
const BLOCK: usize = 1 << 20;

/// Blocks that may wait to be written.
const WAITING: usize = 2;

/// A file that is written in blocks. One that has no more than a block has no thread.
pub(in crate::io) struct Behind {
    name: PathBuf,
    block: Vec<u8>,
    target: Target,
}

enum Target {
    Here(AtomicFile),
    There(SyncSender<Vec<u8>>, JoinHandle<io::Result<AtomicFile>>),
    /// A write failed, and the file is gone.
    Failed,
}

impl Behind {
    pub fn new(file: AtomicFile) -> Self {
        Self {
            name: file.name().to_path_buf(),
            block: Vec::new(),
            target: Target::Here(file),
        }
    }

    /// As messages call it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Hands on the block that is full.
    fn hand_on(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        self.target = match std::mem::replace(&mut self.target, Target::Failed) {
            Target::Here(file) => Target::begin(file),
            other => other,
        };
        let sent = match &mut self.target {
            Target::Here(file) => return file.write_block(&Arc::new(block)),
            Target::There(to, _) => to.send(block).is_ok(),
            Target::Failed => false,
        };
        // If it has ended, it says why.
        if sent { Ok(()) } else { self.end().map(drop) }
    }

    /// Waits until all that was handed on is written.
    fn end(&mut self) -> io::Result<AtomicFile> {
        match std::mem::replace(&mut self.target, Target::Failed) {
            Target::Here(file) => Ok(file),
            Target::There(to, thread) => {
                drop(to);
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            }
            Target::Failed => Err(io::Error::other("an earlier write failed")),
        }
    }

    /// Writes what is left, and gives the file back.
    ///
    /// # Errors
    /// The system's, of this write or one before.
    pub fn finish(mut self) -> io::Result<AtomicFile> {
        let mut file = self.end()?;
        file.write_all(&self.block)?;
        Ok(file)
    }
}

impl Target {
    /// A thread that writes the file; where the system gives none, the caller does.
    fn begin(file: AtomicFile) -> Self {
        let (to, blocks) = sync_channel(WAITING);
        let (give, given) = sync_channel(1);
        let Ok(thread) = start(move || write(&given, blocks)) else {
            return Self::Here(file);
        };
        // The thread is there to take it.
        let _ = give.send(file);
        Self::There(to, thread)
    }
}

fn write(file: &Receiver<AtomicFile>, blocks: Receiver<Vec<u8>>) -> io::Result<AtomicFile> {
    let mut file = file.recv().map_err(io::Error::other)?;
    for block in blocks {
        file.write_block(&Arc::new(block))?;
    }
    Ok(file)
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.hand_on()?;
        }
        let n = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    /// What was written is in the file when it is [finished](Self::finish).
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Behind {
    /// Nothing of a file that is not finished is left when this returns.
    fn drop(&mut self) {
        if let Target::There(to, thread) = std::mem::replace(&mut self.target, Target::Failed) {
            drop(to);
            // Whoever drops it has an error already.
            let _ = thread.join();
        }
    }
}
