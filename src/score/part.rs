//! Which records of the input are scored: all, or a shard's.

use crate::error::Result;
use crate::io::variants::{Options, Reader};
use crate::sequence::Contig;
use crate::sequence::region::Span;
use crate::sequence::shard;
use std::ops::Range;
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

/// Which records are scored: those of a part, and of these those that overlap some regions.
pub struct Chosen {
    /// The part.
    pub part: Part,
    /// Sorted, and joined where they touch; none: everywhere.
    pub within: Option<Vec<Span>>,
}

impl Chosen {
    /// Whether the record at this place, of these bases of this contig of the reference, is among
    /// them.
    pub fn has(&self, record: u64, contig: Option<usize>, bases: Range<u64>) -> bool {
        let overlaps = |spans: &Vec<Span>| {
            let Some(contig) = contig else {
                return false;
            };
            let next =
                spans.partition_point(|span| (span.contig, span.end) <= (contig, bases.start));
            let next = spans.get(next);
            next.is_some_and(|span| span.contig == contig && span.start < bases.end)
        };
        self.part.has(record, contig) && self.within.as_ref().is_none_or(overlaps)
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
