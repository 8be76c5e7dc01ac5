//! Lines of VCF as records of BCF 2 (VCF specification, section 6).

use super::super::header::{Header, structured, trim_end};
use super::{END_FLOAT, MAGIC, MISSING_FLOAT, entry};
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};

/// The largest magnitudes that stand for themselves in 1 and 2 bytes: eight numbers are reserved.
const SMALL: [i64; 2] = [120, 32_760];
/// The same of 4 bytes.
const LARGE: i64 = 2_147_483_640;
/// Integers that mean "missing" and "the vector ends", of 4 bytes.
const MISSING: i64 = i32::MIN as i64;
const END: i64 = MISSING + 1;

/// What a value of INFO or FORMAT is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Flag,
    Integer,
    Float,
    Text,
}

/// The dictionaries of a header, and the lines that it lacks.
pub(in super::super) struct Encoder {
    samples: usize,
    contigs: HashMap<String, usize>,
    /// FILTER, INFO and FORMAT share one dictionary.
    keys: HashMap<String, usize>,
    infos: HashMap<String, Kind>,
    formats: HashMap<String, Kind>,
    filters: HashSet<String>,
    /// Header lines for names that records have and the header does not declare.
    added: Vec<String>,
}

impl Encoder {
    /// The dictionaries of a header whose lines have no `IDX`.
    pub fn new(header: &Header) -> Result<Self> {
        let mut encoder = Self {
            samples: header.samples.len(),
            contigs: HashMap::new(),
            keys: HashMap::from([("PASS".to_string(), 0)]),
            infos: HashMap::new(),
            formats: HashMap::new(),
            filters: HashSet::from(["PASS".to_string()]),
            added: Vec::new(),
        };
        for line in header.lines() {
            encoder.declare(trim_end(line))?;
        }
        Ok(encoder)
    }

    /// Takes a header line.
    pub fn declare(&mut self, line: &[u8]) -> Result<()> {
        if let Some(fields) = structured(line, "contig") {
            if let Some((name, place)) = entry(&fields, self.contigs.len())? {
                self.contigs.entry(name).or_insert(place);
            }
            return Ok(());
        }
        let kinds = ["INFO", "FORMAT", "FILTER"].into_iter();
        let mut found = kinds.filter_map(|kind| Some((kind, structured(line, kind)?)));
        let Some((of, fields)) = found.next() else {
            return Ok(());
        };
        let Some((name, place)) = entry(&fields, self.keys.len())? else {
            return Ok(());
        };
        self.keys.entry(name.clone()).or_insert(place);
        let declared = fields.iter().find(|(key, _)| key == "Type");
        let kind = match declared.map(|(_, kind)| kind.as_str()) {
            Some("Flag") => Kind::Flag,
            Some("Integer") => Kind::Integer,
            Some("Float") => Kind::Float,
            _ => Kind::Text,
        };
        match of {
            "INFO" => {
                self.infos.entry(name).or_insert(kind);
            }
            "FORMAT" => {
                self.formats.entry(name).or_insert(kind);
            }
            _ => {
                self.filters.insert(name);
            }
        }
        Ok(())
    }

