//! The path that all data takes: source → steps → encoder → head → rows → table.
//!
//! Four threads: one reads and packs steps, one computes (with rayon inside the ops, or on a GPU),
//! one makes rows of what was computed, one writes. They are joined by channels that hold a few
//! steps, so memory does not depend on the input.

mod blocks;
mod exact;
mod heads;
mod journal;
mod progress;
mod reads;
mod rows;
mod steps;
mod table;
mod tracks;

pub use exact::{exact_speed, run_exact};
pub use journal::{Identity, Journal};
pub use progress::{Progress, Style};
pub use reads::{ReadEngine, ReadReceipts, ReadSettings, ReadSink, ReadTotals, run_reads};
pub use steps::{Piece, Step, Steps, Windows};
pub use table::Sink;
pub use tracks::{Genes, Regions, Tracks};

use crate::encoder::{Encoder, Facts, Model, State, Vocabulary};
use crate::error::{Error, Kind, Result};
use crate::head::{LanguageModel, TaskHead};
use crate::io::genome::Genome;
use crate::ops::{self, Device, Reduction, Tensor};
use blocks::{Bins, Block};
use journal::{Clock, Snapshot};
use rows::{Carried, Computed, Outputs, Rows};
use serde::{Deserialize, Serialize};
use std::panic::resume_unwind;
use std::path::PathBuf;
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
    /// One row a position with the values of both: for heads that read both strands.
    #[value(skip)]
    Joined,
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

impl Pool {
    /// How rows of one step come together; a mean is divided when its bin ends.
    fn reduction(self) -> Reduction {
        match self {
            Self::Mean => Reduction::Sum,
            Self::Max => Reduction::Max,
            Self::Last => Reduction::Last,
        }
    }
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
    /// What a head of a user's task says of each base.
    Task(Box<TaskHead>),
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
    // None waits here: what is computed is large on its way from a GPU.
    let (to_rows, computed) = sync_channel(0);
    let (to_table, blocks) = sync_channel(WAITING - 1);
    let resumed = match sink.journal() {
        Some(journal) => Some((journal.position(), journal.snapshot()?, journal.clock())),
        None => None,
    };
    let (position, snapshot, clock) = match resumed {
        Some((position, snapshot, clock)) => (position, snapshot, Some(clock)),
        None => (Position::default(), None, None),
    };
    let (state, carried) = match snapshot {
        Some(snapshot) => {
            let Snapshot {
                state,
                before,
                bins,
            } = snapshot;
            (state, Carried { before, bins })
        }
        None => {
            let bins = settings.bins.map(|(size, pool)| Bins::new(size, pool));
            let before = Vec::new();
            (engine.model.start(1)?, Carried { before, bins })
        }
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
        let rows = Rows::new(engine, settings, carried);
        let row_maker = scope.spawn(move || rows.run(computed, &to_table, progress));
        let writer = scope.spawn(move || write(sink, &blocks));
        let computed = compute(engine, settings, &steps, &to_rows, state, clock);
        // The other threads see their channels closed, and end.
        drop((steps, to_rows));
        let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        let totals = row_maker
            .join()
            .unwrap_or_else(|panic| resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        // What stopped the run is what the reader, the writer or the maker of rows met, if
        // anything.
        read.and(written)?;
        let totals = totals?;
        computed.and(Ok(totals))
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
    to_rows: &SyncSender<Computed>,
    mut state: State,
    mut clock: Option<Clock>,
) -> Result<()> {
    // A closed channel means that a later thread failed; its error is the one reported.
    let stopped = || Error::new(Kind::Io, "the table stopped");
    for step in steps {
        if SIGNAL.load(Ordering::Relaxed) != 0 {
            return Err(interrupted());
        }
        fault::point("encoder");
        let values = engine.values_of(&step, settings, &mut state)?;
        let next = step.next;
        let computed = Computed::Step(step, values);
        to_rows.send(computed).map_err(|_| stopped())?;
        if let (Some(clock), Some(position)) = (&mut clock, next)
            && clock.due()
        {
            let (reply, carried) = sync_channel(1);
            let asked = Computed::Carried(reply);
            to_rows.send(asked).map_err(|_| stopped())?;
            let Carried { before, bins } = carried.recv().map_err(|_| stopped())?;
            let snapshot = Snapshot {
                state,
                before,
                bins,
            };
            clock.store(&snapshot)?;
            state = snapshot.state;
            let stored = Computed::Stored(position);
            to_rows.send(stored).map_err(|_| stopped())?;
        }
    }
    Ok(())
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

    /// What the head makes of a step.
    fn values_of(&self, step: &Step, settings: &Settings, state: &mut State) -> Result<Outputs> {
        let tokens = self.tokens(step);
        let segments = step.segments();
        let mut forward = |tokens: Vec<u32>| {
            let tokens = Tensor::new(tokens, &self.device)?; // (T)
            self.model.forward(&tokens, &segments, state) // (T, D)
        };
        let (logits, masked) = match &self.head {
            Head::Embedding => {
                let hidden = forward(tokens)?;
                let rows = match self.pooled(settings) {
                    None => hidden,
                    Some((size, pool)) => ops::pool(&hidden, &step.runs(size), pool.reduction())?,
                };
                return Ok(Outputs {
                    values: rows.to_vec1()?,
                    hidden: None,
                });
            }
            Head::Prediction { logits, masked, .. } => (*logits, *masked),
            Head::Task(head) => {
                return Ok(Outputs {
                    values: head.begin(&forward(tokens)?)?.to_vec1()?,
                    hidden: None,
                });
            }
        };
        let mut run = |tokens| self.values(forward(tokens)?);
        // Of a masked model, each base's logits come from the run in which it was hidden.
        let hidden = match masked {
            Some(stride) => {
                let positions = step.pieces.iter().flat_map(|piece| {
                    (0..piece.codes.len()).map(|i| (piece.position(i) % stride as u64) as usize)
                });
                let turns: Vec<usize> = positions.collect();
                let vocabulary = &self.facts.vocabulary;
                Some(hidden_bases(&turns, &tokens, stride, vocabulary, &mut run)?)
            }
            None => None,
        };
        let values = match hidden.is_some() && !logits {
            true => Vec::new(),
            false => run(tokens)?,
        };
        Ok(Outputs { values, hidden })
    }

    /// Bases of the bins that the device pools itself: what leaves a GPU is slow to come.
    fn pooled(&self, settings: &Settings) -> Option<(u64, Pool)> {
        let there = matches!(
            (&self.device, &self.head),
            (Device::Cuda(_), Head::Embedding)
        );
        settings.bins.filter(|_| there)
    }

    /// What the head makes of hidden vectors (T, D).
    fn values(&self, hidden: Tensor) -> Result<Vec<f32>> {
        let values = match &self.head {
            Head::Embedding => hidden,
            Head::Prediction { model, .. } => model.forward(&hidden)?, // (T, V)
            Head::Task(head) => head.begin(&hidden)?,
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
