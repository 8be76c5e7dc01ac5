//! Rows to a table, in row groups that start where a reader can compute; whole, or in the parts
//! of a run that can be resumed.

use super::journal::{Journal, Mark, load, store};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::compression::Compression;
use crate::io::table_writer::{ColumnKind, Receipt, TableWriter, arrays};
use crate::io::vector::Element;
use crate::table::{Batch, Column, Groups, specs};
use arrow_array::ArrayRef;
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// Writes batches of rows to a table.
pub struct TableOutput<B> {
    columns: Vec<Column<B>>,
    writer: TableWriter,
    compression: Compression,
    groups: Groups,
    /// Rows so far, those of earlier runs among them.
    rows: u64,
    /// Vectors are float16: larger numbers are cut.
    halves: bool,
    clipped: u64,
    /// Bytes that the table may take, and bytes of a row.
    largest: Option<(u64, u64)>,
    parts: Option<Parts<B>>,
}

/// A table in parts.
struct Parts<B> {
    /// Its name in the journal.
    name: &'static str,
    directory: PathBuf,
    /// Checkpoints so far: the open part is the next one.
    checkpoints: u64,
    target: AtomicFile,
    /// Rows of the open group, as they were written.
    pending: Vec<B>,
}

/// Carried from a checkpoint to the run that goes on there.
#[derive(serde::Deserialize)]
#[serde(bound = "B: DeserializeOwned")]
struct Rest<B> {
    rows: u64,
    clipped: u64,
    pending: Vec<B>,
}

/// The same by reference.
#[derive(Serialize)]
struct RestOf<'a, B> {
    rows: u64,
    clipped: u64,
    pending: &'a [B],
}

impl<B: Batch> TableOutput<B> {
    /// Writes a table of these columns to `target`, in these row groups, so compressed.
    ///
    /// # Errors
    /// Io.
    pub fn create(
        target: AtomicFile,
        columns: Vec<Column<B>>,
        (groups, compression): (Groups, Compression),
    ) -> Result<Self> {
        let writer = TableWriter::create(target, &specs(&columns), compression)?;
        Ok(Self::new(columns, writer, (groups, compression)))
    }

    fn new(
        columns: Vec<Column<B>>,
        writer: TableWriter,
        (groups, compression): (Groups, Compression),
    ) -> Self {
        let half = |column: &Column<B>| {
            matches!(
                column.spec.kind,
                ColumnKind::Vector {
                    element: Element::F16,
                    ..
                } | ColumnKind::OptionalVector {
                    element: Element::F16,
                    ..
                }
            )
        };
        Self {
            halves: columns.iter().any(half),
            columns,
            writer,
            compression,
            groups,
            rows: 0,
            clipped: 0,
            largest: None,
            parts: None,
        }
    }

    /// Refuses to grow beyond so many bytes, of about `row` each.
    #[must_use]
    pub fn at_most(mut self, largest: Option<u64>, row: u64) -> Self {
        self.largest = largest.map(|bytes| (bytes, row));
        self
    }

    /// Its columns.
    pub fn columns(&self) -> &[Column<B>] {
        &self.columns
    }

    /// Rows so far, those of earlier runs among them.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows whose vectors were cut to float16's largest number.
    pub fn clipped(&self) -> u64 {
        self.clipped
    }

    /// Appends rows.
    ///
    /// # Errors
    /// Io; Usage, if the table grows beyond what it may.
    pub fn write(&mut self, mut batch: B) -> Result<()> {
        self.rows += batch.len() as u64;
        if let Some((largest, row)) = self.largest
            && self.rows.saturating_mul(row) > largest
        {
            let what = "the table is becoming larger than --max-output";
            return Err(Error::usage(what));
        }
        let (halves, columns) = (self.halves, &self.columns);
        // In one go: what comes to the threads from outside waits until they have nothing else to do.
        let (clipped, arrays) = rayon::scope(|_| {
            let clipped = if halves { batch.clip() } else { 0 };
            (clipped, filled(columns, &batch))
        });
        self.clipped += clipped;
        self.put(batch, &arrays?)
    }

