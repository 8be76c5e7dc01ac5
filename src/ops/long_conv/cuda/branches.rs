//! Steps whose last rows are branches off their segments: what differs is convolved by itself, see
//! [`beside`](crate::ops::beside). A segment is convolved with as many zeros behind it as branches
//! reach beyond its end.

use super::{Batch, Input, LongConv, Past, WORDS, Work};
use crate::error::Result;
use crate::ops::beside::{Beside, beside};
use crate::ops::cuda::fft::fast;
use crate::ops::cuda::{Element, Floats, lock};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use std::collections::BTreeMap;

impl LongConv {
    /// As [`LongConv::forward`], of a step with branches.
    pub fn forward_branched<O: Element>(
        &self,
        x: Floats,
        past: &mut Past,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<CudaSlice<O>> {
        if branches.is_empty() {
            return self.forward(x.into(), past, segments);
        }
        let (gpu, x) = (&*self.gpu, Input::from(x));
        let (rooms, found) = beside(segments, branches)?;
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
        for branch in found {
            let len = fast(branch.len);
            let key = (self.length.min(len), self.size(2 * len - 1));
            batches.entry(key).or_default().push(work(&branch));
        }
        let mut spectra = lock(&self.spectra);
        for (key, works) in &batches {
            let store = |batch: &Batch| self.store("store_branches", (&out, Some(&sums)), x, batch);
            self.convolve(*key, x, "load_differences", works, &mut spectra, store)?;
        }
        Ok(out)
    }
}

fn work(branch: &Beside) -> Work {
    let Beside {
        row,
        len,
        beside,
        shared,
        owed,
    } = *branch;
    // The sums have the rooms of the segments before it, too.
    let numbers = [row, len, beside, shared, beside + owed];
    let mut words = [0; WORDS];
    for (word, number) in words.iter_mut().zip(numbers) {
        *word = number as u32;
    }
    Work {
        past: 0,
        len,
        words,
    }
}
