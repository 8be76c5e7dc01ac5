//! Gradients of the gated long convolution, by FFT.
//!
//! With c = k * v + b v and y = x0 c, x0 gets `grad · c`. With d = grad · x0, v gets
//! `b d[s] + Σ_{t ≥ s} k[t − s] d[t]`, tap j gets `Σ_t d[t] v[t − j]`, and the bias `Σ d v`: both
//! sums over t are correlations, and those of tap j add up as spectra over the segments of a step.
//!
//! What a segment carries in is a constant (truncated back-propagation): no gradient goes back to
//! it, but the taps' gradient counts it as far as the ring still holds it. That is all of it in a
//! sequence no longer than the filter; beyond, what came since the ring's last turn.
//!
//! Memory: the step's x and c, the taps as far as a segment reaches, and a few FFTs a thread.

use super::columns::TURN;
use super::{GROUP, LongConv, PAIRS, Past};
use crate::error::Result;
use crate::ops::{Device, Tensor, gate, math::simd, unwritten, with_slices};
use crate::sequence::Segment;
use num_complex::Complex32;
use rayon::prelude::*;
use rustfft::{Fft, FftPlanner};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Rows of a tile of the gradient to x0, x1 and x2.
const ROWS: usize = 64;

/// Taps `0..n` of all channels on a device: (C, n), n no more than the filter's length.
pub type TapsTensor = dyn Fn(usize, &Device) -> Result<Tensor> + Send + Sync;

/// What a step keeps for its gradients.
struct Step {
    channels: usize,
    x: Tensor,    // (T, 3C)
    c: Tensor,    // (T, C)
    taps: Tensor, // (C, n)
    bias: Vec<f32>,
    /// By FFT size and taps that take part: those of the parts that share a spectrum of the taps.
    parts: BTreeMap<(usize, usize), Vec<Part>>,
    /// Whether a gradient of the taps is wanted.
    weights: bool,
}

/// A segment and, of each channel pair, the inputs before it.
struct Part {
    rows: Range<usize>,
    past: Vec<Vec<Complex32>>,
}

impl Part {
    fn past_len(&self) -> usize {
        self.past.first().map_or(0, Vec::len)
    }
}

/// [`LongConv::forward`] where something is differentiated.
pub(super) fn forward(
    conv: &LongConv,
    x: &Tensor,
    past: &mut Past,
    segments: &[Segment],
) -> Result<Tensor> {
    let weights = conv.tracked.is_some();
    let (mut all, mut from, mut reach) = (Vec::new(), 0, 0);
    for segment in segments {
        let lane = past.lanes.get(segment.lane);
        let before = match lane.filter(|_| weights && !segment.starts) {
            Some(lane) => {
                let slots = lane.slots.iter();
                slots.map(|slots| slots[..lane.position].to_vec()).collect()
            }
            None => Vec::new(),
        };
        let rows = from..from + segment.len;
        from = rows.end;
        let part = Part { rows, past: before };
        reach = reach.max(part.past_len() + segment.len);
        all.push(part);
    }
    let reach = reach.min(conv.length);
    let taps = match &conv.tracked {
        Some(taps) => taps(reach, x.device())?,
        None => {
            let taps = (conv.taps)(reach)(0..conv.channels);
            Tensor::from_vec(taps, (conv.channels, reach), x.device())?
        }
    };
    let mut parts = BTreeMap::new();
    for part in all {
        let (past, len) = (part.past_len(), part.rows.len());
        let size = fft_size(past + 2 * len);
        // More taps than these would come round the cyclic sum.
        let count = if past == 0 { size / 2 } else { past + len };
        let same: &mut Vec<Part> = parts.entry((size, count.min(reach))).or_default();
        same.push(part);
    }
    let c = conv.values(x, false, past, segments)?;
    let out = gate((&x.detach(), 0), (&c, 0), conv.channels)?;
    let step = Step {
        channels: conv.channels,
        x: x.detach(),
        c,
        taps: taps.detach(),
        bias: conv.bias.clone(),
        parts,
        weights,
    };
    let parents = [x, &taps, &conv.bias_tensor];
    Ok(out.derived(parents, move |grad| step.backward(grad)))
}

/// The least 2ᵏ or 3 · 2ᵏ that is not below `needed`: few sizes, and fast ones.
fn fft_size(needed: usize) -> usize {
    let needed = needed.max(4); // an even number
    let power = needed.next_power_of_two();
    let less = power / 4 * 3;
    if less >= needed { less } else { power }
}

