//! The rows of both strands in reference order.

use crate::error::{Error, Kind, Result};
use crate::io::spill::Spill;
use crate::stream::Strand;
use crate::table::{Batch, Positions};
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;

/// Rows that a thread takes at a time.
pub(super) const TOGETHER: usize = 256;

/// Brings the rows of both strands into reference order.
///
/// The reverse strand is read first, from right to left; its rows wait in a scratch file of the
/// size of the table. Memory: a few blocks.
pub struct Strands {
    strand: Strand,
    scratch: PathBuf,
    waiting: Option<Spill>,
    next: Positions,
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
        mut block: Positions,
        reverse: bool,
        ends: bool,
        emit: &mut impl FnMut(Positions) -> Result<()>,
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
                    emit(Positions::from_bytes(&name, &bytes))?;
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
    fn waited(&mut self, rows: usize, name: &Arc<str>) -> Result<Positions> {
        while self.next.len() < rows {
            let Some(bytes) = self.waiting.as_mut().map_or(Ok(None), Spill::pop)? else {
                return Err(Error::new(
                    Kind::Internal,
                    "rows of the reverse strand are missing",
                ));
            };
            let more = Positions::from_bytes(name, &bytes);
            self.next.append(&more, 0..more.len());
        }
        Ok(self.next.take(rows))
    }
}

fn mean(mut block: Positions, other: &Positions) -> Positions {
    block.strands.fill(b'.');
    block.tokens.clear();
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
fn joined(mut block: Positions, other: &Positions) -> Positions {
    block.strands.fill(b'.');
    block.tokens.clear();
    let width = block.width().max(1);
    let mut values = vec![0.0; 2 * block.values.len()];
    values
        .par_chunks_exact_mut(2 * width)
        .zip(block.values.par_chunks_exact(width))
        .zip(other.values.par_chunks_exact(width))
        .with_min_len(TOGETHER)
        .for_each(|((row, own), other)| {
            row[..width].copy_from_slice(own);
            row[width..].copy_from_slice(other);
        });
    block.values = values;
    for (flags, other) in block.flags.iter_mut().zip(&other.flags) {
        *flags |= other;
    }
    for (context, other) in block.context.iter_mut().zip(&other.context) {
        *context = (*context).min(*other);
    }
    block
}

fn alternate(block: &Positions, other: &Positions) -> Positions {
    let mut both = Positions::default();
    for row in 0..block.len() {
        both.append(block, row..row + 1);
        both.append(other, row..row + 1);
    }
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
