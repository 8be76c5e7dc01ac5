//! Tables of sequences and their labels.

use crate::error::{Error, Result};
use crate::io::bases::{self, Counts};
use crate::io::foreign_table::ForeignTable;
use crate::sequence::base;
use std::path::Path;

/// A sequence and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labelled {
    /// Base codes, without the soft mask.
    pub codes: Vec<u8>,
    /// As written.
    pub label: String,
}

/// Reads a TSV, CSV or Parquet file with columns `sequence` and `label`, in letters of either case;
/// text may be compressed. Memory: the table.
///
/// # Errors
/// Input, naming the line or the row: no such columns, rows of another length, an empty sequence or
/// label, letters that are no bases.
pub fn read(path: &Path) -> Result<Vec<Labelled>> {
    let rows = ForeignTable::open(path).and_then(of_table);
    rows.map_err(|error| error.file(path.display()))
}

fn of_table(table: ForeignTable) -> Result<Vec<Labelled>> {
    let column = |wanted: &str| {
        let mut names = table.names.iter();
        let found = names.position(|name| name.eq_ignore_ascii_case(wanted));
        found.ok_or_else(|| {
            let error = Error::input(format!("no column \"{wanted}\""));
            error.todo(format!("it has {}", table.names.join(", ")))
        })
    };
    let (columns, mut rows) = ([column("sequence")?, column("label")?], Vec::new());
    table.each(&columns, &mut |cells| {
        let [letters, label] = [cells[0], cells[1]].map(str::trim);
        if letters.is_empty() || label.is_empty() {
            return Err("the sequence or the label is empty".to_string());
        }
        let mut codes = Vec::with_capacity(letters.len());
        let read = bases::decode(letters.as_bytes(), &mut codes, &mut Counts::default());
        if let Some(letter) = letters.as_bytes().get(read) {
            return Err(format!("{:?} is no base", char::from(*letter)));
        }
        codes.iter_mut().for_each(|code| *code = base(*code));
        let label = label.to_string();
        rows.push(Labelled { codes, label });
        Ok(())
    })?;
    if rows.is_empty() {
        return Err(Error::input("no sequences"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Labelled>> {
        let text = std::io::Cursor::new(text.as_bytes().to_vec());
        ForeignTable::of_text(text).and_then(of_table)
    }

    fn rows(text: &str) -> Vec<(Vec<u8>, String)> {
        let rows = parse(text).unwrap().into_iter();
        rows.map(|row| (row.codes, row.label)).collect()
    }

    #[test]
    fn commas_and_tabs_and_any_order_of_columns_are_read() {
        let expected = [
            (vec![0, 1, 2, 3], "1".to_string()),
            (vec![4, 0], "a b".to_string()),
        ];
        assert_eq!(rows("sequence,label\nACGT,1\nna,a b\n"), expected);
        assert_eq!(
            rows("label,sequence\n\"a, \"\"b\"\"\",A\n")[0].1,
            "a, \"b\""
        );
        assert_eq!(
            rows("Label\tid\tsequence\r\n1\tx\tacgt\r\n\"a b\"\ty\tRU\r\n")[0],
            expected[0]
        );
    }

    #[test]
    fn wrong_tables_are_errors_with_their_line() {
        for (text, words) in [
            (
                "seq,label\nA,1\n",
                "no column \"sequence\": it has seq, label",
            ),
            ("sequence,label\nA,1\nAC\n", "line 3: 1 columns"),
            ("sequence,label\nA,1\nA!C,1\n", "line 3: '!' is no base"),
            (
                "sequence,label\n,1\n",
                "line 2: the sequence or the label is empty",
            ),
            ("sequence,label\n", "no sequences"),
            ("", "no column"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn parquet_of_any_program_is_read_as_its_text_is() {
        use arrow_array::types::Int32Type;
        use arrow_array::{ArrayRef, DictionaryArray, Int64Array, RecordBatch, StringArray};
        use std::sync::Arc;
        let dir = tempfile::tempdir().unwrap();
        let written = |sequence: ArrayRef, label: ArrayRef| {
            let columns = [("Label", label), ("sequence", sequence)];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let path = dir.path().join("t.parquet");
            let file = std::fs::File::create(&path).unwrap();
            let mut out = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            out.write(&batch).unwrap();
            out.close().unwrap();
            read(&path)
        };
        let words: DictionaryArray<Int32Type> = ["ACGT", "NA"].into_iter().collect();
        let read = written(Arc::new(words), Arc::new(Int64Array::from(vec![1, 0]))).unwrap();
        assert_eq!(read, parse("sequence,label\nACGT,1\nNA,0\n").unwrap());
        let letters = StringArray::from(vec![Some("A"), None]);
        let labels = StringArray::from(vec!["x", "y"]);
        let error = written(Arc::new(letters), Arc::new(labels)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("t.parquet: row 2: the sequence or"),
            "{error}"
        );
    }
}
