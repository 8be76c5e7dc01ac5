//! Which records of the input are scored: all, or a shard's.

use crate::error::Result;
use crate::io::variants::{Options, Reader};
use crate::sequence::Contig;
use crate::sequence::shard;
use std::path::Path;

/// How the input's records are shared out among shards, which count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shares {
    /// The shard of each contig of the reference. Records on contigs that it lacks are in the first.
    Contigs(Vec<u64>),
    /// Equal numbers of consecutive ones.
    Records {
        /// Records of the input.
        records: u64,
        /// Shards.
        of: u64,
    },
}

/// Some of the input's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// Those of this shard.
    Shard(Shares, u64),
}

impl Shares {
    /// Whole contigs, of about as many bases in each shard.
    pub fn of_contigs(contigs: &[Contig], of: u64) -> Self {
        let lengths: Vec<u64> = contigs.iter().map(|contig| contig.length).collect();
        Self::Contigs(shard::shared_out(&lengths, of))
    }

    /// The shard of the record at this place, on this contig of the reference.
    pub fn shard(&self, record: u64, contig: Option<usize>) -> u64 {
        match self {
            Self::Contigs(shards) => contig.map_or(1, |contig| shards[contig]),
            Self::Records { records, of } => shard::of_place(record, *records, *of),
        }
    }
}

impl Part {
    /// Whether the record at this place, on this contig of the reference, is among them.
    pub fn has(&self, record: u64, contig: Option<usize>) -> bool {
        match self {
            Self::All => true,
            Self::Shard(shares, index) => shares.shard(record, contig) == *index,
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
