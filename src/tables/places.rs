//! Where the rows of a batch lie.

use super::file::TableFile;
use crate::error::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, DictionaryArray, Int64Array, RecordBatch, StringArray};

/// The columns that say it.
pub const COLUMNS: [&str; 3] = ["chrom", "start", "end"];

/// Contig, start and end of rows.
pub struct Places<'a> {
    chrom: &'a DictionaryArray<Int32Type>,
    words: &'a StringArray,
    starts: &'a Int64Array,
    ends: &'a Int64Array,
}

impl<'a> Places<'a> {
    /// Of a batch with those columns.
    ///
    /// # Errors
    /// Input: it lacks one, or they are of other types.
    pub fn of(table: &TableFile, batch: &'a RecordBatch) -> Result<Self> {
        let (chrom, words) = words(table, batch, COLUMNS[0])?;
        let integers = |name: &str| {
            let column = batch.column_by_name(name);
            let integers = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
            integers.ok_or_else(|| other_type(table, name))
        };
        Ok(Self {
            chrom,
            words,
            starts: integers(COLUMNS[1])?,
            ends: integers(COLUMNS[2])?,
        })
    }

    /// Something of each contig that is named, in the order of the numbers that rows have for it.
    pub fn each_contig<T>(&self, of: impl Fn(&str) -> T) -> Vec<T> {
        let names = self.words.iter();
        names.map(|name| of(name.unwrap_or_default())).collect()
    }

    /// A row's number of its contig, its start and end; none if it has no place.
    pub fn row(&self, row: usize) -> Option<(usize, i64, i64)> {
        let known = self.starts.is_valid(row) && self.ends.is_valid(row);
        let contig = self.chrom.key(row).filter(|_| known)?;
        Some((contig, self.starts.value(row), self.ends.value(row)))
    }
}

/// What gives the text of a row, of a column of words.
pub fn texts<'a>(
    table: &TableFile,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<impl Fn(usize) -> Option<&'a str> + use<'a>> {
    let (keys, words) = words(table, batch, name)?;
    Ok(move |row: usize| Some(words.value(keys.key(row)?)))
}

fn words<'a>(
    table: &TableFile,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<(&'a DictionaryArray<Int32Type>, &'a StringArray)> {
    let column = batch.column_by_name(name);
    let keys = column.and_then(|column| column.as_dictionary_opt::<Int32Type>());
    let words = keys.and_then(|keys| Some((keys, keys.values().as_string_opt::<i32>()?)));
    words.ok_or_else(|| other_type(table, name))
}

fn other_type(table: &TableFile, name: &str) -> Error {
    let what = format!("it has no column {name} of the type that crocuta writes");
    Error::input(what).file(table.path.display())
}
