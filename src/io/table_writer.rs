//! Parquet tables: named columns in, one self-describing file out.
//!
//! Rows are written in the order given. Memory holds one row group; the caller says where groups
//! end ([`TableWriter::close_group`]), and this module how they are encoded:
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
//! Everything is zstd-compressed. `chrom`, `start` and `end` carry a page index, so that a region
//! is read without the rest of the file.
//!
//! No `sorting_columns` are declared, though rows are sorted by contig order, then `start`: the
//! format can only say "sorted by the value of `chrom`", which for strings means alphabetically
//! (chr1, chr10, chr2), and a reader that trusted this would merge and search wrongly. Statistics
//! prune as well.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array,
    Int32Array, Int64Array, StringArray, UInt8Array, UInt16Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema};
use half::f16;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::atomic::AtomicFile;
use super::vector::{Element, VectorChunk};
use crate::error::{Error, Kind, Result};

/// Compression of the scalar columns: they are small, and level 3 is the best bargain.
const ZSTD_LEVEL: i32 = 3;

/// Names of reads that a row group's bloom filter is made for.
const BLOOM_ROWS: u64 = 1 << 16;

/// A column: its name and what its rows hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The name in the table.
    pub name: String,
    /// The type of its rows.
    pub kind: ColumnKind,
}

/// What the rows of a column hold. Only `Text` and those that say so can be NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// One of a few strings: `dictionary<int32, string>`.
    Words,
    /// The same, or NULL.
    OptionalWords,
    /// Any string, or NULL: `string`.
    Text,
    /// A coordinate: `int64`.
    I64,
    /// A coordinate, or NULL.
    OptionalI64,
    /// A count: `int32`.
    I32,
    /// Bits: `uint8`.
    U8,
    /// `uint8`, or NULL.
    OptionalU8,
    /// Bits: `uint16`.
    U16,
    /// `float32`.
    F32,
    /// `float32`, or NULL.
    OptionalF32,
    /// `float64`, or NULL.
    OptionalF64,
    /// `fixed_size_list<element>[dim]`, one vector a row.
    Vector {
        /// The type of the numbers.
        element: Element,
        /// How many of them a row has; at least 1.
        dim: usize,
    },
    /// The same, or NULL: slower to write, for tables of few rows.
    OptionalVector {
        /// The type of the numbers.
        element: Element,
        /// How many of them a row has; at least 1.
        dim: usize,
    },
}

/// The rows of one column in one [`write`](TableWriter::write).
#[derive(Clone, Debug)]
pub enum Values {
    /// Row i is `words[codes[i]]`.
    Words {
        /// Index into `words`, one a row.
        codes: Vec<i32>,
        /// The strings.
        words: Vec<String>,
    },
    /// For [`ColumnKind::OptionalWords`]: `None` is NULL.
    OptionalWords {
        /// Index into `words`, one a row.
        codes: Vec<Option<i32>>,
        /// The strings.
        words: Vec<String>,
    },
    /// For [`ColumnKind::Text`].
    Text(Vec<Option<String>>),
    /// For [`ColumnKind::I64`].
    I64(Vec<i64>),
    /// For [`ColumnKind::OptionalI64`].
    OptionalI64(Vec<Option<i64>>),
    /// For [`ColumnKind::I32`].
    I32(Vec<i32>),
    /// For [`ColumnKind::U8`].
    U8(Vec<u8>),
    /// For [`ColumnKind::OptionalU8`].
    OptionalU8(Vec<Option<u8>>),
    /// For [`ColumnKind::U16`].
    U16(Vec<u16>),
    /// For [`ColumnKind::F32`].
    F32(Vec<f32>),
    /// For [`ColumnKind::OptionalF32`]: `None` is NULL.
    OptionalF32(Vec<Option<f32>>),
    /// For [`ColumnKind::OptionalF64`].
    OptionalF64(Vec<Option<f64>>),
    /// For a vector of [`Element::F16`]: rows × dim, row-major.
    F16Vectors(Vec<f16>),
    /// For a vector of [`Element::F32`]: rows × dim, row-major.
    F32Vectors(Vec<f32>),
    /// For [`ColumnKind::OptionalVector`] of [`Element::F16`]: `values` are rows × dim, row-major,
    /// and those of a row that is not `present` are anything.
    OptionalF16Vectors {
        /// The numbers.
        values: Vec<f16>,
        /// One a row.
        present: Vec<bool>,
    },
    /// The same for [`Element::F32`].
    OptionalF32Vectors {
        /// The numbers.
        values: Vec<f32>,
        /// One a row.
        present: Vec<bool>,
    },
}

