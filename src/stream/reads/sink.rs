//! Rows of reads to tables, and to a BAM file with tags.

use super::rows::Partial;
use super::{Pool, ReadOutput, SourceRead};
use crate::error::Result;
use crate::io::alignments::{Placed, Writer, flag};
use crate::io::atomic::Written;
use crate::io::table_writer::Receipt;
use crate::stream::journal::Mark;
use crate::stream::output::TableOutput;
use crate::stream::pipeline::Sink;
use crate::table::{Alignment, ReadBases, ReadRow, ReadRows};
use std::sync::Arc;

/// The tags of a scored read in BAM: mean log-probability of a base, and perplexity.
const TAGS: [[u8; 2]; 2] = [*b"ll", *b"pp"];

/// Where reads go.
pub struct ReadSink {
    /// A row a read, if that is wanted.
    pub table: Option<TableOutput<ReadRows>>,
    /// A row a base, if that is wanted.
    pub bases: Option<TableOutput<ReadBases>>,
    /// The records with tags, if they are wanted.
    pub bam: Option<Writer>,
    /// The names of the contigs that reads are aligned to.
    pub contigs: Vec<Arc<str>>,
    /// How the vectors of a read became one; none: no vectors.
    pub pool: Option<Pool>,
    /// Reads that are stored as their reverse complement were read as they were sequenced.
    pub sequenced: bool,
}

/// What a finished run wrote.
pub struct ReadReceipts {
    /// The table of reads.
    pub table: Option<Receipt>,
    /// The table of bases.
    pub bases: Option<Receipt>,
    /// The BAM file.
    pub bam: Option<Written>,
    /// Rows whose vectors were cut to float16's largest number.
    pub clipped: u64,
}

impl Sink for ReadSink {
    type In = Vec<ReadOutput>;

    fn write(&mut self, outputs: Vec<ReadOutput>) -> Result<()> {
        let mut rows = Vec::new();
        for output in outputs {
            match output {
                ReadOutput::Record(read) => {
                    if let Some(bam) = &mut self.bam {
                        bam.write(&read.record, read.record.bytes())?;
                    }
                }
                ReadOutput::Row(read, partial) => {
                    self.write_record(&read, &partial)?;
                    rows.push(self.row(&read, &partial));
                }
                ReadOutput::Bases(read, from, codes, predictions) => {
                    let rows = self.bases_of(&read, from, codes, predictions);
                    if let Some(bases) = &mut self.bases {
                        bases.write(rows)?;
                    }
                }
            }
        }
        match &mut self.table {
            Some(table) => table.write(ReadRows(rows)),
            None => Ok(()),
        }
    }

    fn checkpoint(&mut self, mark: &mut Mark) -> Result<()> {
        if let Some(table) = &mut self.table {
            table.checkpoint(mark)?;
        }
        match &mut self.bases {
            Some(bases) => bases.checkpoint(mark),
            None => Ok(()),
        }
    }
}

impl ReadSink {
    fn write_record(&mut self, read: &SourceRead, partial: &Partial) -> Result<()> {
        let Some(bam) = &mut self.bam else {
            return Ok(());
        };
        if partial.scored == 0 {
            return bam.write(&read.record, read.record.bytes());
        }
        let mean = partial.sum / partial.scored as f64;
        let values = [mean as f32, (-mean).exp() as f32];
        let tags = [(TAGS[0], values[0]), (TAGS[1], values[1])];
        bam.write(&read.record, &read.record.with_tags(&tags))
    }

    fn row(&self, read: &SourceRead, partial: &Partial) -> ReadRow {
        let record = &read.record;
        let name = record.name();
        let alignment = match read.placed {
            Placed::At { contig, start, end } => Some(Alignment {
                chrom: Arc::clone(&self.contigs[contig]),
                start: start.cast_signed(),
                end: end.cast_signed(),
                reverse: record.has(flag::REVERSE),
            }),
            _ => None,
        };
        let vectors = self.pool.filter(|_| partial.bases > 0);
        ReadRow {
            index: read.index,
            name: (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned()),
            number: record.number(),
            flag: record.flag(),
            mapping_quality: alignment.as_ref().and(record.mapping_quality()),
            alignment,
            length: record.len() as u64,
            scored: partial.scored,
            ambiguous: partial.ambiguous,
            sum: partial.sum,
            said: partial.said.clone(),
            vector: vectors.map(|pool| partial.vector(Some(pool))),
            status: read.status(),
        }
    }

    /// Rows of a read's bases from `from` on.
    fn bases_of(
        &self,
        read: &SourceRead,
        from: usize,
        codes: Vec<u8>,
        predictions: Vec<f32>,
    ) -> ReadBases {
        let record = &read.record;
        let turned = self.sequenced && record.has(flag::REVERSE);
        // The base as stored that is the read's base `i`.
        let stored = |i: usize| if turned { record.len() - 1 - i } else { i };
        let positions = read.positions.get_or_init(|| match read.placed {
            Placed::At { .. } => record.reference_positions(),
            _ => vec![None; record.len()],
        });
        let range = || from..from + codes.len();
        let position = |i: usize| positions[stored(i)].map(u64::cast_signed);
        let quality = |i: usize| Some(record.qualities()[stored(i)]).filter(|&q| q != 255);
        let offset = |i: usize| i32::try_from(i).unwrap_or(i32::MAX);
        ReadBases {
            reads: vec![read.index; codes.len()],
            offsets: range().map(offset).collect(),
            positions: range().map(position).collect(),
            qualities: range().map(quality).collect(),
            bases: codes
                .iter()
                .map(|&code| crate::sequence::base(code))
                .collect(),
            predictions,
        }
    }

    /// Ends the files. `footers`: of the table of reads, and of the table of bases.
    ///
    /// # Errors
    /// Io.
    pub fn finish(self, footers: &[serde_json::Value; 2]) -> Result<ReadReceipts> {
        let clipped = self.table.as_ref().map_or(0, TableOutput::clipped);
        let bam = self.bam.map(Writer::finish).transpose()?;
        let bases = match self.bases {
            Some(table) => Some(table.finish(&footers[1])?),
            None => None,
        };
        let table = self.table.map(|table| table.finish(&footers[0]));
        Ok(ReadReceipts {
            table: table.transpose()?,
            bases,
            bam,
            clipped,
        })
    }
}
