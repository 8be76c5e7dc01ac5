//! Sequences to steps: what the model reads at a time.
//!
//! A step holds at most `chunk` tokens. Long sequences fill one step after another; short ones
//! share a step, end to end, both strands of a sequence side by side. At most one sequence is
//! unfinished at a time, so one lane of state suffices. Where a sequence is cut depends on itself
//! alone, not on what came before it: its numbers are the same, to the bit, in any company.
//!
//! A bidirectional encoder reads whole windows instead, each with an empty state; they
//! overlap, and each keeps the rows of its centre.

use super::GenomeSettings;
use crate::error::Result;
use crate::io::genome::{Genome, Sequence};
use crate::io::spill::Spill;
use crate::sequence::{Segment, reverse_complement};
use crate::stream::{Position, Strand, Windows};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Tokens of a run at most: so many that few rows leave a GPU, so few that it has enough runs to
/// work on.
const RUN: usize = 1024;

/// What the model reads in one call.
#[derive(Default)]
pub struct GenomeStep {
    /// Runs of consecutive bases, end to end.
    pub pieces: Vec<Piece>,
    /// Where the next step starts, if a run can go on from there with the state alone: not while
    /// a strand's rows wait for the other strand.
    pub next: Option<Position>,
}

/// Consecutive bases of one strand of one sequence.
pub struct Piece {
    /// The sequence.
    pub sequence: Arc<Sequence>,
    /// The reverse complement is read, from the right end of the sequence.
    pub reverse: bool,
    /// Bases of this strand before the piece.
    pub before: u64,
    /// Bases that the state has read before the piece.
    pub context: u64,
    /// Base codes in the order in which they are read.
    pub codes: Vec<u8>,
    /// Tokens of the piece that get rows, if they are wanted: all, or the centre of a window.
    pub kept: Range<usize>,
    /// The strand ends with this piece.
    pub last: bool,
    /// Where the piece stands in the state.
    pub segment: Segment,
}

impl GenomeStep {
    /// Tokens of the step.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.codes.len()).sum()
    }

    /// Whether the state carries nothing after it.
    pub fn ends(&self) -> bool {
        self.pieces.last().is_none_or(|piece| piece.segment.ends)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Tokens of the step that come into one row each: [`Piece::runs`] of all pieces.
    pub fn runs(&self, size: u64) -> Vec<Range<usize>> {
        let mut before = 0;
        let pieces = self.pieces.iter().flat_map(|piece| {
            let from = before;
            before += piece.codes.len();
            piece
                .runs(size)
                .map(move |run| from + run.start..from + run.end)
        });
        pieces.collect()
    }

    /// How many tokens follow each other that are read on one strand, and whether on the reverse.
    pub fn strands(&self) -> Vec<(usize, bool)> {
        let same = self.pieces.chunk_by(|a, b| a.reverse == b.reverse);
        let strands = same.map(|pieces| {
            let tokens = pieces.iter().map(|piece| piece.codes.len()).sum();
            (tokens, pieces[0].reverse)
        });
        strands.collect()
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
        if self.reverse {
            self.sequence.end - 1 - read
        } else {
            self.sequence.start + read
        }
    }

    /// The tokens that get rows, in reading order: one stretch, or several where the sequence has
    /// gaps.
    pub fn stretches(&self) -> Vec<Range<usize>> {
        let wanted = self.wanted();
        let gaps = &self.sequence.gaps;
        if gaps.is_empty() || wanted.is_empty() {
            return vec![wanted];
        }
        let ends = [self.position(wanted.start), self.position(wanted.end - 1)];
        let (first, last) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        let token = |position: u64| {
            let from = if self.reverse {
                ends[0] - position
            } else {
                position - ends[0]
            };
            wanted.start + from as usize
        };
        let (mut stretches, mut from) = (Vec::new(), first);
        let skipped = gaps.partition_point(|gap| gap.end <= first);
        let here = gaps[skipped..].iter().take_while(|gap| gap.start <= last);
        for gap in here.chain([&(last + 1..u64::MAX)]) {
            if from < gap.start {
                let ends = [token(from), token(gap.start - 1)];
                stretches.push(ends[0].min(ends[1])..ends[0].max(ends[1]) + 1);
            }
            from = gap.end;
        }
        if self.reverse {
            stretches.reverse();
        }
        stretches
    }

    /// The tokens from the first to the last one that gets a row.
    pub fn wanted(&self) -> Range<usize> {
        let rows = &self.sequence.rows;
        // Bases read before the first and after the last one with a row.
        let (from, to) = if self.reverse {
            (
                self.sequence.end.saturating_sub(rows.end),
                self.sequence.end.saturating_sub(rows.start),
            )
        } else {
            (
                rows.start.saturating_sub(self.sequence.start),
                rows.end.saturating_sub(self.sequence.start),
            )
        };
        let here = |read: u64| {
            read.saturating_sub(self.before)
                .min(self.codes.len() as u64) as usize
        };
        let (from, to) = (here(from).max(self.kept.start), here(to).min(self.kept.end));
        from..to.max(from)
    }

    /// The tokens that get rows, cut at multiples of `size` bases along the contig, and into
    /// `RUN` at most.
    pub fn runs(&self, size: u64) -> impl Iterator<Item = Range<usize>> {
        let mut stretches = self.stretches().into_iter();
        let mut rest = 0..0;
        std::iter::from_fn(move || {
            while rest.is_empty() {
                rest = stretches.next()?;
            }
            let at = self.position(rest.start) % size;
            let left = if self.reverse { at + 1 } else { size - at };
            let len = (left.min(RUN as u64) as usize).min(rest.len());
            let run = rest.start..rest.start + len;
            rest.start = run.end;
            Some(run)
        })
    }
}

