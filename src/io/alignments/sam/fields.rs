//! The fields of a line (SAM specification, section 1.4), and the bytes that BAM gives them
//! (section 4.2).

use super::super::record::{Record, bin};
use super::invalid;
use super::tags::push_tag;
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::str::FromStr;

/// The longest name, in bytes.
const MAX_NAME: usize = 254;
/// Operations that the field of BAM holds; more stand in the tag `CG`.
const MAX_OPERATIONS: usize = u16::MAX as usize;
/// The letters of bases, each at the place of its number.
const BASES: &[u8; 16] = b"=ACMGRSVTWYHKDBN";
const N: u8 = 15;

/// A line of SAM that is not a header.
pub struct Line<'a> {
    /// The line, without its end.
    pub text: &'a [u8],
    /// The place of each contig in the header.
    pub contigs: &'a HashMap<String, i32>,
    /// Letters of the sequence that are no bases.
    pub odd: u64,
}

/// What the contig's field of a read or its mate says.
struct Place {
    /// The contig's number, or -1.
    contig: i32,
    /// A name that the header lacks.
    unknown: bool,
}

impl Line<'_> {
    /// The record. One that names a contig which the header lacks is good, and
    /// [wrong](Record::mark_wrong).
    ///
    /// # Errors
    /// Input, naming the field: what the specification does not allow.
    pub fn record(&mut self) -> Result<Record> {
        let mut fields = self.text.split(|&byte| byte == b'\t');
        let mut next = || fields.next();
        let [
            Some(name),
            Some(flag),
            Some(contig),
            Some(start),
            Some(quality),
            Some(cigar),
            Some(mate),
            Some(mate_start),
            Some(template),
            Some(bases),
            Some(qualities),
        ] = std::array::from_fn(|_| next())
        else {
            return Err(self.too_few_fields());
        };
        check_name(name)?;
        let flag: u16 = number("FLAG", flag)?;
        let place = self.place("RNAME", contig)?;
        let start = position("POS", start)?;
        let quality: u8 = number("MAPQ", quality)?;
        let operations = operations(cigar)?;
        let mate = match mate {
            b"=" => Place {
                contig: place.contig,
                unknown: false,
            },
            name => self.place("RNEXT", name)?,
        };
        let mate_start = position("PNEXT", mate_start)?;
        let template: i32 = number("TLEN", template)?;
        let (packed, length) = self.bases(bases)?;
        let mut tags = Vec::new();
        for field in fields {
            push_tag(&mut tags, field)?;
        }
        let span: u64 = operations.iter().map(|&word| covered(word)).sum();
        let cigar = cigar_field(operations, length, span, &mut tags);
        let mut bytes = Vec::with_capacity(64 + name.len() + packed.len() + length + tags.len());
        bytes.extend(place.contig.to_le_bytes());
        bytes.extend(start.to_le_bytes());
        bytes.extend([name.len() as u8 + 1, quality]);
        bytes.extend(bin(start, if flag & 4 == 0 { span } else { 1 }).to_le_bytes());
        bytes.extend((cigar.len() as u16).to_le_bytes());
        bytes.extend(flag.to_le_bytes());
        bytes.extend((length as u32).to_le_bytes());
        bytes.extend(mate.contig.to_le_bytes());
        bytes.extend(mate_start.to_le_bytes());
        bytes.extend(template.to_le_bytes());
        bytes.extend(name);
        bytes.push(0);
        bytes.extend(cigar.iter().flat_map(|word| word.to_le_bytes()));
        bytes.extend(packed);
        push_qualities(&mut bytes, qualities, length)?;
        bytes.extend(tags);
        let record = Record::new(bytes)?;
        if place.unknown || mate.unknown {
            return Ok(record.mark_wrong());
        }
        Ok(record)
    }

    fn too_few_fields(&self) -> Error {
        if self.text.is_empty() {
            return Error::input("an empty line");
        }
        let found = self.text.split(|&byte| byte == b'\t').count();
        let what = format!("invalid record: expected 11 fields between tabs, found {found}");
        Error::input(what)
    }

    fn place(&self, field: &str, name: &[u8]) -> Result<Place> {
        let known = std::str::from_utf8(name).map_err(|_| invalid(field, "not UTF-8"))?;
        match self.contigs.get(known) {
            _ if name.is_empty() => Err(invalid(field, "empty")),
            Some(&contig) => Ok(Place {
                contig,
                unknown: false,
            }),
            None => Ok(Place {
                contig: -1,
                unknown: name != b"*",
            }),
        }
    }

    /// Bases, two a byte, and how many there are.
    fn bases(&mut self, text: &[u8]) -> Result<(Vec<u8>, usize)> {
        if text == b"*" {
            return Ok((Vec::new(), 0));
        }
        let mut numbers = Vec::with_capacity(text.len());
        for &byte in text {
            let letter = byte.to_ascii_uppercase();
            let known = BASES.iter().position(|&base| base == letter);
            numbers.push(match (known, letter) {
                (Some(number), _) => number as u8,
                (None, b'U') => 8,
                (None, b'A'..=b'Z' | b'.') => {
                    self.odd += 1;
                    N
                }
                _ => return Err(invalid("SEQ", format!("byte {byte:#04x} is not a base"))),
            });
        }
        if numbers.is_empty() {
            return Err(invalid("SEQ", "empty"));
        }
        let pairs = numbers.chunks(2);
        let pack = |pair: &[u8]| pair[0] << 4 | pair.get(1).copied().unwrap_or(0);
        Ok((pairs.map(pack).collect(), numbers.len()))
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains(&0) {
        let what = format!("a name of {} bytes, not 1 to {MAX_NAME}", name.len());
        return Err(invalid("QNAME", what));
    }
    Ok(())
}

