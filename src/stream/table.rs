//! Rows to the columns of a table, in row groups that start where a reader can compute.

use super::blocks::Block;
use super::journal::Journal;
use super::steps::Position;
use super::tracks::Tracks;
use crate::error::{Error, Kind, Result};
use crate::io::atomic::AtomicFile;
use crate::io::pileup::Depths;
use crate::io::schema::{GROUP_POSITIONS, flag};
use crate::io::table::{Column, ColumnKind, Receipt, TableWriter, Values};
use crate::io::vector::Element;
use crate::sequence::LETTERS;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Rows after which a group is closed though no multiple of [`GROUP_POSITIONS`] came: many short
/// sequences share a group.
const GROUP_ROWS: usize = 2 * GROUP_POSITIONS as usize;

/// Writes blocks of rows to a table, or to the parts of one.
pub struct Sink {
    columns: Vec<Column>,
    /// None if rows go elsewhere alone.
    table: Option<TableWriter>,
    tracks: Tracks,
    record: Option<Record>,
    /// Positions of a group.
    span: i64,
    /// Rows of the open group.
    rows: usize,
    /// Of a sample's own sequence, the reads at each position.
    depths: Option<Depths>,
    /// Rows with values that did not fit float16 and were cut to its largest number.
    clipped: u64,
    /// Bytes that the table may take, and bytes of a row.
    largest: Option<(u64, u64)>,
    written: u64,
}

/// A run that can be resumed.
struct Record {
    journal: Journal,
    target: AtomicFile,
    /// Rows of the open group, as they were written.
    pending: Vec<Block>,
}

impl Sink {
    /// Writes to `target` a table of these columns: the keys of [`crate::io::schema`], then the
    /// values' columns, one number each but for vectors.
    ///
    /// `bin`: bases of a row; a group spans as many rows of bins as of bases.
    /// `largest`: bytes that the table may take, and about how many a row takes. With a journal,
    /// the table is written in parts, which become one at the end.
    pub fn create(
        target: AtomicFile,
        columns: Vec<Column>,
        bin: u64,
        largest: Option<(u64, u64)>,
        journal: Option<Journal>,
    ) -> Result<Self> {
        let (table, record, pending) = match journal {
            None => (
                Some(TableWriter::create(target, &columns)?),
                None,
                Vec::new(),
            ),
            Some(journal) => {
                let table = TableWriter::create(journal.create_part(1)?, &columns)?;
                let pending = journal.pending()?;
                (
                    Some(table),
                    Some(Record {
                        journal,
                        target,
                        pending: Vec::new(),
                    }),
                    pending,
                )
            }
        };
        let mut sink = Self {
            columns,
            table,
            tracks: Tracks::default(),
            record,
            span: (GROUP_POSITIONS * bin).cast_signed(),
            rows: 0,
            depths: None,
            clipped: 0,
            largest,
            written: 0,
        };
        for block in &pending {
            sink.write(block)?;
        }
        Ok(sink)
    }

    /// Writes no table, only what [`Sink::with_tracks`] adds.
    pub fn without_table() -> Self {
        Self {
            columns: Vec::new(),
            table: None,
            tracks: Tracks::default(),
            record: None,
            span: 1,
            rows: 0,
            depths: None,
            clipped: 0,
            largest: None,
            written: 0,
        }
    }

    /// Writes the rows to these files too.
    #[must_use]
    pub fn with_tracks(mut self, tracks: Tracks) -> Self {
        self.tracks = tracks;
        self
    }

    /// Fills the column `depth` from these, which come in the order of the rows.
    #[must_use]
    pub fn with_depths(mut self, depths: Option<Depths>) -> Self {
        self.depths = depths;
        self
    }

    /// The mean depth of each row's positions.
    fn depths(&self, block: &Block, rows: std::ops::Range<usize>) -> Result<Vec<f32>> {
        let missing = || Error::new(Kind::Internal, "no depth for a position");
        let depths = self.depths.as_ref().ok_or_else(missing)?;
        let mean = |i: usize| {
            let mut sum = 0.0;
            for position in block.starts[i]..block.ends[i] {
                let depth = depths
                    .at(&block.name, position.cast_unsigned())
                    .ok_or_else(missing)?;
                sum += f64::from(depth);
            }
            Ok((sum / (block.ends[i] - block.starts[i]) as f64) as f32)
        };
        rows.map(mean).collect()
    }

    /// The journal, if the run can be resumed.
    pub(super) fn journal(&self) -> Option<&Journal> {
        self.record.as_ref().map(|record| &record.journal)
    }

    /// Appends rows.
    pub(super) fn write(&mut self, block: &Block) -> Result<()> {
        self.written += block.len() as u64;
        if let Some((largest, row)) = self.largest
            && self.written * row > largest
        {
            return Err(Error::usage(
                "the table is becoming larger than --max-output",
            ));
        }
        self.tracks.write(block)?;
        let mut from = 0;
        while from < block.len() && self.table.is_some() {
            // Groups end before each multiple of their span; both rows of a position, with
            // two strands, stay together.
            let group = block.starts[from] / self.span;
            let same = |start: &&i64| **start / self.span == group;
            let here = block.starts[from..].iter().take_while(same).count();
            let to = from + here;
            let values = self.values(block, from..to)?;
            if let Some(table) = &mut self.table {
                table.write(values)?;
            }
            if let Some(record) = &mut self.record {
                let mut rows = Block::default();
                rows.append(block, from..to);
                record.pending.push(rows);
            }
            self.rows += here;
            let complete = block.ends[to - 1] % self.span == 0;
            if complete || to < block.len() || self.rows >= GROUP_ROWS {
                self.close_group()?;
            }
            from = to;
        }
        Ok(())
    }

