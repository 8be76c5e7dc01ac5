//! The segments of a step as kernels read them.

use super::Gpu;
use crate::error::{Error, Kind, Result};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use std::sync::OnceLock;

/// Rows of a chunk, where tiles are matrices.
pub(in crate::ops) const CHUNK: usize = 128;

/// The rows of a step cut at segments and branches and, within them, into tiles of up to `tile`
/// rows.
pub struct Packed {
    source: Vec<Segment>,
    branches: Vec<Branch>,
    rows: usize,
    tile_count: usize,
    longest: usize,
    pub(in crate::ops) tiles: CudaSlice<u32>, // (tiles, 4)
    pub(in crate::ops) segments: CudaSlice<u32>, // (segments and branches, 8)
    chunks: OnceLock<Box<Packed>>,
}

impl Packed {
    pub(in crate::ops) fn new(
        gpu: &Gpu,
        segments: &[Segment],
        branches: &[Branch],
    ) -> Result<Self> {
        let rows = segments.iter().map(|segment| segment.len);
        let rows = rows.chain(branches.iter().map(|branch| branch.len)).sum();
        Self::cut(gpu, (segments, branches), rows, tile(rows))
    }

    /// The same segments in tiles of [`CHUNK`] rows, kept as long as these.
    pub(in crate::ops) fn chunks(&self, gpu: &Gpu) -> Result<&Self> {
        if let Some(chunks) = self.chunks.get() {
            return Ok(chunks);
        }
        let chunks = self.in_tiles(gpu, CHUNK)?;
        Ok(self.chunks.get_or_init(|| Box::new(chunks)))
    }

    /// The same segments in tiles of so many rows.
    pub(in crate::ops) fn in_tiles(&self, gpu: &Gpu, size: usize) -> Result<Self> {
        Self::cut(gpu, (&self.source, &self.branches), self.rows, size)
    }

    fn cut(
        gpu: &Gpu,
        (segments, branches): (&[Segment], &[Branch]),
        rows: usize,
        size: usize,
    ) -> Result<Self> {
        let runs = runs(segments, branches)?;
        if segments.is_empty() || runs.iter().any(|run| run.len == 0) {
            return Err(Error::new(Kind::Internal, "an empty segment"));
        }
        // Indices are u32 on the device.
        if u32::try_from(rows).is_err() {
            return Err(
                Error::memory(format!("a step of {rows} tokens for the GPU"))
                    .todo("give a smaller --chunk or --batch"),
            );
        }
        let (mut tiles, mut kept) = (Vec::new(), Vec::with_capacity(8 * runs.len()));
        let mut row = 0;
        for (i, run) in runs.iter().enumerate() {
            let first_tile = tiles.len() / 4;
            let mut words = |words: &[usize]| tiles.extend(words.iter().map(|&n| n as u32));
            for (index, done) in (0..run.len).step_by(size).enumerate() {
                words(&[row + done, size.min(run.len - done), i, index]);
            }
            let Run {
                len,
                lane,
                flags,
                before,
                ..
            } = *run;
            let origin = run.origin.unwrap_or(row);
            let count = tiles.len() / 4 - first_tile;
            let words = [row, len, lane, flags, first_tile, count, origin, before];
            kept.extend(words.map(|n| n as u32));
            row += len;
        }
        Ok(Self {
            source: segments.to_vec(),
            branches: branches.to_vec(),
            rows,
            tile_count: tiles.len() / 4,
            longest: tiles
                .iter()
                .skip(1)
                .step_by(4)
                .max()
                .map_or(0, |n| *n as usize),
            tiles: gpu.upload(&tiles)?,
            segments: gpu.upload(&kept)?,
            chunks: OnceLock::new(),
        })
    }

    /// Whether these are the segments and branches it was made of.
    pub(in crate::ops) fn is(&self, segments: &[Segment], branches: &[Branch]) -> bool {
        self.source == segments && self.branches == branches
    }

    /// Rows of the step.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tiles of all segments.
    pub(in crate::ops) fn tile_count(&self) -> usize {
        self.tile_count
    }

    /// Rows of the longest tile.
    pub(in crate::ops) fn longest(&self) -> usize {
        self.longest
    }

    /// The segments it was made of.
    pub fn source(&self) -> &[Segment] {
        &self.source
    }

    /// Checks that each segment that reads or leaves state has a lane below `lanes`.
    pub(in crate::ops) fn expect_lanes(&self, lanes: usize) -> Result<()> {
        let outside = |s: &&Segment| s.lane >= lanes && !(s.starts && s.ends);
        match self.source.iter().find(outside) {
            None => Ok(()),
            Some(segment) => Err(Error::new(
                Kind::Internal,
                format!("no lane {}", segment.lane),
            )),
        }
    }
}

/// Consecutive rows: a segment or a branch.
struct Run {
    len: usize,
    lane: usize,
    flags: usize,
    /// Of a branch, the first row of the segment that it branches off.
    origin: Option<usize>,
    before: usize,
}

/// Segments, and branches as if each were the rest of its segment's sequence.
fn runs(segments: &[Segment], branches: &[Branch]) -> Result<Vec<Run>> {
    let flags = |starts, ends| usize::from(starts) | usize::from(ends) << 1;
    let mut runs = Vec::with_capacity(segments.len() + branches.len());
    runs.extend(segments.iter().map(|segment| Run {
        len: segment.len,
        lane: segment.lane,
        flags: flags(segment.starts, segment.ends),
        origin: None,
        before: 0,
    }));
    for branch in branches {
        let (index, row) = branch.origin(segments)?;
        runs.push(Run {
            len: branch.len,
            lane: segments[index].lane,
            flags: flags(segments[index].starts, true),
            origin: Some(row),
            before: branch.after + 1 - row,
        });
    }
    Ok(runs)
}

/// Rows of a tile: about a thousand tiles keep a GPU busy; fewer rows cost more for the states
/// between tiles, and more tiles a longer walk over them.
fn tile(rows: usize) -> usize {
    (rows / 1024).next_power_of_two().clamp(64, 1024)
}
