//! A sequence whose past is kept, tile by tile: what the past owes to the sums of a tile, what the
//! tile's own inputs add, and the push to the sums after it.

use super::columns::Columns;
use super::push::{Push, UNIT};
use super::spectrum::{Convolver, Spectrum};
use super::{DIAGONAL, DIRECT, Lane, LongConv, PAIRS};
use crate::ops::unwritten;
use num_complex::Complex32;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Inputs that one diagonal convolution takes, and the push that follows it.
struct Tile {
    position: usize,
    width: usize,
    /// k[0, width) in an FFT of twice the width; none for a width that is done directly.
    diagonal: Option<Arc<Spectrum>>,
    push: Option<Push>,
    /// The push's spectrum; none for one that is done directly, or that is not kept.
    pushed: Option<Arc<Spectrum>>,
}

impl LongConv {
    /// One segment of a sequence whose past is kept.
    pub(super) fn stream(&self, io: &Columns, rows: Range<usize>, lane: &mut Lane, ends: bool) {
        let mut from = rows.start;
        let ring = lane.ring();
        while from < rows.end {
            let (span, tiles) = self.plan(from..rows.end, lane.position, ring, ends);
            lane.slots
                .par_chunks_mut(PAIRS)
                .enumerate()
                .for_each(|(group, slots)| {
                    let v = io.load(group, &span);
                    let mut y = unwritten(v.len());
                    let pairs = v
                        .chunks(span.len())
                        .zip(y.chunks_mut(span.len()))
                        .zip(slots);
                    Convolver::with(|convolver| {
                        for (pair, ((v, y), slots)) in (group * PAIRS..).zip(pairs) {
                            self.run(convolver, &tiles, pair, v, y, slots);
                        }
                    });
                    io.store(group, &span, &v, &y);
                });
            for tile in &tiles {
                let reached = tile.push.map_or(0, |push| (push.from % ring) + push.count);
                lane.touched = lane.touched.max(tile.position + tile.width).max(reached);
                lane.position = self.after(tile.position + tile.width, ring);
            }
            // A push whose spectrum is not kept ends its span, and runs over all channels here.
            if let Some(push) = tiles
                .last()
                .and_then(|tile| tile.push.filter(|_| tile.pushed.is_none()))
                && push.width > DIRECT
            {
                self.spectra.push(&mut lane.slots, push, push.unit());
            }
            from = span.end;
        }
    }

    /// Tiles from a ring position on: as far as `rows` reach, or to the first push whose spectrum
    /// is not kept.
    fn plan(
        &self,
        rows: Range<usize>,
        position: usize,
        ring: usize,
        ends: bool,
    ) -> (Range<usize>, Vec<Tile>) {
        let (mut to, mut position) = (rows.start, position);
        let mut tiles = Vec::new();
        while to < rows.end {
            let rest = rows.end - to;
            let width = if ends && is_one_diagonal(position, rest, ring) {
                rest
            } else {
                width(position, rest.min(ring - position))
            };
            to += width;
            let push = if !ends || to < rows.end {
                self.push(position + width, ring)
            } else {
                None
            };
            let pushed = push
                .filter(|push| push.width > DIRECT)
                .and_then(|push| self.pushed(push, ring));
            let computed = push.is_some_and(|push| push.width > DIRECT) && pushed.is_none();
            tiles.push(Tile {
                position,
                width,
                diagonal: self.diagonal(width.next_power_of_two()),
                push,
                pushed,
            });
            position = self.after(position + width, ring);
            if computed {
                break;
            }
        }
        (rows.start..to, tiles)
    }

    /// The next position when `reached` is: a ring turns, a fork's slots come to their end.
    fn after(&self, reached: usize, ring: usize) -> usize {
        if ring == self.ring {
            reached % ring
        } else {
            reached
        }
    }

    /// What position `reached` owes to the sums after it; nothing at the end of a fork.
    fn push(&self, reached: usize, ring: usize) -> Option<Push> {
        let width = if reached == self.ring {
            reached
        } else {
            1 << reached.trailing_zeros()
        };
        let count = if reached < ring {
            width.min(ring - reached)
        } else if ring == self.ring {
            ring
        } else {
            return None;
        };
        Some(Push {
            from: reached,
            width,
            count,
        })
    }

    /// The spectrum of a push, if it is kept.
    fn pushed(&self, push: Push, ring: usize) -> Option<Arc<Spectrum>> {
        let (taps, size) = (2 * push.width, 2 * push.width);
        // Not worth keeping are large ones of which few sums are needed.
        if push.width == push.count || push.width <= UNIT {
            self.spectra.kept(taps, size)
        } else if ring == self.ring {
            None
        } else {
            // Those of forks are as few as forks are short.
            Some(self.spectra.always(taps, size))
        }
    }

    /// One channel pair through the tiles of a span.
    fn run(
        &self,
        convolver: &mut Convolver,
        tiles: &[Tile],
        pair: usize,
        v: &[Complex32],
        y: &mut [Complex32],
        slots: &mut [Complex32],
    ) {
        let mut from = 0;
        for tile in tiles {
            let v = &v[from..from + tile.width];
            let y = &mut y[from..from + tile.width];
            from += tile.width;
            let here = &mut slots[tile.position..tile.position + tile.width];
            y.copy_from_slice(here);
            here.copy_from_slice(v);
            self.add_diagonal(convolver, tile.diagonal.as_deref(), pair, v, y);
            match (tile.push, &tile.pushed) {
                (Some(push), Some(spectrum)) => {
                    // Of the same inputs, the diagonal has left the transform.
                    if push.width != tile.width {
                        convolver.transform(spectrum, &slots[push.from - push.width..push.from]);
                    }
                    let sums = convolver.convolve(spectrum, pair);
                    push.store(slots, 0, &sums[push.width..]);
                }
                (Some(push), None) if push.width <= DIRECT => self.push_direct(pair, slots, push),
                _ => {}
            }
        }
    }

    fn push_direct(&self, pair: usize, slots: &mut [Complex32], push: Push) {
        let (past, future) = slots.split_at_mut(push.from);
        let taps = self.spectra.head(pair);
        for (j, v) in past.iter().rev().take(push.width).enumerate() {
            for (y, k) in future.iter_mut().take(push.count).zip(&taps[j + 1..]) {
                y.re += k.re * v.re;
                y.im += k.im * v.im;
            }
        }
    }
}

/// Whether the last inputs of a sequence need no tiles: nothing comes after them, so one transform
/// padded with zeros does, instead of one of each power of two that they are a sum of.
fn is_one_diagonal(position: usize, rest: usize, ring: usize) -> bool {
    let padded = rest.next_power_of_two();
    padded <= DIAGONAL && position.is_multiple_of(padded) && position + rest <= ring
}

/// The largest power of two that divides `position` and is at most `room`.
fn width(position: usize, room: usize) -> usize {
    let aligned = match position {
        0 => DIAGONAL,
        _ => DIAGONAL.min(1 << position.trailing_zeros()),
    };
    let fits = 1 << (usize::BITS - 1 - room.leading_zeros());
    aligned.min(fits)
}
