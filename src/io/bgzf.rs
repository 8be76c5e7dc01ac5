//! BGZF (SAM specification, section 4.1), read strictly: gzip members of at most 64 KiB that
//! carry their own size, closed by an empty one.
//!
//! Every header, checksum and size is checked, so a file cut or changed anywhere is an error;
//! only the absence of the closing block may be excused.

use super::read;
use crate::error::{Error, Kind, Result};
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::io::{self, BufRead, Read, Seek, SeekFrom};

/// The block that closes a BGZF file.
pub const EOF_BLOCK: [u8; 28] = [
    31, 139, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, 66, 67, 2, 0, 27, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Bytes of a block's header.
pub const HEADER: usize = 18;
const TRAILER: usize = 8;
const MAX_BLOCK: usize = 65536;

/// Whether `start`, a file's first bytes, is the header of a BGZF block.
pub fn is_header(start: &[u8]) -> bool {
    start.len() >= HEADER && start[..4] == EOF_BLOCK[..4] && start[10..16] == EOF_BLOCK[10..16]
}

/// A BGZF reader. Holds one block (two buffers of 64 KiB).
pub struct Reader<R> {
    inner: R,
    inflate: Decompress,
    raw: Vec<u8>,
    block: Vec<u8>,
    /// Bytes of `block` already handed out.
    used: usize,
    /// Where the block at hand starts in the file, and where the next one does.
    start: u64,
    offset: u64,
    /// The last block was [`EOF_BLOCK`].
    closed: bool,
    missing_eof: MissingEof,
}

/// What to do about a file without its closing block.
#[derive(Clone, Copy)]
enum MissingEof {
    Refuse,
    Warn,
    Ignore,
}

impl<R: Read> Reader<R> {
    /// Reads from `inner`, which stands at a block. With `allow_missing_eof` a file that ends
    /// between two blocks without the closing one is only warned about.
    pub fn new(inner: R, allow_missing_eof: bool) -> Self {
        Self {
            inner,
            inflate: Decompress::new(false),
            raw: Vec::new(),
            block: Vec::new(),
            used: 0,
            start: 0,
            offset: 0,
            closed: false,
            missing_eof: if allow_missing_eof {
                MissingEof::Warn
            } else {
                MissingEof::Refuse
            },
        }
    }

    /// The virtual position of the next byte (SAM specification, section 4.1.1): its block's place
    /// in the file, shifted by 16 bits, and its place in the block.
    pub fn position(&self) -> u64 {
        if self.used == self.block.len() {
            self.offset << 16
        } else {
            self.start << 16 | self.used as u64
        }
    }

    /// Reads the next block; false at the end of the file.
    fn next_block(&mut self) -> Result<bool> {
        self.block.clear();
        self.used = 0;
        self.start = self.offset;
        self.raw.resize(HEADER, 0);
        let got = read::up_to(&mut self.inner, &mut self.raw)?;
        if got == 0 {
            return self.end();
        }
        let known = got.min(4);
        if self.raw[..known] != EOF_BLOCK[..known] {
            return Err(self.damage(if self.closed {
                "bytes after end of data"
            } else {
                "invalid BGZF block header"
            }));
        }
        if got < HEADER {
            return Err(self.damage("truncated BGZF block header"));
        }
        let size = usize::from(u16::from_le_bytes([self.raw[16], self.raw[17]])) + 1;
        if !is_header(&self.raw) || size < HEADER + TRAILER {
            return Err(self.damage("invalid BGZF block header"));
        }
        self.raw.resize(size, 0);
        if read::up_to(&mut self.inner, &mut self.raw[HEADER..])? < size - HEADER {
            return Err(self.damage("truncated BGZF block"));
        }
        self.inflate()?;
        self.closed = self.raw == EOF_BLOCK;
        self.offset += size as u64;
        Ok(true)
    }

    fn inflate(&mut self) -> Result<()> {
        let (data, trailer) = self.raw[HEADER..].split_at(self.raw.len() - HEADER - TRAILER);
        let word = |at: usize| {
            u32::from_le_bytes([
                trailer[at],
                trailer[at + 1],
                trailer[at + 2],
                trailer[at + 3],
            ])
        };
        let (checksum, size) = (word(0), word(4) as usize);
        if size > MAX_BLOCK {
            return Err(self.damage("invalid BGZF block: larger than 64 KiB"));
        }
        // One byte more than promised, so that a longer block shows.
        self.block.reserve_exact(size + 1);
        self.inflate.reset(false);
        let status = self
            .inflate
            .decompress_vec(data, &mut self.block, FlushDecompress::Finish);
        let whole = matches!(status, Ok(Status::StreamEnd))
            && self.inflate.total_in() == data.len() as u64
            && self.block.len() == size;
        if !whole {
            self.block.clear();
            return Err(self.damage("invalid BGZF block: its data does not inflate to its size"));
        }
        let mut crc = Crc::new();
        crc.update(&self.block);
        if crc.sum() != checksum {
            self.block.clear();
            return Err(self.damage("checksum mismatch in BGZF block"));
        }
        Ok(())
    }

    fn end(&self) -> Result<bool> {
        match self.missing_eof {
            MissingEof::Refuse if !self.closed => {
                Err(self.damage("missing BGZF EOF block: the file is truncated"))
            }
            MissingEof::Warn if !self.closed => {
                tracing::warn!("missing BGZF EOF block: the file may be truncated");
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn damage(&self, what: &str) -> Error {
        Error::input(what).place(format!("byte {}", self.offset))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Looks for the closing block now, so that random access, which may never come to the end,
    /// finds it missing too.
    pub fn check_end(&mut self) -> Result<()> {
        let size = EOF_BLOCK.len();
        let end = (self.inner.seek(SeekFrom::End(0))).map_err(|e| Error::because(Kind::Io, e))?;
        let start = end.saturating_sub(size as u64);
        (self.inner.seek(SeekFrom::Start(start))).map_err(|e| Error::because(Kind::Io, e))?;
        let mut last = [0; EOF_BLOCK.len()];
        let got = read::up_to(&mut self.inner, &mut last)?;
        self.offset = end;
        self.closed = got == size && last == EOF_BLOCK;
        self.end()?;
        self.missing_eof = MissingEof::Ignore;
        Ok(())
    }

    /// Goes to byte `within` of the block that starts at byte `compressed` of the file.
    /// Returns the block's uncompressed size; `within` may not be larger.
    pub fn seek(&mut self, compressed: u64, within: u64) -> Result<u64> {
        self.inner
            .seek(SeekFrom::Start(compressed))
            .map_err(|error| Error::because(Kind::Io, error))?;
        self.offset = compressed;
        self.closed = false;
        self.next_block()?;
        let size = self.block.len() as u64;
        if within > size {
            return Err(self.damage("index does not match: the block is shorter"));
        }
        self.used = within as usize;
        Ok(size)
    }
}

impl<R: Read> BufRead for Reader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.used == self.block.len() {
            if !self.next_block().map_err(io::Error::other)? {
                break;
            }
        }
        Ok(&self.block[self.used..])
    }

    fn consume(&mut self, n: usize) {
        self.used = (self.used + n).min(self.block.len());
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::testing::{bgzf, bgzf_without_eof};

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Reader::new(bytes, false).read_to_end(&mut out)?;
        Ok(out)
    }

    const TEXT: &[u8] = b">a\nACGTACGTTTGACCA\nACGT\n>b\nGGGATTACA\n";

    #[test]
    fn a_cut_at_every_byte_is_an_error() {
        let file = bgzf(TEXT, 11);
        assert_eq!(read(&file).unwrap(), TEXT);
        for cut in 0..file.len() {
            let error = read(&file[..cut]).unwrap_err().to_string();
            assert!(
                error.contains("truncated"),
                "cut at {cut} of {}: {error}",
                file.len()
            );
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_changes_nothing() {
        let file = bgzf(TEXT, 11);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(text) = read(&damaged) {
                    assert_eq!(text, TEXT, "byte {at}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn files_joined_end_to_end_are_read_whole() {
        let joined = [bgzf(TEXT, 11), bgzf(TEXT, 100)].concat();
        assert_eq!(read(&joined).unwrap(), [TEXT, TEXT].concat());
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        for garbage in [&b"garbage"[..], &[0; 64], b"\n"] {
            let file = [&bgzf(TEXT, 50)[..], garbage].concat();
            let error = read(&file).unwrap_err().to_string();
            assert!(error.contains("after end of data"), "{error}");
        }
    }

    #[test]
    fn a_missing_eof_block_can_be_excused() {
        let file = bgzf_without_eof(TEXT, 11);
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("missing BGZF EOF block"), "{error}");
        let mut text = Vec::new();
        Reader::new(&file[..], true).read_to_end(&mut text).unwrap();
        assert_eq!(text, TEXT);
        let cut = Reader::new(&file[..file.len() - 1], true).read_to_end(&mut text);
        assert!(cut.unwrap_err().to_string().contains("truncated"));
    }
}
