//! Gradients of the modal filter: a filter again, from the last row to the first.
//!
//! With ȳ the gradient to y, and the states `q_t = λ q_{t+1} + ȳ_t` of each mode:
//!
//! ```text
//! g_t ← Re Σ_n R_n q_t + D ȳ_t      λ ← conj(R Σ_t q_t s_{t−1})
//! D ← Σ_t ȳ_t g_t                   R ← conj(Σ_t ȳ_t s_t)
//! ```
//!
//! where a complex number's gradient is that to its real part plus i times that to its imaginary
//! part. The forward pass keeps s before each tile of 128 rows; a tile's own s is computed again.
//! What a segment carries in is a constant (truncated back-propagation).

use super::{Four, Group, Lanes, MODES, Modal, ROWS, WIDTH};
use crate::error::Result;
use crate::ops::math::{mul_add, simd};
use crate::ops::{Tensor, unwritten, with_slices};
use crate::sequence::Segment;
use rayon::prelude::*;

const ZEROS: Four = [[0.0; WIDTH]; MODES];

/// What a step keeps for its gradients.
pub(super) struct Step {
    pub modal: Modal,
    pub g: Tensor,
    pub segments: Vec<Segment>,
    /// Each group's states before each tile.
    pub before: Vec<Vec<Four>>,
}

/// The gradients of a group's parameters, laid out as they are.
struct Sums {
    poles: Vec<Four>,
    residues: Vec<Four>,
    skip: Lanes,
}

/// A group's tile.
struct Tile {
    g: Vec<Lanes>,
    grad: Vec<Lanes>,       // ȳ
    to_g: Vec<Lanes>,       // the gradient to g
    states: Vec<[Four; 2]>, // s of four modes before each row, real and imaginary parts
}

impl Step {
    /// To g (T, C), the poles, the residues, and the skip (C).
    pub fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 4]> {
        let modal = &self.modal;
        let mut out = unwritten(self.g.elem_count());
        let sums: Vec<Sums> = with_slices([grad, &self.g], |[grad, g]| {
            let groups = modal.columns(&mut out).into_par_iter().enumerate();
            Ok(groups
                .map(|(i, mut out)| self.group(i, grad, g, &mut out))
                .collect())
        })?;
        let device = self.g.device();
        let out = Some(Tensor::from_vec(out, self.g.dims(), device)?);
        if !modal.is_tracked() {
            return Ok([out, None, None, None]);
        }
        let [poles, residues, skip] = &modal.parameters;
        let modes = poles.dim(1)?;
        let of = |part: fn(&Sums) -> &[Four], like: &Tensor| {
            let values = modal.unpacked(sums.iter().map(part), modes);
            Tensor::from_vec(values, like.dims(), device).map(Some)
        };
        let to_skip = sums.iter().flat_map(|sums| sums.skip).take(modal.channels);
        let to_skip: Vec<f32> = to_skip.collect();
        Ok([
            out,
            of(|sums| &sums.poles, poles)?,
            of(|sums| &sums.residues, residues)?,
            if skip.is_tracked() {
                Some(Tensor::from_vec(to_skip, modal.channels, device)?)
            } else {
                None
            },
        ])
    }

    /// One group of channels, tile by tile from the last.
    fn group(&self, index: usize, grad: &[f32], g: &[f32], out: &mut [&mut [f32]]) -> Sums {
        let (modal, channels) = (&self.modal, self.modal.channels);
        let group = &modal.groups[index];
        let (parts, len) = (modal.parts, modal.fours * modal.parts);
        let mut sums = Sums {
            poles: vec![ZEROS; len],
            residues: vec![ZEROS; len],
            skip: [0.0; WIDTH],
        };
        let mut tile = Tile::new();
        let (mut from, mut tiles) = (0, 0);
        for segment in &self.segments {
            let mut later = vec![ZEROS; len]; // q of the row after the tile
            let count = segment.len.div_ceil(ROWS);
            for i in (0..count).rev() {
                let rows = ROWS.min(segment.len - i * ROWS);
                let at = from + i * ROWS;
                for (lanes, values) in [(&mut tile.g, g), (&mut tile.grad, grad)] {
                    load(
                        lanes,
                        &values[at * channels..],
                        channels,
                        index * WIDTH,
                        rows,
                    );
                }
                skip(&mut tile, group, &mut sums.skip, rows);
                for four in (0..len).step_by(parts) {
                    let here = four..four + parts;
                    let poles = &group.poles[here.clone()];
                    let before = &self.before[index][(tiles + i) * len..][here.clone()];
                    let to_residues = &mut sums.residues[here.clone()];
                    let residues = &group.residues[here.clone()];
                    let (later, to_poles) = (&mut later[here.clone()], &mut sums.poles[here]);
                    if parts == 2 {
                        recompute_states(&mut tile, before, poles, to_residues, rows);
                        gradients_of_states(&mut tile, later, poles, residues, to_poles, rows);
                    } else {
                        recompute_real_states(&mut tile, before, poles, to_residues, rows);
                        gradients_of_real_states(&mut tile, later, poles, residues, to_poles, rows);
                    }
                }
                for (out, to_g) in out[at..at + rows].iter_mut().zip(&tile.to_g) {
                    out.copy_from_slice(&to_g[..out.len()]);
                }
            }
            tiles += count;
            from += segment.len;
        }
        finish(&mut sums, group, parts);
        sums
    }
}

