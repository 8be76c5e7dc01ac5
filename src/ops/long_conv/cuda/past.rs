//! What a long convolution keeps of unfinished sequences.

use super::mismatch;
use crate::error::Result;
use crate::ops::cuda::{Gpu, Saved, Stored, saved};
use cudarc::driver::CudaSlice;

/// The last L − 1 gated inputs of each lane's unfinished sequence, as far as it has come.
pub struct Past {
    pub(super) lanes: Vec<Lane>,
}

#[derive(Default)]
pub(super) struct Lane {
    /// Inputs of the sequence so far: position p lies in slot p mod the capacity.
    pub(super) position: usize,
    /// (C, capacity), up to L − 1 values a channel.
    pub(super) ring: Option<CudaSlice<f32>>,
    pub(super) capacity: usize,
}

impl Past {
    /// Inputs of a lane's sequence so far.
    pub fn position(&self, lane: usize) -> usize {
        self.lanes.get(lane).map_or(0, |lane| lane.position)
    }

    /// A copy that runs on by itself.
    pub fn fork(&self, gpu: &Gpu) -> Result<Self> {
        let lanes = self.lanes.iter().map(|lane| {
            Ok(Lane {
                position: lane.position,
                capacity: lane.capacity,
                ring: lane.ring.as_ref().map(|ring| gpu.copy(ring)).transpose()?,
            })
        });
        Ok(Self {
            lanes: lanes.collect::<Result<_>>()?,
        })
    }
}

impl Stored for Past {
    fn store(&self) -> Result<Saved> {
        let mut saved = Saved {
            sizes: Vec::new(),
            values: Vec::new(),
        };
        for lane in &self.lanes {
            saved.sizes.extend([lane.position, lane.capacity]);
            if let Some(ring) = &lane.ring {
                saved.values.extend(saved::download(ring)?);
            }
        }
        Ok(saved)
    }

    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self> {
        let foreign = || mismatch("another op's state");
        let total: usize = saved.sizes.iter().skip(1).step_by(2).sum();
        let channels = saved.values.len() / total.max(1);
        let mut rest = &saved.values[..];
        let mut lanes = Vec::new();
        for lane in saved.sizes.chunks(2) {
            let [position, capacity] = *lane else {
                return Err(foreign());
            };
            let here = rest.split_at_checked(channels * capacity);
            let (here, later) = here.ok_or_else(foreign)?;
            rest = later;
            let ring = (capacity > 0).then(|| gpu.upload(here));
            lanes.push(Lane {
                position,
                capacity,
                ring: ring.transpose()?,
            });
        }
        Ok(Self { lanes })
    }
}
