//! Tokens of published Transformers, which may cover several bases: single letters, k-mers, and
//! what byte-pair encoding found (BPE).

use super::Class;
use super::config::text;
use crate::error::{Error, Result};
use crate::io::source;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// Names of the token before a sequence, the one after it, that of unknown letters, and that of
/// masked ones, in the vocabularies of published models.
const BEFORE: [&str; 4] = ["[CLS]", "<s>", "<cls>", "<bos>"];
const AFTER: [&str; 4] = ["[SEP]", "</s>", "<eos>", "<sep>"];
const UNKNOWN: [&str; 3] = ["[UNK]", "<oov>", "<unk>"];
const MASKED: [&str; 2] = ["[MASK]", "<mask>"];

/// How a model's bases become tokens.
#[derive(Clone, Debug)]
pub struct Words {
    splitter: Splitter,
    /// The bases that each token stands for, in upper case; none of unknown and special tokens.
    texts: Vec<Option<Box<[u8]>>>,
    mask: Option<u32>,
}

#[derive(Clone, Debug)]
enum Splitter {
    /// k letters each, `step` apart.
    Kmers {
        k: usize,
        step: usize,
        ids: HashMap<Box<[u8]>, u32>,
        unknown: u32,
        before: Option<u32>,
        after: Option<u32>,
    },
    /// What `tokenizer.json` describes; `lower`: it knows lower-case letters alone.
    Library {
        tokenizer: Box<tokenizers::Tokenizer>,
        lower: bool,
    },
}

/// A token of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The bases that it covers; none of one that stands before or after the sequence.
    pub bases: Range<usize>,
}

impl Words {
    /// Reads `tokenizer.json`, or the k-mers that `vocab.txt` lists, one a line. A BERT whose
    /// vocabulary holds all k-mers reads one at each base, as DNABERT does; other models read one
    /// behind the other.
    ///
    /// # Errors
    /// Model: neither is there, or it cannot be read.
    pub fn read(dir: &Path, class: Class) -> Result<Self> {
        let (json, list) = (dir.join("tokenizer.json"), dir.join("vocab.txt"));
        if !source::is_file(&json)? {
            if !source::is_file(&list)? {
                let error = Error::model("no tokenizer.json and no vocab.txt");
                return Err(error
                    .file(dir.display())
                    .todo("put the model's tokenizer beside its config.json"));
            }
            let text = text(&list)?;
            let lines = text.lines().map(|line| line.trim().to_string());
            let words = Self::of_kmers(&lines.collect::<Vec<_>>(), class);
            return words.map_err(|error| error.file(list.display()));
        }
        let text = text(&json)?;
        let words = Self::of_library(&text, class);
        words.map_err(|error| error.file(json.display()))
    }

    fn of_library(json: &str, class: Class) -> Result<Self> {
        let mut tokenizer: tokenizers::Tokenizer = json.parse().map_err(Error::model)?;
        tokenizer.with_truncation(None).map_err(Error::model)?;
        tokenizer.with_padding(None);
        let vocabulary = tokenizer.get_vocab(true);
        let most = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
        if most > 1 << 24 {
            return Err(Error::model(format!("a token with the number {most}")));
        }
        let mut names = vec![String::new(); most];
        for (name, id) in &vocabulary {
            names[*id as usize].clone_from(name);
        }
        // A tokenizer of text splits k-mers at spaces, which sequences do not have.
        if class == Class::Bert
            && let Ok(words) = Self::of_kmers(&names, class)
        {
            return Ok(words);
        }
        let lower = !names
            .iter()
            .any(|name| ["A", "C", "G", "T"].contains(&&**name));
        Ok(Self {
            texts: names.iter().map(|name| bases(name)).collect(),
            mask: find(&names, &MASKED),
            splitter: Splitter::Library {
                tokenizer: Box::new(tokenizer),
                lower,
            },
        })
    }

    /// Of a vocabulary whose tokens of bases all have the same length, in the order of their ids.
    fn of_kmers(names: &[String], class: Class) -> Result<Self> {
        let texts: Vec<_> = names.iter().map(|name| bases(name)).collect();
        let mut lengths = texts.iter().flatten().map(|text| text.len());
        let k = lengths.next().ok_or_else(|| Error::model("no k-mers"))?;
        if lengths.any(|other| other != k) {
            let error = Error::model("tokens of several lengths, which are not k-mers");
            return Err(error.todo("put the model's tokenizer.json beside it"));
        }
        let id = |id: usize| u32::try_from(id).map_err(|_| Error::model("too many tokens"));
        let ids = texts.iter().enumerate().filter_map(|(i, text)| {
            let text = text.clone()?;
            Some(id(i).map(|id| (text, id)))
        });
        let unknown = find(names, &UNKNOWN);
        Ok(Self {
            splitter: Splitter::Kmers {
                k,
                step: if class == Class::Bert { 1 } else { k },
                ids: ids.collect::<Result<_>>()?,
                unknown: unknown.ok_or_else(|| Error::model("no token for unknown letters"))?,
                before: find(names, &BEFORE),
                after: find(names, &AFTER),
            },
            mask: find(names, &MASKED),
            texts,
        })
    }

