//! Softmax attention with rotary positions, and its gradients: tiles of queries against tiles of
//! keys, so that scores are never in memory.
//!
//! The keys, already turned, and values that later queries see are kept in a ring for each lane,
//! which grows with the sequence up to the window.

#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::launch::{Launch, THREADS as WIDE};
use crate::ops::cuda::packed::Packed;
use crate::ops::cuda::{Element, Gpu, Saved, Source, Stored, expect_len, saved};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use std::sync::Arc;

pub(in crate::ops) const KERNELS: Source =
    Source::new("attention/kernel.cu", include_str!("../kernel.cu"));

/// As in the kernel.
const THREADS: usize = 128;
/// The widest head.
const WIDEST: usize = 128;
/// Pairs of columns that a block turns.
const PAIRS: usize = 4 * WIDE;
/// Rows of a lane that a block keeps.
const ROWS: usize = 64;

/// Attention of `heads` of `width` d each, D = heads · d.
#[derive(Debug)]
pub struct Attention {
    gpu: Arc<Gpu>,
    heads: usize,
    width: usize,
    both: bool,
    /// 0: none.
    window: usize,
    frequencies: Option<CudaSlice<f32>>, // (d / 2)
    scale: f32,
}

/// The keys and values of each lane's unfinished sequence.
#[derive(Debug)]
pub struct Cache {
    lanes: Vec<Lane>,
}

/// One sequence: position i in row `i % capacity` of (capacity, 2, D).
#[derive(Debug, Default)]
struct Lane {
    /// The next one.
    position: usize,
    capacity: usize,
    ring: Option<CudaSlice<f32>>,
}

/// What a step's gradients need beside its input and output.
#[derive(Debug)]
pub struct Kept {
    turned: CudaSlice<f32>, // (T, 2, D)
    sums: CudaSlice<f32>,   // (T, H)
    /// As the step found it.
    cache: Cache,
}

/// What the kernels of a step read; 0 for what is not there.
struct Places<'a> {
    packed: &'a Packed,
    turned: u64,
    x: u64,
    sums: u64,
    slope: u64,
    dots: u64,
    lanes: u64,
}

impl Attention {
    /// `both`: queries see keys on both sides. `window`: only those less than so many positions
    /// away. `rotary`: the frequencies (d / 2), and what positions are divided by.
    ///
    /// # Errors
    /// Of kind usage for heads of more than 128 columns.
    pub fn new(
        gpu: &Arc<Gpu>,
        [heads, width]: [usize; 2],
        both: bool,
        window: Option<usize>,
        rotary: Option<(&[f32], f32)>,
    ) -> Result<Self> {
        if width > WIDEST {
            return Err(Error::usage(format!(
                "heads of {width} columns: attention on the GPU has {WIDEST} at most"
            ))
            .todo("run with --device cpu"));
        }
        if heads == 0 || width == 0 || rotary.is_some_and(|(f, _)| f.len() != width / 2) {
            return Err(Error::new(Kind::Internal, "attention of another shape"));
        }
        Ok(Self {
            gpu: Arc::clone(gpu),
            heads,
            width,
            both,
            window: window.filter(|&n| i32::try_from(n).is_ok()).unwrap_or(0),
            frequencies: rotary.map(|(f, _)| gpu.upload(f)).transpose()?,
            scale: rotary.map_or(1.0, |(_, scale)| scale),
        })
    }

