//! Reads at each position, for whoever writes the rows.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Reads at each position that was handed out, for whoever writes the rows. Holds what lies
/// between the reading and the writing thread.
#[derive(Clone, Default)]
pub struct Depths(Arc<Mutex<VecDeque<Stretch>>>);

/// Depths of consecutive positions of a contig, from the second field on.
type Stretch = (Arc<str>, u64, Vec<u32>);

impl Depths {
    pub(super) fn push(&self, stretch: Stretch) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(stretch);
    }

    /// The depth at a position, if positions are asked for in the order in which they were handed
    /// out; those before it are forgotten.
    pub fn at(&self, contig: &str, position: u64) -> Option<u32> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (name, start, depths) = queue.front()?;
            let place = position
                .checked_sub(*start)
                .and_then(|i| usize::try_from(i).ok());
            if let Some(depth) = place.and_then(|i| depths.get(i))
                && &**name == contig
            {
                return Some(*depth);
            }
            queue.pop_front();
        }
    }
}
