//! Steps whose last rows are branches off their segments.
//!
//! What the inputs before position p owe to the rows from p on is the same for a branch as for the
//! sequence that it leaves there. So with y the sequence's sums, and v its inputs,
//! `y'[p + i] = y[p + i] + sum over j <= i of k[i - j] (v'[p + j] - v[p + j])`: a convolution no
//! longer than the branch. Beyond the segment's end v is 0, and y what the sequence would owe if
//! only zeros came: the segment is convolved with as many zeros behind it as a branch reaches.

use super::{Batch, LongConv, Past, WORDS, Words};
use crate::error::{Error, Kind, Result};
use crate::ops::cuda::fft::fast;
use crate::ops::cuda::{Element, lock};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use std::collections::BTreeMap;

/// A branch beside the rows of its segment.
struct Beside {
    row: usize,
    len: usize,
    /// The segment's row where the branch has its first.
    beside: usize,
    /// The segment's rows from there on.
    shared: usize,
    /// The sums' row where the branch has its first.
    sums: usize,
}

impl LongConv {
    /// As [`LongConv::forward`], of a step with branches.
    pub fn forward_branched<O: Element>(
        &self,
        x: &CudaSlice<f32>,
        past: &mut Past,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<CudaSlice<O>> {
        if branches.is_empty() {
            return self.forward(x, past, segments);
        }
        let gpu = &*self.gpu;
        let (rooms, branches_beside) = beside(segments, branches)?;
        let rows = segments
            .iter()
            .map(|segment| segment.len)
            .chain(rooms.iter().copied());
        let sums: CudaSlice<f32> = gpu.unwritten(rows.sum::<usize>() * self.channels)?;
        let out = gpu.unwritten(x.len() / 3)?;
        self.run(x, past, (segments, branches), &rooms, |batch: &Batch| {
            self.store("store_outputs", (&out, None), x, batch)?;
            self.store("store_sums", (&sums, None), x, batch)
        })?;
        let mut batches = BTreeMap::<_, Vec<_>>::new();
        for branch in branches_beside {
            let len = fast(branch.len);
            let key = (self.length.min(len), fast(2 * len - 1));
            batches
                .entry(key)
                .or_default()
                .push((branch.len, branch.words()));
        }
        let mut spectra = lock(&self.spectra);
        for (key, works) in &batches {
            let store = |batch: &Batch| self.store("store_branches", (&out, Some(&sums)), x, batch);
            self.convolve(*key, x, "load_differences", works, &mut spectra, store)?;
        }
        Ok(out)
    }
}

/// How many rows beyond each segment its branches reach, and the branches.
fn beside(segments: &[Segment], branches: &[Branch]) -> Result<(Vec<usize>, Vec<Beside>)> {
    let (mut rooms, mut found) = (vec![0; segments.len()], Vec::with_capacity(branches.len()));
    let mut row = segments.iter().map(|segment| segment.len).sum();
    for branch in branches {
        let foreign = || Error::new(Kind::Internal, "a branch off no segment");
        let (index, first) = branch.origin(segments).ok_or_else(foreign)?;
        let beside = branch.after + 1;
        let shared = first + segments[index].len - beside;
        rooms[index] = rooms[index].max(branch.len.saturating_sub(shared));
        found.push((
            index,
            Beside {
                row,
                len: branch.len,
                beside,
                shared,
                sums: beside,
            },
        ));
        row += branch.len;
    }
    // The sums have the rooms of the segments before it, too.
    let found = found.into_iter().map(|(index, mut branch)| {
        branch.sums += rooms[..index].iter().sum::<usize>();
        branch
    });
    let found = found.collect();
    Ok((rooms, found))
}

impl Beside {
    fn words(&self) -> Words {
        let numbers = [self.row, self.len, self.beside, self.shared, self.sums];
        let mut words = [0; WORDS];
        for (word, number) in words.iter_mut().zip(numbers) {
            *word = number as u32;
        }
        words
    }
}