impl Modal {
    /// (C, N) or (C, N, 2) of groups of modes in fours.
    fn unpacked<'a>(&self, groups: impl Iterator<Item = &'a [Four]>, modes: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.channels * modes * self.parts);
        for (first, group) in (0..).step_by(WIDTH).zip(groups) {
            let value = |c: usize, i: usize| {
                let (mode, part) = (i / self.parts, i % self.parts);
                group[mode / MODES * self.parts + part][mode % MODES][c]
            };
            for c in 0..WIDTH.min(self.channels - first) {
                out.extend((0..modes * self.parts).map(|i| value(c, i)));
            }
        }
        out
    }
}

impl Tile {
    fn new() -> Self {
        let lanes = || vec![[0.0; WIDTH]; ROWS];
        Self {
            g: lanes(),
            grad: lanes(),
            to_g: lanes(),
            states: vec![[ZEROS; 2]; ROWS],
        }
    }
}

/// The columns of a group, from `first` on, of `rows` rows of `values`.
fn load(lanes: &mut [Lanes], values: &[f32], channels: usize, first: usize, rows: usize) {
    let width = WIDTH.min(channels - first);
    for (lanes, row) in lanes
        .iter_mut()
        .zip(values.chunks_exact(channels))
        .take(rows)
    {
        lanes[..width].copy_from_slice(&row[first..first + width]);
    }
}

/// From `Σ q s` to the gradient of the poles, from `Σ ȳ s` to that of the residues.
fn finish(sums: &mut Sums, group: &Group, parts: usize) {
    let fours = sums
        .poles
        .chunks_exact_mut(parts)
        .zip(sums.residues.chunks_exact_mut(parts));
    for ((poles, to_residues), residues) in fours.zip(group.residues.chunks_exact(parts)) {
        for m in 0..MODES {
            for c in 0..WIDTH {
                let (r, a) = (residues[0][m][c], poles[0][m][c]);
                poles[0][m][c] = r * a;
                if parts == 2 {
                    let (i, b) = (residues[1][m][c], poles[1][m][c]);
                    poles[0][m][c] = r * a - i * b;
                    poles[1][m][c] = -(r * b + i * a);
                    to_residues[1][m][c] *= -1.0;
                }
            }
        }
    }
}

simd! {
/// The skip's share of the gradient to g, and the gradient to the skip.
fn skip(tile: &mut Tile, group: &Group, to_skip: &mut Lanes, rows: usize) {
    let inputs = tile.g[..rows].iter().zip(&tile.grad);
    for (to_g, (g, grad)) in tile.to_g.iter_mut().zip(inputs) {
        for c in 0..WIDTH {
            to_g[c] = group.skip[c] * grad[c];
            to_skip[c] = mul_add::<FMA>(grad[c], g[c], to_skip[c]);
        }
    }
}
}

simd! {
/// The states of four complex modes again; adds `Σ ȳ s`.
fn recompute_states(tile: &mut Tile, before: &[Four], poles: &[Four], to_residues: &mut [Four], rows: usize) {
    let (mut re, mut im) = (before[0], before[1]);
    let (mut sum_re, mut sum_im) = (to_residues[0], to_residues[1]);
    let inputs = tile.g[..rows].iter().zip(&tile.grad);
    for (states, (g, grad)) in tile.states.iter_mut().zip(inputs) {
        *states = [re, im];
        for m in 0..MODES {
            for c in 0..WIDTH {
                let (a, b) = (re[m][c], im[m][c]);
                let (p, q) = (poles[0][m][c], poles[1][m][c]);
                let new = mul_add::<FMA>(p, a, mul_add::<FMA>(-q, b, g[c]));
                let imaginary = mul_add::<FMA>(p, b, q * a);
                sum_re[m][c] = mul_add::<FMA>(grad[c], new, sum_re[m][c]);
                sum_im[m][c] = mul_add::<FMA>(grad[c], imaginary, sum_im[m][c]);
                (re[m][c], im[m][c]) = (new, imaginary);
            }
        }
    }
    (to_residues[0], to_residues[1]) = (sum_re, sum_im);
}
}

