//! CRAM 3.0 and 3.1 (CRAM specification; CRAM 2 is htslib's: `two.rs`), decoded by noodles, whose
//! decoder believes every size in the file and panics on damage. So containers are cut out and their
//! sizes checked here, and whatever it does with them is contained.

mod beyond;
mod blocks;
mod crai;
mod layout;
mod lookup;
mod mates;
mod raw;
mod reference;
#[cfg(feature = "htslib")]
mod two;

pub use reference::Reference;
#[cfg(feature = "htslib")]
pub use two::Two;

use super::header::{Header, bytes};
use super::record::Record;
use crate::error::{Error, Kind, Result};
use crate::io::panics::contain;
use crate::io::source::Source;
use crate::sequence::region::Span;
use blocks::Container;
use layout::Layout;
use noodles::sam::alignment::RecordBuf;
use noodles::sam::alignment::io::Write as _;
use noodles::sam::alignment::record::data::field::{Tag, Value};
use noodles::sam::alignment::record_buf::data::field::Value as OwnValue;
use noodles::sam::header::record::value::Map;
use noodles::sam::header::record::value::map::{ReadGroup, ReferenceSequence};
use noodles::{bam, cram, fasta, sam};
use raw::Raw;
use reference::within;
use std::collections::VecDeque;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

/// Magic, version and identifier of a file (section 6).
const DEFINITION: usize = 26;

