//! Tables of sequences and their labels: CSV, or TSV.

use super::bases;
use super::input::Input;
use super::lines;
use crate::error::{Error, Result};
use crate::sequence::base;
use std::io::BufRead;
use std::ops::ControlFlow;
use std::path::Path;

/// A sequence and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labelled {
    /// Base codes, without the soft mask.
    pub codes: Vec<u8>,
    /// As written.
    pub label: String,
}

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 28;

/// Reads a table whose first line names its columns, `sequence` and `label` among them: between
/// tabs if that line has one, else between commas. Cells may stand in double quotes, but hold none.
/// The file may be compressed. Memory: the table.
///
/// # Errors
/// Input, naming the line: no such columns, rows of another length, an empty sequence or label,
/// letters that are no bases.
pub fn read(path: &Path) -> Result<Vec<Labelled>> {
    let input = Input::open(path, false)?;
    let name = input.name().to_string();
    parse(input).map_err(|error| error.file(name))
}

fn parse(input: impl BufRead) -> Result<Vec<Labelled>> {
    let (mut rows, mut table) = (Vec::new(), None);
    lines::each(input, MAX_LINE, |line, _| {
        match &table {
            _ if line.is_empty() => {}
            Some(table) => rows.push(parse_row(line, table)?),
            None => table = Some(Table::new(line)?),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if rows.is_empty() {
        Err(Error::input("no sequences"))
    } else {
        Ok(rows)
    }
}

/// Where the columns are.
struct Table {
    delimiter: char,
    columns: usize,
    sequence: usize,
    label: usize,
}

impl Table {
    fn new(header: &str) -> Result<Self, String> {
        let delimiter = if header.contains('\t') { '\t' } else { ',' };
        let names: Vec<&str> = header.split(delimiter).map(bare).collect();
        let column = |wanted: &str| {
            let found = names
                .iter()
                .position(|name| name.eq_ignore_ascii_case(wanted));
            found.ok_or_else(|| format!("no column \"{wanted}\""))
        };
        Ok(Self {
            delimiter,
            columns: names.len(),
            sequence: column("sequence")?,
            label: column("label")?,
        })
    }
}

fn parse_row(text: &str, table: &Table) -> Result<Labelled, String> {
    let cells: Vec<&str> = text.split(table.delimiter).map(bare).collect();
    if cells.len() != table.columns {
        return Err(format!(
            "{} columns, expected {}",
            cells.len(),
            table.columns
        ));
    }
    let (letters, label) = (cells[table.sequence].as_bytes(), cells[table.label]);
    if letters.is_empty() || label.is_empty() {
        return Err("the sequence or the label is empty".to_string());
    }
    let mut codes = Vec::with_capacity(letters.len());
    let read = bases::decode(letters, &mut codes, &mut bases::Counts::default());
    if let Some(letter) = letters.get(read) {
        return Err(format!("{:?} is no base", char::from(*letter)));
    }
    codes.iter_mut().for_each(|code| *code = base(*code));
    let label = label.to_string();
    Ok(Labelled { codes, label })
}

/// A cell without blanks and quotes around it.
fn bare(cell: &str) -> &str {
    let cell = cell.trim();
    let quoted = cell
        .strip_prefix('"')
        .and_then(|cell| cell.strip_suffix('"'));
    quoted.unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(Vec<u8>, String)> {
        let rows = parse(text.as_bytes()).unwrap().into_iter();
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
            rows("Label\tid\tsequence\r\n1\tx\tacgt\r\n\"a b\"\ty\tRU\r\n")[0],
            expected[0]
        );
    }

    #[test]
    fn wrong_tables_are_errors_with_their_line() {
        for (text, words) in [
            ("seq,label\nA,1\n", "line 1: no column \"sequence\""),
            ("sequence,label\nA,1\nAC\n", "line 3: 1 columns"),
            ("sequence,label\nA,1\nA!C,1\n", "line 3: '!' is no base"),
            (
                "sequence,label\n,1\n",
                "line 2: the sequence or the label is empty",
            ),
            ("sequence,label\n", "no sequences"),
            ("", "no sequences"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
