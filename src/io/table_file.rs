//! A finished table, open: what its footer says, and its rows a row group at a time.

use crate::error::{Error, Result};
use crate::io::chunks::Chunks;
use crate::io::input::is_stdin;
use crate::io::panics::contain;
use crate::io::row_groups;
use crate::io::table_writer::FOOTER_KEY;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type};
use arrow_array::{Array, DictionaryArray, RecordBatch, StringArray};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The bytes with which a Parquet file begins and ends.
const MAGIC: &[u8; 4] = b"PAR1";

/// Gives the number of a row, or none where it is NULL or not a number.
pub type Numbers<'a> = Box<dyn Fn(usize) -> Option<f64> + 'a>;

/// Each row's word, and the words.
pub type Words<'a> = (&'a DictionaryArray<Int32Type>, &'a StringArray);

/// Whether a file begins as Parquet does.
///
/// # Errors
/// Io.
pub fn is_parquet(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let read = file.take(MAGIC.len() as u64).read_to_end(&mut start);
    read.map_err(|e| Error::io(path, &e))?;
    Ok(start == MAGIC)
}

/// A finished table.
pub struct TableFile {
    /// Its path, as given.
    pub path: PathBuf,
    /// Its file.
    pub file: Chunks,
    /// What its footer says under the key `crocuta`.
    pub footer: Value,
    metadata: ArrowReaderMetadata,
}

impl TableFile {
    /// Opens a table that crocuta wrote.
    ///
    /// # Errors
    /// Input: it is no Parquet file, is damaged, or is another program's; Io; Usage: standard
    /// input.
    pub fn open(path: &Path) -> Result<Self> {
        if is_stdin(path) {
            let what = "a table is read from its end, so it cannot come through a pipe";
            return Err(Error::usage(what).todo("name a file"));
        }
        let file = Chunks::open(path)?;
        let here = |error: Error| error.file(path.display());
        check_magic(&file, path).map_err(here)?;
        let read = || {
            let damaged = |error| file.error(path, error);
            let metadata = row_groups::metadata(&file).map_err(damaged)?;
            let options = ArrowReaderOptions::new();
            ArrowReaderMetadata::try_new(metadata.into(), options).map_err(damaged)
        };
        let metadata = contain(read).map_err(here)?;
        let footer = footer(metadata.metadata()).map_err(here)?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            footer,
            metadata,
        })
    }

    /// What Parquet knows of the file.
    pub fn parquet(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    /// Its columns.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Its rows.
    pub fn rows(&self) -> u64 {
        self.parquet().file_metadata().num_rows().unsigned_abs()
    }

    /// What its footer calls it: `embeddings`, `reads`, ….
    pub fn kind(&self) -> &str {
        self.footer["table"].as_str().unwrap_or_default()
    }

    /// The place of a column among the schema's.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.schema().index_of(name).ok()
    }

    /// What the statistics of a row group say of a column of the schema. Each column, vectors too,
    /// is one column of Parquet's.
    pub fn statistics(&self, group: usize, column: usize) -> Option<&Statistics> {
        let group = self.parquet().row_group(group);
        group.columns().get(column)?.statistics()
    }

    /// Reads these columns of a row group, in batches of at most so many rows.
    ///
    /// # Errors
    /// Input: the file is damaged.
    pub fn read(&self, group: usize, columns: &[usize], rows: usize) -> Result<Batches<'_>> {
        let (file, metadata) = (self.file.clone(), self.metadata.clone());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let schema = self.parquet().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(schema, columns.iter().copied());
        let reader = builder
            .with_projection(mask)
            .with_row_groups(vec![group])
            .with_batch_size(rows.max(1))
            .build();
        Ok(Batches {
            reader: reader.map_err(|e| self.file.error(&self.path, e))?,
            table: self,
        })
    }

    /// All rows of a row group, of these columns.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn group(&self, group: usize, columns: &[usize]) -> Result<RecordBatch> {
        let rows = self.parquet().row_group(group).num_rows();
        let rows = usize::try_from(rows).unwrap_or_default();
        let batch = self.read(group, columns, rows)?.next();
        let batch = batch.ok_or_else(|| Error::input("damaged: a row group has no rows"))??;
        if batch.num_rows() != rows {
            let what = "damaged: a row group has fewer rows than it says";
            return Err(Error::input(what).file(self.path.display()));
        }
        Ok(batch)
    }

    /// What gives the numbers of a column of a batch.
    ///
    /// # Errors
    /// Usage: it holds none.
    pub fn numbers<'a>(&self, batch: &'a RecordBatch, name: &str) -> Result<Numbers<'a>> {
        macro_rules! of {
            ($column:expr, $kind:ty, $number:expr) => {{
                let column = $column.as_primitive::<$kind>();
                Box::new(move |row| {
                    let value = column.is_valid(row).then(|| $number(column.value(row)));
                    value.filter(|value| !value.is_nan())
                })
            }};
        }
        let none = || {
            let what = format!("the column {name} holds no numbers");
            Error::usage(what).file(self.path.display())
        };
        let column = batch.column_by_name(name).ok_or_else(none)?;
        Ok(match column.data_type() {
            DataType::Float32 => of!(column, Float32Type, f64::from),
            DataType::Float64 => of!(column, Float64Type, f64::from),
            DataType::Int64 => of!(column, Int64Type, |value: i64| value as f64),
            DataType::Int32 => of!(column, Int32Type, f64::from),
            DataType::UInt16 => of!(column, UInt16Type, f64::from),
            DataType::UInt8 => of!(column, UInt8Type, f64::from),
            _ => return Err(none()),
        })
    }

    /// What gives the text of a row, of a column of words.
    ///
    /// # Errors
    /// Input: it is of another type.
    pub fn texts<'a>(
        &self,
        batch: &'a RecordBatch,
        name: &str,
    ) -> Result<impl Fn(usize) -> Option<&'a str> + use<'a>> {
        let (keys, words) = self.words(batch, name)?;
        Ok(move |row: usize| Some(words.value(keys.key(row)?)))
    }

    /// The words of a column, and each row's.
    ///
    /// # Errors
    /// Input: it is of another type.
    pub fn words<'a>(&self, batch: &'a RecordBatch, name: &str) -> Result<Words<'a>> {
        let column = batch.column_by_name(name);
        let keys = column.and_then(|column| column.as_dictionary_opt::<Int32Type>());
        let words = keys.and_then(|keys| Some((keys, keys.values().as_string_opt::<i32>()?)));
        words.ok_or_else(|| self.other_type(name))
    }

    /// The error for a column that is not of its type.
    pub fn other_type(&self, name: &str) -> Error {
        let what = format!("it has no column {name} of the type that crocuta writes");
        Error::input(what).file(self.path.display())
    }
}

