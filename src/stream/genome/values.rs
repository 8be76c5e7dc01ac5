//! Tracks of values: one number of the rows, on one strand.

use crate::error::Result;
use crate::io::{bedgraph, bigwig};
use crate::sequence::Contig;
use crate::table::{Batch, Positions};
use std::sync::Arc;

/// A file of values.
pub enum ValueFile {
    /// For genome browsers.
    BigWig(Box<bigwig::Writer>),
    /// Text.
    BedGraph(Box<bedgraph::Writer>),
}

/// One number of the rows, written to a file. Rows come in the order of the reference; NaN leaves a
/// gap.
pub struct ValueTrack {
    file: ValueFile,
    /// Which number.
    place: usize,
    /// `+` or `-`: only rows of that strand.
    strand: Option<u8>,
    contig: Option<Arc<str>>,
}

impl ValueTrack {
    /// Writes the number at `place` of rows of a strand, or of all, to `file`.
    pub fn new(file: ValueFile, place: usize, strand: Option<u8>) -> Self {
        Self {
            file,
            place,
            strand,
            contig: None,
        }
    }

    /// Takes rows.
    pub(super) fn write(&mut self, rows: &Positions) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        if self.contig.as_ref() != Some(&rows.name) {
            self.contig = Some(Arc::clone(&rows.name));
            if let ValueFile::BigWig(writer) = &mut self.file {
                writer.begin(&rows.name)?;
            }
        }
        let width = rows.width();
        for i in 0..rows.len() {
            if self.strand.is_some_and(|strand| strand != rows.strands[i]) {
                continue;
            }
            let (start, end) = (rows.starts[i].cast_unsigned(), rows.ends[i].cast_unsigned());
            let value = rows.values[i * width + self.place];
            match &mut self.file {
                ValueFile::BigWig(writer) => writer.push(start, end, value)?,
                ValueFile::BedGraph(writer) => writer.push(&rows.name, start, end, value)?,
            }
        }
        Ok(())
    }

    /// Ends the file; `contigs`: those whose lengths are known.
    pub(super) fn finish(self, contigs: &[Contig]) -> Result<()> {
        match self.file {
            ValueFile::BigWig(mut writer) => {
                for Contig { name, length } in contigs {
                    writer.length(name, *length);
                }
                writer.finish().map(drop)
            }
            ValueFile::BedGraph(writer) => writer.finish().map(drop),
        }
    }
}
