//! The indexes of a FASTA file: `.fai` (where each sequence lies in the text) and, for BGZF,
//! `.gzi` (where each block lies in the file). Both are checked before a number is used.

use super::fasta::MAX_NAME;
use super::input::without_mark;
use super::read;
use super::source::{Source, shown};
use crate::error::{Error, Result};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Where a sequence lies in the text: one line of a `.fai`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The sequence's name.
    pub name: String,
    /// Its bases.
    pub length: u64,
    /// Where its first base lies, in bytes of uncompressed text.
    pub offset: u64,
    /// Bases of every line but the last; not 0 unless `length` is.
    pub line_bases: u64,
    /// Bytes of every line but the last, line end included.
    pub line_width: u64,
}

impl Entry {
    /// Where base `position` lies; `position` may be the length only through [`Self::end`].
    pub fn at(&self, position: u64) -> u64 {
        match self.length {
            0 => self.offset,
            _ => {
                let (line, column) = (position / self.line_bases, position % self.line_bases);
                self.offset + line * self.line_width + column
            }
        }
    }

    /// Where the text goes on after the last base.
    pub fn end(&self) -> u64 {
        match self.length {
            0 => self.offset,
            length => self.at(length - 1) + 1,
        }
    }

    /// Bytes that end a line: 1 or 2 where there is more than one line.
    pub fn line_end(&self) -> u64 {
        self.line_width - self.line_bases
    }

    fn parse(line: &str, text_size: u64) -> Result<Self, String> {
        let fields: Vec<_> = line.split('\t').collect();
        let [name, numbers @ ..] = &fields[..] else {
            return Err("empty line".to_string());
        };
        if numbers.len() != 4 {
            return Err(format!("expected 5 columns, found {}", fields.len()));
        }
        let mut parsed = [0u64; 4];
        for (number, text) in parsed.iter_mut().zip(numbers) {
            *number = text
                .parse()
                .map_err(|_| format!("\"{text}\" is not a number"))?;
        }
        let [length, offset, line_bases, line_width] = parsed;
        let line_end = line_width
            .checked_sub(line_bases)
            .ok_or("a line has more bases than bytes")?;
        // A sequence of one line may be indexed without a line end, if the file has none.
        let shortest = u64::from(length > line_bases);
        if name.is_empty() {
            return Err("empty name".to_string());
        }
        if line_bases == 0 && length > 0 {
            return Err("lines without bases".to_string());
        }
        if !(shortest..=2).contains(&line_end) {
            return Err(format!("lines end in {line_end} bytes, not 1 or 2"));
        }
        let end = match length {
            0 => Some(offset),
            _ => ((length - 1) / line_bases)
                .checked_mul(line_width)
                .and_then(|bytes| bytes.checked_add((length - 1) % line_bases + 1))
                .and_then(|bytes| bytes.checked_add(offset)),
        };
        if end.is_none_or(|end| end > text_size) {
            return Err(
                "index does not match: reaches beyond the end of the sequence file".to_string(),
            );
        }
        Ok(Self {
            name: (*name).to_string(),
            length,
            offset,
            line_bases,
            line_width,
        })
    }
}

/// Reads a `.fai` of a text of at most `text_size` bytes.
///
/// # Errors
/// Input, naming the line: not five columns, line widths that cannot be, a sequence that
/// reaches beyond the text, a name twice.
pub fn read_fai(path: &Path, text_size: u64) -> Result<Vec<Entry>> {
    let mut lines = BufReader::new(Source::open(path)?);
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = HashSet::new();
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        // Four numbers take at most 84 bytes.
        let longest = MAX_NAME as u64 + 100;
        (&mut lines)
            .take(longest)
            .read_until(b'\n', &mut line)
            .map_err(|error| read::error(error).file(shown(path)))?;
        if line.is_empty() {
            break;
        }
        let whole = line.ends_with(b"\n") || (line.len() as u64) < longest;
        let entry = match std::str::from_utf8(&line) {
            _ if !whole => Err("line too long".to_string()),
            Err(_) => Err("not UTF-8".to_string()),
            Ok(line) => {
                let line = if number == 1 {
                    without_mark(line)
                } else {
                    line
                };
                Entry::parse(line.trim_end_matches(['\n', '\r']), text_size)
            }
        };
        let entry = entry.and_then(|entry| {
            if names.insert(entry.name.clone()) {
                Ok(entry)
            } else {
                Err(format!("duplicate sequence name \"{}\"", entry.name))
            }
        });
        entries.push(entry.map_err(|what| {
            Error::input(what)
                .file(shown(path))
                .place(format!("line {number}"))
                .todo("make it anew with samtools faidx")
        })?);
    }
    if entries.is_empty() {
        return Err(Error::input("no sequences").file(shown(path)));
    }
    Ok(entries)
}