/// Rows of a row group.
pub struct Batches<'a> {
    reader: ParquetRecordBatchReader,
    table: &'a TableFile,
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let TableFile { path, file, .. } = self.table;
        let read = || {
            let batch = self.reader.next().transpose();
            batch.map_err(|e| file.error(path, e.into()))
        };
        contain(read)
            .map_err(|error| error.file(path.display()))
            .transpose()
    }
}

fn check_magic(file: &Chunks, path: &Path) -> Result<()> {
    let is_there = |at: u64| match file.get_bytes(at, MAGIC.len()) {
        Ok(found) => Ok(found[..] == MAGIC[..]),
        Err(ParquetError::EOF(_)) => Ok(false),
        Err(error) => Err(file.error(path, error)),
    };
    let end = file.bytes().saturating_sub(MAGIC.len() as u64);
    match (is_there(0)?, is_there(end)?) {
        (true, true) => Ok(()),
        (true, false) => Err(Error::input("damaged: the Parquet file is cut short")),
        _ => Err(Error::input("not a Parquet file").todo(OURS)),
    }
}

const OURS: &str = "name a table that crocuta embed, predict, score or reads wrote";

fn footer(metadata: &ParquetMetaData) -> Result<Value> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let pair = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == FOOTER_KEY));
    let text = pair.and_then(|pair| pair.value.as_deref());
    let text = text.ok_or_else(|| Error::input("a Parquet file of another program").todo(OURS))?;
    let footer: Value = serde_json::from_str(text)
        .map_err(|e| Error::input(format!("damaged: the footer is no JSON: {e}")))?;
    let version = footer["version"].as_str().unwrap_or_default();
    if !version.starts_with("1.") {
        let what = format!("a table of layout \"{version}\", which this crocuta does not know");
        return Err(Error::input(what).todo("use a newer crocuta"));
    }
    Ok(footer)
}
