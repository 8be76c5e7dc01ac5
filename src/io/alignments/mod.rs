//! Reads and alignments: BAM, SAM, CRAM and FASTQ, known by their content; and where they are asked
//! for, sequences of FASTA files and tables. Whatever the file, what comes out are BAM records.

mod bam;
mod cram;
mod fasta;
mod fastq;
mod header;
mod index;
mod left_out;
mod record;
mod sam;
mod table;
mod writer;

pub use cram::Reference;
pub use header::Header;
pub use record::{Operation, Placed, Record, flag};
pub use writer::Writer;

use index::Index;
use left_out::LeftOut;

use super::foreign_table::ForeignTable;
use super::input::{self, Input};
use super::read;
use super::read_ahead::Ahead;
use super::source::is_remote;
use crate::error::{Error, Result};
use crate::sequence::region::{Query, Span, merge};
use std::collections::HashMap;
use std::io::{Chain, Cursor, Read};
use std::path::{Path, PathBuf};

/// What is looked at to know a format.
const START: usize = 1 << 12;

/// What to read, and what to let pass.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only records that overlap these regions; none reads everything.
    pub regions: Vec<Query>,
    /// Reads nothing: regions are asked for, and there are none.
    pub nothing: bool,
    /// The FASTA that a CRAM file was written against, and that `=` in sequences stands for.
    pub reference: Option<PathBuf>,
    /// Lets a BGZF file pass, with a warning, that lacks its closing block.
    pub allow_missing_eof: bool,
    /// Lets a file without records pass.
    pub allow_empty: bool,
    /// Reads sequences instead of reads: FASTA, FASTQ, or a table with a column `sequence`.
    pub sequences: bool,
}

/// The format of a file of reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Binary alignments.
    Bam,
    /// Text alignments.
    Sam,
    /// Alignments compressed by their reference.
    Cram,
    /// Reads and their qualities.
    Fastq,
    /// Sequences.
    Fasta,
    /// Sequences in a column of CSV or TSV.
    Text,
    /// Sequences in a column of Parquet.
    Parquet,
}

type Text = Chain<Cursor<Vec<u8>>, Ahead>;

enum Source {
    Bam(Box<Text>),
    BamRegions(Box<bam::Regions>),
    Sam(Box<sam::Reader<Text>>),
    Cram(Box<cram::Reader<Text>>),
    CramRegions(Box<cram::Regions>),
    #[cfg(feature = "htslib")]
    CramTwo(Box<cram::Two>),
    Fastq(Box<fastq::Reader<Text>>),
    Fasta(Box<fasta::Reader<Text>>),
    Table(table::Records),
}

/// A file of reads, of which records are pulled in its order.
///
/// Everything is read and checked to the end, unless there are regions. Memory: one record (at
/// most 256 MiB, a read of about 150 megabases), buffers of 2 MB, the header, an index if there
/// are regions, and for CRAM a container with its reference.
pub struct Alignments {
    name: String,
    /// Bytes of the file, if it is one.
    size: Option<u64>,
    format: Format,
    header: Header,
    source: Source,
    spans: Vec<Span>,
    records: u64,
    allow_empty: bool,
    nothing: bool,
    left_out: LeftOut,
}

