//! The path that all data takes: source → steps → encoder → head → rows → table.
//!
//! Three threads: one reads and packs steps, one computes (with rayon inside the ops), one writes.
//! They are joined by channels that hold a few steps, so memory does not depend on the input.

mod blocks;
mod exact;
mod journal;
mod progress;
mod reads;
mod steps;
mod table;

pub use exact::{exact_speed, run_exact};
pub use journal::{Identity, Journal};
pub use progress::{Progress, Style};
pub use reads::{ReadEngine, ReadReceipts, ReadSettings, ReadSink, ReadTotals, run_reads};
pub use steps::{Piece, Step, Steps, Windows};
pub use table::Sink;

use crate::encoder::{Encoder, Facts, Model, State, Vocabulary};
use crate::error::{Error, Kind, Result};
use crate::head::{LanguageModel, PREDICTIONS};
use crate::io::genome::Genome;
use crate::io::schema::flag;
use crate::ops::{Device, Tensor};
use crate::sequence::{N, SOFT_MASKED, Segment, base, complement};
use blocks::{Bins, Block, Strands};
use journal::{Clock, Snapshot};
use serde::{Deserialize, Serialize};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use steps::Position;

/// The number of a signal that asks the run to stop; 0: none came.
pub static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Which strands are read, and how they are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Strand {
    /// The sequence as it stands: context from the left.
    Forward,
    /// Its reverse complement: context from the right.
    Reverse,
    /// Two rows a position.
    Both,
    /// The mean of the two.
    Mean,
}

/// How the bases of a bin become one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Pool {
    /// The mean of each dimension.
    Mean,
    /// The largest value of each dimension.
    Max,
    /// The base read last.
    Last,
}

/// What is computed for each base.
pub enum Head {
    /// The encoder's hidden vector.
    Embedding,
    /// Probabilities of the language model, and its raw logits if asked for.
    Prediction {
        /// Hidden vectors to logits.
        model: LanguageModel,
        /// Write the logits too.
        logits: bool,
        /// For an encoder that looks both ways: every base is hidden once, one in so many at a
        /// time, in as many runs of the encoder.
        masked: Option<usize>,
    },
}

/// How a run is done.
pub struct Settings {
    /// Tokens of a step.
    pub chunk: usize,
    /// Windows that are read with an empty state each; none: the state is carried.
    pub windows: Option<Windows>,
    /// Strands.
    pub strand: Strand,
    /// Bases of a bin and how they are pooled; none: a row for each base.
    pub bins: Option<(u64, Pool)>,
    /// Where scratch files lie.
    pub scratch: PathBuf,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Bases that went through the encoder, both strands and contexts counted.
    pub bases: u64,
    /// Calls of the encoder.
    pub steps: u64,
    /// Rows.
    pub rows: u64,
}

/// A model with its facts and what is computed from it.
pub struct Engine {
    /// The encoder.
    pub model: Model,
    /// Its sizes and tokens.
    pub facts: Facts,
    /// What its hidden vectors become.
    pub head: Head,
    /// Where it runs.
    pub device: Device,
}

/// Steps that may wait for the encoder; of blocks, which are larger, one fewer may wait for the
/// table.
const WAITING: usize = 2;

/// Runs all sequences of `genome` through `engine` into `sink`, in order.
///
/// Memory: the model and its state, and of steps and rows a multiple of `settings.chunk`.
pub fn run(
    genome: &mut Genome,
    engine: &Engine,
    sink: &mut Sink,
    settings: &Settings,
    progress: &mut Progress,
) -> Result<Totals> {
    let (to_model, steps) = sync_channel(WAITING);
    let (to_table, rows) = sync_channel(WAITING - 1);
    let resumed = match sink.journal() {
        Some(journal) => Some((journal.position(), journal.snapshot()?, journal.clock())),
        None => None,
    };
    let (position, snapshot, clock) = match resumed {
        Some((position, snapshot, clock)) => (position, snapshot, Some(clock)),
        None => (Position::default(), None, None),
    };
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            fault::point("reader");
            let mut steps = Steps::new(
                genome,
                settings.chunk,
                settings.windows,
                settings.strand,
                &settings.scratch,
            );
            steps.skip(position)?;
            read(&mut steps, &to_model)
        });
        let writer = scope.spawn(move || write(sink, &rows));
        let computed = compute(
            engine, settings, &steps, &to_table, progress, snapshot, clock,
        );
        // The other two threads see their channels closed, and end.
        drop((steps, to_table));
        let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        // What stopped the run is what the reader or the writer met, if anything.
        read.and(written).and(computed)
    })
}

fn read(steps: &mut Steps, to_model: &SyncSender<Step>) -> Result<()> {
    while let Some(step) = steps.next_step()? {
        if to_model.send(step).is_err() {
            break;
        }
    }
    Ok(())
}

