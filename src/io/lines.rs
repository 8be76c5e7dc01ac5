//! Texts read line by line, in bounded memory, with errors that name the line.

use super::read;
use crate::error::{Error, Result};
use std::io::{BufRead, Read};
use std::ops::ControlFlow;

/// Gives `take` each line without its end, and its number, from 1 on, until it breaks off.
/// Memory: one line, of fewer than `longest` bytes.
///
/// # Errors
/// Input, naming the line: it is too long or not UTF-8, or what `take` finds wrong with it.
pub fn each(
    mut input: impl BufRead,
    longest: u64,
    mut take: impl FnMut(&str, u64) -> Result<ControlFlow<()>, String>,
) -> Result<()> {
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        (&mut input)
            .take(longest)
            .read_until(b'\n', &mut line)
            .map_err(read::error)?;
        if line.is_empty() {
            break;
        }
        let taken = match std::str::from_utf8(&line) {
            _ if line.len() as u64 == longest => Err("line too long".to_string()),
            Err(_) => Err("not UTF-8".to_string()),
            Ok(text) => take(text.trim_end_matches(['\n', '\r']), number),
        };
        let taken = taken.map_err(|what| Error::input(what).place(format!("line {number}")))?;
        if taken.is_break() {
            break;
        }
    }
    Ok(())
}