impl Format {
    /// The format of text that starts with `start`.
    fn of(start: &[u8]) -> Result<Self> {
        let line = start
            .split(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        let tags = [b"@HD", b"@SQ", b"@RG", b"@PG", b"@CO"];
        let is_header =
            tags.iter().any(|tag| line.starts_with(*tag)) && line.get(3) == Some(&b'\t');
        match start {
            _ if start.starts_with(b"BAM\x01") => Ok(Self::Bam),
            _ if start.starts_with(b"CRAM") => Ok(Self::Cram),
            _ if is_header => Ok(Self::Sam),
            [b'@', ..] => Ok(Self::Fastq),
            _ if sam::is_headerless(start) => Ok(Self::Sam),
            [] => Err(Error::input("no reads: the file is empty")),
            [b'>', ..] => Ok(Self::Fasta),
            _ if start.starts_with(b"PAR1") => Ok(Self::Parquet),
            _ if table::is_header(start) => Ok(Self::Text),
            _ => {
                let shown = &start[..start.len().min(8)];
                let what =
                    "neither BAM, SAM, CRAM, FASTQ, FASTA nor a table with a column \"sequence\"";
                let shown = String::from_utf8_lossy(shown).into_owned();
                Err(Error::input(format!("{what}: it starts with \"{shown}\"")))
            }
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bam => "BAM",
            Self::Sam => "SAM",
            Self::Cram => "CRAM",
            Self::Fastq => "FASTQ",
            Self::Fasta => "FASTA",
            Self::Text => "a table",
            Self::Parquet => "Parquet",
        }
    }

    /// Whether it holds reads, aligned or not.
    fn is_of_reads(self) -> bool {
        matches!(self, Self::Bam | Self::Sam | Self::Cram | Self::Fastq)
    }

    /// An error unless it holds what is asked for.
    fn expect(self, sequences: bool) -> Result<()> {
        let name = self.name();
        if !sequences && !self.is_of_reads() {
            let what = format!("this is {name}, not a file of reads");
            return Err(Error::input(what).todo("crocuta embed, or crocuta predict"));
        }
        if sequences && self.is_of_reads() && self != Self::Fastq {
            let what = format!("this is {name}, not a file of sequences");
            return Err(Error::usage(what).todo("crocuta reads"));
        }
        Ok(())
    }
}

/// Whether a file holds alignments or reads rather than FASTA, by its first bytes. Standard input
/// and pipes cannot be looked at twice and are taken for FASTA.
///
/// # Errors
/// Io, when it cannot be opened.
pub fn is_alignments(path: &Path) -> Result<bool> {
    let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if input::is_stdin(path) || !(is_file || is_remote(path)) {
        return Ok(false);
    }
    let mut start = Vec::new();
    let input = Input::open(path, true)?;
    // Damage is reported by whoever reads the file.
    let _ = input.take(START as u64).read_to_end(&mut start);
    Ok(Format::of(&start).is_ok_and(Format::is_of_reads))
}

impl Alignments {
    /// Opens a path or a URL, or standard input for `-` and `stdin`.
    ///
    /// # Errors
    /// Io when it cannot be opened; Input when it or an index is damaged; Usage when a region
    /// cannot be, or when there is no index for one.
    pub fn open(path: &Path, options: &Options) -> Result<Self> {
        let input = Input::open(path, options.allow_missing_eof)?;
        let name = input.name().to_string();
        Self::with_input(path, input, options).map_err(|error| error.file(name))
    }

    fn with_input(path: &Path, input: Input, options: &Options) -> Result<Self> {
        let (name, size) = (input.name().to_string(), input.size());
        let is_file = size.is_some();
        let mut input = Ahead::new(input)?;
        let mut start = vec![0; START];
        let got = read::up_to(&mut input, &mut start)?;
        start.truncate(got);
        if start.is_empty() && options.allow_empty {
            start = b"@CO\tempty\n".to_vec();
        }
        let format = Format::of(&start)?;
        #[cfg(feature = "htslib")]
        let is_two = format == Format::Cram && start.get(4) == Some(&2);
        format.expect(options.sequences)?;
        let mut text = Cursor::new(start).chain(input);
        let reference = || Reference::open(options.reference.as_deref(), options.allow_missing_eof);
        let (mut source, header) = match format {
            Format::Bam => {
                let header = Header::read(&mut text)?;
                (Source::Bam(Box::new(text)), header)
            }
            Format::Sam => {
                let (reader, header) = sam::Reader::open(text)?;
                (Source::Sam(Box::new(reader)), header)
            }
            #[cfg(feature = "htslib")]
            Format::Cram if is_two && is_file => {
                let (two, header) = cram::Two::open(path, options.reference.as_deref())?;
                (Source::CramTwo(Box::new(two)), header)
            }
            Format::Cram => {
                let (reader, header) = cram::Reader::open(text, reference()?)?;
                (Source::Cram(Box::new(reader)), header)
            }
            Format::Fastq => {
                let reader = fastq::Reader::new(text);
                (Source::Fastq(Box::new(reader)), Header::default())
            }
            Format::Fasta => {
                let reader = fasta::Reader::new(text);
                (Source::Fasta(Box::new(reader)), Header::default())
            }
            Format::Text => {
                let records = table::Records::read(ForeignTable::of_text(text)?)?;
                (Source::Table(records), Header::default())
            }
            Format::Parquet => {
                let records = table::Records::read(ForeignTable::of_parquet(path)?)?;
                (Source::Table(records), Header::default())
            }
        };
        let spans = spans(&header, &options.regions)?;
        #[cfg(feature = "htslib")]
        if let Source::CramTwo(two) = &mut source {
            two.keep(spans.clone());
        }
        if !options.regions.is_empty() {
            let wanted = spans.clone();
            let missing_eof = options.allow_missing_eof;
            source = match format {
                Format::Bam if is_file => {
                    let regions = bam::Regions::open(path, &header, wanted, missing_eof)?;
                    Source::BamRegions(Box::new(regions))
                }
                #[cfg(feature = "htslib")]
                Format::Cram if is_two => source,
                Format::Cram if is_file => {
                    let regions = cram::Regions::open(path, reference()?, wanted)?;
                    Source::CramRegions(Box::new(regions))
                }
                _ => {
                    let what = "regions need an indexed BAM or CRAM file";
                    return Err(Error::usage(what).todo("samtools sort, then samtools index"));
                }
            };
        }
        Ok(Self {
            name,
            size,
            format,
            header,
            source,
            spans,
            records: 0,
            allow_empty: options.allow_empty || !options.regions.is_empty(),
            nothing: options.nothing,
            left_out: LeftOut::new(options),
        })
    }

