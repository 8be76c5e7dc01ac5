//! Columns of a finished table, read again.

use super::panics::contain;
use super::table_writer::FOOTER_KEY;
use crate::error::{Error, Kind, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Rows that are decoded at a time.
const BATCH: usize = 1 << 13;

/// Whether a file begins as Parquet does.
///
/// # Errors
/// Io.
pub fn is_table(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let read = file.take(4).read_to_end(&mut start);
    read.map_err(|e| Error::io(path, &e))?;
    Ok(start == b"PAR1")
}

/// A table that crocuta wrote. Memory: the columns that are read of 8,192 rows, and a page of each.
pub struct TableReader {
    path: PathBuf,
    builder: ParquetRecordBatchReaderBuilder<File>,
    /// What it says of itself.
    pub footer: Value,
}

impl TableReader {
    /// Opens a table.
    ///
    /// # Errors
    /// Io; Input: it is damaged, or was not written by crocuta.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, &e))?;
        let opened = contain(|| ParquetRecordBatchReaderBuilder::try_new(file).map_err(damaged));
        let builder = opened.map_err(|error| error.file(path.display()))?;
        let pairs = builder.metadata().file_metadata().key_value_metadata();
        let mut pairs = pairs.into_iter().flatten();
        let about = pairs.find(|pair| pair.key == FOOTER_KEY);
        let about = about.and_then(|pair| serde_json::from_str(pair.value.as_deref()?).ok());
        let footer = about.ok_or_else(|| {
            Error::input("its footer is not that of a table of crocuta's").file(path.display())
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            builder,
            footer,
        })
    }

    /// Gives `take` each row's word of a column of words, and its numbers in columns of float32:
    /// NaN for NULL.
    ///
    /// # Errors
    /// Input: there is no such column, or the file is damaged.
    pub fn each(
        self,
        word: &str,
        numbers: &[String],
        mut take: impl FnMut(&str, &[f32]),
    ) -> Result<()> {
        let Self { path, builder, .. } = self;
        let read = || {
            let mut places = Vec::new();
            for name in numbers.iter().map(String::as_str).chain([word]) {
                let place = builder.schema().index_of(name);
                places.push(place.map_err(|_| Error::input(format!("no column is {name}")))?);
            }
            let mask = ProjectionMask::roots(builder.parquet_schema(), places);
            let batches = builder.with_projection(mask).with_batch_size(BATCH);
            for batch in batches.build().map_err(damaged)? {
                let batch = batch.map_err(|e| damaged(ParquetError::ArrowError(e.to_string())))?;
                rows(&batch, word, numbers, &mut take)
                    .ok_or_else(|| Error::input("its columns have other types"))?;
            }
            Ok(())
        };
        contain(read).map_err(|error| error.file(path.display()))
    }
}

fn damaged(error: ParquetError) -> Error {
    Error::because(Kind::Input, error)
}

/// Gives `take` the rows of a batch; `None` if a column is of another type.
fn rows(
    batch: &RecordBatch,
    word: &str,
    numbers: &[String],
    take: &mut impl FnMut(&str, &[f32]),
) -> Option<()> {
    let words = batch.column_by_name(word)?;
    let words = words.as_dictionary_opt::<Int32Type>()?;
    let texts = words.values().as_string_opt::<i32>()?;
    let columns = numbers.iter().map(|name| {
        let column = batch.column_by_name(name)?;
        column.as_primitive_opt::<Float32Type>()
    });
    let columns: Vec<_> = columns.collect::<Option<_>>()?;
    let mut row = vec![0.0; columns.len()];
    for i in 0..batch.num_rows() {
        for (value, column) in row.iter_mut().zip(&columns) {
            let known = !column.is_null(i);
            *value = if known { column.value(i) } else { f32::NAN };
        }
        take(texts.value(words.key(i)?), &row);
    }
    Some(())
}
