//! CRAM 3.0 and 3.1 (CRAM specification), decoded by noodles, whose decoder believes every size in
//! the file and panics on damage. So containers are cut out and their sizes checked here, and
//! whatever it does with them is contained.

mod blocks;
mod crai;
mod reference;

pub use reference::Reference;

use super::header::{Header, bytes};
use super::record::Record;
use super::sam::{dictionary, input_error, to_bam};
use crate::error::{Error, Kind, Result};
use crate::io::contain::contain;
use crate::sequence::region::Span;
use blocks::Container;
use noodles::{cram, fasta, sam};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// Magic, version and identifier of a file (section 6).
const DEFINITION: usize = 26;

/// Reads CRAM. Memory: a container, its records, and the reference's contigs, see [`Reference`].
pub struct Reader<R> {
    input: R,
    header: sam::Header,
    repository: fasta::Repository,
    reference: Reference,
    /// Records of the container read last.
    records: VecDeque<Record>,
    containers: u64,
    /// The container read last was the one that closes a file. Joined files have several.
    closed: bool,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Input: not CRAM 3, or damaged.
    pub fn open(mut input: R, reference: Reference) -> Result<(Self, Header)> {
        let definition = bytes(&mut input, DEFINITION, "CRAM header")?;
        let (major, minor) = (definition[4], definition[5]);
        if major != 3 || minor > 1 {
            let what = format!("CRAM {major}.{minor} is not supported");
            return Err(Error::input(what).todo("samtools view --output-fmt cram,version=3.0"));
        }
        let Some(first) = Container::read(&mut input)? else {
            return Err(Error::input("truncated CRAM header"));
        };
        first.check()?;
        let start = [&definition[..], &first.bytes].concat();
        let header = contain(|| {
            let mut reader = cram::io::Reader::new(Cursor::new(start));
            reader.read_header().map_err(input_error)
        })?;
        let mut text = sam::io::Writer::new(Vec::new());
        text.write_header(&header).map_err(input_error)?;
        let text = String::from_utf8_lossy(text.get_ref()).into_owned();
        let ours = dictionary(text, &header)?;
        let reference = reference.of(&header);
        let reader = Self {
            input,
            header,
            repository: reference.repository(),
            reference,
            records: VecDeque::new(),
            containers: 0,
            closed: false,
            ended: false,
        };
        Ok((reader, ours))
    }

    /// The next record.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        while self.records.is_empty() && !self.ended {
            match self.next_container()? {
                Some(container) => self.decode(&container)?,
                None => self.ended = true,
            }
        }
        Ok(self.records.pop_front())
    }

    fn next_container(&mut self) -> Result<Option<Container>> {
        self.containers += 1;
        let place = |error: Error| error.place(format!("container {}", self.containers));
        loop {
            match Container::read(&mut self.input).map_err(place)? {
                None if self.closed => return Ok(None),
                None => {
                    let what = "missing CRAM EOF container: the file is truncated";
                    return Err(place(Error::input(what)));
                }
                Some(container) if container.is_end => self.closed = true,
                Some(container) => {
                    self.closed = false;
                    return Ok(Some(container));
                }
            }
        }
    }

    fn decode(&mut self, container: &Container) -> Result<()> {
        let place = |error: Error| error.place(format!("container {}", self.containers));
        container.check().map_err(place)?;
        let records = contain(|| self.records_of(&container.bytes)).map_err(place)?;
        self.records = records;
        self.reference.forget(&self.repository);
        Ok(())
    }

    fn records_of(&self, bytes: &[u8]) -> Result<VecDeque<Record>> {
        let mut reader = cram::io::Reader::new(bytes);
        let mut container = cram::io::reader::Container::default();
        reader.read_container(&mut container).map_err(input_error)?;
        let compression = container.compression_header().map_err(input_error)?;
        let mut records = VecDeque::new();
        for slice in container.slices() {
            let slice = slice.map_err(input_error)?;
            let (core, external) = slice.decode_blocks().map_err(input_error)?;
            let repository = self.repository.clone();
            let decoded = slice.records(repository, &self.header, &compression, &core, &external);
            for record in decoded.map_err(input_error)? {
                records.push_back(to_bam(&self.header, &record)?);
            }
        }
        Ok(records)
    }
}

/// Records that overlap spans, in the order of the file, each once.
pub struct Regions {
    reader: Reader<BufReader<File>>,
    spans: Vec<Span>,
    /// Places of containers that may hold them.
    places: VecDeque<crai::Place>,
    index: String,
}

impl Regions {
    /// `spans` are sorted and apart.
    pub fn open(path: &Path, reference: Reference, spans: Vec<Span>) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| Error::io(path, &error))?;
        let size = file
            .metadata()
            .map_err(|error| Error::io(path, &error))?
            .len();
        blocks::check_end(&mut file)?;
        file.seek(SeekFrom::Start(0))
            .map_err(|error| Error::io(path, &error))?;
        let (reader, _) = Reader::open(BufReader::new(file), reference)?;
        let (index, places) = crai::places(path, &spans, size)?;
        Ok(Self {
            reader,
            spans,
            places: places.into(),
            index,
        })
    }

    /// The next record.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some(record) = self.reader.records.pop_front() {
                let Some((contig, start)) = record.position() else {
                    continue;
                };
                let end = start + record.span();
                let overlaps =
                    |span: &Span| span.contig == contig && start < span.end && span.start < end;
                if self.spans.iter().any(overlaps) {
                    return Ok(Some(record));
                }
                continue;
            }
            let Some(place) = self.places.pop_front() else {
                return Ok(None);
            };
            let sought = self.reader.input.seek(SeekFrom::Start(place.offset));
            sought.map_err(|error| Error::because(Kind::Io, error))?;
            let container = match Container::read(&mut self.reader.input) {
                Ok(Some(container)) if place.is_of(&container) => container,
                _ => {
                    let what = format!("index does not match \"{}\"", self.index);
                    return Err(Error::input(what).todo("samtools index"));
                }
            };
            self.reader.decode(&container)?;
        }
    }
}

#[cfg(test)]
mod tests;
