//! The regions that are read, and what a footer says of them.

use crate::error::Result;
use crate::io::bed::{self, Record};
use crate::io::sha256::hex;
use crate::run::file_name;
use crate::sequence::Contig;
use crate::sequence::interval::Interval;
use crate::sequence::region::{Query, Span};
use crate::table::footer::Selection;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

/// RegionOptions that a footer lists: some 300 kB.
const LISTED: usize = 10_000;

/// Which regions.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct RegionOptions {
    /// Only this region, as in samtools: chr, chr:beg-end, 1-based, end included. Of reads and
    /// variants, those that overlap it. Repeatable.
    #[arg(long, value_name = "REGION")]
    region: Vec<String>,
    /// Only the regions of this BED file.
    #[arg(short = 'R', long, visible_short_alias = 'L', value_name = "BED")]
    #[serde(skip)]
    regions_file: Option<PathBuf>,
}

impl RegionOptions {
    /// Whether there are any.
    pub fn are_given(&self) -> bool {
        !self.region.is_empty() || self.regions_file.is_some()
    }

    /// The file that is read, and what it is.
    pub fn file(&self) -> Option<(&'static str, PathBuf)> {
        let file = self.regions_file.as_ref();
        file.map(|path| ("regions file", path.clone()))
    }

    /// What a footer's parameters say of it.
    pub fn param(&self) -> Option<(&'static str, Value)> {
        let file = self.regions_file.as_ref();
        file.map(|path| ("regions-file", json!(file_name(path))))
    }

    /// The regions of the command line and of the file, and how many of those have no base. With
    /// `allow_empty` there may be none although they are given, which then means nothing.
    ///
    /// # Errors
    /// Usage: not a region. Those of the reader of BED.
    pub fn queries(&self, allow_empty: bool) -> Result<(Vec<Query>, u64)> {
        let (mut queries, mut empty) = (Vec::new(), 0);
        for text in &self.region {
            queries.push(Query::parse(text)?);
        }
        if let Some(path) = &self.regions_file {
            let read = bed::read(path, allow_empty)?;
            empty = read.empty;
            let file = Arc::from(path.display().to_string());
            let query = |record: Record| Query::exact(record.region).of_line(&file, record.line);
            queries.extend(read.records.into_iter().map(query));
        }
        Ok((queries, empty))
    }
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
