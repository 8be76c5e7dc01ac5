//! From base codes to an architecture's token ids.

use crate::checkpoint::{Config, TOKENIZERS};
use crate::error::{Error, Result};
use crate::sequence;
use std::ops::RangeInclusive;
use std::path::Path;

/// Which token each base is, and how many tokens there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Rows of the embedding and of the logits.
    pub size: usize,
    /// Token ids of A, C, G, T and N.
    pub bases: [u32; 5],
    /// The token that hides a base from a masked language model.
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

    /// The tokens of the model in directory `dir` with `size` rows of embedding: its tokenizer's
    /// where it has one, else PlantCaduceus' letters (8 rows), HyenaDNA's characters (12 to 16
    /// rows) or bytes (256 and more).
    pub fn find(dir: &Path, size: usize) -> Result<Self> {
        if let Some((bases, mask)) = tokenizer(dir)? {
            return match bases.iter().chain(&mask).all(|&id| (id as usize) < size) {
                true => Ok(Self { size, bases, mask }),
                false => Err(Error::model(format!(
                    "the tokenizer has ids beyond the model's {size} tokens"
                ))
                .file(dir.display())),
            };
        }
        match size {
            8 => Ok(Self::plant(size)),
            12..=16 => Ok(Self::characters(size)),
            256.. => Ok(Self::bytes(size)),
            _ => Err(Error::model(format!("unknown vocabulary of {size} tokens"))
                .file(dir.display())
                .todo("put the model's tokenizer.json or vocab.json beside its config.json")),
        }
    }

    /// The token of a base code; the soft-mask bit is ignored.
    pub fn token(&self, code: u8) -> u32 {
        self.bases[usize::from(sequence::base(code).min(sequence::N))]
    }
}

/// The ids of A, C, G, T and N, and of the mask, in the tokenizer files of `dir`, if one of them
/// lists letters.
fn tokenizer(dir: &Path) -> Result<Option<([u32; 5], Option<u32>)>> {
    for name in TOKENIZERS {
        let path = dir.join(name);
        if !path.is_file() {
            continue;
        }
        let file = Config::read(&path)?;
        let model = file.get("model").and_then(|model| model.get("vocab"));
        let vocab = model.or_else(|| file.get("vocab"));
        let vocab = vocab
            .and_then(|vocab| vocab.as_object())
            .unwrap_or(file.as_json());
        let id = |names: &[&str]| {
            let id = names.iter().find_map(|name| vocab.get(*name))?.as_u64()?;
            u32::try_from(id).ok()
        };
        let bases = [
            id(&["A", "a"]),
            id(&["C", "c"]),
            id(&["G", "g"]),
            id(&["T", "t"]),
            id(&["N", "n", "[UNK]", "<unk>", "UNK"]),
        ];
        if let [Some(a), Some(c), Some(g), Some(t), Some(n)] = bases {
            return Ok(Some(([a, c, g, t, n], id(&["[MASK]", "<mask>", "MASK"]))));
        }
    }
    Ok(None)
}

/// Lengths that a tokenizer may state; without a limit it states 1e30.
const LENGTHS: RangeInclusive<u64> = 2..=1 << 26;

/// The longest input of the model in directory `dir` that its tokenizer states: the trained length
/// of Caduceus, whose configuration has none.
pub(super) fn longest_input(dir: &Path) -> Result<Option<usize>> {
    let path = dir.join("tokenizer_config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let file = Config::read(&path)?;
    let length = file.get("model_max_length").and_then(|n| n.as_u64());
    Ok(length.filter(|n| LENGTHS.contains(n)).map(|n| n as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_beside_the_model_decides_the_ids() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            Vocabulary::find(dir.path(), 16).unwrap().bases,
            [7, 8, 9, 10, 11]
        );
        assert_eq!(Vocabulary::find(dir.path(), 512).unwrap().bases[0], 65);
        assert!(Vocabulary::find(dir.path(), 40).is_err());
        let text = r#"{"model": {"vocab": {"[UNK]": 0, "a": 1, "c": 2, "g": 3, "t": 4}}}"#;
        std::fs::write(dir.path().join("tokenizer.json"), text).unwrap();
        assert_eq!(
            Vocabulary::find(dir.path(), 16).unwrap().bases,
            [1, 2, 3, 4, 0]
        );
        assert!(Vocabulary::find(dir.path(), 4).is_err());
    }

    #[test]
    fn the_longest_input_is_read_unless_it_is_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(longest_input(dir.path()).unwrap(), None);
        for (length, expected) in [
            ("131072", Some(131_072)),
            ("1000000000000000019884624838656", None),
            ("1e30", None),
            ("-1", None),
            ("null", None),
        ] {
            let text = format!(r#"{{"model_max_length": {length}}}"#);
            std::fs::write(dir.path().join("tokenizer_config.json"), text).unwrap();
            assert_eq!(longest_input(dir.path()).unwrap(), expected, "{length}");
        }
    }
}