impl Step {
    /// To `x` (T, 3C), the taps (C, n) and the bias (C).
    fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let channels = self.channels;
        let tensors = [grad, &self.x, &self.c, &self.taps];
        let (out, groups) = with_slices(tensors, |[grad, x, c, taps]| {
            let io = Inputs { grad, x, taps };
            let groups: Vec<_> = (0..channels.div_ceil(GROUP))
                .into_par_iter()
                .map(|group| self.group(group, &io))
                .collect();
            let slopes: Vec<&[Complex32]> = groups.iter().map(|group| &group.v[..]).collect();
            let mut out = unwritten(x.len());
            out.par_chunks_mut(3 * ROWS * channels)
                .zip(grad.par_chunks(ROWS * channels))
                .zip(c.par_chunks(ROWS * channels))
                .zip(x.par_chunks(3 * ROWS * channels))
                .enumerate()
                .for_each(|(i, (((out, grad), c), x))| {
                    to_inputs(out, grad, c, x, &slopes, i * ROWS, channels);
                });
            Ok((out, groups))
        })?;
        let device = self.x.device();
        let taps = self.weights.then(|| {
            let taps = groups.iter().flat_map(|group| &group.taps);
            Tensor::from_vec(taps.copied().collect(), self.taps.dims(), device)
        });
        let bias = groups.iter().flat_map(|group| &group.bias);
        Ok([
            Some(Tensor::from_vec(out, self.x.dims(), device)?),
            taps.transpose()?,
            Some(Tensor::from_vec(bias.copied().collect(), channels, device)?),
        ])
    }

    /// The gradients of a group of channels.
    fn group(&self, group: usize, io: &Inputs) -> Slopes {
        let columns = group * GROUP..self.channels.min((group + 1) * GROUP);
        let (reach, rows) = (io.taps.len() / self.channels, io.grad.len() / self.channels);
        let taps = &io.taps[columns.start * reach..columns.end * reach];
        let pairs = columns.len().div_ceil(2);
        let mut slopes = Slopes {
            v: unwritten(pairs * rows),
            taps: vec![0.0; if self.weights { taps.len() } else { 0 }],
            bias: vec![0.0; columns.len()],
        };
        for (&(size, count), parts) in &self.parts {
            let mut fft = Transform::new(size);
            let mut spectra = vec![Complex32::default(); pairs * size];
            for (pair, spectrum) in spectra.chunks_exact_mut(size).enumerate() {
                fill(spectrum, &taps[2 * pair * reach..], reach, count);
                fft.forward(spectrum);
            }
            let mut sums = vec![Complex32::default(); if self.weights { pairs * size } else { 0 }];
            for part in parts {
                let (mut d, v) = self.load(&columns, io, &part.rows);
                add_products(&mut slopes.bias, &d, &v, part.rows.len());
                for pair in 0..pairs {
                    let here = pair * part.rows.len()..(pair + 1) * part.rows.len();
                    let (d, v) = (&mut d[here.clone()], &v[here]);
                    let past = part.past.get(group * PAIRS + pair);
                    let past = past.map_or(&[][..], Vec::as_slice);
                    fft.load_gradient(d, past.len());
                    if self.weights {
                        let sums = &mut sums[pair * size..][..size];
                        fft.correlate_inputs(sums, past, v);
                    }
                    let spectrum = &spectra[pair * size..][..size];
                    let bias = &self.bias[columns.start + 2 * pair..];
                    let bias = [bias[0], bias.get(1).copied().unwrap_or_default()];
                    fft.correlate_taps(spectrum, d, past.len(), bias);
                    slopes.v[pair * rows..][part.rows.clone()].copy_from_slice(d);
                }
            }
            let scale = 0.25 / size as f32;
            for (pair, sum) in sums.chunks_exact_mut(size).enumerate() {
                fft.inverse(sum);
                for (odd, taps) in slopes.taps[2 * pair * reach..]
                    .chunks_mut(reach)
                    .take(2)
                    .enumerate()
                {
                    for (tap, sum) in taps.iter_mut().zip(&sum[..count]) {
                        *tap += scale * if odd == 0 { sum.re } else { sum.im };
                    }
                }
            }
        }
        slopes
    }

    /// d and v of a group's channels: (pairs, rows) each.
    fn load(
        &self,
        columns: &Range<usize>,
        io: &Inputs,
        rows: &Range<usize>,
    ) -> (Vec<Complex32>, Vec<Complex32>) {
        let (c, first, width) = (self.channels, columns.start, columns.len());
        let mut d = unwritten(width.div_ceil(2) * rows.len());
        let mut v = unwritten(d.len());
        let x = &io.x[rows.start * 3 * c + first..];
        let grad = &io.grad[rows.start * c + first..];
        multiply(&mut d, grad, c, x, 3 * c, rows.len(), width);
        multiply(
            &mut v,
            &x[c..],
            3 * c,
            &x[2 * c..],
            3 * c,
            rows.len(),
            width,
        );
        (d, v)
    }
}

