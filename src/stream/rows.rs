//! What was computed of a step, to rows of the table.

use super::blocks::{Bins, Block, Strands};
use super::heads::Ending;
use super::steps::{Piece, Position, Step};
use super::{Engine, Head, Output, Progress, Settings, Totals};
use crate::error::{Error, Kind, Result};
use crate::head::PREDICTIONS;
use crate::io::schema::flag;
use crate::sequence::{N, SOFT_MASKED, base, complement};
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// What the thread that makes rows is told, in order.
pub(super) enum Computed {
    /// A step is done.
    Step(Step, Outputs),
    /// A copy of what rows carry from step to step is wanted.
    Carried(SyncSender<Carried>),
    /// The state after all steps so far is stored.
    Stored(Position),
}

/// What the model gave for a step.
pub(super) struct Outputs {
    /// Of each token, (T, width); of pooled bins, of each of the step's runs.
    pub values: Vec<f32>,
    /// The logits of each base from the run in which it was hidden, of a masked model. `values`
    /// are empty then if nobody asked for logits.
    pub hidden: Option<Vec<f32>>,
}

/// What the rows of a step need of those before.
#[derive(Clone)]
pub(super) struct Carried {
    /// The logits after the last base of the unfinished sequence, which predict its next.
    pub before: Vec<f32>,
    /// Unfinished bins.
    pub bins: Option<Bins>,
}

/// Makes rows.
pub(super) struct Rows<'a> {
    engine: &'a Engine,
    /// Bases of a bin that came pooled.
    pooled: Option<u64>,
    carried: Carried,
    strands: Strands,
    /// Of a task's head, what remains when strands are joined.
    ending: Option<Ending<'a>>,
    totals: Totals,
}

impl<'a> Rows<'a> {
    pub fn new(engine: &'a Engine, settings: &Settings, carried: Carried) -> Self {
        Self {
            engine,
            pooled: engine.pooled(settings).map(|(size, _)| size),
            carried,
            strands: Strands::new(settings.strand, settings.scratch.clone()),
            ending: match &engine.head {
                Head::Task(head) => Some(Ending::new(head)),
                Head::Embedding | Head::Prediction { .. } => None,
            },
            totals: Totals::default(),
        }
    }

    /// Until the channel is closed.
    pub fn run(
        mut self,
        computed: Receiver<Computed>,
        to_table: &SyncSender<Output>,
        progress: &mut Progress,
    ) -> Result<Totals> {
        // A closed channel means that the writer failed; its error is the one reported.
        let send = |output| {
            to_table
                .send(output)
                .map_err(|_| Error::new(Kind::Io, "the writer stopped"))
        };
        for computed in computed {
            match computed {
                Computed::Step(step, outputs) => {
                    self.step(&step, outputs, &mut |block| send(Output::Rows(block)))?;
                    progress.advance(&step);
                }
                // Nobody waits for it if the thread that computes failed.
                Computed::Carried(reply) => drop(reply.send(self.carried.clone())),
                Computed::Stored(position) => send(Output::Checkpoint(position))?,
            }
        }
        Ok(self.totals)
    }

    fn step(
        &mut self,
        step: &Step,
        mut outputs: Outputs,
        send: &mut impl FnMut(Block) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        for piece in &step.pieces {
            if piece.segment.starts {
                self.carried.before.clear();
            }
            let mut block = keys(piece, self.pooled.unwrap_or(1));
            let len = piece.codes.len();
            match &self.engine.head {
                Head::Embedding => {
                    let width = self.engine.facts.width;
                    let (all, wanted) = match self.pooled {
                        Some(_) => (block.len(), 0..block.len()),
                        None => (len, piece.wanted()),
                    };
                    let wanted = (done + wanted.start) * width..(done + wanted.end) * width;
                    block.values = match wanted == (0..outputs.values.len()) {
                        true => std::mem::take(&mut outputs.values),
                        false => outputs.values[wanted].to_vec(),
                    };
                    done += all;
                }
                Head::Prediction { .. } => {
                    block.values = self.predictions(piece, &outputs, done)?;
                    done += len;
                }
                Head::Task(head) => {
                    let width = outputs.values.len() / step.len();
                    let wanted = piece.wanted();
                    let rows = outputs.values[(done + wanted.start) * width..].chunks_exact(width);
                    let parts = rows.take(wanted.len());
                    let parts = parts.flat_map(|row| head.part(row, piece.reverse));
                    block.values = parts.copied().collect();
                    done += len;
                }
            }
            check(&block, self.engine)?;
            if let Some(bins) = &mut self.carried.bins {
                block = bins.push(&block, piece.last);
            }
            let (totals, ending) = (&mut self.totals, &mut self.ending);
            let mut emit = |block: Block| {
                let block = match ending {
                    Some(ending) => ending.push(block, piece.last)?,
                    None => block,
                };
                totals.rows += block.len() as u64;
                send(block)
            };
            self.strands
                .push(block, piece.reverse, piece.last, &mut emit)?;
        }
        self.totals.bases += step.len() as u64;
        self.totals.steps += 1;
        Ok(())
    }

