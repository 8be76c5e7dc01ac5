//! Rows at positions of contigs: the key columns of `embeddings` and `predictions`.

use super::{Batch, Column, Groups, clip_row};
use crate::io::table_writer::{ColumnKind, Values};
use crate::sequence::LETTERS;
use bytemuck::allocation::pod_collect_to_vec;
use bytemuck::cast_slice;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// The bits of the column `flags`. A binned row has the bits of all its bases, or-ed.
pub mod flag {
    /// The base is N or another ambiguity code.
    pub const AMBIGUOUS: u8 = 1;
    /// The base was written in lower case.
    pub const SOFT_MASKED: u8 = 2;
    /// The model's state was reset before this base.
    pub const RESET: u8 = 8;
    /// A value did not fit its type and was clipped.
    pub const CLIPPED: u8 = 16;
}

/// A row of the table is a base, or a bin of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowUnit {
    /// One row a base: `end = start + 1`, and there is a column `base`.
    Base,
    /// One row a bin of bases: no column `base`; `flags` are or-ed; `context_left` is that of the
    /// bin's first base in reading direction.
    Bin,
}

/// Rows of one contig. Fields of equal length, but for `values`, which is (rows, width), `depth`,
/// which is empty unless the sequence is a sample's, `tokens`, unless tokens cover several bases,
/// and `intervals`, unless rows are intervals.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// The contig's name.
    pub name: Arc<str>,
    /// First base of each row, 0-based.
    pub starts: Vec<i64>,
    /// End of each row, exclusive.
    pub ends: Vec<i64>,
    /// `+`, `-` or `.`
    pub strands: Vec<u8>,
    /// Base codes, as on the forward strand; of a bin, its first base in reading order.
    pub bases: Vec<u8>,
    /// Bits of [`flag`].
    pub flags: Vec<u8>,
    /// Bases that the state had read before the row's first one in reading order.
    pub context: Vec<i32>,
    /// Reads at each row's bases in the mean.
    pub depth: Vec<f32>,
    /// First base and end of each row's token.
    pub tokens: Vec<[i64; 2]>,
    /// Of rows that are intervals, their places among all.
    pub intervals: Vec<u32>,
    /// (rows, width); NaN is NULL.
    pub values: Vec<f32>,
}

