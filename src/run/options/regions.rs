//! The regions that are read, and what a footer says of them.

use crate::error::Result;
use crate::io::atomic::hex;
use crate::io::bed;
use crate::sequence::Contig;
use crate::sequence::interval::Interval;
use crate::sequence::region::{Query, Span};
use crate::table::footer::Selection;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Regions that a footer lists: some 300 kB.
const LISTED: usize = 10_000;

/// The regions of the command line and of a BED file, and how many of those have no base.
///
/// # Errors
/// Usage: not a region. Those of the reader of BED.
pub fn queries(regions: &[String], file: Option<&Path>) -> Result<(Vec<Query>, u64)> {
    let (mut queries, mut empty) = (Vec::new(), 0);
    for text in regions {
        queries.push(Query::parse(text)?);
    }
    if let Some(path) = file {
        let read = bed::read(path)?;
        empty = read.empty;
        let regions = read.records.into_iter().map(|record| record.region);
        queries.extend(regions.map(Query::exact));
    }
    Ok((queries, empty))
}

/// What a footer says of these spans of contigs; none: all.
pub fn selection_of_spans(spans: &[Span], contigs: &[Contig]) -> Selection {
    let lines = spans.iter().map(|span| span.region(contigs).to_string());
    if spans.len() > LISTED {
        counted(lines)
    } else {
        Selection::Listed {
            regions: lines.collect(),
        }
    }
}

/// What a footer says of intervals.
pub fn selection_of_intervals(intervals: &[Interval]) -> Selection {
    counted(intervals.iter().map(|interval| interval.region.to_string()))
}

fn counted(lines: impl Iterator<Item = String>) -> Selection {
    let (mut count, mut sum) = (0, Sha256::new());
    for line in lines {
        count += 1;
        sum.update(line + "\n");
    }
    Selection::Counted {
        count,
        sha256: hex(&sum.finalize()),
    }
}
