//! Parquet tables: named columns in, one self-describing file out.
//!
//! Rows are written in the order given. The caller says where groups end
//! ([`TableWriter::close_group`]), and this module how they are encoded. Memory holds the open row
//! group and up to two others that are being encoded by all threads, columns and pages side by side,
//! while the one before them goes to the file; two threads more write that file and sum it. A group's
//! bytes depend on its rows alone, not on the batches in which they came, nor on the threads:
//!
//! | column | encoding |
//! |---|---|
//! | words (`chrom`, `strand`, `base`) | dictionary |
//! | `Text` (names of reads) | PLAIN |
//! | `I64`, `I32` | DELTA_BINARY_PACKED |
//! | `U8`, `U16` | dictionary |
//! | float scalars | PLAIN |
//! | vectors | see [`super::vector`] |
//!
//! Columns are compressed as [`Compression`] says. `chrom`, `start` and `end` carry a page index, so
//! that a region is read without the rest of the file.
//!
//! No `sorting_columns` are declared, though rows are sorted by contig order, then `start`: the
//! format can only say "sorted by the value of `chrom`", which for strings means alphabetically
//! (chr1, chr10, chr2), and a reader that trusted this would merge and search wrongly. Statistics
//! prune as well.

mod behind;
mod columns;
mod encoding;

pub use columns::{ColumnKind, ColumnSpec, Values};

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat;
use arrow_select::dictionary::garbage_collect_any_dictionary;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;
use rayon::prelude::*;

use super::atomic::AtomicFile;
use super::chunks::Chunks;
use super::compression::Compression;
use super::vector::{EncodedVectors, VectorChunk};
use crate::error::{Error, Kind, Result};
use behind::Behind;
use columns::rows_of;
pub(super) use encoding::array;
use encoding::properties;

/// Row groups that are encoded while others are written, at most.
const AHEAD: usize = 2;

/// What a finished table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal, where it was summed: Parquet pages carry no checksum
    /// of their own.
    pub sha256: Option<String>,
}

/// Writes one table. Dropped before [`finish`](Self::finish), it leaves nothing behind.
///
/// ```
/// use crocuta::io::atomic::AtomicFile;
/// use crocuta::io::compression::Compression;
/// use crocuta::io::table_writer::{ColumnKind, ColumnSpec, TableWriter, Values};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("t.parquet");
/// let columns = [
///     ColumnSpec::new("chrom", ColumnKind::Words),
///     ColumnSpec::new("start", ColumnKind::I64),
/// ];
/// let file = AtomicFile::create(&path, false)?;
/// let mut table = TableWriter::create(file, &columns, Compression::default())?;
/// table.write(vec![Values::word("chr1", 3), Values::I64(vec![0, 1, 2])])?;
/// table.close_group()?;
/// let receipt = table.finish(&serde_json::json!({"version": "1.0.0"}))?;
/// assert_eq!(receipt.rows, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableWriter {
    columns: Vec<ColumnSpec>,
    compression: Compression,
    file: Arc<Mutex<Behind>>,
    refused: Arc<AtomicBool>,
    writer: SerializedFileWriter<Shared>,
    factory: ArrowRowGroupWriterFactory,
    group: Vec<OpenColumn>,
    /// Groups that are being encoded, in their order.
    encoding: VecDeque<Receiver<thread::Result<EncodedGroup>>>,
    rows: u64,
}

/// A column of the row group being filled.
enum OpenColumn {
    /// Its rows as they came: where pages end depends on how rows are given to the encoder.
    Scalar(Arc<Field>, Vec<ArrayRef>),
    Vector(Box<VectorChunk>),
}

/// A row group, all of whose columns are encoded.
type EncodedGroup = Result<Vec<EncodedColumn>, ParquetError>;

enum EncodedColumn {
    Scalar(Box<ArrowColumnChunk>),
    Vector(Box<EncodedVectors>),
}

/// The file as the Parquet writer sees it. That writer wraps a failure to hand the file back in a
/// text, without the operating system's error; so the file is never handed back, but shared. Nor
/// does that writer say whether a copy failed at reading or at writing: here it is known.
pub(super) struct Shared {
    file: Arc<Mutex<Behind>>,
    refused: Arc<AtomicBool>,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut Behind) -> io::Result<T>) -> io::Result<T> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut file).inspect_err(|_| self.refused.store(true, Ordering::Relaxed))
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.with(Behind::flush)
    }
}