impl Positions {
    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.values.len() / self.starts.len().max(1)
    }

    /// Reverses the order of the rows.
    pub fn reverse(&mut self) {
        let width = self.width();
        self.starts.reverse();
        self.ends.reverse();
        self.strands.reverse();
        self.bases.reverse();
        self.flags.reverse();
        self.context.reverse();
        self.depth.reverse();
        self.tokens.reverse();
        self.intervals.reverse();
        reverse_rows(&mut self.values, width);
    }

    /// Appends rows `rows` of another batch of the same width.
    pub fn append(&mut self, other: &Self, rows: Range<usize>) {
        let width = other.width();
        self.name = Arc::clone(&other.name);
        self.starts.extend_from_slice(&other.starts[rows.clone()]);
        self.ends.extend_from_slice(&other.ends[rows.clone()]);
        self.strands.extend_from_slice(&other.strands[rows.clone()]);
        self.bases.extend_from_slice(&other.bases[rows.clone()]);
        self.flags.extend_from_slice(&other.flags[rows.clone()]);
        self.context.extend_from_slice(&other.context[rows.clone()]);
        if !other.depth.is_empty() {
            self.depth.extend_from_slice(&other.depth[rows.clone()]);
        }
        if !other.tokens.is_empty() {
            self.tokens.extend_from_slice(&other.tokens[rows.clone()]);
        }
        if !other.intervals.is_empty() {
            let places = &other.intervals[rows.clone()];
            self.intervals.extend_from_slice(places);
        }
        self.values
            .extend_from_slice(&other.values[rows.start * width..rows.end * width]);
    }

    /// The first `rows` rows, which leave the batch.
    pub fn take(&mut self, rows: usize) -> Self {
        let rest = self.split_off(rows);
        std::mem::replace(self, rest)
    }

    /// The rows as bytes for a scratch file, without name and depth.
    pub fn to_bytes(&self) -> Vec<u8> {
        let sizes = [
            self.starts.len(),
            self.tokens.len(),
            self.intervals.len(),
            self.values.len(),
        ];
        let sizes = sizes.map(|size| size as u64);
        let columns: [&[u8]; 10] = [
            cast_slice(&sizes),
            cast_slice(&self.starts),
            cast_slice(&self.ends),
            &self.strands,
            &self.bases,
            &self.flags,
            cast_slice(&self.context),
            cast_slice(&self.tokens),
            cast_slice(&self.intervals),
            cast_slice(&self.values),
        ];
        columns.concat()
    }

    /// What [`Self::to_bytes`] wrote.
    pub fn from_bytes(name: &Arc<str>, bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let mut next = |len: usize| {
            let (head, tail) = rest.split_at(len.min(rest.len()));
            rest = tail;
            head
        };
        let sizes: Vec<u64> = pod_collect_to_vec(next(32));
        let [rows, tokens, intervals, values] = [0, 1, 2, 3].map(|at| sizes[at] as usize);
        Self {
            name: Arc::clone(name),
            starts: pod_collect_to_vec(next(8 * rows)),
            ends: pod_collect_to_vec(next(8 * rows)),
            strands: next(rows).to_vec(),
            bases: next(rows).to_vec(),
            flags: next(rows).to_vec(),
            context: pod_collect_to_vec(next(4 * rows)),
            depth: Vec::new(),
            tokens: pod_collect_to_vec(next(16 * tokens)),
            intervals: pod_collect_to_vec(next(4 * intervals)),
            values: pod_collect_to_vec(next(4 * values)),
        }
    }

    /// Number `at` of each row, NULL where it is NaN.
    pub(super) fn numbers(&self, at: usize) -> Values {
        let column = self.values.iter().skip(at).step_by(self.width().max(1));
        Values::OptionalF32(column.map(|x| (!x.is_nan()).then_some(*x)).collect())
    }

    /// Numbers `range` of each row, row by row.
    pub(super) fn vectors(&self, range: Range<usize>) -> Cow<'_, [f32]> {
        let width = self.width();
        if range == (0..width) {
            return Cow::Borrowed(&self.values);
        }
        let rows = self.values.chunks_exact(width.max(1));
        rows.flat_map(|row| &row[range.clone()]).copied().collect()
    }
}

/// Reverses the order of rows of `width` numbers.
pub fn reverse_rows(values: &mut [f32], width: usize) {
    let width = width.max(1);
    let rows = values.len() / width;
    let (left, right) = values.split_at_mut(rows.div_ceil(2) * width);
    left.par_chunks_exact_mut(width)
        .zip(right.par_chunks_exact_mut(width).rev())
        .with_min_len(256)
        .for_each(|(left, right)| left.swap_with_slice(right));
}

impl Batch for Positions {
    fn len(&self) -> usize {
        self.starts.len()
    }

    fn split_off(&mut self, row: usize) -> Self {
        let width = self.width();
        // Of some rows only some tables have these.
        let depth = row.min(self.depth.len());
        let tokens = row.min(self.tokens.len());
        let intervals = row.min(self.intervals.len());
        Self {
            name: Arc::clone(&self.name),
            starts: self.starts.split_off(row),
            ends: self.ends.split_off(row),
            strands: self.strands.split_off(row),
            bases: self.bases.split_off(row),
            flags: self.flags.split_off(row),
            context: self.context.split_off(row),
            depth: self.depth.split_off(depth),
            tokens: self.tokens.split_off(tokens),
            intervals: self.intervals.split_off(intervals),
            values: self.values.split_off(row * width),
        }
    }

    fn fit(&self, row: usize, groups: &mut Groups) -> usize {
        let places = self.starts[row..].iter().zip(&self.ends[row..]);
        groups.fit(&self.name, places.map(|(start, end)| (*start, *end)))
    }

    fn clip(&mut self) -> u64 {
        let width = self.width().max(1);
        let rows = self.values.par_chunks_mut(width);
        let rows = rows.zip(&mut self.flags).with_min_len(256);
        let clipped = rows.filter_map(|(row, flags)| {
            clip_row(row).then(|| {
                *flags |= flag::CLIPPED;
            })
        });
        clipped.count() as u64
    }
}

