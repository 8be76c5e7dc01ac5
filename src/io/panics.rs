//! The one place where a library's panic on damaged input becomes an error.

use crate::error::{Error, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs inside [`contain`]: a panic is then no bug of ours to report.
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// Runs a library's decoder over bytes from a file.
///
/// # Errors
/// What `decode` returns, or Input when it panics. Whatever it was changing must then not be used
/// again.
pub fn contain<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = CONTAINED.replace(true);
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    CONTAINED.set(before);
    decoded.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied());
        let what = format!("damaged: {}", why.unwrap_or("it cannot be decoded"));
        Err(Error::input(what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_decoder_is_an_input_error() {
        let damaged = |bytes: &[u8]| contain(|| Ok(bytes[7]));
        assert_eq!(damaged(&[1; 8]).unwrap(), 1);
        let error = damaged(&[]).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("damaged"), "{error}");
        assert!(!is_contained());
    }
}
