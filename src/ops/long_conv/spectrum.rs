//! Filter spectra of channel pairs, and the convolution of one pair by FFT.

use super::push::Push;
use super::{DIRECT, GROUP, Taps};
use crate::ops::math::{mul_add, simd};
use crate::ops::unwritten;
use num_complex::Complex32;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};
use std::cell::RefCell;
use std::collections::HashMap;
use std::iter::successors;
use std::sync::{Arc, Mutex, PoisonError};

/// Frequencies that are multiplied together.
const LANES: usize = 8;
/// Channels whose taps are in memory at once while a large spectrum is computed.
const BLOCK: usize = 4 * GROUP;

/// The spectra of one layer's filters, by FFT size.
pub(super) struct Spectra {
    length: usize,
    channels: usize,
    taps: Arc<Taps>,
    /// Taps `0..2·DIRECT` of each pair.
    head: Vec<Vec<Complex32>>,
    /// Bytes that those of pushes may take.
    budget: usize,
    /// Those that stay in memory, by taps and FFT size.
    kept: Mutex<HashMap<(usize, usize), Arc<Spectrum>>>,
}

/// A and B of each channel pair (see the module above), for frequencies `0..=N/2`, scaled by 1/2N.
pub(super) struct Spectrum {
    plan: Plan,
    values: Vec<Complex32>, // (pairs, 2, N/2 + 1)
}

#[derive(Clone)]
struct Plan {
    size: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

thread_local! {
    /// Kept from step to step: their pages stay where they are.
    static BUFFERS: RefCell<Convolver> = RefCell::default();
}

/// The transform of a pair's taps, and what it needs.
#[derive(Default)]
struct Transform {
    values: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

/// Buffers of one task.
#[derive(Default)]
pub(super) struct Convolver {
    /// Transforms of pieces of a signal, one behind the other.
    pieces: Vec<Complex32>,
    sum: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl Spectra {
    pub(super) fn new(length: usize, channels: usize, taps: Arc<Taps>, budget: usize) -> Self {
        let n = 2 * DIRECT;
        let head = paired(&taps(n)(0..channels), n);
        Self {
            length,
            channels,
            taps,
            head,
            budget,
            kept: Mutex::default(),
        }
    }

    /// The first taps of a pair.
    pub(super) fn head(&self, pair: usize) -> &[Complex32] {
        self.head.get(pair).map_or(&[], Vec::as_slice)
    }

    /// The spectrum of a push, if the budget has room for it and all smaller ones. Without it the
    /// push is made in another order, so its last bits depend on that: never on what was read before.
    pub(super) fn kept(&self, taps: usize, size: usize) -> Option<Arc<Spectrum>> {
        let bytes =
            |size: usize| self.channels.div_ceil(2) * (size / 2 + 1) * 2 * size_of::<Complex32>();
        let sizes = successors(Some(4 * DIRECT), |size| Some(2 * size));
        let smaller: usize = sizes.take_while(|other| *other < size).map(bytes).sum();
        (smaller + bytes(size) <= self.budget).then(|| self.always(taps, size))
    }

    /// The spectrum, kept in any case: the diagonals, whose sizes are bounded.
    pub(super) fn always(&self, taps: usize, size: usize) -> Arc<Spectrum> {
        let kept = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spectrum) = kept().get(&(taps, size)) {
            return Arc::clone(spectrum);
        }
        // Without the lock: a thread that waits for its part may take up another call of this.
        let spectrum = Arc::new(self.compute(taps, size));
        Arc::clone(kept().entry((taps, size)).or_insert(spectrum))
    }

    fn compute(&self, taps: usize, size: usize) -> Spectrum {
        let n = taps.min(self.length);
        let plan = Plan::new(size);
        let pair = plan.values();
        let mut values = unwritten(self.channels.div_ceil(2) * pair);
        let rows = (self.taps)(n);
        for (i, values) in values.chunks_mut(BLOCK / 2 * pair).enumerate() {
            let block = rows(i * BLOCK..self.channels.min((i + 1) * BLOCK));
            values
                .par_chunks_mut(pair)
                .zip(block.par_chunks(2 * n))
                .for_each_init(Transform::default, |z, (values, taps)| {
                    let (even, odd) = taps.split_at(n);
                    plan.spectrum(values, even, odd, z);
                });
        }
        Spectrum { plan, values }
    }

