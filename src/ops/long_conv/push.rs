//! Pushes: what inputs owe to sums that come later.

use crate::ops::math::simd;
use num_complex::Complex32;

/// Up to this many inputs an FFT is faster than several of blocks.
pub(super) const UNIT: usize = 1 << 15;
/// Blocks of a push that is larger.
const BLOCKS: usize = 8;

/// The last `width` inputs before `from`, convolved into the next `count` sums.
#[derive(Clone, Copy)]
pub(super) struct Push {
    pub from: usize,
    pub width: usize,
    pub count: usize,
}

impl Push {
    /// Sums that the push adds from `first` on: to the slots that follow, or, at the ring's end,
    /// in the place of the past.
    pub fn store(self, slots: &mut [Complex32], first: usize, sums: &[Complex32]) {
        if self.from == slots.len() {
            slots[first..first + sums.len()].copy_from_slice(sums);
        } else {
            add(&mut slots[self.from + first..], sums);
        }
    }

    /// The blocks in which it is done if its spectrum is not kept.
    pub fn unit(self) -> usize {
        let divides = 1 << (self.width | self.count).trailing_zeros();
        divides.min((self.width / BLOCKS).next_power_of_two().max(UNIT))
    }
}

simd! {
/// `sums += more`, as far as both reach.
pub(super) fn add(sums: &mut [Complex32], more: &[Complex32]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}
}
