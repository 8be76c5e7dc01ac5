//! The header of a VCF: its lines as they are, and the little of them that is used.

use crate::error::{Error, Result};

/// How a VCF begins; its version follows.
pub(super) const VERSION: &[u8] = b"##fileformat=";

const COLUMNS: [&str; 8] = [
    "#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO",
];

/// The header of a VCF or BCF.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The lines before the column line, with their ends.
    pub text: Vec<u8>,
    /// The column line, with its end.
    pub columns: Vec<u8>,
    /// The contigs that the header declares, with their lengths if given; it may declare none.
    pub contigs: Vec<(String, Option<u64>)>,
    /// The samples' names.
    pub samples: Vec<String>,
    /// How many columns a record has.
    pub(super) width: usize,
}

impl Header {
    /// Takes the next line; false if it was the last.
    pub(super) fn push(&mut self, line: &[u8]) -> Result<bool> {
        let text = trim_end(line);
        if self.text.is_empty() {
            check_version(text)?;
        }
        if text.starts_with(b"##") {
            if let Some(fields) = structured(text, "contig") {
                self.push_contig(&fields);
            }
            self.text.extend_from_slice(line);
            return Ok(true);
        }
        if !text.starts_with(b"#CHROM") {
            let what = "expected a header line, found none that begins with ## or #CHROM";
            return Err(Error::input(what));
        }
        self.push_columns(text)?;
        self.columns = line.to_vec();
        if !line.ends_with(b"\n") {
            // The last line of a BCF's header.
            self.columns.push(b'\n');
        }
        Ok(false)
    }

    fn push_contig(&mut self, fields: &[(String, String)]) {
        let value = |key| {
            let mut found = fields.iter().filter(|(name, _)| name == key);
            found.next().map(|(_, value)| value.clone())
        };
        if let Some(name) = value("ID") {
            let length = value("length").and_then(|length| length.parse().ok());
            self.contigs.push((name, length));
        }
    }

    fn push_columns(&mut self, text: &[u8]) -> Result<()> {
        // Samples' names may be in another encoding; the line itself is kept as it is.
        let text = decoded(text);
        let names: Vec<&str> = text.split('\t').collect();
        if names.len() < COLUMNS.len() || names[..COLUMNS.len()] != COLUMNS {
            let what = "the column line does not begin with the eight columns of VCF";
            return Err(Error::input(what).todo("separate columns by tabs"));
        }
        match names.get(COLUMNS.len()) {
            None | Some(&"FORMAT") => {}
            Some(other) => {
                let what = format!("column 9 is \"{other}\" instead of FORMAT");
                return Err(Error::input(what));
            }
        }
        self.width = names.len();
        let samples = names.into_iter().skip(COLUMNS.len() + 1);
        self.samples = samples.map(str::to_string).collect();
        Ok(())
    }

    /// The column of a sample, from 0.
    pub(super) fn sample(&self, name: &str) -> Result<usize> {
        let mut found = (0..self.samples.len()).filter(|&i| self.samples[i] == name);
        match (found.next(), found.next()) {
            (Some(column), None) => Ok(column),
            (Some(_), Some(_)) => Err(Error::usage(format!("two samples are called \"{name}\""))),
            _ => {
                let first: Vec<_> = self.samples.iter().take(5).map(String::as_str).collect();
                let todo = match self.samples.len() {
                    0 => "it has no samples".to_string(),
                    n => format!("it has {n}: {}", first.join(", ")),
                };
                Err(Error::usage(format!("no sample is called \"{name}\"")).todo(todo))
            }
        }
    }

    /// The fields of INFO that the header declares: their names, and how many values each has
    /// (`A`, `R`, `.`, a number).
    pub fn fields(&self) -> Vec<(String, String)> {
        let declared = self
            .lines()
            .filter_map(|line| structured(trim_end(line), "INFO"));
        let field = |fields: Vec<(String, String)>| {
            let value = |key: &str| fields.iter().find(|(name, _)| name == key);
            Some((value("ID")?.1.clone(), value("Number")?.1.clone()))
        };
        declared.filter_map(field).collect()
    }

    /// The lines before the column line, each with its end.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split_inclusive(|&byte| byte == b'\n')
    }

    /// Takes the `IDX=` fields out of the lines, which mean something in a BCF only.
    pub(super) fn forget_dictionary(&mut self) {
        let mut text = Vec::new();
        for line in self.lines() {
            let start = line.windows(5).rposition(|part| part == b",IDX=");
            let digits = start.map(|at| &line[at + 5..]).unwrap_or_default();
            let end = digits.iter().position(|byte| !byte.is_ascii_digit());
            match (start, end) {
                (Some(start), Some(end)) if digits[end] == b'>' => {
                    text.extend_from_slice(&line[..start]);
                    text.extend_from_slice(&digits[end..]);
                }
                _ => text.extend_from_slice(line),
            }
        }
        self.text = text;
    }
}

/// Text in UTF-8; if it is not, each byte is a letter of Latin-1, as in many older files.
pub fn decoded(text: &[u8]) -> String {
    match std::str::from_utf8(text) {
        Ok(text) => text.to_string(),
        Err(_) => text.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// The error for a file that is something else.
pub(super) fn no_version() -> Error {
    let what = "neither VCF nor BCF: the first line is not ##fileformat=VCFv4";
    Error::input(what).todo("is it a VCF?")
}

/// Fails unless `line` says that this is VCF 4.
fn check_version(line: &[u8]) -> Result<()> {
    let version = line.strip_prefix(VERSION).ok_or_else(no_version)?;
    match version.strip_prefix(b"VCFv4.") {
        Some(minor) if !minor.is_empty() && minor.iter().all(u8::is_ascii_digit) => Ok(()),
        _ => {
            let version = String::from_utf8_lossy(version).into_owned();
            let what = format!("version \"{version}\" is not VCFv4");
            Err(Error::input(what).todo("convert it with bcftools"))
        }
    }
}

/// A line without its end.
pub(super) fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The fields of `##<kind>=<KEY=VALUE,KEY="VALUE">`; `None` for another line.
pub(super) fn structured(line: &[u8], kind: &str) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(line).ok()?;
    let text = text.strip_prefix("##")?.strip_prefix(kind)?;
    let mut rest = text.strip_prefix("=<")?.strip_suffix('>')?;
    let mut fields = Vec::new();
    while let Some((key, value)) = rest.split_once('=') {
        let end = if value.starts_with('"') {
            closing_quote(value)?
        } else {
            value.find(',').unwrap_or(value.len())
        };
        let (value, after) = value.split_at(end);
        fields.push((key.to_string(), value.trim_matches('"').to_string()));
        rest = after.strip_prefix(',').unwrap_or("");
    }
    Some(fields)
}

/// One past the quote that closes the one at the beginning.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}
