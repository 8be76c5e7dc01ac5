//! Several devices: each takes whole sequences, and what comes of them goes on in the order of the
//! input, so that the rows are those of one device.
//!
//! Steps come in units, after which the model carries nothing: a strand of a contig, its sites,
//! windows, some reads. A device that is free takes the next unit. What comes of the first unit that
//! is not done goes on at once. What comes of later ones waits: a step of each device as it is, the
//! others in scratch files if the rows wait for the first unit's device; if they do not, it is the
//! rows that are slower, and the device waits.
//!
//! Memory: what one device takes, for each of them; and of steps that were read ahead, and whose
//! numbers wait in scratch files, `AHEAD` bytes, or twice that while a longer unit ends. A byte is
//! a base, so the contigs of a human genome are read ahead whole.

mod board;

use super::Stopwatch;
use super::stage::{Batched, Computation, Next, Passed, fault, send};
use crate::error::{Error, Kind, Result};
use crate::io::threads::start_in;
use crate::stream::coming::Aside;
use crate::stream::journal::Clock;
use crate::stream::stop::go_on;
use board::{Board, Merged};
use std::io::Write;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Where the devices' work goes.
pub(super) struct Lanes<O> {
    to_rows: SyncSender<Passed<O>>,
    /// If the run keeps checkpoints: between units.
    clock: Option<Clock>,
    patience: Duration,
    /// What a stage stores that carries nothing.
    empty: Vec<u8>,
}

impl<O> Lanes<O> {
    pub fn new(
        to_rows: SyncSender<Passed<O>>,
        clock: Option<Clock>,
        patience: Duration,
        empty: Vec<u8>,
    ) -> Self {
        Self {
            to_rows,
            clock,
            patience,
            empty,
        }
    }
}

/// Steps after which nothing is carried.
struct Unit<I> {
    number: u64,
    steps: Receiver<Batched<I>>,
}

/// Computes all steps, on all devices. What an earlier run carried is the first one's, and so is
/// the first unit.
pub(super) fn computing<C: Computation>(
    (first, others): (&mut C, &mut [C]),
    steps: Receiver<Batched<C::In>>,
    lanes: Lanes<C::Out>,
) -> Result<Duration> {
    let board = Board::default();
    let (begin, beginning) = channel();
    let (deal_out, units) = channel();
    let units = Mutex::new(units);
    let Lanes {
        to_rows,
        clock,
        patience,
        empty,
    } = lanes;
    let work = Mutex::new(Duration::ZERO);
    let (board, units, to_rows, work) = (&board, &units, &to_rows, &work);
    thread::scope(|scope| {
        let dealer = start_in(scope, move || {
            let _guard = Guard(board);
            deal(steps, &begin, &deal_out, board);
        });
        let mut threads = vec![dealer];
        let mut beginning = Some(beginning);
        for compute in [first].into_iter().chain(others) {
            let beginning = beginning.take();
            threads.push(start_in(scope, move || {
                let _guard = Guard(board);
                let (place, scratch) = (compute.place(), compute.scratch().to_path_buf());
                let mut lane = Lane {
                    compute,
                    board,
                    to_rows,
                    patience,
                    scratch,
                    waits: None,
                    work,
                };
                let first = beginning.and_then(|units| units.recv().ok());
                if let Err(error) = lane.work(first, units) {
                    board.fail(named(error, &place));
                }
            }));
        }
        // Those that run end when one that could not be started is missed.
        let threads: Vec<_> = threads
            .into_iter()
            .filter_map(|started| started.map_err(|error| board.fail(error)).ok())
            .collect();
        if let Err(error) = merge(board, (to_rows, clock, &empty)) {
            board.fail(error);
        }
        for thread in threads {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    board.failed()?;
    Ok(*work.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A device's error, with the device.
fn named(error: Error, place: &str) -> Error {
    match error.kind() {
        Kind::Interrupted | Kind::Terminated | Kind::Io => error,
        _ => error.file(place),
    }
}

/// Ends the run when the thread that holds it panics.
struct Guard<'a, O>(&'a Board<O>);

impl<O> Drop for Guard<'_, O> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(Error::new(Kind::Internal, "a thread panicked"));
        }
    }
}

/// Makes units of steps, until there are no more or the run is over.
fn deal<I, O>(
    steps: Receiver<Batched<I>>,
    begin: &Sender<Unit<I>>,
    deal_out: &Sender<Unit<I>>,
    board: &Board<O>,
) {
    let mut open: Option<Sender<Batched<I>>> = None;
    for batch in steps {
        if board.admit(batch.bytes).is_err() {
            return;
        }
        let unit = match open.take() {
            Some(unit) => unit,
            None => {
                let (unit, steps) = channel();
                let number = board.open();
                let to = if number == 0 { begin } else { deal_out };
                if to.send(Unit { number, steps }).is_err() {
                    return;
                }
                unit
            }
        };
        let ends = batch.ends;
        if unit.send(batch).is_err() {
            return;
        }
        if !ends {
            open = Some(unit);
        }
    }
    board.close();
}

/// A device at work.
struct Lane<'a, C: Computation> {
    compute: &'a mut C,
    board: &'a Board<C::Out>,
    to_rows: &'a SyncSender<Passed<C::Out>>,
    patience: Duration,
    scratch: PathBuf,
    /// The unit whose last outcome was not put aside.
    waits: Option<(u64, Aside)>,
    /// How long all devices were at work.
    work: &'a Mutex<Duration>,
}