    /// An empty cache for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Cache {
        let mut cache = Cache { lanes: Vec::new() };
        cache.lanes.resize_with(lanes, Lane::default);
        cache
    }

    /// (T, 3D), the columns `[q | k | v]`, to (T, D); with `keep` also what gradients need.
    pub fn forward<O: Element>(
        &self,
        x: &CudaSlice<f32>,
        cache: &mut Cache,
        (segments, branches): (&[Segment], &[Branch]),
        keep: bool,
    ) -> Result<(CudaSlice<O>, Option<Kept>)> {
        let (gpu, d) = (&*self.gpu, self.heads * self.width);
        let packed = gpu.pack_branched(segments, branches)?;
        packed.expect_lanes(cache.lanes.len())?;
        expect_len("attention", x, packed.rows() * 3 * d)?;
        for lane in &cache.lanes {
            if let Some(ring) = &lane.ring {
                expect_len("keys and values", ring, lane.capacity * 2 * d)?;
            }
        }
        let before = keep.then(|| cache.fork(gpu)).transpose()?;
        let lanes = cache.table(gpu, segments.iter().any(|segment| !segment.starts))?;
        let turned = gpu.unwritten(packed.rows() * 2 * d)?;
        let rows = [(&turned, 2 * d), (x, 3 * d)];
        self.turn(&packed, lanes.as_ref(), rows, 1.0)?;
        let sums = gpu.unwritten(if keep { packed.rows() * self.heads } else { 0 })?;
        let places = Places {
            packed: &packed,
            turned: gpu.address(&turned),
            x: gpu.address(x),
            sums: if keep { gpu.address(&sums) } else { 0 },
            slope: 0,
            dots: 0,
            lanes: lanes.as_ref().map_or(0, |lanes| gpu.address(lanes)),
        };
        let out = gpu.unwritten(packed.rows() * d)?;
        let queries = if self.padded() <= 64 { 64 } else { 32 };
        self.launch(&format!("attend_{}", O::NAME), &places, queries, &out)?;
        self.keep(&packed, cache, &turned, x)?;
        let kept = before.map(|cache| Kept {
            turned,
            sums,
            cache,
        });
        Ok((out, kept))
    }

    /// The gradient to x, (T, 3D), of x, the output and the gradient to it.
    pub fn slopes(
        &self,
        x: &CudaSlice<f32>,
        out: &CudaSlice<f32>,
        slope: &CudaSlice<f32>,
        kept: &Kept,
        segments: &[Segment],
    ) -> Result<CudaSlice<f32>> {
        let (gpu, d) = (&*self.gpu, self.heads * self.width);
        let packed = gpu.pack(segments)?;
        let rows = packed.rows();
        packed.expect_lanes(kept.cache.lanes.len())?;
        expect_len("attention", x, rows * 3 * d)?;
        expect_len("output of attention", out, rows * d)?;
        expect_len("gradient of attention", slope, rows * d)?;
        expect_len("turned rows", &kept.turned, rows * 2 * d)?;
        let lanes = kept
            .cache
            .table(gpu, segments.iter().any(|segment| !segment.starts))?;
        let dots: CudaSlice<f32> = gpu.unwritten(rows * self.heads)?;
        self.kernel("head_dots")?
            .array(&dots)
            .array(out)
            .array(slope)
            .long(rows * self.heads)
            .over(rows * self.heads)?;
        let places = Places {
            packed: &packed,
            turned: gpu.address(&kept.turned),
            x: gpu.address(x),
            sums: gpu.address(&kept.sums),
            slope: gpu.address(slope),
            dots: gpu.address(&dots),
            lanes: lanes.as_ref().map_or(0, |lanes| gpu.address(lanes)),
        };
        let back: CudaSlice<f32> = gpu.unwritten(rows * 3 * d)?;
        let own = match self.padded() {
            0..=32 => 64,
            33..=64 => 32,
            _ => 16,
        };
        self.launch("query_slopes", &places, own, &back)?;
        self.launch("key_slopes", &places, own, &back)?;
        if self.frequencies.is_some() {
            let rows = [(&back, 3 * d); 2];
            self.turn(&packed, lanes.as_ref(), rows, -1.0)?;
        }
        Ok(back)
    }

    /// One block for each `own` rows of a head.
    fn launch<O: Element>(
        &self,
        name: &str,
        places: &Places,
        own: usize,
        out: &CudaSlice<O>,
    ) -> Result<()> {
        let (gpu, packed) = (&*self.gpu, places.packed);
        let slices = packed.longest().div_ceil(own);
        let pointers = [
            places.turned,
            places.x,
            places.sums,
            places.slope,
            places.dots,
            places.lanes,
            gpu.address(&packed.tiles),
            gpu.address(&packed.segments),
        ];
        let ints = [self.heads, self.window, self.both.into(), slices];
        self.kernel(name)?
            .structure(&pointers, &ints)
            .array(out)
            .blocks(packed.tile_count() * slices * self.heads, THREADS, 0)
    }

    /// Queries and keys by their positions: `sign` 1 or, back, −1. To and from rows of so many
    /// values, which begin with them.
    fn turn(
        &self,
        packed: &Packed,
        lanes: Option<&CudaSlice<u64>>,
        [to, from]: [(&CudaSlice<f32>, usize); 2],
        sign: f32,
    ) -> Result<()> {
        let gpu = &*self.gpu;
        let slices = (packed.longest() * self.width.div_ceil(2)).div_ceil(PAIRS);
        let pointers = [
            gpu.address(to.0),
            gpu.address(from.0),
            self.frequencies.as_ref().map_or(0, |f| gpu.address(f)),
            lanes.map_or(0, |lanes| gpu.address(lanes)),
            gpu.address(&packed.tiles),
            gpu.address(&packed.segments),
        ];
        self.kernel("turn")?
            .structure(&pointers, &[self.heads, to.1, from.1, slices])
            .float(self.scale)
            .float(sign)
            .blocks(packed.tile_count() * slices, WIDE, 0)
    }

    /// Moves the lanes past a step.
    fn keep(
        &self,
        packed: &Packed,
        cache: &mut Cache,
        turned: &CudaSlice<f32>,
        x: &CudaSlice<f32>,
    ) -> Result<()> {
        let (gpu, d) = (&*self.gpu, self.heads * self.width);
        let mut most = 0;
        for segment in packed.source() {
            if segment.starts && segment.ends {
                continue;
            }
            let lane = &mut cache.lanes[segment.lane];
            if segment.starts || segment.ends {
                lane.position = 0;
            }
            if !segment.ends {
                self.make_room(lane, segment.len)?;
                lane.position += segment.len;
                most = most.max(segment.len.min(lane.capacity));
            }
        }
        let Some(lanes) = cache.table(gpu, most > 0)? else {
            return Ok(());
        };
        let slices = most.div_ceil(ROWS);
        self.kernel("keep_rows")?
            .array(&lanes)
            .array(turned)
            .array(x)
            .array(&packed.segments)
            .int(d)
            .int(slices)
            .blocks(packed.source().len() * slices, WIDE, 0)
    }

    /// Lengthens a lane's ring so that it holds what queries after the next `rows` will see.
    fn make_room(&self, lane: &mut Lane, rows: usize) -> Result<()> {
        let (gpu, row) = (&*self.gpu, 2 * self.heads * self.width);
        let most = self.window.checked_sub(1).unwrap_or(usize::MAX);
        let needed = most.min(lane.position + rows);
        if needed <= lane.capacity {
            return Ok(());
        }
        // Nothing has wrapped around yet: the ring was shorter than the window.
        let capacity = most.min(needed.max(2 * lane.capacity).next_multiple_of(256));
        let mut longer: CudaSlice<f32> = gpu.unwritten(capacity * row)?;
        let held = lane.position.min(lane.capacity) * row;
        if let Some(ring) = lane.ring.as_ref().filter(|_| held > 0) {
            gpu.stream
                .memcpy_dtod(&ring.slice(..held), &mut longer.slice_mut(..held))?;
        }
        lane.capacity = capacity;
        lane.ring = Some(longer);
        Ok(())
    }

    fn kernel(&self, name: &str) -> Result<Launch<'_>> {
        let size = format!("HEAD={}", self.width);
        self.gpu.kernel_for(KERNELS, &[size], name)
    }

    /// Columns of a head in shared memory, which decide how many rows a block has there.
    fn padded(&self) -> usize {
        self.width.next_multiple_of(16)
    }
}