    /// Declares what a line has and the header lacks, as text of any number of values.
    pub fn complete(&mut self, line: &[u8]) -> Result<()> {
        let columns = Columns::of(line)?;
        if !self.contigs.contains_key(columns.chrom) {
            self.add(format!("##contig=<ID={}>", columns.chrom))?;
        }
        for name in columns.filters() {
            if !self.filters.contains(name) {
                self.add(format!("##FILTER=<ID={name},Description=\"not declared\">"))?;
            }
        }
        let undeclared = |kind: &str, name: &str| {
            format!("##{kind}=<ID={name},Number=.,Type=String,Description=\"not declared\">")
        };
        for (name, value) in columns.infos() {
            if !self.infos.contains_key(name) {
                let line = undeclared("INFO", name);
                let flag = line.replace("Number=.,Type=String", "Number=0,Type=Flag");
                self.add(value.map_or(flag, |_| line))?;
            }
        }
        for name in columns.formats() {
            if !self.formats.contains_key(name) {
                self.add(undeclared("FORMAT", name))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, line: String) -> Result<()> {
        self.declare(line.as_bytes())?;
        self.added.push(line);
        Ok(())
    }

    /// Says how many samples records have.
    pub fn of_samples(&mut self, count: usize) {
        self.samples = count;
    }

    /// The places of the contigs.
    pub fn contigs(&self) -> &HashMap<String, usize> {
        &self.contigs
    }

    /// The lines that [`Self::complete`] declared.
    pub fn added(&self) -> &[String] {
        &self.added
    }

    /// The magic number, and the header's text.
    pub fn header(text: &[u8]) -> Result<Vec<u8>> {
        let length = u32::try_from(text.len() + 1);
        let length = length.map_err(|_| Error::input("the header is too long for BCF"))?;
        Ok([&MAGIC[..], &[2], &length.to_le_bytes(), text, &[0]].concat())
    }

    /// Appends the record of a line.
    ///
    /// # Errors
    /// Input: a name that the header does not declare, or a value that is not of its type.
    pub fn encode(&self, line: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let columns = Columns::of(line)?;
        let mut site = Vec::new();
        self.site(&columns, &mut site)?;
        let mut samples = Vec::new();
        for (place, name) in columns.formats().enumerate() {
            self.format(&columns, place, name, &mut samples)?;
        }
        for part in [&site, &samples] {
            let length = u32::try_from(part.len());
            let length = length.map_err(|_| Error::input("a record too long for BCF"))?;
            out.extend(length.to_le_bytes());
        }
        out.extend(site);
        out.extend(samples);
        Ok(())
    }

    /// CHROM to INFO.
    fn site(&self, columns: &Columns, out: &mut Vec<u8>) -> Result<()> {
        let Columns { chrom, alleles, .. } = columns;
        let contig = self.contigs.get(*chrom);
        let contig = contig.ok_or_else(|| not_declared("contig", chrom))?;
        let small = |n: usize| i32::try_from(n).map_err(|_| too_large());
        let span = columns.span().min(LARGE.unsigned_abs()) as usize;
        let pos = i32::try_from(columns.pos.cast_signed() - 1).map_err(|_| too_large())?;
        for word in [small(*contig)?, pos, small(span)?] {
            out.extend(word.to_le_bytes());
        }
        match columns.quality {
            "." => out.extend(MISSING_FLOAT.to_le_bytes()),
            text => out.extend(float("QUAL", text)?.to_le_bytes()),
        }
        let (infos, formats) = (columns.infos().count(), columns.formats().count());
        if alleles.len() > 0xffff || infos > 0xffff || formats > 0xff {
            return Err(too_large());
        }
        out.extend(((alleles.len() << 16 | infos) as u32).to_le_bytes());
        out.extend(((formats << 24 | self.samples) as u32).to_le_bytes());
        push_text(out, if columns.id == "." { "" } else { columns.id });
        for allele in alleles {
            push_text(out, allele);
        }
        let filters = columns.filters().map(|name| self.key(name));
        let filters: Vec<i64> = filters.collect::<Result<_>>()?;
        push_integers(out, &filters);
        for (name, value) in columns.infos() {
            push_integers(out, &[self.key(name)?]);
            match (self.infos.get(name), value) {
                (None, _) => return Err(not_declared("INFO", name)),
                (Some(Kind::Flag), _) | (_, None) => out.push(0),
                (Some(Kind::Text), Some(text)) => push_text(out, text),
                (Some(Kind::Integer), Some(text)) => push_integers(out, &integers(name, text)?),
                (Some(Kind::Float), Some(text)) => push_floats(out, &floats(name, text)?),
            }
        }
        Ok(())
    }

    /// A FORMAT field of all samples: vectors of one length.
    fn format(&self, columns: &Columns, place: usize, name: &str, out: &mut Vec<u8>) -> Result<()> {
        push_integers(out, &[self.key(name)?]);
        let kind = self.formats.get(name);
        let kind = *kind.ok_or_else(|| not_declared("FORMAT", name))?;
        let values: Vec<&str> = columns
            .samples
            .iter()
            .map(|sample| sample.split(':').nth(place).unwrap_or("."))
            .collect();
        let each = values.iter();
        match kind {
            _ if name == "GT" => {
                let genotypes: Vec<_> = each.map(|text| genotype(text)).collect::<Result<_>>()?;
                push_vectors(out, &genotypes);
            }
            Kind::Integer => {
                let each = each.map(|text| integers(name, text));
                push_vectors(out, &each.collect::<Result<Vec<_>>>()?);
            }
            Kind::Float => {
                let each: Vec<_> = each.map(|text| floats(name, text)).collect::<Result<_>>()?;
                let longest = each.iter().map(Vec::len).max().unwrap_or(0);
                push_descriptor(out, longest, 5);
                for mut floats in each {
                    floats.resize(longest, END_FLOAT);
                    out.extend(floats.into_iter().flat_map(u32::to_le_bytes));
                }
            }
            Kind::Flag | Kind::Text => {
                let longest = each.map(|text| text.len()).max().unwrap_or(0);
                push_descriptor(out, longest, 7);
                for text in values {
                    out.extend(text.as_bytes());
                    out.resize(out.len() + longest - text.len(), 0);
                }
            }
        }
        Ok(())
    }

    fn key(&self, name: &str) -> Result<i64> {
        let key = self.keys.get(name);
        let key = key.ok_or_else(|| not_declared("key", name))?;
        Ok(*key as i64)
    }
}

/// The columns of a line.
struct Columns<'a> {
    chrom: &'a str,
    pos: u64,
    id: &'a str,
    /// REF, then the alternates.
    alleles: Vec<&'a str>,
    quality: &'a str,
    filter: &'a str,
    info: &'a str,
    format: &'a str,
    samples: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(line: &'a [u8]) -> Result<Self> {
        let text = std::str::from_utf8(trim_end(line));
        let text = text.map_err(|_| Error::input("a line that is not UTF-8"))?;
        let mut columns = text.split('\t');
        let mut column = || columns.next().unwrap_or(".");
        let (chrom, pos, id) = (column(), column(), column());
        let (reference, alternates) = (column(), column());
        let (quality, filter, info) = (column(), column(), column());
        let alternates = alternates.split(',').filter(|allele| *allele != ".");
        Ok(Self {
            chrom,
            pos: pos.parse().map_err(|_| too_large())?,
            id,
            alleles: std::iter::once(reference).chain(alternates).collect(),
            quality,
            filter,
            info,
            format: column(),
            samples: columns.collect(),
        })
    }

    fn filters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        parts(self.filter, ';')
    }

