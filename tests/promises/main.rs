//! What every command promises of its outputs, its inputs and its numbers, whatever its options.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod changed;
mod created;
mod described;
mod estimates;
mod finite;
mod given;
mod gpus;
mod identity;
mod inputs;
mod kills;
mod kinds;
mod outputs;
mod refused;
mod regions;
mod streams;
mod tracks;
