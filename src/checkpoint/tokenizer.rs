//! What the tokenizer's files beside a model say.

use super::words::Words;
use super::{Architecture, Config};
use crate::error::Result;
use crate::io::source;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// Files that say which token each base is, where a model has them; one derived from it needs them
/// too.
pub const TOKENIZERS: [&str; 4] = [
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer_config.json",
];

/// Lengths that a tokenizer may state; without a limit it states 1e30.
const LENGTHS: RangeInclusive<u64> = 2..=1 << 26;

/// What the tokenizer's files say, as far as a model of DNA needs it.
#[derive(Clone, Debug, Default)]
pub struct Tokenizer {
    /// Token ids, if one of the files lists letters.
    pub letters: Option<Letters>,
    /// How bases become tokens of a published Transformer.
    pub words: Option<Arc<Words>>,
    /// The longest input: the trained length of Caduceus, whose configuration has none.
    pub longest: Option<usize>,
}

/// Token ids of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letters {
    /// Of A, C, G, T and N.
    pub bases: [u32; 5],
    /// Of the token that masks a base.
    pub mask: Option<u32>,
}

impl Tokenizer {
    /// Reads the files that lie in `dir`; none need, but for a published Transformer.
    ///
    /// # Errors
    /// As [`Config::read`] and [`Words::read`].
    pub fn read(dir: &Path, architecture: Architecture) -> Result<Self> {
        let words = match architecture {
            Architecture::Pretrained(class) => Some(Arc::new(Words::read(dir, class)?)),
            _ => None,
        };
        let mut letters = None;
        for name in TOKENIZERS {
            let path = dir.join(name);
            let json = name.ends_with(".json");
            if json && letters.is_none() && source::is_file(&path)? {
                letters = Letters::of(&Config::read(&path)?);
            }
        }
        let path = dir.join("tokenizer_config.json");
        let mut longest = None;
        if source::is_file(&path)? {
            let file = Config::read(&path)?;
            let length = file.get("model_max_length").and_then(|n| n.as_u64());
            longest = length.filter(|n| LENGTHS.contains(n)).map(|n| n as usize);
        }
        Ok(Self {
            letters,
            words,
            longest,
        })
    }
}

impl Letters {
    /// Those that a file lists, in the forms of the tokenizers library and of plain vocabularies.
    fn of(file: &Config) -> Option<Self> {
        let model = file.get("model").and_then(|model| model.get("vocab"));
        let vocab = model.or_else(|| file.get("vocab"));
        let vocab = vocab
            .and_then(|vocab| vocab.as_object())
            .unwrap_or(file.as_json());
        let id = |names: &[&str]| {
            let id = names.iter().find_map(|name| vocab.get(*name))?.as_u64()?;
            u32::try_from(id).ok()
        };
        Some(Self {
            bases: [
                id(&["A", "a"])?,
                id(&["C", "c"])?,
                id(&["G", "g"])?,
                id(&["T", "t"])?,
                id(&["N", "n", "[UNK]", "<unk>", "UNK"])?,
            ],
            mask: id(&["[MASK]", "<mask>", "MASK"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_where_a_file_lists_them() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Tokenizer::read(dir.path(), Architecture::Mamba).unwrap();
        assert_eq!(read().letters, None);
        let text = r#"{"model": {"vocab": {"[UNK]": 0, "a": 1, "c": 2, "g": 3, "t": 4}}}"#;
        std::fs::write(dir.path().join("tokenizer.json"), text).unwrap();
        let letters = read().letters.unwrap();
        assert_eq!((letters.bases, letters.mask), ([1, 2, 3, 4, 0], None));
    }

    #[test]
    fn the_longest_input_is_read_unless_it_is_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        let read = || Tokenizer::read(dir.path(), Architecture::Caduceus).unwrap();
        assert_eq!(read().longest, None);
        for (length, expected) in [
            ("131072", Some(131_072)),
            ("1000000000000000019884624838656", None),
            ("1e30", None),
            ("-1", None),
            ("null", None),
        ] {
            let text = format!(r#"{{"model_max_length": {length}}}"#);
            std::fs::write(dir.path().join("tokenizer_config.json"), text).unwrap();
            assert_eq!(read().longest, expected, "{length}");
        }
    }
}