impl Values {
    /// `rows` times the same word.
    pub fn word(word: &str, rows: usize) -> Self {
        Self::Words {
            codes: vec![0; rows],
            words: vec![word.to_string()],
        }
    }
}

/// What a finished table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal: Parquet pages carry no checksum of their own.
    pub sha256: String,
}

/// Writes one table. Dropped before [`finish`](Self::finish), it leaves nothing behind.
///
/// ```
/// use crocuta::io::atomic::AtomicFile;
/// use crocuta::io::table_writer::{ColumnKind, ColumnSpec, TableWriter, Values};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("t.parquet");
/// let columns = [
///     ColumnSpec::new("chrom", ColumnKind::Words),
///     ColumnSpec::new("start", ColumnKind::I64),
/// ];
/// let mut table = TableWriter::create(AtomicFile::create(&path, false)?, &columns)?;
/// table.write(vec![Values::word("chr1", 3), Values::I64(vec![0, 1, 2])])?;
/// table.close_group()?;
/// let receipt = table.finish(&serde_json::json!({"version": "1.0.0"}))?;
/// assert_eq!(receipt.rows, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TableWriter {
    columns: Vec<ColumnSpec>,
    file: Arc<Mutex<AtomicFile>>,
    writer: SerializedFileWriter<Shared>,
    factory: ArrowRowGroupWriterFactory,
    group: Vec<ColumnWriter>,
    rows: u64,
}

/// The row group being filled, column by column.
enum ColumnWriter {
    Scalar(Arc<Field>, Box<ArrowColumnWriter>),
    Vector(VectorChunk),
}

/// The file as the Parquet writer sees it. That writer wraps a failure to hand the file back in a
/// text, without the operating system's error; so the file is never handed back, but shared.
pub(super) struct Shared(Arc<Mutex<AtomicFile>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.flush()
    }
}

impl ColumnSpec {
    /// A column called `name`.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Self {
        let name = name.into();
        Self { name, kind }
    }

    fn field(&self) -> Field {
        let words = || DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
        let data_type = match self.kind {
            ColumnKind::Words | ColumnKind::OptionalWords => words(),
            ColumnKind::Text => DataType::Utf8,
            ColumnKind::I64 | ColumnKind::OptionalI64 => DataType::Int64,
            ColumnKind::I32 => DataType::Int32,
            ColumnKind::U8 | ColumnKind::OptionalU8 => DataType::UInt8,
            ColumnKind::U16 => DataType::UInt16,
            ColumnKind::F32 | ColumnKind::OptionalF32 => DataType::Float32,
            ColumnKind::OptionalF64 => DataType::Float64,
            ColumnKind::Vector { element, dim } | ColumnKind::OptionalVector { element, dim } => {
                let item = match element {
                    Element::F16 => DataType::Float16,
                    Element::F32 => DataType::Float32,
                };
                let dim = i32::try_from(dim).unwrap_or(i32::MAX);
                DataType::FixedSizeList(Field::new("element", item, false).into(), dim)
            }
        };
        Field::new(&self.name, data_type, self.kind.is_optional())
    }
}

impl ColumnKind {
    /// The type in a footer: of a vector, that of its numbers.
    pub fn name(self) -> String {
        let name = match self {
            Self::Words | Self::OptionalWords | Self::Text => "string",
            Self::I64 | Self::OptionalI64 => "int64",
            Self::I32 => "int32",
            Self::U8 | Self::OptionalU8 => "uint8",
            Self::U16 => "uint16",
            Self::F32 | Self::OptionalF32 => "float32",
            Self::OptionalF64 => "float64",
            Self::Vector { element, .. } | Self::OptionalVector { element, .. } => element.name(),
        };
        name.to_string()
    }