    /// The tokens of a sequence of upper-case letters, with those that the model expects before and
    /// after it, in the order in which it reads them.
    ///
    /// # Errors
    /// Model: the tokenizer fails.
    pub fn tokens(&self, letters: &[u8]) -> Result<Vec<Token>> {
        match &self.splitter {
            Splitter::Kmers {
                k,
                step,
                ids,
                unknown,
                before,
                after,
            } => {
                let special = |id: &Option<u32>, at| id.map(|id| Token { id, bases: at..at });
                // Those that overlap leave no rest, unless there is none; of the others the rest is
                // unknown.
                let end = match step {
                    1 => (letters.len() + 1)
                        .saturating_sub(*k)
                        .max(1)
                        .min(letters.len()),
                    _ => letters.len(),
                };
                let words = (0..end).step_by(*step).map(|from| {
                    let bases = from..(from + k).min(letters.len());
                    let id = *ids.get(&letters[bases.clone()]).unwrap_or(unknown);
                    Token { id, bases }
                });
                let words = special(before, 0).into_iter().chain(words);
                Ok(words.chain(special(after, letters.len())).collect())
            }
            Splitter::Library { tokenizer, lower } => {
                let mut text = String::from_utf8_lossy(letters).into_owned();
                if *lower {
                    text.make_ascii_lowercase();
                }
                let found = tokenizer.encode(text, true).map_err(Error::model)?;
                let places = found.get_offsets().iter();
                let special = found.get_special_tokens_mask();
                let each = found.get_ids().iter().zip(places).zip(special);
                let tokens = each.map(|((&id, &(from, to)), &special)| {
                    let to = if special == 1 { from } else { to };
                    let bases = from.min(letters.len())..to.min(letters.len());
                    Token { id, bases }
                });
                Ok(tokens.collect())
            }
        }
    }

    /// For each of so many bases, the place of its token among `tokens`: the last one that begins at
    /// it or before it.
    ///
    /// # Errors
    /// Model: a base has none.
    pub fn of_bases(tokens: &[Token], bases: usize) -> Result<Vec<usize>> {
        let mut found: Vec<usize> = Vec::with_capacity(bases);
        for (place, token) in tokens.iter().enumerate() {
            if token.bases.is_empty() {
                continue;
            }
            if let Some(before) = found.last().copied() {
                found.resize(token.bases.start.max(found.len()), before);
            }
            found.truncate(token.bases.start);
            if found.len() == token.bases.start {
                found.resize(token.bases.end.min(bases), place);
            }
        }
        match (found.len(), found.last().copied()) {
            (have, Some(last)) => {
                found.resize(bases.max(have), last);
                Ok(found)
            }
            (_, None) if bases == 0 => Ok(found),
            _ => Err(Error::model("the tokenizer finds no token in a sequence")),
        }
    }

    /// The bases that a token stands for, in upper case; none of unknown and special tokens.
    pub fn text(&self, id: u32) -> Option<&[u8]> {
        self.texts.get(id as usize)?.as_deref()
    }

    /// All tokens that stand for bases.
    pub fn texts(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let texts = (0..).zip(&self.texts);
        texts.filter_map(|(id, text)| Some((id, text.as_deref()?)))
    }

    /// The bases of its longest token.
    pub fn longest(&self) -> usize {
        let lengths = self.texts.iter().flatten().map(|text| text.len());
        lengths.max().unwrap_or(1)
    }

    /// Bases from one token to the next, where all are the same distance apart.
    pub fn step(&self) -> Option<usize> {
        match &self.splitter {
            Splitter::Kmers { step, .. } => Some(*step),
            Splitter::Library { .. } => {
                let mut lengths = self.texts.iter().flatten().map(|text| text.len());
                let first = lengths.next()?;
                lengths.all(|other| other == first).then_some(first)
            }
        }
    }

    /// The token of masked bases, where masking one leaves the others' tokens as they are.
    pub fn mask(&self) -> Option<u32> {
        self.mask.filter(|_| self.step().is_some())
    }
}

