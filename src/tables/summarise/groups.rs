//! Groups of a table's rows: those of an interval, or of a value of a column.

use crate::error::{Error, Kind, Result};
use crate::io::input::is_stdin;
use crate::io::intervals;
use crate::io::labels::Overlaps;
use crate::io::source;
use crate::io::table_file::TableFile;
use crate::io::table_writer::{ColumnKind, ColumnSpec};
use crate::sequence::interval::{Interval, Orientation};
use crate::sequence::region::Region;
use crate::tables::must_be_circles;
use crate::tables::places::{self, Places};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, UInt8Type, UInt16Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Float32Array, Int64Array, RecordBatch, StringArray,
};
use arrow_schema::DataType;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Groups of rows, and how many rows each has.
pub struct Groups {
    by: By,
    counts: Vec<u64>,
}

enum By {
    /// A row is in all intervals that it overlaps.
    Intervals(Vec<Interval>, HashMap<String, Overlaps>),
    /// A row is in the group of its value, if it has one; values come in the order of the rows.
    Values(String, HashMap<String, usize>),
}

impl Groups {
    /// Those of the values of a column.
    pub fn of_column(table: &TableFile, name: &str) -> Result<Self> {
        let mut values = HashMap::new();
        let mut counts = Vec::new();
        let column: Vec<usize> = table.column(name).into_iter().collect();
        each_batch(table, &column, |batch| {
            let value = value(table, batch, name)?;
            for row in 0..batch.num_rows() {
                let Some(value) = value(row) else { continue };
                let next = values.len();
                let group = *values.entry(value).or_insert(next);
                if group == next {
                    counts.push(0);
                }
                counts[group] += 1;
            }
            Ok(())
        })?;
        let by = By::Values(name.to_string(), values);
        Ok(Self { by, counts })
    }