    /// A push of all pairs, with spectra that are not kept, in blocks of `unit` slots (a divisor of
    /// its width and count): FFTs that fit the cache, and none for sums that nobody needs.
    pub(super) fn push(&self, slots: &mut [Vec<Complex32>], push: Push, unit: usize) {
        let n = (push.width + push.count).min(self.length);
        let plan = Plan::new(2 * unit);
        let rows = (self.taps)(n);
        for (i, slots) in slots.chunks_mut(BLOCK / 2).enumerate() {
            let block = rows(i * BLOCK..self.channels.min((i + 1) * BLOCK));
            slots
                .par_iter_mut()
                .zip(block.par_chunks(2 * n))
                .for_each_init(
                    || (Convolver::default(), Vec::new(), Transform::default()),
                    |(convolver, spectra, z), (slots, taps)| {
                        let (even, odd) = taps.split_at(n);
                        // Inputs d blocks before the sums meet the taps from d − 1 to d + 1 blocks.
                        let blocks = (n - 1).div_ceil(unit);
                        let blocks = blocks.min((push.width + push.count) / unit - 1);
                        spectra.resize(blocks * plan.values(), Complex32::default());
                        for (d, values) in spectra.chunks_exact_mut(plan.values()).enumerate() {
                            let even = &even[d * unit..n.min((d + 2) * unit)];
                            let odd = odd.get(d * unit..n.min((d + 2) * unit));
                            plan.spectrum(values, even, odd.unwrap_or(&[]), z);
                        }
                        convolver.push(&plan, spectra, slots, push);
                    },
                );
        }
    }
}

impl Plan {
    fn new(size: usize) -> Self {
        let mut planner = FftPlanner::new();
        Self {
            size,
            forward: planner.plan_fft_forward(size),
            inverse: planner.plan_fft_inverse(size),
        }
    }

    /// Numbers of one pair's spectrum.
    fn values(&self) -> usize {
        2 * (self.size / 2 + 1)
    }

