//! VCF with scores in its INFO column: every byte of the input stays, in its order; the header
//! gains one line for each field, and INFO gains the fields.
//!
//! The name's end says what is written: `.vcf` text, `.bcf` BCF, any other BGZF. Compressed files
//! have their index beside them: `.tbi`, or `.csi` of a BCF and where positions go beyond 2^29. All
//! appear only when finished.

use super::Reader;
use super::bcf::Encoder;
use super::header::{Header, structured, trim_end};
use super::index::Index;
use crate::error::{Error, Kind, Result, printable};
use crate::io::atomic::{AtomicFile, OutputSet, Written};
use crate::io::text::{TextFile, push_number};
use std::io::Write;
use std::path::{Path, PathBuf};

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
    out: TextFile,
    /// Of a BCF: what makes records of lines, and the last one.
    bcf: Option<(Encoder, Vec<u8>)>,
    path: PathBuf,
    fields: Vec<Field>,
    line: Vec<u8>,
    /// `None` of text, and for an output that is no file.
    index: Option<Index>,
}

/// Whether a path's name promises BCF.
pub fn is_bcf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "bcf")
}

/// The header of a BCF that is to hold the records of `reader`, which are read to their end: with
/// declarations of what they have and the header lacks.
///
/// # Errors
/// Those of the reader; Input: a value that is not of the type that the header declares.
pub fn declared(reader: &mut Reader) -> Result<Header> {
    let mut header = reader.header().clone();
    header.forget_dictionary();
    let mut encoder = Encoder::new(&header)?;
    let (mut records, mut record) = (0, Vec::new());
    let name = reader.name().to_string();
    while reader.next_record()?.is_some() {
        records += 1;
        record.clear();
        encoder
            .complete(reader.line())
            .and_then(|()| encoder.encode(reader.line(), &mut record))
            .map_err(|error| error.place(format!("record {records}")).file(&name))?;
    }
    let added = encoder.added();
    let guessed = added.iter().find(|line| !line.starts_with("##contig"));
    if let Some(line) = guessed {
        tracing::warn!("{name}: the header does not declare all that records have: {line}");
    }
    for line in added {
        header.text.extend_from_slice(line.as_bytes());
        header.text.push(b'\n');
    }
    Ok(header)
}

impl Annotator {
    /// Writes to `file`, one of the outputs of a run, that replaces earlier indexes if `force`: the
    /// header first, `header` with the fields, and `source`, what they were made with. Fields of the
    /// same key that an earlier run wrote are replaced. Of a BCF, `header` is that of [`declared`].
    ///
    /// # Errors
    /// As [`AtomicFile::create`], for the VCF and its index.
    pub fn create(
        outputs: &OutputSet,
        (file, force): (AtomicFile, bool),
        header: &Header,
        fields: Vec<Field>,
        source: &str,
    ) -> Result<Self> {
        let path = file.path().to_path_buf();
        let mut text = header_with(header, &fields, source);
        let is_file = !file.is_stream();
        let is_text = path.extension().is_some_and(|extension| extension == "vcf");
        let mut contigs = None;
        let bcf = if is_bcf(&path) {
            text.retain(|&byte| byte != b'\r');
            let mut encoder = Encoder::new(&Header::default())?;
            for line in text.split(|&byte| byte == b'\n') {
                encoder.declare(line)?;
            }
            encoder.of_samples(header.samples.len());
            text = Encoder::header(&text)?;
            contigs = Some(encoder.contigs().clone());
            Some((encoder, Vec::new()))
        } else {
            None
        };
        let index = (is_file && !is_text)
            .then(|| Index::create(&path, outputs, force, contigs))
            .transpose()?;
        let mut annotator = Self {
            out: TextFile::new(file, !is_text),
            bcf,
            path,
            fields,
            line: Vec::new(),
            index,
        };
        annotator.write(&text)?;
        Ok(annotator)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.out.write_all(bytes);
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

        let start = self.out.position();
        if let Some((encoder, record)) = &mut self.bcf {
            record.clear();
            encoder.encode(&self.line, record)?;
            std::mem::swap(&mut self.line, record);
        }
        let written = self.out.write_all(&self.line);
        written.map_err(|error| Error::io(&self.path, &error))?;
        let end = self.out.position();
        if let (Some(index), Some(from), Some(to)) = (&mut self.index, start, end) {
            let chrom = String::from_utf8_lossy(chrom);
            let first = number(pos).unwrap_or(0).max(1);
            let last = first
                .saturating_add(reference.len() as u64)
                .saturating_sub(1);
            let declared = info.split(|&byte| byte == b';');
            let declared = declared.filter_map(|entry| number(entry.strip_prefix(b"END=")?));
            let last = declared.fold(last, u64::max);
            index.add(&chrom, first, last, (from, to));
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

/// A header with lines for the fields, and for what they were made with.
fn header_with(header: &Header, fields: &[Field], source: &str) -> Vec<u8> {
    let mut text = Vec::new();
    let line_end = &header.columns[trim_end(&header.columns).len()..];
    for line in header.lines() {
        let info = structured(trim_end(line), "INFO").unwrap_or_default();
        let mut ids = info.iter().filter(|(key, _)| key == "ID");
        let is_ours = ids.any(|(_, id)| fields.iter().any(|field| field.id == id));
        if !is_ours && !line.starts_with(SOURCE) {
            text.extend_from_slice(line);
        }
    }
    text.extend_from_slice(SOURCE);
    text.extend_from_slice(printable(source).as_bytes());
    text.extend_from_slice(line_end);
    for field in fields {
        let id = field.id;
        let kind = match field.kind {
            FieldKind::Float => "Float",
            FieldKind::Text => "String",
        };
        let description = printable(&field.description);
        let description = description.replace('\\', "\\\\").replace('"', "\\\"");
        let line = format!("##INFO=<ID={id},Number=A,Type={kind},Description=\"{description}\">");
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(line_end);
    }
    text.extend_from_slice(&header.columns);
    text
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
        Value::Float(value) if value.is_finite() => push_number(line, value),
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
