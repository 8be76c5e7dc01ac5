//! Softmax attention with rotary positions, and its gradients: tiles of queries against tiles of
//! keys, so that scores are never in memory.
//!
//! Where products take bf16, queries, keys and values are rounded to it and meet on tensor cores;
//! else, for gradients, and for heads that are not a multiple of 8 wide, all is f32. The keys,
//! already turned, and values that later queries see are kept in pages, in bf16 where products take
//! it.

mod pages;
#[cfg(test)]
mod tests;

pub use pages::Cache;

use crate::error::{Error, Kind, Result};
use crate::ops::cuda::launch::{Launch, THREADS as WIDE};
use crate::ops::cuda::packed::{CHUNK, Packed};
use crate::ops::cuda::{Element, Gpu, Source, expect_len};
use crate::sequence::{Branch, Segment};
use cudarc::driver::CudaSlice;
use half::bf16;
use std::sync::Arc;

pub(in crate::ops) const KERNELS: Source = Source::new(
    "attention/kernel.cu",
    concat!(
        include_str!("../kernel_rows.cu"),
        include_str!("../kernel.cu")
    ),
);
pub(in crate::ops) const KERNELS_BF16: Source = Source::new(
    "attention/kernel_bf16.cu",
    concat!(
        include_str!("../kernel_rows.cu"),
        include_str!("../kernel_bf16.cu")
    ),
);

/// Of a block, as in the kernels.
const THREADS: usize = 128;
const TENSOR_THREADS: usize = 256;
/// The widest head.
const WIDEST: usize = 256;
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
    cores: Option<TensorCores>,
}

