//! SAM text: each line becomes a BAM record.

mod fields;
mod tags;

use super::header::Header;
use super::record::{MAX_RECORD, Record};
use crate::error::{Error, Result};
use crate::io::read;
use fields::Line;
use std::collections::HashMap;
use std::fmt::Display;
use std::io::{BufRead, Read};

/// A line without its end; false at the end of the text.
///
/// # Errors
/// Input: longer than [`MAX_RECORD`].
pub(super) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let mut limited = input.take(MAX_RECORD as u64 + 1);
    let read = limited.read_until(b'\n', line).map_err(read::error)?;
    if read > MAX_RECORD {
        return Err(Error::input("the line is too long"));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(read > 0)
}

/// Whether text starts with a line of SAM without a header: eleven fields between tabs, or as many
/// of them as there are before the line is cut.
pub(super) fn is_headerless(start: &[u8]) -> bool {
    let mut lines = start.splitn(2, |&byte| byte == b'\n');
    let fields: Vec<&[u8]> = match lines.next() {
        Some(line) => line.split(|&byte| byte == b'\t').collect(),
        None => return false,
    };
    let ends = lines.next().is_some();
    let number = |at: usize| {
        let field: &[u8] = fields.get(at).copied().unwrap_or_default();
        !field.is_empty() && field.iter().all(u8::is_ascii_digit)
    };
    // Name, flag, contig, position, mapping quality, and the beginning of a CIGAR.
    fields.len() >= 11 || !ends && fields.len() >= 6 && [1, 3, 4].into_iter().all(number)
}

/// A field of a record that the specification does not allow.
fn invalid(field: &str, what: impl Display) -> Error {
    Error::input(format!("invalid record: {field}: {what}"))
}

/// Reads SAM.
pub struct Reader<R> {
    input: R,
    /// The place of each contig in the header.
    contigs: HashMap<String, i32>,
    /// The line read last, and its 1-based number.
    line: Vec<u8>,
    number: u64,
    /// The line was not used yet.
    waits: bool,
    /// Letters in sequences that are no bases.
    odd: u64,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Input, naming the line.
    pub fn open(input: R) -> Result<(Self, Header)> {
        let mut reader = Self {
            input,
            contigs: HashMap::new(),
            line: Vec::new(),
            number: 0,
            waits: false,
            odd: 0,
        };
        let mut text = String::new();
        while reader.next_line()? {
            if reader.line.first() != Some(&b'@') {
                reader.waits = true;
                break;
            }
            text.push_str(&String::from_utf8_lossy(&reader.line));
            text.push('\n');
        }
        let header = Header::of_text(text)?;
        let places = header.contigs.iter().map(|contig| contig.name.clone());
        reader.contigs = places.zip(0..).collect();
        Ok((reader, header))
    }

    fn next_line(&mut self) -> Result<bool> {
        self.number += 1;
        let read = read_line(&mut self.input, &mut self.line);
        read.map_err(|error| self.place(error))
    }

    fn place(&self, error: Error) -> Error {
        error.place(format!("line {}", self.number))
    }

    /// The next record.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        if !self.waits && !self.next_line()? {
            if self.odd > 0 {
                let n = std::mem::take(&mut self.odd);
                tracing::warn!("{n} letters of sequences are not bases: they are read as N");
            }
            return Ok(None);
        }
        self.waits = false;
        let mut line = Line {
            text: &self.line,
            contigs: &self.contigs,
            odd: 0,
        };
        let record = line.record();
        self.odd += line.odd;
        record.map(Some).map_err(|error| self.place(error))
    }
}
