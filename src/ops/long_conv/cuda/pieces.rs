//! What of a step one FFT takes.

use super::past::Lane;
use super::{Form, KERNELS, Large, LongConv, Past};
use crate::error::Result;
use crate::ops::cuda::fft::fast;
use crate::ops::cuda::launch::THREADS;
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;
use std::collections::BTreeMap;

/// Rows of a signal that are read at once.
const UNIT: usize = 4;

/// A stretch of rows of one segment that one FFT of each channel takes.
pub(super) struct Piece {
    pub ring: u64,
    pub row: usize,
    pub len: usize,
    /// Inputs before it that the filter reaches.
    pub past: usize,
    /// Those of them that are rows of this step.
    pub inside: usize,
    pub slot: usize,
    pub capacity: usize,
    /// Rows after it from which gradients come.
    pub ahead: usize,
    /// Those of its rows, and so many before them, for which the step has no inputs: zeros.
    pub zeros: usize,
    /// Its first row among what is summed for branches.
    pub sums: usize,
    /// Its segment's first row, and its lane unless the sequence starts there.
    pub begin: usize,
    pub lane: Option<usize>,
    /// Zeros at the start of its past, so that what is new lies at a multiple of UNIT.
    pub blank: usize,
}

/// Words of a description.
pub(super) const WORDS: usize = 14;
/// What one FFT takes of each channel, as the kernels read it.
pub(super) type Words = [u32; WORDS];

/// Pieces by taps of the filter and size of the FFT.
pub(super) type Batches = BTreeMap<(usize, usize), Vec<Piece>>;

/// A piece or a branch: values of the past and new ones, and its description.
pub(super) struct Work {
    pub past: usize,
    pub len: usize,
    pub words: Words,
}

impl LongConv {
    /// Cuts segments into pieces, and makes room for what their lanes will keep. Rings that were
    /// too short for that must live until the pieces were read: in one step a sequence may end and
    /// the next one start in its lane.
    pub(super) fn batches(
        &self,
        past: &mut Past,
        segments: &[Segment],
        rooms: &[usize],
    ) -> Result<(Batches, Vec<CudaSlice<f32>>)> {
        let mut retired = Vec::new();
        let mut batches = Batches::new();
        let (mut row, mut sums) = (0, 0);
        let rooms = rooms.iter().copied().chain(std::iter::repeat(0));
        for (segment, room) in segments.iter().zip(rooms) {
            let whole = Lane::default();
            let lane = if segment.starts && segment.ends {
                &whole
            } else {
                let lane = &mut past.lanes[segment.lane];
                if segment.starts {
                    lane.position = 0;
                }
                retired.extend(self.make_room(lane, segment)?);
                lane
            };
            let ring = lane.ring.as_ref().map_or(0, |ring| self.gpu.address(ring));
            let before = (!segment.starts).then_some(segment.lane);
            let mut add = |done: usize, len: usize, taps: usize, size: usize| {
                let position = lane.position + done;
                let reached = position.min(taps - 1);
                let past = reached.next_multiple_of(UNIT);
                batches.entry((taps, size)).or_default().push(Piece {
                    ring,
                    row: row + done,
                    len,
                    past,
                    inside: reached.min(done),
                    slot: (position - reached) % lane.capacity.max(1),
                    capacity: lane.capacity,
                    ahead: 0,
                    zeros: (done + len).saturating_sub(segment.len),
                    sums: sums + done,
                    begin: row,
                    lane: before,
                    blank: past - reached,
                });
            };
            let (most, step) = self.largest();
            let rows = segment.len + room;
            if rows > step {
                (0..rows).step_by(step).for_each(|done| {
                    add(done, step.min(rows - done), self.length, most);
                })
            } else {
                // Sizes are rounded up so that segments of similar length share a batch.
                let len = fast(rows);
                let taps = self.length.min(fast(lane.position + len));
                let past = (taps - 1).next_multiple_of(UNIT);
                add(0, rows, taps, self.size(len + past));
            }
            row += segment.len;
            sums += rows;
        }
        Ok((batches, retired))
    }

    /// The largest FFT, and the rows of a piece that it takes: beyond four filter lengths, one FFT
    /// of all is more work than several.
    pub(super) fn largest(&self) -> (usize, usize) {
        let size = (4 * self.length).next_power_of_two().max(1 << 12);
        (size, size - (self.length - 1).next_multiple_of(UNIT))
    }

    /// The size of an FFT for `n` values. Rounded, a power of two takes less time than a smaller size
    /// that cuFFT would take.
    pub(super) fn size(&self, n: usize) -> usize {
        let large = n.next_power_of_two();
        if self.form == Form::Rounded && Large::new(&self.gpu, large).is_some() {
            large
        } else {
            fast(n)
        }
    }

    /// Lengthens a lane's ring so that it holds what the filter will reach after this segment.
    /// The ring that it replaces, if any.
    fn make_room(&self, lane: &mut Lane, segment: &Segment) -> Result<Option<CudaSlice<f32>>> {
        let gpu = &*self.gpu;
        let most = self.length - 1;
        let needed = most.min(lane.position + segment.len);
        if segment.ends || needed <= lane.capacity {
            return Ok(None);
        }
        // Nothing has wrapped around yet: the ring was shorter than the filter.
        let capacity = most.min(needed.max(2 * lane.capacity).next_multiple_of(256));
        let longer: CudaSlice<f32> = gpu.unwritten(self.channels * capacity)?;
        if let Some(ring) = lane.ring.as_ref().filter(|_| lane.position > 0) {
            gpu.kernel(KERNELS, "lengthen")?
                .array(&longer)
                .array(ring)
                .long(lane.capacity)
                .long(capacity)
                .blocks(self.channels * lane.capacity.div_ceil(THREADS), THREADS, 0)?;
        }
        lane.capacity = capacity;
        Ok(lane.ring.replace(longer))
    }
}

impl Piece {
    pub(super) fn work(&self) -> Work {
        Work {
            past: self.past,
            len: self.len,
            words: self.words(),
        }
    }

    pub(super) fn words(&self) -> Words {
        let Self {
            ring,
            row,
            len,
            past,
            inside,
            slot,
            capacity,
            ahead,
            zeros,
            sums,
            begin,
            lane,
            blank,
        } = *self;
        let lane = lane.map_or(u32::MAX as usize, |lane| lane);
        let [low, high] = [ring as usize & 0xffff_ffff, (ring >> 32) as usize];
        [
            low, high, row, len, past, inside, slot, capacity, ahead, zeros, sums, begin, lane,
            blank,
        ]
        .map(|n| n as u32)
    }
}
