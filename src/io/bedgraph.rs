//! bedGraph files: a value for each of some regions, 0-based and half-open.

use super::atomic::{AtomicFile, Written};
use super::input::Input;
use super::lines;
use crate::error::{Error, Result, printable};
use crate::sequence::region::Region;
use std::io::{BufRead, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// One line of a bedGraph file.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Columns 1 to 3.
    pub region: Region,
    /// Column 4.
    pub value: f32,
    /// The line's number, from 1.
    pub line: u64,
}

/// Reads all regions and their values, in the file's order. Lines of `track`, `browser` and `#`,
/// and empty ones, are passed over. The file may be compressed, or standard input (`-`). Memory:
/// the regions.
///
/// # Errors
/// Input, naming the line: not four columns, positions that are no range, a value that is no
/// finite number.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    let input = Input::open(path, false)?;
    let name = input.name().to_string();
    parse(input).map_err(|error| error.file(name))
}

fn parse(input: impl BufRead) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    lines::each(input, MAX_LINE, |line, number| {
        records.extend(parse_line(line, number)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(records)
}

fn parse_line(line: &str, number: u64) -> Result<Option<Record>, String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [contig, start, end, value] = fields[..] else {
        return match fields.first() {
            None | Some(&("track" | "browser")) => Ok(None),
            Some(word) if word.starts_with('#') => Ok(None),
            Some(_) => Err(format!("expected 4 columns, found {}", fields.len())),
        };
    };
    if contig.starts_with('#') || contig == "track" && start.contains('=') {
        return Ok(None);
    }
    let position = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| format!("\"{text}\" is not a position"))
    };
    let (start, end) = (position(start)?, position(end)?);
    if end <= start {
        return Err(format!("the end {end} is not after the start {start}"));
    }
    let value = value.parse().ok().filter(|x: &f32| x.is_finite());
    let value = value.ok_or_else(|| format!("\"{}\" is not a number", fields[3]))?;
    let contig = contig.to_string();
    Ok(Some(Record {
        region: Region { contig, start, end },
        value,
        line: number,
    }))
}

/// Writes values in the order of the genome. Neighbours of one value share a line. Memory: a line.
pub struct Writer {
    out: BufWriter<AtomicFile>,
    open: Option<(String, u64, u64, f32)>,
}

impl Writer {
    /// Writes to `target`. The first line, a comment, says what it was made with: `source`.
    ///
    /// # Errors
    /// Io.
    pub fn create(target: AtomicFile, source: &str) -> Result<Self> {
        let mut writer = Self {
            out: BufWriter::new(target),
            open: None,
        };
        let written = writeln!(writer.out, "# {}", printable(source));
        written.map_err(|e| writer.failed(&e))?;
        Ok(writer)
    }

    /// Adds the value of the bases from `start` to `end`. NaN is none.
    ///
    /// # Errors
    /// Io.
    pub fn push(&mut self, contig: &str, start: u64, end: u64, value: f32) -> Result<()> {
        match &mut self.open {
            Some((name, _, to, x)) if *to == start && *x == value && name == contig => *to = end,
            _ => {
                self.close()?;
                if !value.is_nan() {
                    self.open = Some((contig.to_string(), start, end, value));
                }
            }
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some((contig, start, end, value)) = self.open.take() else {
            return Ok(());
        };
        let written = writeln!(self.out, "{contig}\t{start}\t{end}\t{value}");
        written.map_err(|e| self.failed(&e))
    }

    fn failed(&self, cause: &std::io::Error) -> Error {
        Error::io(self.out.get_ref().name(), cause)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Io.
    pub fn finish(mut self) -> Result<Written> {
        self.close()?;
        let name = self.out.get_ref().name().to_path_buf();
        let file = self.out.into_inner();
        file.map_err(|e| Error::io(&name, e.error()))?.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_neighbours_share_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.bedGraph");
        let target = AtomicFile::create(&path, false).unwrap();
        let mut writer = Writer::create(target, "a test").unwrap();
        let values = [1.5, 1.5, f32::NAN, 1.5, -0.1];
        for (i, value) in (0..).zip(values) {
            writer.push("c", i, i + 1, value).unwrap();
        }
        writer.push("d", 5, 6, -0.1).unwrap();
        writer.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "# a test\nc\t0\t2\t1.5\nc\t3\t4\t1.5\nc\t4\t5\t-0.1\nd\t5\t6\t-0.1\n"
        );
        let found = read(&path).unwrap();
        assert_eq!(
            found.iter().map(|r| r.value).collect::<Vec<_>>(),
            [1.5, 1.5, -0.1, -0.1]
        );
    }

    #[test]
    fn regions_and_values_are_read_and_wrong_lines_named() {
        let text = "track type=bedGraph name=x y=z\n#a\n\nc 1 5 -2.5e1\nd\t0\t1\t3\n";
        let found = parse(text.as_bytes()).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|record| {
                let region = &record.region;
                (
                    region.contig.as_str(),
                    region.start,
                    region.end,
                    record.value,
                )
            })
            .collect();
        assert_eq!(found, [("c", 1, 5, -25.0), ("d", 0, 1, 3.0)]);
        for (bad, words) in [
            ("c 1 5", "expected 4 columns"),
            ("c 5 5 1", "the end 5 is not after"),
            ("c -1 5 1", "\"-1\" is not a position"),
            ("c 1 5 nan", "\"nan\" is not a number"),
        ] {
            let error = parse(format!("c 0 1 1\n{bad}\n").as_bytes())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("line 2: ") && error.contains(words),
                "{error}"
            );
        }
    }
}