simd! {
/// q of four complex modes, from the last row to the first; adds to the gradient to g, and `Σ q s`.
fn gradients_of_states(tile: &mut Tile, later: &mut [Four], poles: &[Four], residues: &[Four], to_poles: &mut [Four], rows: usize) {
    let (mut re, mut im) = (later[0], later[1]);
    let (mut sum_re, mut sum_im) = (to_poles[0], to_poles[1]);
    let inputs = tile.states[..rows].iter().zip(&tile.grad).rev();
    for (to_g, (states, grad)) in tile.to_g[..rows].iter_mut().rev().zip(inputs) {
        let mut sum = *to_g;
        for m in 0..MODES {
            for c in 0..WIDTH {
                let (a, b) = (re[m][c], im[m][c]);
                let (p, q) = (poles[0][m][c], poles[1][m][c]);
                let new = mul_add::<FMA>(p, a, mul_add::<FMA>(-q, b, grad[c]));
                let imaginary = mul_add::<FMA>(p, b, q * a);
                sum[c] = mul_add::<FMA>(residues[0][m][c], new, sum[c]);
                sum[c] = mul_add::<FMA>(-residues[1][m][c], imaginary, sum[c]);
                let (s, t) = (states[0][m][c], states[1][m][c]);
                let to_re = mul_add::<FMA>(new, s, sum_re[m][c]);
                sum_re[m][c] = mul_add::<FMA>(-imaginary, t, to_re);
                let to_im = mul_add::<FMA>(new, t, sum_im[m][c]);
                sum_im[m][c] = mul_add::<FMA>(imaginary, s, to_im);
                (re[m][c], im[m][c]) = (new, imaginary);
            }
        }
        *to_g = sum;
    }
    (later[0], later[1]) = (re, im);
    (to_poles[0], to_poles[1]) = (sum_re, sum_im);
}
}

simd! {
/// As `recompute_states`, of real modes.
fn recompute_real_states(tile: &mut Tile, before: &[Four], poles: &[Four], to_residues: &mut [Four], rows: usize) {
    let (mut re, mut sum) = (before[0], to_residues[0]);
    let inputs = tile.g[..rows].iter().zip(&tile.grad);
    for (states, (g, grad)) in tile.states.iter_mut().zip(inputs) {
        states[0] = re;
        for m in 0..MODES {
            for c in 0..WIDTH {
                re[m][c] = mul_add::<FMA>(poles[0][m][c], re[m][c], g[c]);
                sum[m][c] = mul_add::<FMA>(grad[c], re[m][c], sum[m][c]);
            }
        }
    }
    to_residues[0] = sum;
}
}

