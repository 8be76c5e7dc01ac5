//! BCF 2 (VCF specification, section 6), decoded to lines of VCF.
//!
//! An own decoder, because a library's panics on typed values that it does not expect, and
//! allocates what a damaged record asks for. Every count is checked against the bytes at hand.

mod encode;

pub(super) use encode::Encoder;

use super::MAX_LINE;
use super::header::{Header, structured, trim_end};
use crate::error::{Error, Result};
use crate::io::read;
use crate::io::text::push_number;
use std::collections::HashMap;
use std::io::Read;

/// The first bytes of a BCF 2; the minor version follows.
pub(super) const MAGIC: [u8; 4] = *b"BCF\x02";

/// Bytes of a record's fixed part: CHROM, POS, rlen, QUAL, counts.
const FIXED: u64 = 24;
const MISSING_FLOAT: u32 = 0x7f80_0001;
const END_FLOAT: u32 = 0x7f80_0002;

/// Reads the magic number and the text of the header.
pub(super) fn read_header(input: &mut impl Read) -> Result<Vec<u8>> {
    let fixed = take(input, 9)?;
    if !(1..=2).contains(&fixed[4]) {
        return Err(Error::input(format!(
            "BCF version 2.{} is not read",
            fixed[4]
        )));
    }
    let length = u32::from_le_bytes([fixed[5], fixed[6], fixed[7], fixed[8]]).into();
    if length > MAX_LINE {
        return Err(Error::input(format!("header longer than {MAX_LINE} bytes")));
    }
    let mut text = take(input, length)?;
    let end = text.iter().position(|&byte| byte == 0);
    text.truncate(end.unwrap_or(text.len()));
    Ok(text)
}

/// Reads `n` bytes; memory grows with what there is, not with `n`.
fn take(input: &mut impl Read, n: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = input.take(n).read_to_end(&mut bytes);
    if (read.map_err(read::error)? as u64) < n {
        return Err(Error::input("truncated BCF"));
    }
    Ok(bytes)
}

/// The names that records refer to by number.
pub(super) struct Decoder {
    contigs: HashMap<usize, String>,
    /// FILTER, INFO and FORMAT share one dictionary.
    keys: HashMap<usize, Key>,
}

struct Key {
    name: String,
    is_flag: bool,
}

impl Decoder {
    /// The dictionaries of a header: entries in its order, or by their `IDX` fields.
    pub(super) fn new(header: &Header) -> Result<Self> {
        let (mut contigs, mut keys) = (HashMap::new(), HashMap::new());
        let mut known = HashMap::from([("PASS".to_string(), 0)]);
        let pass = |name: &str| Key {
            name: name.to_string(),
            is_flag: false,
        };
        keys.insert(0, pass("PASS"));
        for line in header.lines() {
            let line = trim_end(line);
            if let Some(fields) = structured(line, "contig") {
                if let Some((name, place)) = entry(&fields, contigs.len())? {
                    contigs.insert(place, name);
                }
                continue;
            }
            let kinds = ["INFO", "FORMAT", "FILTER"].into_iter();
            let mut found = kinds.filter_map(|kind| Some((kind, structured(line, kind)?)));
            let Some((kind, fields)) = found.next() else {
                continue;
            };
            let Some((name, place)) = entry(&fields, known.len())? else {
                continue;
            };
            let is_flag = kind == "INFO" && fields.iter().any(|(k, v)| k == "Type" && v == "Flag");
            let place = *known.entry(name.clone()).or_insert(place);
            let key = keys.entry(place).or_insert(pass(&name));
            key.name = name;
            key.is_flag |= is_flag;
        }
        Ok(Self { contigs, keys })
    }

