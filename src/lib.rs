//! Crocuta runs long-context DNA models over whole genomes: it streams sequences of any length
//! through Hyena and state-space encoders piece by piece, carrying the model's state, and writes
//! keyed tables.
//!
//! Data flows one way: source ([`io`]) → steps ([`stream`]) → encoder ([`encoder`]) → heads
//! ([`head`]) → sink ([`io`]).

pub mod adapter;
pub mod checkpoint;
pub mod cli;
pub mod distil;
pub mod encoder;
pub mod error;
pub mod genes;
pub mod head;
pub mod io;
pub mod ops;
pub mod pilot;
pub mod run;
pub mod score;
pub mod sequence;
pub mod stream;
pub mod table;
pub mod tables;
pub mod train;

pub use error::{Error, Result};
