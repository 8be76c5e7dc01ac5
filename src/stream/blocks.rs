//! Rows on their way from the model to the table: bases pooled into bins, strands joined.

use super::{Pool, Strand};
use crate::error::{Error, Kind, Result};
use crate::io::schema::flag;
use crate::io::spill::Spill;
use bytemuck::allocation::pod_collect_to_vec;
use bytemuck::cast_slice;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Rows of one sequence. Columns of equal length, but for `values`, which is (rows, width).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Block {
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
    /// (rows, width); NaN is NULL.
    pub values: Vec<f32>,
}

impl Block {
    /// Rows.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    fn width(&self) -> usize {
        self.values.len() / self.len().max(1)
    }

    /// Turns the rows round.
    fn reverse(&mut self) {
        let width = self.width().max(1);
        self.starts.reverse();
        self.ends.reverse();
        self.strands.reverse();
        self.bases.reverse();
        self.flags.reverse();
        self.context.reverse();
        let (rows, mut values) = (self.len(), std::mem::take(&mut self.values));
        for row in 0..rows / 2 {
            let (left, right) = values.split_at_mut((rows - 1 - row) * width);
            left[row * width..][..width].swap_with_slice(&mut right[..width]);
        }
        self.values = values;
    }

    /// Appends rows `rows` of another block of the same width.
    pub(super) fn append(&mut self, other: &Block, rows: std::ops::Range<usize>) {
        let width = other.width();
        self.name = Arc::clone(&other.name);
        self.starts.extend_from_slice(&other.starts[rows.clone()]);
        self.ends.extend_from_slice(&other.ends[rows.clone()]);
        self.strands.extend_from_slice(&other.strands[rows.clone()]);
        self.bases.extend_from_slice(&other.bases[rows.clone()]);
        self.flags.extend_from_slice(&other.flags[rows.clone()]);
        self.context.extend_from_slice(&other.context[rows.clone()]);
        self.values
            .extend_from_slice(&other.values[rows.start * width..rows.end * width]);
    }

    /// The first `rows` rows, which leave the block.
    pub(super) fn take(&mut self, rows: usize) -> Block {
        let (mut head, mut tail) = (Block::default(), Block::default());
        head.append(self, 0..rows);
        tail.append(self, rows..self.len());
        *self = tail;
        head
    }

    fn to_bytes(&self) -> Vec<u8> {
        let sizes = [self.len() as u64, self.values.len() as u64];
        let columns: [&[u8]; 8] = [
            cast_slice(&sizes),
            cast_slice(&self.starts),
            cast_slice(&self.ends),
            &self.strands,
            &self.bases,
            &self.flags,
            cast_slice(&self.context),
            cast_slice(&self.values),
        ];
        columns.concat()
    }

    fn from_bytes(name: &Arc<str>, bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let mut next = |len: usize| {
            let (head, tail) = rest.split_at(len.min(rest.len()));
            rest = tail;
            head
        };
        let sizes: Vec<u64> = pod_collect_to_vec(next(16));
        let [rows, values] = [sizes[0] as usize, sizes[1] as usize];
        Self {
            name: Arc::clone(name),
            starts: pod_collect_to_vec(next(8 * rows)),
            ends: pod_collect_to_vec(next(8 * rows)),
            strands: next(rows).to_vec(),
            bases: next(rows).to_vec(),
            flags: next(rows).to_vec(),
            context: pod_collect_to_vec(next(4 * rows)),
            values: pod_collect_to_vec(next(4 * values)),
        }
    }
}

/// Pools bases into bins of a fixed length, aligned to multiples of it along the contig and cut
/// at the ends of what has rows.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bins {
    size: i64,
    pool: Pool,
    /// One row: the bin that is not finished.
    open: Block,
    bases: i64,
}

impl Bins {
    /// Bins of `size` bases.
    pub fn new(size: u64, pool: Pool) -> Self {
        Self {
            size: size.cast_signed(),
            pool,
            open: Block::default(),
            bases: 0,
        }
    }