impl Cache {
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

    /// The lanes as kernels read them, if they are needed: (lanes, 3).
    fn table(&self, gpu: &Gpu, needed: bool) -> Result<Option<CudaSlice<u64>>> {
        let words = self.lanes.iter().flat_map(|lane| {
            let ring = lane.ring.as_ref().map_or(0, |ring| gpu.address(ring));
            [ring, lane.position as u64, lane.capacity as u64]
        });
        let words = || words.collect::<Vec<_>>();
        needed.then(|| gpu.upload(&words())).transpose()
    }
}

impl Stored for Cache {
    fn store(&self) -> Result<Saved> {
        let (mut sizes, mut values) = (Vec::new(), Vec::new());
        for lane in &self.lanes {
            let ring = lane.ring.as_ref().map(saved::download).transpose()?;
            let ring = ring.unwrap_or_default();
            sizes.extend([lane.position, lane.capacity, ring.len()]);
            values.extend(ring);
        }
        Ok(Saved { sizes, values })
    }

    fn restore(gpu: &Gpu, saved: &Saved) -> Result<Self> {
        let mut rest = &saved.values[..];
        let lanes = saved.sizes.chunks(3).map(|sizes| {
            let [position, capacity, len] = *sizes else {
                return Err(Error::new(Kind::Internal, "another op's state"));
            };
            let (ring, later) = rest
                .split_at_checked(len)
                .ok_or_else(|| Error::new(Kind::Internal, "a cache of another size"))?;
            rest = later;
            let ring = (len > 0).then(|| gpu.upload(ring)).transpose()?;
            Ok(Lane {
                position,
                capacity,
                ring,
            })
        });
        Ok(Self {
            lanes: lanes.collect::<Result<_>>()?,
        })
    }
}
