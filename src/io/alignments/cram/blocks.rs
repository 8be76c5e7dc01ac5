//! Containers and blocks (CRAM specification, sections 7 and 8), as far as their sizes go.

use crate::error::{Error, Kind, Result};
use crate::io::read;
use flate2::{Crc, read::GzDecoder};
use std::io::{Read, Seek, SeekFrom};

/// The largest container, in bytes of the file, and the largest block, uncompressed.
const MAX_SIZE: usize = 1 << 28;
/// Uncompressed bytes of all blocks of a container.
const MAX_CONTAINER: usize = 1 << 30;
/// Records of a slice: each takes a few hundred bytes before it is decoded.
const MAX_RECORDS: usize = 1 << 20;

/// The container that closes a CRAM 3 file (section 9).
const END: [u8; 38] = [
    15, 0, 0, 0, 255, 255, 255, 255, 15, 224, 69, 79, 70, 0, 0, 0, 0, 1, 0, 5, 189, 217, 79, 0, 1,
    0, 6, 6, 1, 0, 1, 0, 1, 0, 238, 99, 1, 75,
];

/// A container, header included.
pub struct Container {
    /// Its bytes as they are in the file.
    pub bytes: Vec<u8>,
    /// Where its blocks begin in `bytes`.
    pub(super) blocks: usize,
    /// The contig of its records; -1: none, -2: several.
    pub contig: i32,
    /// It closes the file.
    pub is_end: bool,
}

/// Fails if a file does not end with the container that closes it.
pub fn check_end(file: &mut (impl Read + Seek)) -> Result<()> {
    let mut last = [0; END.len()];
    let end = file
        .seek(SeekFrom::End(0))
        .map_err(|e| Error::because(Kind::Io, e))?;
    let start = SeekFrom::Start(end.saturating_sub(END.len() as u64));
    file.seek(start).map_err(|e| Error::because(Kind::Io, e))?;
    let got = read::up_to(file, &mut last)?;
    if got == END.len() && last == END {
        Ok(())
    } else {
        Err(Error::input(
            "missing CRAM EOF container: the file is truncated",
        ))
    }
}

/// Reads numbers from a stream and keeps their bytes.
pub struct Numbers<'a, R> {
    input: &'a mut R,
    bytes: Vec<u8>,
}

impl<'a, R: Read> Numbers<'a, R> {
    pub fn new(input: &'a mut R) -> Self {
        Self {
            input,
            bytes: Vec::new(),
        }
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        let before = self.bytes.len();
        self.skip(count)?;
        Ok(self.bytes.split_off(before))
    }

    pub fn skip(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.byte().map(drop))
    }

    pub fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        match read::up_to(self.input, &mut byte)? {
            0 => Err(Error::input("truncated container header")),
            _ => {
                self.bytes.push(byte[0]);
                Ok(byte[0])
            }
        }
    }

    /// ITF8 (section 2.3): the leading ones of the first byte say how many follow.
    pub fn itf8(&mut self) -> Result<i32> {
        let first = self.byte()?;
        let more = first.leading_ones().min(4);
        let mut value = match more {
            4 => u32::from(first & 0x0f),
            more => u32::from(first) & (0x7f >> more),
        };
        for i in 0..more {
            let byte = u32::from(self.byte()?);
            value = match (more, i) {
                (4, 3) => value << 4 | (byte & 0x0f),
                _ => value << 8 | byte,
            };
        }
        Ok(value.cast_signed())
    }

    pub fn size(&mut self) -> Result<usize> {
        let size = self.itf8()?;
        usize::try_from(size).map_err(|_| Error::input(format!("a count of {size}")))
    }

    /// LTF8; its value is not needed.
    pub fn ltf8(&mut self) -> Result<()> {
        let more = self.byte()?.leading_ones();
        (0..more).try_for_each(|_| self.byte().map(drop))
    }
}

