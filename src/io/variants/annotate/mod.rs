//! VCF with scores in its INFO column: every byte of the input stays, in its order; the header
//! gains one line for each field, and INFO gains the fields.
//!
//! The output is BGZF, and has its index beside it: `.tbi`, or `.csi` where positions go beyond
//! 2^29. Both appear only when finished.

use super::header::{Header, structured, trim_end};
use super::index::Index;
use crate::error::{Error, Kind, Result, printable};
use crate::io::atomic::{AtomicFile, OutputSet, Written};
use noodles::bgzf;
use std::io::Write;
use std::path::PathBuf;

/// The meta-information line that says where the fields come from: `##crocuta=<source>`.
const SOURCE: &[u8] = b"##crocuta=";

/// A field that INFO gains: one value for each alternate allele (`Number=A`).
#[derive(Clone, Debug)]
pub struct Field {
    /// Its key, as `CRO_DLL`: letters, digits and `_`.
    pub id: &'static str,
    /// What its values are.
    pub kind: FieldKind,
    /// What it means, in one line.
    pub description: String,
}

/// What the values of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Numbers.
    Float,
    /// Words.
    Text,
}

/// A value of a field for one allele.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Not known: `.`.
    Missing,
    /// A number; what is not finite is written as missing.
    Float(f32),
    /// A word; what VCF does not allow in a value is percent-encoded.
    Text(&'a str),
}

/// Writes an annotated VCF. Memory: one line, and an index of at most 128 MiB, for usual genomes
/// below 1 MiB.
///
/// ```no_run
/// # fn main() -> crocuta::Result<()> {
/// use crocuta::io::atomic::OutputSet;
/// use crocuta::io::variants::{Options, Reader};
/// use crocuta::io::variants::annotate::{Annotator, Field, FieldKind, Value};
/// let mut reader = Reader::open("in.bcf".as_ref(), &Options::default())?;
/// let fields = vec![Field {
///     id: "CRO_DLL",
///     kind: FieldKind::Float,
///     description: "log-likelihood of ALT less that of REF".to_string(),
/// }];
/// let outputs = OutputSet::default();
/// let out = (outputs.create("out.vcf.gz".as_ref(), false)?, false);
/// let mut out = Annotator::create(&outputs, out, reader.header(), fields, "0.1")?;
/// while let Some(record) = reader.next_record()? {
///     let alleles: Vec<_> = record.alternates.iter().map(|_| vec![Value::Float(0.5)]).collect();
///     out.annotate(reader.line(), &alleles)?;
/// }
/// out.finish()?;
/// outputs.commit()?;
/// # Ok(())
/// # }
/// ```
pub struct Annotator {
    out: bgzf::io::Writer<AtomicFile>,
    path: PathBuf,
    fields: Vec<Field>,
    line: Vec<u8>,
    /// `None` for an output that is no file.
    index: Option<Index>,
}

impl Annotator {
    /// Writes to `file`, one of the outputs of a run, that replaces earlier indexes if `force`: the
    /// header first, `header` with the fields, and `source`, what they were made with. Fields of the same key that an earlier run wrote
    /// are replaced.
    ///
    /// # Errors
    /// As [`AtomicFile::create`], for the VCF and its index; Usage for a name that ends in `.vcf`
    /// or `.bcf`, since it is neither plain text nor BCF.
    pub fn create(
        outputs: &OutputSet,
        (file, force): (AtomicFile, bool),
        header: &Header,
        fields: Vec<Field>,
        source: &str,
    ) -> Result<Self> {
        let path = file.path().to_path_buf();
        let path = path.as_path();
        let extension = path.extension().unwrap_or_default();
        if extension == "vcf" || extension == "bcf" {
            return Err(Error::usage("the annotated VCF is compressed")
                .file(path.display())
                .todo("name it .vcf.gz"));
        }
        let index = if file.is_stream() {
            None
        } else {
            Some(Index::create(path, outputs, force)?)
        };
        let mut annotator = Self {
            out: bgzf::io::Writer::new(file),
            path: path.to_path_buf(),
            fields,
            line: Vec::new(),
            index,
        };
        annotator.write_header(header, source)?;
        Ok(annotator)
    }

    fn write_header(&mut self, header: &Header, source: &str) -> Result<()> {
        let mut text = Vec::new();
        let line_end = &header.columns[trim_end(&header.columns).len()..];
        for line in header.lines() {
            let info = structured(trim_end(line), "INFO").unwrap_or_default();
            let mut ids = info.iter().filter(|(key, _)| key == "ID");
            let is_ours = ids.any(|(_, id)| self.fields.iter().any(|field| field.id == id));
            if !is_ours && !line.starts_with(SOURCE) {
                text.extend_from_slice(line);
            }
        }
        text.extend_from_slice(SOURCE);
        text.extend_from_slice(printable(source).as_bytes());
        text.extend_from_slice(line_end);
        for field in &self.fields {
            let id = field.id;
            let kind = match field.kind {
                FieldKind::Float => "Float",
                FieldKind::Text => "String",
            };
            let description = printable(&field.description);
            let description = description.replace('\\', "\\\\").replace('"', "\\\"");
            let line =
                format!("##INFO=<ID={id},Number=A,Type={kind},Description=\"{description}\">");
            text.extend_from_slice(line.as_bytes());
            text.extend_from_slice(line_end);
        }
        text.extend_from_slice(&header.columns);
        let written = self.out.write_all(&text);
        written.map_err(|error| Error::io(&self.path, &error))
    }