impl TableWriter {
    /// Starts a table of `columns` in `target`.
    ///
    /// # Errors
    /// `Io` if the disk refuses.
    pub fn create(
        target: AtomicFile,
        columns: &[ColumnSpec],
        compression: Compression,
    ) -> Result<Self> {
        let fields: Vec<Field> = columns.iter().map(ColumnSpec::field).collect();
        let zero_based = (ZERO_BASED_KEY.to_string(), "true".to_string());
        let zero_based = HashMap::from([zero_based]);
        let schema = Arc::new(Schema::new_with_metadata(fields, zero_based));
        let mut properties = properties(columns, compression);
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let file = Arc::new(Mutex::new(Behind::new(target)));
        let refused = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            file: Arc::clone(&file),
            refused: Arc::clone(&refused),
        };
        let started = || {
            let root = ArrowSchemaConverter::new()
                .convert(&schema)?
                .root_schema_ptr();
            SerializedFileWriter::new(shared, root, Arc::new(properties))
        };
        let writer = started().map_err(|e| failed(&file, e))?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, schema);
        Ok(Self {
            columns: columns.to_vec(),
            compression,
            file,
            refused,
            writer,
            factory,
            group: Vec::new(),
            encoding: VecDeque::new(),
            rows: 0,
        })
    }

    /// Appends rows: one [`Values`] for each column, in the order of the columns, all of the same
    /// number of rows.
    ///
    /// # Errors
    /// `Internal` if the values do not fit the columns.
    pub fn write(&mut self, batch: Vec<Values>) -> Result<()> {
        let arrays = arrays(&self.columns, batch)?;
        self.write_arrays(&arrays)
    }

    /// Appends rows as arrays of the columns' types, in the order of the columns.
    ///
    /// # Errors
    /// `Internal` if they are of other types.
    pub fn write_arrays(&mut self, arrays: &[ArrayRef]) -> Result<()> {
        let types = self.columns.iter().map(|column| column.field());
        let fits = arrays.len() == self.columns.len()
            && types
                .zip(arrays)
                .all(|(field, array)| field.data_type() == array.data_type());
        if !fits {
            return Err(mismatch("arrays of other columns"));
        }
        let rows = arrays.first().map_or(0, |array| array.len());
        if rows == 0 {
            return Ok(());
        }
        self.open_group();
        for (column, array) in self.group.iter_mut().zip(arrays) {
            match column {
                OpenColumn::Scalar(_, arrays) => arrays.push(without_other_words(array)?),
                OpenColumn::Vector(chunk) => {
                    let values = array.as_fixed_size_list().values();
                    match values.data_type() {
                        DataType::Float16 => {
                            let values = values.as_primitive::<Float16Type>().values();
                            chunk.push(values.inner().clone());
                        }
                        _ => {
                            let values = values.as_primitive::<Float32Type>().values();
                            chunk.push(values.inner().clone());
                        }
                    }
                }
            }
        }
        self.rows += rows as u64;
        Ok(())
    }

    /// Ends the row group: the rows since the last one are encoded, and go to the file in time.
    /// Without rows, nothing happens.
    ///
    /// # Errors
    /// `Io` if the disk refuses, this group or one before.
    pub fn close_group(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return Ok(());
        }
        let index = self.writer.flushed_row_groups().len() + self.encoding.len();
        let writers = self.factory.create_column_writers(index);
        let writers = writers.map_err(|e| failed(&self.file, e))?;
        let columns: Vec<_> = group.into_iter().zip(writers).collect();
        let (done, encoded) = sync_channel(1);
        let encode = move || {
            let columns = columns.into_par_iter();
            let encoded = columns.map(|(column, to)| column.encode(to));
            let encoded = catch_unwind(AssertUnwindSafe(|| encoded.collect()));
            // Nobody waits for it after an error.
            let _ = done.send(encoded);
        };
        if rayon::current_thread_index().is_some() {
            // One of the threads itself, perhaps the only one, would wait for them.
            encode();
        } else {
            rayon::spawn(encode);
        }
        self.encoding.push_back(encoded);
        self.write_groups(AHEAD)
    }

    /// Writes encoded groups until so many are left.
    pub(super) fn write_groups(&mut self, left: usize) -> Result<()> {
        while self.encoding.len() > left {
            let Some(group) = self.encoding.pop_front() else {
                break;
            };
            let group = group.recv().map_err(mismatch)?;
            let group = group.unwrap_or_else(|panic| resume_unwind(panic));
            let write = || {
                let mut out = self.writer.next_row_group()?;
                for column in group? {
                    match column {
                        EncodedColumn::Scalar(chunk) => chunk.append_to_row_group(&mut out)?,
                        EncodedColumn::Vector(chunk) => chunk.append_to(&mut out)?,
                    }
                }
                out.close().map(drop)
            };
            write().map_err(|e| failed(&self.file, e))?;
        }
        Ok(())
    }

    /// Forgets the rows since the last group: they will be written again elsewhere.
    pub fn abandon_group(&mut self) {
        self.group.clear();
    }

    pub(super) fn parquet(&mut self) -> &mut SerializedFileWriter<Shared> {
        &mut self.writer
    }

    /// The error of a copy from `path`, which names the file that is at fault.
    pub(super) fn copy_failed(&self, from: (&Path, &Chunks), error: ParquetError) -> Error {
        if self.refused.load(Ordering::Relaxed) {
            return failed(&self.file, error);
        }
        let (path, file) = from;
        file.error(path, error).place("while its rows are copied")
    }

    pub(super) fn count(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Ends the table, writes `footer` under the key `crocuta`, and gives the file its name.
    ///
    /// # Errors
    /// As [`AtomicFile::finish`]; the target is then absent or unchanged.
    pub fn finish(mut self, footer: &serde_json::Value) -> Result<Receipt> {
        self.close_group()?;
        self.write_groups(0)?;
        for (key, value) in [
            (FOOTER_KEY, footer.to_string()),
            (ZERO_BASED_KEY, "true".into()),
        ] {
            self.writer
                .append_key_value_metadata(KeyValue::new(key.to_string(), value));
        }
        self.writer.finish().map_err(|e| failed(&self.file, e))?;
        drop(self.writer);
        let file = Arc::into_inner(self.file)
            .ok_or_else(|| Error::new(Kind::Internal, "the table's file is still in use"))?;
        let file = file.into_inner().unwrap_or_else(PoisonError::into_inner);
        let name = file.name().to_path_buf();
        let file = file.finish().map_err(|e| Error::io(&name, &e))?;
        let written = file.finish()?;
        Ok(Receipt {
            rows: self.rows,
            bytes: written.bytes,
            sha256: written.sha256,
        })
    }

    fn open_group(&mut self) {
        if !self.group.is_empty() {
            return;
        }
        let leaves = self.writer.schema_descr().columns();
        let open = |(column, leaf): (&ColumnSpec, &_)| match column.kind {
            ColumnKind::Vector { element, dim } => {
                let leaf = Arc::clone(leaf);
                let chunk = VectorChunk::new(leaf, (element, dim), self.compression);
                OpenColumn::Vector(Box::new(chunk))
            }
            _ => OpenColumn::Scalar(Arc::new(column.field()), Vec::new()),
        };
        self.group = self.columns.iter().zip(leaves).map(open).collect();
    }
}

