//! Products of bfloat16 on the CPU, by the instruction of AVX-512 for them, or by [tiles](amx): both
//! factors are rounded to bf16 (to nearest, ties to even), and their products are summed in f32.
//!
//! The weight is rounded and packed once, as the loop reads it: panels of up to 64 columns, in which
//! the values of two neighbouring k stand beside each other for each column. Each sum is one chain over k
//! whatever else is computed, so a row's bits depend on the row alone.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Columns of a vector, and vectors of a panel at most.
const LANES: usize = 16;
const VECTORS: usize = 4;
/// Rows that are computed together: with the vectors of a panel, 24 of the 32 registers hold sums.
const ROWS: usize = 6;

/// A weight (N, K), rounded and packed.
#[derive(Debug)]
pub struct Packed {
    inner: usize,
    width: usize,
    /// Pairs of k, with those that fill the last tile.
    halves: usize,
    /// Panel after panel; each has for two k at a time its columns, two values in each u32.
    pairs: Vec<u32>,
}

/// Whether the processor has the instruction.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16")
        && std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Whether products are by tiles.
fn tiled() -> bool {
    #[cfg(target_arch = "x86_64")]
    return available() && amx::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Packed {
    /// Of `weight` (N, K) of so many columns K.
    pub fn new<T: Copy + Into<f32>>(weight: &[T], inner: usize) -> Self {
        let width = weight.len() / inner.max(1);
        let halves = if tiled() {
            inner.div_ceil(2).next_multiple_of(LANES)
        } else {
            inner.div_ceil(2)
        };
        let value = |n: usize, k: usize| {
            if n < width && k < inner {
                u32::from(rounded(weight[n * inner + k].into()))
            } else {
                0
            }
        };
        let mut pairs = Vec::with_capacity(width.next_multiple_of(LANES) * halves);
        for panel in (0..width).step_by(LANES * VECTORS) {
            let columns = (width - panel).next_multiple_of(LANES).min(LANES * VECTORS);
            for k in (0..2 * halves).step_by(2) {
                let both = |n| value(n, k) | value(n, k + 1) << 16;
                pairs.extend((panel..panel + columns).map(both));
            }
        }
        Self {
            inner,
            width,
            halves,
            pairs,
        }
    }

    /// `out (M, N) = x (M, K) Wᵀ` of rows that stay in the L2 cache while all panels pass, on one thread;
    /// `block` will hold them rounded. Only where it is [`available`].
    pub fn multiply(&self, out: &mut [f32], x: &[f32], block: &mut Vec<u32>) {
        let (inner, width) = (self.inner, self.width);
        let rows = x.len() / inner.max(1);
        assert!(available() && out.len() == rows * width && x.len() == rows * inner);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the features were detected just above.
        unsafe {
            if tiled() {
                block.resize(rows.next_multiple_of(amx::ROWS) * self.halves, 0);
                round(block, x, [inner, self.halves]);
                amx::multiply(self, out, block, rows);
            } else {
                block.resize(rows * self.halves, 0);
                round(block, x, [inner, self.halves]);
                self.block(out, block, rows);
            }
        }
    }

    /// The products of a block of rounded rows.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn block(&self, out: &mut [f32], x: &[u32], rows: usize) {
        let halves = self.halves;
        let mut panels = &self.pairs[..];
        for first in (0..self.width).step_by(LANES * VECTORS) {
            let columns = (self.width - first).min(LANES * VECTORS);
            let vectors = columns.div_ceil(LANES);
            let (panel, rest) = panels.split_at(vectors * LANES * halves);
            panels = rest;
            for row in (0..rows).step_by(ROWS) {
                let some = ROWS.min(rows - row);
                let x = &x[row * halves..][..some * halves];
                let out = &mut out[row * self.width + first..];
                let out = (out, self.width);
                match vectors {
                    1 => tile::<1>(out, x, panel, some, columns),
                    2 => tile::<2>(out, x, panel, some, columns),
                    3 => tile::<3>(out, x, panel, some, columns),
                    _ => tile::<4>(out, x, panel, some, columns),
                }
            }
        }
    }
}

/// The bits of a value as bf16.
fn rounded(x: f32) -> u16 {
    half::bf16::from_f32(x).to_bits()
}

/// Rows (M, K) to bf16, two values in each u32, and zeros up to so many of these.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn round(out: &mut [u32], x: &[f32], [inner, halves]: [usize; 2]) {
    for (out, x) in out.chunks_mut(halves).zip(x.chunks(inner)) {
        out[inner / 2..].fill(0);
        let (mut to, mut from) = (out.chunks_exact_mut(LANES), x.chunks_exact(2 * LANES));
        for (out, x) in to.by_ref().zip(from.by_ref()) {
            // SAFETY: 32 values are read and 16 written, which the slices have.
            unsafe {
                let low = _mm512_loadu_ps(x.as_ptr());
                let high = _mm512_loadu_ps(x.as_ptr().add(LANES));
                let both = _mm512_cvtne2ps_pbh(high, low);
                let both = std::mem::transmute::<__m512bh, __m512i>(both);
                _mm512_storeu_si512(out.as_mut_ptr().cast(), both);
            }
        }
        let done = x.len() / (2 * LANES) * LANES;
        for (out, x) in out[done..].iter_mut().zip(x[2 * done..].chunks(2)) {
            let high = x.get(1).map_or(0, |x| u32::from(rounded(*x)));
            *out = u32::from(rounded(x[0])) | high << 16;
        }
    }
}

/// `some` rows times a panel of V vectors, the first `columns` of which are written. Rows that are not
/// there are computed as the last one, and not written.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn tile<const V: usize>(
    (out, stride): (&mut [f32], usize),
    x: &[u32],
    panel: &[u32],
    some: usize,
    columns: usize,
) {
    let halves = x.len() / some;
    let mut rows = [x; ROWS];
    for (row, from) in rows.iter_mut().enumerate() {
        *from = &x[row.min(some - 1) * halves..][..halves];
    }
    let mut sums = [[_mm512_setzero_ps(); V]; ROWS];
    for (k, weights) in panel.chunks_exact(V * LANES).enumerate().take(halves) {
        // SAFETY: the vectors of these two k lie within the panel.
        let weights: [__m512bh; V] =
            unsafe { weights.as_ptr().cast::<[__m512bh; V]>().read_unaligned() };
        for (sums, row) in sums.iter_mut().zip(&rows) {
            // SAFETY: k is less than `halves`, and 512 bits are 512 bits.
            let x: __m512bh = unsafe {
                std::mem::transmute(_mm512_set1_epi32(row.get_unchecked(k).cast_signed()))
            };
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = _mm512_dpbf16_ps(*sum, x, weight);
            }
        }
    }
    for (row, sums) in sums.iter().take(some).enumerate() {
        for (v, sum) in sums.iter().enumerate() {
            let left = (columns - v * LANES).min(LANES);
            let mask = ((1u32 << left) - 1) as __mmask16;
            let out = &mut out[row * stride + v * LANES..][..left];
            // SAFETY: only the `left` values of `out` are written.
            unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, *sum) };
        }
    }
}
