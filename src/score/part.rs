//! Which records of the input are scored: all, or a shard's.

use crate::error::Result;
use crate::io::variants::{Options, Reader};
use std::ops::Range;
use std::path::Path;

/// Some of the input's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// Those on some contigs of the reference, by their places, and perhaps those on contigs that
    /// it lacks.
    Contigs(Vec<bool>, bool),
    /// Those at these places of the input.
    Records(Range<u64>),
}

impl Part {
    /// Whether the record at this place, on this contig of the reference, is among them.
    pub fn has(&self, record: u64, contig: Option<usize>) -> bool {
        match self {
            Self::All => true,
            Self::Contigs(contigs, others) => contig.map_or(*others, |contig| contigs[contig]),
            Self::Records(records) => records.contains(&record),
        }
    }
}

/// How many records a file has, by reading it.
///
/// # Errors
/// Those of the reader.
pub fn count_records(path: &Path, options: &Options) -> Result<u64> {
    let mut reader = Reader::open(path, options)?;
    let mut records = 0;
    while reader.next_record()?.is_some() {
        records += 1;
    }
    Ok(records)
}
