//! `read_bases`: a row for every base of every read.

use super::positions::letters;
use super::predictions::PROBABILITIES;
use super::{Batch, Column, Groups, fit_records};
use crate::io::table_writer::{ColumnKind, Values};
use serde::{Deserialize, Serialize};

/// Bases of reads. Fields of equal length, but for `predictions`, which is (rows, 7).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReadBases {
    /// The read's place in the input.
    pub reads: Vec<i64>,
    /// Which base of the read, from 0, in the order in which it was read.
    pub offsets: Vec<i32>,
    /// The reference position that it is aligned to, 0-based.
    pub positions: Vec<Option<i64>>,
    /// Base codes, as read.
    pub bases: Vec<u8>,
    /// Base qualities.
    pub qualities: Vec<Option<u8>>,
    /// One number for each of [`PROBABILITIES`]; NaN is NULL.
    pub predictions: Vec<f32>,
}

impl Batch for ReadBases {
    fn len(&self) -> usize {
        self.reads.len()
    }

    fn split_off(&mut self, row: usize) -> Self {
        Self {
            reads: self.reads.split_off(row),
            offsets: self.offsets.split_off(row),
            positions: self.positions.split_off(row),
            bases: self.bases.split_off(row),
            qualities: self.qualities.split_off(row),
            predictions: self.predictions.split_off(row * PROBABILITIES.len()),
        }
    }

    fn fit(&self, row: usize, groups: &mut Groups) -> usize {
        fit_records(groups, self.reads[row..].iter().copied())
    }
}

/// The columns of a `read_bases` table: the read, its base, where that is aligned, and
/// [`PROBABILITIES`].
pub fn read_bases(causal: bool) -> Vec<Column<ReadBases>> {
    let mut columns = vec![
        Column::new(
            "read_index",
            ColumnKind::I64,
            "the read",
            |rows: &ReadBases| Values::I64(rows.reads.clone()),
        ),
        Column::new(
            "offset",
            ColumnKind::I32,
            "which base of it, counted from 0 in the order in which it was read",
            |rows: &ReadBases| Values::I32(rows.offsets.clone()),
        ),
        Column::new(
            "ref_pos",
            ColumnKind::OptionalI64,
            "the reference position that it is aligned to, counted from 0; NULL for inserted and \
             clipped bases",
            |rows: &ReadBases| Values::OptionalI64(rows.positions.clone()),
        ),
        Column::new(
            "base",
            ColumnKind::Words,
            "the base as it was read: of a reverse read, the complement of the reference's",
            |rows: &ReadBases| letters(&rows.bases),
        ),
        Column::new(
            "qual",
            ColumnKind::OptionalU8,
            "its quality",
            |rows: &ReadBases| Values::OptionalU8(rows.qualities.clone()),
        ),
    ];
    for (at, (name, unit, meanings)) in PROBABILITIES.into_iter().enumerate() {
        let fill = move |rows: &ReadBases| {
            let numbers = rows.predictions.iter().skip(at);
            let numbers = numbers.step_by(PROBABILITIES.len());
            Values::OptionalF32(numbers.map(|x| (!x.is_nan()).then_some(*x)).collect())
        };
        let meaning = meanings[usize::from(!causal)];
        let mut column = Column::new(name, ColumnKind::OptionalF32, meaning, fill);
        column.unit = unit;
        column.primary = at == 0;
        columns.push(column);
    }
    columns
}
