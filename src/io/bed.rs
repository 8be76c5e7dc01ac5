//! BED files: regions to read, one a line, 0-based and half-open.

use super::input::Input;
use super::other::other_format;
use super::{gff, lines, read};
use crate::error::{Error, Result};
use crate::sequence::region::Region;
use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::Path;

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// One line of a BED file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Columns 1 to 3.
    pub region: Region,
    /// Column 4.
    pub name: Option<String>,
    /// The line's number, from 1.
    pub line: u64,
}

/// What a BED file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regions {
    /// Those with bases, in the file's order.
    pub records: Vec<Record>,
    /// How many have no base (start = end), and are left out.
    pub empty: u64,
}

impl Regions {
    /// Those with bases, with a warning of the others: where nothing else counts them.
    pub fn warned(self) -> Vec<Record> {
        if self.empty > 0 {
            tracing::warn!("{} BED regions have no base, and are left out", self.empty);
        }
        self.records
    }
}

/// Reads all regions of a BED file, in its order: 3 columns or more, between tabs; if a line
/// has none, between blanks. Columns after the twelfth may mean anything. Lines of `track`,
/// `browser` and `#`, and empty ones, are passed over. Regions without a base are left out.
///
/// The file may be compressed, or standard input (`-`). Memory: the regions.
///
/// # Errors
/// Input, naming the line: other columns, positions that are no numbers or negative, an end
/// before its start; or no regions with a base, unless `allow_empty`.
pub fn read(path: &Path, allow_empty: bool) -> Result<Regions> {
    let input = Input::open(path, false)?;
    let name = input.name().to_string();
    parse(input, allow_empty).map_err(|error| error.file(name))
}

fn parse(mut input: impl BufRead, allow_empty: bool) -> Result<Regions> {
    let start = input.fill_buf().map_err(read::error)?;
    if let Some(error) = other_format(start, "BED") {
        return Err(error);
    }
    let mut regions = Regions::default();
    lines::each(input, MAX_LINE, |line, number| {
        match parse_line(line, number)? {
            Some(record) if record.region.start == record.region.end => regions.empty += 1,
            Some(record) => regions.records.push(record),
            None => {}
        }
        Ok(ControlFlow::Continue(()))
    })?;
    // None would mean everything.
    if regions.records.is_empty() && !allow_empty {
        Err(none("regions", regions.empty))
    } else {
        Ok(regions)
    }
}

/// The error of a file without any, or with so many that have no base.
pub(super) fn none(what: &str, empty: u64) -> Error {
    match empty {
        0 => Error::input(format!("no {what}")),
        _ => Error::input(format!("no {what} with a base: start = end in all {empty}")),
    }
}

/// One line's record; `None` for a line that holds none.
fn parse_line(line: &str, number: u64) -> Result<Option<Record>, String> {
    let Some((region, fields)) = columns(line)? else {
        return Ok(None);
    };
    Ok(Some(Record {
        region,
        name: fields.get(3).map(|name| (*name).to_string()),
        line: number,
    }))
}

