//! Filter spectra of channel pairs, and the convolution of one pair by FFT.

use super::{DIRECT, GROUP, Taps};
use crate::error::Result;
use crate::ops::{math::simd, unwritten};
use num_complex::Complex32;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Channels whose taps are in memory at once while a large spectrum is computed.
const BLOCK: usize = 4 * GROUP;

/// The spectra of one layer's filters, by (taps, FFT size).
pub(super) struct Spectra {
    length: usize,
    channels: usize,
    taps: Arc<Taps>,
    /// Taps `0..2·DIRECT` of each pair.
    head: Vec<Vec<Complex32>>,
    kept: Mutex<Kept>,
}

/// Spectra that stay in memory.
struct Kept {
    /// Bytes that more may take.
    budget: usize,
    /// By taps and FFT size.
    spectra: HashMap<(usize, usize), Arc<Spectrum>>,
}

/// P and M of each channel pair (see the module above), for frequencies `0..=N/2`, scaled by 1/N.
pub(super) struct Spectrum {
    plan: Plan,
    p: Vec<Complex32>, // (pairs, N/2 + 1)
    m: Vec<Complex32>, // (pairs, N/2 + 1)
}

#[derive(Clone)]
struct Plan {
    size: usize,
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
}

/// Buffers of one task.
#[derive(Default)]
pub(super) struct Convolver {
    signal: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

impl Spectra {
    pub(super) fn new(
        length: usize,
        channels: usize,
        taps: Arc<Taps>,
        budget: usize,
    ) -> Result<Self> {
        let n = 2 * DIRECT;
        let head = paired(&taps(0..channels, n)?, n);
        Ok(Self {
            length,
            channels,
            taps,
            head,
            kept: Mutex::new(Kept {
                budget,
                spectra: HashMap::new(),
            }),
        })
    }

    /// The first taps of a pair.
    pub(super) fn head(&self, pair: usize) -> &[Complex32] {
        self.head.get(pair).map_or(&[], Vec::as_slice)
    }

    /// The spectrum, if it is kept or the budget still has room for it.
    pub(super) fn kept(&self, taps: usize, size: usize) -> Result<Option<Arc<Spectrum>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spectrum) = kept.spectra.get(&(taps, size)) {
            return Ok(Some(Arc::clone(spectrum)));
        }
        let bytes = self.channels.div_ceil(2) * (size / 2 + 1) * 2 * size_of::<Complex32>();
        if bytes > kept.budget {
            return Ok(None);
        }
        kept.budget -= bytes;
        let spectrum = Arc::new(self.compute(taps, size)?);
        kept.spectra.insert((taps, size), Arc::clone(&spectrum));
        Ok(Some(spectrum))
    }

    /// The spectrum, kept in any case: the diagonals, whose sizes are bounded.
    pub(super) fn always(&self, taps: usize, size: usize) -> Result<Arc<Spectrum>> {
        if let Some(spectrum) = self.kept(taps, size)? {
            return Ok(spectrum);
        }
        let spectrum = Arc::new(self.compute(taps, size)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(
            kept.spectra.entry((taps, size)).or_insert(spectrum),
        ))
    }

    fn compute(&self, taps: usize, size: usize) -> Result<Spectrum> {
        let taps = taps.min(self.length);
        let plan = Plan::new(size);
        let bins = size / 2 + 1;
        let mut p = vec![Complex32::default(); self.channels.div_ceil(2) * bins];
        let mut m = p.clone();
        let blocks = p
            .chunks_mut(BLOCK / 2 * bins)
            .zip(m.chunks_mut(BLOCK / 2 * bins));
        for (i, (p, m)) in blocks.enumerate() {
            let channels = i * BLOCK..self.channels.min((i + 1) * BLOCK);
            let block = (self.taps)(channels, taps)?;
            p.par_chunks_mut(bins)
                .zip(m.par_chunks_mut(bins))
                .zip(block.par_chunks(2 * taps))
                .for_each(|((p, m), pair)| plan.spectrum(p, m, pair, taps));
        }
        Ok(Spectrum { plan, p, m })
    }

    /// Runs `f` on every pair's slots with that pair's spectrum (as pair 0), which is not kept.
    pub(super) fn each(
        &self,
        taps: usize,
        size: usize,
        slots: &mut [Vec<Complex32>],
        f: impl Fn(&mut Convolver, &Spectrum, &mut [Complex32]) + Sync,
    ) -> Result<()> {
        let taps = taps.min(self.length);
        let plan = Plan::new(size);
        for (i, slots) in slots.chunks_mut(BLOCK / 2).enumerate() {
            let channels = i * BLOCK..self.channels.min((i + 1) * BLOCK);
            if channels.is_empty() {
                break;
            }
            let block = (self.taps)(channels, taps)?;
            slots
                .par_iter_mut()
                .zip(block.par_chunks(2 * taps))
                .for_each(|(slots, pair)| {
                    let mut p = unwritten(size / 2 + 1);
                    let mut m = unwritten(size / 2 + 1);
                    plan.spectrum(&mut p, &mut m, pair, taps);
                    let spectrum = Spectrum {
                        plan: plan.clone(),
                        p,
                        m,
                    };
                    f(&mut Convolver::default(), &spectrum, slots);
                });
        }
        Ok(())
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

    /// P and M of one pair: `pair` is one or two rows of `taps` taps.
    fn spectrum(&self, p: &mut [Complex32], m: &mut [Complex32], pair: &[f32], taps: usize) {
        let (even, odd) = pair.split_at(taps);
        let mut z = vec![Complex32::default(); self.size];
        for (i, (z, even)) in z.iter_mut().zip(even).enumerate() {
            *z = Complex32::new(*even, odd.get(i).copied().unwrap_or_default());
        }
        self.forward.process(&mut z);
        separate(p, m, &z);
    }
}