/// Makes steps of a genome's sequences.
pub struct GenomeSteps<'a> {
    genome: &'a mut Genome,
    chunk: usize,
    windows: Option<Windows>,
    strand: Strand,
    scratch: &'a Path,
    current: Option<Current>,
    /// Sequences that were read to their end.
    finished: u64,
    /// A run can go on only where a sequence ended.
    whole: bool,
}

/// The strand being read.
struct Current {
    sequence: Arc<Sequence>,
    reverse: bool,
    bases: Bases,
    /// Bases before the next piece.
    before: u64,
}

/// Where a strand's bases come from.
enum Bases {
    /// Straight from the source; what was read ahead of the next piece's start.
    Source(Vec<u8>),
    /// Out of a scratch file that holds the sequence; the number of this strand's bases.
    Scratch(Spill, u64),
}

/// All bases of the genome's current sequence in a scratch file, and its true end.
pub(super) fn whole(
    genome: &mut Genome,
    mut sequence: Sequence,
    chunk: usize,
    scratch: &Path,
) -> Result<(Sequence, Spill)> {
    let mut codes = Spill::create(scratch)?;
    let mut block = Vec::new();
    while genome.read_bases(&mut block, chunk)? > 0 {
        codes.push(&block)?;
        block.clear();
    }
    sequence.end = sequence.start + codes.bytes();
    sequence.rows.end = sequence.rows.end.min(sequence.end);
    Ok((sequence, codes))
}

impl<'a> GenomeSteps<'a> {
    /// Steps of at most `settings.chunk` tokens, or of one window if that is longer.
    pub fn new(genome: &'a mut Genome, settings: &'a GenomeSettings) -> Self {
        Self {
            genome,
            chunk: settings.chunk,
            windows: settings.windows,
            strand: settings.strand,
            scratch: &settings.scratch,
            current: None,
            finished: 0,
            whole: false,
        }
    }

    /// With `whole`, a run can go on only where a sequence ended.
    pub fn stop_between_sequences(&mut self, whole: bool) {
        self.whole = whole;
    }

    /// Passes over everything before `position`.
    pub fn skip(&mut self, position: Position) -> Result<()> {
        for _ in 0..position.sequences {
            self.genome.next_sequence()?;
        }
        self.finished = position.sequences;
        if position.bases == 0 {
            return Ok(());
        }
        if let Some(sequence) = self.genome.next_sequence()? {
            let mut current = self.open(sequence)?;
            let (mut passed, mut left) = (Vec::new(), position.bases as usize);
            while left > 0 {
                passed.clear();
                match self.genome.read_bases(&mut passed, left.min(1 << 16))? {
                    0 => break,
                    n => left -= n,
                }
            }
            current.before = position.bases;
            self.current = Some(current);
        }
        Ok(())
    }

