//! Random access to FASTA through its index, which is never trusted: what it says about a
//! contig is compared with the text before the contig's first base is handed out.

use super::bases::{Counts, decode};
use super::bgzf;
use super::fai::{Block, Entry, read_fai, read_gzi};
use super::input::{Format, Input};
use super::read;
use super::source::{Source, beside, exists, shown};
use crate::error::{Error, Kind, Result};
use crate::sequence::{Contig, region::Span};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest header that an index is checked against, in bytes.
const MAX_HEADER: u64 = 1 << 20;

/// How a FASTA input can be read.
pub enum Access {
    /// At random.
    Indexed(Box<Indexed>),
    /// From start to end only, for this reason.
    Stream(&'static str),
}

/// Reads spans of contigs of an indexed FASTA file, plain or BGZF.
///
/// Not detected: an edit within a contig that changes neither its place, its end, nor the lines
/// that a span touches. Memory: the index and one buffer of 64 KiB.
pub struct Indexed {
    path: PathBuf,
    text: Text,
    entries: Vec<Entry>,
    contigs: Vec<Contig>,
    verified: Vec<bool>,
    /// What is left of the current span.
    span: Span,
    /// A line has been read to its end.
    line_ended: bool,
    counts: Counts,
}

impl Indexed {
    /// Opens the indexes beside `path`, whose content is `input`; the caller streams `input`
    /// when there are none, or when it is a pipe or compressed with something else than bgzip.
    /// Warns about an index older than the file.
    ///
    /// # Errors
    /// Input, when an index is damaged.
    pub fn open(path: &Path, input: &Input, allow_missing_eof: bool) -> Result<Access> {
        let Some(size) = input.size() else {
            return Ok(Access::Stream("it is a pipe"));
        };
        let (fai, gzi) = (beside(path, ".fai"), beside(path, ".gzi"));
        let text_size = match input.format() {
            Format::Plain => size,
            // Checked block by block; the text may not be longer than positions can count.
            Format::Bgzf => i64::MAX.unsigned_abs(),
            Format::Gzip => return Ok(Access::Stream("it is compressed with gzip, not bgzip")),
            Format::Zstd => return Ok(Access::Stream("it is compressed with zstd, not bgzip")),
        };
        if !exists(&fai) {
            return Ok(Access::Stream("it has no .fai index"));
        }
        if input.format() == Format::Bgzf && !exists(&gzi) {
            return Ok(Access::Stream("it has no .gzi index"));
        }
        warn_if_older(&fai, path);
        let file = BufReader::with_capacity(1 << 16, Source::open(path)?);
        let text = if input.format() == Format::Plain {
            Text::Plain(file)
        } else {
            warn_if_older(&gzi, path);
            let mut reader = bgzf::Reader::new(file, allow_missing_eof);
            reader
                .check_end()
                .map_err(|error| error.file(shown(path)))?;
            let blocks = read_gzi(&gzi, size)?;
            let reader = Box::new(reader);
            Text::Bgzf { reader, blocks }
        };
        let entries = read_fai(&fai, text_size)?;
        let contigs = entries.iter().map(|entry| Contig {
            name: entry.name.clone(),
            length: entry.length,
        });
        Ok(Access::Indexed(Box::new(Self {
            path: path.to_path_buf(),
            text,
            contigs: contigs.collect(),
            verified: vec![false; entries.len()],
            entries,
            span: Span {
                contig: 0,
                start: 0,
                end: 0,
            },
            line_ended: false,
            counts: Counts::default(),
        })))
    }

    /// The dictionary: the contigs in the index's order.
    pub fn contigs(&self) -> &[Contig] {
        &self.contigs
    }

    /// What was read so far; a contig counts once.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Goes to a span, which lies within its contig.
    ///
    /// # Errors
    /// Input, when the index does not match the text.
    pub fn seek(&mut self, span: Span) -> Result<()> {
        self.verify(span.contig)?;
        let entry = &self.entries[span.contig];
        let column = match entry.length {
            0 => 0,
            _ => span.start % entry.line_bases,
        };
        let line = span.start - column;
        let mut offset = entry.at(line);
        if line > 0 {
            offset -= entry.line_end();
        }
        self.line_ended = line > 0;
        self.text
            .seek(offset)
            .map_err(|error| self.unreachable(span, error))?;
        // The rest of the line before the span is read too: a line end in it would shift bases.
        let counts = self.counts.clone();
        let mut before = Vec::new();
        self.span = Span {
            start: line,
            end: span.start,
            ..span
        };
        while self.read_bases(&mut before, 1 << 16)? > 0 {
            before.clear();
        }
        self.counts = counts;
        self.span = span;
        Ok(())
    }