    /// Numbers of a vector; none of a scalar.
    pub fn dim(self) -> Option<usize> {
        match self {
            Self::Vector { dim, .. } | Self::OptionalVector { dim, .. } => Some(dim),
            _ => None,
        }
    }

    /// Bytes of a row in memory.
    pub fn memory(self) -> u64 {
        match self {
            Self::Vector { element, dim } | Self::OptionalVector { element, dim } => {
                element.size() as u64 * dim as u64
            }
            Self::Text | Self::Words | Self::OptionalWords => 16,
            _ => 8,
        }
    }

    /// Bytes of a row in the file, about: scalars compress well, vectors hardly (measured on tables
    /// of real genomes).
    pub fn stored(self) -> f64 {
        match self {
            Self::Vector { element, dim } | Self::OptionalVector { element, dim } => {
                let each = match element {
                    Element::F16 => 1.9,
                    Element::F32 => 3.5,
                };
                each * dim as f64
            }
            Self::OptionalF32 | Self::F32 => 3.7,
            Self::OptionalF64 => 7.0,
            Self::Text => 12.0,
            _ => 0.2,
        }
    }

    /// Whether rows can be NULL.
    pub fn is_optional(self) -> bool {
        matches!(
            self,
            Self::OptionalWords
                | Self::Text
                | Self::OptionalI64
                | Self::OptionalU8
                | Self::OptionalF32
                | Self::OptionalF64
                | Self::OptionalVector { .. }
        )
    }
}

