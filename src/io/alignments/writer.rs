//! BAM out, with its index if the records come in the order of coordinates.

use super::header::Header;
use super::record::{Record, flag};
use crate::error::{Error, Kind, Result};
use crate::io::atomic::{AtomicFile, Written};
use noodles::bam;
use noodles::bgzf::io::Writer as Bgzf;
use noodles::core::Position;
use noodles::csi::binning_index::Indexer;
use noodles::csi::binning_index::index::reference_sequence::bin::Chunk;
use noodles::csi::binning_index::index::reference_sequence::index::LinearIndex;
use std::io::Write;

/// `.bai` can speak of contigs of so many bases.
const MAX_INDEXED: u64 = 1 << 29;

/// Writes BAM.
///
/// Memory: one block, and the index (under 100 MB for a human genome).
pub struct Writer {
    bgzf: Bgzf<AtomicFile>,
    index: Option<(AtomicFile, Indexer<LinearIndex>)>,
    contigs: usize,
}

impl Writer {
    /// Starts a file with this header; `source`: what it is made with. With `index`, that is written too, as `.bai`, if the
    /// header says that records are sorted and its contigs are short enough.
    pub fn create(
        target: AtomicFile,
        index: Option<AtomicFile>,
        header: &Header,
        source: &str,
    ) -> Result<Self> {
        let fits = header
            .contigs
            .iter()
            .all(|contig| contig.length <= MAX_INDEXED);
        let index = if header.is_sorted() && fits {
            index
        } else {
            if let Some(file) = index {
                file.withdraw();
            }
            None
        };
        let mut writer = Self {
            bgzf: Bgzf::new(target),
            index: index.map(|file| (file, Indexer::default())),
            contigs: header.contigs.len(),
        };
        let header = header.to_bam(&header.with_program(source));
        writer.put(&header)?;
        // Records start in a block of their own, as samtools has it.
        writer.bgzf.flush().map_err(|e| writer.failed(&e))?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bgzf.write_all(bytes).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &std::io::Error) -> Error {
        Error::io(self.bgzf.get_ref().name(), error)
    }

    /// Appends a record: `bytes` are those of `record`, but for its tags.
    ///
    /// # Errors
    /// Input, when its name is longer than BAM can hold.
    pub fn write(&mut self, record: &Record, bytes: &[u8]) -> Result<()> {
        if record.has_long_name() {
            let what = format!(
                "a read's name of {} bytes: BAM holds 254",
                record.name().len()
            );
            let todo = "shorten the names, or leave out --bam-out";
            return Err(Error::input(what).todo(todo));
        }
        let start = self.bgzf.virtual_position();
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put(&size.to_le_bytes())?;
        self.put(bytes)?;
        let chunk = Chunk::new(start, self.bgzf.virtual_position());
        if let Some((_, index)) = &mut self.index
            && let Err(why) = add(index, record, chunk, self.contigs)
        {
            tracing::warn!("the tagged BAM gets no index: {why}");
            if let Some((file, _)) = self.index.take() {
                file.withdraw();
            }
        }
        Ok(())
    }

    /// Closes the file, and its index.
    pub fn finish(self) -> Result<Written> {
        let name = self.bgzf.get_ref().name().to_path_buf();
        let file = self.bgzf.finish().map_err(|e| Error::io(&name, &e))?;
        let written = file.finish()?;
        if let Some((mut file, index)) = self.index {
            let index = index.build(self.contigs);
            let mut writer = bam::bai::io::Writer::new(Vec::new());
            let built = writer.write_index(&index);
            built.map_err(|e| Error::because(Kind::Internal, e).file(file.name().display()))?;
            let put = file.write_all(&writer.into_inner());
            put.map_err(|e| Error::io(file.name(), &e))?;
            file.finish()?;
        }
        Ok(written)
    }
}

/// Adds a record to the index.
fn add(
    index: &mut Indexer<LinearIndex>,
    record: &Record,
    chunk: Chunk,
    contigs: usize,
) -> Result<(), String> {
    let Some((contig, start)) = record.position() else {
        return index.add_record(None, chunk).map_err(|e| e.to_string());
    };
    if contig >= contigs {
        return Err("a record lies on no contig of the header".to_string());
    }
    let position = |at: u64| Position::try_from(at as usize).map_err(|e| e.to_string());
    let (start, end) = (position(start + 1)?, position(start + record.span())?);
    let is_mapped = !record.has(flag::UNMAPPED);
    let context = Some((contig, start, end, is_mapped));
    index.add_record(context, chunk).map_err(|e| e.to_string())
}