    /// Appends base codes of the span until it ends or `max` (at least 1) were appended; returns
    /// how many. 0 is the span's end.
    pub fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        let mut got = 0;
        while got < max && self.span.start < self.span.end {
            let entry = &self.entries[self.span.contig];
            if self.line_ended {
                let end: &[u8] = if entry.line_end() == 2 {
                    b"\r\n"
                } else {
                    b"\n"
                };
                let mut found = [0; 2];
                let found = &mut found[..end.len()];
                read::up_to(&mut self.text, found)?;
                if found != end {
                    return Err(self.ragged());
                }
                self.line_ended = false;
            }
            let line_left = entry.line_bases - self.span.start % entry.line_bases;
            let most = line_left.min(self.span.end - self.span.start);
            let bytes = self.text.fill_buf();
            let bytes = bytes.map_err(|e| read::error(e).file(shown(&self.path)))?;
            let room = bytes.len().min(max - got).min(most as usize);
            let n = decode(&bytes[..room], codes, &mut self.counts);
            let stop = bytes[..room].get(n).copied();
            let ended = bytes.is_empty();
            self.text.consume(n);
            self.span.start += n as u64;
            self.line_ended = n as u64 == line_left;
            got += n;
            match stop {
                None if ended => return Err(self.ragged()),
                None => {}
                Some(b'\n' | b'\r') => return Err(self.ragged()),
                Some(b'>') => return Err(self.mismatch(self.span, "a header lies within it")),
                Some(byte) => {
                    let place = format!("{}:{}", entry.name, self.span.start + 1);
                    return Err(Error::input(format!("byte {byte:#04x} is not a base"))
                        .place(place)
                        .file(shown(&self.path)));
                }
            }
        }
        Ok(got)
    }

    /// All letters of a contig, in upper case. Memory: as many bytes.
    ///
    /// # Errors
    /// Input, when the index does not match the text.
    pub fn letters(&mut self, contig: usize) -> Result<Vec<u8>> {
        self.verify(contig)?;
        let entry = &self.entries[contig];
        self.text.seek(entry.at(0))?;
        let mut letters = Vec::new();
        while (letters.len() as u64) < entry.length {
            let bytes = self.text.fill_buf();
            let bytes = bytes.map_err(|e| read::error(e).file(shown(&self.path)))?;
            let room = bytes
                .len()
                .min((entry.length - letters.len() as u64) as usize);
            if room == 0 {
                return Err(self.ragged());
            }
            let letter = |byte: &&u8| !matches!(byte, b'\n' | b'\r');
            let new = bytes[..room].iter().filter(letter);
            letters.extend(new.map(u8::to_ascii_uppercase));
            self.text.consume(room);
        }
        Ok(letters)
    }

    /// Compares what the index says about a contig with the text around it, once.
    fn verify(&mut self, contig: usize) -> Result<()> {
        if self.verified[contig] {
            return Ok(());
        }
        let span = Span {
            contig,
            start: 0,
            end: 0,
        };
        let entry = &self.entries[contig];
        match self.text.is_header_before(entry.offset, &entry.name) {
            Ok(true) => {}
            Ok(false) => return Err(self.mismatch(span, "its header is not there")),
            Err(error) => return Err(self.unreachable(span, error)),
        }
        match self.text.ends_at(entry.end(), entry.length == 0) {
            Ok(true) => {}
            Ok(false) => return Err(self.mismatch(span, "it does not end there")),
            Err(error) => return Err(self.unreachable(span, error)),
        }
        self.verified[contig] = true;
        self.counts.sequences += 1;
        Ok(())
    }

    fn mismatch(&self, span: Span, why: impl std::fmt::Display) -> Error {
        let name = &self.entries[span.contig].name;
        Error::input(format!("index does not match: contig \"{name}\": {why}"))
            .file(shown(&self.path))
            .todo(format!("samtools faidx {}", shown(&self.path)))
    }

    /// A place that the index gives cannot be read: most likely it is no place.
    fn unreachable(&self, span: Span, error: Error) -> Error {
        match error.kind() {
            Kind::Input => self.mismatch(span, error),
            _ => error.file(shown(&self.path)),
        }
    }

