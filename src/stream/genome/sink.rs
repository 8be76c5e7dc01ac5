//! Rows of a genome to their table, and to the files beside it.

use super::tracks::Tracks;
use crate::error::{Error, Kind, Result};
use crate::io::pileup::Depths;
use crate::io::table_writer::Receipt;
use crate::sequence::Contig;
use crate::stream::journal::Mark;
use crate::stream::output::TableOutput;
use crate::stream::pipeline::Sink;
use crate::table::{Batch, Positions};

/// Where rows of a genome go.
pub struct GenomeSink {
    /// The table, if it is wanted.
    pub table: Option<TableOutput<Positions>>,
    /// The files beside it.
    tracks: Tracks,
    /// Of a sample's own sequence, the reads at each position, in the order of the rows.
    depths: Option<Depths>,
    /// Rows without a table.
    rows: u64,
}

/// What a finished run wrote.
pub struct GenomeReceipt {
    /// The table, if it was wanted.
    pub table: Option<Receipt>,
    /// Rows whose vectors were cut to float16's largest number.
    pub clipped: u64,
    /// How many genes were written, if they were wanted.
    pub genes: Option<u64>,
}

impl GenomeSink {
    /// Rows go to these; `depths`: of a sample's own sequence, the reads at each position.
    pub fn new(
        table: Option<TableOutput<Positions>>,
        tracks: Tracks,
        depths: Option<Depths>,
    ) -> Self {
        Self {
            table,
            tracks,
            depths,
            rows: 0,
        }
    }

    /// Rows so far, those of a run that went on before among them.
    pub fn rows(&self) -> u64 {
        self.table.as_ref().map_or(self.rows, TableOutput::rows)
    }

    /// The mean depth of each row's positions.
    fn depths(&self, rows: &Positions) -> Result<Vec<f32>> {
        let Some(depths) = &self.depths else {
            return Ok(Vec::new());
        };
        let missing = || Error::new(Kind::Internal, "no depth for a position");
        let mean = |i: usize| {
            let mut sum = 0.0;
            for position in rows.starts[i]..rows.ends[i] {
                let depth = depths
                    .at(&rows.name, position.cast_unsigned())
                    .ok_or_else(missing)?;
                sum += f64::from(depth);
            }
            Ok((sum / (rows.ends[i] - rows.starts[i]) as f64) as f32)
        };
        (0..rows.len()).map(mean).collect()
    }

    /// Ends the table and the files beside it; `contigs`: those whose lengths are known.
    ///
    /// # Errors
    /// Io.
    pub fn finish(self, footer: &serde_json::Value, contigs: &[Contig]) -> Result<GenomeReceipt> {
        let clipped = self.table.as_ref().map_or(0, TableOutput::clipped);
        let genes = self.tracks.finish(contigs)?;
        let table = self.table.map(|table| table.finish(footer)).transpose()?;
        Ok(GenomeReceipt {
            table,
            clipped,
            genes,
        })
    }
}

impl Sink for GenomeSink {
    type In = Positions;

    fn write(&mut self, mut rows: Positions) -> Result<()> {
        self.rows += rows.len() as u64;
        self.tracks.write(&rows)?;
        rows.depth = self.depths(&rows)?;
        match &mut self.table {
            Some(table) => table.write(rows),
            None => Ok(()),
        }
    }

    fn checkpoint(&mut self, mark: &mut Mark) -> Result<()> {
        match &mut self.table {
            Some(table) => table.checkpoint(mark),
            None => Ok(()),
        }
    }
}
