//! Compressed sections of data that wait in a scratch file until their place in the file is known.

use super::tree::{self, Section};
use crate::error::{Error, Result};
use crate::io::spill::Spill;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write;
use std::path::Path;

/// Sections in the order of the genome. Memory: 32 bytes a section.
pub(super) struct Sections {
    data: Spill,
    all: Vec<Section>,
}

impl Sections {
    pub fn create(scratch: &Path) -> Result<Self> {
        Ok(Self {
            data: Spill::create(scratch)?,
            all: Vec::new(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds what is `raw` before compression. Named for messages: the file that it will be of.
    pub fn push(&mut self, [contig, start, end]: [u32; 3], raw: &[u8], file: &Path) -> Result<()> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(raw).and_then(|()| encoder.finish());
        let packed = packed.map_err(|e| Error::io(file, &e))?;
        self.data.push(&packed)?;
        self.all.push(Section {
            contig,
            start,
            end,
            bytes: packed.len() as u64,
        });
        Ok(())
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.data.bytes()
    }

    /// Gives them to `write` in order.
    pub fn copy(&self, write: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut at = 0;
        for section in &self.all {
            write(&self.data.read(at, section.bytes as usize)?)?;
            at += section.bytes;
        }
        Ok(())
    }

    /// Their index, if they lie from `data` on, it at `at`, and each has at most `items`.
    pub fn index(&self, data: u64, at: u64, items: usize) -> Vec<u8> {
        tree::index(&self.all, data, at, items)
    }
}