    /// Those of the intervals of a file.
    pub fn of_intervals(table: &TableFile, path: &Path) -> Result<Self> {
        if !source::exists(path) && !is_stdin(path) {
            let what = format!("{} is neither a column of it nor a file", path.display());
            return Err(Error::usage(what).file(table.path.display()));
        }
        let read = intervals::read(path, None, false)?;
        let mut places: HashMap<String, Overlaps> = HashMap::new();
        let mut circles = HashMap::new();
        for (interval, number) in read.intervals.iter().zip(0..) {
            let Region { contig, start, end } = &interval.region;
            let bases = (start.cast_signed(), end.cast_signed());
            circles.extend(interval.circle.map(|bases| (contig.clone(), bases)));
            let circle = interval.on_circle().map(u64::cast_signed);
            let here = places.entry(contig.clone()).or_default();
            here.push(bases, circle, number);
        }
        must_be_circles(table, path, &circles)?;
        places.values_mut().for_each(Overlaps::sort);
        let mut counts = vec![0; read.intervals.len()];
        let by = By::Intervals(read.intervals, places);
        let mut groups = Self {
            by,
            counts: Vec::new(),
        };
        let columns = groups.columns(table)?;
        each_batch(table, &columns, |batch| {
            groups.each(table, batch, &mut |_, group| counts[group] += 1)
        })?;
        groups.counts = counts;
        Ok(groups)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// How many rows each has.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The columns of the table that say in which groups a row is.
    pub fn columns(&self, table: &TableFile) -> Result<Vec<usize>> {
        let names: Vec<&str> = match &self.by {
            By::Intervals(..) => places::COLUMNS.to_vec(),
            By::Values(name, _) => vec![name],
        };
        let column = |name: &str| {
            table.column(name).ok_or_else(|| {
                let what = format!(
                    "rows of {} have no place: there is no column {name}",
                    table.kind()
                );
                Error::usage(what).file(table.path.display())
            })
        };
        names.into_iter().map(column).collect()
    }

    /// Gives `take` each row of a batch with each of its groups.
    pub fn each(
        &self,
        table: &TableFile,
        batch: &RecordBatch,
        take: &mut impl FnMut(usize, usize),
    ) -> Result<()> {
        match &self.by {
            By::Intervals(_, overlaps) => {
                let places = Places::of(table, batch)?;
                let contigs = places.each_contig(|name| overlaps.get(name));
                for row in 0..batch.num_rows() {
                    if let Some((contig, start, end)) = places.row(row)
                        && let Some(overlaps) = contigs[contig]
                    {
                        overlaps.each(start, end, &mut |group| take(row, group as usize));
                    }
                }
            }
            By::Values(name, values) => {
                let value = value(table, batch, name)?;
                for row in 0..batch.num_rows() {
                    if let Some(group) = value(row).and_then(|value| values.get(&value)) {
                        take(row, *group);
                    }
                }
            }
        }
        Ok(())
    }

    /// The columns that say which group a row is of, and how many rows it has.
    pub fn specs(&self) -> Vec<ColumnSpec> {
        let mut specs = match &self.by {
            By::Intervals(..) => vec![
                ColumnSpec::new("chrom", ColumnKind::Words),
                ColumnSpec::new("start", ColumnKind::I64),
                ColumnSpec::new("end", ColumnKind::I64),
                ColumnSpec::new("name", ColumnKind::Text),
                ColumnSpec::new("score", ColumnKind::OptionalF32),
                ColumnSpec::new("strand", ColumnKind::Words),
            ],
            By::Values(name, _) => vec![ColumnSpec::new(name, ColumnKind::Text)],
        };
        specs.push(ColumnSpec::new("rows", ColumnKind::I64));
        specs
    }

    /// Their rows.
    pub fn arrays(&self) -> Vec<ArrayRef> {
        let mut arrays: Vec<ArrayRef> = match &self.by {
            By::Intervals(intervals, _) => {
                let all = || intervals.iter();
                let start = all().map(|i| i.region.start.cast_signed());
                let end = all().map(|i| i.region.end.cast_signed());
                let name = all().map(|i| i.name.as_deref());
                let score = all().map(|i| i.score);
                let strand = all().map(|i| match i.strand {
                    Orientation::Forward => "+",
                    Orientation::Reverse => "-",
                    Orientation::Unknown => ".",
                });
                vec![
                    words(all().map(|i| i.region.contig.as_str())),
                    Arc::new(start.collect::<Int64Array>()),
                    Arc::new(end.collect::<Int64Array>()),
                    Arc::new(name.collect::<StringArray>()),
                    Arc::new(score.collect::<Float32Array>()),
                    words(strand),
                ]
            }
            By::Values(_, values) => {
                let mut named: Vec<(&String, &usize)> = values.iter().collect();
                named.sort_unstable_by_key(|(_, group)| **group);
                let named = named.into_iter().map(|(value, _)| value);
                vec![Arc::new(StringArray::from_iter_values(named))]
            }
        };
        let counts = self.counts.iter().map(|count| count.cast_signed());
        arrays.push(Arc::new(counts.collect::<Int64Array>()));
        arrays
    }
}

fn words<'a>(all: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(all.collect::<DictionaryArray<Int32Type>>())
}

/// Reads these columns of a table.
fn each_batch(
    table: &TableFile,
    columns: &[usize],
    mut take: impl FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    for group in 0..table.parquet().num_row_groups() {
        for batch in table.read(group, columns, super::BATCH)? {
            take(&batch?)?;
        }
    }
    Ok(())
}

/// What gives the value of a row, as text.
fn value<'a>(
    table: &TableFile,
    batch: &'a RecordBatch,
    name: &str,
) -> Result<Box<dyn Fn(usize) -> Option<String> + 'a>> {
    macro_rules! integers {
        ($column:expr, $kind:ty) => {{
            let column = $column.as_primitive::<$kind>();
            Box::new(move |row| column.is_valid(row).then(|| column.value(row).to_string()))
        }};
    }
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| Error::new(Kind::Internal, "a column of a batch"))?;
    Ok(match column.data_type() {
        DataType::Dictionary(..) => {
            let text = table.texts(batch, name)?;
            Box::new(move |row| text(row).map(str::to_string))
        }
        DataType::Utf8 => {
            let text = column.as_string::<i32>();
            Box::new(move |row| text.is_valid(row).then(|| text.value(row).to_string()))
        }
        DataType::Int64 => integers!(column, Int64Type),
        DataType::Int32 => integers!(column, Int32Type),
        DataType::UInt16 => integers!(column, UInt16Type),
        DataType::UInt8 => integers!(column, UInt8Type),
        _ => {
            let what = format!("the column {name} holds no words and no whole numbers");
            return Err(Error::usage(what).file(table.path.display()));
        }
    })
}
