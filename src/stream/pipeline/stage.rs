//! What the pipeline is made of: sources, stages and sinks, and what passes between their threads.

use crate::error::{Error, Kind, Result};
use crate::stream::coming::Aside;
use crate::stream::journal::{Clock, Mark, Position};
use crate::stream::stop::{go_on, go_on_for};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// What is read at a time.
pub struct Batched<W> {
    /// What to compute.
    pub work: W,
    /// Where a run can go on after it with what the stages carry; none: not from here.
    pub next: Option<Position>,
    /// The model carries nothing after it: another device can go on.
    pub ends: bool,
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

/// What passes from one thread to the next.
pub(super) enum Passed<T> {
    Work(T),
    /// So many bases went through the encoder, of the sequence of this name.
    Done(u64, String),
    Mark(Mark),
}

/// The thread that comes next.
pub struct Next<'a, T> {
    pub(super) to: &'a mut dyn FnMut(Passed<T>) -> Result<()>,
    /// Of the thread that computes, if it makes checkpoints.
    pub(super) clock: Option<Clock>,
    /// How long it goes on after the run was asked to stop.
    pub(super) patience: Duration,
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

    pub(super) fn pass(&mut self, passed: Passed<T>) -> Result<()> {
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