    /// Reads the next record into `line`, as VCF; false at the end.
    pub(super) fn read(
        &self,
        input: &mut impl Read,
        header: &Header,
        line: &mut Vec<u8>,
    ) -> Result<bool> {
        line.clear();
        let mut lengths = [0; 8];
        match read::up_to(input, &mut lengths)? {
            0 => return Ok(false),
            8 => {}
            _ => return Err(Error::input("truncated BCF")),
        }
        let [a, b, c, d, e, f, g, h] = lengths;
        let site: u64 = u32::from_le_bytes([a, b, c, d]).into();
        let samples: u64 = u32::from_le_bytes([e, f, g, h]).into();
        if site < FIXED {
            return Err(Error::input(format!("a record of {site} bytes")));
        }
        if site + samples > MAX_LINE {
            return Err(Error::input(format!("record longer than {MAX_LINE} bytes")));
        }
        let (site, samples) = (take(input, site)?, take(input, samples)?);
        let formats = self.site(&mut Bytes(&site), header, line)?;
        if header.width > 8 {
            self.samples(&mut Bytes(&samples), formats, header, line)?;
        }
        line.push(b'\n');
        Ok(true)
    }

    /// Writes the columns CHROM to INFO; returns the number of FORMAT keys.
    fn site(&self, bytes: &mut Bytes, header: &Header, line: &mut Vec<u8>) -> Result<usize> {
        let chrom = usize::try_from(bytes.i32()?).ok();
        let chrom = chrom.and_then(|chrom| self.contigs.get(&chrom));
        let chrom = chrom.ok_or_else(|| Error::input("CHROM is not in the header"))?;
        push_text(line, chrom.as_bytes())?;
        let pos = i64::from(bytes.i32()?) + 1;
        if pos < 0 {
            return Err(Error::input("POS is negative"));
        }
        line.extend_from_slice(format!("\t{pos}\t").as_bytes());
        bytes.i32()?;
        let quality = bytes.u32()?;
        let counts = bytes.u32()?;
        let (infos, alleles) = (counts & 0xffff, counts >> 16);
        let counts = bytes.u32()?;
        let (samples, formats) = (counts & 0xff_ffff, counts >> 24);
        if samples as usize != header.samples.len() {
            let expected = header.samples.len();
            let what = format!("{samples} samples, the header has {expected}");
            return Err(Error::input(what));
        }
        bytes.typed()?.write(line)?;
        if alleles == 0 {
            return Err(Error::input("a record without REF"));
        }
        for allele in 0..alleles {
            line.push(if allele < 2 { b'\t' } else { b',' });
            let typed = bytes.typed()?;
            if typed.kind != Kind::Char || typed.data.is_empty() || typed.data.contains(&b',') {
                return Err(Error::input("an allele that is not text"));
            }
            typed.write(line)?;
        }
        if alleles == 1 {
            line.extend_from_slice(b"\t.");
        }
        line.push(b'\t');
        push_float(line, quality);
        line.push(b'\t');
        let filters = bytes.typed()?.integers()?;
        for (i, filter) in filters.iter().enumerate() {
            if i > 0 {
                line.push(b';');
            }
            push_text(line, self.key(*filter)?.name.as_bytes())?;
        }
        if filters.is_empty() {
            line.push(b'.');
        }
        line.push(b'\t');
        for i in 0..infos {
            if i > 0 {
                line.push(b';');
            }
            let key = self.key(bytes.integer()?)?;
            push_text(line, key.name.as_bytes())?;
            let value = bytes.typed()?;
            if value.kind != Kind::Null && !key.is_flag {
                line.push(b'=');
                value.write(line)?;
            }
        }
        if infos == 0 {
            line.push(b'.');
        }
        bytes.end()?;
        Ok(formats as usize)
    }

