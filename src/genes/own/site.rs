//! Where ribosomes bind, by kinds of sites: pieces of AGGAGG (Shine and Dalgarno 1974), with one other
//! base within or without, and how far they lie from the start. What each kind is worth is learned.

use super::odds;
use super::places::{Around, BEFORE};
use crate::sequence::{A, G};

const MOTIF: [u8; 6] = [A, G, G, A, G, G];
/// Kinds of pieces: substrings of three bases to six, then five and six bases of which one within is
/// another.
const PIECES: usize = 11;
/// Bases that pair.
const PAIRS: [f64; PIECES] = [3.0, 3.0, 3.0, 4.0, 4.0, 4.0, 5.0, 5.0, 6.0, 4.0, 5.0];
/// Bases between piece and start.
const SPACINGS: std::ops::RangeInclusive<usize> = 3..=15;
/// Classes of spacings: 5 to 10, 3 and 4, 11 and 12, more.
const CLASSES: usize = 4;
/// No site, and each piece in each class.
const KINDS: usize = 1 + PIECES * CLASSES;
/// Starts on top of each kind.
const FEW: f64 = 5.0;
/// A kind counts by this much at most.
const LIMIT: f64 = 4.0;
const ROUNDS: usize = 10;

/// What each kind of site says for a start, in nats.
pub struct Sites([f64; KINDS]);

fn class(spacing: usize) -> usize {
    match spacing {
        5..=10 => 0,
        ..5 => 1,
        11..=12 => 2,
        _ => 3,
    }
}

/// The piece that so many bases are, as they stand in the motif from `offset` on.
fn piece(bases: &[u8], offset: usize) -> Option<usize> {
    let pairs = bases.iter().zip(&MOTIF[offset..]);
    let other = |(_, (found, wanted)): &(usize, (&u8, &u8))| found != wanted;
    let mut others = pairs.enumerate().filter(other).map(|(i, _)| i);
    match (others.next(), others.next(), bases.len()) {
        (None, _, 3) => Some(offset % 3),
        (None, _, 4) => Some(3 + offset),
        (None, _, 5) => Some(6 + offset),
        (None, ..) => Some(8),
        (Some(i), None, length @ 5..) if 0 < i && i < length - 1 => Some(9 + length - 5),
        _ => None,
    }
}

/// The kinds of sites before a start.
fn kinds(around: &Around) -> Vec<usize> {
    let mut kinds = Vec::new();
    for spacing in SPACINGS {
        for length in 3..=MOTIF.len().min(BEFORE - spacing) {
            let mut bases = [0; MOTIF.len()];
            for (to, from) in bases[..length].iter_mut().zip(0..) {
                *to = around.before[spacing + length - 1 - from];
            }
            for offset in 0..=MOTIF.len() - length {
                if let Some(piece) = piece(&bases[..length], offset) {
                    kinds.push(1 + piece * CLASSES + class(spacing));
                }
            }
        }
    }
    kinds
}

impl Sites {
    /// From starts, and other places where the same genes could start.
    ///
    /// Each counts for its best kind: at first the longest, then the one that is worth most.
    pub(super) fn learn(starts: &[Around], others: &[Around]) -> Self {
        let sets = [starts, others].map(|set| set.iter().map(kinds).collect::<Vec<_>>());
        let totals = sets.each_ref().map(|set| set.len() as f64);
        let mut worth = Self([0.0; KINDS]);
        for kind in 1..KINDS {
            let piece = (kind - 1) / CLASSES;
            worth.0[kind] = PAIRS[piece] - 0.5 * ((kind - 1) % CLASSES) as f64;
        }
        for _ in 0..ROUNDS {
            let mut counts = [[0.0; 2]; KINDS];
            for (i, set) in sets.iter().enumerate() {
                for kinds in set {
                    counts[worth.best(kinds)][i] += 1.0;
                }
            }
            worth.0 = counts.map(|count| odds(count, totals, FEW).clamp(-LIMIT, LIMIT));
        }
        worth
    }

    fn best(&self, kinds: &[usize]) -> usize {
        kinds.iter().fold(0, |best, &kind| {
            if self.0[kind] > self.0[best] {
                kind
            } else {
                best
            }
        })
    }

    /// What the best site before a start says.
    pub fn score(&self, around: &Around) -> f64 {
        self.0[self.best(&kinds(around))]
    }
}
