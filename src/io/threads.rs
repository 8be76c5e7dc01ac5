//! Threads that are started or refused: the standard library panics where the system gives none.

use crate::error::{Error, Result};
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

/// Starts a thread.
///
/// # Errors
/// Memory: the system gives none.
pub fn start<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    Builder::new().spawn(work).map_err(none)
}

/// Starts a thread that ends with a scope.
///
/// # Errors
/// Memory: the system gives none.
pub fn start_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    Builder::new().spawn_scoped(scope, work).map_err(none)
}

/// The error for a thread that the system does not give.
pub fn none(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::memory(format!("no thread can be started: {error}"))
        .todo("give it more memory, or fewer --threads")
        .caused_by(error)
}
