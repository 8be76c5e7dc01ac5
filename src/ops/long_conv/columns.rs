//! The columns of a step as complex signals, a channel pair each.

use super::GROUP;
use crate::ops::{math::simd, unwritten};
use num_complex::Complex32;
use std::ops::Range;

/// The rows of a step, read and written in groups of 16 columns as channel pairs.
pub(super) struct Columns<'a> {
    pub x: &'a [f32],
    pub gated: bool,
    pub out: *mut f32,
    pub channels: usize,
    pub bias: &'a [f32],
}

// SAFETY: `out` is written through `store` only, each group by one task, and groups are disjoint
// columns.
unsafe impl Sync for Columns<'_> {}

impl Columns<'_> {
    /// `v = x1 · x2` of a group's channels: (pairs, rows).
    pub fn load(&self, group: usize, rows: &Range<usize>) -> Vec<Complex32> {
        let mut v = unwritten(self.columns(group).len().div_ceil(2) * rows.len());
        let x = &self.x[rows.start * 3 * self.channels..rows.end * 3 * self.channels];
        load(
            &mut v,
            x,
            self.channels,
            self.columns(group).start,
            self.columns(group).len(),
        );
        v
    }

    /// `out = x0 · (y + bias · v)`, without x0 where it is not gated.
    pub fn store(&self, group: usize, rows: &Range<usize>, v: &[Complex32], y: &[Complex32]) {
        store(self, rows, &self.columns(group), v, y);
    }

    fn columns(&self, group: usize) -> Range<usize> {
        group * GROUP..self.channels.min((group + 1) * GROUP)
    }
}

/// Rows that are turned at a time: their tile stays in registers and the L1 cache.
pub(super) const TURN: usize = 16;

simd! {
fn load(v: &mut [Complex32], x: &[f32], channels: usize, first: usize, width: usize) {
    let rows = x.len() / (3 * channels);
    let mut tile = [[0f32; GROUP]; TURN];
    for top in (0..rows).step_by(TURN) {
        let height = TURN.min(rows - top);
        for (i, tile) in tile.iter_mut().enumerate().take(height) {
            let row = &x[(top + i) * 3 * channels..][..3 * channels];
            let x1 = &row[channels + first..][..width];
            let x2 = &row[2 * channels + first..][..width];
            for ((tile, x1), x2) in tile.iter_mut().zip(x1).zip(x2) {
                *tile = x1 * x2;
            }
        }
        for pair in 0..width.div_ceil(2) {
            let v = &mut v[pair * rows + top..][..height];
            for (v, tile) in v.iter_mut().zip(&tile) {
                *v = Complex32::new(tile[2 * pair], tile[2 * pair + 1]);
            }
        }
    }
}
}

simd! {
/// Writes columns of rows, as [`Columns::store`].
fn store(io: &Columns, rows: &Range<usize>, columns: &Range<usize>, v: &[Complex32], y: &[Complex32]) {
    let (channels, first, width) = (io.channels, columns.start, columns.len());
    let (x, bias) = (&io.x[rows.start * 3 * channels..], &io.bias[columns.clone()]);
    // SAFETY: the rows lie inside `out`, and no other task has these columns.
    let out = unsafe { io.out.add(rows.start * channels + first) };
    let rows = rows.len();
    let mut tile = [[0f32; GROUP]; TURN];
    for top in (0..rows).step_by(TURN) {
        let height = TURN.min(rows - top);
        for pair in 0..width.div_ceil(2) {
            let (even, odd) = (bias[2 * pair], bias.get(2 * pair + 1).copied().unwrap_or_default());
            let v = &v[pair * rows + top..][..height];
            let y = &y[pair * rows + top..][..height];
            for ((tile, v), y) in tile.iter_mut().zip(v).zip(y) {
                tile[2 * pair] = y.re + even * v.re;
                tile[2 * pair + 1] = y.im + odd * v.im;
            }
        }
        for (i, tile) in tile.iter().enumerate().take(height) {
            let x0 = &x[(top + i) * 3 * channels + first..][..width];
            // SAFETY: the task has these columns of these rows to itself.
            let out = unsafe { std::slice::from_raw_parts_mut(out.add((top + i) * channels), width) };
            if io.gated { out.iter_mut().zip(x0).zip(tile).for_each(|((out, x0), tile)| *out = x0 * tile) } else { out.copy_from_slice(&tile[..width]) }
        }
    }
}
}