impl OpenColumn {
    fn encode(self, mut to: ArrowColumnWriter) -> Result<EncodedColumn, ParquetError> {
        match self {
            Self::Vector(chunk) => Ok(EncodedColumn::Vector(Box::new(chunk.encode()?))),
            Self::Scalar(field, arrays) => {
                let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
                for leaf in compute_leaves(&field, &concat(&arrays)?)? {
                    to.write(&leaf)?;
                }
                to.close()
                    .map(|chunk| EncodedColumn::Scalar(Box::new(chunk)))
            }
        }
    }
}

/// The rows of a batch, one [`Values`] for each column, as arrays without a copy: slices of them may
/// go to several row groups.
///
/// # Errors
/// `Internal` if the values do not fit the columns.
pub fn arrays(columns: &[ColumnSpec], batch: Vec<Values>) -> Result<Vec<ArrayRef>> {
    rows_of(columns, &batch)?;
    let columns = columns.par_iter().zip(batch);
    columns
        .map(|(column, values)| array(&column.field(), values))
        .collect()
}

/// A slice of a column of words has all words of the column, perhaps more than rows: many slices
/// would hold as many copies.
fn without_other_words(array: &ArrayRef) -> Result<ArrayRef> {
    match array.as_any_dictionary_opt() {
        Some(words) if words.values().len() > array.len() => {
            garbage_collect_any_dictionary(words).map_err(mismatch)
        }
        _ => Ok(Arc::clone(array)),
    }
}

/// The footer key of our metadata.
pub const FOOTER_KEY: &str = "crocuta";
/// The key by which polars-bio and datafusion-bio know that `start` counts from 0.
pub const ZERO_BASED_KEY: &str = "bio.coordinate_system_zero_based";

fn mismatch(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("table: {what}"))
}

/// A Parquet error is the operating system's if it holds one, else ours.
fn failed(file: &Mutex<Behind>, error: ParquetError) -> Error {
    let file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let source = match &error {
        ParquetError::External(source) => source.downcast_ref::<io::Error>(),
        _ => None,
    };
    match source {
        Some(source) => Error::io(file.name(), source),
        None => Error::new(Kind::Internal, &error).file(file.name().display()),
    }
}

#[cfg(test)]
mod tests;