    /// The next step; `None` after the last sequence.
    ///
    /// Memory: a few times the step's bytes.
    pub fn next_step(&mut self) -> Result<Option<GenomeStep>> {
        let mut step = GenomeStep::default();
        let mut room = self.chunk;
        while room > 0 {
            let Some(mut current) = self.current.take() else {
                match self.genome.next_sequence()? {
                    Some(sequence) => self.current = Some(self.open(sequence)?),
                    None => break,
                }
                continue;
            };
            let wanted = self.windows.map_or(self.chunk, |windows| windows.size);
            let (codes, last) = self.peek(&mut current, wanted)?;
            if codes.len() > room && !step.is_empty() {
                self.current = Some(current);
                break;
            }
            room = room.saturating_sub(codes.len());
            let piece = self.piece(&current, codes, last);
            let advance = match (last, self.windows) {
                (false, Some(windows)) => piece.codes.len() - windows.overlap,
                _ => piece.codes.len(),
            };
            if !piece.codes.is_empty() {
                step.pieces.push(piece);
            }
            self.current = self.advance(current, advance, last);
        }
        step.next = match &self.current {
            None => Some((self.finished, 0)),
            Some(Current {
                bases: Bases::Source(_),
                before,
                ..
            }) if !self.whole => Some((self.finished, *before)),
            Some(_) => None,
        }
        .map(|(sequences, bases)| Position { sequences, bases });
        Ok((!step.is_empty()).then_some(step))
    }

    fn open(&mut self, sequence: Sequence) -> Result<Current> {
        if self.strand == Strand::Forward {
            let bases = Bases::Source(Vec::new());
            return Ok(Current {
                sequence: Arc::new(sequence),
                reverse: false,
                bases,
                before: 0,
            });
        }
        let (sequence, codes) = whole(self.genome, sequence, self.chunk, self.scratch)?;
        // Each strand is read from its own end, as far as there are rows.
        let total = sequence.end - sequence.rows.start;
        let bases = Bases::Scratch(codes, total);
        Ok(Current {
            sequence: Arc::new(sequence),
            reverse: true,
            bases,
            before: 0,
        })
    }

    /// The next bases of the strand, `wanted` at most, and whether it ends with them.
    fn peek(&mut self, current: &mut Current, wanted: usize) -> Result<(Vec<u8>, bool)> {
        let Current {
            sequence,
            reverse,
            bases,
            before,
        } = current;
        match bases {
            Bases::Source(ahead) => {
                // One base more tells whether the sequence ends here.
                while ahead.len() <= wanted {
                    let missing = wanted + 1 - ahead.len();
                    if self.genome.read_bases(ahead, missing)? == 0 {
                        break;
                    }
                }
                Ok((
                    ahead[..wanted.min(ahead.len())].to_vec(),
                    ahead.len() <= wanted,
                ))
            }
            Bases::Scratch(codes, total) => {
                let n = (*total - *before).min(wanted as u64);
                let from = if *reverse {
                    sequence.end - sequence.start - *before - n
                } else {
                    *before
                };
                let mut piece = codes.read(from, n as usize)?;
                if *reverse {
                    reverse_complement(&mut piece);
                }
                Ok((piece, *before + n == *total))
            }
        }
    }

    fn piece(&self, current: &Current, codes: Vec<u8>, last: bool) -> Piece {
        let (len, before) = (codes.len(), current.before);
        let (kept, context, segment) = match self.windows {
            None => {
                let segment = Segment {
                    lane: 0,
                    len,
                    starts: before == 0,
                    ends: last,
                };
                (0..len, before, segment)
            }
            Some(windows) => {
                let after = if windows.centred {
                    windows.overlap / 2
                } else {
                    0
                };
                let from = if before == 0 {
                    0
                } else {
                    windows.overlap - after
                };
                let to = if last { len } else { len - after };
                (
                    from..to,
                    0,
                    Segment {
                        lane: 0,
                        len,
                        starts: true,
                        ends: true,
                    },
                )
            }
        };
        let (sequence, reverse) = (Arc::clone(&current.sequence), current.reverse);
        Piece {
            sequence,
            reverse,
            before,
            context,
            codes,
            kept,
            last,
            segment,
        }
    }

    /// The strand after `bases` more; after its end, the other strand, if there is one.
    fn advance(&mut self, mut current: Current, bases: usize, last: bool) -> Option<Current> {
        current.before += bases as u64;
        if !last {
            if let Bases::Source(ahead) = &mut current.bases {
                ahead.drain(..bases);
            }
            return Some(current);
        }
        match current.bases {
            Bases::Scratch(codes, _) if current.reverse && self.strand != Strand::Reverse => {
                let sequence = current.sequence;
                let total = sequence.rows.end - sequence.start;
                let bases = Bases::Scratch(codes, total);
                Some(Current {
                    sequence,
                    reverse: false,
                    bases,
                    before: 0,
                })
            }
            _ => {
                self.finished += 1;
                None
            }
        }
    }
}
