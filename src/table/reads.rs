//! `reads`: a row for every read.

use super::embeddings::Vectors;
use super::predictions::HeadOutputs;
use super::sequences::{Judged, judgements};
use super::{Batch, Column, Groups, clip_row, fit_records, halves};
use crate::io::table_writer::{ColumnKind, Values};
use crate::io::vector::Element;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What is known of a read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadRow {
    /// Its place in the input, from 0.
    pub index: i64,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// 1 or 2 of a pair, else 0.
    pub number: u8,
    /// SAM's FLAG.
    pub flag: u16,
    /// Where it is aligned.
    pub alignment: Option<Alignment>,
    /// Mapping quality.
    pub mapping_quality: Option<u8>,
    /// Its bases.
    pub length: u64,
    /// Bases with a probability.
    pub scored: u64,
    /// Bases that are N or another ambiguity code.
    pub ambiguous: u64,
    /// The sum of their log-probabilities, in nats.
    pub sum: f64,
    /// What a head of sequences says of it, if there is one and it has bases.
    pub said: Option<Vec<f32>>,
    /// Its vectors, side by side, if vectors are wanted and it has bases.
    pub vector: Option<Vec<f32>>,
    /// How it went.
    pub status: ReadStatus,
}

/// Where a read is aligned: 0-based, half-open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alignment {
    /// The contig's name.
    pub chrom: Arc<str>,
    /// Its first position.
    pub start: i64,
    /// One past its last position.
    pub end: i64,
    /// It is stored as its reverse complement.
    pub reverse: bool,
}

/// What a read's row says of how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadStatus {
    /// Its bases were read.
    Ok,
    /// The file does not hold its bases.
    NoSequence,
    /// Its alignment is invalid; its bases were read.
    BadAlignment,
}

impl ReadStatus {
    const ALL: [(Self, &str); 3] = [
        (Self::Ok, "ok"),
        (Self::NoSequence, "no_sequence"),
        (Self::BadAlignment, "bad_alignment"),
    ];
}

impl ReadRow {
    fn mean(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.sum / self.scored as f64)
    }
}

/// Rows of reads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReadRows(pub Vec<ReadRow>);

impl ReadRows {
    fn map<T>(&self, f: impl Fn(&ReadRow) -> T) -> Vec<T> {
        self.0.iter().map(f).collect()
    }
}

impl Batch for ReadRows {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split_off(&mut self, row: usize) -> Self {
        Self(self.0.split_off(row))
    }

    fn fit(&self, from: usize, groups: &mut Groups) -> usize {
        fit_records(groups, self.0[from..].iter().map(|row| row.index))
    }

    fn clip(&mut self) -> u64 {
        let vectors = self.0.iter_mut().filter_map(|row| row.vector.as_mut());
        vectors.map(|vector| u64::from(clip_row(vector))).sum()
    }
}

impl Judged for ReadRows {
    fn said(&self) -> Vec<Option<&[f32]>> {
        self.0.iter().map(|row| row.said.as_deref()).collect()
    }
}

/// The columns of a `reads` table: what the read is, where it is aligned, its likelihoods by a
/// causal model or a bidirectional one, with `outputs` what a head of sequences says, and with
/// `vectors` its vectors.
pub fn reads(
    causal: bool,
    outputs: Option<&HeadOutputs>,
    vectors: Option<&Vectors>,
) -> Vec<Column<ReadRows>> {
    let mut columns = of_the_record();
    columns.extend(of_the_alignment());
    columns.extend(of_the_model(causal));
    if let Some(outputs) = outputs {
        columns.extend(judgements(outputs));
    }
    if let Some(vectors) = vectors {
        columns.extend(embeddings(vectors));
    }
    columns.push(Column::new(
        "status",
        ColumnKind::Words,
        "`ok`; `no_sequence`: the file does not hold its bases; `bad_alignment`: its place or \
         its mate's is invalid, its bases were read",
        |rows: &ReadRows| {
            let code = |row: &ReadRow| {
                let all = ReadStatus::ALL.iter();
                let place = all.zip(0..).find(|((status, _), _)| *status == row.status);
                place.map_or(0, |(_, code)| code)
            };
            Values::Words {
                codes: rows.map(code),
                words: ReadStatus::ALL.map(|(_, name)| name.to_string()).to_vec(),
            }
        },
    ));
    columns
}

fn of_the_record() -> Vec<Column<ReadRows>> {
    vec![
        Column::new(
            "read_index",
            ColumnKind::I64,
            "the record's place in the file, or in the regions, counted from 0; those that are \
             left out are counted",
            |rows: &ReadRows| Values::I64(rows.map(|row| row.index)),
        ),
        Column::new(
            "read_name",
            ColumnKind::Text,
            "its name; a bloom filter finds it",
            |rows: &ReadRows| Values::Text(rows.map(|row| row.name.clone())),
        ),
        Column::new(
            "read_number",
            ColumnKind::U8,
            "1 or 2 of a pair, else 0",
            |rows: &ReadRows| Values::U8(rows.map(|row| row.number)),
        ),
        Column::new(
            "flag",
            ColumnKind::U16,
            "the flag of SAM",
            |rows: &ReadRows| Values::U16(rows.map(|row| row.flag)),
        ),
    ]
}

