//! Positions, and the rotation of queries and keys by them: Su et al. 2021, arXiv:2104.09864.

use crate::error::{Error, Kind, Result};
use crate::ops::unwritten;
use crate::sequence::Segment;
use rayon::prelude::*;

/// Rotation of queries and keys by their positions, first half of a head against the second.
#[derive(Clone, Debug)]
pub struct Rotary {
    frequencies: Vec<f32>, // (d / 2)
    scale: f32,
}

impl Rotary {
    /// Positions up to here, the longest published context, are rotated in f32 as published.
    const PUBLISHED: usize = 1 << 20;

    /// For heads of `width` d: angle `position / scale · base^(−2i / d)` of pair i.
    pub fn new(width: usize, base: f64, scale: f64) -> Self {
        let frequency = |i: usize| base.powf(-2.0 * i as f64 / width as f64) as f32;
        Self {
            frequencies: (0..width / 2).map(frequency).collect(),
            scale: scale as f32,
        }
    }

    /// The frequencies, and what positions are divided by.
    pub(super) fn parts(&self) -> (&[f32], f32) {
        (&self.frequencies, self.scale)
    }

    /// Cosines and sines at a position.
    pub(super) fn turn(&self, position: usize) -> Vec<(f32, f32)> {
        let angle = |frequency: &f32| {
            if position < Self::PUBLISHED {
                f64::from(position as f32 / self.scale * frequency)
            } else {
                // Beyond it f32 would lose whole positions.
                position as f64 / f64::from(self.scale) * f64::from(*frequency)
            }
        };
        let pair = |angle: f64| (angle.cos() as f32, angle.sin() as f32);
        self.frequencies.iter().map(angle).map(pair).collect()
    }
}

/// Turns heads of `width` back, as gradients go.
pub(super) fn turn_back(row: &mut [f32], turn: &[(f32, f32)], width: usize) {
    for head in row.chunks_exact_mut(width) {
        let (low, high) = head.split_at_mut(turn.len());
        for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(turn) {
            (*low, *high) = (*low * cos + *high * sin, *high * cos - *low * sin);
        }
    }
}

/// The position of each row in its sequence; `next` holds the next one of each lane.
pub(super) fn positions(mut next: Vec<usize>, segments: &[Segment]) -> Result<Vec<usize>> {
    let mut positions = Vec::new();
    for segment in segments {
        let mut own = 0;
        let next = if segment.starts && segment.ends {
            &mut own
        } else {
            next.get_mut(segment.lane).ok_or_else(|| no_lane(segment))?
        };
        let from = if segment.starts { 0 } else { *next };
        *next = from + segment.len;
        positions.extend(from..*next);
    }
    Ok(positions)
}

/// Queries and keys of rows `[q | k | v]`, rotated in heads of `width`: (T, 2D).
pub(super) fn turned(
    rotary: Option<&Rotary>,
    x: &[f32],
    positions: &[usize],
    width: usize,
) -> Vec<f32> {
    let d = x.len() / positions.len().max(1) / 3;
    let mut turned = unwritten(positions.len() * 2 * d);
    turned
        .par_chunks_exact_mut(2 * d)
        .zip(x.par_chunks_exact(3 * d))
        .zip(positions)
        .with_min_len(16)
        .for_each(|((out, x), position)| {
            out.copy_from_slice(&x[..2 * d]);
            let Some(rotary) = rotary else { return };
            let turn = rotary.turn(*position);
            for head in out.chunks_exact_mut(width) {
                let (low, high) = head.split_at_mut(turn.len());
                for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(&turn) {
                    (*low, *high) = (*low * cos - *high * sin, *low * sin + *high * cos);
                }
            }
        });
    turned
}

pub(super) fn no_lane(segment: &Segment) -> Error {
    Error::new(Kind::Internal, format!("no lane {}", segment.lane))
}
