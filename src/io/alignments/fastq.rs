//! FASTQ: records of four lines, or wrapped over more (Cock et al. 2010, NAR 38:1767). Each
//! becomes an unaligned BAM record.

use super::record::{MAX_RECORD, Record, unaligned};
use super::sam::read_line;
use crate::error::{Error, Result};
use crate::io::bases::{Counts, decode};
use std::io::BufRead;

/// Reads FASTQ.
pub struct Reader<R> {
    input: R,
    /// The line read last, without its end, and its 1-based number.
    line: Vec<u8>,
    number: u64,
    counts: Counts,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: Vec::new(),
            number: 0,
            counts: Counts::default(),
        }
    }

    /// The next record.
    ///
    /// # Errors
    /// Input, naming the line: anything else than a base or a quality, as many of one as of the
    /// other.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        let record = self.record();
        record.map_err(|error| error.place(format!("line {}", self.number)))
    }

    fn next_line(&mut self) -> Result<bool> {
        self.number += 1;
        read_line(&mut self.input, &mut self.line)
    }

    fn record(&mut self) -> Result<Option<Record>> {
        loop {
            if !self.next_line()? {
                return Ok(None);
            }
            if !self.line.is_empty() {
                break;
            }
        }
        let Some(title) = self.line.strip_prefix(b"@").map(<[u8]>::to_vec) else {
            return Err(Error::input("expected '@' and a read's name"));
        };
        let name = title
            .split(|&byte| byte == b' ' || byte == b'\t')
            .next()
            .unwrap_or_default();
        if name.is_empty() {
            return Err(Error::input("a read without a name"));
        }
        if !name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
            return Err(Error::input(
                "a read's name with bytes that are not printable ASCII",
            ));
        }
        let mut codes = Vec::new();
        loop {
            if !self.next_line()? {
                return Err(Error::input("truncated record: no '+' after the bases"));
            }
            if let Some(again) = self.line.strip_prefix(b"+") {
                if !again.is_empty() && again != title && again != name {
                    return Err(Error::input(
                        "the names before the bases and the qualities differ",
                    ));
                }
                break;
            }
            let read = decode(&self.line, &mut codes, &mut self.counts);
            if let Some(byte) = self.line.get(read) {
                return Err(Error::input(format!("byte {byte:#04x} is not a base")));
            }
            if codes.len() > MAX_RECORD / 2 {
                return Err(Error::input("the read is too long"));
            }
        }
        let mut qualities: Vec<u8> = Vec::with_capacity(codes.len());
        loop {
            if !self.next_line()? {
                if codes.is_empty() {
                    break;
                }
                return Err(Error::input("truncated record: fewer qualities than bases"));
            }
            if let Some(byte) = self.line.iter().find(|byte| !(b'!'..=b'~').contains(*byte)) {
                return Err(Error::input(format!("byte {byte:#04x} is not a quality")));
            }
            qualities.extend(self.line.iter().map(|byte| byte - b'!'));
            if qualities.len() > codes.len() {
                return Err(Error::input("more qualities than bases"));
            }
            if qualities.len() == codes.len() {
                break;
            }
        }
        unaligned(name, &codes, &qualities).map(Some)
    }
}
