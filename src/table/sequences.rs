//! `sequences`: what a head says of each record of a file; and the same of reads.

use super::predictions::HeadOutputs;
use super::{Batch, Column, Groups, fit_records};
use crate::io::table_writer::{ColumnKind, Values};
use serde::{Deserialize, Serialize};

/// What is known of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SequenceRow {
    /// Its place in the input, from 0.
    pub index: i64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its bases.
    pub length: u64,
    /// Bases that are N or another ambiguity code.
    pub ambiguous: u64,
    /// What the head says; none of a record without bases.
    pub said: Option<Vec<f32>>,
}

/// Rows of records.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SequenceRows(pub Vec<SequenceRow>);

impl SequenceRows {
    fn map<T>(&self, f: impl Fn(&SequenceRow) -> T) -> Vec<T> {
        self.0.iter().map(f).collect()
    }
}

impl Batch for SequenceRows {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split_off(&mut self, row: usize) -> Self {
        Self(self.0.split_off(row))
    }

    fn fit(&self, from: usize, groups: &mut Groups) -> usize {
        fit_records(groups, self.0[from..].iter().map(|row| row.index))
    }
}

/// Rows of which a head of sequences says something.
pub(super) trait Judged {
    /// What it says of each row.
    fn said(&self) -> Vec<Option<&[f32]>>;
}

impl Judged for SequenceRows {
    fn said(&self) -> Vec<Option<&[f32]>> {
        self.0.iter().map(|row| row.said.as_deref()).collect()
    }
}

/// The columns of a `sequences` table: the record, and what the head says.
pub fn sequences(outputs: &HeadOutputs) -> Vec<Column<SequenceRows>> {
    let count = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    let mut columns = vec![
        Column::new(
            "record_index",
            ColumnKind::I64,
            "the record's place in the file, counted from 0",
            |rows: &SequenceRows| Values::I64(rows.map(|row| row.index)),
        ),
        Column::new(
            "name",
            ColumnKind::Text,
            "its name; of a table, the column `name` or `id`",
            |rows: &SequenceRows| Values::Text(rows.map(|row| row.name.clone())),
        ),
        Column::new(
            "length",
            ColumnKind::I32,
            "bases of the record",
            move |rows: &SequenceRows| Values::I32(rows.map(|row| count(row.length))),
        ),
        Column::new(
            "n_ambiguous",
            ColumnKind::I32,
            "bases that are N or another ambiguity code",
            move |rows: &SequenceRows| Values::I32(rows.map(|row| count(row.ambiguous))),
        ),
    ];
    columns.extend(judgements(outputs));
    columns
}

/// The class that a head of sequences gives, and its probabilities; or its values.
pub(super) fn judgements<B: Judged>(outputs: &HeadOutputs) -> Vec<Column<B>> {
    let mut columns = Vec::new();
    if outputs.probabilities {
        let words = outputs.names.clone();
        let class = Column::new(
            "class",
            ColumnKind::OptionalWords,
            "the most probable class; NULL without bases",
            move |rows: &B| {
                let codes = rows.said().into_iter();
                let code = |said: &[f32]| {
                    let said = said.iter().enumerate();
                    let best = said.max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
                    best.map_or(0, |(class, _)| class as i32)
                };
                Values::OptionalWords {
                    codes: codes.map(|said| said.map(code)).collect(),
                    words: words.clone(),
                }
            },
        );
        columns.push(class.of_layer(&outputs.head).primary());
    }
    let what = outputs.what();
    for (at, name) in outputs.names.iter().enumerate() {
        let column = Column::new(
            outputs.column(name),
            ColumnKind::OptionalF32,
            format!("{what} of {name}; NULL without bases"),
            move |rows: &B| {
                let said = rows.said().into_iter();
                Values::OptionalF32(said.map(|said| said.map(|said| said[at])).collect())
            },
        );
        columns.push(column.of_layer(&outputs.head).primary());
    }
    columns
}
