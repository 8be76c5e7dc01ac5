//! Being asked to stop: by a signal, or because the time is over that the run was given.

use crate::error::{Error, Kind, Result};
use crate::io::threads::start;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The number of the signal that asked; 0: none has.
static ASKED: AtomicI32 = AtomicI32::new(0);
/// When the first one did.
static SINCE: OnceLock<Instant> = OnceLock::new();

/// In [`ASKED`]: the time is over that the run was given.
const TIME_OVER: i32 = libc::SIGALRM;

/// Asks the run to stop, by a signal of this number; whether another signal had asked before. That
/// the run's time was over does not count: it is at its checkpoint then.
pub fn ask(signal: i32) -> bool {
    SINCE.get_or_init(Instant::now);
    let before = ASKED.swap(signal, Ordering::Relaxed);
    ![0, TIME_OVER].contains(&before)
}

/// Asks the run to stop when so much time has passed.
///
/// # Errors
/// Memory: no thread can be started.
pub fn stop_after(time: Duration) -> Result<()> {
    start(move || {
        thread::sleep(time);
        SINCE.get_or_init(Instant::now);
        // A signal that came before has its own meaning.
        let _ = ASKED.compare_exchange(0, TIME_OVER, Ordering::Relaxed, Ordering::Relaxed);
    })
    .map(|_| ())
}

/// Goes on unless the run was asked to stop.
///
/// # Errors
/// Interrupted, Terminated.
pub fn go_on() -> Result<()> {
    go_on_for(Duration::ZERO)
}

/// Goes on unless the run was asked to stop, and that is so long ago.
///
/// # Errors
/// Interrupted, Terminated.
pub(super) fn go_on_for(patience: Duration) -> Result<()> {
    let waited = || SINCE.get().map_or(Duration::ZERO, Instant::elapsed);
    if ASKED.load(Ordering::Relaxed) == 0 || waited() < patience {
        Ok(())
    } else {
        Err(interrupted())
    }
}

/// The error of a run that was asked to stop.
pub fn interrupted() -> Error {
    match ASKED.load(Ordering::Relaxed) {
        TIME_OVER => Error::new(Kind::Terminated, "the time of --time-limit is over"),
        libc::SIGTERM => Error::new(Kind::Terminated, "terminated"),
        _ => Error::new(Kind::Interrupted, "interrupted"),
    }
}
