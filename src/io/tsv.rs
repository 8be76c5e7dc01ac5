//! Tables as TSV: the names of the columns, then a line a row.

use super::atomic::{AtomicFile, Written};
use super::delimited::Style;
use super::table_writer::{ColumnSpec, Values, array};
use super::text::{TextFile, is_compressed};
use crate::error::{Error, Result};
use std::io::Write;
use std::path::PathBuf;

/// Writes a table as text. Memory: the rows that are given at a time.
pub struct TsvWriter {
    out: TextFile,
    path: PathBuf,
    columns: Vec<ColumnSpec>,
}

impl TsvWriter {
    /// Writes the names to `file`: BGZF if it is called `.gz` or `.bgz`, else plain.
    ///
    /// # Errors
    /// Io.
    pub fn create(file: AtomicFile, columns: Vec<ColumnSpec>) -> Result<Self> {
        let path = file.path().to_path_buf();
        let out = TextFile::new(file, is_compressed(&path));
        let header = Style::Tsv.header(columns.iter().map(|column| column.name.as_str()));
        let mut writer = Self { out, path, columns };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Writes `rows` rows of the columns.
    ///
    /// # Errors
    /// Io; Internal: values of another type than the column's.
    pub fn write(&mut self, values: Vec<Values>, rows: usize) -> Result<()> {
        let arrays = self.columns.iter().zip(values);
        let arrays = arrays.map(|(column, values)| array(&column.field(), values));
        let lines = Style::Tsv.lines(&arrays.collect::<Result<Vec<_>>>()?, rows)?;
        self.put(&lines)
    }

    fn put(&mut self, text: &str) -> Result<()> {
        let written = self.out.write_all(text.as_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::atomic::OutputSet;
    use crate::io::bgzf::EOF_BLOCK;
    use crate::io::table_writer::ColumnKind;

    #[test]
    fn rows_are_lines_and_what_does_not_exist_is_na() {
        let columns = [
            ("w", ColumnKind::Words),
            ("t", ColumnKind::Text),
            ("f", ColumnKind::OptionalF32),
            ("d", ColumnKind::OptionalF64),
            ("i", ColumnKind::OptionalI64),
        ];
        let values = [
            Values::Words {
                codes: vec![1, 0, 1],
                words: vec!["a".into(), "b".into()],
            },
            Values::Text(vec![Some("x \"y\"".into()), None, Some("z".into())]),
            Values::OptionalF32(vec![Some(0.1), None, Some(-1e-7)]),
            Values::OptionalF64(vec![Some(-1234.5), Some(0.1), None]),
            Values::OptionalI64(vec![None, Some(-3), Some(0)]),
        ];
        let expected = "w\tt\tf\td\ti\nb\t\"x \"\"y\"\"\"\t0.1\t-1234.5\tNA\n\
            a\tNA\tNA\t0.1\t-3\nb\tz\t-1e-7\tNA\t0\n";
        let dir = tempfile::tempdir().unwrap();
        let outputs = OutputSet::default();
        for name in ["x.tsv", "x.tsv.gz"] {
            let file = outputs.create(&dir.path().join(name), false).unwrap();
            let specs = columns.map(|(name, kind)| ColumnSpec::new(name, kind));
            let mut writer = TsvWriter::create(file, specs.to_vec()).unwrap();
            writer.write(values.to_vec(), 3).unwrap();
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
