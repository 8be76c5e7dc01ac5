//! Read → compute → rows → write, once for all commands.
//!
//! Four threads: one reads and packs steps, one computes (with rayon inside the ops, or on a GPU;
//! on several GPUs there is one for each: `lanes`), one makes rows of what was
//! computed, one writes. They are joined by channels that hold a few steps, so memory does not
//! depend on the input.
//!
//! A checkpoint is a mark that passes through the threads in the order of the data: each stores
//! what it carries when the mark comes by, and the writer, last, makes the checkpoint valid. A run
//! that is asked to stop makes one more before it ends, if it comes to a place for it in time.

mod lanes;
mod stage;

pub use stage::{Batched, Computation, Next, Outcome, Sink, Source, Stage};

use super::journal::{Clock, Journal};
use super::progress::Progress;
use crate::error::{Error, Kind, Result};
use crate::io::threads::start_in;
use lanes::Lanes;
use stage::{Passed, fault, send};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a run that is asked to stop looks for a place at which it can go on. Schedulers kill
/// what has not ended after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(12);

/// Steps that may wait for the encoder; of rows, which are larger, one fewer may wait for the
/// table.
const WAITING: usize = 2;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bases that were read, both strands and contexts counted.
    pub bases: u64,
    /// Steps.
    pub steps: u64,
    /// How long each thread was at work.
    pub work: Work,
}

/// How long each thread of a run was at work: its waiting for the others is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Reading, decompression, and the packing of steps.
    pub reader: Duration,
    /// The encoder and the heads; with several devices, of all of them together.
    pub encoder: Duration,
    /// The making of rows. What a GPU is waited for is in it.
    pub rows: Duration,
    /// Columns, compression and writing.
    pub writer: Duration,
}

/// How long a run looks for a place at which it can go on, after it was asked to stop.
fn patience(clock: Option<&Clock>) -> Duration {
    clock.map_or(Duration::ZERO, |_| PATIENCE)
}

/// Runs all that `source` gives through one of `computes`, one for each device, and `rows` into
/// `sink`, in order.
///
/// # Errors
/// What the reader met, else the writer, the maker of rows, the computation.
pub fn run<So, C, R, Si>(
    source: &mut So,
    computes: &mut [C],
    rows: &mut R,
    sink: &mut Si,
    journal: Option<&mut Journal>,
    progress: &mut Progress,
) -> Result<Totals>
where
    So: Source,
    C: Computation<In = So::Work>,
    R: Stage<In = C::Out, Out = Si::In> + Send,
    Si: Sink,
{
    let (first, others) = computes.split_first_mut().ok_or_else(no_device)?;
    let mut empty = Vec::new();
    if !others.is_empty() {
        first.save(&mut empty)?;
    }
    let clock = match &journal {
        Some(journal) => {
            journal.restore("state", &mut |file| first.restore(file))?;
            journal.restore("rows", &mut |file| rows.restore(file))?;
            Some(journal.clock())
        }
        None => None,
    };
    let (to_model, steps) = sync_channel(WAITING);
    // None waits here: what is computed is large on its way from a GPU.
    let (to_rows, computed) = sync_channel(0);
    let (to_table, finished) = sync_channel(WAITING - 1);
    thread::scope(|scope| {
        // If one cannot be started, those before it see their channels closed.
        let reader = start_in(scope, move || read(source, &to_model))?;
        let maker = start_in(scope, move || {
            make_rows(rows, computed, &to_table, progress)
        })?;
        let writer = start_in(scope, move || write(sink, finished, journal))?;
        // Behind it the other threads see their channels closed, and end.
        let done = if others.is_empty() {
            computing(first, steps, to_rows, clock)
        } else {
            let patience = patience(clock.as_ref());
            let to = Lanes::new(to_rows, clock, patience, empty);
            lanes::computing((first, others), steps, to)
        };
        let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        let made = maker.join().unwrap_or_else(|panic| resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        let (reader, writer) = read.and_then(|reader| Ok((reader, written?)))?;
        let (totals, rows) = made?;
        let work = Work {
            reader,
            encoder: done?,
            rows,
            writer,
        };
        Ok(Totals { work, ..totals })
    })
}

fn read<So: Source>(source: &mut So, to_model: &SyncSender<Batched<So::Work>>) -> Result<Duration> {
    fault::point("reader");
    let mut clock = Stopwatch::default();
    while let Some(step) = clock.time(|| source.next_batch())? {
        if to_model.send(step).is_err() {
            break;
        }
    }
    Ok(clock.taken)
}

/// Adds up how long something took.
#[derive(Default)]
struct Stopwatch {
    taken: Duration,
}

impl Stopwatch {
    fn time<T>(&mut self, f: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = f();
        self.taken += begun.elapsed();
        result
    }
}

fn no_device() -> Error {
    Error::new(Kind::Internal, "no device")
}

fn computing<C: Stage>(
    compute: &mut C,
    steps: Receiver<Batched<C::In>>,
    to_rows: SyncSender<Passed<C::Out>>,
    clock: Option<Clock>,
) -> Result<Duration> {
    let (mut all, mut waited) = (Stopwatch::default(), Stopwatch::default());
    let mut to = Next {
        to: &mut |passed| waited.time(|| send(&to_rows, passed)),
        patience: patience(clock.as_ref()),
        clock,
    };
    for Batched { work, next, .. } in steps {
        to.go_on()?;
        fault::point("encoder");
        all.time(|| compute.run(work, &mut to))?;
        if let Some(position) = next.filter(|_| to.is_due()) {
            to.mark(position, &mut |file| compute.save(file))?;
        }
    }
    Ok(all.taken.saturating_sub(waited.taken))
}

fn make_rows<R: Stage>(
    rows: &mut R,
    computed: Receiver<Passed<R::In>>,
    to_table: &SyncSender<Passed<R::Out>>,
    progress: &mut Progress,
) -> Result<(Totals, Duration)> {
    let (mut all, mut waited) = (Stopwatch::default(), Stopwatch::default());
    let mut hand_on = |passed| waited.time(|| send(to_table, passed));
    let mut to = Next::new(&mut hand_on, Duration::ZERO);
    let mut totals = Totals::default();
    for passed in computed {
        match passed {
            Passed::Work(step) => all.time(|| rows.run(step, &mut to))?,
            Passed::Done(bases, name) => {
                totals.bases += bases;
                totals.steps += 1;
                progress.add(bases, &name);
            }
            Passed::Mark(mut mark) => {
                mark.store("rows", &mut |file| rows.save(file))?;
                to.pass(Passed::Mark(mark))?;
            }
        }
    }
    Ok((totals, all.taken.saturating_sub(waited.taken)))
}

fn write<Si: Sink>(
    sink: &mut Si,
    finished: Receiver<Passed<Si::In>>,
    mut journal: Option<&mut Journal>,
) -> Result<Duration> {
    let mut clock = Stopwatch::default();
    for passed in finished {
        fault::point("writer");
        match passed {
            Passed::Work(rows) => clock.time(|| sink.write(rows))?,
            Passed::Done(..) => {}
            Passed::Mark(mut mark) => {
                sink.checkpoint(&mut mark)?;
                if let Some(journal) = &mut journal {
                    journal.commit(mark)?;
                }
            }
        }
    }
    Ok(clock.taken)
}
