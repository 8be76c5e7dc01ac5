//! Rows as TSV or CSV, with a header.

use super::put;
use super::rows::Rows;
use crate::error::Result;
use crate::io::delimited::Style;
use arrow_array::{Array, ArrayRef};
use rayon::prelude::*;
use std::io::Write;
use std::path::Path;

/// Rows that one core turns into text at a time.
const LINES: usize = 1 << 9;

/// Writes a header and a line for each row.
pub fn write(rows: &Rows, style: Style, to: &mut dyn Write, name: &Path) -> Result<()> {
    let fields = rows.fields();
    let header = style.header(fields.iter().map(|field| field.name().as_str()));
    put(to, header.as_bytes(), name)?;
    rows.each(|columns| {
        let count = columns.first().map_or(0, |column| column.len());
        let starts: Vec<usize> = (0..count).step_by(LINES).collect();
        let texts = starts.into_par_iter().map(|start| {
            let length = LINES.min(count - start);
            let columns: Vec<ArrayRef> = columns
                .iter()
                .map(|column| column.slice(start, length))
                .collect();
            style.lines(&columns, length)
        });
        let texts: Vec<String> = texts.collect::<Result<_>>()?;
        texts
            .iter()
            .try_for_each(|text| put(to, text.as_bytes(), name))
    })
}
