//! Reads and decompresses an input on a thread of its own, a few blocks ahead of its reader.

use super::input::Input;
use super::{read, threads};
use crate::error::{Error, Kind, Result};
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, sync_channel};

/// Bytes that the thread hands over at a time.
const BLOCK: usize = 1 << 18;
/// Blocks that may wait.
const WAITING: usize = 4;

/// The text of an [`Input`]. Memory: six blocks of 256 KiB, and the input's own.
pub struct Ahead {
    blocks: Receiver<Result<Vec<u8>>>,
    block: Vec<u8>,
    used: usize,
    ended: bool,
    failed: Option<Error>,
}

impl Ahead {
    /// Starts to read. The thread ends with the input, or soon after this is dropped.
    ///
    /// # Errors
    /// Memory: no thread can be started.
    pub fn new(mut input: Input) -> Result<Self> {
        let (sender, blocks) = sync_channel(WAITING);
        threads::start(move || {
            loop {
                let mut block = vec![0; BLOCK];
                let read = read::up_to(&mut input, &mut block).map(|n| {
                    block.truncate(n);
                    block
                });
                // An empty block is the end: a thread that is gone without it is an error.
                let ends = read.as_ref().map_or(true, Vec::is_empty);
                if sender.send(read).is_err() || ends {
                    return;
                }
            }
        })?;
        Ok(Self {
            blocks,
            block: Vec::new(),
            used: 0,
            ended: false,
            failed: None,
        })
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(failed) = &self.failed {
            return Err(io::Error::other(failed.clone()));
        }
        if self.used == self.block.len() && !self.ended {
            self.used = 0;
            let lost = || Err(Error::new(Kind::Internal, "the reading thread is gone"));
            match self.blocks.recv().unwrap_or_else(|_| lost()) {
                Ok(block) => {
                    self.ended = block.is_empty();
                    self.block = block;
                }
                Err(error) => {
                    self.block.clear();
                    self.failed = Some(error.clone());
                    return Err(io::Error::other(error));
                }
            }
        }
        Ok(&self.block[self.used..])
    }

    fn consume(&mut self, n: usize) {
        self.used = (self.used + n).min(self.block.len());
    }
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::bgzf;

    fn read(bytes: Vec<u8>) -> Result<Vec<u8>> {
        let input = Input::new("x", Box::new(io::Cursor::new(bytes)), false)?;
        let mut text = Vec::new();
        let read = Ahead::new(input).unwrap().read_to_end(&mut text);
        read.map(|_| text).map_err(read::error)
    }

    #[test]
    fn the_text_and_its_damage_come_through() {
        let text: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let file = bgzf(&text, 60_000);
        assert!(read(file.clone()).unwrap() == text);
        let error = read(file[..file.len() / 2].to_vec()).unwrap_err();
        assert!(error.to_string().starts_with("x: byte "), "{error}");
    }
}
