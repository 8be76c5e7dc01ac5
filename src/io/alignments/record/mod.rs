//! A BAM record (SAM specification, section 4.2), checked once and read in place. Every other
//! format becomes one.

use crate::error::{Error, Result};
use crate::sequence::{A, C, Contig, G, N, T, base, reverse_complement};
use std::ops::Range;

/// The largest record, in bytes: a read of 150 megabases.
pub const MAX_RECORD: usize = 1 << 28;
/// The longest name that BAM can hold, in bytes.
const MAX_NAME: usize = 254;
/// Bytes before the name.
const FIXED: usize = 32;

/// Bits of the flag.
pub mod flag {
    /// The template has several segments.
    pub const PAIRED: u16 = 0x1;
    /// Not aligned.
    pub const UNMAPPED: u16 = 0x4;
    /// Stored as the reverse complement of what was sequenced.
    pub const REVERSE: u16 = 0x10;
    /// The first segment.
    pub const FIRST: u16 = 0x40;
    /// The last segment.
    pub const LAST: u16 = 0x80;
    /// Another alignment of the same read is the primary one.
    pub const SECONDARY: u16 = 0x100;
    /// Failed quality checks.
    pub const FAILED: u16 = 0x200;
    /// A duplicate.
    pub const DUPLICATE: u16 = 0x400;
    /// A part of a chimeric alignment.
    pub const SUPPLEMENTARY: u16 = 0x800;
}

/// The base code of each nibble, `=ACMGRSVTWYHKDBN`.
const CODES: [u8; 16] = [N, A, C, N, G, N, N, N, T, N, N, N, N, N, N, N];

/// A record. Its sizes agree; positions and names in it may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    bytes: Vec<u8>,
    /// The CIGAR's operations, four bytes each: its field, or the `CG` tag's.
    cigar: Range<usize>,
    sequence: usize,
    length: usize,
    /// Its alignment cannot be, for a reason that these bytes do not show.
    wrong: bool,
    /// A name that BAM cannot hold.
    long_name: Option<Box<[u8]>>,
    /// Base codes as stored, where the bytes leave bases to the reference.
    bases: Option<Box<[u8]>>,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Not aligned.
    Nowhere,
    /// On a contig of the dictionary, 0-based and half-open.
    At {
        /// The contig's place in the dictionary.
        contig: usize,
        /// First aligned base.
        start: u64,
        /// One past the last.
        end: u64,
    },
    /// What it says cannot be: unknown contig of its own or its mate, beyond its end, a CIGAR that
    /// does not fit the sequence, or a base left to the reference where none is aligned.
    Wrong,
}

/// An operation of a CIGAR: its letter and its length.
pub type Operation = (u8, u32);