/// How tensor cores cut the work.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct TensorCores {
    /// Of a tile.
    keys: usize,
    /// By the instructions that four warps of a Hopper GPU share.
    warpgroup: bool,
    /// Bytes of shared memory.
    shared: usize,
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
    /// Of kind usage for heads of more than 256 columns.
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
            cores: TensorCores::new(width, gpu.capability).filter(|_| gpu.rounded()),
        })
    }

    /// On tensor cores as GPUs before Hopper have them, or after it.
    #[cfg(test)]
    pub fn portable(mut self) -> Self {
        self.cores = self.cores.and(TensorCores::new(self.width, 80));
        self
    }

    /// An empty cache for `lanes` sequences.
    pub fn start(&self, lanes: usize) -> Cache {
        let bytes = if self.gpu.rounded() { 2 } else { 4 };
        Cache::new(lanes, 2 * self.heads * self.width * bytes)
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
        packed.expect_lanes(cache.lanes())?;
        expect_len("attention", x, packed.rows() * 3 * d)?;
        // Branches have keys of another segment, which tensor cores' tiles do not look for.
        let simple = O::IS_BF16 && !keep && branches.is_empty();
        if let Some(cores) = self.cores.filter(|_| simple) {
            return Ok((self.on_tensor_cores(x, cache, &packed, cores)?, None));
        }
        let before = keep.then(|| cache.clone());
        let lanes = cache.table(gpu, segments.iter().any(|segment| !segment.starts))?;
        let turned: CudaSlice<f32> = gpu.unwritten(packed.rows() * 2 * d)?;
        let rows = [(gpu.address(&turned), 2 * d), (gpu.address(x), 3 * d)];
        self.turn(self.kernel("turn")?, &packed, lanes.as_ref(), rows, 1.0)?;
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
        let queries = match self.padded() {
            0..=64 => 64,
            65..=128 => 32,
            _ => 16,
        };
        let name = format!("attend_{}", O::NAME);
        self.launch(self.kernel(&name)?, &places, queries, (THREADS, 0), &out)?;
        if let Some((lanes, slices)) = self.keep(&packed, cache)? {
            self.kernel("keep_rows")?
                .array(&lanes)
                .array(&turned)
                .array(x)
                .array(&packed.segments)
                .int(d)
                .int(slices)
                .blocks(segments.len() * slices, WIDE, 0)?;
        }
        let kept = before.map(|cache| Kept {
            turned,
            sums,
            cache,
        });
        Ok((out, kept))
    }

    /// The same of rounded queries, keys and values.
    fn on_tensor_cores<O: Element>(
        &self,
        x: &CudaSlice<f32>,
        cache: &mut Cache,
        packed: &Packed,
        cores: TensorCores,
    ) -> Result<CudaSlice<O>> {
        let (gpu, d) = (&*self.gpu, self.heads * self.width);
        let goes_on = packed.source().iter().any(|segment| !segment.starts);
        let lanes = cache.table(gpu, goes_on)?;
        let turned: CudaSlice<bf16> = gpu.unwritten(packed.rows() * 3 * d)?;
        let rows = [(gpu.address(&turned), 3 * d), (gpu.address(x), 3 * d)];
        let turn = self.rounded_kernel(cores, "turn_rounded")?;
        self.turn(turn, packed, lanes.as_ref(), rows, 1.0)?;
        let places = Places {
            packed: packed.chunks(gpu)?,
            turned: gpu.address(&turned),
            x: 0,
            sums: 0,
            slope: 0,
            dots: 0,
            lanes: lanes.as_ref().map_or(0, |lanes| gpu.address(lanes)),
        };
        let out = gpu.unwritten(packed.rows() * d)?;
        let kernel = self.rounded_kernel(cores, "attend_rounded")?;
        self.launch(kernel, &places, CHUNK, (TENSOR_THREADS, cores.shared), &out)?;
        if let Some((lanes, slices)) = self.keep(packed, cache)? {
            self.rounded_kernel(cores, "keep_rounded")?
                .array(&lanes)
                .array(&turned)
                .array(&packed.segments)
                .int(d)
                .int(slices)
                .blocks(packed.source().len() * slices, WIDE, 0)?;
        }
        Ok(out)
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
        packed.expect_lanes(kept.cache.lanes())?;
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
        let (own, others) = match self.padded() {
            0..=32 => (64, 32),
            33..=64 => (32, 32),
            _ => (16, 16),
        };
        let shared = 2 * (own + others) * (self.padded() + 4) + own * (others + 4);
        for name in ["query_slopes", "key_slopes"] {
            let kernel = self.kernel(name)?;
            self.launch(kernel, &places, own, (THREADS, 4 * shared), &back)?;
        }
        if self.frequencies.is_some() {
            let rows = [(gpu.address(&back), 3 * d); 2];
            self.turn(self.kernel("turn")?, &packed, lanes.as_ref(), rows, -1.0)?;
        }
        Ok(back)
    }

    /// One block, of so many threads and bytes of shared memory, for each `own` rows of a head.
    fn launch<O: Element>(
        &self,
        kernel: Launch,
        places: &Places,
        own: usize,
        (threads, shared): (usize, usize),
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
        let blocks = packed.tile_count() * slices * self.heads;
        let kernel = kernel.structure(&pointers, &ints).array(out);
        kernel.blocks(blocks, threads, shared)
    }

    /// Queries and keys by their positions: `sign` 1 or, back, −1. To and from rows of so many
    /// values, which begin with them, at two addresses.
    fn turn(
        &self,
        kernel: Launch,
        packed: &Packed,
        lanes: Option<&CudaSlice<u64>>,
        [to, from]: [(u64, usize); 2],
        sign: f32,
    ) -> Result<()> {
        let gpu = &*self.gpu;
        let slices = (packed.longest() * self.width.div_ceil(2)).div_ceil(PAIRS);
        let pointers = [
            to.0,
            from.0,
            self.frequencies.as_ref().map_or(0, |f| gpu.address(f)),
            lanes.map_or(0, |lanes| gpu.address(lanes)),
            gpu.address(&packed.tiles),
            gpu.address(&packed.segments),
        ];
        kernel
            .structure(&pointers, &[self.heads, to.1, from.1, slices])
            .float(self.scale)
            .float(sign)
            .blocks(packed.tile_count() * slices, WIDE, 0)
    }

    /// Moves the lanes past a step. Where rows are to be kept: the lanes as they are now, and the
    /// blocks that a segment's rows take.
    fn keep(&self, packed: &Packed, cache: &mut Cache) -> Result<Option<(CudaSlice<u64>, usize)>> {
        let window = Some(self.window).filter(|&window| window > 0);
        let most = cache.advance(&self.gpu, packed.source(), window)?;
        let lanes = cache.table(&self.gpu, most > 0)?;
        Ok(lanes.map(|lanes| (lanes, most.div_ceil(ROWS))))
    }

    fn kernel(&self, name: &str) -> Result<Launch<'_>> {
        let rounded = u8::from(self.gpu.rounded());
        let sizes = [
            format!("HEAD={}", self.width),
            format!("PAST_BF16={rounded}"),
        ];
        self.gpu.kernel_for(KERNELS, &sizes, name)
    }

    fn rounded_kernel(&self, cores: TensorCores, name: &str) -> Result<Launch<'_>> {
        let sizes = cores.defines(self.width);
        self.gpu.kernel_for(KERNELS_BF16, &sizes, name)
    }

    /// Columns of a head in shared memory, which decide how many rows a block has there.
    fn padded(&self) -> usize {
        self.width.next_multiple_of(16)
    }
}

impl TensorCores {
    /// None where they do not take heads of this width.
    pub(in crate::ops) fn new(width: usize, capability: i32) -> Option<Self> {
        if !width.is_multiple_of(8) || width > WIDEST || capability < 80 {
            return None;
        }
        let wide = width.next_power_of_two().max(64);
        let warpgroup = capability == 90 && wide <= 128;
        // As many as registers hold, and shared memory: 227 KB on Hopper, 99 KB on the smallest.
        let keys = match (wide, warpgroup) {
            (64, _) => 64,
            (128, true) => 128,
            (128, false) => 32,
            _ => 16,
        };
        Some(Self {
            keys,
            warpgroup,
            shared: (CHUNK + 4 * keys) * wide * size_of::<bf16>(),
        })
    }

    pub(in crate::ops) fn defines(self, width: usize) -> [String; 3] {
        [
            format!("HEAD={width}"),
            format!("KEYS={}", self.keys),
            format!("WARPGROUP={}", u8::from(self.warpgroup)),
        ]
    }
}
