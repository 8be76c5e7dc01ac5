//! Several devices: each takes whole sequences, and what comes of them goes on in the order of the
//! input, so that the rows are those of one device.
//!
//! Steps come in units, after which nothing is carried: a contig, a strand's sites, some reads. A
//! device that is free takes the next unit. What comes of the first unit that is not done goes on
//! at once. What comes of later ones waits: a step of each device as it is, the others in scratch
//! files if the rows wait for the first unit's device; if they do not, it is the rows that are
//! slower, and the device waits.
//!
//! Memory: what one device takes, for each of them; and of steps that were read ahead, and whose
//! numbers wait in scratch files, `AHEAD` bytes, or twice that while a longer unit ends. A byte is
//! a base, so the contigs of a human genome are read ahead whole.

use super::coming::Aside;
use super::journal::{Clock, Position};
use super::pipeline::{Batched, Computation, Next, Outcome, Passed, fault, send};
use super::stop::go_on;
use crate::error::{Error, Kind, Result};
use crate::io::threads::start_in;
use std::collections::VecDeque;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Bytes of steps that are read and not done with.
const AHEAD: usize = 256 << 20;

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
) -> Result<()> {
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
    let (board, units, to_rows) = (&board, &units, &to_rows);
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
    board.failed()
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
        let ends = is_between(batch.next).is_some();
        if unit.send(batch).is_err() {
            return;
        }
        if !ends {
            open = Some(unit);
        }
    }
    board.close();
}