/// One line's region, and its columns; `None` for a line that holds none.
pub(super) fn columns(line: &str) -> Result<Option<(Region, Vec<&str>)>, String> {
    let fields: Vec<_> = if line.contains('\t') {
        line.split('\t').collect()
    } else {
        line.split_ascii_whitespace().collect()
    };
    let first = fields.first().map_or("", |field| field.trim());
    let word = first.split(' ').next().unwrap_or("");
    if first.is_empty() && fields.len() <= 1 || first.starts_with('#') {
        return Ok(None);
    }
    let position = |text: &str| match text.parse::<i64>() {
        Ok(position) if position >= 0 => Ok(position.unsigned_abs()),
        Ok(_) => Err(format!("position {text} is negative")),
        Err(_) => Err(format!("\"{text}\" is not a position")),
    };
    // A contig may be called "track": only a line that is no region is a track line.
    let is_region = fields.len() >= 3 && position(fields[1]).is_ok() && position(fields[2]).is_ok();
    if !is_region && (word == "track" || word == "browser") {
        return Ok(None);
    }
    if fields.len() < 3 {
        let columns = fields.len();
        return Err(format!("expected 3 columns or more, found {columns}"));
    }
    if fields[0].is_empty() {
        return Err("the contig's name is empty".to_string());
    }
    if !is_region && gff::is_feature(&fields) {
        return Err(
            "a feature of GFF3 or GTF, not a region: annotations go to --intervals of \
                    crocuta embed, or to --labels of crocuta fit"
                .to_string(),
        );
    }
    let (start, end) = (position(fields[1])?, position(fields[2])?);
    if end < start {
        return Err(format!("the end {end} is before the start {start}"));
    }
    let contig = fields[0].to_string();
    Ok(Some((Region { contig, start, end }, fields)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::io::testing::{gzip, logged};

    fn spans(text: &str) -> Vec<(String, u64, u64)> {
        let records = parse(text.as_bytes(), false).unwrap().records;
        let regions = records.into_iter().map(|record| record.region);
        regions.map(|r| (r.contig, r.start, r.end)).collect()
    }

    #[test]
    fn three_columns_or_more_are_read_and_other_lines_passed_over() {
        let text = "browser position chr7:1-2\r\ntrack name=\"x y\" a=b\r\n#c\r\n\r\n\
            chr1\t0\t5\r\nchr1\t3\t9\tpeak one\t0\t+\r\n\
            c:1\t3\t9\tg\t0\t+\t3\t9\t0,0,0\t1\t6\t0\nc:2\t3\t9\tg\t0\t+\t3\t9\t0,0,0\t1\t6\t0\t5.1\tx\ntrack\t1\t2\nb 4 6 n";
        let expected = [
            ("chr1", 0, 5),
            ("chr1", 3, 9),
            ("c:1", 3, 9),
            ("c:2", 3, 9),
            ("track", 1, 2),
            ("b", 4, 6),
        ];
        let expected = expected.map(|(name, start, end)| (name.to_string(), start, end));
        assert_eq!(spans(text), expected);
        let records = parse(text.as_bytes(), false).unwrap().records;
        assert_eq!(records[0].name, None);
        assert_eq!(records[1].name.as_deref(), Some("peak one"));
    }

    #[test]
    fn wrong_lines_are_errors_with_their_number() {
        for bad in [
            "a\t5\t4",
            "a\t-1\t4",
            "a\t1\t-4",
            "a\t1",
            "a\tx\t4",
            "a\t1e3\t2000",
            "a\t1\t99999999999999999999",
            "\t1\t4",
            "a",
        ] {
            let error = parse(format!("a\t1\t2\n{bad}\n").as_bytes(), false).unwrap_err();
            assert_eq!(error.kind(), Kind::Input);
            assert!(error.to_string().starts_with("line 2: "), "{bad}: {error}");
        }
    }

    #[test]
    fn a_file_without_regions_does_not_mean_everything() {
        for text in ["", "#c\n", "track x\n\n", "a\t5\t5\n"] {
            let error = parse(text.as_bytes(), false).unwrap_err();
            assert_eq!(error.kind(), Kind::Input, "{text}");
            assert!(parse(text.as_bytes(), true).unwrap().records.is_empty());
        }
        let error = parse(&b"a\t5\t5\n"[..], false).unwrap_err();
        assert!(
            error.to_string().contains("start = end in all 1"),
            "{error}"
        );
    }

    #[test]
    fn regions_without_a_base_are_left_out_and_counted() {
        let found = parse(&b"a\t5\t5\na\t5\t6\na\t0\t0\n"[..], false).unwrap();
        assert_eq!((found.records.len(), found.empty), (1, 2));
        let (records, log) = logged(|| found.warned());
        assert_eq!((records[0].region.start, records[0].line), (5, 2));
        assert!(log.contains("2 BED regions"), "{log}");
    }

    #[test]
    fn a_compressed_file_is_read_and_a_truncated_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.bed.gz");
        let file = gzip(b"a\t5\t6\n");
        std::fs::write(&path, &file).unwrap();
        assert_eq!(read(&path, false).unwrap().records.len(), 1);
        std::fs::write(&path, &file[..file.len() - 4]).unwrap();
        let error = read(&path, false).unwrap_err().to_string();
        assert!(error.contains("r.bed.gz: byte "), "{error}");
        assert!(error.contains("truncated"), "{error}");
    }
}
