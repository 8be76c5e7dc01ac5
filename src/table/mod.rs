//! The tables that commands write: one file a table, each column declared once.
//!
//! A [`Column`] says its name, type, unit and meaning, and how the rows of a batch fill it. The
//! Parquet schema, the footer's `columns`, the estimates of size and docs/tables.md derive from
//! that: a column that is added to a table's `columns` is in all of them.

mod embeddings;
pub mod footer;
mod groups;
mod intervals;
mod known;
mod pilot;
mod positions;
mod predictions;
mod read_bases;
mod reads;
mod sequences;
mod variants;

pub use embeddings::{LayerName, Vectors, embeddings};
pub use footer::Footer;
pub use groups::{GROUP_POSITIONS, Groups};
pub use intervals::{AllIntervals, interval_embeddings, interval_predictions};
pub use known::Known;
pub use pilot::{Experiment, Origin, PilotRow, PilotRows, pilot};
pub use positions::{Positions, RowUnit, flag, reverse_rows, with_depth, with_tokens};
pub use predictions::{
    HeadOutputs, PROBABILITIES, TRACKS, bin_predictions, head_outputs, predictions,
};
pub use read_bases::{ReadBases, read_bases};
pub use reads::{Alignment, ReadRow, ReadRows, ReadStatus, reads};
pub use sequences::{SequenceRow, SequenceRows, sequences};
pub use variants::{
    Allele, HaplotypeOf, Of, SCORES, Score, Scores, Spelled, VariantColumns, VariantRow,
    VariantRows, variants,
};

use crate::io::table_writer::{ColumnKind, ColumnSpec, Values};
use footer::ColumnMeaning;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// How the rows of a batch become the values of a column.
type Fill<B> = Box<dyn Fn(&B) -> Values + Send + Sync>;

/// A column of a table whose rows come in batches `B`.
pub struct Column<B> {
    /// Its name and type.
    pub spec: ColumnSpec,
    /// Of a number with one, as `nat`.
    pub unit: Option<&'static str>,
    /// What a row's value says, in one line.
    pub meaning: String,
    /// The layer, or the head, that it was taken from.
    pub layer: Option<String>,
    /// How several vectors became one: `mean`, `max`, `last`.
    pub pool: Option<String>,
    /// The table is made for this column.
    pub primary: bool,
    fill: Fill<B>,
}

impl<B> Column<B> {
    fn new(
        name: impl Into<String>,
        kind: ColumnKind,
        meaning: impl Into<String>,
        fill: impl Fn(&B) -> Values + Send + Sync + 'static,
    ) -> Self {
        Self {
            spec: ColumnSpec::new(name, kind),
            unit: None,
            meaning: meaning.into(),
            layer: None,
            pool: None,
            primary: false,
            fill: Box::new(fill),
        }
    }

    fn unit(mut self, unit: &'static str) -> Self {
        self.unit = Some(unit);
        self
    }

    fn primary(mut self) -> Self {
        self.primary = true;
        self
    }

    fn of_layer(mut self, layer: impl Into<String>) -> Self {
        self.layer = Some(layer.into());
        self
    }

    fn pooled(mut self, pool: Option<&str>) -> Self {
        self.pool = pool.map(str::to_string);
        self
    }

    /// The values of a batch's rows.
    pub fn fill(&self, batch: &B) -> Values {
        (self.fill)(batch)
    }

    /// What the footer says of it.
    pub fn described(&self) -> ColumnMeaning {
        ColumnMeaning {
            layer: self.layer.clone(),
            dim: self.spec.kind.dim(),
            dtype: self.spec.kind.name(),
            semantics: self.meaning.clone(),
            unit: self.unit.map(str::to_string),
            pool: self.pool.clone(),
        }
    }
}

/// The types of some columns, in order.
pub fn specs<B>(columns: &[Column<B>]) -> Vec<ColumnSpec> {
    columns.iter().map(|column| column.spec.clone()).collect()
}

/// Rows on their way to a table. Five kinds of tables, five batches.
pub trait Batch: Default + Send + Sync {
    /// How many rows there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows from `row` on, which leave the batch.
    fn split_off(&mut self, row: usize) -> Self;

    /// How many of the rows from `row` on the open row group takes; none: it must end before them.
    fn fit(&self, row: usize, groups: &mut Groups) -> usize;

    /// Cuts vectors to float16's range, and returns in how many rows.
    fn clip(&mut self) -> u64 {
        0
    }
}

/// As [`Batch::fit`] of rows that belong to these records.
fn fit_records(groups: &mut Groups, records: impl Iterator<Item = i64>) -> usize {
    groups.fit("", records.map(|record| (record, record + 1)))
}

/// Cuts the numbers of a row to float16's range; whether one lay beyond.
fn clip_row(row: &mut [f32]) -> bool {
    let largest = f16::MAX.to_f32();
    // Without a way out, so that the compiler makes vectors of it.
    let beyond = row
        .iter()
        .fold(false, |beyond, x| beyond | (x.abs() > largest));
    if beyond {
        row.iter_mut().for_each(|x| *x = x.clamp(-largest, largest));
    }
    beyond
}

fn halves(values: &[f32]) -> Vec<f16> {
    const TOGETHER: usize = 1 << 16;
    let mut halves = vec![f16::ZERO; values.len()];
    let parts = halves.par_chunks_mut(TOGETHER);
    parts
        .zip(values.par_chunks(TOGETHER))
        .for_each(|(halves, values)| halves.convert_from_f32_slice(values));
    halves
}

#[cfg(test)]
mod tests;
