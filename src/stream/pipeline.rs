//! Read → compute → rows → write, once for all commands.
//!
//! Four threads: one reads and packs steps, one computes (with rayon inside the ops, or on a GPU;
//! on several GPUs there is one for each: [`lanes`](super::lanes)), one makes rows of what was
//! computed, one writes. They are joined by channels that hold a few steps, so memory does not
//! depend on the input.
//!
//! A checkpoint is a mark that passes through the threads in the order of the data: each stores
//! what it carries when the mark comes by, and the writer, last, makes the checkpoint valid. A run
//! that is asked to stop makes one more before it ends, if it comes to a place for it in time.

use super::coming::Aside;
use super::journal::{Clock, Journal, Mark, Position};
use super::lanes::{self, Lanes};
use super::progress::Progress;
use super::stop::{go_on, go_on_for};
use crate::error::{Error, Kind, Result};
use crate::io::threads::start_in;
use std::io::{Read, Write};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How long a run that is asked to stop looks for a place at which it can go on. Schedulers kill
/// what has not ended after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(12);

/// Steps that may wait for the encoder; of rows, which are larger, one fewer may wait for the
/// table.
const WAITING: usize = 2;

/// What is read at a time.
pub struct Batched<W> {
    /// What to compute.
    pub work: W,
    /// Where a run can go on after it with what the stages carry; none: not from here. Between
    /// sequences nothing is carried.
    pub next: Option<Position>,
    /// About what it takes in memory.
    pub bytes: usize,
}

/// Where steps come from.
pub trait Source: Send {
    /// What is computed at a time.
    type Work: Send;

    /// The next step; `None` when all was read and the input ended well.
    fn next_batch(&mut self) -> Result<Option<Batched<Self::Work>>>;
}

/// What happens to a step between the reader and the writer.
pub trait Stage {
    /// What comes in.
    type In;
    /// What goes out, in the same order.
    type Out;

    /// Takes one step, and sends on what comes of it.
    fn run(&mut self, step: Self::In, to: &mut Next<Self::Out>) -> Result<()>;

    /// Stores what it carries from step to step.
    fn save(&self, file: &mut dyn Write) -> Result<()>;

    /// Takes up what [`Self::save`] stored.
    fn restore(&mut self, file: &mut dyn Read) -> Result<()>;
}

/// The stage that a device computes.
pub trait Computation: Stage<In: Send, Out: Outcome> + Send {
    /// The device in words, for messages.
    fn place(&self) -> String;

    /// Where scratch files lie.
    fn scratch(&self) -> &Path;
}

/// What a device has computed of a step, or is still at work on.
pub trait Outcome: Send + Sized {
    /// Waits for the device, and puts what is large aside: rows of another sequence come first.
    fn put_aside(self, aside: &mut Aside) -> Result<Self>;
}

/// Where rows go.
pub trait Sink: Send {
    /// Rows.
    type In: Send;

    /// Writes rows.
    fn write(&mut self, rows: Self::In) -> Result<()>;

    /// Makes what was written so far part of a checkpoint.
    fn checkpoint(&mut self, mark: &mut Mark) -> Result<()>;
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bases that were read, both strands and contexts counted.
    pub bases: u64,
    /// Steps.
    pub steps: u64,
}

/// What passes from one thread to the next.
pub(super) enum Passed<T> {
    Work(T),
    /// So many bases went through the encoder, of the sequence of this name.
    Done(u64, String),
    Mark(Mark),
}

/// The thread that comes next.
pub struct Next<'a, T> {
    to: &'a mut dyn FnMut(Passed<T>) -> Result<()>,
    /// Of the thread that computes, if it makes checkpoints.
    clock: Option<Clock>,
    /// How long it goes on after the run was asked to stop.
    patience: Duration,
}

impl<'a, T> Next<'a, T> {
    /// Hands on by `to`; checkpoints are another's concern, for whose sake the thread goes on for
    /// `patience` after the run was asked to stop.
    pub(super) fn new(to: &'a mut dyn FnMut(Passed<T>) -> Result<()>, patience: Duration) -> Self {
        Self {
            to,
            clock: None,
            patience,
        }
    }

    /// Goes on unless the run was asked to stop, and makes no checkpoint before.
    pub(super) fn go_on(&self) -> Result<()> {
        go_on_for(self.patience)
    }

    /// Whether a checkpoint should be made at the next place where the run can go on.
    pub fn is_due(&self) -> bool {
        self.clock.as_ref().is_some_and(Clock::due) || self.is_asked()
    }

    /// Whether a checkpoint should be made at once, since the run was asked to stop.
    pub fn is_asked(&self) -> bool {
        self.clock.is_some() && go_on().is_err()
    }

