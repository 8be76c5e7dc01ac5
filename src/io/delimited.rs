//! Rows as text: TSV and CSV, a line a row.
//!
//! A value that does not exist is `NA` in TSV, which R and pandas read as missing in columns of
//! numbers and of strings alike (R takes an empty string for a string), and empty in CSV, which
//! polars, DuckDB and spreadsheets do. A vector is one column, its numbers separated by commas; in
//! CSV that is quoted. A string in TSV is quoted if it holds a quotation mark, since readers take one
//! at its start for that; tabs and ends of lines within it, which none of our inputs has, become
//! blanks.

use crate::error::{Error, Kind, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use std::fmt::{Display, Write as _};

/// A kind of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Tabs between columns.
    Tsv,
    /// Commas between columns.
    Csv,
}

impl Style {
    /// What stands between two columns.
    fn separator(self) -> char {
        match self {
            Self::Tsv => '\t',
            Self::Csv => ',',
        }
    }

    fn missing(self) -> &'static str {
        match self {
            Self::Tsv => "NA",
            Self::Csv => "",
        }
    }

    /// A string as a cell.
    pub fn text(self, text: &str, out: &mut String) {
        match self {
            Self::Tsv => {
                let quote = if text.contains('"') { "\"" } else { "" };
                out.push_str(quote);
                for c in text.chars() {
                    out.extend((c == '"').then_some('"'));
                    out.push(if c.is_control() { ' ' } else { c });
                }
                out.push_str(quote);
            }
            Self::Csv if text.contains(['"', ',', '\n', '\r']) || text.is_empty() => {
                let _ = write!(out, "\"{}\"", text.replace('"', "\"\""));
            }
            Self::Csv => out.push_str(text),
        }
    }

    /// A line of the columns' names.
    pub fn header<'a>(self, names: impl IntoIterator<Item = &'a str>) -> String {
        let mut out = String::new();
        for (at, name) in names.into_iter().enumerate() {
            if at > 0 {
                out.push(self.separator());
            }
            self.text(name, &mut out);
        }
        out.push('\n');
        out
    }

    /// A line for each row of these columns.
    ///
    /// # Errors
    /// Internal: a column of a type that we do not write.
    pub fn lines(self, columns: &[ArrayRef], rows: usize) -> Result<String> {
        let cells: Vec<Cell> = columns
            .iter()
            .map(|column| self.cell(column))
            .collect::<Result<_>>()?;
        let mut out = String::new();
        for row in 0..rows {
            for (at, cell) in cells.iter().enumerate() {
                if at > 0 {
                    out.push(self.separator());
                }
                if columns[at].is_valid(row) {
                    cell(row, &mut out);
                } else {
                    out.push_str(self.missing());
                }
            }
            out.push('\n');
        }
        Ok(out)
    }

    /// How the values of a column are written.
    fn cell<'a>(self, column: &'a ArrayRef) -> Result<Cell<'a>> {
        macro_rules! numbers {
            ($kind:ty) => {{
                let values = column.as_primitive::<$kind>().values();
                Box::new(|row, out: &mut String| plain(values[row], out))
            }};
        }
        Ok(match column.data_type() {
            DataType::Dictionary(..) => {
                let words = column.as_dictionary::<Int32Type>();
                let text = words.values().as_string::<i32>();
                Box::new(move |row, out| {
                    if let Some(key) = words.key(row) {
                        self.text(text.value(key), out);
                    }
                })
            }
            DataType::Utf8 => {
                let text = column.as_string::<i32>();
                Box::new(move |row, out| self.text(text.value(row), out))
            }
            DataType::Int64 => numbers!(Int64Type),
            DataType::Int32 => numbers!(Int32Type),
            DataType::UInt8 => numbers!(UInt8Type),
            DataType::UInt16 => numbers!(UInt16Type),
            DataType::Float32 => {
                let values = column.as_primitive::<Float32Type>().values();
                Box::new(|row, out| real(f64::from(values[row]), values[row], out))
            }
            DataType::Float64 => {
                let values = column.as_primitive::<Float64Type>().values();
                Box::new(|row, out| real(values[row], values[row], out))
            }
            DataType::FixedSizeList(..) => self.vector(column)?,
            other => return Err(unknown(other)),
        })
    }

    fn vector<'a>(self, column: &'a ArrayRef) -> Result<Cell<'a>> {
        let vectors = column.as_fixed_size_list();
        let dim = vectors.value_length() as usize;
        let quote = if self == Self::Csv { "\"" } else { "" };
        let numbers: Cell<'a> = match vectors.value_type() {
            DataType::Float16 => {
                let values = vectors.values().as_primitive::<Float16Type>().values();
                Box::new(|at, out| {
                    let value = values[at].to_f32();
                    real(f64::from(value), value, out);
                })
            }
            DataType::Float32 => {
                let values = vectors.values().as_primitive::<Float32Type>().values();
                Box::new(|at, out| real(f64::from(values[at]), values[at], out))
            }
            other => return Err(unknown(&other)),
        };
        Ok(Box::new(move |row, out| {
            out.push_str(quote);
            for at in 0..dim {
                if at > 0 {
                    out.push(',');
                }
                numbers(row * dim + at, out);
            }
            out.push_str(quote);
        }))
    }
}

/// Writes the value of a row that has one.
type Cell<'a> = Box<dyn Fn(usize, &mut String) + 'a>;

fn plain(value: impl Display, out: &mut String) {
    let _ = write!(out, "{value}");
}

/// The shortest text that reads back as the same number.
fn real(size: f64, value: impl Display + std::fmt::LowerExp, out: &mut String) {
    let _ = if size == 0.0 || (1e-5..1e16).contains(&size.abs()) {
        write!(out, "{value}")
    } else {
        write!(out, "{value:e}")
    };
}

fn unknown(kind: &DataType) -> Error {
    Error::new(Kind::Internal, format!("a column of type {kind}"))
}
