//! What every command promises of its outputs, its inputs and its numbers, whatever its options.
#![allow(clippy::unwrap_used, reason = "tests")]

macro_rules! soft { ($c:expr, $($t:tt)*) => { if !$c { use std::io::Write; let mut out = std::fs::File::options().append(true).create(true).open("/tmp/soft.log").unwrap(); let _ = writeln!(out, "### {}\n### SOFT {}", std::thread::current().name().unwrap_or_default(), format!($($t)*)); } } }

#[path = "../harness/mod.rs"]
mod harness;

mod changed;
mod described;
mod estimates;
mod finite;
mod given;
mod identity;
mod inputs;
mod kinds;
mod outputs;
mod refused;
mod streams;