/// The gradients of a group of channels.
struct Slopes {
    v: Vec<Complex32>, // (pairs, T)
    taps: Vec<f32>,    // (channels, n)
    bias: Vec<f32>,    // (channels)
}

struct Inputs<'a> {
    grad: &'a [f32], // (T, C)
    x: &'a [f32],    // (T, 3C)
    taps: &'a [f32], // (C, n)
}

/// FFTs of one size, and their buffers.
struct Transform {
    forward: Arc<dyn Fft<f32>>,
    inverse: Arc<dyn Fft<f32>>,
    scratch: Vec<Complex32>,
    gradient: Vec<Complex32>,
    signal: Vec<Complex32>,
}

impl Transform {
    fn new(size: usize) -> Self {
        let mut planner = FftPlanner::new();
        let (forward, inverse) = (
            planner.plan_fft_forward(size),
            planner.plan_fft_inverse(size),
        );
        let scratch = forward.get_inplace_scratch_len();
        let scratch = scratch.max(inverse.get_inplace_scratch_len());
        let zeros = |len| vec![Complex32::default(); len];
        Self {
            forward,
            inverse,
            scratch: zeros(scratch),
            gradient: zeros(size),
            signal: zeros(size),
        }
    }

    fn forward(&mut self, values: &mut [Complex32]) {
        self.forward.process_with_scratch(values, &mut self.scratch);
    }

    fn inverse(&mut self, values: &mut [Complex32]) {
        self.inverse.process_with_scratch(values, &mut self.scratch);
    }

    /// The spectrum of `d`, which begins `from` inputs into its sequence.
    fn load_gradient(&mut self, d: &[Complex32], from: usize) {
        self.gradient.fill(Complex32::default());
        self.gradient[from..from + d.len()].copy_from_slice(d);
        self.forward
            .process_with_scratch(&mut self.gradient, &mut self.scratch);
    }

    /// Adds four times the spectrum of `Σ_t d[t] v[t − j]`.
    fn correlate_inputs(&mut self, sums: &mut [Complex32], past: &[Complex32], v: &[Complex32]) {
        let (before, rest) = self.signal.split_at_mut(past.len());
        let (here, rest) = rest.split_at_mut(v.len());
        before.copy_from_slice(past);
        here.copy_from_slice(v);
        rest.fill(Complex32::default());
        self.forward
            .process_with_scratch(&mut self.signal, &mut self.scratch);
        correlate(sums, &self.gradient, &self.signal);
    }

    /// `d[s] ← bias · d[s] + Σ_t k[t − s] d[t]`
    fn correlate_taps(
        &mut self,
        spectrum: &[Complex32],
        d: &mut [Complex32],
        from: usize,
        [even, odd]: [f32; 2],
    ) {
        self.signal.fill(Complex32::default());
        correlate(&mut self.signal, &self.gradient, spectrum);
        self.inverse
            .process_with_scratch(&mut self.signal, &mut self.scratch);
        let scale = 0.25 / self.signal.len() as f32;
        for (d, sum) in d.iter_mut().zip(&self.signal[from..]) {
            *d = Complex32::new(even * d.re + scale * sum.re, odd * d.im + scale * sum.im);
        }
    }
}

/// Taps of one or two channels (rows of `reach`) as a complex signal.
fn fill(signal: &mut [Complex32], taps: &[f32], reach: usize, count: usize) {
    let odd = taps.get(reach..).unwrap_or(&[]);
    for (i, (signal, even)) in signal.iter_mut().zip(&taps[..count]).enumerate() {
        *signal = Complex32::new(*even, odd.get(i).copied().unwrap_or_default());
    }
}

/// Adds each channel's `Σ d v`.
fn add_products(sums: &mut [f32], d: &[Complex32], v: &[Complex32], rows: usize) {
    let pairs = d.chunks_exact(rows).zip(v.chunks_exact(rows));
    for (sums, (d, v)) in sums.chunks_mut(2).zip(pairs) {
        let products = d.iter().zip(v);
        let sum = products.fold([0f64; 2], |[even, odd], (d, v)| {
            [even + f64::from(d.re * v.re), odd + f64::from(d.im * v.im)]
        });
        for (to, sum) in sums.iter_mut().zip(sum) {
            *to += sum as f32;
        }
    }
}