impl<C: Computation> Lane<'_, C> {
    /// Computes one unit after the other, `first` before all.
    fn work(
        &mut self,
        mut first: Option<Unit<C::In>>,
        units: &Mutex<Receiver<Unit<C::In>>>,
    ) -> Result<()> {
        loop {
            let unit = match first.take() {
                Some(unit) => unit,
                None => {
                    let units = units.lock().unwrap_or_else(PoisonError::into_inner);
                    let Ok(unit) = units.recv() else {
                        return Ok(());
                    };
                    unit
                }
            };
            self.unit(unit)?;
        }
    }

    fn unit(&mut self, unit: Unit<C::In>) -> Result<()> {
        let mut end = None;
        for step in unit.steps {
            let Batched {
                work, next, bytes, ..
            } = step;
            self.step(unit.number, work)?;
            self.board.done(unit.number, bytes);
            end = next;
        }
        self.board.end(unit.number, end);
        Ok(())
    }

    fn step(&mut self, unit: u64, step: C::In) -> Result<()> {
        let Self {
            compute,
            board,
            to_rows,
            patience,
            scratch,
            waits,
            work,
        } = self;
        let mut waited = Stopwatch::default();
        let mut hand_on = |passed| {
            waited.time(|| match passed {
                Passed::Work(outcome) => {
                    if let Some((of, aside)) = waits {
                        board.put_aside(*of, aside)?;
                    }
                    if waits.as_ref().is_none_or(|(of, _)| *of != unit) {
                        *waits = Some((unit, Aside::new(scratch)));
                    }
                    board.put(unit, outcome)
                }
                // In any order.
                other => send(to_rows, other),
            })
        };
        let mut to = Next::new(&mut hand_on, *patience);
        to.go_on()?;
        fault::point("encoder");
        let mut all = Stopwatch::default();
        all.time(|| compute.run(step, &mut to))?;
        let taken = all.taken.saturating_sub(waited.taken);
        *work.lock().unwrap_or_else(PoisonError::into_inner) += taken;
        Ok(())
    }
}

/// Hands on what the devices have computed, unit by unit; makes checkpoints of stages that carry
/// nothing, as `empty` has it.
fn merge<O>(
    board: &Board<O>,
    (to_rows, mut clock, empty): (&SyncSender<Passed<O>>, Option<Clock>, &[u8]),
) -> Result<()> {
    while let Some(next) = board.next()? {
        let end = match next {
            Merged::Outcome(outcome) => {
                send(to_rows, Passed::Work(outcome))?;
                continue;
            }
            Merged::End(end) => end,
        };
        if let (Some(clock), Some(position)) = (&mut clock, end)
            && (clock.due() || go_on().is_err())
        {
            let mut mark = clock.begin(position);
            let store = &mut |file: &mut dyn Write| {
                let written = file.write_all(empty);
                written.map_err(|e| Error::because(Kind::Io, e))
            };
            mark.store("state", store)?;
            send(to_rows, Passed::Mark(mark))?;
            go_on()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