    fn formats(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        parts(self.format, ':')
    }

    /// Keys, with their values if they have any.
    fn infos(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        parts(self.info, ';').map(|entry| match entry.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (entry, None),
        })
    }

    /// Bases of the reference: REF, or as far as END.
    fn span(&self) -> u64 {
        let ends = self.infos().filter(|(key, _)| *key == "END");
        let mut ends = ends.filter_map(|(_, end)| end?.parse::<u64>().ok());
        let end = ends.next().filter(|end| *end >= self.pos);
        end.map_or(self.alleles[0].len() as u64, |end| end + 1 - self.pos)
    }
}

/// What stands between separators; nothing of `.`.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let parts = text.split(separator);
    parts.filter(move |part| !part.is_empty() && text != ".")
}

fn not_declared(what: &str, name: &str) -> Error {
    Error::input(format!("{what} \"{name}\" is not in the header"))
}

fn too_large() -> Error {
    Error::input("a number that BCF cannot hold").todo("write .vcf.gz")
}

fn not_a(kind: &str, name: &str, text: &str) -> Error {
    let what = format!("{name} is declared as {kind}, and is \"{text}\", which BCF cannot hold");
    Error::input(what).todo("correct the header, or write .vcf.gz")
}

fn float(name: &str, text: &str) -> Result<f32> {
    text.parse().map_err(|_| not_a("Float", name, text))
}