simd! {
/// Adds `4 (A conj(A′) + i B conj(B′))` for the spectra `u = A + iB` and `w = A′ + iB′` of pairs of
/// real signals: A(k) = (u(k) + conj u(N−k)) / 2, B(k) = (u(k) − conj u(N−k)) / 2i.
fn correlate(sum: &mut [Complex32], u: &[Complex32], w: &[Complex32]) {
    let half = u.len() / 2;
    for k in [0, half] {
        let (a, b) = (4.0 * u[k].re * w[k].re, 4.0 * u[k].im * w[k].im);
        sum[k] += Complex32::new(a, b);
    }
    let n = half - 1;
    let (low, high) = sum.split_at_mut(half);
    let (low, high) = (&mut low[1..][..n], &mut high[1..][..n]);
    let (u_low, u_high) = (&u[1..][..n], &u[half + 1..][..n]);
    let (w_low, w_high) = (&w[1..][..n], &w[half + 1..][..n]);
    // Indexed, and spelled out in real numbers: so the compiler makes vectors of it.
    for k in 0..n {
        let (a, b, c, d) = (u_low[k], u_high[n - 1 - k], w_low[k], w_high[n - 1 - k]);
        let (s_re, s_im, d_re, d_im) = (a.re + b.re, a.im - b.im, a.re - b.re, a.im + b.im);
        let (t_re, t_im, e_re, e_im) = (c.re + d.re, c.im - d.im, c.re - d.re, c.im + d.im);
        let (p_re, p_im) = (s_re * t_re + s_im * t_im, s_im * t_re - s_re * t_im);
        let (q_re, q_im) = (d_re * e_re + d_im * e_im, d_im * e_re - d_re * e_im);
        low[k].re += p_re - q_im;
        low[k].im += p_im + q_re;
        high[n - 1 - k].re += p_re + q_im;
        high[n - 1 - k].im += q_re - p_im;
    }
}
}

simd! {
/// Products of `width` columns, as channel pairs: (pairs, rows).
fn multiply(out: &mut [Complex32], a: &[f32], a_stride: usize, b: &[f32], b_stride: usize, rows: usize, width: usize) {
    let mut tile = [[0f32; GROUP]; TURN];
    for top in (0..rows).step_by(TURN) {
        let height = TURN.min(rows - top);
        for (i, tile) in tile.iter_mut().enumerate().take(height) {
            let a = &a[(top + i) * a_stride..][..width];
            let b = &b[(top + i) * b_stride..][..width];
            for ((tile, a), b) in tile.iter_mut().zip(a).zip(b) {
                *tile = a * b;
            }
        }
        for pair in 0..width.div_ceil(2) {
            let out = &mut out[pair * rows + top..][..height];
            for (out, tile) in out.iter_mut().zip(&tile) {
                *out = Complex32::new(tile[2 * pair], tile[2 * pair + 1]);
            }
        }
    }
}
}

simd! {
/// Rows of the gradient to x0, x1 and x2 from `first` on: `grad · c`, `v · x2` and `v · x1`, the
/// gradient to v in groups of channel pairs.
fn to_inputs(out: &mut [f32], grad: &[f32], c: &[f32], x: &[f32], slopes: &[&[Complex32]], first: usize, channels: usize) {
    let mut tile = [[0f32; GROUP]; TURN];
    for (group, slopes) in slopes.iter().enumerate() {
        let columns = group * GROUP..channels.min((group + 1) * GROUP);
        let rows = slopes.len() / columns.len().div_ceil(2);
        for (i, out) in out.chunks_mut(TURN * 3 * channels).enumerate() {
            let top = i * TURN;
            for (pair, slopes) in slopes.chunks_exact(rows).enumerate() {
                for (tile, v) in tile.iter_mut().zip(&slopes[first + top..]) {
                    (tile[2 * pair], tile[2 * pair + 1]) = (v.re, v.im);
                }
            }
            for (j, (out, tile)) in out.chunks_exact_mut(3 * channels).zip(&tile).enumerate() {
                let row = top + j;
                let (grad, c) = (&grad[row * channels..], &c[row * channels..]);
                let x = &x[row * 3 * channels..][..3 * channels];
                let (to_x0, rest) = out.split_at_mut(channels);
                let (to_x1, to_x2) = rest.split_at_mut(channels);
                let (x1, x2) = (&x[channels..][columns.clone()], &x[2 * channels..][columns.clone()]);
                let from = grad[columns.clone()].iter().zip(&c[columns.clone()]);
                for (to, (grad, c)) in to_x0[columns.clone()].iter_mut().zip(from) {
                    *to = grad * c;
                }
                for (to, (v, x)) in to_x1[columns.clone()].iter_mut().zip(tile.iter().zip(x2)) {
                    *to = v * x;
                }
                for (to, (v, x)) in to_x2[columns.clone()].iter_mut().zip(tile.iter().zip(x1)) {
                    *to = v * x;
                }
            }
        }
    }
}
}

#[cfg(test)]
mod tests;
