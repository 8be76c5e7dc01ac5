//! From base codes to an architecture's token ids.

use crate::checkpoint::{Letters, Tokenizer};
use crate::error::{Error, Result};
use crate::sequence;

/// Which token each base is, and how many tokens there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Rows of the embedding and of the logits.
    pub size: usize,
    /// Token ids of A, C, G, T and N.
    pub bases: [u32; 5],
    /// The token of a masked base.
    pub mask: Option<u32>,
}

impl Vocabulary {
    /// The characters of HyenaDNA and Caduceus: seven special tokens, then A C G T N.
    pub fn characters(size: usize) -> Self {
        Self {
            size,
            bases: [7, 8, 9, 10, 11],
            mask: Some(3),
        }
    }

    /// UTF-8 bytes, as Evo reads them. Upper case: the soft mask is not a token of its own.
    pub fn bytes(size: usize) -> Self {
        Self {
            size,
            bases: [b'A', b'C', b'G', b'T', b'N'].map(u32::from),
            mask: None,
        }
    }

    /// The tokens of PlantCaduceus: three special tokens, then a c g t; N is unknown.
    pub fn plant(size: usize) -> Self {
        Self {
            size,
            bases: [3, 4, 5, 6, 2],
            mask: Some(1),
        }
    }

    /// The tokens of a model with `size` rows of embedding: its tokenizer's where it has one, else
    /// PlantCaduceus' letters (8 rows), HyenaDNA's characters (12 to 16 rows) or bytes (256 and
    /// more).
    ///
    /// # Errors
    /// Model: the tokenizer has ids that the embedding has not, or nothing tells the tokens.
    pub fn of(tokenizer: &Tokenizer, size: usize) -> Result<Self> {
        if let Some(Letters { bases, mask }) = tokenizer.letters {
            let within = |&id: &u32| (id as usize) < size;
            if bases.iter().chain(&mask).all(within) {
                return Ok(Self { size, bases, mask });
            }
            let what = format!("the tokenizer has ids beyond the model's {size} tokens");
            return Err(Error::model(what));
        }
        match size {
            8 => Ok(Self::plant(size)),
            12..=16 => Ok(Self::characters(size)),
            256.. => Ok(Self::bytes(size)),
            _ => Err(Error::model(format!("unknown vocabulary of {size} tokens"))
                .todo("put the model's tokenizer.json or vocab.json beside its config.json")),
        }
    }

    /// The token of a base code; the soft-mask bit is ignored.
    pub fn token(&self, code: u8) -> u32 {
        self.bases[usize::from(sequence::base(code).min(sequence::N))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_tokenizer_beside_the_model_decides_the_ids() {
        let none = Tokenizer::default();
        let bases = |tokenizer, size| Vocabulary::of(tokenizer, size).map(|found| found.bases);
        assert_eq!(bases(&none, 16).unwrap(), [7, 8, 9, 10, 11]);
        assert_eq!(bases(&none, 512).unwrap()[0], 65);
        assert_eq!(bases(&none, 40).unwrap_err().kind(), Kind::Model);
        let letters = Letters {
            bases: [1, 2, 3, 4, 0],
            mask: None,
        };
        let own = Tokenizer {
            letters: Some(letters),
            ..Tokenizer::default()
        };
        assert_eq!(bases(&own, 16).unwrap(), letters.bases);
        assert_eq!(bases(&own, 4).unwrap_err().kind(), Kind::Model);
    }
}
