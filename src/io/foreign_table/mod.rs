//! Tables of any program: TSV and CSV whose first line names the columns, and Parquet. Their cells
//! are text.

mod parquet;

use super::input::{Input, is_stdin};
use super::table_file::is_parquet;
use super::{lines, read};
use crate::error::Result;
use std::borrow::Cow;
use std::io::{BufRead, Cursor, Read};
use std::ops::ControlFlow;
use std::path::Path;

/// The longest line, in bytes.
const MAX_LINE: u64 = 1 << 28;

/// A table that is open: the names of its columns, and rows that can be read once.
pub struct ForeignTable {
    /// What the columns are called.
    pub names: Vec<String>,
    rows: Rows,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
enum Rows {
    Text {
        input: Box<dyn BufRead>,
        separator: char,
    },
    Parquet(parquet::Rows),
}

impl ForeignTable {
    /// Opens Parquet, or text, which may be compressed and come through standard input.
    ///
    /// # Errors
    /// Input: the file is damaged; Io.
    pub fn open(path: &Path) -> Result<Self> {
        if !is_stdin(path) && is_parquet(path)? {
            Self::of_parquet(path)
        } else {
            Self::of_text(Input::open(path, false)?)
        }
    }

    /// Opens Parquet, with columns of strings, numbers and truth values.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of_parquet(path: &Path) -> Result<Self> {
        let (names, rows) = parquet::open(path)?;
        let rows = Rows::Parquet(rows);
        Ok(Self { names, rows })
    }

    /// Opens text. The header is the first line that is neither empty nor begins with ##, and may
    /// itself begin with #. Tabs lie between columns if it has one, else commas.
    ///
    /// # Errors
    /// Input: a line is too long; Io.
    pub fn of_text(mut input: impl BufRead + 'static) -> Result<Self> {
        let (mut head, mut line) = (Vec::new(), 0..0);
        while is_no_row(&head[line.clone()]) {
            let bytes = (&mut input).take(MAX_LINE).read_until(b'\n', &mut head);
            let bytes = bytes.map_err(read::error)?;
            line = line.end..head.len();
            if bytes == 0 || head.len() as u64 >= MAX_LINE {
                break;
            }
        }
        let header = String::from_utf8_lossy(&head[line]);
        let header = header.trim_end_matches(['\n', '\r']);
        let separator = if header.contains('\t') { '\t' } else { ',' };
        let header = header.trim_start_matches('#');
        let names = cells(header, separator).into_iter();
        let names = names.map(|name| name.trim().to_string()).collect();
        let input = Box::new(Cursor::new(head).chain(input));
        let rows = Rows::Text { input, separator };
        Ok(Self { names, rows })
    }

    /// Gives `take` the cells of these columns, row by row; a value that does not exist is empty.
    /// Memory: a line, or a batch of rows.
    ///
    /// # Errors
    /// Input, naming the line or the row: its cells are not as many as the columns; what `take`
    /// finds wrong with it. Io.
    pub fn each(
        self,
        columns: &[usize],
        take: &mut dyn FnMut(&[&str]) -> Result<(), String>,
    ) -> Result<()> {
        let (input, separator) = match self.rows {
            Rows::Text { input, separator } => (input, separator),
            Rows::Parquet(rows) => return parquet::each(rows, columns, take),
        };
        let mut at_header = true;
        lines::each(input, MAX_LINE, |line, _| {
            if is_no_row(line.as_bytes()) || std::mem::take(&mut at_header) {
                return Ok(ControlFlow::Continue(()));
            }
            let cells = cells(line, separator);
            if cells.len() != self.names.len() {
                let (found, expected) = (cells.len(), self.names.len());
                return Err(format!("{found} columns, expected {expected}"));
            }
            let chosen: Vec<&str> = columns.iter().map(|&at| &*cells[at]).collect();
            take(&chosen)?;
            Ok(ControlFlow::Continue(()))
        })
    }
}

fn is_no_row(line: &[u8]) -> bool {
    line.trim_ascii().is_empty() || line.starts_with(b"##")
}

/// The cells of a line. They may stand in double quotes, which are doubled within.
fn cells(line: &str, separator: char) -> Vec<Cow<'_, str>> {
    let (mut cells, mut rest) = (Vec::new(), Some(line));
    while let Some(text) = rest {
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| quoted(text, separator));
        let (cell, after) = quoted.unwrap_or_else(|| match text.split_once(separator) {
            Some((cell, after)) => (Cow::Borrowed(cell), Some(after)),
            None => (Cow::Borrowed(text), None),
        });
        cells.push(cell);
        rest = after;
    }
    cells
}

/// A cell up to the quotation mark that ends it, and what follows the separator; none if no mark
/// does: then the one at its start is a letter as others are.
fn quoted(text: &str, separator: char) -> Option<(Cow<'_, str>, Option<&str>)> {
    let mut from = 0;
    let end = loop {
        let at = from + text[from..].find('"')?;
        if !text[at + 1..].starts_with('"') {
            break at;
        }
        from = at + 2;
    };
    let after = &text[end + 1..];
    let after = match after.strip_prefix(separator) {
        Some(after) => Some(after),
        None if after.is_empty() => None,
        None => return None,
    };
    let cell = match &text[..end] {
        cell if cell.contains('"') => Cow::Owned(cell.replace("\"\"", "\"")),
        cell => Cow::Borrowed(cell),
    };
    Some((cell, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::delimited::Style;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_we_write_as_text_is_read_as_it_was(
            rows in prop::collection::vec(prop::array::uniform3("[a\", \\-é]{0,6}"), 1..6),
        ) {
            for (style, separator) in [(Style::Tsv, '\t'), (Style::Csv, ',')] {
                for row in &rows {
                    let text = style.header(row.iter().map(String::as_str));
                    let found = cells(text.trim_end_matches('\n'), separator);
                    prop_assert_eq!(&found, &row.each_ref().map(|cell| Cow::Borrowed(cell.as_str())));
                }
            }
        }
    }

    #[test]
    fn a_quotation_mark_within_a_cell_or_without_its_end_is_a_letter() {
        let found = |line| cells(line, ',').join("|");
        assert_eq!(found("5\" or 3\",x"), "5\" or 3\"|x");
        assert_eq!(found("\"a,b"), "\"a|b");
        assert_eq!(found("\"a\"b,c"), "\"a\"b|c");
        assert_eq!(found("\"\",,"), "||");
    }
}