/// Where a BGZF block starts, in the file and in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// In bytes of the file.
    pub compressed: u64,
    /// In bytes of the text.
    pub uncompressed: u64,
}

/// Reads the `.gzi` of a BGZF file of `file_size` bytes: its blocks, the first included.
///
/// # Errors
/// Input: the count does not agree with the index's own size (checked before anything is
/// allocated), or the blocks are not in order within the file.
pub fn read_gzi(path: &Path, file_size: u64) -> Result<Vec<Block>> {
    let damage = |what: &str| Error::input(what).file(shown(path));
    let file = Source::open(path)?;
    let size = file.size().map_err(|error| error.file(shown(path)))?;
    let mut bytes = BufReader::new(file);
    let mut next = || {
        let mut word = [0; 8];
        match read::up_to(&mut bytes, &mut word) {
            Ok(8) => Ok(u64::from_le_bytes(word)),
            Ok(_) => Err(damage("truncated")),
            Err(error) => Err(error.file(shown(path))),
        }
    };
    let count = next()?;
    let needed = count.checked_mul(16).and_then(|n| n.checked_add(8));
    if needed.is_none() || needed != size {
        let size = size.map_or("unknown".to_string(), |size| size.to_string());
        let what = format!("says {count} blocks, which its {size} bytes cannot hold");
        return Err(damage(&what));
    }
    let mut last = Block {
        compressed: 0,
        uncompressed: 0,
    };
    let mut blocks = vec![last];
    for entry in 1..=count {
        let block = Block {
            compressed: next()?,
            uncompressed: next()?,
        };
        let grown = block.uncompressed.checked_sub(last.uncompressed);
        let ordered = block.compressed > last.compressed && grown.is_some_and(|n| n <= 65536);
        if !ordered || block.compressed > file_size {
            return Err(damage("blocks out of order").place(format!("entry {entry}")));
        }
        blocks.push(block);
        last = block;
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn fai(text: &str, size: u64) -> Result<Vec<Entry>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ref.fa.fai");
        std::fs::write(&path, text).unwrap();
        read_fai(&path, size)
    }

    fn gzi(words: &[u64], size: u64) -> Result<Vec<Block>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ref.fa.gz.gzi");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(&path, bytes).unwrap();
        read_gzi(&path, size)
    }

    #[test]
    fn a_good_index_gives_the_place_of_every_base() {
        let entries = fai("a\t10\t3\t4\t5\nb c\t0\t20\t0\t0\nd\t3\t24\t3\t3\n", 27).unwrap();
        let places: Vec<_> = (0..10).map(|base| entries[0].at(base)).collect();
        assert_eq!(places, [3, 4, 5, 6, 8, 9, 10, 11, 13, 14]);
        let ends: Vec<_> = entries.iter().map(Entry::end).collect();
        assert_eq!(ends, [15, 20, 27]);
    }

    #[test]
    fn an_impossible_index_is_an_error_that_names_the_line() {
        let max = u64::MAX;
        for bad in [
            "b\t10\t3\t5\t4".to_string(),
            "b\t10\t3\t4\t4".to_string(),
            "b\t10\t3\t4\t7".to_string(),
            "b\t10\t3\t0\t1".to_string(),
            format!("b\t{max}\t3\t4\t5"),
            format!("b\t{max}\t3\t{max}\t{max}"),
            format!("b\t10\t{max}\t4\t5"),
            "b\t10\t1000\t4\t5".to_string(),
            "b\t10\t90\t4\t5".to_string(),
            "b\t10\t3\t4".to_string(),
            "b\t10\t3\t4\t5\t6".to_string(),
            "b\t-1\t3\t4\t5".to_string(),
            "\t10\t3\t4\t5".to_string(),
            "a\t10\t3\t4\t5".to_string(),
            String::new(),
            "x".repeat(10_000),
        ] {
            let error = fai(&format!("a\t10\t3\t4\t5\n{bad}\n"), 100).unwrap_err();
            assert_eq!(error.kind(), Kind::Input);
            let message = error.to_string();
            assert!(message.contains("ref.fa.fai: line 2: "), "{message}");
        }
        assert!(fai("", 100).is_err());
    }

    #[test]
    fn a_hostile_block_index_is_refused_without_allocating() {
        assert_eq!(gzi(&[0], 100).unwrap().len(), 1);
        assert_eq!(gzi(&[2, 30, 9, 60, 18], 100).unwrap()[2].compressed, 60);
        for words in [
            &[1 << 60][..],
            &[u64::MAX, 1, 2],
            &[2, 30, 9],
            &[1, 30, 9, 60, 18],
            &[2, 60, 18, 30, 9],
            &[2, 30, 18, 60, 9],
            &[1, 30, 70_000],
            &[1, 101, 9],
            &[1, 0, 0],
            &[],
        ] {
            let error = gzi(words, 100).unwrap_err();
            assert_eq!(error.kind(), Kind::Input, "{words:?}");
        }
    }
}