    /// Bytes of the file as it lies on the disk; `None` for pipes.
    pub fn bytes(&self) -> Option<u64> {
        self.size
    }

    /// What the file is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many records the index beside a BAM file counts; none if there is no index, if it does
    /// not say so, or if there are regions.
    ///
    /// # Errors
    /// As [`Self::open`] with regions.
    pub fn indexed_records(&self, path: &Path) -> Result<Option<u64>> {
        match (&self.source, self.size) {
            (Source::Bam(_), Some(size)) if Index::find(path).is_some() => {
                Ok(Index::open(path, &self.header, size)?.records())
            }
            _ => Ok(None),
        }
    }

    /// Its header; of FASTQ, an empty one.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The regions, sorted, joined where they overlap or touch.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The next record; `None` when all were handed out and the input ended well.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        if self.nothing {
            return Ok(None);
        }
        let place = |error: Error| error.place(format!("record {}", self.records + 1));
        let mut record = match &mut self.source {
            Source::Bam(text) => bam::read_record(text).map_err(place),
            Source::BamRegions(regions) => regions.next_record().map_err(place),
            Source::Sam(reader) => reader.next_record(),
            Source::Cram(reader) => reader.next_record(),
            Source::CramRegions(regions) => regions.next_record(),
            #[cfg(feature = "htslib")]
            Source::CramTwo(two) => two.next_record(),
            Source::Fastq(reader) => reader.next_record(),
            Source::Fasta(reader) => reader.next_record(),
            Source::Table(records) => records.next_record().map_err(place),
        }
        .map_err(|error| error.file(&self.name))?;
        if let Some(record) = record.as_mut().filter(|record| record.leaves_bases()) {
            let found = self.left_out.find(record, &self.header.contigs);
            found.map_err(|error| place(error).file(&self.name))?;
        }
        match &record {
            Some(_) => self.records += 1,
            None if self.records == 0 && !self.allow_empty => {
                let none = match self.format {
                    Format::Fasta | Format::Text | Format::Parquet => "no sequences",
                    _ => "no reads",
                };
                return Err(Error::input(none).file(&self.name));
            }
            None => {}
        }
        Ok(record)
    }
}

fn spans(header: &Header, regions: &[Query]) -> Result<Vec<Span>> {
    let contigs = &header.contigs;
    let places: HashMap<&str, usize> = (contigs.iter().enumerate())
        .map(|(i, contig)| (contig.name.as_str(), i))
        .collect();
    let span = |region: &Query| region.resolve_by(contigs, |name| places.get(name).copied());
    let mut spans = regions.iter().map(span).collect::<Result<Vec<_>>>()?;
    merge(&mut spans);
    Ok(spans)
}

#[cfg(test)]
mod tests;