/// The id of the first of `known` names.
fn find(names: &[String], known: &[&str]) -> Option<u32> {
    let id = known.iter().find_map(|known| {
        let same = |name: &String| name == known;
        names.iter().position(same)
    })?;
    u32::try_from(id).ok()
}

/// The bases that the name of a token means: spaces that tokenizers mark do not count.
fn bases(name: &str) -> Option<Box<[u8]>> {
    let name = name.trim_start_matches(['Ġ', '▁']);
    let name = name.strip_prefix("##").unwrap_or(name);
    let letters = name.to_ascii_uppercase().into_bytes();
    let known = !letters.is_empty() && letters.iter().all(|letter| b"ACGT".contains(letter));
    known.then(|| letters.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kmers(k: usize, class: Class) -> Words {
        let mut names = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            .map(str::to_string)
            .to_vec();
        names.extend((0..4usize.pow(k as u32)).map(|number| {
            let letter = |place| b"ACGT"[number / 4usize.pow(place as u32) % 4];
            String::from_utf8((0..k).rev().map(letter).collect()).unwrap()
        }));
        Words::of_kmers(&names, class).unwrap()
    }

    fn places(words: &Words, letters: &[u8]) -> Vec<(u32, usize, usize)> {
        let tokens = words.tokens(letters).unwrap();
        let place = |token: Token| (token.id, token.bases.start, token.bases.end);
        tokens.into_iter().map(place).collect()
    }

    #[test]
    fn k_mers_follow_each_other_or_overlap_as_their_model_reads_them() {
        let words = kmers(2, Class::Llama);
        let expected = [
            (1, 0, 0),
            (5, 0, 2),
            (0, 2, 4),
            (4, 4, 6),
            (0, 6, 7),
            (2, 7, 7),
        ];
        assert_eq!(places(&words, b"ACNGAAT"), expected);
        assert_eq!(
            (words.step(), words.longest(), words.mask()),
            (Some(2), 2, Some(3))
        );
        let words = kmers(2, Class::Bert);
        let expected = [(1, 0, 0), (5, 0, 2), (10, 1, 3), (2, 3, 3)];
        assert_eq!(places(&words, b"ACG"), expected);
        assert_eq!(places(&words, b"A"), [(1, 0, 0), (0, 0, 1), (2, 1, 1)]);
        assert_eq!(words.text(5), Some(&b"AC"[..]));
        assert_eq!((words.text(1), words.text(99)), (None, None));
    }

    #[test]
    fn a_base_belongs_to_the_last_token_that_begins_no_later() {
        let of = |words: &Words, letters: &[u8]| {
            Words::of_bases(&words.tokens(letters).unwrap(), letters.len()).unwrap()
        };
        assert_eq!(of(&kmers(2, Class::Llama), b"ACGTA"), [1, 1, 2, 2, 3]);
        assert_eq!(of(&kmers(3, Class::Bert), b"ACGTA"), [1, 2, 3, 3, 3]);
        assert_eq!(of(&kmers(3, Class::Bert), b"AC"), [1, 1]);
        let special = [Token { id: 1, bases: 0..0 }];
        assert!(Words::of_bases(&special, 2).is_err());
    }

    #[test]
    fn a_vocabulary_of_several_lengths_is_not_one_of_k_mers() {
        let names = ["<unk>", "A", "AC"].map(str::to_string);
        assert!(Words::of_kmers(&names, Class::Llama).is_err());
        assert!(Words::of_kmers(&names[..1], Class::Llama).is_err());
        assert!(Words::of_kmers(&names[1..2], Class::Llama).is_err());
    }

    #[test]
    fn tokens_of_a_tokenizer_cover_the_bases_of_the_sequence() {
        let json = r###"{"version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [], "normalizer": {"type": "Lowercase"}, "pre_tokenizer": null,
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [0], "tokens": ["[CLS]"]}}},
            "decoder": null,
            "model": {"type": "BPE", "dropout": null, "unk_token": "[UNK]", "fuse_unk": false,
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "byte_fallback": false, "ignore_merges": false,
                "vocab": {"[CLS]": 0, "[UNK]": 1, "a": 2, "c": 3, "g": 4, "t": 5, "ac": 6},
                "merges": [["a", "c"]]}}"###;
        let words = Words::of_library(json, Class::Mistral).unwrap();
        let expected = [(0, 0, 0), (6, 0, 2), (1, 2, 3), (4, 3, 4), (6, 4, 6)];
        assert_eq!(places(&words, b"ACNGAC"), expected);
        assert_eq!(
            (words.step(), words.longest(), words.mask()),
            (None, 2, None)
        );
        assert_eq!(words.text(6), Some(&b"AC"[..]));
    }
}
