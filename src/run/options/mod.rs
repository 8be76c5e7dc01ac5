//! Options that commands share. Those that decide the numbers are serialised into the identity of
//! a run; those that do not are skipped there.

mod compute;
mod intervals;
mod output;
mod regions;
mod shard;
mod source;

pub use compute::{Compute, Precision, Target, Workers};
pub use output::{Binning, Compressed, Output};
pub use regions::{RegionOptions, selection_of_intervals, selection_of_spans};
pub use shard::Sharding;
pub use source::{Source, Wanted, indexed};

use serde::Serializer;
use std::path::PathBuf;

/// Of an option whose file is part of a checkpoint: whether there is one, whatever its path.
///
/// # Errors
/// Those of the serializer.
pub fn is_given<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bool(path.is_some())
}

/// Context of a model that does not state the length it was trained on.
pub const CONTEXT: usize = 1 << 16;