simd! {
/// As `gradients_of_states`, of real modes.
fn gradients_of_real_states(tile: &mut Tile, later: &mut [Four], poles: &[Four], residues: &[Four], to_poles: &mut [Four], rows: usize) {
    let (mut re, mut sum) = (later[0], to_poles[0]);
    let inputs = tile.states[..rows].iter().zip(&tile.grad).rev();
    for (to_g, (states, grad)) in tile.to_g[..rows].iter_mut().rev().zip(inputs) {
        let mut out = *to_g;
        for m in 0..MODES {
            for c in 0..WIDTH {
                re[m][c] = mul_add::<FMA>(poles[0][m][c], re[m][c], grad[c]);
                out[c] = mul_add::<FMA>(residues[0][m][c], re[m][c], out[c]);
                sum[m][c] = mul_add::<FMA>(re[m][c], states[0][m][c], sum[m][c]);
            }
        }
        *to_g = out;
    }
    (later[0], to_poles[0]) = (re, sum);
}
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check, random, values, wide};
    use crate::ops::{Device, Modal, Tensor};
    use crate::sequence::Segment;

    fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
        Segment {
            lane,
            len,
            starts,
            ends,
        }
    }

    fn filter(parts: usize, x: &[Tensor], skip: Option<&Tensor>) -> Modal {
        match parts {
            2 => Modal::complex(&x[0], &x[1], skip),
            _ => Modal::real(&x[0], &x[1], skip),
        }
        .unwrap()
    }

    /// One segment by the definition, from the states s (C, N, 2) on, which it leaves behind.
    fn plain(parts: usize, x: &[Vec<f64>], skip: &[f64], g: &[f64], s: &mut [f64]) -> Vec<f64> {
        let channels = skip.len();
        let modes = s.len() / channels / 2;
        let mut out = Vec::new();
        for row in g.chunks(channels) {
            for (c, g) in row.iter().enumerate() {
                let mut y = skip[c] * g;
                for i in c * modes..(c + 1) * modes {
                    let (a, b) = (s[2 * i], s[2 * i + 1]);
                    let imaginary = |x: &[f64]| if parts == 2 { x[2 * i + 1] } else { 0.0 };
                    let (p, q) = (x[0][i * parts], imaginary(&x[0]));
                    let (new, im) = (p * a - q * b + g, p * b + q * a);
                    y += x[1][i * parts] * new - imaginary(&x[1]) * im;
                    (s[2 * i], s[2 * i + 1]) = (new, im);
                }
                out.push(y);
            }
        }
        out
    }

    #[test]
    fn gradients_equal_differences_of_a_plain_f64_loop() {
        for (parts, channels, modes, lens) in [
            (2, 3, 2, [3, 150, 4]),
            (1, 3, 2, [3, 150, 4]),
            (2, 18, 5, [1, 3, 2]),
            (1, 18, 5, [1, 3, 2]),
        ] {
            // Lane 0 was left by a segment of 5 rows; then three segments share a step.
            let segments = [
                segment(1, lens[0], true, true),
                segment(0, lens[1], false, false),
                segment(1, lens[2], true, false),
            ];
            let carried = random(&[5, channels], 9);
            let shape = &[channels, modes, 2][..1 + parts];
            let inputs = [
                random(shape, 1).affine(0.65, 0.0).unwrap(),
                random(shape, 2),
                random(&[channels], 3),
                random(&[lens.iter().sum(), channels], 4),
            ];
            let frozen: Vec<_> = inputs.iter().map(Tensor::detach).collect();
            let op = |x: &[Tensor]| {
                let constant = filter(parts, &frozen, Some(&frozen[2]));
                let mut state = constant.start(2);
                constant.forward(&carried, &mut state, &[segment(0, 5, true, false)])?;
                filter(parts, x, Some(&x[2])).forward(&x[3], &mut state, &segments)
            };
            let mut before = vec![0.0; channels * modes * 2];
            let values: Vec<_> = inputs.iter().map(wide).collect();
            plain(parts, &values, &values[2], &wide(&carried), &mut before);
            check(&inputs, 5e-5, op, |x| {
                let mut from = 0;
                let runs = lens.map(|len| {
                    let mut s = vec![0.0; before.len()];
                    if len == lens[1] {
                        s.copy_from_slice(&before);
                    }
                    let g = &x[3][from * channels..][..len * channels];
                    from += len;
                    plain(parts, x, &x[2], g, &mut s)
                });
                runs.concat()
            });
        }
    }

    #[test]
    fn without_a_skip_the_others_gradients_remain() {
        let inputs = [
            random(&[2, 3, 2], 1).affine(0.6, 0.0).unwrap(),
            random(&[2, 3, 2], 2),
            random(&[20, 2], 3),
        ];
        let whole = [segment(0, 20, true, true)];
        let op = |x: &[Tensor]| {
            let filter = filter(2, x, None);
            filter.forward(&x[2], &mut filter.start(1), &whole)
        };
        check(&inputs, 5e-5, op, |x| {
            plain(2, x, &[0.0; 2], &x[2], &mut [0.0; 12])
        });
    }

    #[test]
    fn constant_filters_pass_the_same_gradient_on() {
        let x = [
            random(&[2, 3, 2], 1).affine(0.6, 0.0).unwrap(),
            random(&[2, 3, 2], 2),
        ];
        let skip = Tensor::zeros(2, &Device::Cpu).unwrap();
        let g = random(&[200, 2], 3).parameter();
        let seed = random(&[200, 2], 4);
        let whole = [segment(0, 200, true, true)];
        let gradient = |filter: Modal| {
            let out = filter.forward(&g, &mut filter.start(1), &whole).unwrap();
            let gradients = out.backward(seed.clone()).unwrap();
            values(gradients.of(&g).unwrap())
        };
        let tracked: Vec<_> = x.iter().map(Tensor::parameter).collect();
        let skips = [None, Some(&skip)];
        let found = skips.map(|skip| gradient(filter(2, &x, skip)));
        assert_eq!(found[0], gradient(filter(2, &tracked, None)));
        assert_eq!(found[0], found[1]);
    }
}
