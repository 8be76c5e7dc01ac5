//! Where ribosomes bind: before many genes stands a piece of AGGAGG (Shine and Dalgarno 1974), which
//! pairs with the end of the 16S RNA.

use crate::sequence::{A, G, base};

/// Bases before a start that are looked at.
const REACH: usize = 20;
/// What pairs with the 16S RNA's end.
const MOTIF: [u8; 6] = [A, G, G, A, G, G];
/// What a base counts that does not pair.
const MISMATCH: f64 = -3.0;
/// What chance gives: the worth of GGA or of a piece like it, less than GGAG's.
const CHANCE: f64 = 3.0;
/// Bases between motif and start: most often, and their standard deviation.
const SPACING: [f64; 2] = [7.0, 3.0];

/// What the bases before a start codon say for it, in nats, at least 0; they come from the start
/// on, read backwards. The piece of the motif that fits best counts, hydrogen bonds less one a base
/// (G 2, A 1), by a Gaussian of its distance.
pub(super) fn binding(before: impl Iterator<Item = u8>) -> f64 {
    let mut bases = [u8::MAX; REACH];
    for (place, code) in bases.iter_mut().zip(before) {
        *place = base(code);
    }
    let at = |spacing: usize| {
        let (mut piece, mut best) = (0.0_f64, 0.0_f64);
        for (found, wanted) in bases[spacing..].iter().zip(MOTIF.iter().rev()) {
            piece += match (found == wanted, *wanted) {
                (true, G) => 2.0,
                (true, _) => 1.0,
                _ => MISMATCH,
            };
            piece = piece.max(0.0);
            best = best.max(piece);
        }
        let off = (spacing as f64 - SPACING[0]) / SPACING[1];
        (best - CHANCE).max(0.0) * (-off * off / 2.0).exp()
    };
    (3..=REACH - MOTIF.len()).map(at).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::{C, N, T};

    fn of(before: &[u8]) -> f64 {
        binding(before.iter().rev().copied())
    }

    #[test]
    fn the_whole_motif_at_its_distance_is_worth_most() {
        let site = |motif: &[u8], spacing: usize| {
            let mut bases = vec![C; 20];
            bases.extend(motif);
            bases.extend(vec![T; spacing]);
            of(&bases)
        };
        let whole = site(&MOTIF, 7);
        assert_eq!(whole, 7.0);
        assert!(site(&MOTIF, 5) < whole && site(&MOTIF, 9) < whole);
        assert_eq!(site(&MOTIF, 30), 0.0);
        let part = site(&[G, A, G, G], 7);
        assert!(0.0 < part && part < whole);
    }

    #[test]
    fn other_bases_and_too_few_are_worth_nothing() {
        assert_eq!(of(&[]), 0.0);
        assert_eq!(of(&[N; 30]), 0.0);
        assert_eq!(of(&[C, T, C, T, C, T, C, T, C, T, C, T, C, T, C, T]), 0.0);
    }
}