impl Container {
    /// Reads the next container; `None` at the end of the input.
    pub fn read(input: &mut impl Read) -> Result<Option<Self>> {
        let mut word = [0; 4];
        match read::up_to(input, &mut word)? {
            0 => return Ok(None),
            4 => {}
            _ => return Err(Error::input("truncated container header")),
        }
        let length = i32::from_le_bytes(word);
        let size = usize::try_from(length)
            .ok()
            .filter(|&size| size <= MAX_SIZE);
        let Some(size) = size else {
            return Err(Error::input(format!("a container of {length} bytes")));
        };
        let mut numbers = Numbers {
            input,
            bytes: word.to_vec(),
        };
        let contig = numbers.itf8()?;
        let start = numbers.itf8()?;
        numbers.itf8()?; // span
        numbers.size()?; // records
        numbers.ltf8()?; // records before
        numbers.ltf8()?; // bases
        let blocks = numbers.size()?;
        let mut last = 0;
        for _ in 0..numbers.size()? {
            let landmark = numbers.size()?;
            if landmark < last || landmark > size {
                return Err(Error::input("a slice lies outside its container"));
            }
            last = landmark;
        }
        let mut crc = Crc::new();
        crc.update(&numbers.bytes);
        let mut expected = [0; 4];
        for byte in &mut expected {
            *byte = numbers.byte()?;
        }
        if crc.sum() != u32::from_le_bytes(expected) {
            return Err(Error::input("checksum mismatch in a container's header"));
        }
        let mut bytes = numbers.bytes;
        let header = bytes.len();
        let read = input.take(size as u64).read_to_end(&mut bytes);
        read.map_err(crate::io::read::error)?;
        if bytes.len() < header + size {
            return Err(Error::input("truncated container"));
        }
        Ok(Some(Self {
            bytes,
            blocks: header,
            contig,
            is_end: size == 15 && contig == -1 && start == 4_542_278 && blocks == 1,
        }))
    }

    /// The compression header, which is the first block.
    ///
    /// # Errors
    /// Input: damaged, or compressed in another way than raw or gzip.
    pub fn compression_header(&self) -> Result<Vec<u8>> {
        let blocks = &self.bytes[self.blocks..];
        let mut rest = blocks;
        let mut numbers = Numbers::new(&mut rest);
        let (method, kind) = (numbers.byte()?, numbers.byte()?);
        numbers.itf8()?; // identifier
        let (packed, size) = (numbers.size()?, numbers.size()?);
        let header = numbers.bytes.len();
        let data = blocks.get(header..header.saturating_add(packed));
        match (data, kind) {
            (Some(data), 1) => unpack(method, data, size),
            _ => Err(Error::input("a container without a compression header")),
        }
    }

    /// Fails if a block's size is not one that its decoder may be trusted with.
    pub fn check(&self) -> Result<()> {
        let mut rest = &self.bytes[self.blocks..];
        let mut total = 0;
        while !rest.is_empty() {
            let before = rest;
            let mut numbers = Numbers::new(&mut rest);
            let (method, kind) = (numbers.byte()?, numbers.byte()?);
            numbers.itf8()?; // identifier
            let (packed, size) = (numbers.size()?, numbers.size()?);
            let header = numbers.bytes.len();
            let data = before.get(header..header.saturating_add(packed));
            let Some(data) = data else {
                // Files before 3.0's final form pad the header's container.
                if self.contig == 0 && kind == 0 {
                    return Ok(());
                }
                return Err(Error::input("a block reaches beyond its container"));
            };
            total += size;
            if size > MAX_SIZE || total > MAX_CONTAINER {
                return Err(Error::input(format!("a block of {size} bytes")));
            }
            if !fits(method, data, size) {
                return Err(Error::input("a block's sizes do not agree"));
            }
            if kind == 2 && records(method, data)? > MAX_RECORDS {
                return Err(Error::input("a slice with too many records"));
            }
            rest = before.get(header + packed + 4..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Whether compressed data speaks of the same size as its block does: some decoders believe the
/// data.
fn fits(method: u8, data: &[u8], size: usize) -> bool {
    let word = |at: usize| {
        let word = data.get(at..at + 4)?;
        Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize)
    };
    // Seven bits a byte, the highest first.
    let short = |bytes: &[u8]| {
        let mut value = 0usize;
        for byte in bytes.iter().take(5) {
            value = value << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    const NO_SIZE: u8 = 0x10;
    match method {
        _ if size == 0 => true,
        0 => data.len() == size,
        4 => word(5) == Some(size),
        5 | 6 => match data.split_first() {
            Some((flags, _)) if flags & NO_SIZE != 0 => true,
            Some((_, rest)) => short(rest) == Some(size),
            None => false,
        },
        7 => short(data) == Some(size),
        8 => word(0) == Some(size) && word(4).is_some_and(|names| names <= size),
        _ => true,
    }
}

/// The first bytes of a header's block, at most so many.
fn unpack(method: u8, data: &[u8], most: usize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let read = match method {
        0 => data.take(most as u64).read_to_end(&mut text),
        1 => GzDecoder::new(data)
            .take(most as u64)
            .read_to_end(&mut text),
        _ => return Err(Error::input("a header is compressed in an unusual way")),
    };
    read.map_err(|error| Error::input(format!("invalid header: {error}")).caused_by(error))?;
    Ok(text)
}

/// The records that a slice's header announces.
fn records(method: u8, data: &[u8]) -> Result<usize> {
    let text = unpack(method, data, 64)?;
    let mut rest = &text[..];
    let mut numbers = Numbers::new(&mut rest);
    for _ in 0..3 {
        numbers.itf8()?; // contig, start, span
    }
    numbers.size()
}
