//! Which rows and columns are exported.

use crate::error::{Error, Kind, Result};
use crate::io::table_file::TableFile;
use crate::sequence::region::Query;
use crate::tables::contigs;
use crate::tables::places::{self, Places};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, Field};
use arrow_select::filter::filter_record_batch;
use parquet::file::statistics::Statistics;

/// Rows of a batch.
const BATCH: usize = 1 << 13;

/// Some columns of some rows of a table.
pub struct Rows<'a> {
    pub table: &'a TableFile,
    /// Places among the table's columns, in the order in which they are written.
    columns: Vec<usize>,
    wanted: Option<Wanted>,
}

/// Rows that overlap a region.
#[derive(Clone)]
struct Wanted {
    /// `chrom`, `start`, `end`.
    columns: [usize; 3],
    regions: Vec<(String, i64, i64)>,
}

impl<'a> Rows<'a> {
    /// These columns, or all, of the rows that overlap these regions, or of all.
    pub fn new(table: &'a TableFile, columns: &[String], regions: &[String]) -> Result<Self> {
        let names = table
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().as_str());
        let names: Vec<&str> = names.collect();
        let column = |name: &String| {
            let place = names.iter().position(|known| known == name);
            place.ok_or_else(|| {
                let what = format!("there is no column {name}");
                let error = Error::usage(what).file(table.path.display());
                error.todo(format!("there are {}", names.join(", ")))
            })
        };
        let columns: Vec<usize> = match columns {
            [] => (0..names.len()).collect(),
            some => some.iter().map(column).collect::<Result<_>>()?,
        };
        let wanted = match regions {
            [] => None,
            regions => Some(Wanted::new(table, regions)?),
        };
        Ok(Self {
            table,
            columns,
            wanted,
        })
    }

    /// The fields of the columns.
    pub fn fields(&self) -> Vec<&Field> {
        let fields = self.table.schema().fields();
        self.columns
            .iter()
            .map(|&column| fields[column].as_ref())
            .collect()
    }

    /// The one vector column alone, and the other columns.
    ///
    /// # Errors
    /// Usage: there is none, or several.
    pub fn parted(&self) -> Result<(Self, Self)> {
        let is_vector = |column: &usize| {
            let field = self.table.schema().field(*column);
            matches!(field.data_type(), DataType::FixedSizeList(..))
        };
        let (vectors, others): (Vec<usize>, Vec<usize>) =
            self.columns.iter().partition(|column| is_vector(column));
        if vectors.len() != 1 {
            let what = match vectors.len() {
                0 => "there is no column of vectors".to_string(),
                n => format!("there are {n} columns of vectors"),
            };
            let error = Error::usage(what).file(self.table.path.display());
            return Err(error.todo("name one, and the key columns, with --columns"));
        }
        let with = |columns| Self {
            table: self.table,
            columns,
            wanted: self.wanted.clone(),
        };
        Ok((with(vectors), with(others)))
    }

    /// How many rows there are.
    pub fn count(&self) -> Result<u64> {
        if self.wanted.is_none() {
            return Ok(self.table.rows());
        }
        let none = Self {
            table: self.table,
            columns: Vec::new(),
            wanted: self.wanted.clone(),
        };
        let mut rows = 0;
        none.batches(|batch| {
            rows += batch.num_rows() as u64;
            Ok(())
        })?;
        Ok(rows)
    }

    /// Reads the rows, some thousand at a time. Row groups that hold none of them are not read.
    pub fn each(&self, mut take: impl FnMut(Vec<ArrayRef>) -> Result<()>) -> Result<()> {
        let schema = self.table.schema();
        let names: Vec<&String> = self
            .columns
            .iter()
            .map(|&at| schema.field(at).name())
            .collect();
        self.batches(|batch| {
            let column = |name: &&String| batch.column_by_name(name).cloned();
            let columns: Vec<ArrayRef> = names.iter().filter_map(column).collect();
            take(columns)
        })
    }

    fn batches(&self, mut take: impl FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let keys = self.wanted.as_ref().map(|wanted| wanted.columns);
        let read: Vec<usize> = self
            .columns
            .iter()
            .copied()
            .chain(keys.into_iter().flatten())
            .collect();
        for group in 0..self.table.parquet().num_row_groups() {
            let wanted = self.wanted.as_ref();
            if wanted.is_some_and(|wanted| !wanted.may_be_in(self.table, group)) {
                continue;
            }
            for batch in self.table.read(group, &read, BATCH)? {
                let batch = match wanted {
                    Some(wanted) => wanted.of(self.table, &batch?)?,
                    None => batch?,
                };
                if batch.num_rows() > 0 {
                    take(batch)?;
                }
            }
        }
        Ok(())
    }
}

impl Wanted {
    fn new(table: &TableFile, regions: &[String]) -> Result<Self> {
        let column = |name: &str| {
            table.column(name).ok_or_else(|| {
                let what = format!(
                    "rows of {} have no place: there is no column {name}",
                    table.kind()
                );
                Error::usage(what)
                    .file(table.path.display())
                    .todo("leave out --region")
            })
        };
        let contigs = contigs(table)?;
        let region = |text: &String| {
            let span = Query::parse(text)?.resolve(&contigs)?;
            let name = contigs[span.contig].name.clone();
            Ok((name, span.start.cast_signed(), span.end.cast_signed()))
        };
        Ok(Self {
            columns: [
                column(places::COLUMNS[0])?,
                column(places::COLUMNS[1])?,
                column(places::COLUMNS[2])?,
            ],
            regions: regions.iter().map(region).collect::<Result<_>>()?,
        })
    }

    /// Whether a row group may hold such rows, by its statistics.
    fn may_be_in(&self, table: &TableFile, group: usize) -> bool {
        let [chrom, start, end] = self.columns.map(|column| table.statistics(group, column));
        let names = chrom.and_then(|names| names.min_bytes_opt().zip(names.max_bytes_opt()));
        let first = match start {
            Some(Statistics::Int64(values)) => values.min_opt(),
            _ => None,
        };
        let last = match end {
            Some(Statistics::Int64(values)) => values.max_opt(),
            _ => None,
        };
        self.regions.iter().any(|(name, begin, end)| {
            let name = name.as_bytes();
            names.is_none_or(|(min, max)| min <= name && name <= max)
                && first.is_none_or(|first| first < end)
                && last.is_none_or(|last| last > begin)
        })
    }

    /// Those of the rows.
    fn of(&self, table: &TableFile, batch: &RecordBatch) -> Result<RecordBatch> {
        let places = Places::of(table, batch)?;
        let on = |name: &str| -> Vec<(i64, i64)> {
            let here = self.regions.iter().filter(|(contig, ..)| contig == name);
            here.map(|(_, start, end)| (*start, *end)).collect()
        };
        let regions = places.each_contig(on);
        let overlaps = |row: usize| {
            places.row(row).is_some_and(|(contig, start, end)| {
                let mut here = regions[contig].iter();
                here.any(|region| start < region.1 && end > region.0)
            })
        };
        let mask: BooleanArray = (0..batch.num_rows())
            .map(|row| Some(overlaps(row)))
            .collect();
        filter_record_batch(batch, &mask).map_err(|e| Error::because(Kind::Internal, e))
    }
}