/// A number of a field.
fn number<T: FromStr>(field: &str, text: &[u8]) -> Result<T> {
    let parsed = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        let shown = String::from_utf8_lossy(text).into_owned();
        invalid(field, format!("\"{shown}\" is not a number that fits"))
    })
}

/// A 1-based position, 0-based; -1 for none.
fn position(field: &str, text: &[u8]) -> Result<i32> {
    match number::<i32>(field, text)? {
        at if at >= 0 => Ok(at - 1),
        at => Err(invalid(field, format!("{at} is negative"))),
    }
}

/// The operations of a CIGAR, as BAM has them.
fn operations(text: &[u8]) -> Result<Vec<u32>> {
    let wrong = || {
        let shown = String::from_utf8_lossy(&text[..text.len().min(20)]).into_owned();
        invalid("CIGAR", format!("\"{shown}\" is not one"))
    };
    let (mut operations, mut length) = (Vec::new(), None::<u32>);
    if text == b"*" {
        return Ok(operations);
    }
    for &byte in text {
        if byte.is_ascii_digit() {
            let more = u32::from(byte - b'0');
            let grown = length.unwrap_or(0).checked_mul(10);
            let grown = grown.and_then(|n| n.checked_add(more));
            length = Some(grown.filter(|&n| n < 1 << 28).ok_or_else(wrong)?);
            continue;
        }
        let letter = b"MIDNSHP=X".iter().position(|&letter| letter == byte);
        let (Some(letter), Some(n)) = (letter, length.take()) else {
            return Err(wrong());
        };
        operations.push(n << 4 | letter as u32);
    }
    match length {
        None if !operations.is_empty() => Ok(operations),
        _ => Err(wrong()),
    }
}

/// What stands in the field of BAM: the operations, or where they are too many, two that stand in
/// for those in the tag `CG`.
fn cigar_field(operations: Vec<u32>, length: usize, span: u64, tags: &mut Vec<u8>) -> Vec<u32> {
    if operations.len() <= MAX_OPERATIONS {
        return operations;
    }
    tags.extend_from_slice(b"CGBI");
    tags.extend((operations.len() as u32).to_le_bytes());
    tags.extend(operations.iter().flat_map(|word| word.to_le_bytes()));
    let most = u64::from(u32::MAX >> 4);
    vec![(length as u32) << 4 | 4, (span.min(most) as u32) << 4 | 3]
}

/// Reference bases that an operation covers.
fn covered(word: u32) -> u64 {
    match b"MIDNSHP=X"[(word & 15) as usize] {
        b'M' | b'D' | b'N' | b'=' | b'X' => u64::from(word >> 4),
        _ => 0,
    }
}

fn push_qualities(bytes: &mut Vec<u8>, text: &[u8], length: usize) -> Result<()> {
    if text == b"*" {
        bytes.extend(std::iter::repeat_n(255, length));
        return Ok(());
    }
    if text.len() != length {
        let what = format!("{} qualities for {length} bases", text.len());
        return Err(invalid("QUAL", what));
    }
    if let Some(byte) = text.iter().find(|byte| !(b'!'..=b'~').contains(*byte)) {
        return Err(invalid(
            "QUAL",
            format!("byte {byte:#04x} is not a quality"),
        ));
    }
    bytes.extend(text.iter().map(|byte| byte - b'!'));
    Ok(())
}
