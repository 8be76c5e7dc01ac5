//! SAM text: each line becomes a BAM record.

use super::header::Header;
use super::record::{MAX_RECORD, Record};
use crate::error::{Error, Kind, Result};
use crate::io::contain::contain;
use crate::io::input;
use crate::sequence::Contig;
use noodles::sam::alignment::io::Write as _;
use noodles::{bam, sam};
use std::io::{BufRead, Read};

/// A line without its end; false at the end of the text.
///
/// # Errors
/// Input: longer than [`MAX_RECORD`].
pub(super) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let mut limited = input.take(MAX_RECORD as u64 + 1);
    let read = limited.read_until(b'\n', line).map_err(input::error)?;
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

/// A header as noodles has it, as ours.
pub(super) fn dictionary(text: String, header: &sam::Header) -> Result<Header> {
    let mut contigs = Vec::new();
    for (name, map) in header.reference_sequences() {
        let name = String::from_utf8(name.to_vec())
            .map_err(|_| Error::input("a reference's name is not UTF-8"))?;
        let length = usize::from(map.length()) as u64;
        contigs.push(Contig { name, length });
    }
    Ok(Header { text, contigs })
}

/// A record as BAM.
pub(super) fn to_bam(header: &sam::Header, record: &dyn sam::alignment::Record) -> Result<Record> {
    let mut writer = bam::io::Writer::from(Vec::new());
    let written = writer.write_alignment_record(header, record);
    written.map_err(input_error)?;
    let bytes = writer.into_inner();
    Record::new(bytes.get(4..).unwrap_or_default().to_vec())
}

/// What a decoder says of its input.
pub(super) fn input_error(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::because(Kind::Input, error),
    }
}

/// Reads SAM.
pub struct Reader<R> {
    input: R,
    header: sam::Header,
    /// The line read last, and its 1-based number.
    line: Vec<u8>,
    number: u64,
    /// The line was not used yet.
    waits: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Input, naming the line.
    pub fn open(input: R) -> Result<(Self, Header)> {
        let mut reader = Self {
            input,
            header: sam::Header::default(),
            line: Vec::new(),
            number: 0,
            waits: false,
        };
        let mut parser = sam::header::Parser::default();
        let mut text = String::new();
        while reader.next_line()? {
            if reader.line.first() != Some(&b'@') {
                reader.waits = true;
                break;
            }
            // Comments are free text, with a tab before it or without.
            if !reader.line.starts_with(b"@CO") {
                let parsed = contain(|| {
                    let parsed = parser.parse_partial(&reader.line);
                    parsed.map_err(|e| {
                        Error::input(format!("invalid header: {}", causes(&e))).caused_by(e)
                    })
                });
                parsed.map_err(|error| reader.place(error))?;
            }
            text.push_str(&String::from_utf8_lossy(&reader.line));
            text.push('\n');
        }
        reader.header = parser.finish();
        let header = dictionary(text, &reader.header)?;
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
            return Ok(None);
        }
        self.waits = false;
        let record = contain(|| {
            let mut record = sam::alignment::RecordBuf::default();
            let mut line = sam::io::Reader::new(&self.line[..]);
            let read = line.read_record_buf(&self.header, &mut record);
            match read {
                Ok(0) => Err(Error::input("an empty line")),
                Ok(_) => to_bam(&self.header, &record),
                Err(error) => {
                    let what = format!("invalid record: {}", causes(&error));
                    Err(Error::input(what).caused_by(error))
                }
            }
        });
        record.map(Some).map_err(|error| self.place(error))
    }
}

/// An error with those behind it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