/// The bits of numbers with commas between them.
fn floats(name: &str, text: &str) -> Result<Vec<u32>> {
    let bits = |part| match part {
        "." => Ok(MISSING_FLOAT),
        part => float(name, part).map(f32::to_bits),
    };
    text.split(',').map(bits).collect()
}

fn integers(name: &str, text: &str) -> Result<Vec<i64>> {
    let number = |part: &str| match part.parse::<i64>() {
        Ok(number) if number.abs() <= LARGE => Ok(number),
        _ if part == "." => Ok(MISSING),
        _ => Err(not_a("Integer", name, text)),
    };
    text.split(',').map(number).collect()
}

/// Alleles from 1, 0 for one that is unknown, each twice, and 1 more behind `|`.
fn genotype(text: &str) -> Result<Vec<i64>> {
    let mut alleles = Vec::new();
    let mut phased = 0;
    for part in text.split_inclusive(['/', '|']) {
        let allele = part.trim_end_matches(['/', '|']);
        let number = match allele {
            "." | "" => 0,
            allele => {
                allele
                    .parse::<i64>()
                    .ok()
                    .filter(|allele| (0..1 << 20).contains(allele))
                    .ok_or_else(|| not_a("a genotype", "GT", text))?
                    + 1
            }
        };
        // A separator before the first allele says how that is phased (VCF 4.4).
        if !(allele.is_empty() && alleles.is_empty()) {
            alleles.push(number << 1 | phased);
        }
        phased = i64::from(part.ends_with('|'));
    }
    Ok(alleles)
}

/// Type and length of a vector.
fn push_descriptor(out: &mut Vec<u8>, count: usize, kind: u8) {
    if count < 15 {
        out.push((count as u8) << 4 | kind);
    } else {
        out.push(0xf0 | kind);
        push_integers(out, &[count as i64]);
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    push_descriptor(out, text.len(), 7);
    out.extend(text.as_bytes());
}

fn push_floats(out: &mut Vec<u8>, bits: &[u32]) {
    push_descriptor(out, bits.len(), 5);
    out.extend(bits.iter().flat_map(|bits| bits.to_le_bytes()));
}

fn push_integers(out: &mut Vec<u8>, numbers: &[i64]) {
    if numbers.is_empty() {
        return out.push(0);
    }
    push_vectors(out, &[numbers.to_vec()]);
}

/// Vectors of integers in as few bytes as hold them all, the shorter ones ended early.
fn push_vectors(out: &mut Vec<u8>, vectors: &[Vec<i64>]) {
    let longest = vectors.iter().map(Vec::len).max().unwrap_or(0);
    let numbers = vectors.iter().flatten();
    let numbers = numbers.filter(|number| **number != MISSING);
    let largest = numbers.map(|number| number.abs()).max().unwrap_or(0);
    let size = SMALL.iter().position(|most| largest <= *most);
    let (kind, size) = [(1, 1), (2, 2), (3, 4)][size.unwrap_or(2)];
    push_descriptor(out, longest, kind);
    // The smallest number of so many bytes is "missing", the next one ends the vector.
    let missing = MISSING >> (32 - 8 * size);
    for vector in vectors {
        for place in 0..longest {
            let number = match vector.get(place) {
                None => missing + (END - MISSING),
                Some(&MISSING) => missing,
                Some(&number) => number,
            };
            out.extend(&number.to_le_bytes()[..size]);
        }
    }
}

#[cfg(test)]
mod tests;