    /// The predictions of a piece, whose first token is the step's token `from`: for each row
    /// [`PREDICTIONS`] numbers, and the logits if they are wanted.
    fn predictions(&mut self, piece: &Piece, outputs: &Outputs, from: usize) -> Result<Vec<f32>> {
        let Head::Prediction { model, logits, .. } = &self.engine.head else {
            return Err(Error::new(Kind::Internal, "predictions of embeddings"));
        };
        let width = model.width();
        let row = |i: usize| (from + i) * width..(from + i + 1) * width;
        let (before, wanted) = (&self.carried.before, piece.wanted());
        let out_width = PREDICTIONS + if *logits { width } else { 0 };
        let mut out = vec![f32::NAN; wanted.len() * out_width];
        out.par_chunks_mut(out_width)
            .zip(wanted.into_par_iter())
            .with_min_len(64)
            .for_each(|(out, i)| {
                let (predicted, raw) = out.split_at_mut(PREDICTIONS);
                let evidence = match &outputs.hidden {
                    Some(hidden) => &hidden[row(i)],
                    None if i == 0 => before,
                    None => &outputs.values[row(i - 1)],
                };
                model.predict(evidence, piece.codes[i], piece.reverse, predicted);
                if *logits {
                    raw.copy_from_slice(&outputs.values[row(i)]);
                }
            });
        if let Some(last) = outputs.values.get(row(piece.codes.len() - 1)) {
            self.carried.before = last.to_vec();
        }
        Ok(out)
    }
}

/// A number that is no number would pass for a missing one.
pub(super) fn check(block: &Block, engine: &Engine) -> Result<()> {
    const TOGETHER: usize = 1 << 14;
    if let Head::Prediction { .. } = engine.head {
        return Ok(());
    }
    let width = (block.values.len() / block.len().max(1)).max(1);
    // Without a way out, so that the compiler makes vectors of it.
    let bad = |values: &[f32]| values.iter().fold(false, |bad, x| bad | x.is_nan());
    let found = block.values.par_chunks(TOGETHER).position_first(bad);
    let Some(part) = found else {
        return Ok(());
    };
    let from = part * TOGETHER;
    let i = block.values[from..].iter().position(|x| x.is_nan());
    let row = (from + i.unwrap_or(0)) / width;
    Err(Error::model("the model's output is not a number")
        .place(format!("{}:{}", block.name, block.starts[row] + 1))
        .todo("check the weights with crocuta models verify"))
}

/// The key columns of a piece's rows in reading order: of its [runs](Piece::runs) for bins of
/// `size` bases; 1: of each base.
pub(super) fn keys(piece: &Piece, size: u64) -> Block {
    let rows = piece.wanted().len().div_ceil(size as usize) + 1;
    let mut block = Block {
        name: Arc::from(piece.sequence.name.as_str()),
        starts: Vec::with_capacity(rows),
        ends: Vec::with_capacity(rows),
        strands: Vec::with_capacity(rows),
        bases: Vec::with_capacity(rows),
        flags: Vec::with_capacity(rows),
        context: Vec::with_capacity(rows),
        values: Vec::new(),
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
            flags |= if base(code) == N { flag::AMBIGUOUS } else { 0 };
            flags |= if code & SOFT_MASKED != 0 {
                flag::SOFT_MASKED
            } else {
                0
            };
        }
        block.starts.push(first.min(last).cast_signed());
        block.ends.push(first.max(last).cast_signed() + 1);
        block.strands.push(if piece.reverse { b'-' } else { b'+' });
        block.bases.push(base(letter(piece.codes[run.start])));
        block.flags.push(flags);
        block.context.push(i32::try_from(read).unwrap_or(i32::MAX));
    }
    block
}
