//! The n-th call of a kind to the system fails, and runs are killed: what every command promises
//! then. As SQLite tests itself: for every n, not for those that come to mind.
//!
//! After a fault the exit code is one of docs/exit-codes.md and no bug; after 0 the outputs are
//! those of a run without a fault, after any other code there are none; and the same command, run
//! again, gives them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod calls;
mod kills;
mod run;
