//! Where the rows of a batch lie.

use crate::error::Result;
use crate::io::table_file::TableFile;
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
        let (chrom, words) = table.words(batch, COLUMNS[0])?;
        let integers = |name: &str| {
            let column = batch.column_by_name(name);
            let integers = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
            integers.ok_or_else(|| table.other_type(name))
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
