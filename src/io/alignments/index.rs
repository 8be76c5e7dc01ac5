//! `.bai` and `.csi` (SAM specification, section 5): checked against their own size and the
//! header before a library parses them, since their counts ask for memory.

use super::header::Header;
use crate::error::{Error, Kind, Result};
use crate::io::bgzf::is_header;
use crate::io::indexed::warn_if_older;
use crate::io::input::Input;
use crate::io::panics::contain;
use crate::io::read;
use crate::io::source::{Source, beside, exists, shown, with_extension};
use crate::sequence::region::Span;
use noodles::core::Position;
use noodles::csi::BinningIndex;
use noodles::{bam, csi};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The largest index, in bytes: a `.csi` is compressed.
const MAX_INDEX: u64 = 1 << 30;

/// Where records of a contig lie in a BGZF file.
pub struct Index {
    /// The index's file.
    pub path: PathBuf,
    kind: Kinds,
}

enum Kinds {
    Bai(bam::bai::Index),
    Csi(csi::Index),
}

impl Index {
    /// Opens the index beside `path`, a file of `size` bytes: `x.bam.bai`, `x.bai`, `x.bam.csi` or `x.csi`. Warns if it
    /// is older than the file.
    ///
    /// # Errors
    /// Usage if there is none; Input if it is damaged, or of a file with another number of
    /// contigs or fewer bytes.
    pub fn open(path: &Path, header: &Header, size: u64) -> Result<Self> {
        let Some(name) = Self::find(path) else {
            let what = "regions need an index, and there is none";
            let todo = format!("samtools index {}", shown(path));
            return Err(Error::usage(what).file(shown(path)).todo(todo));
        };
        warn_if_older(&name, path);
        let kind = Self::read(&name, header, size);
        let kind = kind.map_err(|e| e.file(shown(&name)).todo("samtools index"))?;
        Ok(Self { path: name, kind })
    }

    /// The index beside `path`, if there is one.
    pub fn find(path: &Path) -> Option<PathBuf> {
        let names = [
            beside(path, ".bai"),
            with_extension(path, "bai"),
            beside(path, ".csi"),
            with_extension(path, "csi"),
        ];
        names.into_iter().find(|name| exists(name))
    }

    /// How many records the file has, if the index says so.
    pub fn records(&self) -> Option<u64> {
        let index: &dyn BinningIndex = match &self.kind {
            Kinds::Bai(index) => index,
            Kinds::Csi(index) => index,
        };
        let unplaced = index.unplaced_unmapped_record_count()?;
        let placed = index.reference_sequences().filter_map(|contig| {
            let counts = contig.metadata()?;
            Some(counts.mapped_record_count() + counts.unmapped_record_count())
        });
        Some(placed.sum::<u64>() + unplaced).filter(|&records| records > 0)
    }

    fn read(path: &Path, header: &Header, size: u64) -> Result<Kinds> {
        let mut file = Source::open(path)?;
        let mut raw = Vec::new();
        let read = Read::take(&mut file, MAX_INDEX).read_to_end(&mut raw);
        read.map_err(|e| read::error(e).file(shown(path)))?;

        if !is_header(&raw) {
            let mut walk = Walk {
                rest: &raw,
                file: size,
            };
            walk.magic(b"BAI\x01", "a .bai file")?;
            walk.references(header, |walk| {
                walk.bins(&[4])?;
                let intervals = walk.number()?;
                walk.skip(intervals, 8)
            })?;
            let parse = || bam::bai::io::Reader::new(&raw[..]).read_index();
            return contain(|| parse().map_err(invalid)).map(Kinds::Bai);
        }
        let mut text = Vec::new();
        let input = Input::new(
            &shown(path),
            Box::new(std::io::Cursor::new(raw.clone())),
            true,
        )?;
        let read = input.take(MAX_INDEX).read_to_end(&mut text);
        read.map_err(read::error)?;
        let mut walk = Walk {
            rest: &text,
            file: size,
        };
        walk.magic(b"CSI\x01", "a .csi file")?;
        let (shift, depth) = (walk.number()?, walk.number()?);
        if shift + 3 * depth > 60 {
            return Err(Error::input(format!(
                "invalid index: depth {depth}, shift {shift}"
            )));
        }
        let auxiliary = walk.number()?;
        walk.skip(auxiliary, 1)?;
        walk.references(header, |walk| walk.bins(&[4, 8]))?;
        let parse = || csi::io::Reader::new(&raw[..]).read_index();
        contain(|| parse().map_err(invalid)).map(Kinds::Csi)
    }

