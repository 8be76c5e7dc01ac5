//! Keys and values of unfinished sequences.

use super::cuda;
use crate::error::Result;
use crate::ops::cuda::Carried;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Positions of a page, and keys of a tile.
pub(super) const PAGE: usize = 256;

/// The keys and values of each lane's unfinished sequence. Clones share their full pages.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cache {
    pub(super) lanes: Vec<Lane>,
    /// On a GPU these instead.
    pub(super) on_gpu: Carried<cuda::Cache>,
}

/// One sequence's keys and values so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lane {
    /// The next position.
    pub(super) next: usize,
    /// Pages that were dropped before the first one held.
    dropped: usize,
    /// All full but the last. Page i holds positions from i · PAGE on.
    pages: VecDeque<Arc<Page>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Page {
    pub(super) keys: Vec<f32>,   // (rows, D)
    pub(super) values: Vec<f32>, // (rows, D)
}

impl Cache {
    pub(super) fn new(lanes: usize) -> Self {
        Self {
            lanes: vec![Lane::default(); lanes],
            on_gpu: Carried::default(),
        }
    }

    /// Lanes that go on from lanes of other caches, with which they share full pages.
    ///
    /// # Errors
    /// Internal: a cache lies on a GPU.
    pub fn fork(from: &[(&Self, usize)]) -> Result<Self> {
        let lanes = from.iter();
        let lanes = lanes.map(|(cache, lane)| cache.lanes.get(*lane).cloned().unwrap_or_default());
        Ok(Self {
            lanes: lanes.collect(),
            on_gpu: Carried::forked(from.iter().map(|(cache, _)| &cache.on_gpu))?,
        })
    }
}

impl Lane {
    /// Adds the rows that come next.
    pub(super) fn append<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a [f32]>,
        values: impl Iterator<Item = &'a [f32]>,
    ) {
        for (key, value) in keys.zip(values) {
            if self.next.is_multiple_of(PAGE) {
                self.pages.push_back(Arc::default());
            }
            if let Some(page) = self.pages.back_mut() {
                let page = Arc::make_mut(page);
                page.keys.extend_from_slice(key);
                page.values.extend_from_slice(value);
            }
            self.next += 1;
        }
    }

    /// Drops the pages that hold only positions before `position`.
    pub(super) fn drop_before(&mut self, position: usize) {
        while self.dropped < position / PAGE && self.pages.pop_front().is_some() {
            self.dropped += 1;
        }
    }

    /// The pages that hold a range of positions, each with its first position.
    pub(super) fn pages(&self, positions: Range<usize>) -> impl Iterator<Item = (usize, &Page)> {
        let indices = positions.start / PAGE..positions.end.div_ceil(PAGE);
        indices.filter_map(|i| {
            let page = self.pages.get(i.checked_sub(self.dropped)?)?;
            Some((i * PAGE, &**page))
        })
    }
}