/// Reads CRAM. Memory: a container, its records, and the reference's contigs, see [`Reference`].
pub struct Reader<R> {
    input: R,
    header: sam::Header,
    /// The read groups' names, in the order of the header's lines.
    groups: Vec<String>,
    repository: fasta::Repository,
    /// For records that have all their bases.
    unneeded: fasta::Repository,
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
            let todo = "samtools view --output-fmt cram,version=3.0, or for CRAM 2 a build with the \
                        feature htslib";
            return Err(Error::input(what).todo(todo));
        }
        let Some(first) = Container::read(&mut input)? else {
            return Err(Error::input("truncated CRAM header"));
        };
        first.check()?;
        let text = contain(|| header_text(&first.bytes).map_err(input_error))?;
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let ours = Header::of_text(text)?;
        let reference = reference.of(&ours);
        let groups = ours.values("@RG", "ID:").map(|id| id.unwrap_or_default());
        let reader = Self {
            input,
            groups: groups.map(str::to_string).collect(),
            header: decoders_header(&ours),
            repository: reference.repository(),
            unneeded: reference.unneeded(),
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
                Some(container) => self.decode(container)?,
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

    fn decode(&mut self, mut container: Container) -> Result<()> {
        let place = |error: Error| error.place(format!("container {}", self.containers));
        container.check().map_err(place)?;
        let records = contain(|| self.records_of(&mut container)).map_err(place)?;
        self.records = records;
        self.reference.forget([&self.repository, &self.unneeded]);
        Ok(())
    }

    fn records_of(&self, container: &mut Container) -> Result<VecDeque<Record>> {
        let layout = Layout::of(container)?;
        let repository = if layout.needs_reference {
            beyond::mend(container, |contig| self.letters(contig))?;
            &self.repository
        } else {
            &self.unneeded
        };
        let mut reader = cram::io::Reader::new(&container.bytes[..]);
        let mut container = cram::io::reader::Container::default();
        reader.read_container(&mut container).map_err(input_error)?;
        let compression = container.compression_header().map_err(input_error)?;
        let mut records = VecDeque::new();
        for slice in container.slices() {
            let slice = slice.map_err(input_error)?;
            let (core, external) = slice.decode_blocks().map_err(input_error)?;
            let repository = repository.clone();
            let decoded = slice.records(repository, &self.header, &compression, &core, &external);
            let decoded = decoded.map_err(input_error)?;
            let raw = decoded.iter().map(|record| self.raw(record));
            let mut raw = raw.collect::<Result<Vec<_>>>()?;
            let groups = decoded.iter().map(|record| self.group(record));
            let groups = groups.collect::<Result<Vec<_>>>()?;
            let flags = layout.flags(raw.len(), &external);
            let nameless = layout.nameless(raw.len(), &external);
            mates::link(&mut raw, flags.as_deref());
            for (i, (mut record, group)) in raw.into_iter().zip(groups).enumerate() {
                if nameless.as_ref().is_some_and(|nameless| nameless[i]) {
                    record.forget_name();
                }
                record.mend_qualities(flags.as_ref().map(|flags| flags[i]));
                let reference = if layout.needs_reference {
                    self.letters(record.contig())?
                } else {
                    None
                };
                let reference = reference.as_ref().map(AsRef::as_ref);
                record.mend_tags(group, reference)?;
                records.push_back(record.into_record()?);
            }
        }
        Ok(records)
    }

    /// A record as BAM.
    fn raw(&self, record: &cram::Record) -> Result<Raw> {
        let fields = sam::alignment::Record::data(record);
        let mut hexadecimal = Vec::new();
        for field in fields.iter() {
            if let (tag, Value::Hex(_)) = field.map_err(input_error)? {
                hexadecimal.push(tag);
            }
        }
        if hexadecimal.is_empty() {
            return self.encoded(record);
        }
        // The encoder refuses such values in lower case: it is given texts.
        let mut record =
            RecordBuf::try_from_alignment_record(&self.header, record).map_err(input_error)?;
        for tag in &hexadecimal {
            if let Some(OwnValue::Hex(digits)) = record.data().get(tag).cloned() {
                record.data_mut().insert(*tag, OwnValue::String(digits));
            }
        }
        let mut raw = self.encoded(&record)?;
        let names: Vec<[u8; 2]> = hexadecimal.into_iter().map(Into::into).collect();
        raw.mark_hexadecimal(&names)?;
        Ok(raw)
    }

    fn encoded(&self, record: &dyn sam::alignment::Record) -> Result<Raw> {
        let mut writer = bam::io::Writer::from(Vec::new());
        let written = writer.write_alignment_record(&self.header, record);
        written.map_err(input_error)?;
        let bytes = writer.into_inner();
        Raw::new(bytes.get(4..).unwrap_or_default().to_vec())
    }

    /// The letters of a contig, if there is one.
    fn letters(&self, contig: i32) -> Result<Option<Letters>> {
        let contigs = self.header.reference_sequences();
        let contig = usize::try_from(contig)
            .ok()
            .and_then(|i| contigs.get_index(i));
        let found = contig.and_then(|(name, _)| self.repository.get(name));
        found
            .transpose()
            .map(|found| found.map(Letters))
            .map_err(input_error)
    }

    /// The name of the group of reads that a record is in by its number, if it is; empty for what
    /// older programs write for no group at all.
    fn group(&self, record: &dyn sam::alignment::Record) -> Result<Option<&str>> {
        let Some(number) = record.data().get(&Tag::READ_GROUP) else {
            return Ok(None);
        };
        let number = match number.map_err(input_error)? {
            Value::String(number) => number.to_string().parse().unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let name = self.groups.get(number);
        let name = name.ok_or_else(|| Error::input("a read group that the header lacks"))?;
        let unknown = name == "UNKNOWN" && number + 1 == self.groups.len();
        Ok(Some(if unknown { "" } else { name }))
    }
}

/// The letters of a contig, of those that the decoder has.
struct Letters(Arc<fasta::record::Sequence>);

impl AsRef<[u8]> for Letters {
    fn as_ref(&self) -> &[u8] {
        within(self.0.as_ref().as_ref())
    }
}

/// The text of the header, in the first container (section 7.1).
fn header_text(container: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut reader = cram::io::Reader::new(container);
    let mut reader = reader.header_reader();
    let mut container = reader.container_reader()?;
    let mut text = Vec::new();
    container.raw_sam_header_reader()?.read_to_end(&mut text)?;
    // Padded with NUL by some writers.
    text.truncate(
        text.iter()
            .position(|&byte| byte == 0)
            .unwrap_or(text.len()),
    );
    Ok(text)
}

/// The header as the decoder needs it: contigs, and read groups that have their number for a name.
/// What else is in the text is not its business, nor that a group's name comes twice.
fn decoders_header(header: &Header) -> sam::Header {
    let mut builder = sam::Header::builder();
    for contig in &header.contigs {
        let length = NonZero::new(contig.length as usize).unwrap_or(NonZero::<usize>::MIN);
        builder = builder
            .add_reference_sequence(contig.name.as_str(), Map::<ReferenceSequence>::new(length));
    }
    for number in 0..header.values("@RG", "ID:").count() {
        builder = builder.add_read_group(number.to_string(), Map::<ReadGroup>::default());
    }
    builder.build()
}

/// What a decoder says of its input.
fn input_error(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::because(Kind::Input, error),
    }
}

/// Records that overlap spans, in the order of the file, each once.
pub struct Regions {
    reader: Reader<BufReader<Source>>,
    spans: Vec<Span>,
    /// Places of containers that may hold them.
    places: VecDeque<crai::Place>,
    index: String,
}

impl Regions {
    /// `spans` are sorted and apart.
    pub fn open(path: &Path, reference: Reference, spans: Vec<Span>) -> Result<Self> {
        let mut file = Source::open(path)?;
        let size = file.size()?.unwrap_or_default();
        blocks::check_end(&mut file)?;
        let back = file.seek(SeekFrom::Start(0));
        back.map_err(|error| Error::because(Kind::Io, error))?;
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
                Err(error) if error.kind() == Kind::Io => return Err(error),
                _ => {
                    let what = format!("index does not match \"{}\"", self.index);
                    return Err(Error::input(what).todo("samtools index"));
                }
            };
            self.reader.decode(container)?;
        }
    }
}

#[cfg(test)]
mod tests;
