//! Which labels the rows of a table have.

use crate::error::{Error, Result};
use crate::io::labels::Labels;
use crate::io::table_file::TableFile;
use crate::tables::places::Places;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, RecordBatch, StringArray};

/// The columns by which variants are told apart: as they were scored, and as the input has them.
const SPELLED: [[&str; 3]; 2] = [["norm_pos", "norm_ref", "norm_alt"], ["pos", "ref", "alt"]];

/// Finds the labels of rows.
pub struct Matches<'a> {
    table: &'a TableFile,
    labels: &'a Labels,
}

impl<'a> Matches<'a> {
    /// Of this table's rows.
    ///
    /// # Errors
    /// Usage: these labels are of variants, and its rows are not.
    pub fn new(table: &'a TableFile, labels: &'a Labels) -> Result<Self> {
        let has = |names: &[&str]| names.iter().all(|name| table.column(name).is_some());
        let named = has(&["chrom", "pos", "ref", "alt"]);
        if labels.of_variants() && !named {
            let what = format!(
                "the labels are of variants, and these are rows of {}",
                table.kind()
            );
            let error = Error::usage(what).file(table.path.display());
            return Err(
                error.todo("give labels of intervals: BED, GFF3, or columns chrom, start, end")
            );
        }
        Ok(Self { table, labels })
    }

    /// Gives `take` each row with each of its labels, or with none; says how many rows have one.
    pub fn of(&self, batch: &RecordBatch, mut take: impl FnMut(u32, Option<u32>)) -> Result<u64> {
        let mut matched = 0;
        if self.labels.of_variants() {
            let label = self.of_variants(batch)?;
            for row in 0..batch.num_rows() {
                let label = label(row);
                matched += u64::from(label.is_some());
                take(row as u32, label);
            }
            return Ok(matched);
        }
        let places = Places::of(self.table, batch)?;
        let contigs = places.each_contig(|name| self.labels.of_contig(name));
        for row in 0..batch.num_rows() {
            let mut any = false;
            if let Some((contig, start, end)) = places.row(row)
                && let Some(overlaps) = contigs[contig]
            {
                overlaps.each(start, end, &mut |label| {
                    any = true;
                    take(row as u32, Some(label));
                });
            }
            matched += u64::from(any);
            if !any {
                take(row as u32, None);
            }
        }
        Ok(matched)
    }

    /// What gives the label of a row's variant: as it was scored, or as it was written.
    fn of_variants<'b>(&'b self, batch: &'b RecordBatch) -> Result<impl Fn(usize) -> Option<u32>> {
        let chrom = self.table.texts(batch, "chrom")?;
        let mut spellings: Vec<(&Int64Array, &StringArray, &StringArray)> = Vec::new();
        for [pos, reference, alternate] in SPELLED {
            let column = |name| batch.column_by_name(name);
            let text = |name| column(name).and_then(|column| column.as_string_opt::<i32>());
            let pos = column(pos).and_then(|column| column.as_primitive_opt::<Int64Type>());
            if let (Some(pos), Some(reference), Some(alternate)) =
                (pos, text(reference), text(alternate))
            {
                spellings.push((pos, reference, alternate));
            }
        }
        Ok(move |row: usize| {
            spellings.iter().find_map(|(pos, reference, alternate)| {
                let known = [&reference, &alternate]
                    .iter()
                    .all(|column| column.is_valid(row));
                let place = pos.is_valid(row).then(|| pos.value(row).unsigned_abs());
                let place = place.filter(|_| known)?;
                let spelled = (place, reference.value(row), alternate.value(row));
                self.labels.of_variant(chrom(row)?, spelled)
            })
        })
    }
}
