//! What was computed of a step, to rows of the table.

use super::bins::Bins;
use super::ending::Ending;
use super::intervals::Sums;
use super::strands::Strands;
use super::{GenomeSettings, GenomeStep, Head, Outputs, Piece, Promised, Reading};
use crate::error::Result;
use crate::head::{LanguageModel, PREDICTIONS};
use crate::sequence::{N, SOFT_MASKED, base, complement};
use crate::stream::Strand;
use crate::stream::finite::check_finite;
use crate::stream::journal::{load, store};
use crate::stream::pipeline::{Next, Stage};
use crate::table::{Positions, flag};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// What the rows of a step need of those before.
#[derive(Clone, Serialize, Deserialize)]
struct RowsBefore {
    /// The logits after the last base of the unfinished sequence, which predict its next.
    logits: Vec<f32>,
    /// Unfinished bins and intervals.
    pooling: Pooling,
}

/// How bases become rows, and what is not finished of that.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Pooling {
    bins: Option<Bins>,
    sums: Sums,
}

impl Pooling {
    pub fn new(settings: &GenomeSettings) -> Self {
        Self {
            bins: settings.bins.map(|(size, pool)| Bins::new(size, pool)),
            sums: Sums::default(),
        }
    }

    /// Rows in reading order to those that they finish; `ends`: the strand ends with them.
    pub fn push(&mut self, rows: Positions, settings: &GenomeSettings, ends: bool) -> Positions {
        match (&mut self.bins, &settings.intervals) {
            (Some(bins), _) => bins.push(&rows, ends),
            (None, Some((intervals, pool))) => intervals.push(&mut self.sums, &rows, ends, *pool),
            (None, None) => rows,
        }
    }
}

/// Makes rows.
pub(super) struct GenomeRows<'a> {
    reading: Reading<'a>,
    /// Bases of a bin that came pooled.
    pooled: Option<u64>,
    before: RowsBefore,
    strands: Strands,
    /// Of a task's head, what remains when strands are joined.
    ending: Option<Ending<'a>>,
}

impl<'a> GenomeRows<'a> {
    pub fn new(reading: Reading<'a>) -> Self {
        let settings = reading.settings;
        Self {
            reading,
            pooled: reading.pooled().map(|(size, _)| size),
            before: RowsBefore {
                logits: Vec::new(),
                pooling: Pooling::new(settings),
            },
            strands: Strands::new(settings.strand, settings.scratch.clone()),
            ending: match reading.head {
                Head::Task(head) => Some(Ending::new(head)),
                Head::Embedding | Head::Prediction { .. } => None,
            },
        }
    }
}

impl Stage for GenomeRows<'_> {
    type In = (GenomeStep, Promised);
    type Out = Positions;

    fn run(&mut self, (step, promised): Self::In, to: &mut Next<Positions>) -> Result<()> {
        let mut outputs = promised.read()?;
        check(&step, &outputs, self.pooled)?;
        let tokens = match self.pooled {
            Some(size) => step.runs(size).len(),
            None => step.len(),
        };
        let width = outputs.values.len() / tokens.max(1);
        let mut done = 0;
        for piece in &step.pieces {
            if piece.segment.starts {
                self.before.logits.clear();
            }
            let mut rows = keys(piece, self.pooled.unwrap_or(1));
            rows.tokens = self.tokens(piece)?;
            rows.values = self.values(piece, (&mut outputs, width), done)?;
            done += match self.pooled {
                Some(_) => rows.starts.len(),
                None => piece.codes.len(),
            };
            let settings = self.reading.settings;
            let (ending, pooling) = (&mut self.ending, &mut self.before.pooling);
            // What a head says of a base is pooled, not what it is made of.
            if ending.is_none() {
                rows = pooling.push(rows, settings, piece.last);
            }
            let mut emit = |mut rows: Positions| {
                if let (Strand::Own, Some((intervals, _))) = (settings.strand, &settings.intervals)
                {
                    rows = intervals.own(&rows);
                }
                let rows = match ending {
                    Some(ending) => {
                        pooling.push(ending.push(rows, piece.last)?, settings, piece.last)
                    }
                    None => rows,
                };
                to.send(rows)
            };
            self.strands
                .push(rows, piece.reverse, piece.last, &mut emit)?;
        }
        Ok(())
    }

    fn save(&self, file: &mut dyn Write) -> Result<()> {
        store(&self.before, file)
    }

    fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        self.before = load(file)?;
        Ok(())
    }
}

