//! Options that commands share. Those that decide the numbers are serialised into the identity of
//! a run; those that do not are skipped there.

mod compute;
mod intervals;
mod output;
mod shard;
mod source;

pub use compute::{Compute, Precision, Target, use_threads};
pub use output::{Binning, Output};
pub use shard::Sharding;
pub use source::{Part, Source, described, indexed, queries};

/// Context of a model that does not state the length it was trained on.
pub const CONTEXT: usize = 1 << 16;
