//! What a head says of whole sequences, to a table of its own.

use super::ReadOutput;
use crate::error::Result;
use crate::io::table_writer::Receipt;
use crate::stream::journal::Mark;
use crate::stream::output::TableOutput;
use crate::stream::pipeline::Sink;
use crate::table::{SequenceRow, SequenceRows};

/// Where sequences go: a row each.
pub struct SequenceSink {
    /// The table.
    pub table: TableOutput<SequenceRows>,
}

impl Sink for SequenceSink {
    type In = Vec<ReadOutput>;

    fn write(&mut self, outputs: Vec<ReadOutput>) -> Result<()> {
        let row = |output| match output {
            ReadOutput::Row(read, partial) => {
                let name = read.record.name();
                let name = String::from_utf8_lossy(name).into_owned();
                Some(SequenceRow {
                    index: read.index,
                    name: (!name.is_empty()).then_some(name),
                    length: read.record.len() as u64,
                    ambiguous: partial.ambiguous,
                    said: partial.said,
                })
            }
            ReadOutput::Record(_) | ReadOutput::Bases(..) => None,
        };
        let rows = outputs.into_iter().filter_map(row);
        self.table.write(SequenceRows(rows.collect()))
    }

    fn checkpoint(&mut self, mark: &mut Mark) -> Result<()> {
        self.table.checkpoint(mark)
    }
}

impl SequenceSink {
    /// Ends the table.
    ///
    /// # Errors
    /// Io.
    pub fn finish(self, footer: &serde_json::Value) -> Result<Receipt> {
        self.table.finish(footer)
    }
}
