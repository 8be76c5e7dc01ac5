//! The rows of both strands in reference order.

use crate::error::{Error, Kind, Result};
use crate::io::spill::{Scratch, Spill};
use crate::ops::unwritten;
use crate::stream::Strand;
use crate::table::{Batch, Positions, reverse_rows};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Rows that a thread takes at a time.
const TOGETHER: usize = 256;

/// Numbers that a thread reads at a time.
const READ: usize = 1 << 18;

/// Brings the rows of both strands into reference order.
///
/// The reverse strand is read first, from right to left; its rows wait in scratch files of the
/// size of the table. Memory: a few blocks.
pub struct Strands {
    strand: Strand,
    scratch: PathBuf,
    waiting: Option<Waiting>,
    /// The next rows of the reverse strand, from the left, without their values.
    next: Positions,
}

/// Rows of the reverse strand. Their values are nearly all that there is of them: they are written
/// and read once, as they come, and turned when they are in memory again.
struct Waiting {
    /// What else a row has, block by block, each from left to right.
    keys: Spill,
    /// The values, in reading order.
    values: Scratch,
    /// How many of them there are, and how many a row has.
    count: u64,
    width: usize,
}

impl Waiting {
    fn create(scratch: &Path) -> Result<Self> {
        Ok(Self {
            keys: Spill::create(scratch)?,
            values: Scratch::create(scratch)?,
            count: 0,
            width: 0,
        })
    }

    /// Takes rows in reading order.
    fn push(&mut self, mut rows: Positions) -> Result<()> {
        let values = std::mem::take(&mut rows.values);
        self.width = values.len() / rows.len();
        self.values.write_numbers(self.count, &values)?;
        self.count += values.len() as u64;
        rows.reverse();
        self.keys.push(&rows.to_bytes())
    }

    /// The last block of rows, from left to right, without their values.
    fn keys(&mut self, name: &Arc<str>) -> Result<Option<Positions>> {
        let bytes = self.keys.pop()?;
        Ok(bytes.map(|bytes| Positions::from_bytes(name, &bytes)))
    }

    /// The values of the last `rows` rows, from left to right.
    fn values(&mut self, rows: usize) -> Result<Vec<f32>> {
        let mut values = unwritten(rows * self.width);
        self.count -= values.len() as u64;
        let parts = values.par_chunks_mut(READ).enumerate();
        parts.try_for_each(|(i, part)| {
            let from = self.count + (i * READ) as u64;
            self.values.read_numbers(from, part)
        })?;
        reverse_rows(&mut values, self.width);
        Ok(values)
    }
}

impl Strands {
    /// Scratch files lie in `scratch`.
    pub fn new(strand: Strand, scratch: PathBuf) -> Self {
        Self {
            strand,
            scratch,
            waiting: None,
            next: Positions::default(),
        }
    }

    /// Rows in reading order; `ends`: the strand ends with them. Rows go to `emit` from left to
    /// right.
    pub fn push(
        &mut self,
        block: Positions,
        reverse: bool,
        ends: bool,
        emit: &mut impl FnMut(Positions) -> Result<()>,
    ) -> Result<()> {
        if self.strand == Strand::Forward {
            return emit(block);
        }
        if reverse {
            let name = Arc::clone(&block.name);
            let waiting = match &mut self.waiting {
                Some(waiting) => waiting,
                none => none.insert(Waiting::create(&self.scratch)?),
            };
            if !block.is_empty() {
                waiting.push(block)?;
            }
            if ends && self.strand == Strand::Reverse {
                while let Some(mut rows) = waiting.keys(&name)? {
                    rows.values = waiting.values(rows.len())?;
                    emit(rows)?;
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
            _ => alternate(block, other),
        })
    }

    /// The next `rows` rows of the reverse strand, from the left.
    fn waited(&mut self, rows: usize, name: &Arc<str>) -> Result<Positions> {
        let missing = || Error::new(Kind::Internal, "rows of the reverse strand are missing");
        let Some(waiting) = &mut self.waiting else {
            return if rows == 0 {
                Ok(Positions::default())
            } else {
                Err(missing())
            };
        };
        while self.next.len() < rows {
            let more = waiting.keys(name)?.ok_or_else(missing)?;
            self.next.append(&more, 0..more.len());
        }
        let mut next = self.next.take(rows);
        next.values = waiting.values(rows)?;
        Ok(next)
    }
}

fn mean(mut block: Positions, other: &Positions) -> Positions {
    block
        .values
        .par_chunks_mut(READ)
        .zip(other.values.par_chunks(READ))
        .for_each(|(block, other)| {
            for (x, y) in block.iter_mut().zip(other) {
                *x = (*x + y) / 2.0;
            }
        });
    combined(block, other)
}

/// One row a position: the forward strand's values, then the other's.
fn joined(mut block: Positions, other: &Positions) -> Positions {
    block.values = side_by_side(&block, other);
    combined(block, other)
}

/// The keys of one row a position.
fn combined(mut block: Positions, other: &Positions) -> Positions {
    block.strands.fill(b'.');
    block.tokens.clear();
    for (flags, other) in block.flags.iter_mut().zip(&other.flags) {
        *flags |= other;
    }
    for (context, other) in block.context.iter_mut().zip(&other.context) {
        *context = (*context).min(*other);
    }
    block
}

/// The values of each row of a block, then those of the same row of another.
fn side_by_side(block: &Positions, other: &Positions) -> Vec<f32> {
    let width = block.width().max(1);
    let mut values = unwritten(2 * block.values.len());
    values
        .par_chunks_exact_mut(2 * width)
        .zip(block.values.par_chunks_exact(width))
        .zip(other.values.par_chunks_exact(width))
        .with_min_len(TOGETHER)
        .for_each(|((row, own), other)| {
            row[..width].copy_from_slice(own);
            row[width..].copy_from_slice(other);
        });
    values
}

fn alternate(mut block: Positions, mut other: Positions) -> Positions {
    let values = side_by_side(&block, &other);
    block.values.clear();
    other.values.clear();
    let mut both = Positions::default();
    for row in 0..block.len() {
        both.append(&block, row..row + 1);
        both.append(&other, row..row + 1);
    }
    both.values = values;
    both
}

#[cfg(test)]
mod tests {
    use super::super::bins::tests::rows;
    use super::*;

    #[test]
    fn strands_come_out_from_left_to_right_in_any_blocks() {
        let scratch = tempfile::tempdir().unwrap();
        for strand in [Strand::Reverse, Strand::Both, Strand::Mean] {
            let mut strands = Strands::new(strand, scratch.path().to_path_buf());
            let mut out = Positions::default();
            let mut emit = |block: Positions| {
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