/// `chrom, start, end, strand, base, flags, context_left`.
pub(super) fn keys(unit: RowUnit) -> Vec<Column<Positions>> {
    let mut columns = place();
    columns.push(strand(
        "strand",
        "`+` as in the reference, `-` its reverse complement, `.` both combined",
    ));
    if unit == RowUnit::Base {
        columns.push(Column::new(
            "base",
            ColumnKind::Words,
            "A, C, G, T or N, always as on the forward strand",
            |rows: &Positions| letters(&rows.bases),
        ));
    }
    columns.extend(state());
    columns
}

/// `chrom, start, end`.
pub(super) fn place() -> Vec<Column<Positions>> {
    vec![
        Column::new(
            "chrom",
            ColumnKind::Words,
            "the sequence, as named in the FASTA",
            |rows: &Positions| Values::word(&rows.name, rows.len()),
        ),
        Column::new(
            "start",
            ColumnKind::I64,
            "the first base of the row, counted from 0",
            |rows: &Positions| Values::I64(rows.starts.clone()),
        ),
        Column::new(
            "end",
            ColumnKind::I64,
            "one past the last base of the row",
            |rows: &Positions| Values::I64(rows.ends.clone()),
        ),
    ]
}

/// The strand that was read.
pub(super) fn strand(name: &str, meaning: &str) -> Column<Positions> {
    Column::new(name, ColumnKind::Words, meaning, |rows: &Positions| {
        strands(&rows.strands)
    })
}

/// `flags, context_left`.
pub(super) fn state() -> [Column<Positions>; 2] {
    [
        Column::new(
            "flags",
            ColumnKind::U8,
            "sum of: 1 ambiguous base, 2 lower case in the FASTA, 8 the state was reset before this \
             base, 16 a value was clipped",
            |rows: &Positions| Values::U8(rows.flags.clone()),
        ),
        Column::new(
            "context_left",
            ColumnKind::I32,
            "how many bases the model had read before this one, since its state was reset; on `-` \
             rows these lie to the right in the reference",
            |rows: &Positions| Values::I32(rows.context.clone()),
        ),
    ]
}

/// The columns of a table of a sample's own sequence: after `context_left`, how many reads there
/// are at the base, or at a base of the bin in the mean.
pub fn with_depth(mut columns: Vec<Column<Positions>>, unit: RowUnit) -> Vec<Column<Positions>> {
    let depth = match unit {
        RowUnit::Base => Column::new(
            "depth",
            ColumnKind::I32,
            "how many reads were counted at the base",
            |rows: &Positions| Values::I32(rows.depth.iter().map(|&depth| depth as i32).collect()),
        ),
        RowUnit::Bin => Column::new(
            "depth",
            ColumnKind::F32,
            "how many reads were counted at the bases of the bin, in the mean",
            |rows: &Positions| Values::F32(rows.depth.clone()),
        ),
    };
    let after = keys(unit).len();
    columns.insert(after, depth);
    columns
}

/// The columns of a table of bases whose tokens may cover several: after `context_left`, the bases of
/// each row's token. The rows of one token have the same vector.
pub fn with_tokens(mut columns: Vec<Column<Positions>>) -> Vec<Column<Positions>> {
    let place = |name, side: usize, meaning| {
        Column::new(name, ColumnKind::I64, meaning, move |rows: &Positions| {
            Values::I64(rows.tokens.iter().map(|token| token[side]).collect())
        })
    };
    let start = place(
        "token_start",
        0,
        "the first base of the model's token that the row's base belongs to, counted from 0",
    );
    let end = place("token_end", 1, "one past the last base of that token");
    let after = keys(RowUnit::Base).len();
    columns.splice(after..after, [start, end]);
    columns
}

/// `+`, `-` and `.` as words.
pub(super) fn strands(strands: &[u8]) -> Values {
    const WORDS: [&str; 3] = ["+", "-", "."];
    let code = |strand: &u8| match strand {
        b'+' => 0,
        b'-' => 1,
        _ => 2,
    };
    Values::Words {
        codes: strands.iter().map(code).collect(),
        words: WORDS.map(str::to_string).to_vec(),
    }
}

/// Base codes as letters.
pub(super) fn letters(codes: &[u8]) -> Values {
    Values::Words {
        codes: codes.iter().map(|&code| i32::from(code)).collect(),
        words: LETTERS.map(str::to_string).to_vec(),
    }
}
