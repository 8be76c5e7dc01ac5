//! Where the rows of a table stand in the order of the one table.

use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, DictionaryArray, Int64Array, RecordBatch, StringArray};
use parquet::file::statistics::Statistics;
use std::collections::HashMap;

/// Where a row stands: its contig's place in the reference and its first base; or 0 and the place
/// of its record in the input. Rows of haplotypes come after those of records, by contig.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub contig: u32,
    pub start: i64,
}

/// Which columns say where a row stands.
pub struct Keys {
    /// The number of the read or the record; none: `chrom`, `start` and `end` say it.
    pub record: Option<&'static str>,
    /// There is a column `haplotype`.
    pub haplotypes: bool,
    /// The places of the reference's contigs.
    pub contigs: HashMap<String, u32>,
}

/// A row group: where its first row stands, and where its last one does and ends.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    pub first: Place,
    pub last: Place,
    pub end: i64,
}

impl Keys {
    fn names(&self) -> Vec<&'static str> {
        match self.record {
            None => vec!["chrom", "start", "end"],
            Some(record) if self.haplotypes => vec![record, "haplotype", "chrom"],
            Some(record) => vec![record],
        }
    }

    /// The places of the columns in a table.
    ///
    /// # Errors
    /// Input: it lacks one.
    pub fn columns(&self, table: &TableFile) -> Result<Vec<usize>> {
        let column = |name| {
            let missing = || damaged(table, format!("there is no column {name}"));
            table.column(name).ok_or_else(missing)
        };
        self.names().into_iter().map(column).collect()
    }

    /// Where a row group begins and ends.
    pub fn ends(&self, table: &TableFile, group: usize) -> Result<Ends> {
        let columns = self.columns(table)?;
        if let Some(ends) = self.stated(table, group, &columns)? {
            return Ok(ends);
        }
        let places = self.places(table, &table.group(group, &columns)?)?;
        match (places.first(), places.last()) {
            (Some((first, _)), Some((last, end))) => Ok(Ends {
                first: *first,
                last: *last,
                end: *end,
            }),
            _ => Err(damaged(table, "a row group without rows")),
        }
    }

    /// The same by the statistics, where these suffice: rows of one contig are sorted.
    fn stated(&self, table: &TableFile, group: usize, columns: &[usize]) -> Result<Option<Ends>> {
        let integers = |column: usize| match table.statistics(group, column) {
            Some(Statistics::Int64(values)) => {
                values.min_opt().copied().zip(values.max_opt().copied())
            }
            _ => None,
        };
        let ends = |contig, (first, last), end| Ends {
            first: Place {
                contig,
                start: first,
            },
            last: Place {
                contig,
                start: last,
            },
            end,
        };
        match (self.record, columns) {
            (Some(_), [record]) => {
                Ok(integers(*record).map(|pair| ends(0, pair, pair.1.saturating_add(1))))
            }
            (None, [chrom, start, end]) => {
                let name = match table.statistics(group, *chrom) {
                    Some(Statistics::ByteArray(names))
                        if names.min_is_exact() && names.max_is_exact() =>
                    {
                        let one = names.min_opt().filter(|min| names.max_opt() == Some(*min));
                        one.map(|name| String::from_utf8_lossy(name.data()))
                    }
                    _ => None,
                };
                let (Some(name), Some(starts), Some((_, end))) =
                    (name, integers(*start), integers(*end))
                else {
                    return Ok(None);
                };
                Ok(Some(ends(self.contig(table, &name)?, starts, end)))
            }
            _ => Ok(None),
        }
    }

    /// Where the rows of a batch stand, and where they end.
    pub fn places(&self, table: &TableFile, batch: &RecordBatch) -> Result<Vec<(Place, i64)>> {
        match self.record {
            Some(record) => self.places_of_records(table, batch, record),
            None => self.places_of_positions(table, batch),
        }
    }

    fn places_of_positions(
        &self,
        table: &TableFile,
        batch: &RecordBatch,
    ) -> Result<Vec<(Place, i64)>> {
        let (chrom, words) = words(table, batch)?;
        // A dictionary may hold words of other row groups too.
        let known = words
            .iter()
            .map(|word| self.contigs.get(word.unwrap_or_default()).copied());
        let known: Vec<Option<u32>> = known.collect();
        let starts = integers(table, batch, "start")?.values().iter();
        let ends = integers(table, batch, "end")?.values().iter();
        let place = |((row, start), end): ((usize, &i64), &i64)| {
            let key = chrom
                .key(row)
                .ok_or_else(|| damaged(table, "a row without a contig"))?;
            let contig = match known.get(key).copied().flatten() {
                Some(contig) => contig,
                None => self.contig(table, words.value(key))?,
            };
            let start = *start;
            Ok((Place { contig, start }, *end))
        };
        starts.enumerate().zip(ends).map(place).collect()
    }

    fn places_of_records(
        &self,
        table: &TableFile,
        batch: &RecordBatch,
        record: &str,
    ) -> Result<Vec<(Place, i64)>> {
        let sample = if self.haplotypes {
            Some((integers(table, batch, "haplotype")?, words(table, batch)?))
        } else {
            None
        };
        let contig = |row: usize| {
            let (_, (chrom, words)) = sample.filter(|(haplotypes, _)| haplotypes.is_valid(row))?;
            let contig = self.contigs.get(words.value(chrom.key(row)?));
            Some(1 + contig.copied().unwrap_or_default())
        };
        let records = integers(table, batch, record)?.values().iter().enumerate();
        let place = |(row, start): (usize, &i64)| {
            let (contig, start) = (contig(row).unwrap_or_default(), *start);
            (Place { contig, start }, start.saturating_add(1))
        };
        Ok(records.map(place).collect())
    }

    fn contig(&self, table: &TableFile, name: &str) -> Result<u32> {
        let known = self.contigs.get(name).copied();
        known.ok_or_else(|| {
            let what = format!("the contig {name} is not among those of its reference");
            damaged(table, what)
        })
    }
}

fn integers<'a>(table: &TableFile, batch: &'a RecordBatch, name: &str) -> Result<&'a Int64Array> {
    let column = batch.column_by_name(name);
    let integers = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
    integers.ok_or_else(|| damaged(table, format!("the column {name} is of another type")))
}

/// The column `chrom`: its words, and those of each row.
fn words<'a>(
    table: &TableFile,
    batch: &'a RecordBatch,
) -> Result<(&'a DictionaryArray<Int32Type>, &'a StringArray)> {
    let column = batch.column_by_name("chrom");
    let chrom = column.and_then(|column| column.as_dictionary_opt::<Int32Type>());
    let words = chrom.and_then(|chrom| Some((chrom, chrom.values().as_string_opt::<i32>()?)));
    words.ok_or_else(|| damaged(table, "the column chrom is of another type"))
}

fn damaged(table: &TableFile, what: impl std::fmt::Display) -> Error {
    Error::input(format!("damaged: {what}")).file(table.path.display())
}