/// A position between two sequences.
fn is_between(position: Option<Position>) -> Option<Position> {
    position.filter(|position| position.bases == 0)
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
        for Batched { work, next, bytes } in unit.steps {
            self.step(unit.number, work)?;
            self.board.done(unit.number, bytes);
            end = next;
        }
        self.board.end(unit.number, is_between(end));
        Ok(())
    }

    fn step(&mut self, unit: u64, work: C::In) -> Result<()> {
        let Self {
            compute,
            board,
            to_rows,
            patience,
            scratch,
            waits,
        } = self;
        let mut hand_on = |passed| match passed {
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
        };
        let mut to = Next::new(&mut hand_on, *patience);
        to.go_on()?;
        fault::point("encoder");
        compute.run(work, &mut to)
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

/// What the threads know of each other's work.
struct Board<O> {
    state: Mutex<State<O>>,
    changed: Condvar,
}

struct State<O> {
    /// Units that are not handed on, the first one first.
    lines: VecDeque<Line<O>>,
    /// The number of the first.
    first: u64,
    /// Bytes of steps that are read and not done with.
    bytes: usize,
    /// There are no more units.
    closed: bool,
    /// The rows wait for the first unit's device.
    idle: bool,
    /// The run is over, since a thread failed: the first error.
    failed: Option<Error>,
}

/// What was computed of a unit, and waits.
struct Line<O> {
    outcomes: VecDeque<Slot<O>>,
    /// Bytes of its steps that are computed.
    bytes: usize,
    /// It is computed, up to a position between two sequences.
    end: Option<Option<Position>>,
}

enum Slot<O> {
    Here(O),
    /// On its way to a scratch file.
    Away,
}

/// What the first unit has.
enum Merged<O> {
    Outcome(O),
    End(Option<Position>),
}

impl<O> Default for Board<O> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                lines: VecDeque::new(),
                first: 0,
                bytes: 0,
                closed: false,
                idle: false,
                failed: None,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<O> State<O> {
    fn line(&mut self, unit: u64) -> Option<&mut Line<O>> {
        let place = unit.checked_sub(self.first)?;
        self.lines.get_mut(usize::try_from(place).ok()?)
    }
}

impl<O> Board<O> {
    fn lock(&self) -> MutexGuard<'_, State<O>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready` says something.
    ///
    /// # Errors
    /// That of the thread that failed first.
    fn wait<T>(&self, mut ready: impl FnMut(&mut State<O>) -> Option<T>) -> Result<T> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            let idle = state.idle;
            if let Some(found) = ready(&mut state) {
                self.changed.notify_all();
                return Ok(found);
            }
            if state.idle != idle {
                self.changed.notify_all();
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Changes what the others may wait for.
    fn change(&self, change: impl FnOnce(&mut State<O>)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Ends the run.
    fn fail(&self, error: Error) {
        self.change(|state| {
            state.failed.get_or_insert(error);
        });
    }

    /// The first error.
    fn failed(&self) -> Result<()> {
        self.lock().failed.take().map_or(Ok(()), Err)
    }

    /// Waits until there is room for a step.
    fn admit(&self, bytes: usize) -> Result<()> {
        self.wait(|state| {
            let room = state.bytes == 0 || state.bytes + bytes <= AHEAD;
            room.then(|| state.bytes += bytes)
        })
    }

    /// Begins a unit; its number.
    fn open(&self) -> u64 {
        let mut state = self.lock();
        state.lines.push_back(Line {
            outcomes: VecDeque::new(),
            bytes: 0,
            end: None,
        });
        state.first + state.lines.len() as u64 - 1
    }

    /// There are no more units.
    fn close(&self) {
        self.change(|state| state.closed = true);
    }

    /// A step of a unit is computed.
    fn done(&self, unit: u64, bytes: usize) {
        self.change(|state| {
            let waits = unit > state.first;
            match state.line(unit).filter(|_| waits) {
                Some(line) => line.bytes += bytes,
                None => state.bytes -= bytes,
            }
        });
    }

    /// A unit is computed.
    fn end(&self, unit: u64, at: Option<Position>) {
        self.change(|state| {
            if let Some(line) = state.line(unit) {
                line.end = Some(at);
            }
        });
    }

    /// Takes what was computed of a step: of the first unit, when the one before it has gone on.
    fn put(&self, unit: u64, outcome: O) -> Result<()> {
        let mut outcome = Some(outcome);
        self.wait(|state| {
            let waits = unit == state.first;
            let line = state.line(unit)?;
            if waits && !line.outcomes.is_empty() {
                return None;
            }
            line.outcomes.extend(outcome.take().map(Slot::Here));
            Some(())
        })
    }

    /// What the first unit has; `None` after the last one.
    fn next(&self) -> Result<Option<Merged<O>>> {
        self.wait(|state| {
            state.idle = false;
            let Some(line) = state.lines.front_mut() else {
                state.idle = true;
                return state.closed.then_some(None);
            };
            match (line.outcomes.pop_front(), line.end) {
                (Some(Slot::Here(outcome)), _) => return Some(Some(Merged::Outcome(outcome))),
                (Some(Slot::Away), _) => line.outcomes.push_front(Slot::Away),
                (None, Some(end)) => {
                    state.lines.pop_front();
                    state.first += 1;
                    let waited = state.lines.front_mut();
                    let bytes = waited.map_or(0, |line| std::mem::take(&mut line.bytes));
                    state.bytes -= bytes;
                    return Some(Some(Merged::End(end)));
                }
                (None, None) => {}
            }
            state.idle = true;
            None
        })
    }
}

impl<O: Outcome> Board<O> {
    /// Puts the last outcome of a unit aside, if it still waits, and not for rows that are slow.
    fn put_aside(&self, unit: u64, aside: &mut Aside) -> Result<()> {
        let taken = self.wait(|state| {
            if unit <= state.first {
                return Some(None);
            }
            if !state.idle {
                return None;
            }
            let last = state.line(unit)?.outcomes.back_mut();
            Some(last.map(|slot| std::mem::replace(slot, Slot::Away)))
        })?;
        if let Some(Slot::Here(outcome)) = taken {
            let outcome = outcome.put_aside(aside)?;
            self.change(|state| {
                let slot = state.line(unit).and_then(|line| line.outcomes.back_mut());
                if let Some(slot) = slot {
                    *slot = Slot::Here(outcome);
                }
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