    /// Writes FORMAT and the samples' columns.
    fn samples(
        &self,
        bytes: &mut Bytes,
        formats: usize,
        header: &Header,
        line: &mut Vec<u8>,
    ) -> Result<()> {
        let samples = header.samples.len();
        let mut columns = Vec::new();
        for _ in 0..formats {
            let key = self.key(bytes.integer()?)?;
            let (kind, count) = bytes.descriptor()?;
            let stride = count.saturating_mul(kind.size());
            let data = bytes.take(stride.saturating_mul(samples))?;
            columns.push((key.name.as_str(), kind, stride, data));
        }
        bytes.end()?;
        for (i, (name, ..)) in columns.iter().enumerate() {
            line.push(if i == 0 { b'\t' } else { b':' });
            push_text(line, name.as_bytes())?;
        }
        if columns.is_empty() {
            line.extend_from_slice(b"\t.");
        }
        for sample in 0..samples {
            for (i, &(name, kind, stride, data)) in columns.iter().enumerate() {
                line.push(if i == 0 { b'\t' } else { b':' });
                let data = &data[sample * stride..(sample + 1) * stride];
                let value = Typed { kind, data };
                match name {
                    "GT" => value.write_genotype(line)?,
                    _ => value.write(line)?,
                }
            }
            if columns.is_empty() {
                line.extend_from_slice(b"\t.");
            }
            check_length(line)?;
        }
        Ok(())
    }

    fn key(&self, number: i32) -> Result<&Key> {
        let key = usize::try_from(number).ok();
        let key = key.and_then(|number| self.keys.get(&number));
        key.ok_or_else(|| Error::input(format!("key {number} is not in the header")))
    }
}

/// The name and the place of a dictionary's entry, which is `next` unless `IDX` says otherwise.
fn entry(fields: &[(String, String)], next: usize) -> Result<Option<(String, usize)>> {
    let value = |key| fields.iter().find(|(name, _)| name == key);
    let Some((_, name)) = value("ID") else {
        return Ok(None);
    };
    let place = match value("IDX") {
        Some((_, text)) => text.parse(),
        None => Ok(next),
    };
    let place =
        place.map_err(|_| Error::input(format!("the IDX of \"{name}\" is not a number")))?;
    Ok(Some((name.clone(), place)))
}

