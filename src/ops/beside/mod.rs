//! Branches beside the rows of the segments that they leave, for ops that are linear in their inputs.
//!
//! What the inputs before position p owe to the rows from p on is the same for a branch as for its
//! sequence. So a branch's outputs are the sequence's, and those of what differs: of its inputs less
//! those beside them, from zeros. Beyond the segment's end its inputs are 0, and its outputs what it
//! owes to the next rows.

use super::cuda::{Gpu, Source};
use crate::error::Result;
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;

pub(super) const KERNELS: Source = Source::new("beside/kernel.cu", include_str!("kernel.cu"));

/// A branch beside the rows of its segment.
pub(super) struct Beside {
    /// Its first row.
    pub row: usize,
    pub len: usize,
    /// The segment's row where the branch has its first.
    pub beside: usize,
    /// The segment's rows from there on.
    pub shared: usize,
    /// Rows beyond the ends of the segments before its own.
    pub owed: usize,
}

/// Rows beyond each segment's end that its branches reach, and the branches.
pub(super) fn beside(
    segments: &[Segment],
    branches: &[Branch],
) -> Result<(Vec<usize>, Vec<Beside>)> {
    let (mut rooms, mut found) = (vec![0; segments.len()], Vec::with_capacity(branches.len()));
    let mut row = segments.iter().map(|segment| segment.len).sum();
    for branch in branches {
        let (index, first) = branch.origin(segments)?;
        let beside = branch.after + 1;
        let shared = first + segments[index].len - beside;
        rooms[index] = rooms[index].max(branch.len.saturating_sub(shared));
        let here = Beside {
            row,
            len: branch.len,
            beside,
            shared,
            owed: 0,
        };
        found.push((index, here));
        row += branch.len;
    }
    let found = found.into_iter().map(|(index, here)| Beside {
        owed: rooms[..index].iter().sum(),
        ..here
    });
    let found = found.collect();
    Ok((rooms, found))
}

/// Adds to the rows of branches in `x`, (T, C), `factor` times those beside them; beyond their
/// segments' ends, those of `owed`, if it is given.
pub(super) fn add_beside(
    gpu: &Gpu,
    x: &CudaSlice<f32>,
    owed: Option<&CudaSlice<f32>>,
    branches: &[Beside],
    channels: usize,
    factor: f32,
) -> Result<()> {
    let words = branches
        .iter()
        .flat_map(|b| [b.row, b.len, b.beside, b.shared, b.owed]);
    let words: Vec<u32> = words.map(|n| n as u32).collect();
    let longest = branches.iter().map(|branch| branch.len).max().unwrap_or(0);
    let values = branches.len() * longest * channels;
    gpu.kernel(KERNELS, "add_beside")?
        .array(x)
        .optional(owed)
        .array(&gpu.upload(&words)?)
        .int(channels)
        .long(longest)
        .long(values)
        .float(factor)
        .over(values)
}