/// What the table's thread is told, in order.
enum Output {
    Rows(Block),
    /// The state after these rows is stored.
    Checkpoint(Position),
}

fn write(sink: &mut Sink, outputs: &Receiver<Output>) -> Result<()> {
    for output in outputs {
        fault::point("writer");
        match output {
            Output::Rows(block) => sink.write(&block)?,
            Output::Checkpoint(position) => sink.checkpoint(position)?,
        }
    }
    Ok(())
}

fn compute(
    engine: &Engine,
    settings: &Settings,
    steps: &Receiver<Step>,
    to_table: &SyncSender<Output>,
    progress: &mut Progress,
    snapshot: Option<Snapshot>,
    mut clock: Option<Clock>,
) -> Result<Totals> {
    let mut totals = Totals::default();
    let bins = settings.bins.map(|(size, pool)| Bins::new(size, pool));
    let mut strands = Strands::new(settings.strand, settings.scratch.clone());
    // `before`: the logits after the last base of the unfinished sequence, which predict its next.
    let Snapshot {
        mut state,
        mut before,
        mut bins,
    } = match snapshot {
        Some(snapshot) => snapshot,
        None => Snapshot {
            state: engine.model.start(1)?,
            before: Vec::new(),
            bins,
        },
    };
    // A closed channel means that the writer failed; its error is the one reported.
    let send = |output| {
        to_table
            .send(output)
            .map_err(|_| Error::new(Kind::Io, "the writer stopped"))
    };
    for step in steps {
        if SIGNAL.load(Ordering::Relaxed) != 0 {
            return Err(interrupted());
        }
        fault::point("encoder");
        let tokens = engine.tokens(&step);
        let segments = step.segments();
        let mut run = |tokens| engine.outputs(tokens, &segments, &mut state);
        // Of a masked model, each base's logits come from the run in which it was hidden.
        let hidden = match &engine.head {
            Head::Prediction {
                masked: Some(stride),
                ..
            } => {
                let positions = step.pieces.iter().flat_map(|piece| {
                    (0..piece.codes.len()).map(|i| (piece.position(i) % *stride as u64) as usize)
                });
                let turns: Vec<usize> = positions.collect();
                let vocabulary = &engine.facts.vocabulary;
                Some(hidden_bases(
                    &turns, &tokens, *stride, vocabulary, &mut run,
                )?)
            }
            _ => None,
        };
        let values = match (&hidden, &engine.head) {
            (Some(hidden), Head::Prediction { logits: false, .. }) => hidden.clone(),
            _ => run(tokens)?,
        };
        let width = values.len() / step.len();
        let mut hidden = hidden.as_ref().map(|hidden| hidden.chunks_exact(width));
        let mut values = values.chunks_exact(width);
        for piece in &step.pieces {
            if piece.segment.starts {
                before.clear();
            }
            let mut block = keys(piece);
            block.values.reserve(block.len() * width);
            for (i, row) in values.by_ref().take(piece.codes.len()).enumerate() {
                let wanted = piece.has_row(i);
                let alone = hidden.as_mut().and_then(Iterator::next);
                match &engine.head {
                    Head::Embedding if wanted => block.values.extend_from_slice(row),
                    Head::Embedding => {}
                    Head::Prediction { model, logits, .. } => {
                        if wanted {
                            let start = block.values.len();
                            block.values.resize(start + PREDICTIONS, f32::NAN);
                            let out = &mut block.values[start..];
                            model.predict(
                                alone.unwrap_or(&before),
                                piece.codes[i],
                                piece.reverse,
                                out,
                            );
                            if *logits {
                                block.values.extend_from_slice(row);
                            }
                        }
                        before.clear();
                        before.extend_from_slice(row);
                    }
                }
            }
            check(&block, engine)?;
            if let Some(bins) = &mut bins {
                block = bins.push(&block, piece.last);
            }
            strands.push(block, piece.reverse, piece.last, &mut |block| {
                totals.rows += block.len() as u64;
                send(Output::Rows(block))
            })?;
        }
        totals.bases += step.len() as u64;
        totals.steps += 1;
        progress.advance(&step);
        if let (Some(clock), Some(position)) = (&mut clock, step.next)
            && clock.due()
        {
            let snapshot = Snapshot {
                state,
                before,
                bins,
            };
            clock.store(&snapshot)?;
            send(Output::Checkpoint(position))?;
            Snapshot {
                state,
                before,
                bins,
            } = snapshot;
        }
    }
    Ok(totals)
}

impl Engine {
    /// How often the encoder runs over each base.
    pub fn runs(&self) -> usize {
        match self.head {
            Head::Prediction {
                masked: Some(stride),
                logits,
                ..
            } => stride + usize::from(logits),
            _ => 1,
        }
    }