    /// Rows in reading order to the bins that they finish; `ends`: the last ones too.
    ///
    /// A row is of one base, or of several of one bin, already brought together: their sum where
    /// the mean is wanted.
    pub fn push(&mut self, block: &Block, ends: bool) -> Block {
        let mut out = Block::default();
        let width = block.width();
        for i in 0..block.len() {
            let bin = block.starts[i] / self.size;
            let bases = block.ends[i] - block.starts[i];
            if !self.open.is_empty() && self.open.starts[0] / self.size != bin {
                self.close(&mut out);
            }
            if self.open.is_empty() {
                self.open.append(block, i..i + 1);
                self.bases = bases;
                continue;
            }
            self.bases += bases;
            self.open.starts[0] = self.open.starts[0].min(block.starts[i]);
            self.open.ends[0] = self.open.ends[0].max(block.ends[i]);
            // The state is reset before a bin only if it is before its first base.
            self.open.flags[0] |= block.flags[i] & !flag::RESET;
            let row = &block.values[i * width..][..width];
            for (pooled, &x) in self.open.values.iter_mut().zip(row) {
                match self.pool {
                    Pool::Mean => *pooled += x,
                    Pool::Max => *pooled = pooled.max(x),
                    Pool::Last => *pooled = x,
                }
            }
        }
        if ends && !self.open.is_empty() {
            self.close(&mut out);
        }
        out
    }

    fn close(&mut self, out: &mut Block) {
        if self.pool == Pool::Mean {
            let bases = self.bases as f32;
            self.open.values.iter_mut().for_each(|x| *x /= bases);
        }
        out.append(&self.open, 0..1);
        self.open = Block::default();
    }
}

/// Brings the rows of both strands into reference order.
///
/// The reverse strand is read first, from right to left; its rows wait in a scratch file of the
/// size of the table. Memory: a few blocks.
pub struct Strands {
    strand: Strand,
    scratch: PathBuf,
    waiting: Option<Spill>,
    next: Block,
}

impl Strands {
    /// Scratch files lie in `scratch`.
    pub fn new(strand: Strand, scratch: PathBuf) -> Self {
        Self {
            strand,
            scratch,
            waiting: None,
            next: Block::default(),
        }
    }

    /// Rows in reading order; `ends`: the strand ends with them. Rows go to `emit` from left to
    /// right.
    pub fn push(
        &mut self,
        mut block: Block,
        reverse: bool,
        ends: bool,
        emit: &mut impl FnMut(Block) -> Result<()>,
    ) -> Result<()> {
        if self.strand == Strand::Forward {
            return emit(block);
        }
        if reverse {
            let name = Arc::clone(&block.name);
            if self.waiting.is_none() {
                self.waiting = Some(Spill::create(&self.scratch)?);
            }
            block.reverse();
            if let Some(waiting) = self.waiting.as_mut().filter(|_| !block.is_empty()) {
                waiting.push(&block.to_bytes())?;
            }
            if ends && self.strand == Strand::Reverse {
                while let Some(bytes) = self.waiting.as_mut().map_or(Ok(None), Spill::pop)? {
                    emit(Block::from_bytes(&name, &bytes))?;
                }
            }
            return Ok(());
        }
        let other = self.waited(block.len(), &block.name)?;
        if other.starts != block.starts {
            return Err(Error::new(Kind::Internal, "the strands' rows do not match"));
        }
        emit(match self.strand {
            Strand::Mean => mean(block, &other),
            Strand::Joined => joined(block, &other),
            _ => alternate(&block, &other),
        })
    }

    /// The next `rows` rows of the reverse strand, from the left.
    fn waited(&mut self, rows: usize, name: &Arc<str>) -> Result<Block> {
        while self.next.len() < rows {
            let Some(bytes) = self.waiting.as_mut().map_or(Ok(None), Spill::pop)? else {
                return Err(Error::new(
                    Kind::Internal,
                    "rows of the reverse strand are missing",
                ));
            };
            let more = Block::from_bytes(name, &bytes);
            self.next.append(&more, 0..more.len());
        }
        Ok(self.next.take(rows))
    }
}

fn mean(mut block: Block, other: &Block) -> Block {
    block.strands.fill(b'.');
    for (x, y) in block.values.iter_mut().zip(&other.values) {
        *x = (*x + y) / 2.0;
    }
    for (flags, other) in block.flags.iter_mut().zip(&other.flags) {
        *flags |= other;
    }
    for (context, other) in block.context.iter_mut().zip(&other.context) {
        *context = (*context).min(*other);
    }
    block
}