    fn close_group(&mut self) -> Result<()> {
        if let Some(table) = &mut self.table {
            table.close_group()?;
        }
        self.rows = 0;
        if let Some(record) = &mut self.record {
            record.pending.clear();
        }
        Ok(())
    }

    /// Ends a part: its finished groups and the rows after them are safe then.
    pub(super) fn checkpoint(&mut self, position: Position) -> Result<()> {
        let Some(record) = &mut self.record else {
            return Ok(());
        };
        let next = TableWriter::create(record.journal.create_part(2)?, &self.columns)?;
        if let Some(mut part) = self.table.replace(next) {
            part.abandon_group();
            part.finish(&serde_json::Value::Null)?;
        }
        record.journal.commit(position, &record.pending)?;
        self.rows = 0;
        for block in std::mem::take(&mut record.pending) {
            self.write(&block)?;
        }
        Ok(())
    }

    /// Closes the table, and what is written beside it; also gives the number of genes, if they
    /// are written.
    pub fn finish(mut self, footer: &serde_json::Value) -> Result<(Receipt, Option<u64>)> {
        self.close_group()?;
        let genes = self.tracks.finish()?;
        let Some(written) = self.table else {
            let receipt = Receipt {
                rows: self.written,
                bytes: 0,
                sha256: String::new(),
            };
            return Ok((receipt, genes));
        };
        let Some(record) = self.record else {
            return Ok((written.finish(footer)?, genes));
        };
        let Record {
            journal, target, ..
        } = record;
        written.finish(&serde_json::Value::Null)?;
        let mut table = TableWriter::create(target, &self.columns)?;
        for part in journal.parts() {
            table.append(&part)?;
        }
        let receipt = table.finish(footer)?;
        journal.remove()?;
        Ok((receipt, genes))
    }

    /// Rows with values that were cut to float16's largest number.
    pub fn clipped(&self) -> u64 {
        self.clipped
    }

    fn values(&mut self, block: &Block, rows: std::ops::Range<usize>) -> Result<Vec<Values>> {
        let width = block.values.len() / block.len();
        let values = &block.values[rows.start * width..rows.end * width];
        let mut flags = block.flags[rows.clone()].to_vec();
        let (mut at, mut clipped) = (0, 0);
        let mut out = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            out.push(match (column.name.as_str(), column.kind) {
                ("chrom", _) => Values::word(&block.name, rows.len()),
                ("start", _) => Values::I64(block.starts[rows.clone()].to_vec()),
                ("end", _) => Values::I64(block.ends[rows.clone()].to_vec()),
                ("strand", _) => Values::Words {
                    codes: block.strands[rows.clone()]
                        .iter()
                        .map(|s| strand_code(*s))
                        .collect(),
                    words: ["+", "-", "."].map(str::to_string).to_vec(),
                },
                ("base", _) => Values::Words {
                    codes: block.bases[rows.clone()]
                        .iter()
                        .map(|&b| i32::from(b))
                        .collect(),
                    words: LETTERS.map(str::to_string).to_vec(),
                },
                ("flags", _) => Values::U8(Vec::new()),
                ("context_left", _) => Values::I32(block.context[rows.clone()].to_vec()),
                ("depth", ColumnKind::I32) => {
                    let depths = self.depths(block, rows.clone())?;
                    Values::I32(depths.into_iter().map(|depth| depth as i32).collect())
                }
                ("depth", _) => Values::F32(self.depths(block, rows.clone())?),
                (_, ColumnKind::OptionalF32) => {
                    let column = values.iter().skip(at).step_by(width);
                    at += 1;
                    Values::OptionalF32(column.map(|x| (!x.is_nan()).then_some(*x)).collect())
                }
                (_, ColumnKind::Vector { element, dim }) => {
                    let part: Vec<f32> = match dim == width {
                        true => values.to_vec(),
                        false => values
                            .chunks(width)
                            .flat_map(|row| &row[at..at + dim])
                            .copied()
                            .collect(),
                    };
                    at += dim;
                    match element {
                        Element::F32 => Values::F32Vectors(part),
                        Element::F16 => {
                            let (halves, cut) = halves(part, dim, &mut flags);
                            clipped += cut;
                            Values::F16Vectors(halves)
                        }
                    }
                }
                (name, _) => {
                    return Err(Error::new(
                        Kind::Internal,
                        format!("no values for column {name}"),
                    ));
                }
            });
        }
        for (column, values) in self.columns.iter().zip(&mut out) {
            if column.name == "flags" {
                *values = Values::U8(std::mem::take(&mut flags));
            }
        }
        self.clipped += clipped;
        Ok(out)
    }
}

/// float32 to float16, and how many rows had a number beyond its range; those get a flag.
fn halves(mut values: Vec<f32>, dim: usize, flags: &mut [u8]) -> (Vec<f16>, u64) {
    let largest = f16::MAX.to_f32();
    let mut clipped = 0;
    for (row, flags) in values.chunks_mut(dim).zip(flags) {
        if row.iter().any(|x| x.abs() > largest) {
            row.iter_mut().for_each(|x| *x = x.clamp(-largest, largest));
            *flags |= flag::CLIPPED;
            clipped += 1;
        }
    }
    let mut halves = vec![f16::ZERO; values.len()];
    halves.convert_from_f32_slice(&values);
    (halves, clipped)
}

fn strand_code(strand: u8) -> i32 {
    match strand {
        b'+' => 0,
        b'-' => 1,
        _ => 2,
    }
}