    fn tokens(&self, step: &Step) -> Vec<u32> {
        let codes = step.pieces.iter().flat_map(|piece| &piece.codes);
        codes
            .map(|&code| self.facts.vocabulary.token(code))
            .collect()
    }

    /// Hidden vectors (T, D) or logits (T, V), as the head wants them.
    fn outputs(
        &self,
        tokens: Vec<u32>,
        segments: &[Segment],
        state: &mut State,
    ) -> Result<Vec<f32>> {
        let tokens = Tensor::new(tokens, &self.device)?; // (T)
        let hidden = self.model.forward(&tokens, segments, state)?; // (T, D)
        self.values(hidden)
    }

    /// What the head makes of hidden vectors (T, D).
    fn values(&self, hidden: Tensor) -> Result<Vec<f32>> {
        let values = match &self.head {
            Head::Embedding => hidden,
            Head::Prediction { model, .. } => model.forward(&hidden)?, // (T, V)
        };
        values.to_vec1()
    }
}

/// The logits of each base from the run in which it was hidden: base i in run `turns[i]` of
/// `stride`.
fn hidden_bases(
    turns: &[usize],
    tokens: &[u32],
    stride: usize,
    vocabulary: &Vocabulary,
    run: &mut impl FnMut(Vec<u32>) -> Result<Vec<f32>>,
) -> Result<Vec<f32>> {
    let mask = vocabulary.mask.ok_or_else(|| {
        Error::model("the model's vocabulary has no mask token, so it cannot predict bases")
    })?;
    let mut logits = Vec::new();
    for turn in 0..stride {
        let mut hidden = tokens.to_vec();
        for (token, &at) in hidden.iter_mut().zip(turns) {
            *token = if at == turn { mask } else { *token };
        }
        let values = run(hidden)?;
        let width = values.len() / turns.len();
        logits.resize(values.len(), 0.0);
        let rows = logits
            .chunks_exact_mut(width)
            .zip(values.chunks_exact(width));
        for ((kept, row), &at) in rows.zip(turns) {
            if at == turn {
                kept.copy_from_slice(row);
            }
        }
    }
    Ok(logits)
}

/// A number that is no number would pass for a missing one.
fn check(block: &Block, engine: &Engine) -> Result<()> {
    let Head::Embedding = engine.head else {
        return Ok(());
    };
    let width = engine.facts.width.max(1);
    match block.values.iter().position(|x| x.is_nan()) {
        None => Ok(()),
        Some(i) => Err(Error::model("the model's output is not a number")
            .place(format!("{}:{}", block.name, block.starts[i / width] + 1))
            .todo("check the weights with crocuta models verify")),
    }
}

/// The key columns of a piece's rows, in reading order.
fn keys(piece: &Piece) -> Block {
    let mut block = Block {
        name: Arc::from(piece.sequence.name.as_str()),
        ..Block::default()
    };
    for (i, &code) in piece.codes.iter().enumerate() {
        let position = piece.position(i);
        if !piece.has_row(i) {
            continue;
        }
        let read = piece.context + i as u64;
        let code = if piece.reverse {
            complement(code)
        } else {
            code
        };
        let mut flags = 0;
        for (bit, set) in [
            (flag::AMBIGUOUS, base(code) == N),
            (flag::SOFT_MASKED, code & SOFT_MASKED != 0),
            (flag::RESET, read == 0),
        ] {
            flags |= if set { bit } else { 0 };
        }
        block.starts.push(position.cast_signed());
        block.ends.push(position.cast_signed() + 1);
        block.strands.push(if piece.reverse { b'-' } else { b'+' });
        block.bases.push(base(code));
        block.flags.push(flags);
        block.context.push(i32::try_from(read).unwrap_or(i32::MAX));
    }
    block
}

/// Where tests of the program make a thread panic: in the builds that tests run, a thread that is
/// named in the variable CROCUTA_PANIC has a bug.
mod fault {
    #[cfg(debug_assertions)]
    pub(super) fn point(thread: &str) {
        let wanted = std::env::var_os("CROCUTA_PANIC");
        assert!(
            wanted.is_none_or(|wanted| wanted != thread),
            "asked for by CROCUTA_PANIC"
        );
    }

    #[cfg(not(debug_assertions))]
    pub(super) fn point(_: &str) {}
}

/// The error of a run that a signal stopped.
pub fn interrupted() -> Error {
    match SIGNAL.load(Ordering::Relaxed) {
        libc::SIGTERM => Error::new(Kind::Terminated, "terminated"),
        _ => Error::new(Kind::Interrupted, "interrupted"),
    }
}
