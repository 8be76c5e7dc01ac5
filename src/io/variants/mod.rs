//! Variants, streamed from VCF (plain, gzip, BGZF, zstd) or BCF, from a file or standard input.
//!
//! What is used is checked strictly: the version, the column line, the number of columns, CHROM,
//! POS, ID, REF and ALT. What is not used (QUAL, FILTER, INFO, samples) is kept as it is, so that
//! [`annotate`] can write it back. A damaged file is an error that names the line; an allele that
//! cannot be scored is a good record, see [`crate::sequence::allele::Status`].

pub mod annotate;
mod bcf;
mod genotype;
mod header;
mod index;
mod info;
mod line;

pub use genotype::Genotype;
pub use header::{Header, decoded};
pub use info::InfoFields;

use super::input::Input;
use super::other::other_format;
use super::read;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Chain, Cursor, Read};
use std::path::Path;

/// The longest line of a VCF, record of a BCF, or whole header, in bytes.
pub const MAX_LINE: u64 = 1 << 26;

/// A site: one line of a VCF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the input, from 0.
    pub index: u64,
    /// CHROM, as it is written.
    pub chrom: String,
    /// POS, 1-based; 0 is the telomere.
    pub pos: u64,
    /// ID; `None` for `.`.
    pub id: Option<String>,
    /// REF, as it is written.
    pub reference: String,
    /// ALT, one for each allele; a record without one has the single allele `.`.
    pub alternates: Vec<String>,
    /// The genotype of the sample that was asked for; `None` if the record has no GT.
    pub genotype: Option<Genotype>,
}

/// What to read, and what to let pass.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The sample whose genotypes are read.
    pub sample: Option<String>,
    /// Lets a file pass, with a warning, that lacks its BGZF EOF block.
    pub allow_missing_eof: bool,
}

/// A reader of variants. Holds the header and one record, each at most [`MAX_LINE`] bytes.
///
/// ```
/// # fn main() -> crocuta::Result<()> {
/// use crocuta::io::{input::Input, variants::{Options, Reader}};
/// let text = "##fileformat=VCFv4.2\n\
///     #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n\
///     chr1\t7\t.\tA\tG,<DEL>\t.\tPASS\tAC=1\n";
/// let input = Input::new("x.vcf", Box::new(text.as_bytes()), false)?;
/// let mut reader = Reader::new(input, &Options::default())?;
/// let record = reader.next_record()?.ok_or_else(|| crocuta::Error::input("no record"))?;
/// assert_eq!((record.pos, record.alternates.len()), (7, 2));
/// assert_eq!(reader.line(), b"chr1\t7\t.\tA\tG,<DEL>\t.\tPASS\tAC=1\n");
/// assert!(reader.next_record()?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct Reader {
    input: Chain<Cursor<Vec<u8>>, Input>,
    name: String,
    header: Header,
    /// The dictionaries of a BCF; `None` for VCF.
    bcf: Option<bcf::Decoder>,
    /// The column of the sample that was asked for, from 0.
    sample: Option<usize>,
    line: Vec<u8>,
    /// Lines of VCF read so far.
    lines: u64,
    /// Records read so far.
    records: u64,
    failed: Option<Error>,
}