impl TableWriter {
    /// Starts a table of `columns` in `target`.
    ///
    /// # Errors
    /// `Io` if the disk refuses.
    pub fn create(target: AtomicFile, columns: &[ColumnSpec]) -> Result<Self> {
        let fields: Vec<Field> = columns.iter().map(ColumnSpec::field).collect();
        let zero_based = (ZERO_BASED_KEY.to_string(), "true".to_string());
        let zero_based = HashMap::from([zero_based]);
        let schema = Arc::new(Schema::new_with_metadata(fields, zero_based));
        let mut properties = properties(columns);
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let file = Arc::new(Mutex::new(target));
        let started = || {
            let root = ArrowSchemaConverter::new()
                .convert(&schema)?
                .root_schema_ptr();
            SerializedFileWriter::new(Shared(Arc::clone(&file)), root, Arc::new(properties))
        };
        let writer = started().map_err(|e| failed(&file, e))?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, schema);
        Ok(Self {
            columns: columns.to_vec(),
            file,
            writer,
            factory,
            group: Vec::new(),
            rows: 0,
        })
    }

    /// Appends rows: one [`Values`] for each column, in the order of the columns, all of the same
    /// number of rows.
    ///
    /// # Errors
    /// `Internal` if the values do not fit the columns.
    pub fn write(&mut self, batch: Vec<Values>) -> Result<()> {
        let rows = self.rows_of(&batch)?;
        if rows == 0 {
            return Ok(());
        }
        if self.group.is_empty() {
            self.group = self.open_group().map_err(|e| failed(&self.file, e))?;
        }
        for (writer, values) in self.group.iter_mut().zip(batch) {
            match writer {
                ColumnWriter::Vector(chunk) => match &values {
                    Values::F16Vectors(v) => chunk.push_f16(v),
                    Values::F32Vectors(v) => chunk.push_f32(v),
                    _ => return Err(mismatch("a vector column was given scalars")),
                },
                ColumnWriter::Scalar(field, writer) => {
                    let array = array(field, values)?;
                    let written = compute_leaves(field, &array)
                        .and_then(|leaves| leaves.iter().try_for_each(|leaf| writer.write(leaf)));
                    written.map_err(|e| failed(&self.file, e))?;
                }
            }
        }
        self.rows += rows as u64;
        Ok(())
    }

    /// Ends the row group: the rows since the last one go to the file. Without rows, nothing
    /// happens.
    ///
    /// # Errors
    /// `Io` if the disk refuses.
    pub fn close_group(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        if group.is_empty() {
            return Ok(());
        }
        let close = || {
            let mut out = self.writer.next_row_group()?;
            for column in group {
                match column {
                    ColumnWriter::Scalar(_, writer) => {
                        writer.close()?.append_to_row_group(&mut out)?;
                    }
                    ColumnWriter::Vector(chunk) => chunk.append_to(&mut out)?,
                }
            }
            out.close().map(drop)
        };
        close().map_err(|e| failed(&self.file, e))
    }

    /// Forgets the rows since the last group: they will be written again elsewhere.
    pub fn abandon_group(&mut self) {
        self.group.clear();
    }

    pub(super) fn parquet(&mut self) -> &mut SerializedFileWriter<Shared> {
        &mut self.writer
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
        let written = file
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .finish()?;
        Ok(Receipt {
            rows: self.rows,
            bytes: written.bytes,
            sha256: written.sha256,
        })
    }

    /// The rows of a batch, checked against the columns.
    fn rows_of(&self, batch: &[Values]) -> Result<usize> {
        if batch.len() != self.columns.len() {
            return Err(mismatch(
                "a batch has another number of columns than its table",
            ));
        }
        let mut rows = None;
        for (column, values) in self.columns.iter().zip(batch) {
            let n = match (column.kind, values) {
                (ColumnKind::Words, Values::Words { codes, .. }) => codes.len(),
                (ColumnKind::OptionalWords, Values::OptionalWords { codes, .. }) => codes.len(),
                (ColumnKind::Text, Values::Text(v)) => v.len(),
                (ColumnKind::I64, Values::I64(v)) => v.len(),
                (ColumnKind::OptionalI64, Values::OptionalI64(v)) => v.len(),
                (ColumnKind::I32, Values::I32(v)) => v.len(),
                (ColumnKind::U8, Values::U8(v)) => v.len(),
                (ColumnKind::OptionalU8, Values::OptionalU8(v)) => v.len(),
                (ColumnKind::U16, Values::U16(v)) => v.len(),
                (ColumnKind::F32, Values::F32(v)) => v.len(),
                (ColumnKind::OptionalF32, Values::OptionalF32(v)) => v.len(),
                (ColumnKind::OptionalF64, Values::OptionalF64(v)) => v.len(),
                (
                    ColumnKind::Vector {
                        element: Element::F16,
                        dim,
                    },
                    Values::F16Vectors(v),
                ) if v.len().is_multiple_of(dim) => v.len() / dim,
                (
                    ColumnKind::Vector {
                        element: Element::F32,
                        dim,
                    },
                    Values::F32Vectors(v),
                ) if v.len().is_multiple_of(dim) => v.len() / dim,
                (
                    ColumnKind::OptionalVector {
                        element: Element::F16,
                        dim,
                    },
                    Values::OptionalF16Vectors { values, present },
                ) if values.len() == dim * present.len() => present.len(),
                (
                    ColumnKind::OptionalVector {
                        element: Element::F32,
                        dim,
                    },
                    Values::OptionalF32Vectors { values, present },
                ) if values.len() == dim * present.len() => present.len(),
                _ => {
                    return Err(mismatch(format!(
                        "column {} was given other values",
                        column.name
                    )));
                }
            };
            if *rows.get_or_insert(n) != n {
                return Err(mismatch(format!(
                    "column {} has another length",
                    column.name
                )));
            }
        }
        Ok(rows.unwrap_or(0))
    }

    fn open_group(&self) -> Result<Vec<ColumnWriter>, ParquetError> {
        let index = self.writer.flushed_row_groups().len();
        let leaves = self.writer.schema_descr().columns();
        let scalars = self.factory.create_column_writers(index)?;
        let each = self.columns.iter().zip(leaves).zip(scalars);
        Ok(each
            .map(|((column, leaf), scalar)| match column.kind {
                ColumnKind::Vector { element, dim } => {
                    ColumnWriter::Vector(VectorChunk::new(Arc::clone(leaf), element, dim))
                }
                _ => ColumnWriter::Scalar(Arc::new(column.field()), Box::new(scalar)),
            })
            .collect())
    }
}