    /// A line that is not as long as the index says, found at the current position.
    fn ragged(&mut self) -> Error {
        let entry = &self.entries[self.span.contig];
        let offset = entry.at(self.span.start.min(entry.length.saturating_sub(1)));
        let what = format!(
            "index does not match: line length differs from {} bases",
            entry.line_bases
        );
        let error = Error::input(what)
            .file(shown(&self.path))
            .todo(format!("samtools faidx {}", shown(&self.path)));
        match self.text.line_at(offset) {
            Ok(line) => error.place(format!("line {line}")),
            Err(_) => error,
        }
    }
}

/// Warns about an index that is older than its file.
pub(super) fn warn_if_older(index: &Path, path: &Path) {
    let modified = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified());
    if let (Ok(index_time), Ok(time)) = (modified(index), modified(path))
        && index_time < time
    {
        tracing::warn!("{} is older than {}", index.display(), path.display());
    }
}

/// The file as text, with places in bytes of the text.
enum Text {
    Plain(BufReader<Source>),
    Bgzf {
        reader: Box<bgzf::Reader<BufReader<Source>>>,
        blocks: Vec<Block>,
    },
}

impl Text {
    fn seek(&mut self, offset: u64) -> Result<()> {
        match self {
            Self::Plain(file) => {
                file.seek(SeekFrom::Start(offset)).map_err(read::error)?;
            }
            Self::Bgzf { reader, blocks } => {
                let next = blocks.partition_point(|block| block.uncompressed <= offset);
                let block = blocks[next.saturating_sub(1)];
                let within = offset - block.uncompressed;
                let size = reader.seek(block.compressed, within)?;
                if let Some(next) = blocks.get(next)
                    && next.uncompressed - block.uncompressed != size
                {
                    return Err(Error::input("a block has another size than its index says"));
                }
            }
        }
        Ok(())
    }

    /// Whether the line that ends just before `offset` is the header of `name`.
    fn is_header_before(&mut self, offset: u64, name: &str) -> Result<bool> {
        let mut window = 1 << 13;
        loop {
            let start = offset.saturating_sub(window);
            self.seek(start)?;
            let mut bytes = vec![0; (offset - start) as usize];
            if read::up_to(self, &mut bytes)? < bytes.len() {
                return Ok(false);
            }
            let Some((b'\n', line)) = bytes.split_last() else {
                return Ok(false);
            };
            let header = match line.iter().rposition(|&byte| byte == b'\n') {
                Some(end) => &line[end + 1..],
                None if start == 0 => line,
                None if window >= MAX_HEADER => return Ok(false),
                None => {
                    window *= 8;
                    continue;
                }
            };
            let found = header.split(|byte| b" \t\r".contains(byte)).next();
            return Ok(found.and_then(|found| found.strip_prefix(b">")) == Some(name.as_bytes()));
        }
    }

    /// Whether a sequence ends at `offset`: line ends, then a header or the end of the file.
    fn ends_at(&mut self, offset: u64, empty: bool) -> Result<bool> {
        self.seek(offset)?;
        let mut line_ended = empty;
        loop {
            let bytes = self.fill_buf().map_err(read::error)?;
            match bytes.first() {
                None => return Ok(true),
                Some(b'\n') => line_ended = true,
                Some(b'\r') => {}
                Some(byte) => return Ok(line_ended && *byte == b'>'),
            }
            self.consume(1);
        }
    }

    /// The 1-based number of the line that holds `offset`; reads the text up to there.
    fn line_at(&mut self, offset: u64) -> Result<u64> {
        self.seek(0)?;
        let mut line = 1;
        let mut left = offset;
        while left > 0 {
            let bytes = self.fill_buf().map_err(read::error)?;
            let n = bytes.len().min(left.min(1 << 30) as usize);
            if n == 0 {
                break;
            }
            line += bytes[..n].iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.consume(n);
            left -= n as u64;
        }
        Ok(line)
    }
}

impl BufRead for Text {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self {
            Self::Plain(file) => file.fill_buf(),
            Self::Bgzf { reader, .. } => reader.fill_buf(),
        }
    }

    fn consume(&mut self, n: usize) {
        match self {
            Self::Plain(file) => file.consume(n),
            Self::Bgzf { reader, .. } => reader.consume(n),
        }
    }
}

impl Read for Text {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(out),
            Self::Bgzf { reader, .. } => reader.read(out),
        }
    }
}

#[cfg(test)]
mod tests;