impl GenomeRows<'_> {
    /// The bases of the token of each row of a piece, where rows are bases and tokens may cover
    /// several.
    fn tokens(&self, piece: &Piece) -> Result<Vec<[i64; 2]>> {
        let Reading {
            engine, settings, ..
        } = self.reading;
        let pooled = settings.bins.is_some() || settings.intervals.is_some();
        let Some(model) = engine.model.with_words().filter(|_| !pooled) else {
            return Ok(Vec::new());
        };
        let tokens = model.tokens_of_bases(&engine.tokens(&piece.codes))?;
        let rows = piece.stretches().into_iter().flatten();
        let place = |i: usize| {
            let token = &tokens[i];
            let ends = [token.start, token.end - 1].map(|i| piece.position(i).cast_signed());
            [ends[0].min(ends[1]), ends[0].max(ends[1]) + 1]
        };
        Ok(rows.map(place).collect())
    }

    /// The numbers of a piece's rows; its first token is token, or run, `from` of the outputs.
    fn values(
        &mut self,
        piece: &Piece,
        (outputs, width): (&mut Outputs, usize),
        from: usize,
    ) -> Result<Vec<f32>> {
        let wanted = match self.pooled {
            Some(size) => std::iter::once(0..piece.runs(size).count()).collect(),
            None => piece.stretches(),
        };
        match self.reading.head {
            Head::Embedding | Head::Task(_) => {
                let of =
                    |rows: &Range<usize>| (from + rows.start) * width..(from + rows.end) * width;
                if wanted.len() == 1 && of(&wanted[0]) == (0..outputs.values.len()) {
                    return Ok(std::mem::take(&mut outputs.values));
                }
                let parts = wanted.iter().map(|rows| &outputs.values[of(rows)]);
                Ok(parts.collect::<Vec<_>>().concat())
            }
            Head::Prediction { model, logits, .. } => {
                let values = self.predictions(piece, outputs, from, (model, *logits));
                let row = from + piece.codes.len() - 1;
                let width = model.width();
                if let Some(last) = outputs.values.get(row * width..(row + 1) * width) {
                    self.before.logits = last.to_vec();
                }
                Ok(values)
            }
        }
    }

    /// The predictions of a piece, whose first token is the step's token `from`: for each row
    /// [`PREDICTIONS`] numbers, and the logits if they are wanted.
    fn predictions(
        &self,
        piece: &Piece,
        outputs: &Outputs,
        from: usize,
        (model, logits): (&LanguageModel, bool),
    ) -> Vec<f32> {
        let width = model.width();
        let row = |i: usize| (from + i) * width..(from + i + 1) * width;
        let before = &self.before.logits;
        let wanted: Vec<usize> = piece.stretches().into_iter().flatten().collect();
        let out_width = PREDICTIONS + if logits { width } else { 0 };
        let mut out = vec![f32::NAN; wanted.len() * out_width];
        out.par_chunks_mut(out_width)
            .zip(wanted.into_par_iter())
            .with_min_len(64)
            .for_each(|(out, i)| {
                let (predicted, raw) = out.split_at_mut(PREDICTIONS);
                let evidence = match &outputs.masked {
                    Some(masked) => &masked[row(i)],
                    None if i == 0 => before,
                    None => &outputs.values[row(i - 1)],
                };
                model.predict(evidence, piece.codes[i], piece.reverse, predicted);
                if logits {
                    raw.copy_from_slice(&outputs.values[row(i)]);
                }
            });
        out
    }
}

/// An error if what the model gave is not finite; its place is named. `pooled`: rows are bins.
fn check(step: &GenomeStep, outputs: &Outputs, pooled: Option<u64>) -> Result<()> {
    let tokens = match pooled {
        Some(size) => step.runs(size).len(),
        None => step.len(),
    };
    let place = |token: usize| {
        let mut before = 0;
        for piece in &step.pieces {
            let runs: Vec<usize> = match pooled {
                Some(size) => piece.runs(size).map(|run| run.start).collect(),
                None => (0..piece.codes.len()).collect(),
            };
            if let Some(&at) = runs.get(token - before) {
                return format!("{}:{}", piece.sequence.name, piece.position(at) + 1);
            }
            before += runs.len();
        }
        String::new()
    };
    let masked = outputs.masked.as_deref().unwrap_or_default();
    for values in [&outputs.values, masked] {
        check_finite(values, values.len() / tokens.max(1), place)?;
    }
    Ok(())
}

/// The key columns of a piece's rows in reading order: of its [runs](Piece::runs) for bins of
/// `size` bases; 1: of each base.
pub(super) fn keys(piece: &Piece, size: u64) -> Positions {
    let rows = piece.wanted().len().div_ceil(size as usize) + 1;
    let mut keys = Positions {
        name: Arc::from(piece.sequence.name.as_str()),
        starts: Vec::with_capacity(rows),
        ends: Vec::with_capacity(rows),
        strands: Vec::with_capacity(rows),
        bases: Vec::with_capacity(rows),
        flags: Vec::with_capacity(rows),
        context: Vec::with_capacity(rows),
        ..Positions::default()
    };
    for run in piece.runs(size) {
        let (first, last) = (piece.position(run.start), piece.position(run.end - 1));
        let read = piece.context + run.start as u64;
        let letter = |code| {
            if piece.reverse {
                complement(code)
            } else {
                code
            }
        };
        let mut flags = if read == 0 { flag::RESET } else { 0 };
        for &code in &piece.codes[run.clone()] {
            let code = letter(code);
            if base(code) == N {
                flags |= flag::AMBIGUOUS;
            }
            if code & SOFT_MASKED != 0 {
                flags |= flag::SOFT_MASKED;
            }
        }
        keys.starts.push(first.min(last).cast_signed());
        keys.ends.push(first.max(last).cast_signed() + 1);
        keys.strands.push(if piece.reverse { b'-' } else { b'+' });
        keys.bases.push(base(letter(piece.codes[run.start])));
        keys.flags.push(flags);
        keys.context.push(i32::try_from(read).unwrap_or(i32::MAX));
    }
    keys
}