    /// A and B of one pair from its taps; `odd` is empty where there is no second channel.
    fn spectrum(&self, values: &mut [Complex32], even: &[f32], odd: &[f32], z: &mut Transform) {
        let Transform { values: z, scratch } = z;
        z.resize(self.size, Complex32::default());
        let (taps, zeros) = z.split_at_mut(even.len());
        if odd.is_empty() {
            (taps.iter_mut().zip(even)).for_each(|(z, &re)| *z = Complex32::new(re, 0.0))
        } else {
            interleave(taps, even, odd)
        }
        zeros.fill(Complex32::default());
        scratch.resize(self.forward.get_inplace_scratch_len(), Complex32::default());
        self.forward.process_with_scratch(z, scratch);
        let (a, b) = values.split_at_mut(self.size / 2 + 1);
        separate(a, b, z);
    }
}

simd! {
fn interleave(z: &mut [Complex32], even: &[f32], odd: &[f32]) {
    for ((z, re), im) in z.iter_mut().zip(even).zip(odd) {
        *z = Complex32::new(*re, *im);
    }
}
}

simd! {
/// A and B from the transform Z = A + iB of two real filters, with the 1/N of the inverse and half
/// of it again, for the sum and difference that they are multiplied with.
///
/// A(N−k) = conj A(k), so A = (Z(k) + conj Z(N−k)) / 2 and B = (Z(k) − conj Z(N−k)) / 2i.
fn separate(a: &mut [Complex32], b: &mut [Complex32], z: &[Complex32]) {
    let scale = 0.25 / z.len() as f32;
    let half = z.len() / 2;
    for k in [0, half] {
        let (here, there) = (z[k], z[k].conj());
        (a[k], b[k]) = ((here + there) * scale, (here - there) * scale);
        b[k] = Complex32::new(b[k].im, -b[k].re);
    }
    // Frequencies below the middle ascend, those above it descend.
    let (a, b) = (&mut a[1..half], &mut b[1..half]);
    let (low, high) = (&z[1..half], &z[half + 1..]);
    let filters = a.chunks_exact_mut(LANES).zip(b.chunks_exact_mut(LANES));
    let parts = low.chunks_exact(LANES).zip(high.rchunks_exact(LANES));
    for ((a, b), (low, high)) in filters.zip(parts) {
        halves(a, b, low, high, scale);
    }
    let (whole, rest) = (low.len() / LANES * LANES, low.len() % LANES);
    halves(&mut a[whole..], &mut b[whole..], &low[whole..], &high[..rest], scale);
}
}

#[inline(always)]
fn halves(
    a: &mut [Complex32],
    b: &mut [Complex32],
    low: &[Complex32],
    high: &[Complex32],
    scale: f32,
) {
    let n = a.len();
    let (b, low, high) = (&mut b[..n], &low[..n], &high[..n]);
    for k in 0..n {
        let (here, there) = (low[k], high[n - 1 - k]);
        a[k] = Complex32::new((here.re + there.re) * scale, (here.im - there.im) * scale);
        b[k] = Complex32::new((here.im + there.im) * scale, (there.re - here.re) * scale);
    }
}

impl Convolver {
    /// Runs a task with this thread's buffers.
    pub(super) fn with<T>(task: impl FnOnce(&mut Self) -> T) -> T {
        BUFFERS.with_borrow_mut(task)
    }

    /// Transforms a signal in pieces of half the spectrum's size, each padded with zeros.
    pub(super) fn transform(&mut self, spectrum: &Spectrum, v: &[Complex32]) {
        self.pieces(&spectrum.plan, v);
    }

    /// The cyclic convolution of the transformed signal with a pair's filters.
    pub(super) fn convolve(&mut self, spectrum: &Spectrum, pair: usize) -> &[Complex32] {
        let plan = &spectrum.plan;
        self.multiply(plan, 0, &spectrum.values[pair * plan.values()..], false);
        self.invert(plan)
    }

    /// One pair's push in blocks, with the spectra of its filter's pieces.
    fn push(&mut self, plan: &Plan, spectra: &[Complex32], slots: &mut [Complex32], push: Push) {
        let unit = plan.size / 2;
        self.pieces(plan, &slots[push.from - push.width..push.from]);
        for (block, first) in (0..push.count).step_by(unit).enumerate() {
            let mut added = false;
            for piece in 0..push.width / unit {
                let distance = push.width / unit - 1 - piece + block;
                if let Some(values) = spectra.chunks_exact(plan.values()).nth(distance) {
                    self.multiply(plan, piece, values, added);
                    added = true;
                }
            }
            if added {
                push.store(slots, first, &self.invert(plan)[unit..]);
            } else {
                push.store(slots, first, &[Complex32::default()].repeat(unit));
            }
        }
    }

    fn pieces(&mut self, plan: &Plan, v: &[Complex32]) {
        let scratch = plan
            .forward
            .get_inplace_scratch_len()
            .max(plan.inverse.get_inplace_scratch_len());
        if self.scratch.len() < scratch {
            self.scratch.resize(scratch, Complex32::default());
        }
        self.pieces.clear();
        for (i, v) in v.chunks(plan.size / 2).enumerate() {
            self.pieces.extend_from_slice(v);
            self.pieces
                .resize((i + 1) * plan.size, Complex32::default());
        }
        plan.forward
            .process_with_scratch(&mut self.pieces, &mut self.scratch);
    }

    fn multiply(&mut self, plan: &Plan, piece: usize, values: &[Complex32], add: bool) {
        let (a, b) = values.split_at(plan.size / 2 + 1);
        self.sum.resize(plan.size, Complex32::default());
        let z = &self.pieces[piece * plan.size..][..plan.size];
        multiply(&mut self.sum, z, a, b, add);
    }

