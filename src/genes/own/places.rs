//! Places where a gene could start: its open reading frame.

use super::Found;
use crate::genes::code::{GeneticCode, is_start};
use crate::genes::evidence::Evidence;
use crate::genes::gene::Gene;
use crate::sequence::{N, base, complement};

/// Bases before a start that are looked at.
pub const BEFORE: usize = 45;

/// A start codon and the bases before it, as they are read.
#[derive(Clone)]
pub struct Around {
    pub codon: [u8; 3],
    /// The nearest first.
    pub before: [u8; BEFORE],
}

impl Around {
    /// `before`: the bases before it, the nearest first.
    pub fn new(codon: [u8; 3], before: impl Iterator<Item = u8>) -> Self {
        let mut bases = [N; BEFORE];
        for (place, code) in bases.iter_mut().zip(before) {
            *place = base(code);
        }
        Self {
            codon,
            before: bases,
        }
    }
}

/// The open reading frame of a gene, read along it. Places are codons from the gene's first one on,
/// below 0 before it.
#[derive(Clone)]
pub struct Orf<'a> {
    code: GeneticCode,
    bases: &'a [Evidence],
    /// The place of the first codon's first base in `bases`, and the direction of reading.
    first: i64,
    step: i64,
    /// Codons of the gene, its stop codon among them.
    pub codons: i64,
}

impl<'a> Orf<'a> {
    pub fn new(code: GeneticCode, found: &Found<'a>, gene: &Gene) -> Self {
        let (start, end) = (gene.start - found.first, gene.end - found.first);
        Self {
            code,
            bases: found.bases,
            first: if gene.reverse {
                end as i64 - 1
            } else {
                start as i64
            },
            step: if gene.reverse { -1 } else { 1 },
            codons: (end - start) as i64 / 3,
        }
    }

    /// The base so far from the first one, as it is read; N beyond the sequence.
    fn base(&self, from: i64) -> u8 {
        let at = usize::try_from(self.first + self.step * from).ok();
        let code = at.and_then(|at| self.bases.get(at)).map_or(N, |it| it.code);
        base(if self.step < 0 {
            complement(code)
        } else {
            code
        })
    }

    pub fn codon(&self, place: i64) -> [u8; 3] {
        [0, 1, 2].map(|i| self.base(3 * place + i))
    }

    /// A start codon and what lies before it.
    pub fn around(&self, place: i64) -> Around {
        let before = (1..=BEFORE as i64).map(|i| self.base(3 * place - i));
        Around::new(self.codon(place), before)
    }

    /// The places of other start codons within so many codons.
    pub fn others(&self, within: i64) -> impl Iterator<Item = i64> {
        let open = |place: &i64| {
            let codon = self.codon(*place);
            !codon.contains(&N) && !self.code.is_stop(codon)
        };
        let before = (1..=within).map(|n| -n).take_while(open);
        let behind = (1..=within).take_while(|place| *place < self.codons - 1);
        before
            .chain(behind)
            .filter(|place| is_start(self.codon(*place)))
    }
}

/// A start codon that is preceded by another one in its frame.
pub fn follows_a_start(around: &Around) -> bool {
    let [third, second, first] = [0, 1, 2].map(|i| around.before[i]);
    is_start([first, second, third])
}
