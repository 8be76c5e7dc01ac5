//! From base codes to an architecture's token ids.

use crate::sequence;

/// Which token each base is, and how many tokens there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Rows of the embedding and of the logits.
    pub size: usize,
    /// Token ids of A, C, G, T and N.
    pub bases: [u32; 5],
}

impl Vocabulary {
    /// The characters of HyenaDNA and Caduceus: seven special tokens, then A C G T N.
    pub fn characters(size: usize) -> Self {
        Self {
            size,
            bases: [7, 8, 9, 10, 11],
        }
    }

    /// UTF-8 bytes, as Evo reads them. Upper case: the soft mask is not a token of its own.
    pub fn bytes(size: usize) -> Self {
        Self {
            size,
            bases: [b'A', b'C', b'G', b'T', b'N'].map(u32::from),
        }
    }

    /// The token of a base code; the soft-mask bit is ignored.
    pub fn token(&self, code: u8) -> u32 {
        self.bases[usize::from(sequence::base(code).min(sequence::N))]
    }
}
