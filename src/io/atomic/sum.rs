//! The SHA-256 of what is written to a file.

use crate::io::sha256::hex;
use crate::io::threads::start;
use sha2::{Digest, Sha256};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Blocks that may wait for their sum.
const WAITING: usize = 2;

/// A sum that grows: at once, or by a thread of its own. A gigabyte takes half a second, and longer on
/// a processor without instructions for it.
#[derive(Debug)]
pub(super) enum Sum {
    /// Nobody asks for it.
    Unasked,
    Here(Sha256),
    There(SyncSender<Arc<Vec<u8>>>, JoinHandle<Sha256>),
}

impl Sum {
    pub fn new() -> Self {
        Self::Here(Sha256::new())
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Unasked => {}
            Self::Here(sum) => sum.update(bytes),
            Self::There(..) => self.send(Arc::new(bytes.to_vec())),
        }
    }

    /// Adds a block, and does not wait for it.
    pub fn add_block(&mut self, block: &Arc<Vec<u8>>) {
        if let Self::Here(sum) = self {
            let mut sum = sum.clone();
            let (to, blocks) = sync_channel::<Arc<Vec<u8>>>(WAITING);
            let started = start(move || {
                for block in blocks {
                    sum.update(&*block);
                }
                sum
            });
            match started {
                Ok(thread) => *self = Self::There(to, thread),
                Err(_) => return self.add(block),
            }
        }
        self.send(Arc::clone(block));
    }

    fn send(&self, block: Arc<Vec<u8>>) {
        if let Self::There(to, _) = self {
            // The thread ends before only by a panic, which the end meets.
            let _ = to.send(block);
        }
    }

    /// In lower-case hexadecimal, if it was asked for; what is added later is another sum.
    pub fn finish(&mut self) -> Option<String> {
        let sum = match std::mem::replace(self, Self::new()) {
            Self::Unasked => return None,
            Self::Here(sum) => sum,
            Self::There(to, thread) => {
                drop(to);
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            }
        };
        Some(hex(&sum.finalize()))
    }
}
