//! The keys and values that later queries see, in pages that forks share.

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::{Gpu, Saved, Stored, saved};
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;
use std::collections::VecDeque;
use std::sync::Arc;

/// Positions of a page, as in the kernels.
const PAGE: usize = 512;

/// The keys and values of each lane's unfinished sequence. Clones share their pages until they run
/// on.
#[derive(Clone, Debug)]
pub struct Cache {
    lanes: Vec<Lane>,
    /// Of a page, in words of f32; two values of bf16 are one.
    words: usize,
}

/// One sequence.
#[derive(Clone, Debug, Default)]
struct Lane {
    /// The next one.
    position: usize,
    /// Pages that were dropped before the first one held.
    dropped: usize,
    /// Page i holds positions from i · PAGE on: (PAGE, 2, D). All full but the last.
    pages: VecDeque<Arc<CudaSlice<f32>>>,
}

impl Cache {
    /// Empty; `bytes` of keys and values for each token.
    pub(super) fn new(lanes: usize, bytes: usize) -> Self {
        Self {
            lanes: vec![Lane::default(); lanes],
            words: (PAGE * bytes).div_ceil(size_of::<f32>()),
        }
    }

    /// How many there are.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Moves the lanes past a step, and makes room for its rows; says how many of a segment are
    /// kept at most.
    pub(super) fn advance(
        &mut self,
        gpu: &Gpu,
        segments: &[Segment],
        window: Option<usize>,
    ) -> Result<usize> {
        let mut most = 0;
        for segment in segments {
            if segment.starts && segment.ends {
                continue;
            }
            let lane = &mut self.lanes[segment.lane];
            if segment.starts || segment.ends {
                *lane = Lane::default();
            }
            if !segment.ends {
                lane.advance(gpu, segment.len, window, self.words)?;
                most = most.max(segment.len.min(lane.pages.len() * PAGE));
            }
        }
        Ok(most)
    }

    /// The lanes as kernels read them, if they are needed: three words each, then addresses.
    pub(super) fn table(&self, gpu: &Gpu, needed: bool) -> Result<Option<CudaSlice<u64>>> {
        if !needed {
            return Ok(None);
        }
        let (mut words, mut addresses) = (Vec::new(), Vec::new());
        for lane in &self.lanes {
            let first = 3 * self.lanes.len() + addresses.len();
            let unheld = (first as u64).wrapping_sub(lane.dropped as u64);
            words.extend([unheld, lane.position as u64, (lane.dropped * PAGE) as u64]);
            addresses.extend(lane.pages.iter().map(|page| gpu.address(page)));
        }
        words.extend(addresses);
        Ok(Some(gpu.upload(&words)?))
    }
}

impl Lane {
    /// Drops what no later query sees, and holds pages of its own for the next `rows`.
    fn advance(
        &mut self,
        gpu: &Gpu,
        rows: usize,
        window: Option<usize>,
        words: usize,
    ) -> Result<()> {
        let next = self.position + rows;
        let seen = window.map_or(0, |window| (next + 1).saturating_sub(window));
        let unseen = (seen / PAGE).saturating_sub(self.dropped);
        self.pages.drain(..unseen.min(self.pages.len()));
        self.dropped += unseen;
        // The one that is not full may be a fork's too.
        if let Some(last) = self.pages.back_mut()
            && !self.position.is_multiple_of(PAGE)
            && Arc::get_mut(last).is_none()
        {
            *last = Arc::new(gpu.copy(last)?);
        }
        while (self.dropped + self.pages.len()) * PAGE < next {
            self.pages.push_back(Arc::new(gpu.unwritten(words)?));
        }
        self.position = next;
        Ok(())
    }
}

impl Stored for Cache {
    fn store(&self) -> Result<Saved> {
        let (mut sizes, mut values) = (vec![self.words], Vec::new());
        for lane in &self.lanes {
            sizes.extend([lane.position, lane.dropped, lane.pages.len()]);
            for page in &lane.pages {
                values.extend(saved::download(page)?);
            }
        }
        Ok(Saved { sizes, values })
    }

    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self> {
        let wrong = || Error::new(Kind::Internal, "another op's state");
        let (&words, sizes) = saved.sizes.split_first().ok_or_else(wrong)?;
        let mut pages = saved.values.chunks_exact(words.max(1));
        let lanes = sizes.chunks(3).map(|sizes| {
            let [position, dropped, count] = *sizes else {
                return Err(wrong());
            };
            let pages = (0..count).map(|_| {
                let page = pages.next().ok_or_else(wrong)?;
                Ok(Arc::new(gpu.upload(page)?))
            });
            Ok(Lane {
                position,
                dropped,
                pages: pages.collect::<Result<_>>()?,
            })
        });
        Ok(Self {
            lanes: lanes.collect::<Result<_>>()?,
            words,
        })
    }
}
