//! One line of a VCF: its fixed columns, checked.

use super::header::trim_end;
use super::{Genotype, Header, Record};
use crate::error::{Error, Result};

/// The longest CHROM, in bytes.
const MAX_NAME: usize = 4096;

/// The record of a line; `sample` is the column whose genotype is read.
pub(super) fn parse(
    line: &[u8],
    index: u64,
    header: &Header,
    sample: Option<usize>,
) -> Result<Record> {
    let line = trim_end(line);
    if line.starts_with(b"#") {
        return Err(Error::input("a header line among the records"));
    }
    let count = 1 + line.iter().filter(|&&byte| byte == b'\t').count();
    if count != header.width {
        let what = format!("expected {} columns, found {count}", header.width);
        return Err(Error::input(what).todo("is the file truncated, or not separated by tabs?"));
    }
    let mut columns = line.split(|&byte| byte == b'\t');
    let mut column = |name| text(name, columns.next().unwrap_or_default());
    let (chrom, pos, id) = (column("CHROM")?, column("POS")?, column("ID")?);
    let (reference, alternates) = (column("REF")?, column("ALT")?);
    for name in ["QUAL", "FILTER", "INFO"] {
        if columns.next().is_none_or(<[u8]>::is_empty) {
            return Err(Error::input(format!("{name} is empty")));
        }
    }
    if chrom.len() > MAX_NAME {
        return Err(Error::input(format!(
            "CHROM is longer than {MAX_NAME} bytes"
        )));
    }
    let alternates: Vec<String> = alternates.split(',').map(str::to_string).collect();
    if alternates.iter().any(String::is_empty) {
        return Err(Error::input("ALT holds an empty allele"));
    }
    let genotype = match (sample, columns.next()) {
        (Some(sample), Some(format)) => {
            let column = columns.nth(sample).unwrap_or_default();
            let (format, column) = (text("FORMAT", format)?, text("a sample", column)?);
            let genotype = Genotype::parse(format, column, alternates.len());
            genotype.map_err(Error::input)?
        }
        _ => None,
    };
    Ok(Record {
        index,
        chrom: chrom.to_string(),
        pos: position(pos)?,
        id: (id != ".").then(|| id.to_string()),
        reference: reference.to_string(),
        alternates,
        genotype,
    })
}

/// A column that must be text without blanks or control characters.
fn text<'a>(name: &str, column: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(column);
    let text = text.map_err(|_| Error::input(format!("{name} is not UTF-8")))?;
    if text.is_empty() {
        return Err(Error::input(format!("{name} is empty")));
    }
    let blank = |c| c == ' ' && name != "ID";
    if text.chars().any(|c| c.is_control() || blank(c)) {
        return Err(Error::input(format!(
            "{name} holds a blank or a control character"
        )));
    }
    Ok(text)
}

fn position(text: &str) -> Result<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<i64>() {
        Ok(position) if digits => Ok(position.unsigned_abs()),
        _ => Err(Error::input(format!("POS \"{text}\" is not a position"))),
    }
}