impl Record {
    /// Takes the bytes that follow a record's `block_size`.
    ///
    /// # Errors
    /// Input, when the sizes in it do not agree.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() < FIXED {
            return Err(Error::input("the record is too short"));
        }
        let mut record = Self {
            bytes,
            cigar: 0..0,
            sequence: 0,
            length: 0,
            wrong: false,
            long_name: None,
            bases: None,
        };
        let name = usize::from(record.bytes[8]);
        let operations = usize::from(u16::from_le_bytes([record.bytes[12], record.bytes[13]]));
        let length = record.i32(16);
        let Ok(length) = usize::try_from(length) else {
            return Err(Error::input(format!("a sequence of {length} bases")));
        };
        let cigar = FIXED + name;
        let sequence = cigar + 4 * operations;
        let tags = sequence
            .saturating_add(length.div_ceil(2))
            .saturating_add(length);
        if tags > record.bytes.len() || name == 0 || record.bytes[cigar - 1] != 0 {
            return Err(Error::input("the sizes of the record's parts do not agree"));
        }
        (record.cigar, record.sequence, record.length) = (cigar..sequence, sequence, length);
        record.find_long_cigar();
        Ok(record)
    }

    /// A CIGAR of more than 65,535 operations stands in the tag `CG` (section 4.2.2).
    fn find_long_cigar(&mut self) {
        let stands_in = self.cigar.len() == 8 && {
            let mut operations = self.cigar();
            operations.next() == Some((b'S', self.length as u32))
                && operations.next().is_some_and(|(letter, _)| letter == b'N')
        };
        if stands_in {
            let long = self.tags().find(|(name, range)| {
                *name == *b"CG" && self.bytes[range.clone()].starts_with(b"BI")
            });
            if let Some((_, range)) = long {
                self.cigar = range.start + 6..range.end;
            }
        }
    }

    /// The record as one whose alignment cannot be: its text names a contig that does not exist.
    #[must_use]
    pub(super) fn mark_wrong(mut self) -> Self {
        self.wrong = true;
        self
    }

    fn i32(&self, at: usize) -> i32 {
        let b = &self.bytes[at..at + 4];
        i32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    /// The read's name; empty where it is not given.
    pub fn name(&self) -> &[u8] {
        if let Some(name) = &self.long_name {
            return name;
        }
        let name = &self.bytes[FIXED..FIXED + usize::from(self.bytes[8]) - 1];
        if name == b"*" { b"" } else { name }
    }

    /// Whether the name is longer than BAM can hold.
    pub fn has_long_name(&self) -> bool {
        self.long_name.is_some()
    }

    /// The bits of [`flag`].
    pub fn flag(&self) -> u16 {
        u16::from_le_bytes([self.bytes[14], self.bytes[15]])
    }

    /// Whether all of `bits` are set.
    pub fn has(&self, bits: u16) -> bool {
        self.flag() & bits == bits
    }

    /// 1 or 2 in a pair, else 0.
    pub fn number(&self) -> u8 {
        match self.flag() & (flag::FIRST | flag::LAST) {
            flag::FIRST => 1,
            flag::LAST => 2,
            _ => 0,
        }
    }

    /// The mapping quality, if there is one.
    pub fn mapping_quality(&self) -> Option<u8> {
        let is_mapped = !self.has(flag::UNMAPPED);
        (is_mapped && self.bytes[9] != 255).then_some(self.bytes[9])
    }

    /// Bases; 0 where the sequence is not stored.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the sequence is not stored.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The numbers of the bases as stored, 0 for one that is left to the reference.
    fn nibbles(&self) -> impl Iterator<Item = u8> + '_ {
        let packed = &self.bytes[self.sequence..self.sequence + self.length.div_ceil(2)];
        let both = packed.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        both.take(self.length)
    }

    /// Whether bases are written as `=`: those of the reference, which the record does not hold.
    pub fn leaves_bases(&self) -> bool {
        let packed = &self.bytes[self.sequence..self.sequence + self.length.div_ceil(2)];
        let (pairs, last) = packed.split_at(self.length / 2);
        let in_pairs = pairs.iter().any(|&pair| pair < 0x10 || pair & 15 == 0);
        self.bases.is_none() && (in_pairs || last.iter().any(|&last| last < 0x10))
    }

    /// Puts the reference's bases where the record leaves them out. `reference` are the base codes
    /// of the span of the alignment. A base that is left out where none is aligned means nothing:
    /// the alignment is wrong, and no base of the read is known.
    pub(super) fn resolve_bases(&mut self, reference: &[u8]) {
        let start = self.position().map_or(0, |(_, start)| start);
        let resolved: Option<Box<[u8]>> = (self.nibbles().zip(self.reference_positions()))
            .map(|(nibble, position)| match nibble {
                0 => reference
                    .get((position? - start) as usize)
                    .map(|&code| base(code)),
                nibble => Some(CODES[usize::from(nibble)]),
            })
            .collect();
        self.wrong |= resolved.is_none();
        self.bases = Some(resolved.unwrap_or_default());
    }

    /// Whether bases are left to a reference that cannot be found: the read is aligned nowhere, or
    /// beyond it.
    pub fn is_unresolved(&self) -> bool {
        self.bases.as_ref().is_some_and(|bases| bases.is_empty())
    }

    /// Base codes as stored, or as sequenced: a reverse read is then turned round. None where a
    /// base is left to the reference that cannot be found there.
    pub fn codes(&self, sequenced: bool) -> Vec<u8> {
        let code = |nibble: u8| CODES[usize::from(nibble)];
        let mut codes: Vec<u8> = match &self.bases {
            Some(bases) => bases.to_vec(),
            None => self.nibbles().map(code).collect(),
        };
        if sequenced && self.has(flag::REVERSE) {
            reverse_complement(&mut codes);
        }
        codes
    }

    /// Base qualities as stored, one a base; 255 where they are not known.
    pub fn qualities(&self) -> &[u8] {
        &self.bytes[self.sequence + self.length.div_ceil(2)..self.tag_start()]
    }

    /// The operations of the alignment.
    pub fn cigar(&self) -> impl Iterator<Item = Operation> + '_ {
        self.bytes[self.cigar.clone()].chunks_exact(4).map(|b| {
            let word = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let letter = b"MIDNSHP=X".get((word & 15) as usize).copied();
            (letter.unwrap_or(b'?'), word >> 4)
        })
    }

    /// The contig's number and the first base as the record gives them, whether aligned or placed
    /// beside its mate.
    pub fn position(&self) -> Option<(usize, u64)> {
        let contig = usize::try_from(self.i32(0)).ok()?;
        Some((contig, u64::try_from(self.i32(4)).ok()?))
    }

    /// Reference bases from the first to the last aligned one, at least 1.
    pub fn span(&self) -> u64 {
        let covers = |(letter, n)| match letter {
            b'M' | b'D' | b'N' | b'=' | b'X' => u64::from(n),
            _ => 0,
        };
        if self.has(flag::UNMAPPED) {
            1
        } else {
            self.cigar().map(covers).sum::<u64>().max(1)
        }
    }

    /// Where the read is aligned.
    pub fn placed(&self, contigs: &[Contig]) -> Placed {
        let nowhere = !self.wrong && (self.i32(0), self.i32(4)) == (-1, -1);
        if self.has(flag::UNMAPPED) || nowhere {
            return Placed::Nowhere;
        }
        let Some((contig, start)) = self.position() else {
            return Placed::Wrong;
        };
        let mate = usize::try_from(self.i32(20));
        if self.wrong || mate.is_ok_and(|mate| mate >= contigs.len()) {
            return Placed::Wrong;
        }
        let end = start + self.span();
        let inside = contigs
            .get(contig)
            .is_some_and(|contig| end <= contig.length);
        let read = |(letter, n)| match letter {
            b'M' | b'I' | b'S' | b'=' | b'X' => u64::from(n),
            b'D' | b'N' | b'H' | b'P' => 0,
            _ => u64::MAX >> 32,
        };
        let bases: u64 = self.cigar().map(read).sum();
        let fits = self.cigar.is_empty() || self.is_empty() || bases == self.length as u64;
        if inside && fits {
            Placed::At { contig, start, end }
        } else {
            Placed::Wrong
        }
    }

    /// For each base as stored, its reference position if it is aligned to one.
    pub fn reference_positions(&self) -> Vec<Option<u64>> {
        let Some((_, mut at)) = self.position() else {
            return vec![None; self.length];
        };
        let mut positions = Vec::with_capacity(self.length);
        for (letter, n) in self.cigar() {
            let room = self.length - positions.len();
            let bases = (n as usize).min(room);
            match letter {
                b'M' | b'=' | b'X' => {
                    positions.extend((at..).take(bases).map(Some));
                    at += u64::from(n);
                }
                b'I' | b'S' => positions.extend(std::iter::repeat_n(None, bases)),
                b'D' | b'N' => at += u64::from(n),
                _ => {}
            }
        }
        positions.resize(self.length, None);
        positions
    }

    /// Where its tags begin in its bytes.
    pub(super) fn tag_start(&self) -> usize {
        self.sequence + self.length.div_ceil(2) + self.length
    }

    /// Each tag's name and the range from its type on; ends at the first that is damaged.
    pub(super) fn tags(&self) -> impl Iterator<Item = ([u8; 2], Range<usize>)> + '_ {
        let mut at = self.tag_start();
        std::iter::from_fn(move || {
            let rest = &self.bytes[at..];
            let size = tag_size(rest.get(2..)?)?;
            let range = at + 2..at + 2 + size;
            at = range.end;
            Some(([rest[0], rest[1]], range))
        })
    }

    /// The record's bytes, without their size, with `tags` (name, float value) in place of those
    /// of the same names. A record whose tags are damaged stays as it is.
    pub fn with_tags(&self, tags: &[([u8; 2], f32)]) -> Vec<u8> {
        let start = self.tag_start();
        let mut bytes = self.bytes[..start].to_vec();
        let mut end = start;
        for (name, range) in self.tags() {
            end = range.end;
            if tags.iter().all(|(new, _)| *new != name) {
                bytes.extend_from_slice(&self.bytes[range.start - 2..range.end]);
            }
        }
        if end != self.bytes.len() {
            return self.bytes.clone();
        }
        for (name, value) in tags {
            bytes.extend_from_slice(name);
            bytes.push(b'f');
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The record's bytes, without their size.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes of a tag from its type on, if they are all there.
fn tag_size(tag: &[u8]) -> Option<usize> {
    let fixed = |kind: u8| match kind {
        b'A' | b'c' | b'C' => Some(1),
        b's' | b'S' => Some(2),
        b'i' | b'I' | b'f' => Some(4),
        _ => None,
    };
    let size = match *tag.first()? {
        b'Z' | b'H' => tag.iter().position(|&byte| byte == 0)? + 1,
        b'B' => {
            let count = tag.get(2..6)?;
            let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]);
            6 + fixed(tag[1])? * count as usize
        }
        kind => 1 + fixed(kind)?,
    };
    (size <= tag.len()).then_some(size)
}

