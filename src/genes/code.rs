//! Which codons start and stop a gene.

use crate::sequence::{A, C, G, T, base, complement};

/// A genetic code of NCBI's list, as far as genes of prokaryotes need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GeneticCode {
    /// 11: bacteria, archaea, plastids. Stops TAA, TAG, TGA.
    #[default]
    Bacterial,
    /// 4: mycoplasmas and spiroplasmas. TGA is tryptophan; stops TAA, TAG.
    Mycoplasma,
}

impl GeneticCode {
    /// By its number.
    pub fn new(number: u8) -> Option<Self> {
        match number {
            11 => Some(Self::Bacterial),
            4 => Some(Self::Mycoplasma),
            _ => None,
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Self::Bacterial => 11,
            Self::Mycoplasma => 4,
        }
    }

    /// Whether genes end with this codon.
    pub fn is_stop(self, codon: [u8; 3]) -> bool {
        match codon.map(base) {
            [T, A, A | G] => true,
            [T, G, A] => self == Self::Bacterial,
            _ => false,
        }
    }
}

/// Whether genes begin with this codon: ATG, GTG or TTG, the starts of 99.9 % of the genes of
/// *Escherichia coli*.
pub(super) fn is_start(codon: [u8; 3]) -> bool {
    matches!(codon.map(base), [A | G | T, T, G])
}

/// The codon that stands on the reverse strand opposite these three bases.
pub(super) fn opposite([a, b, c]: [u8; 3]) -> [u8; 3] {
    [c, b, a].map(complement)
}

/// Its letters.
pub(super) fn letters(codon: [u8; 3]) -> String {
    let letter = |code| match base(code) {
        A => 'A',
        C => 'C',
        G => 'G',
        T => 'T',
        _ => 'N',
    };
    codon.map(letter).iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tga_stops_in_code_11_and_not_in_code_4() {
        let (eleven, four) = (GeneticCode::Bacterial, GeneticCode::Mycoplasma);
        for (codon, stops) in [
            ([T, A, A], [true, true]),
            ([T, A, G], [true, true]),
            ([T, G, A], [true, false]),
            ([T, G, G], [false, false]),
        ] {
            assert_eq!([eleven, four].map(|code| code.is_stop(codon)), stops);
        }
        assert_eq!(GeneticCode::new(4), Some(four));
        assert_eq!(GeneticCode::new(1), None);
    }

    #[test]
    fn the_reverse_strand_is_read_backwards_and_complemented() {
        assert_eq!(letters(opposite([C, A, T])), "ATG");
        assert!(is_start([T, T, G]) && !is_start([C, T, G]) && !is_start([4, T, G]));
    }
}
