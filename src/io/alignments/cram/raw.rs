//! The bytes of a record while they are mended: what the decoder leaves out, gets wrong, or hands
//! out though it is for decoders alone.

use super::layout::bit;
use crate::error::Result;
use crate::io::alignments::{Record, flag};
use std::fmt::Write;

/// The tag in which samtools notes what is not to be computed: 1 for `MD`, 2 for `NM`.
const NOTE: [u8; 2] = *b"cF";
const LETTERS: &[u8; 16] = b"=ACMGRSVTWYHKDBN";

/// A record's bytes, which [`Record::new`] accepts.
pub struct Raw {
    bytes: Vec<u8>,
    sequence: usize,
    length: usize,
    tags: usize,
    end: i32,
}

impl Raw {
    /// Takes the bytes that follow a record's size.
    ///
    /// # Errors
    /// As [`Record::new`].
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let record = Record::new(bytes)?;
        let (length, tags) = (record.len(), record.tag_start());
        let start = record.position().map_or(0, |(_, start)| start);
        let end = start.saturating_add(record.span());
        Ok(Self {
            sequence: tags - length - length.div_ceil(2),
            length,
            tags,
            end: i32::try_from(end).unwrap_or(i32::MAX),
            bytes: record.into_bytes(),
        })
    }

    /// The record.
    ///
    /// # Errors
    /// None that [`Self::new`] would not have met.
    pub fn into_record(self) -> Result<Record> {
        Record::new(self.bytes)
    }

    fn word(&self, at: usize) -> i32 {
        let b = &self.bytes[at..at + 4];
        i32::from_le_bytes([b[0], b[1], b[2], b[3]])
    }

    fn set_word(&mut self, at: usize, word: i32) {
        self.bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }

    pub fn contig(&self) -> i32 {
        self.word(0)
    }

    pub fn start(&self) -> i32 {
        self.word(4)
    }

    /// One past the last base that the alignment covers; of an unaligned read, past its place.
    pub fn end(&self) -> i32 {
        self.end
    }

    pub fn name(&self) -> &[u8] {
        &self.bytes[32..32 + usize::from(self.bytes[8])]
    }

    /// Takes away the name that the decoder made up.
    pub fn forget_name(&mut self) {
        let length = usize::from(self.bytes[8]);
        self.bytes.splice(32..32 + length, *b"*\0");
        self.bytes[8] = 2;
        self.sequence = self.sequence + 2 - length;
        self.tags = self.tags + 2 - length;
    }

    /// Marks the values of these tags, texts until now, as hexadecimal numbers.
    pub fn mark_hexadecimal(&mut self, names: &[[u8; 2]]) -> Result<()> {
        let record = Record::new(self.bytes.clone())?;
        for (name, range) in record.tags() {
            if names.contains(&name) {
                self.bytes[range.start] = b'H';
            }
        }
        Ok(())
    }

    pub fn flag(&self) -> u16 {
        u16::from_le_bytes([self.bytes[14], self.bytes[15]])
    }

    pub fn set_flag(&mut self, flag: u16) {
        self.bytes[14..16].copy_from_slice(&flag.to_le_bytes());
    }

    /// The mate's contig and start.
    pub fn mate(&self) -> (i32, i32) {
        (self.word(20), self.word(24))
    }

    pub fn set_mate(&mut self, contig: i32, start: i32) {
        self.set_word(20, contig);
        self.set_word(24, start);
    }

    pub fn set_template(&mut self, length: i32) {
        self.set_word(28, length);
    }

    fn is_unmapped(&self) -> bool {
        self.flag() & flag::UNMAPPED != 0
    }

    /// CRAM holds no mapping quality of a read that is not aligned: it is 0, as in samtools. Where
    /// no array of qualities is stored, those that no base has are unknown.
    pub fn mend_qualities(&mut self, flags: Option<u32>) {
        if self.is_unmapped() {
            self.bytes[9] = 0;
        }
        let stored = flags.map(|flags| flags & bit::QUALITIES != 0);
        let range = self.tags - self.length..self.tags;
        let qualities = &mut self.bytes[range];
        let none = qualities.iter().all(|&quality| quality == 0);
        match stored {
            Some(false) | None if none => qualities.fill(255),
            // What samtools gives to bases beside one whose quality is stored.
            Some(false) => {
                let unknown = qualities.iter_mut().filter(|quality| **quality == 0);
                unknown.for_each(|quality| *quality = 30);
            }
            _ => {}
        }
    }

    /// Gives the read group its name, and computes `MD` and `NM` where they were left out because
    /// the reference says them. `group`: the name of a group that the decoder gives by its number,
    /// behind the other tags; empty for none. `reference` are the contig's letters, if there are
    /// any.
    pub fn mend_tags(&mut self, group: Option<&str>, reference: Option<&[u8]>) -> Result<()> {
        let record = Record::new(self.bytes.clone())?;
        let (mut tags, mut note, mut known) = (Vec::new(), 0, Vec::new());
        for (name, range) in record.tags() {
            let is_number = group.is_some() && range.end == self.bytes.len();
            let value = &self.bytes[range];
            known.push(name);
            if name == NOTE {
                note = value.get(1).copied().unwrap_or(0);
            } else if !is_number {
                tags.extend(name);
                tags.extend(value);
            }
        }
        if let Some(reference) = reference.filter(|_| !self.is_unmapped() && self.length > 0) {
            let (text, count) = self.differences(&record, reference);
            if note & 1 == 0 && !known.contains(b"MD") {
                tags.extend(format!("MDZ{text}\0").bytes());
            }
            if note & 2 == 0 && !known.contains(b"NM") {
                tags.extend(b"NM");
                tags.extend(match count {
                    0..=0xff => vec![b'C', count as u8],
                    0x100..=0xffff => [&b"S"[..], &(count as u16).to_le_bytes()].concat(),
                    _ => [&b"I"[..], &count.to_le_bytes()].concat(),
                });
            }
        }
        if let Some(name) = group.filter(|name| !name.is_empty()) {
            tags.extend(format!("RGZ{name}\0").bytes());
        }
        self.bytes.truncate(self.tags);
        self.bytes.extend(tags);
        Ok(())
    }

    /// What the tags `MD` and `NM` say (SAM optional fields specification).
    fn differences(&self, record: &Record, reference: &[u8]) -> (String, u32) {
        let letter = |i: usize| {
            let byte = self.bytes[self.sequence + i / 2];
            LETTERS[usize::from(if i.is_multiple_of(2) {
                byte >> 4
            } else {
                byte & 15
            })]
        };
        let (mut text, mut count, mut alike) = (String::new(), 0u32, 0u64);
        let (mut at, mut read) = (self.start().max(0) as usize, 0);
        for (operation, n) in record.cigar() {
            let n = n as usize;
            match operation {
                b'M' | b'=' | b'X' => {
                    for i in 0..n.min(self.length.saturating_sub(read)) {
                        let Some(&base) = reference.get(at + i) else {
                            break;
                        };
                        if base == letter(read + i) && base != b'N' {
                            alike += 1;
                            continue;
                        }
                        let _ = write!(text, "{alike}{}", char::from(base));
                        (alike, count) = (0, count + 1);
                    }
                    (at, read) = (at + n, read + n);
                }
                b'D' => {
                    let gone = reference.get(at..at + n).unwrap_or_default();
                    let _ = write!(text, "{alike}^{}", String::from_utf8_lossy(gone));
                    (alike, count, at) = (0, count + n as u32, at + n);
                }
                b'N' => at += n,
                b'I' => (count, read) = (count + n as u32, read + n),
                b'S' => read += n,
                _ => {}
            }
        }
        let _ = write!(text, "{alike}");
        (text, count)
    }
}
