//! Sequences to steps: what the model reads at a time.
//!
//! A step holds at most `chunk` tokens. Long sequences fill one step after another; short ones
//! share a step, end to end, both strands of a sequence side by side. At most one sequence is
//! unfinished at a time, so one lane of state suffices.

use super::Strand;
use crate::error::Result;
use crate::io::genome::{Genome, Sequence};
use crate::io::spill::Spill;
use crate::sequence::{Segment, reverse_complement};
use std::path::Path;
use std::sync::Arc;

/// What the model reads in one call.
#[derive(Default)]
pub struct Step {
    /// Runs of consecutive bases, end to end.
    pub pieces: Vec<Piece>,
}

/// Consecutive bases of one strand of one sequence.
pub struct Piece {
    /// The sequence.
    pub sequence: Arc<Sequence>,
    /// The reverse complement is read, from the right end of the sequence.
    pub reverse: bool,
    /// Bases of this strand that were read before.
    pub before: u64,
    /// Base codes in the order in which they are read.
    pub codes: Vec<u8>,
    /// Where the piece stands in the state.
    pub segment: Segment,
}

impl Step {
    /// Tokens of the step.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.codes.len()).sum()
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The segments of the state, in the order of the pieces.
    pub fn segments(&self) -> Vec<Segment> {
        self.pieces.iter().map(|piece| piece.segment).collect()
    }
}

impl Piece {
    /// The reference position of the piece's token `i`.
    pub fn position(&self, i: usize) -> u64 {
        let read = self.before + i as u64;
        match self.reverse {
            false => self.sequence.start + read,
            true => self.sequence.end - 1 - read,
        }
    }
}

/// Makes steps of a genome's sequences.
pub struct Steps<'a> {
    genome: &'a mut Genome,
    chunk: usize,
    strand: Strand,
    scratch: &'a Path,
    /// Bases of the sequence being read that no piece has taken yet.
    ahead: Vec<u8>,
    current: Option<Current>,
}

/// The sequence being read.
enum Current {
    /// Straight from the source.
    Forward { sequence: Arc<Sequence>, read: u64 },
    /// Once from the right, once from the left, out of a scratch file.
    Strands {
        sequence: Arc<Sequence>,
        codes: Spill,
        reverse: bool,
        read: u64,
    },
}

impl<'a> Steps<'a> {
    /// Steps of at most `chunk` tokens; scratch files lie in `scratch`.
    pub fn new(genome: &'a mut Genome, chunk: usize, strand: Strand, scratch: &'a Path) -> Self {
        Self {
            genome,
            chunk,
            strand,
            scratch,
            ahead: Vec::new(),
            current: None,
        }
    }

    /// The next step; `None` after the last sequence.
    ///
    /// Memory: a few times `chunk` bytes.
    pub fn next_step(&mut self) -> Result<Option<Step>> {
        let mut step = Step::default();
        let mut room = self.chunk;
        while room > 0 {
            let Some(current) = self.current.take() else {
                match self.genome.next_sequence()? {
                    Some(sequence) => self.current = Some(self.open(sequence)?),
                    None => break,
                }
                continue;
            };
            let (piece, rest) = match current {
                Current::Forward { sequence, read } => self.forward(sequence, read, room)?,
                Current::Strands {
                    sequence,
                    codes,
                    reverse,
                    read,
                } => self.strands(sequence, codes, reverse, read, room)?,
            };
            self.current = rest;
            if let Some(piece) = piece {
                room -= piece.codes.len();
                step.pieces.push(piece);
            }
        }
        Ok((!step.is_empty()).then_some(step))
    }

    fn open(&mut self, mut sequence: Sequence) -> Result<Current> {
        if self.strand == Strand::Forward {
            return Ok(Current::Forward {
                sequence: Arc::new(sequence),
                read: 0,
            });
        }
        let mut codes = Spill::create(self.scratch)?;
        let mut block = Vec::new();
        while self.genome.read_bases(&mut block, self.chunk)? > 0 {
            codes.push(&block)?;
            block.clear();
        }
        sequence.end = sequence.start + codes.bytes();
        sequence.rows.end = sequence.rows.end.min(sequence.end);
        Ok(Current::Strands {
            sequence: Arc::new(sequence),
            codes,
            reverse: true,
            read: 0,
        })
    }

    fn forward(&mut self, sequence: Arc<Sequence>, read: u64, room: usize) -> Result<Next> {
        // One base more than asked for tells whether the sequence ends with this piece.
        while self.ahead.len() <= room {
            let wanted = room + 1 - self.ahead.len();
            if self.genome.read_bases(&mut self.ahead, wanted)? == 0 {
                break;
            }
        }
        let rest = self.ahead.split_off(room.min(self.ahead.len()));
        let codes = std::mem::replace(&mut self.ahead, rest);
        Ok(cut(
            codes,
            read,
            self.ahead.is_empty(),
            &sequence,
            false,
            |read| Current::Forward {
                sequence: Arc::clone(&sequence),
                read,
            },
        ))
    }

    fn strands(
        &mut self,
        sequence: Arc<Sequence>,
        codes: Spill,
        reverse: bool,
        read: u64,
        room: usize,
    ) -> Result<Next> {
        // Each strand is read from its own end through its context, as far as there are rows.
        let total = match reverse {
            true => sequence.end - sequence.rows.start,
            false => sequence.rows.end - sequence.start,
        };
        let n = (total - read).min(room as u64);
        let from = match reverse {
            true => sequence.end - sequence.start - read - n,
            false => read,
        };
        let mut piece = codes.read(from, n as usize)?;
        if reverse {
            reverse_complement(&mut piece);
        }
        let ends = read + n == total;
        let other = ends && reverse && self.strand != Strand::Reverse;
        let (piece, rest) = cut(piece, read, ends, &sequence, reverse, |_| ());
        let rest = match (rest, other) {
            (Some(()), _) => Some(Current::Strands {
                sequence,
                codes,
                reverse,
                read: read + n,
            }),
            (None, true) => Some(Current::Strands {
                sequence,
                codes,
                reverse: false,
                read: 0,
            }),
            (None, false) => None,
        };
        Ok((piece, rest))
    }
}

/// A piece, if there are any bases, and how to go on.
type Next = (Option<Piece>, Option<Current>);

fn cut<R>(
    codes: Vec<u8>,
    before: u64,
    ends: bool,
    sequence: &Arc<Sequence>,
    reverse: bool,
    rest: impl Fn(u64) -> R,
) -> (Option<Piece>, Option<R>) {
    let read = before + codes.len() as u64;
    let segment = Segment {
        lane: 0,
        len: codes.len(),
        starts: before == 0,
        ends,
    };
    let sequence = Arc::clone(sequence);
    let piece = (!codes.is_empty()).then_some(Piece {
        sequence,
        reverse,
        before,
        codes,
        segment,
    });
    (piece, (!ends).then(|| rest(read)))
}