simd! {
/// P and M from the transform Z = A + iB of two real filters, with the 1/N of the inverse.
///
/// A(N−k) = conj A(k), so A = (Z(k) + conj Z(N−k)) / 2 and B = (Z(k) − conj Z(N−k)) / 2i.
fn separate(p: &mut [Complex32], m: &mut [Complex32], z: &[Complex32]) {
    let scale = 0.25 / z.len() as f32;
    let half = z.len() / 2;
    let (p, m, low) = (&mut p[..half + 1], &mut m[..half + 1], &z[..half + 1]);
    let high = &z[half..];
    for k in 0..half + 1 {
        // Z(N − k), and Z(0) for k = 0.
        let there = if k == 0 { z[0] } else { high[half - k] };
        let (sum_re, sum_im) = (low[k].re + there.re, low[k].im - there.im);
        let (difference_re, difference_im) = (low[k].re - there.re, low[k].im + there.im);
        p[k] = Complex32::new((sum_re + difference_im) * scale, (sum_im - difference_re) * scale);
        m[k] = Complex32::new((sum_re - difference_im) * scale, (sum_im + difference_re) * scale);
    }
}
}

impl Convolver {
    /// The cyclic convolution of `v`, padded with zeros to the FFT's size, with a pair's filters.
    pub(super) fn convolve(
        &mut self,
        spectrum: &Spectrum,
        pair: usize,
        v: &[Complex32],
    ) -> &[Complex32] {
        let plan = &spectrum.plan;
        let scratch = plan
            .forward
            .get_inplace_scratch_len()
            .max(plan.inverse.get_inplace_scratch_len());
        if self.scratch.len() < scratch {
            self.scratch.resize(scratch, Complex32::default());
        }
        self.signal.clear();
        self.signal.extend_from_slice(v);
        self.signal.resize(plan.size, Complex32::default());
        plan.forward
            .process_with_scratch(&mut self.signal, &mut self.scratch);
        let bins = plan.size / 2 + 1;
        let (p, m) = (
            &spectrum.p[pair * bins..][..bins],
            &spectrum.m[pair * bins..][..bins],
        );
        multiply(&mut self.signal, p, m);
        plan.inverse
            .process_with_scratch(&mut self.signal, &mut self.scratch);
        &self.signal
    }
}

simd! {
/// `Z[k] ← P[k] Z[k] + M[k] conj(Z[N − k])` for all k; P and M are Hermitian.
fn multiply(z: &mut [Complex32], p: &[Complex32], m: &[Complex32]) {
    let half = z.len() / 2;
    for k in [0, half] {
        z[k] = p[k] * z[k] + m[k] * z[k].conj();
    }
    let (low, high) = z.split_at_mut(half);
    let n = half - 1;
    let (low, high) = (&mut low[1..][..n], &mut high[1..][..n]);
    let (p, m) = (&p[1..][..n], &m[1..][..n]);
    // Indexed, and spelled out in real numbers: so the compiler makes vectors of it.
    for k in 0..n {
        let (a, b) = (low[k], high[n - 1 - k].conj());
        let (p, m) = (p[k], m[k]);
        low[k] = Complex32::new(
            p.re * a.re - p.im * a.im + m.re * b.re - m.im * b.im,
            p.re * a.im + p.im * a.re + m.re * b.im + m.im * b.re,
        );
        high[n - 1 - k] = Complex32::new(
            p.re * b.re - p.im * b.im + m.re * a.re - m.im * a.im,
            -(p.re * b.im + p.im * b.re + m.re * a.im + m.im * a.re),
        );
    }
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