impl Reader {
    /// Opens `path` (`-` is standard input), by its content, and reads its header.
    ///
    /// # Errors
    /// Io, if it cannot be read; Input, if it is no VCF or BCF; Usage, if it lacks the sample.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        Self::new(Input::open(path, options.allow_missing_eof)?, options)
    }

    /// Reads from `input`, as [`Self::open`].
    pub fn new(mut input: Input, options: &Options) -> Result<Self> {
        let name = input.name().to_string();
        let mut start = vec![0; bcf::MAGIC.len()];
        let got = read::up_to(&mut input, &mut start)?;
        start.truncate(got);
        let is_bcf = start == bcf::MAGIC;
        if got == 0 {
            return Err(Error::input("empty: neither VCF nor BCF").file(name));
        }
        if !is_bcf && !header::VERSION.starts_with(&start) {
            let other = other_format(&start, "VCF").unwrap_or_else(header::no_version);
            return Err(other.place("line 1").file(name));
        }
        let mut reader = Self {
            input: Cursor::new(start).chain(input),
            name,
            header: Header::default(),
            bcf: None,
            sample: None,
            line: Vec::new(),
            lines: 0,
            records: 0,
            failed: None,
        };
        let opened = if is_bcf {
            reader.open_bcf()
        } else {
            reader.open_vcf()
        };
        opened.map_err(|error| error.file(&reader.name))?;
        if let Some(sample) = &options.sample {
            let column = reader.header.sample(sample);
            reader.sample = Some(column.map_err(|error| error.file(&reader.name))?);
        }
        Ok(reader)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The name for errors.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The current record as a line of VCF, with its line end: the very bytes of a VCF input, or
    /// what a BCF's record says. Empty before the first record.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// The next record; `None` at the end. After an error every call fails.
    ///
    /// # Errors
    /// Input, naming the line (of a VCF) or the record (of a BCF, from 1).
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        self.read_record().map_err(|error| {
            let error = error.place(self.place()).file(&self.name);
            self.failed = Some(error.clone());
            error
        })
    }

    fn read_record(&mut self) -> Result<Option<Record>> {
        let read = match &mut self.bcf {
            Some(decoder) => decoder.read(&mut self.input, &self.header, &mut self.line)?,
            None => self.read_line()? && !self.is_blank_end()?,
        };
        if !read {
            return Ok(None);
        }
        let record = line::parse(&self.line, self.records, &self.header, self.sample)?;
        self.records += 1;
        Ok(Some(record))
    }

    fn open_vcf(&mut self) -> Result<()> {
        let mut size = 0;
        loop {
            if !self
                .read_line()
                .map_err(|error| error.place(self.place()))?
            {
                return Err(Error::input("no #CHROM line: the header does not end"));
            }
            size += self.line.len() as u64;
            if size > MAX_LINE {
                return Err(Error::input(format!("header longer than {MAX_LINE} bytes")));
            }
            let more = self.header.push(&self.line);
            if !more.map_err(|error| error.place(self.place()))? {
                self.line.clear();
                return Ok(());
            }
        }
    }

    fn open_bcf(&mut self) -> Result<()> {
        let text = bcf::read_header(&mut self.input)?;
        let mut lines = text.split_inclusive(|&byte| byte == b'\n');
        for (number, line) in (1u64..).zip(&mut lines) {
            let more = self.header.push(line);
            if !more.map_err(|error| error.place(format!("header line {number}")))? {
                break;
            }
        }
        if self.header.columns.is_empty() {
            return Err(Error::input("no #CHROM line: the header does not end"));
        }
        self.bcf = Some(bcf::Decoder::new(&self.header)?);
        self.header.forget_dictionary();
        Ok(())
    }

    /// Whether the current line and all after it are blank, which is no harm.
    fn is_blank_end(&mut self) -> Result<bool> {
        let first = self.lines;
        while header::trim_end(&self.line).is_empty() {
            if !self.read_line()? {
                return Ok(true);
            }
        }
        if self.lines > first {
            Err(Error::input("blank line").place(format!("line {first}")))
        } else {
            Ok(false)
        }
    }

    /// Reads a line into `self.line`, with its end; false at the end of the file.
    fn read_line(&mut self) -> Result<bool> {
        self.line.clear();
        let mut limited = (&mut self.input).take(MAX_LINE + 1);
        let read = limited.read_until(b'\n', &mut self.line);
        let read = read.map_err(read::error)? as u64;
        self.lines += u64::from(read > 0);
        if read > MAX_LINE {
            return Err(Error::input(format!("line longer than {MAX_LINE} bytes")));
        }
        if read > 0 && self.line.last() != Some(&b'\n') {
            // A record that is cut lacks columns, which is an error; one whose last column is cut
            // cannot be told from a whole one, unless nothing is left of it.
            if self.line.last() == Some(&b'\t') {
                return Err(Error::input("the last line is cut after a tab"));
            }
            tracing::warn!(
                "{}: line {}: the last line does not end: the file may be truncated",
                self.name,
                self.lines
            );
            self.line.push(b'\n');
        }
        Ok(read > 0)
    }

    fn place(&self) -> String {
        match self.bcf {
            Some(_) => format!("record {}", self.records + 1),
            None => format!("line {}", self.lines),
        }
    }
}

#[cfg(test)]
mod tests;