    /// Makes a checkpoint with what `save` stores, from which the run goes on at this position.
    ///
    /// # Errors
    /// As [`Self::send`], and those of `save`; and Interrupted or Terminated, if the run was asked
    /// to stop.
    pub fn mark(
        &mut self,
        position: Position,
        save: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        if let Some(clock) = &mut self.clock {
            let mut mark = clock.begin(position);
            mark.store("state", save)?;
            self.pass(Passed::Mark(mark))?;
        }
        go_on()
    }

    /// Sends on what came of a step.
    ///
    /// # Errors
    /// Io: a later thread failed; its error is the one reported.
    pub fn send(&mut self, out: T) -> Result<()> {
        self.pass(Passed::Work(out))
    }

    /// Says that so many bases went through the encoder, of the sequence `name`.
    ///
    /// # Errors
    /// As [`Self::send`]; and Interrupted or Terminated, if a signal has come.
    pub fn done(&mut self, bases: u64, name: &str) -> Result<()> {
        fault::pause();
        self.pass(Passed::Done(bases, name.to_string()))?;
        self.go_on()
    }

    fn pass(&mut self, passed: Passed<T>) -> Result<()> {
        (self.to)(passed)
    }
}

/// Hands something to the next thread.
///
/// # Errors
/// Io: a later thread failed; its error is the one reported.
pub(super) fn send<T>(to: &SyncSender<T>, passed: T) -> Result<()> {
    let sent = to.send(passed);
    sent.map_err(|_| Error::new(Kind::Io, "the writer stopped"))
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
        let totals = maker.join().unwrap_or_else(|panic| resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        read.and(written)?;
        let totals = totals?;
        done.and(Ok(totals))
    })
}

fn read<So: Source>(source: &mut So, to_model: &SyncSender<Batched<So::Work>>) -> Result<()> {
    fault::point("reader");
    while let Some(step) = source.next_batch()? {
        if to_model.send(step).is_err() {
            break;
        }
    }
    Ok(())
}

fn no_device() -> Error {
    Error::new(Kind::Internal, "no device")
}

fn computing<C: Stage>(
    compute: &mut C,
    steps: Receiver<Batched<C::In>>,
    to_rows: SyncSender<Passed<C::Out>>,
    clock: Option<Clock>,
) -> Result<()> {
    let mut to = Next {
        to: &mut |passed| send(&to_rows, passed),
        patience: patience(clock.as_ref()),
        clock,
    };
    for Batched { work, next, .. } in steps {
        to.go_on()?;
        fault::point("encoder");
        compute.run(work, &mut to)?;
        if let Some(position) = next.filter(|_| to.is_due()) {
            to.mark(position, &mut |file| compute.save(file))?;
        }
    }
    Ok(())
}

fn make_rows<R: Stage>(
    rows: &mut R,
    computed: Receiver<Passed<R::In>>,
    to_table: &SyncSender<Passed<R::Out>>,
    progress: &mut Progress,
) -> Result<Totals> {
    let mut hand_on = |passed| send(to_table, passed);
    let mut to = Next::new(&mut hand_on, Duration::ZERO);
    let mut totals = Totals::default();
    for passed in computed {
        match passed {
            Passed::Work(step) => rows.run(step, &mut to)?,
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
    Ok(totals)
}

fn write<Si: Sink>(
    sink: &mut Si,
    finished: Receiver<Passed<Si::In>>,
    mut journal: Option<&mut Journal>,
) -> Result<()> {
    for passed in finished {
        fault::point("writer");
        match passed {
            Passed::Work(rows) => sink.write(rows)?,
            Passed::Done(..) => {}
            Passed::Mark(mut mark) => {
                sink.checkpoint(&mut mark)?;
                if let Some(journal) = &mut journal {
                    journal.commit(mark)?;
                }
            }
        }
    }
    Ok(())
}

/// What tests of the program ask for in the builds that tests run.
pub(super) mod fault {
    /// A thread that is named in the variable CROCUTA_PANIC has a bug.
    #[cfg(debug_assertions)]
    pub(crate) fn point(thread: &str) {
        let wanted = std::env::var_os("CROCUTA_PANIC");
        assert!(
            wanted.is_none_or(|wanted| wanted != thread),
            "asked for by CROCUTA_PANIC"
        );
    }

    /// Each step of the encoder takes so many milliseconds more as the variable CROCUTA_PAUSE says,
    /// so that a test knows what a run is at, on however fast a machine.
    #[cfg(debug_assertions)]
    pub(super) fn pause() {
        let wanted = std::env::var("CROCUTA_PAUSE").ok();
        let wanted = wanted.and_then(|wanted| wanted.parse().ok());
        std::thread::sleep(std::time::Duration::from_millis(wanted.unwrap_or(0)));
    }

    #[cfg(not(debug_assertions))]
    pub(crate) fn point(_: &str) {}

    #[cfg(not(debug_assertions))]
    pub(super) fn pause() {}
}
