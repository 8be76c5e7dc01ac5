//! Where the time of a run goes, by op: each adds what it took, without the ops that it calls
//! itself. Off unless [`start`] was called; an op then costs one look at a flag.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static TAKEN: Mutex<BTreeMap<&str, Duration>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// What ops that were called by the open one have taken.
    static WITHIN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// The open one counts for all that it calls.
    static CLOSED: Cell<bool> = const { Cell::new(false) };
}

/// Begins to count, from zero.
pub fn start() {
    taken_so_far(BTreeMap::clear);
    ON.store(true, Ordering::Relaxed);
}

/// What each op has taken since, by name, on all threads that call ops. On a GPU it is the time in
/// which work is handed over: the device works on meanwhile.
pub fn taken() -> BTreeMap<&'static str, Duration> {
    taken_so_far(|taken| taken.clone())
}

fn taken_so_far<T>(f: impl FnOnce(&mut BTreeMap<&'static str, Duration>) -> T) -> T {
    f(&mut TAKEN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Counts for `name` until it is dropped.
#[must_use]
pub struct Span {
    name: &'static str,
    /// When it began, and what those before it have taken within the one around it.
    begun: Option<(Instant, Duration)>,
    closes: bool,
}

/// Begins to count for an op.
pub fn span(name: &'static str) -> Span {
    let on = ON.load(Ordering::Relaxed) && !CLOSED.get();
    let begun = on.then(|| (Instant::now(), WITHIN.replace(Duration::ZERO)));
    Span {
        name,
        begun,
        closes: false,
    }
}

/// Begins to count for a part with all ops that it calls.
pub fn whole(name: &'static str) -> Span {
    let mut span = span(name);
    span.closes = span.begun.is_some();
    if span.closes {
        CLOSED.set(true);
    }
    span
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some((begun, before)) = self.begun else {
            return;
        };
        if self.closes {
            CLOSED.set(false);
        }
        let all = begun.elapsed();
        let within = WITHIN.replace(before + all);
        let own = all.saturating_sub(within);
        taken_so_far(|taken| *taken.entry(self.name).or_default() += own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_counts_its_own_time_and_not_that_of_the_ops_that_it_calls() {
        let pause = |ms| std::thread::sleep(Duration::from_millis(ms));
        start();
        let begun = Instant::now();
        {
            let _outer = span("test outer");
            pause(20);
            for _ in 0..2 {
                let _inner = span("test inner");
                pause(40);
            }
        }
        let all = begun.elapsed().as_millis();
        {
            let _part = whole("test part");
            let _inner = span("test within");
        }
        let taken = taken();
        assert!(!taken.contains_key("test within"), "{taken:?}");
        let ms = |name| taken[name].as_millis();
        let (outer, inner) = (ms("test outer"), ms("test inner"));
        assert!(outer >= 20 && inner >= 80, "{taken:?}");
        // The inner one is not counted twice, however long the pauses came to be.
        assert!(outer + inner <= all, "{taken:?} of {all}");
    }
}
