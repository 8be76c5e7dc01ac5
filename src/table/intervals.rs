//! `intervals`: a row for every interval of an annotation.

use super::embeddings::Vectors;
use super::positions::{place, state, strand, strands};
use super::predictions::pooled;
use super::{Column, Positions};
use crate::io::table_writer::{ColumnKind, Values};
use crate::sequence::interval::{Interval, Orientation};
use std::sync::Arc;

/// The intervals of a table, which its rows name by their places.
pub type AllIntervals = Arc<Vec<Interval>>;

/// The columns of a table of intervals with their vectors.
pub fn interval_embeddings(all: &AllIntervals, vectors: &Vectors) -> Vec<Column<Positions>> {
    let mut columns = keys(all);
    columns.extend(vectors.filled(if vectors.causal {
        "states after reading each base of the interval"
    } else {
        "states of the interval's bases after reading all around them"
    }));
    columns
}

/// The columns of a table of intervals with what a language model says of their bases: the numbers
/// of a row are the means of a table of predictions.
pub fn interval_predictions(all: &AllIntervals, causal: bool) -> Vec<Column<Positions>> {
    let mut columns = keys(all);
    columns.extend(pooled("interval", causal));
    columns
}

/// What the file says of an interval, and how it was read.
fn keys(all: &AllIntervals) -> Vec<Column<Positions>> {
    let mut columns = place();
    columns.extend(of_the_file(all));
    let meaning = "the strand that was read: `+` as in the reference, `-` its reverse complement, \
                   `.` both combined";
    columns.push(strand("read_strand", meaning));
    columns.extend(state());
    columns
}

fn of_the_file(all: &AllIntervals) -> [Column<Positions>; 5] {
    type Fill = fn(&[&Interval], &Positions) -> Values;
    let column = |name: &str, kind, meaning: &str, fill: Fill| {
        let all = Arc::clone(all);
        Column::new(name, kind, meaning, move |rows: &Positions| {
            let places = rows.intervals.iter();
            let own: Vec<_> = places.map(|&place| &all[place as usize]).collect();
            fill(&own, rows)
        })
    };
    [
        column(
            "name",
            ColumnKind::Text,
            "its name in the file: BED's column 4; ID, Name or locus_tag; or GTF's gene_id or \
             transcript_id",
            |own, _| Values::Text(own.iter().map(|i| i.name.clone()).collect()),
        ),
        column(
            "score",
            ColumnKind::OptionalF32,
            "its score in the file, if that is a number",
            |own, _| Values::OptionalF32(own.iter().map(|i| i.score).collect()),
        ),
        column(
            "strand",
            ColumnKind::Words,
            "its strand in the file: `+`, `-`, or `.` where none is stated",
            |own, _| {
                let letter = |i: &&Interval| match i.strand {
                    Orientation::Forward => b'+',
                    Orientation::Reverse => b'-',
                    Orientation::Unknown => b'.',
                };
                strands(&own.iter().map(letter).collect::<Vec<_>>())
            },
        ),
        column(
            "record_index",
            ColumnKind::I64,
            "its place among the intervals of the file, from 0; those without a base count",
            |own, _| Values::I64(own.iter().map(|i| i.record.cast_signed()).collect()),
        ),
        column(
            "bases",
            ColumnKind::I64,
            "how many bases were pooled: those of its exons, if the file has them",
            |own, rows| {
                let ends = rows.starts.iter().zip(&rows.ends);
                let pooled = |(i, (start, end)): (&&Interval, (&i64, &i64))| {
                    let within = i.blocks.iter().map(|block| {
                        let (from, to) = (block.start.cast_signed(), block.end.cast_signed());
                        (to.min(*end) - from.max(*start)).max(0)
                    });
                    within.sum()
                };
                Values::I64(own.iter().zip(ends).map(pooled).collect())
            },
        ),
    ]
}