    /// Writes one record: `line` as [`super::Reader::line`] gives it, and for each alternate
    /// allele, in order, the values of the fields, in order. A record whose ALT is `.` has no
    /// alternate allele for VCF, and is written without fields.
    ///
    /// # Errors
    /// Io; Internal, if there are not as many alleles or values as there should be.
    pub fn annotate(&mut self, line: &[u8], alleles: &[Vec<Value>]) -> Result<()> {
        let body = trim_end(line);
        let mut columns = body.splitn(9, |&byte| byte == b'\t');
        let mut column = || columns.next().unwrap_or_default();
        let (chrom, pos, _) = (column(), column(), column());
        let (reference, alternates) = (column(), column());
        let info = [column(), column(), column()][2];
        if info.is_empty() || alleles.len() != alternates.split(|&byte| byte == b',').count() {
            let what = "annotation of a line that has other alleles";
            return Err(Error::new(Kind::Internal, what));
        }
        if alleles
            .iter()
            .any(|values| values.len() != self.fields.len())
        {
            return Err(Error::new(Kind::Internal, "annotation with other fields"));
        }
        // Where INFO lies within the line.
        let after = columns.next().map_or(0, |rest| rest.len() + 1);
        let end = body.len() - after;
        self.line.clear();
        self.line.extend_from_slice(&line[..end - info.len()]);
        let alleles = if alternates == b"." { &[] } else { alleles };
        self.push_info(info, alleles);
        self.line.extend_from_slice(&line[end..]);

        let start = self.out.virtual_position();
        let written = self.out.write_all(&self.line);
        written.map_err(|error| Error::io(&self.path, &error))?;
        if let Some(index) = &mut self.index {
            let chrom = String::from_utf8_lossy(chrom);
            let first = number(pos).unwrap_or(0).max(1);
            let last = first
                .saturating_add(reference.len() as u64)
                .saturating_sub(1);
            let declared = info.split(|&byte| byte == b';');
            let declared = declared.filter_map(|entry| number(entry.strip_prefix(b"END=")?));
            let last = declared.fold(last, u64::max);
            index.add(&chrom, first, last, (start, self.out.virtual_position()));
        }
        Ok(())
    }

    fn push_info(&mut self, info: &[u8], alleles: &[Vec<Value>]) {
        let start = self.line.len();
        let key = |entry: &[u8]| entry.iter().position(|&byte| byte == b'=');
        let is_ours = |entry: &[u8]| {
            let key = &entry[..key(entry).unwrap_or(entry.len())];
            self.fields.iter().any(|field| field.id.as_bytes() == key)
        };
        let entries = || info.split(|&byte| byte == b';');
        if info == b"." {
        } else if entries().any(is_ours) {
            for entry in entries().filter(|entry| !is_ours(entry)) {
                separate(&mut self.line, start, b';');
                self.line.extend_from_slice(entry);
            }
        } else {
            self.line.extend_from_slice(info);
        }
        if self.line.len() > start && self.line.ends_with(b";") && !alleles.is_empty() {
            self.line.pop();
        }
        if !alleles.is_empty() {
            for (i, field) in self.fields.iter().enumerate() {
                separate(&mut self.line, start, b';');
                self.line.extend_from_slice(field.id.as_bytes());
                self.line.push(b'=');
                let start = self.line.len();
                for values in alleles {
                    separate(&mut self.line, start, b',');
                    push_value(&mut self.line, values[i]);
                }
            }
        }
        if self.line.len() == start {
            self.line.push(b'.');
        }
    }

    /// Brings the VCF and its index to disk; they get their names with their set.
    ///
    /// # Errors
    /// Io, or Usage if a file of that name appeared; as [`AtomicFile::finish`].
    pub fn finish(self) -> Result<Written> {
        let file = self.out.finish();
        let file = file.map_err(|error| Error::io(&self.path, &error))?;
        if let Some(index) = self.index {
            index.finish()?;
        }
        file.finish()
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Appends `separator` unless nothing was appended since `start`.
fn separate(line: &mut Vec<u8>, start: usize, separator: u8) {
    if line.len() > start {
        line.push(separator);
    }
}

fn push_value(line: &mut Vec<u8>, value: Value) {
    match value {
        Value::Float(value) if value.is_finite() => super::push_float(line, value),
        Value::Missing | Value::Float(_) | Value::Text("") => line.push(b'.'),
        Value::Text(text) => {
            for byte in text.bytes() {
                match byte {
                    b'!'..=b'~' if !b":;=%,".contains(&byte) => line.push(byte),
                    _ => line.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
