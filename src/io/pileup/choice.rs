//! How the base of a position is chosen.

use crate::sequence::{N, SOFT_MASKED};

/// How a base is chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Fewer reads decide nothing.
    pub min_depth: u32,
    /// The part of the reads that must have the base.
    pub min_fraction: f64,
    /// Alignments of lower mapping quality do not count.
    pub min_mapping_quality: u8,
    /// Bases of lower quality do not count.
    pub min_base_quality: u8,
    /// Undecided positions are N, not the reference.
    pub undecided_n: bool,
}

/// What was chosen, in positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Decided by reads, and other than the reference.
    pub changed: u64,
    /// Deleted in most reads.
    pub deleted: u64,
    /// Too few reads, or reads that disagree.
    pub undecided: u64,
    /// All.
    pub positions: u64,
    /// Alignments that counted.
    pub alignments: u64,
    /// Alignments that cannot be, or span too much.
    pub refused: u64,
}

/// Reads with each of A, C, G, T, and with the base deleted.
pub type Column = [u32; 5];

impl Choice {
    /// The base code of a position.
    pub fn base(&self, column: &Column, reference: u8, chosen: &mut Chosen) -> u8 {
        chosen.positions += 1;
        let depth: u32 = column.iter().sum();
        let most = column.iter().copied().max().unwrap_or_default();
        let unique = column.iter().filter(|&&n| n == most).count() == 1;
        let enough = f64::from(most) >= self.min_fraction * f64::from(depth);
        let mask = reference & SOFT_MASKED;
        if depth < self.min_depth.max(1) || !unique || !enough {
            chosen.undecided += 1;
            return if self.undecided_n {
                N | mask
            } else {
                reference
            };
        }
        let best = column.iter().position(|&n| n == most).unwrap_or_default() as u8;
        if best == 4 {
            chosen.deleted += 1;
            return N | mask;
        }
        chosen.changed += u64::from(best | mask != reference);
        best | mask
    }
}
