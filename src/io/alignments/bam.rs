//! Records of a BAM file: all of them, or those of regions through its index.

use super::header::{Header, bytes};
use super::index::Index;
use super::record::{MAX_RECORD, Record};
use crate::error::{Error, Kind, Result};
use crate::io::bgzf;
use crate::io::read;
use crate::io::source::{Source, shown};
use crate::sequence::region::Span;
use std::collections::VecDeque;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;

/// The next record of an uncompressed BAM stream; `None` at its end.
///
/// # Errors
/// Input: truncated, or a size that cannot be. Nothing is allocated before the bytes are there.
pub fn read_record(input: &mut impl Read) -> Result<Option<Record>> {
    let mut size = [0; 4];
    match read::up_to(input, &mut size)? {
        0 => return Ok(None),
        4 => {}
        _ => return Err(Error::input("truncated record")),
    }
    let size = u32::from_le_bytes(size) as usize;
    if !(33..=MAX_RECORD).contains(&size) {
        return Err(Error::input(format!("a record of {size} bytes")));
    }
    Record::new(bytes(input, size, "record")?).map(Some)
}

/// Records that overlap spans, in the order of the file, each once.
pub struct Regions {
    reader: bgzf::Reader<BufReader<Source>>,
    index: Index,
    spans: VecDeque<Span>,
    /// The span at work, and the end of the one before it on the same contig.
    span: Option<Span>,
    before: u64,
    chunks: VecDeque<Range<u64>>,
    /// The virtual position at which the chunk at work ends.
    end: u64,
    /// Records of the chunk at work.
    read: u64,
}

impl Regions {
    /// `spans` are sorted and apart.
    pub fn open(
        path: &Path,
        header: &Header,
        spans: Vec<Span>,
        allow_missing_eof: bool,
    ) -> Result<Self> {
        let file = Source::open(path)?;
        let index = Index::open(path, header, file.size()?.unwrap_or_default())?;
        let file = BufReader::with_capacity(1 << 16, file);
        let mut reader = bgzf::Reader::new(file, allow_missing_eof);
        reader.check_end()?;
        Ok(Self {
            reader,
            index,
            spans: spans.into(),
            span: None,
            before: 0,
            chunks: VecDeque::new(),
            end: 0,
            read: 0,
        })
    }

    /// The next record.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        loop {
            if self.reader.position() >= self.end && !self.next_chunk()? {
                return Ok(None);
            }
            let Some(span) = self.span else {
                return Ok(None);
            };
            let record = read_record(&mut self.reader);
            let first = self.read == 0;
            self.read += 1;
            let stale = || {
                let what = format!("index does not match \"{}\"", shown(&self.index.path));
                Error::input(what).todo("samtools index")
            };
            // A place that the index gives is no record: most likely it is another file's.
            let record = match record {
                Err(error) if first && error.kind() != Kind::Io => return Err(stale()),
                other => other?,
            };
            let Some((contig, start)) = record.as_ref().and_then(Record::position) else {
                if first {
                    return Err(stale());
                } else {
                    self.end = 0
                }
                continue;
            };
            if first && contig != span.contig {
                return Err(stale());
            }
            let Some(record) = record else { continue };
            if contig != span.contig || start >= span.end {
                // Records are sorted: nothing of this span follows.
                self.end = 0;
                self.chunks.clear();
            } else if start + record.span() > span.start && start >= self.before {
                // One that starts before `before` overlapped that span too, and has come already.
                return Ok(Some(record));
            }
        }
    }

    /// Goes to the next chunk, of this span or the next; false when there is none.
    fn next_chunk(&mut self) -> Result<bool> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                self.end = chunk.end;
                self.read = 0;
                let gone = self.reader.seek(chunk.start >> 16, chunk.start & 0xffff);
                gone.map_err(|error| match error.kind() {
                    Kind::Io => error,
                    _ => {
                        let what = format!("index does not match: {error}");
                        Error::input(what).todo("samtools index").caused_by(error)
                    }
                })?;
                return Ok(true);
            }
            let Some(span) = self.spans.pop_front() else {
                return Ok(false);
            };
            self.before = match self.span {
                Some(last) if last.contig == span.contig => last.end,
                _ => 0,
            };
            self.span = Some(span);
            self.chunks = self.index.chunks(span)?.into();
        }
    }
}