    /// The virtual positions between which records that overlap `span` lie.
    pub fn chunks(&self, span: Span) -> Result<Vec<Range<u64>>> {
        let position = |at: u64| Position::try_from(at as usize);
        let interval = match (position(span.start + 1), position(span.end)) {
            (Ok(start), Ok(end)) => (start..=end).into(),
            _ => return Err(Error::new(Kind::Internal, "an empty span")),
        };
        let chunks = contain(|| {
            match &self.kind {
                Kinds::Bai(index) => index.query(span.contig, interval),
                Kinds::Csi(index) => index.query(span.contig, interval),
            }
            .map_err(invalid)
        });
        let chunks = chunks.map_err(|error| error.file(shown(&self.path)))?;
        let range = |chunk: csi::binning_index::index::reference_sequence::bin::Chunk| {
            u64::from(chunk.start())..u64::from(chunk.end())
        };
        Ok(chunks
            .into_iter()
            .map(range)
            .filter(|range| !range.is_empty())
            .collect())
    }
}

/// What is left of an index.
struct Walk<'a> {
    rest: &'a [u8],
    /// Bytes of the file that it is for.
    file: u64,
}

impl Walk<'_> {
    fn magic(&mut self, magic: &[u8], what: &str) -> Result<()> {
        match self.rest.strip_prefix(magic) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(Error::input(format!("not {what}"))),
        }
    }

    fn number(&mut self) -> Result<usize> {
        let Some((word, rest)) = self.rest.split_first_chunk::<4>() else {
            return Err(Error::input("truncated index"));
        };
        self.rest = rest;
        let number = i32::from_le_bytes(*word);
        usize::try_from(number).map_err(|_| Error::input(format!("index with a count of {number}")))
    }

    fn skip(&mut self, count: usize, each: usize) -> Result<()> {
        let rest = count.checked_mul(each).and_then(|n| self.rest.get(n..));
        match rest {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(Error::input(format!(
                "truncated index: {count} entries are missing"
            ))),
        }
    }

    fn references(
        &mut self,
        header: &Header,
        mut each: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let (found, expected) = (self.number()?, header.contigs.len());
        if found != expected {
            let what =
                format!("index does not match: it has {found} references, the header {expected}");
            return Err(Error::input(what));
        }
        for _ in 0..found {
            each(self)?;
        }
        match self.rest.len() {
            0 | 8 => Ok(()),
            n => Err(Error::input(format!("{n} bytes after the index"))),
        }
    }

    /// A contig's bins: their number and other fields of these sizes, then chunks.
    fn bins(&mut self, fields: &[usize]) -> Result<()> {
        // Of the pseudo-bin that holds counts, the second chunk is no place in the file.
        const COUNTS: [u32; 2] = [37_450, u32::MAX];
        for _ in 0..self.number()? {
            let id = self
                .rest
                .first_chunk::<4>()
                .map(|id| u32::from_le_bytes(*id));
            self.skip(fields.iter().sum(), 1)?;
            let chunks = self.number()?;
            let bytes = self.rest;
            self.skip(chunks, 16)?;
            let is_counts = fields.len() > 1 || id.is_some_and(|id| COUNTS.contains(&id));
            for chunk in bytes[..16 * chunks].chunks_exact(16) {
                let word = |at: usize| {
                    chunk[at..at + 8]
                        .iter()
                        .rev()
                        .fold(0u64, |n, &b| n << 8 | u64::from(b))
                };
                let (start, end) = (word(0), word(8));
                if !is_counts && (start > end || end >> 16 > self.file) {
                    return Err(Error::input(
                        "index does not match: it points beyond the file's end",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// What a parser or a query of an index says.
fn invalid(error: std::io::Error) -> Error {
    Error::input(format!("invalid index: {error}")).caused_by(error)
}
