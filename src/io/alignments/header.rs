//! The header of an alignment file: its text, and the dictionary of contigs.

use crate::error::{Error, Result};
use crate::io::bgzf::read_up_to;
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
    read.map_err(crate::io::input::error)?;
    if bytes.len() == count {
        Ok(bytes)
    } else {
        Err(Error::input(format!("truncated {what}")))
    }
}

/// A number of four bytes that may not be negative.
pub(super) fn count(input: &mut impl Read, what: &str) -> Result<usize> {
    let mut word = [0; 4];
    if read_up_to(input, &mut word)? < 4 {
        return Err(Error::input(format!("truncated {what}")));
    }
    let number = i32::from_le_bytes(word);
    usize::try_from(number).map_err(|_| Error::input(format!("{what}: a count of {number}")))
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