/// One row a position: the forward strand's values, then the other's.
fn joined(mut block: Block, other: &Block) -> Block {
    block.strands.fill(b'.');
    let width = block.width().max(1);
    let rows = block
        .values
        .chunks_exact(width)
        .zip(other.values.chunks_exact(width));
    block.values = rows
        .flat_map(|(own, other)| [own, other].concat())
        .collect();
    for (flags, other) in block.flags.iter_mut().zip(&other.flags) {
        *flags |= other;
    }
    for (context, other) in block.context.iter_mut().zip(&other.context) {
        *context = (*context).min(*other);
    }
    block
}

fn alternate(block: &Block, other: &Block) -> Block {
    let mut both = Block::default();
    for row in 0..block.len() {
        both.append(block, row..row + 1);
        both.append(other, row..row + 1);
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of width 2 at `starts`, in that order.
    fn rows(starts: &[i64], strand: u8) -> Block {
        Block {
            name: "chr".into(),
            starts: starts.to_vec(),
            ends: starts.iter().map(|s| s + 1).collect(),
            strands: vec![strand; starts.len()],
            bases: starts.iter().map(|s| (s % 4) as u8).collect(),
            flags: vec![0; starts.len()],
            context: starts.iter().map(|&s| s as i32).collect(),
            values: starts.iter().flat_map(|&s| [s as f32, -s as f32]).collect(),
        }
    }

    #[test]
    fn bins_lie_on_multiples_of_their_size_however_the_rows_arrive() {
        let all: Vec<i64> = (7..42).collect();
        for cut in 0..all.len() {
            let mut bins = Bins::new(10, Pool::Mean);
            let mut out = bins.push(&rows(&all[..cut], b'+'), false);
            let rest = bins.push(&rows(&all[cut..], b'+'), true);
            out.append(&rest, 0..rest.len());
            assert_eq!(out.starts, [7, 10, 20, 30, 40]);
            assert_eq!(out.ends, [10, 20, 30, 40, 42]);
            assert_eq!(
                out.values,
                [
                    8.0, -8.0, 14.5, -14.5, 24.5, -24.5, 34.5, -34.5, 40.5, -40.5
                ]
            );
            assert_eq!(out.context, [7, 10, 20, 30, 40]);
        }
        let mut last = Bins::new(10, Pool::Last);
        assert_eq!(last.push(&rows(&all, b'+'), true).values[..2], [9.0, -9.0]);
        let mut max = Bins::new(10, Pool::Max);
        assert_eq!(max.push(&rows(&all, b'+'), true).values[..2], [9.0, -7.0]);
    }

    #[test]
    fn strands_come_out_from_left_to_right_in_any_blocks() {
        let scratch = tempfile::tempdir().unwrap();
        for strand in [Strand::Reverse, Strand::Both, Strand::Mean] {
            let mut strands = Strands::new(strand, scratch.path().to_path_buf());
            let mut out = Block::default();
            let mut emit = |block: Block| {
                out.append(&block, 0..block.len());
                Ok(())
            };
            strands
                .push(rows(&[9, 8, 7], b'-'), true, false, &mut emit)
                .unwrap();
            strands
                .push(rows(&[6, 5], b'-'), true, true, &mut emit)
                .unwrap();
            if strand != Strand::Reverse {
                strands
                    .push(rows(&[5, 6, 7, 8], b'+'), false, false, &mut emit)
                    .unwrap();
                strands
                    .push(rows(&[9], b'+'), false, true, &mut emit)
                    .unwrap();
            }
            let expected: &[i64] = match strand {
                Strand::Both => &[5, 5, 6, 6, 7, 7, 8, 8, 9, 9],
                _ => &[5, 6, 7, 8, 9],
            };
            assert_eq!(out.starts, expected);
            let values = expected.iter().flat_map(|&s| [s as f32, -s as f32]);
            assert_eq!(out.values, values.collect::<Vec<_>>());
            let strands = String::from_utf8(out.strands).unwrap();
            assert_eq!(
                strands[..2],
                *match strand {
                    Strand::Both => "+-",
                    Strand::Mean => "..",
                    _ => "--",
                }
            );
        }
    }
}