/// The footer key of our metadata.
pub const FOOTER_KEY: &str = "crocuta";
/// The key by which polars-bio and datafusion-bio know that `start` counts from 0.
pub const ZERO_BASED_KEY: &str = "bio.coordinate_system_zero_based";

fn properties(columns: &[ColumnSpec]) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default();
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("crocuta version {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for column in columns {
        let path = || ColumnPath::from(column.name.as_str());
        match column.kind {
            ColumnKind::I64 | ColumnKind::OptionalI64 | ColumnKind::I32 => {
                builder = builder
                    .set_column_dictionary_enabled(path(), false)
                    .set_column_encoding(path(), Encoding::DELTA_BINARY_PACKED);
            }
            ColumnKind::F32
            | ColumnKind::OptionalF32
            | ColumnKind::OptionalF64
            | ColumnKind::Text => {
                builder = builder.set_column_dictionary_enabled(path(), false);
            }
            ColumnKind::Words
            | ColumnKind::OptionalWords
            | ColumnKind::U8
            | ColumnKind::OptionalU8
            | ColumnKind::U16
            | ColumnKind::Vector { .. } => {}
            ColumnKind::OptionalVector { element, .. } => {
                let leaf =
                    || ColumnPath::from(vec![column.name.clone(), "list".into(), "element".into()]);
                builder = builder.set_column_dictionary_enabled(leaf(), false);
                if element == Element::F32 {
                    builder = builder.set_column_encoding(leaf(), Encoding::BYTE_STREAM_SPLIT);
                }
            }
        }
        if column.name == "read_name" {
            builder = builder.set_column_bloom_filter_enabled(path(), true);
            builder = builder.set_column_bloom_filter_max_ndv(path(), BLOOM_ROWS);
        }
        if matches!(column.name.as_str(), "chrom" | "start" | "end") {
            builder = builder.set_column_statistics_enabled(path(), EnabledStatistics::Page);
        }
    }
    builder.build()
}

fn array(field: &Field, values: Values) -> Result<ArrayRef> {
    let vectors = |values: ArrayRef, present: Vec<bool>| match field.data_type() {
        DataType::FixedSizeList(item, dim) => {
            let present = NullBuffer::from(present);
            FixedSizeListArray::try_new(Arc::clone(item), *dim, values, Some(present))
                .map_err(mismatch)
        }
        _ => Err(mismatch("a scalar column was given vectors")),
    };
    Ok(match values {
        Values::Words { codes, words } => {
            let words = Arc::new(StringArray::from(words));
            let built = DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), words);
            Arc::new(built.map_err(mismatch)?)
        }
        Values::OptionalWords { codes, words } => {
            let words = Arc::new(StringArray::from(words));
            let built = DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), words);
            Arc::new(built.map_err(mismatch)?)
        }
        Values::Text(v) => Arc::new(StringArray::from(v)),
        Values::I64(v) => Arc::new(Int64Array::from(v)),
        Values::OptionalI64(v) => Arc::new(Int64Array::from(v)),
        Values::I32(v) => Arc::new(Int32Array::from(v)),
        Values::U8(v) => Arc::new(UInt8Array::from(v)),
        Values::OptionalU8(v) => Arc::new(UInt8Array::from(v)),
        Values::U16(v) => Arc::new(UInt16Array::from(v)),
        Values::F32(v) => Arc::new(Float32Array::from(v)),
        Values::OptionalF32(v) => Arc::new(Float32Array::from(v)),
        Values::OptionalF64(v) => Arc::new(Float64Array::from(v)),
        Values::OptionalF16Vectors { values, present } => {
            Arc::new(vectors(Arc::new(Float16Array::from(values)), present)?)
        }
        Values::OptionalF32Vectors { values, present } => {
            Arc::new(vectors(Arc::new(Float32Array::from(values)), present)?)
        }
        Values::F16Vectors(_) | Values::F32Vectors(_) => {
            return Err(mismatch("a scalar column was given vectors"));
        }
    })
}

fn mismatch(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("table: {what}"))
}

/// A Parquet error is the operating system's if it holds one, else ours.
fn failed(file: &Mutex<AtomicFile>, error: ParquetError) -> Error {
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
