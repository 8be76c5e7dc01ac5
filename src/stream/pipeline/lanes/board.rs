//! What the threads of several devices know of each other's work.

use crate::error::{Error, Result};
use crate::stream::coming::Aside;
use crate::stream::journal::Position;
use crate::stream::pipeline::stage::Outcome;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of steps that are read and not done with.
pub(super) const AHEAD: usize = 256 << 20;

/// Units that are at work, and what was computed of them.
pub(super) struct Board<O> {
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
    /// It is computed, and where a run can go on after it.
    end: Option<Option<Position>>,
}

enum Slot<O> {
    Here(O),
    /// On its way to a scratch file.
    Away,
}

/// What the first unit has.
pub(super) enum Merged<O> {
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
    pub fn fail(&self, error: Error) {
        self.change(|state| {
            state.failed.get_or_insert(error);
        });
    }

    /// The first error.
    pub fn failed(&self) -> Result<()> {
        self.lock().failed.take().map_or(Ok(()), Err)
    }

    /// Waits until there is room for a step.
    pub fn admit(&self, bytes: usize) -> Result<()> {
        self.wait(|state| {
            let room = state.bytes == 0 || state.bytes + bytes <= AHEAD;
            room.then(|| state.bytes += bytes)
        })
    }

    /// Begins a unit; its number.
    pub fn open(&self) -> u64 {
        let mut state = self.lock();
        state.lines.push_back(Line {
            outcomes: VecDeque::new(),
            bytes: 0,
            end: None,
        });
        state.first + state.lines.len() as u64 - 1
    }

    /// There are no more units.
    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    /// A step of a unit is computed.
    pub fn done(&self, unit: u64, bytes: usize) {
        self.change(|state| {
            let waits = unit > state.first;
            match state.line(unit).filter(|_| waits) {
                Some(line) => line.bytes += bytes,
                None => state.bytes -= bytes,
            }
        });
    }

    /// A unit is computed.
    pub fn end(&self, unit: u64, at: Option<Position>) {
        self.change(|state| {
            if let Some(line) = state.line(unit) {
                line.end = Some(at);
            }
        });
    }

    /// Takes what was computed of a step: of the first unit, when the one before it has gone on.
    pub fn put(&self, unit: u64, outcome: O) -> Result<()> {
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
    pub fn next(&self) -> Result<Option<Merged<O>>> {
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
    pub fn put_aside(&self, unit: u64, aside: &mut Aside) -> Result<()> {
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