    fn invert(&mut self, plan: &Plan) -> &[Complex32] {
        plan.inverse
            .process_with_scratch(&mut self.sum, &mut self.scratch);
        &self.sum
    }
}

simd! {
/// `sum[k] (+)= A[k] (Z[k] + conj Z[N − k]) + B[k] (Z[k] − conj Z[N − k])` for all k; A and B are
/// Hermitian.
fn multiply(sum: &mut [Complex32], z: &[Complex32], a: &[Complex32], b: &[Complex32], add: bool) {
    let half = z.len() / 2;
    for k in [0, half] {
        let there = z[k].conj();
        let product = a[k] * (z[k] + there) + b[k] * (z[k] - there);
        sum[k] = if add { sum[k] + product } else { product };
    }
    // Frequencies below the middle ascend, those above it descend.
    let n = half - 1;
    let (low, high) = sum.split_at_mut(half);
    let (low, high) = (&mut low[1..], &mut high[1..]);
    let (z_low, z_high) = (&z[1..half], &z[half + 1..]);
    let (a, b) = (&a[1..half], &b[1..half]);
    let whole = n / LANES * LANES;
    let ascending = low.chunks_exact_mut(LANES).zip(z_low.chunks_exact(LANES));
    let descending = high.rchunks_exact_mut(LANES).zip(z_high.rchunks_exact(LANES));
    let filters = a.chunks_exact(LANES).zip(b.chunks_exact(LANES));
    for (((low, z_low), (high, z_high)), (a, b)) in ascending.zip(descending).zip(filters) {
        pairs::<FMA>(low, high, z_low, z_high, a, b, add);
    }
    let rest = n - whole;
    pairs::<FMA>(&mut low[whole..], &mut high[..rest], &z_low[whole..], &z_high[..rest], &a[whole..], &b[whole..], add);
}
}

/// Spelled out in real numbers: so the compiler makes vectors of it (four times as fast).
#[inline(always)]
fn pairs<const FMA: bool>(
    low: &mut [Complex32],
    high: &mut [Complex32],
    z_low: &[Complex32],
    z_high: &[Complex32],
    a: &[Complex32],
    b: &[Complex32],
    add: bool,
) {
    let n = low.len();
    let (high, z_low, z_high) = (&mut high[..n], &z_low[..n], &z_high[..n]);
    let (a, b) = (&a[..n], &b[..n]);
    for k in 0..n {
        let (here, there) = (z_low[k], z_high[n - 1 - k]);
        let (s_re, s_im) = (here.re + there.re, here.im - there.im);
        let (d_re, d_im) = (here.re - there.re, here.im + there.im);
        let even_re = mul_add::<FMA>(a[k].re, s_re, -(a[k].im * s_im));
        let even_im = mul_add::<FMA>(a[k].re, s_im, a[k].im * s_re);
        let odd_re = mul_add::<FMA>(b[k].re, d_re, -(b[k].im * d_im));
        let odd_im = mul_add::<FMA>(b[k].re, d_im, b[k].im * d_re);
        let (one, other) = if add {
            (low[k], high[n - 1 - k])
        } else {
            (Complex32::default(), Complex32::default())
        };
        low[k] = Complex32::new(one.re + (even_re + odd_re), one.im + (even_im + odd_im));
        high[n - 1 - k] =
            Complex32::new(other.re + (even_re - odd_re), other.im + (odd_im - even_im));
    }
}

/// Rows of taps (channels, n) as complex pairs.
fn paired(taps: &[f32], n: usize) -> Vec<Vec<Complex32>> {
    taps.chunks(2 * n)
        .map(|pair| {
            let (even, odd) = pair.split_at(n);
            (0..n)
                .map(|i| Complex32::new(even[i], odd.get(i).copied().unwrap_or_default()))
                .collect()
        })
        .collect()
}