fn of_the_alignment() -> Vec<Column<ReadRows>> {
    let at = |row: &ReadRow, of: fn(&Alignment) -> i64| row.alignment.as_ref().map(of);
    vec![
        Column::new(
            "chrom",
            ColumnKind::OptionalWords,
            "the contig that it is aligned to; NULL for reads that are not aligned, or whose \
             alignment is invalid",
            chroms,
        ),
        Column::new(
            "start",
            ColumnKind::OptionalI64,
            "the first position of its alignment, counted from 0",
            move |rows: &ReadRows| Values::OptionalI64(rows.map(|row| at(row, |at| at.start))),
        ),
        Column::new(
            "end",
            ColumnKind::OptionalI64,
            "one past the last position of its alignment",
            move |rows: &ReadRows| Values::OptionalI64(rows.map(|row| at(row, |at| at.end))),
        ),
        Column::new(
            "strand",
            ColumnKind::OptionalWords,
            "`+` as in the reference, `-` its reverse complement",
            |rows: &ReadRows| Values::OptionalWords {
                codes: rows.map(|row| row.alignment.as_ref().map(|at| i32::from(at.reverse))),
                words: ["+", "-"].map(str::to_string).to_vec(),
            },
        ),
        Column::new(
            "mapq",
            ColumnKind::OptionalU8,
            "mapping quality; NULL where SAM says 255, and for reads that are not aligned, or whose \
             alignment is invalid",
            |rows: &ReadRows| Values::OptionalU8(rows.map(|row| row.mapping_quality)),
        ),
    ]
}

fn chroms(rows: &ReadRows) -> Values {
    let (mut words, mut known) = (Vec::new(), HashMap::new());
    let mut code = |row: &ReadRow| {
        let alignment = row.alignment.as_ref()?;
        let code = known.entry(Arc::clone(&alignment.chrom));
        Some(*code.or_insert_with(|| {
            words.push(alignment.chrom.to_string());
            words.len() as i32 - 1
        }))
    };
    let codes = rows.0.iter().map(&mut code).collect();
    Values::OptionalWords { codes, words }
}

fn of_the_model(causal: bool) -> Vec<Column<ReadRows>> {
    let (scored, sum) = if causal {
        (
            "bases with a probability: all but the first, which has nothing before it, and N",
            "the sum of log P(base | bases before it)",
        )
    } else {
        (
            "bases with a probability: all but N",
            "the sum of log P(base | the bases around it)",
        )
    };
    let count = |n: u64| i32::try_from(n).unwrap_or(i32::MAX);
    vec![
        Column::new(
            "length",
            ColumnKind::I32,
            "bases of the read, clipped ends included: all of them were read",
            move |rows: &ReadRows| Values::I32(rows.map(|row| count(row.length))),
        ),
        Column::new(
            "n_scored",
            ColumnKind::I32,
            scored,
            move |rows: &ReadRows| Values::I32(rows.map(|row| count(row.scored))),
        ),
        Column::new(
            "n_ambiguous",
            ColumnKind::I32,
            "bases that are N or another ambiguity code",
            move |rows: &ReadRows| Values::I32(rows.map(|row| count(row.ambiguous))),
        ),
        Column::new(
            "sum_logp",
            ColumnKind::OptionalF64,
            sum,
            |rows: &ReadRows| {
                Values::OptionalF64(rows.map(|row| (row.scored > 0).then_some(row.sum)))
            },
        )
        .unit("nat"),
        Column::new(
            "mean_logp",
            ColumnKind::OptionalF32,
            "that, divided by `n_scored`",
            |rows: &ReadRows| {
                Values::OptionalF32(rows.map(|row| row.mean().map(|mean| mean as f32)))
            },
        )
        .unit("nat")
        .primary(),
        Column::new(
            "perplexity",
            ColumnKind::OptionalF32,
            "exp(−`mean_logp`)",
            |rows: &ReadRows| {
                Values::OptionalF32(rows.map(|row| row.mean().map(|mean| (-mean).exp() as f32)))
            },
        ),
    ]
}

/// A column for each layer.
fn embeddings(vectors: &Vectors) -> Vec<Column<ReadRows>> {
    let Vectors { element, dim, .. } = *vectors;
    let column = |(name, layer, range): (String, &str, Range<usize>)| {
        let fill = move |rows: &ReadRows| {
            let present = rows.map(|row| row.vector.is_some());
            let mut values = Vec::with_capacity(rows.len() * dim);
            for row in &rows.0 {
                match &row.vector {
                    Some(vector) => values.extend_from_slice(&vector[range.clone()]),
                    None => values.resize(values.len() + dim, 0.0),
                }
            }
            match element {
                Element::F32 => Values::OptionalF32Vectors { values, present },
                Element::F16 => Values::OptionalF16Vectors {
                    values: halves(&values),
                    present,
                },
            }
        };
        let kind = ColumnKind::OptionalVector { element, dim };
        let meaning = if vectors.causal {
            "states after reading each base of the read"
        } else {
            "states of each base of the read, after reading all of it"
        };
        let column = Column::new(name, kind, meaning, fill).of_layer(layer);
        column.pooled(vectors.pool.as_deref()).primary()
    };
    vectors.columns().into_iter().map(column).collect()
}
