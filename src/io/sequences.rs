//! What a source of sequences hands out, whether it reads a file or makes a consensus.

use std::ops::Range;

/// A contig or a region of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The contig's place in the dictionary, which grows as a file is streamed.
    pub contig: usize,
    /// The contig's name.
    pub name: String,
    /// The position of the first base that is handed out, context included.
    pub start: u64,
    /// The end of what is handed out, context included; may lie beyond the contig when its length
    /// is not known yet.
    pub end: u64,
    /// The positions that are asked for; those before and after are context. When the contig's length is
    /// not known yet the end may lie beyond it, and is [`TO_END`](crate::sequence::region::TO_END) for all of a contig.
    pub rows: Range<u64>,
    /// Stretches between those positions that are not asked for, in order: of several regions
    /// that are read together.
    pub gaps: Vec<Range<u64>>,
    /// The contig's length, if it is known.
    pub length: Option<u64>,
}

/// A sequence that will be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its bases, context included.
    pub bases: u64,
    /// The positions that are asked for: one stretch, or several.
    pub rows: Vec<Range<u64>>,
}

impl Planned {
    /// One stretch.
    pub fn one(bases: u64, rows: Range<u64>) -> Self {
        Self {
            bases,
            rows: std::iter::once(rows).collect(),
        }
    }

    /// Bins of `bin` bases, aligned to multiples of it, that its stretches lie in.
    pub fn rows(&self, bin: u64) -> u64 {
        let stretches = self.rows.iter().filter(|rows| !rows.is_empty());
        stretches
            .map(|rows| (rows.end - 1) / bin - rows.start / bin + 1)
            .sum()
    }
}
