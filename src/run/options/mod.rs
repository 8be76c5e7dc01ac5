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

/// One base in so many is masked at a time, if nothing else is asked for.
pub const MASK_EVERY: u16 = 8;

/// What a user should know where --mask-every is given, and nothing is masked.
pub fn note_of_masks(asked: Option<u16>, masks: bool) -> Option<&'static str> {
    let idle = asked.is_some() && !masks;
    idle.then_some("--mask-every changes nothing: this run masks no base")
}

/// Context of a model that does not state the length it was trained on.
pub const CONTEXT: usize = 1 << 16;
