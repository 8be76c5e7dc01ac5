//! Damaged inputs, models, disks and processes: what the program promises then.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod checkpoint;
mod compressed;
mod fasta;
mod journal;
mod output;
mod pickle;
mod reads;
mod region;
mod signal;
mod variants;
