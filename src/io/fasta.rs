//! FASTA, streamed: names and base codes in pieces, in memory that does not depend on the length
//! of a sequence or of a line.

use super::bases::{Counts, decode};
use super::other::other_format;
use super::read;
use crate::error::{Error, Result, printable};
use std::collections::HashMap;
use std::io::{BufRead, ErrorKind};

/// The longest name, in bytes.
pub const MAX_NAME: usize = 4096;

/// Reads FASTA: lines of any length, ended by LF or CRLF, blank lines anywhere, with or without
/// a newline at the end.
///
/// Every byte is checked, in skipped sequences too. Anything else than a base (IUPAC codes, `-`
/// and `*` read as N) is an error that names the sequence, the position (1-based) and the byte.
/// Names must be UTF-8, unique, not empty, of at most [`MAX_NAME`] bytes; they are kept until
/// the end, to find duplicates.
///
/// ```
/// # fn main() -> crocuta::Result<()> {
/// use crocuta::io::fasta::Reader;
/// use crocuta::sequence::{A, C, G, T};
/// let mut reader = Reader::new(&b">chr1 a comment\nAC\nGT\n"[..]);
/// let mut codes = Vec::new();
/// assert_eq!(reader.next_sequence()?.as_deref(), Some("chr1"));
/// assert_eq!(reader.read_bases(&mut codes, 100)?, 4);
/// assert_eq!(codes, [A, C, G, T]);
/// assert_eq!(reader.read_bases(&mut codes, 100)?, 0);
/// assert_eq!(reader.next_sequence()?, None);
/// # Ok(())
/// # }
/// ```
pub struct Reader<R> {
    input: R,
    /// 1-based number of the line that the next byte is on.
    line: u64,
    at_line_start: bool,
    inside: bool,
    name: String,
    length: u64,
    /// The line of each name.
    lines: HashMap<String, u64>,
    counts: Counts,
    allow_empty: bool,
    skipped: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: 1,
            at_line_start: true,
            inside: false,
            name: String::new(),
            length: 0,
            lines: HashMap::new(),
            counts: Counts::default(),
            allow_empty: false,
            skipped: Vec::new(),
        }
    }

    /// Takes a file without sequences for a good one.
    #[must_use]
    pub fn allow_empty(mut self, allow: bool) -> Self {
        self.allow_empty = allow;
        self
    }

    /// The next sequence's name, the header up to its first blank; `None` at the end. Skips what
    /// is left of the current sequence.
    pub fn next_sequence(&mut self) -> Result<Option<String>> {
        self.finish_sequence()?;
        loop {
            match self.peek()? {
                None if self.counts.sequences == 0 && !self.allow_empty => {
                    return Err(Error::input("no sequences"));
                }
                None => return Ok(None),
                Some(b'\n' | b'\r') => self.end_line()?,
                Some(b'>') => break,
                Some(byte) => {
                    let what = format!("expected '>', found {}", show(byte));
                    let todo = "is it FASTA?";
                    return Err(Error::input(what).place(self.place()).todo(todo));
                }
            }
        }
        self.header()?;
        Ok(Some(self.name.clone()))
    }

    /// Appends base codes of the current sequence until it ends or `max` (at least 1) were
    /// appended; returns how many. 0 is the sequence's end.
    pub fn read_bases(&mut self, codes: &mut Vec<u8>, max: usize) -> Result<usize> {
        let mut got = 0;
        while self.inside && got < max {
            if self.peek()?.is_none() {
                self.end_sequence();
                break;
            }
            let bytes = self.input.fill_buf().map_err(read::error)?;
            let room = bytes.len().min(max - got);
            let n = decode(&bytes[..room], codes, &mut self.counts);
            let stop = bytes[..room].get(n).copied();
            self.input.consume(n);
            got += n;
            self.length += n as u64;
            self.at_line_start &= n == 0;
            match stop {
                None => {}
                Some(b'\n' | b'\r') => self.end_line()?,
                Some(b'>') if self.at_line_start => self.end_sequence(),
                Some(byte) => {
                    let place = format!("{}:{}", self.name, self.length + 1);
                    if is_residue(byte) {
                        return Err(protein().place(place));
                    }
                    let what = format!("{} is not a base", show(byte));
                    let todo = format!("see line {}", self.line);
                    return Err(Error::input(what).place(place).todo(todo));
                }
            }
        }
        Ok(got)
    }

    /// Skips up to `n` bases of the current sequence; returns how many there were.
    pub fn skip_bases(&mut self, n: u64) -> Result<u64> {
        let mut left = n;
        let mut skipped = std::mem::take(&mut self.skipped);
        while left > 0 {
            skipped.clear();
            let got = self.read_bases(&mut skipped, left.min(1 << 16) as usize)?;
            if got == 0 {
                break;
            }
            left -= got as u64;
        }
        self.skipped = skipped;
        Ok(n - left)
    }

    /// Skips what is left of the current sequence; returns its length.
    pub fn finish_sequence(&mut self) -> Result<u64> {
        self.skip_bases(u64::MAX)?;
        Ok(self.length)
    }

    /// Whether the current sequence has no more bases.
    pub fn at_sequence_end(&mut self) -> Result<bool> {
        while self.inside {
            match self.peek()? {
                None => self.end_sequence(),
                Some(b'\n' | b'\r') => self.end_line()?,
                Some(b'>') if self.at_line_start => self.end_sequence(),
                Some(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// What was read so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    fn header(&mut self) -> Result<()> {
        let line = self.line;
        let place = format!("record {} (line {line})", self.counts.sequences + 1);
        self.input.consume(1);
        let mut name = Vec::new();
        self.skip_until(b" \t\r\n", |part| {
            name.extend_from_slice(&part[..part.len().min(MAX_NAME + 1 - name.len())]);
        })?;
        self.skip_until(b"\r\n", |_| {})?;
        self.end_line()?;
        let name = if name.is_empty() {
            Err("empty name".to_string())
        } else if name.len() > MAX_NAME {
            Err(format!("name longer than {MAX_NAME} bytes"))
        } else {
            String::from_utf8(name).map_err(|_| "the name is not UTF-8".to_string())
        };
        self.name = name.map_err(|what| Error::input(what).place(place))?;
        if let Some(first) = self.lines.insert(self.name.clone(), line) {
            let what = format!("duplicate sequence name \"{}\"", self.name);
            let place = format!("lines {first} and {line}");
            return Err(Error::input(what).place(place));
        }
        self.length = 0;
        self.inside = true;
        self.counts.sequences += 1;
        Ok(())
    }

    /// Skips up to one of `stops` or the end, showing `see` what is skipped.
    fn skip_until(&mut self, stops: &[u8], mut see: impl FnMut(&[u8])) -> Result<()> {
        loop {
            self.peek()?;
            let bytes = self.input.fill_buf().map_err(read::error)?;
            let stop = bytes.iter().position(|byte| stops.contains(byte));
            let n = stop.unwrap_or(bytes.len());
            see(&bytes[..n]);
            self.input.consume(n);
            if stop.is_some() || n == 0 {
                return Ok(());
            }
        }
    }

    /// Goes past LF or CRLF, which is next unless the file ends here.
    fn end_line(&mut self) -> Result<()> {
        if self.peek()? == Some(b'\r') {
            self.input.consume(1);
            if self.peek()? != Some(b'\n') {
                let what = "carriage return without a line feed";
                let todo = "are these line ends of an old Mac? convert them";
                return Err(Error::input(what).place(self.place()).todo(todo));
            }
        }
        if self.peek()?.is_some() {
            self.input.consume(1);
            self.line += 1;
            self.at_line_start = true;
        }
        Ok(())
    }

    fn end_sequence(&mut self) {
        self.inside = false;
        if self.length == 0 {
            self.counts.empty += 1;
            let name = printable(&self.name);
            tracing::warn!(
                "sequence {name} (line {}) has no bases",
                self.lines[&self.name]
            );
        }
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        loop {
            match self.input.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(read::error(error)),
            }
        }
    }

    fn place(&self) -> String {
        format!("line {}", self.line)
    }
}

/// What is looked at before any work.
const LOOKED_AT: usize = 1 << 12;

/// Looks at the first bytes of an input, so that what is no FASTA of bases is known before any work.
///
/// # Errors
/// Input: it is of another format, or holds proteins; those of the reader.
pub fn look(input: &mut impl BufRead) -> Result<()> {
    let start = input.fill_buf().map_err(read::error)?;
    let text = start[..start.len().min(LOOKED_AT)].trim_ascii_start();
    if let Some(error) = other_format(text, "FASTA") {
        return Err(error);
    }
    let Some((b'>', record)) = text.split_first() else {
        return Ok(());
    };
    let end = record.iter().position(|byte| *byte == b'\n');
    let (header, bases) = record.split_at(end.unwrap_or(record.len()));
    let bases = bases.split(|byte| *byte == b'>').next().unwrap_or_default();
    let mut bases = bases.iter().filter(|byte| !byte.is_ascii_whitespace());
    let Some(at) = bases.position(|byte| is_residue(*byte)) else {
        return Ok(());
    };
    let name = header.split(u8::is_ascii_whitespace).next();
    let name = String::from_utf8_lossy(name.unwrap_or_default());
    Err(protein().place(format!("{name}:{}", at + 1)))
}

/// A letter that stands for an amino acid, and for no base.
fn is_residue(byte: u8) -> bool {
    b"EFILPQZ".contains(&byte.to_ascii_uppercase())
}

fn protein() -> Error {
    Error::input("letters of a protein").todo("give the DNA: crocuta reads no amino acids")
}

/// A byte as hex, and as a character if it can be seen.
fn show(byte: u8) -> String {
    match byte {
        b'!'..=b'~' => format!("byte {byte:#04x} ('{}')", char::from(byte)),
        _ => format!("byte {byte:#04x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::io::testing::logged;
    use crate::sequence::{A, C, G, N, SOFT_MASKED, T};
    use proptest::prelude::*;
    use std::io::BufReader;

    type Records = Vec<(String, Vec<u8>)>;

    fn read_with(text: &[u8], buffer: usize, max: usize) -> Result<Records> {
        let mut reader = Reader::new(BufReader::with_capacity(buffer, text));
        let mut records = vec![];
        while let Some(name) = reader.next_sequence()? {
            let mut codes = vec![];
            while reader.read_bases(&mut codes, max)? > 0 {}
            assert_eq!(reader.finish_sequence()?, codes.len() as u64);
            records.push((name, codes));
        }
        assert!(reader.next_sequence()?.is_none());
        Ok(records)
    }

    fn read(text: &[u8]) -> Result<Records> {
        read_with(text, 8192, 1000)
    }

    fn failure(text: &[u8]) -> String {
        let error = read(text).unwrap_err();
        assert_eq!(error.kind(), Kind::Input);
        error.to_string()
    }

    fn record(name: &str, codes: &[u8]) -> (String, Vec<u8>) {
        (name.to_string(), codes.to_vec())
    }

    #[test]
    fn line_ends_and_widths_do_not_matter() {
        let expected = [record("a", &[A, C, G, T, A]), record("b", &[T])];
        for text in [
            ">a\nACGTA\n>b\nT\n",
            ">a\r\nACG\r\nTA\r\n>b\r\nT\r\n",
            "\n\r\n\n>a c d\nA\nC\nG\nT\nA\n\n>b\tx\n\nT",
            ">a é\nAC\r\nGTA\n>b\nT\n\n\n",
        ] {
            assert_eq!(read(text.as_bytes()).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_without_sequences_is_an_error() {
        for text in ["", "\n\n"] {
            assert!(failure(text.as_bytes()).contains("no sequences"));
            let mut reader = Reader::new(text.as_bytes()).allow_empty(true);
            assert_eq!(reader.next_sequence().unwrap(), None);
        }
    }

    #[test]
    fn what_is_not_fasta_is_an_error_that_names_the_byte() {
        let cases = [
            ("ACGT\n", "line 1: expected '>', found byte 0x41 ('A')"),
            (
                "\n;x\n>a\nA\n",
                "line 2: expected '>', found byte 0x3b (';')",
            ),
            ("\u{feff}>a\nA\n", "line 1: expected '>', found byte 0xef"),
            (" >a\nA\n", "found byte 0x20"),
        ];
        for (text, message) in cases {
            let found = failure(text.as_bytes());
            assert!(found.contains(message), "{found}");
        }
    }

    #[test]
    fn bad_names_are_errors() {
        for text in [">\nA\n", "> a\nA\n", ">\r\nA\r\n", ">"] {
            let found = failure(text.as_bytes());
            assert!(found.contains("record 1"), "{found}");
            assert!(found.contains("empty name"), "{found}");
        }
        let long = |n| format!(">b\nA\n>{}\nA\n", "x".repeat(n));
        assert!(read(long(MAX_NAME).as_bytes()).is_ok());
        assert!(failure(long(MAX_NAME + 1).as_bytes()).contains("record 2 (line 3): name longer"));
        assert!(failure(b">chr\xe9\nA\n").contains("not UTF-8"));
        let found = failure(b">a\nA\n\n>b\nA\n>a x\nC\n");
        assert_eq!(found, "lines 1 and 6: duplicate sequence name \"a\"");
    }

    #[test]
    fn names_may_hold_anything_and_print_escaped() {
        let records = read(b">../../etc/passwd\nA\n>\x1b[31m\nC\n").unwrap();
        assert_eq!(records[0].0, "../../etc/passwd");
        assert_eq!(records[1].0, "\x1b[31m");
        assert!(failure(b">\x1b[31m\nC!\n").starts_with("\\x1b[31m:2: byte 0x21"));
    }

    #[test]
    fn a_byte_that_is_not_a_base_is_an_error_with_its_position() {
        for (text, message) in [
            (&b">a\nAC GT12\0*\n"[..], "a:3: byte 0x20 is not a base"),
            (b">b\nA\n>a\nAC\n>c\nAC\nGT\n1\n", "c:5: byte 0x31 ('1')"),
            (b">a\nAC\0\n", "a:3: byte 0x00"),
            (b">a\nAC\xff\n", "a:3: byte 0xff"),
            (b">a\nAC>GT\nTT\n", "a:3: byte 0x3e ('>')"),
        ] {
            let found = failure(text);
            assert!(found.contains(message), "{found}");
        }
    }

    #[test]
    fn carriage_returns_alone_are_an_error() {
        for text in [
            ">a\rACGT\r>b\rAC\r",
            ">a x\rACGT\r",
            ">a\nAC\rGT\n",
            ">a\nAC\r",
        ] {
            let found = failure(text.as_bytes());
            assert!(found.contains("carriage return"), "{found}");
        }
    }

    #[test]
    fn an_empty_sequence_is_counted_and_warned_about() {
        let (records, log) = logged(|| read(b">a\nA\n>b\n>c\nC\n>d\n\n").unwrap());
        let lengths: Vec<_> = records.iter().map(|(_, codes)| codes.len()).collect();
        assert_eq!(lengths, [1, 0, 1, 0]);
        assert_eq!(log.matches("has no bases").count(), 2);
        let mut reader = Reader::new(&b">a\n\n>b\nA\n"[..]);
        reader.next_sequence().unwrap();
        assert!(reader.at_sequence_end().unwrap());
        reader.next_sequence().unwrap();
        assert!(!reader.at_sequence_end().unwrap());
        assert_eq!(reader.counts().empty, 1);
    }

    #[test]
    fn skipped_bases_are_checked_and_counted() {
        let mut reader = Reader::new(&b">a\nACgt\nNR\n>b\nAC.\n"[..]);
        assert_eq!(reader.next_sequence().unwrap().unwrap(), "a");
        assert_eq!(reader.skip_bases(3).unwrap(), 3);
        let mut codes = vec![];
        assert_eq!(reader.read_bases(&mut codes, 2).unwrap(), 2);
        assert_eq!(codes, [T | SOFT_MASKED, N]);
        assert_eq!(reader.next_sequence().unwrap().unwrap(), "b");
        let counts = reader.counts();
        assert_eq!((counts.bases, counts.n, counts.soft_masked), (6, 1, 2));
        assert_eq!(counts.ambiguous_total(), 1);
        let error = reader.next_sequence().unwrap_err().to_string();
        assert!(error.starts_with("b:3: byte 0x2e"), "{error}");
    }

    #[test]
    fn one_long_line_equals_the_wrapped_form() {
        let bases = b"ACGTTGCANN".repeat(100_000);
        let one = [b">a\n", &bases[..], b"\n"].concat();
        let mut wrapped = b">a\n".to_vec();
        for line in bases.chunks(1) {
            wrapped.extend(line);
            wrapped.push(b'\n');
        }
        let expected = read_with(&one, 8192, 4096).unwrap();
        assert_eq!(expected[0].1.len(), bases.len());
        assert!(read_with(&wrapped, 8192, 4096).unwrap() == expected);
    }

    proptest! {
        /// The same records, or the same error, whatever the buffers' sizes.
        #[test]
        fn buffer_sizes_do_not_matter(
            text in "(>[ab] ?[x>]{0,3}|[ACgtNR]{0,9}|[ACGT]{1,3}[>;1 \r][ACGT]{1,3})(\n|\r\n|)",
            more in "(>c[ y>]{0,2}\r?\n|[ACgtNR]{1,9}\n|[AC]>[GT]\n|\n|\r){0,6}",
            buffer in 1usize..64,
            max in 1usize..20,
        ) {
            let text = format!(">s\n{text}{more}");
            let expected = read(text.as_bytes()).map_err(|error| error.to_string());
            let found = read_with(text.as_bytes(), buffer, max).map_err(|error| error.to_string());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_header_sign_in_mid_line_is_the_same_error(buffer in 1usize..64, at in 1usize..40) {
            let text = format!(">a\n{}>GT\nTT\n", "A".repeat(at));
            let error = read_with(text.as_bytes(), buffer, 7).unwrap_err().to_string();
            prop_assert_eq!(error, format!("a:{}: byte 0x3e ('>') is not a base: see line 2", at + 1));
        }

        /// Any bytes: an answer, never a panic.
        #[test]
        fn any_bytes_are_read_or_refused(text: Vec<u8>, buffer in 1usize..64) {
            let _ = read_with(&[b">", &text[..]].concat(), buffer, 5);
        }
    }
}