/// The bin of an alignment (section 5.3) that starts at `start` and covers `span` bases.
pub fn bin(start: i32, span: u64) -> u16 {
    let start = i64::from(start);
    let end = start + i64::try_from(span.max(1)).unwrap_or(1) - 1;
    // The levels of bins: what one covers, as a shift, and the number of its first.
    let levels = [(14, 4681), (17, 585), (20, 73), (23, 9), (26, 1)];
    let level = levels
        .iter()
        .find(|(shift, _)| start >> shift == end >> shift);
    // As samtools has it, a number that does not fit is cut off.
    level.map_or(0, |(shift, first)| (first + (start >> shift)) as u16)
}

/// The bytes of an unaligned record. A name of more than 254 bytes, which BAM cannot hold, is kept
/// beside them.
///
/// # Errors
/// Input: more bases than a record may have.
pub fn unaligned(name: &[u8], codes: &[u8], qualities: &[u8]) -> Result<Record> {
    let long_name = (name.len() > MAX_NAME).then(|| Box::from(name));
    let name = &name[..name.len().min(MAX_NAME)];
    let size = name.len() as u8 + 1;
    let mut bytes = Vec::with_capacity(FIXED + name.len() + 1 + codes.len() * 2);
    bytes.extend_from_slice(&(-1i32).to_le_bytes()); // contig
    bytes.extend_from_slice(&(-1i32).to_le_bytes()); // position
    bytes.extend_from_slice(&[size, 255]);
    bytes.extend_from_slice(&bin(-1, 1).to_le_bytes());
    bytes.extend_from_slice(&0u16.to_le_bytes()); // operations
    bytes.extend_from_slice(&flag::UNMAPPED.to_le_bytes());
    bytes.extend_from_slice(&(codes.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(-1i32).to_le_bytes()); // mate's contig
    bytes.extend_from_slice(&(-1i32).to_le_bytes()); // mate's position
    bytes.extend_from_slice(&0i32.to_le_bytes()); // template length
    bytes.extend_from_slice(name);
    bytes.push(0);
    let nibble = |code: u8| [1, 2, 4, 8, 15][usize::from(crate::sequence::base(code).min(N))];
    for pair in codes.chunks(2) {
        bytes.push(nibble(pair[0]) << 4 | pair.get(1).map_or(0, |&code| nibble(code)));
    }
    bytes.extend_from_slice(qualities);
    let record = Record::new(bytes)?;
    Ok(Record {
        long_name,
        ..record
    })
}

#[cfg(test)]
mod tests;
