//! The header of an alignment file: its text, and the dictionary of contigs.

use crate::error::{Error, Result};
use crate::io::read;
use crate::sequence::Contig;
use std::collections::HashSet;
use std::io::Read;

/// The largest header, in bytes of text.
const MAX_TEXT: usize = 1 << 28;
/// The longest name of a contig, in bytes.
const MAX_NAME: usize = 4096;

/// What a file says before its first record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The lines that begin with `@`, each with its line end; empty for FASTQ.
    pub text: String,
    /// The contigs that records refer to by number.
    pub contigs: Vec<Contig>,
}

/// Bytes that a count in the file asks for, as far as they are there.
pub(super) fn bytes(input: &mut impl Read, count: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = input.take(count as u64).read_to_end(&mut bytes);
    read.map_err(crate::io::read::error)?;
    if bytes.len() == count {
        Ok(bytes)
    } else {
        Err(Error::input(format!("truncated {what}")))
    }
}

/// A number of four bytes that may not be negative.
pub(super) fn count(input: &mut impl Read, what: &str) -> Result<usize> {
    let mut word = [0; 4];
    if read::up_to(input, &mut word)? < 4 {
        return Err(Error::input(format!("truncated {what}")));
    }
    let number = i32::from_le_bytes(word);
    usize::try_from(number).map_err(|_| Error::input(format!("{what}: a count of {number}")))
}

/// Whether a line is of a kind, such as `@SQ`.
fn is_of(line: &str, kind: &str) -> bool {
    let rest = line.strip_prefix(kind);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('\t'))
}

/// The value of a field such as `SN:` of a header line.
fn value<'a>(line: &'a str, field: &str) -> Option<&'a str> {
    let mut fields = line.split('\t').skip(1);
    fields.find_map(|part| part.strip_prefix(field))
}

/// The contig that a header line names, if it is one of `@SQ`.
fn contig(line: &str) -> Result<Option<Contig>> {
    let kind = line.as_bytes().get(1..3).unwrap_or_default();
    let named = kind.len() == 2 && kind.iter().all(u8::is_ascii_alphabetic);
    let ends = matches!(line.as_bytes().get(3), None | Some(b'\t'));
    // Comments are free text, with a tab before it or without.
    let is_comment = line.starts_with("@CO");
    if !(is_comment || line.starts_with('@') && named && ends) {
        let shown: String = line.chars().take(12).collect();
        let what = format!("invalid header: \"{shown}\" is not '@', two letters and a tab");
        return Err(Error::input(what));
    }
    if !is_of(line, "@SQ") {
        return Ok(None);
    }
    let missing = |field: &str| Error::input(format!("invalid header: a contig without {field}"));
    let name = value(line, "SN:").filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| missing("SN"))?.to_string();
    let length = value(line, "LN:").ok_or_else(|| missing("LN"))?;
    match length.trim().parse::<i32>() {
        Ok(length) if length >= 0 => Ok(Some(Contig {
            name,
            length: length.unsigned_abs().into(),
        })),
        _ => {
            let what = format!("invalid header: contig \"{name}\" has the length \"{length}\"");
            Err(Error::input(what))
        }
    }
}

