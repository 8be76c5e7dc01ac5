//! Reads from a stream that fails with this crate's errors, wrapped as those of the system are.

use crate::error::{Error, Kind, Result};
use std::io::{self, Read};
use std::sync::OnceLock;

/// The error behind a failed read.
pub fn error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::because(Kind::Io, error),
    }
}

/// Fills `out` as far as `input` goes; returns how far.
pub(super) fn up_to(input: &mut impl Read, out: &mut [u8]) -> Result<usize> {
    at_least(input, out, out.len())
}

/// Fills `out` with `least` bytes, if `input` has them, and with those that come at the same time:
/// a pipe may hold no more for long.
pub(super) fn at_least(input: &mut impl Read, out: &mut [u8], least: usize) -> Result<usize> {
    let mut got = 0;
    while got < least {
        match input.read(&mut out[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(failed) if failed.kind() == io::ErrorKind::Interrupted => {}
            Err(failed) => return Err(error(failed)),
        }
    }
    Ok(got)
}

/// The first thing that the system said against reading a file: for decoders that say "damaged" then.
#[derive(Default)]
pub struct FirstFailure(OnceLock<io::Error>);

impl FirstFailure {
    /// Keeps it, if it is the first; an interrupted call is repeated, and no failure.
    pub fn note(&self, error: &io::Error) {
        if error.kind() != io::ErrorKind::Interrupted {
            let again = error.raw_os_error().map(io::Error::from_raw_os_error);
            let again = again.unwrap_or_else(|| io::Error::new(error.kind(), error.to_string()));
            let _ = self.0.set(again);
        }
    }

    /// What was said, if anything.
    pub fn get(&self) -> Option<&io::Error> {
        self.0.get()
    }
}