/// What is left of a record.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let split = self.0.split_at_checked(n);
        let (taken, rest) = split.ok_or_else(|| Error::input("a value goes beyond its record"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(word(self.take(4)?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(self.u32()?.cast_signed())
    }

    /// The type of a value and how many there are.
    fn descriptor(&mut self) -> Result<(Kind, usize)> {
        let byte = self.take(1)?[0];
        let kind = match byte & 15 {
            0 => Kind::Null,
            1 => Kind::Integer(1),
            2 => Kind::Integer(2),
            3 => Kind::Integer(4),
            5 => Kind::Float,
            7 => Kind::Char,
            other => return Err(Error::input(format!("a value of unknown type {other}"))),
        };
        let count = match byte >> 4 {
            15 => {
                // Not any typed value: one that says it is followed by its length would recurse.
                let size = match self.take(1)?[0] {
                    0x11 => 1,
                    0x12 => 2,
                    0x13 => 4,
                    _ => return Err(Error::input("a value's length is not one integer")),
                };
                let length = integer(self.take(size)?);
                usize::try_from(length).map_err(|_| Error::input("a value of negative length"))?
            }
            count => count.into(),
        };
        Ok((kind, count))
    }

    fn typed(&mut self) -> Result<Typed<'a>> {
        let (kind, count) = self.descriptor()?;
        let data = self.take(count.saturating_mul(kind.size()))?;
        Ok(Typed { kind, data })
    }

    fn integer(&mut self) -> Result<i32> {
        match self.typed()?.integers()?[..] {
            [integer] => Ok(integer),
            _ => Err(Error::input("a key is not one integer")),
        }
    }

    fn end(&self) -> Result<()> {
        match self.0 {
            [] => Ok(()),
            _ => Err(Error::input("a record is longer than its values")),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    /// Of this many bytes.
    Integer(usize),
    Float,
    Char,
}

impl Kind {
    fn size(self) -> usize {
        match self {
            Self::Null => 0,
            Self::Integer(size) => size,
            Self::Float => 4,
            Self::Char => 1,
        }
    }
}

/// A value: a vector of one type.
struct Typed<'a> {
    kind: Kind,
    data: &'a [u8],
}

impl Typed<'_> {
    /// The integers up to the end of the vector; `None` is a missing one.
    fn optional_integers(&self) -> impl Iterator<Item = Option<i32>> {
        let size = self.kind.size().max(1);
        // Of n bits, the smallest number is "missing", the next one ends the vector.
        let missing = i32::MIN >> (32 - 8 * size);
        let integers = self.data.chunks_exact(size).map(integer);
        let integers = integers.take_while(move |&integer| integer != missing + 1);
        integers.map(move |integer| (integer != missing).then_some(integer))
    }

    fn integers(&self) -> Result<Vec<i32>> {
        match self.kind {
            Kind::Null => Ok(Vec::new()),
            Kind::Integer(_) => {
                let integers: Option<_> = self.optional_integers().collect();
                integers.ok_or_else(|| Error::input("a key is missing"))
            }
            _ => Err(Error::input("a key is not an integer")),
        }
    }

    /// Writes the values, with commas between them; none are `.`.
    fn write(&self, line: &mut Vec<u8>) -> Result<()> {
        let start = line.len();
        let comma = |line: &mut Vec<u8>| {
            if line.len() > start {
                line.push(b',');
            }
        };
        match self.kind {
            Kind::Null => {}
            Kind::Char => {
                let end = self.data.iter().position(|&byte| byte == 0);
                push_text(line, &self.data[..end.unwrap_or(self.data.len())])?;
            }
            Kind::Float => {
                let bits = self.data.chunks_exact(4).map(word);
                for bits in bits.take_while(|&bits| bits != END_FLOAT) {
                    comma(line);
                    push_float(line, bits);
                }
            }
            Kind::Integer(_) => {
                for integer in self.optional_integers() {
                    comma(line);
                    push_integer(line, integer);
                }
            }
        }
        if line.len() == start {
            line.push(b'.');
        }
        Ok(())
    }

    fn write_genotype(&self, line: &mut Vec<u8>) -> Result<()> {
        if !matches!(self.kind, Kind::Integer(_)) {
            return self.write(line);
        }
        let start = line.len();
        for allele in self.optional_integers() {
            if line.len() > start {
                let phased = allele.is_some_and(|allele| allele & 1 == 1);
                line.push(if phased { b'|' } else { b'/' });
            }
            // 0 and 1 are the unknown allele, then come REF and the alternates.
            let number = allele.map_or(-1, |allele| (allele >> 1) - 1);
            if number < -1 {
                return Err(Error::input("a genotype with a negative allele"));
            }
            push_integer(line, (number >= 0).then_some(number));
        }
        if line.len() == start {
            line.push(b'.');
        }
        Ok(())
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}

/// A little-endian integer of 1, 2 or 4 bytes.
fn integer(bytes: &[u8]) -> i32 {
    let unused = 32 - 8 * bytes.len() as u32;
    (word(bytes) << unused).cast_signed() >> unused
}

fn push_integer(line: &mut Vec<u8>, integer: Option<i32>) {
    match integer {
        Some(integer) => line.extend_from_slice(integer.to_string().as_bytes()),
        None => line.push(b'.'),
    }
}

fn push_float(line: &mut Vec<u8>, bits: u32) {
    match bits {
        MISSING_FLOAT => line.push(b'.'),
        bits => push_number(line, f32::from_bits(bits)),
    }
}

/// Text that stays within its column.
fn push_text(line: &mut Vec<u8>, text: &[u8]) -> Result<()> {
    if text.iter().any(u8::is_ascii_control) {
        return Err(Error::input("a text with a control character"));
    }
    line.extend_from_slice(text);
    check_length(line)
}

/// A few bytes of a record may stand for long names, many times.
fn check_length(line: &[u8]) -> Result<()> {
    if line.len() as u64 > MAX_LINE {
        Err(Error::input(format!("record longer than {MAX_LINE} bytes")))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