impl Header {
    /// Reads a BAM header (section 4.2), magic included.
    ///
    /// # Errors
    /// Input: truncated, a size that cannot be, a name twice.
    pub fn read(input: &mut impl Read) -> Result<Self> {
        bytes(input, 4, "BAM header")?;
        let size = count(input, "BAM header")?;
        if size > MAX_TEXT {
            return Err(Error::input(format!("a header of {size} bytes")));
        }
        let mut text = bytes(input, size, "BAM header")?;
        // Padded with NUL by some writers.
        text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(size));
        let mut text = String::from_utf8_lossy(&text).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let contigs = count(input, "BAM header")?;
        let mut header = Self {
            text,
            contigs: Vec::new(),
        };
        for i in 0..contigs {
            let place = |error: Error| error.place(format!("reference {} of {contigs}", i + 1));
            let size = count(input, "BAM header").map_err(place)?;
            if !(2..=MAX_NAME).contains(&size) {
                return Err(place(Error::input(format!("a name of {size} bytes"))));
            }
            let name = bytes(input, size, "BAM header").map_err(place)?;
            let name = name.strip_suffix(&[0]).unwrap_or(&name).to_vec();
            let name = String::from_utf8(name)
                .map_err(|_| place(Error::input("its name is not UTF-8")))?;
            let length = count(input, "BAM header").map_err(place)? as u64;
            header.contigs.push(Contig { name, length });
        }
        header.check_names()?;
        Ok(header)
    }

    /// The header of SAM's lines (section 1.3), each with its line end. Only `@SQ` is looked into:
    /// what else samtools writes or passes on, such as an empty `VN:` or an identifier twice, is
    /// text that is handed on.
    ///
    /// # Errors
    /// Input, naming the line: no header line, or a contig without a name or a length, or twice.
    pub fn of_text(text: String) -> Result<Self> {
        let mut contigs = Vec::new();
        for (number, line) in (1u64..).zip(text.lines()) {
            let contig = contig(line);
            let contig = contig.map_err(|error| error.place(format!("line {number}")))?;
            contigs.extend(contig);
        }
        let header = Self { text, contigs };
        header.check_names()?;
        Ok(header)
    }

    /// The values of a field in all lines of a kind, in their order: `None` where it is missing.
    pub(super) fn values<'a>(
        &'a self,
        kind: &'a str,
        field: &'a str,
    ) -> impl Iterator<Item = Option<&'a str>> {
        let lines = self.text.lines().filter(move |line| is_of(line, kind));
        lines.map(move |line| value(line, field))
    }

    /// Fails if a contig's name comes twice.
    fn check_names(&self) -> Result<()> {
        let mut seen = HashSet::new();
        match self
            .contigs
            .iter()
            .find(|contig| !seen.insert(&contig.name))
        {
            None => Ok(()),
            Some(contig) => {
                let what = format!("duplicate reference \"{}\" in the header", contig.name);
                Err(Error::input(what))
            }
        }
    }

    /// Whether the text says that records are in the order of coordinates.
    pub fn is_sorted(&self) -> bool {
        let first = self.text.lines().find(|line| line.starts_with("@HD\t"));
        first.is_some_and(|line| line.split('\t').any(|field| field == "SO:coordinate"))
    }

    /// The text with a line for this program, which ran after those that are named in it;
    /// `source`: what it ran with.
    pub fn with_program(&self, source: &str) -> String {
        let programs = self.text.lines().filter(|line| line.starts_with("@PG\t"));
        let id = |line: &str| {
            let mut fields = line.split('\t');
            let id = fields.find_map(|field| field.strip_prefix("ID:"));
            id.map(str::to_string)
        };
        let ids: Vec<String> = programs.filter_map(id).collect();
        let own = |n: usize| match n {
            0 => "crocuta".to_string(),
            _ => format!("crocuta.{n}"),
        };
        let own = (0..=ids.len()).map(own).find(|own| !ids.contains(own));
        let before = ids.last().map_or(String::new(), |id| format!("\tPP:{id}"));
        let version = env!("CARGO_PKG_VERSION");
        let own = own.unwrap_or_default();
        let source = crate::error::printable(source);
        format!(
            "{}@PG\tID:{own}\tPN:crocuta{before}\tVN:{version}\tCL:{source}\n",
            self.text
        )
    }

    /// A BAM header with this text.
    pub fn to_bam(&self, text: &str) -> Vec<u8> {
        let mut out = b"BAM\x01".to_vec();
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
        out.extend((self.contigs.len() as u32).to_le_bytes());
        for contig in &self.contigs {
            out.extend((contig.name.len() as u32 + 1).to_le_bytes());
            out.extend(contig.name.as_bytes());
            out.push(0);
            out.extend((contig.length as u32).to_le_bytes());
        }
        out
    }
}