    /// Writes a batch, whose columns are these arrays, cut where row groups end.
    fn put(&mut self, mut batch: B, arrays: &[ArrayRef]) -> Result<()> {
        let (mut cuts, mut row, mut open, mut ends) = (Vec::new(), 0, 0, false);
        while row < batch.len() {
            let rows = batch.fit(row, &mut self.groups);
            if rows == 0 {
                self.groups.end();
                (open, ends) = (row, true);
            } else {
                cuts.push((row, rows, std::mem::take(&mut ends)));
                row += rows;
            }
        }
        let pending = self.parts.is_some().then(|| batch.split_off(open));
        drop(batch);
        for (row, rows, ends) in cuts {
            if ends {
                self.close_group()?;
            }
            let rows: Vec<_> = arrays.iter().map(|array| array.slice(row, rows)).collect();
            self.writer.write_arrays(&rows)?;
        }
        if let Some(parts) = &mut self.parts {
            parts.pending.extend(pending);
        }
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        self.writer.close_group()?;
        if let Some(parts) = &mut self.parts {
            parts.pending.clear();
        }
        Ok(())
    }

    /// Ends the table.
    ///
    /// # Errors
    /// Io.
    pub fn finish(mut self, footer: &serde_json::Value) -> Result<Receipt> {
        self.close_group()?;
        let Some(parts) = self.parts else {
            return self.writer.finish(footer);
        };
        self.writer.finish(&serde_json::Value::Null)?;
        let mut table = TableWriter::create(parts.target, &specs(&self.columns), self.compression)?;
        for number in 1..=parts.checkpoints + 1 {
            table.append(&part(&parts.directory, parts.name, number))?;
        }
        table.finish(footer)
    }
}

impl<B: Batch + Serialize + DeserializeOwned> TableOutput<B> {
    /// The same in the parts of a journal, where the table is called `name`: from the last
    /// checkpoint on.
    ///
    /// # Errors
    /// Io.
    pub fn resume(
        target: AtomicFile,
        columns: Vec<Column<B>>,
        (groups, compression): (Groups, Compression),
        journal: &Journal,
        name: &'static str,
    ) -> Result<Self> {
        let (directory, checkpoints) = (journal.directory().to_path_buf(), journal.checkpoints());
        let first = AtomicFile::create(&part(&directory, name, checkpoints + 1), true)?;
        let writer = TableWriter::create(first, &specs(&columns), compression)?;
        let mut output = Self::new(columns, writer, (groups, compression));
        output.parts = Some(Parts {
            name,
            directory,
            checkpoints,
            target,
            pending: Vec::new(),
        });
        let mut rest = None;
        journal.restore(&pending(name), &mut |file| {
            rest = Some(load::<Rest<B>>(file)?);
            Ok(())
        })?;
        if let Some(rest) = rest {
            (output.rows, output.clipped) = (rest.rows, rest.clipped);
            for batch in rest.pending {
                let arrays = filled(&output.columns, &batch)?;
                output.put(batch, &arrays)?;
            }
        }
        Ok(output)
    }

    /// Ends a part: its finished groups and the rows after them are in the checkpoint then.
    ///
    /// # Errors
    /// Io.
    pub fn checkpoint(&mut self, mark: &mut Mark) -> Result<()> {
        let Some(parts) = &mut self.parts else {
            return Ok(());
        };
        let path = |number| part(&parts.directory, parts.name, number);
        let done = path(mark.number());
        let next = AtomicFile::create(&path(mark.number() + 1), true)?;
        let next = TableWriter::create(next, &specs(&self.columns), self.compression)?;
        let mut finished = std::mem::replace(&mut self.writer, next);
        finished.abandon_group();
        let receipt = finished.finish(&serde_json::Value::Null)?;
        mark.keep(&done, receipt.sha256)?;
        let waiting = std::mem::take(&mut parts.pending);
        let rest = RestOf {
            rows: self.rows,
            clipped: self.clipped,
            pending: &waiting,
        };
        mark.store(&pending(parts.name), &mut |file| store(&rest, file))?;
        parts.checkpoints = mark.number();
        self.groups.end();
        for batch in waiting {
            let arrays = filled(&self.columns, &batch)?;
            self.put(batch, &arrays)?;
        }
        Ok(())
    }
}

/// The columns of a batch.
fn filled<B: Batch>(columns: &[Column<B>], batch: &B) -> Result<Vec<ArrayRef>> {
    let values = columns.par_iter().map(|column| column.fill(batch));
    arrays(&specs(columns), values.collect())
}

fn part(directory: &Path, name: &str, number: u64) -> PathBuf {
    directory.join(format!("{name}.part-{number}"))
}

fn pending(name: &str) -> String {
    format!("{name}.pending")
}
