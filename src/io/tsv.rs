//! Tables as text: the names of the columns, then a line a row, separated by tabs. What does not
//! exist is empty.

use super::atomic::{AtomicFile, Written};
use super::table_writer::Values;
use super::text::{TextFile, is_compressed, push_number};
use crate::error::{Error, Kind, Result};
use std::io::Write;
use std::path::PathBuf;

/// Writes a table as text. Memory: one line.
pub struct TsvWriter {
    out: TextFile,
    path: PathBuf,
    line: Vec<u8>,
}

impl TsvWriter {
    /// Writes the names to `file`: BGZF if it is called `.gz` or `.bgz`, else plain.
    ///
    /// # Errors
    /// Io.
    pub fn create(file: AtomicFile, names: &[&str]) -> Result<Self> {
        let path = file.path().to_path_buf();
        let mut writer = Self {
            out: TextFile::new(file, is_compressed(&path)),
            path,
            line: Vec::new(),
        };
        writer.line.extend_from_slice(names.join("\t").as_bytes());
        writer.end_line()?;
        Ok(writer)
    }

    /// Writes `rows` rows of the columns.
    ///
    /// # Errors
    /// Io; Internal: a column of vectors, or of fewer rows.
    pub fn write(&mut self, columns: &[Values], rows: usize) -> Result<()> {
        for row in 0..rows {
            for (i, column) in columns.iter().enumerate() {
                if i > 0 {
                    self.line.push(b'\t');
                }
                if push(&mut self.line, column, row).is_none() {
                    return Err(Error::new(Kind::Internal, "a column that is no text"));
                }
            }
            self.end_line()?;
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<()> {
        self.line.push(b'\n');
        let written = self.out.write_all(&self.line);
        self.line.clear();
        written.map_err(|error| Error::io(&self.path, &error))
    }

    /// Brings the file to disk; it gets its name with its set.
    ///
    /// # Errors
    /// Io.
    pub fn finish(self) -> Result<Written> {
        let file = self.out.finish();
        let file = file.map_err(|error| Error::io(&self.path, &error))?;
        file.finish()
    }
}

/// Appends a value; `None` if there is none that can be text.
fn push(line: &mut Vec<u8>, column: &Values, row: usize) -> Option<()> {
    let mut number = |value: Option<f64>, single: bool| match value {
        Some(value) if single => push_number(line, value as f32),
        Some(value) => push_number(line, value),
        None => {}
    };
    match column {
        Values::F32(values) => number(Some((*values.get(row)?).into()), true),
        Values::OptionalF32(values) => number(values.get(row)?.map(f64::from), true),
        Values::OptionalF64(values) => number(*values.get(row)?, false),
        Values::I64(values) => push_text(line, &values.get(row)?.to_string()),
        Values::I32(values) => push_text(line, &values.get(row)?.to_string()),
        Values::U8(values) => push_text(line, &values.get(row)?.to_string()),
        Values::U16(values) => push_text(line, &values.get(row)?.to_string()),
        Values::OptionalI64(values) => {
            push_text(
                line,
                &values.get(row)?.map_or(String::new(), |x| x.to_string()),
            );
        }
        Values::OptionalU8(values) => {
            push_text(
                line,
                &values.get(row)?.map_or(String::new(), |x| x.to_string()),
            );
        }
        Values::Text(values) => push_text(line, values.get(row)?.as_deref().unwrap_or_default()),
        Values::Words { codes, words } => {
            push_text(line, words.get(usize::try_from(*codes.get(row)?).ok()?)?);
        }
        Values::OptionalWords { codes, words } => {
            let word = codes.get(row)?.and_then(|code| usize::try_from(code).ok());
            push_text(line, word.map_or("", |word| words[word].as_str()));
        }
        Values::F16Vectors(_)
        | Values::F32Vectors(_)
        | Values::OptionalF16Vectors { .. }
        | Values::OptionalF32Vectors { .. } => return None,
    }
    Some(())
}

/// Text that holds a quotation mark is quoted, since readers take one at its start for that.
fn push_text(line: &mut Vec<u8>, text: &str) {
    if text.contains('"') {
        let text = format!("\"{}\"", text.replace('"', "\"\""));
        line.extend_from_slice(text.as_bytes());
    } else {
        line.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::atomic::OutputSet;
    use crate::io::bgzf::EOF_BLOCK;

    #[test]
    fn rows_are_lines_and_what_does_not_exist_is_empty() {
        let columns = [
            Values::Words {
                codes: vec![1, 0, 1],
                words: vec!["a".into(), "b".into()],
            },
            Values::Text(vec![Some("x \"y\"".into()), None, Some("z".into())]),
            Values::OptionalF32(vec![Some(0.1), None, Some(-1e-7)]),
            Values::OptionalF64(vec![Some(-1234.5), Some(0.1), None]),
            Values::OptionalI64(vec![None, Some(-3), Some(0)]),
        ];
        let expected = "w\tt\tf\td\ti\nb\t\"x \"\"y\"\"\"\t0.1\t-1234.5\t\n\
            a\t\t\t0.1\t-3\nb\tz\t-1e-7\t\t0\n";
        let dir = tempfile::tempdir().unwrap();
        let outputs = OutputSet::default();
        for name in ["x.tsv", "x.tsv.gz"] {
            let file = outputs.create(&dir.path().join(name), false).unwrap();
            let mut writer = TsvWriter::create(file, &["w", "t", "f", "d", "i"]).unwrap();
            writer.write(&columns, 3).unwrap();
            writer.finish().unwrap();
        }
        outputs.commit().unwrap();
        let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(String::from_utf8(read("x.tsv")).unwrap(), expected);
        let packed = read("x.tsv.gz");
        let mut text = String::new();
        let mut reader = flate2::read::MultiGzDecoder::new(&*packed);
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, expected);
        assert!(packed.ends_with(&EOF_BLOCK));
    }
}
