//! `table summarise`: what the numbers of a table are in each of some groups of its rows.

mod groups;
mod statistics;

use crate::error::{Error, Result};
use crate::io::compression::Compression;
use crate::io::delimited::Style;
use crate::io::table_file::TableFile;
use crate::io::table_writer::{ColumnSpec, TableWriter};
use crate::run::outputs::{Format, Outputs};
use crate::run::{file_name, units::number};
use arrow_array::ArrayRef;
use arrow_schema::DataType;
use groups::Groups;
use serde_json::{Value, json};
use statistics::{NAMES, Statistics};
use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;

/// Rows that are read at a time.
const BATCH: usize = 1 << 16;

/// Rows that are written at a time.
const LINES: usize = 1 << 13;

/// Rows of a row group.
const GROUP_ROWS: usize = 1 << 16;

/// What is summarised, and to where.
pub struct Summarise<'a> {
    /// The table.
    pub table: &'a Path,
    /// A column of it, or a file of intervals.
    pub by: &'a str,
    /// The columns of numbers; none: all of `float32` and `float64`.
    pub columns: &'a [String],
    /// The file that is written: TSV by its name, else a table.
    pub output: &'a Path,
    /// Replace the output if it exists.
    pub force: bool,
    /// How the table is compressed, if it is one.
    pub compression: Compression,
}

/// Writes a row for each group. The columns are read one after another; memory: 8 bytes for each
/// row and interval that it lies in, and the groups.
///
/// # Errors
/// Input: a file is damaged; Usage: columns that the table lacks, or that hold no numbers; Io.
pub fn summarise(request: &Summarise) -> Result<()> {
    let table = TableFile::open(request.table)?;
    let by_column = table.column(request.by).is_some();
    let by = Path::new(request.by);
    let mut inputs = vec![request.table.to_path_buf()];
    inputs.extend((!by_column).then(|| by.to_path_buf()));
    let extension = request.output.extension().and_then(OsStr::to_str);
    let tsv = extension.is_some_and(|name| ["tsv", "txt"].contains(&&*name.to_ascii_lowercase()));
    let format = if tsv { Format::Tsv } else { Format::Parquet };
    let mut outputs = Outputs::new(&inputs, request.force);
    outputs.open(&[(request.output.to_path_buf(), format)])?;
    let columns = columns(&table, request.columns)?;
    let groups = if by_column {
        Groups::of_column(&table, request.by)?
    } else {
        Groups::of_intervals(&table, by)?
    };
    let mut specs = groups.specs();
    let mut arrays = groups.arrays();
    for name in &columns {
        let statistics = of_column(&table, &groups, name)?;
        specs.extend(statistics.specs(name));
        arrays.extend(statistics.arrays());
    }
    let file = outputs.create(request.output, format)?;
    if tsv {
        let mut file = file;
        let name = file.name().to_path_buf();
        let written = write_text(&specs, &arrays, &mut file);
        written?.map_err(|e| Error::io(&name, &e))?;
        file.finish()?;
    } else {
        let mut writer = TableWriter::create(file, &specs, request.compression)?;
        for start in (0..groups.len()).step_by(GROUP_ROWS) {
            let length = GROUP_ROWS.min(groups.len() - start);
            let rows: Vec<ArrayRef> = arrays.iter().map(|a| a.slice(start, length)).collect();
            writer.write_arrays(&rows)?;
            writer.close_group()?;
        }
        writer.finish(&footer(request, &table, &specs, &columns))?;
    }
    outputs.commit()?;
    tracing::info!(
        "{} groups of {} rows, {} columns",
        number(groups.len() as u64),
        number(table.rows()),
        columns.len()
    );
    Ok(())
}

/// The columns of numbers that are summarised.
fn columns(table: &TableFile, wanted: &[String]) -> Result<Vec<String>> {
    let fields = table.schema().fields().iter();
    let real =
        fields.filter(|field| matches!(field.data_type(), DataType::Float32 | DataType::Float64));
    let real: Vec<String> = real.map(|field| field.name().clone()).collect();
    let here =
        |what: String, todo: String| Err(Error::usage(what).file(table.path.display()).todo(todo));
    if let Some(name) = wanted.iter().find(|name| table.column(name).is_none()) {
        let what = format!("there is no column {name}");
        return here(what, format!("columns of numbers are {}", real.join(", ")));
    }
    if wanted.is_empty() && real.is_empty() {
        let todo = "name others with --columns".to_string();
        return here("there is no column of float32 or float64".to_string(), todo);
    }
    Ok(if wanted.is_empty() {
        real
    } else {
        wanted.to_vec()
    })
}

/// The statistics of a column in each group.
fn of_column(table: &TableFile, groups: &Groups, name: &str) -> Result<Statistics> {
    let mut read = groups.columns(table)?;
    read.extend(table.column(name));
    let mut statistics = Statistics::new(groups.counts());
    for group in 0..table.parquet().num_row_groups() {
        for batch in table.read(group, &read, BATCH)? {
            let batch = batch?;
            let number = table.numbers(&batch, name)?;
            groups.each(table, &batch, &mut |row, group| {
                if let Some(number) = number(row) {
                    statistics.push(group, number);
                }
            })?;
        }
    }
    statistics.finish();
    Ok(statistics)
}

fn write_text(
    specs: &[ColumnSpec],
    arrays: &[ArrayRef],
    to: &mut impl Write,
) -> Result<std::io::Result<()>> {
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let mut written = writeln!(to, "{}", names.join("\t"));
    let rows = arrays.first().map_or(0, |array| array.len());
    for start in (0..rows).step_by(LINES) {
        let length = LINES.min(rows - start);
        let slices: Vec<ArrayRef> = arrays.iter().map(|a| a.slice(start, length)).collect();
        let text = Style::Tsv.lines(&slices, length)?;
        written = written.and_then(|()| to.write_all(text.as_bytes()));
    }
    Ok(written)
}

/// The table's footer, as that of a summary.
fn footer(request: &Summarise, table: &TableFile, specs: &[ColumnSpec], of: &[String]) -> Value {
    let mut footer = table.footer.clone();
    footer["table"] = json!("summary");
    footer["primary_columns"] = json!(of);
    let mut meanings = json!({});
    for spec in specs {
        let name = spec.name.as_str();
        let (of, what) = name.rsplit_once('_').unwrap_or((name, name));
        let known = NAMES
            .iter()
            .find(|(suffix, _)| *suffix == what && table.column(of).is_some());
        let meaning = match known {
            Some((_, meaning)) => format!("{meaning} {of}"),
            None if name == "rows" => "how many rows of the table it has".to_string(),
            None => format!("{name} of the group"),
        };
        meanings[name] = json!({"dtype": spec.kind.name(), "semantics": meaning});
    }
    footer["columns"] = meanings;
    let by = if table.column(request.by).is_some() {
        request.by.to_string()
    } else {
        file_name(Path::new(request.by))
    };
    footer["summary"] = json!({"of": table.kind(), "by": by});
    footer
}
