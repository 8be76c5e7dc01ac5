//! `table join`: the rows of a table, and beside them what a file says of their variants, or of the
//! intervals that they overlap; and how well a score tells two kinds of labels apart.

mod judge;
mod rows;

use crate::error::{Error, Kind, Result};
use crate::io::compression::Compression;
use crate::io::labels::{Column, Labels};
use crate::io::table_file::TableFile;
use crate::io::table_writer::{ColumnSpec, TableWriter};
use crate::run::outputs::{Format, Outputs};
use crate::run::{file_name, units::number};
use crate::tables::must_be_circles;
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_select::take::take_arrays;
use judge::Judge;
use rows::Matches;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Rows that are read at a time.
const BATCH: usize = 1 << 13;

/// Rows after which a row group ends, where intervals make more of them.
const GROUP_ROWS: usize = 1 << 16;

/// What is joined, and to where.
pub struct Join<'a> {
    /// The table.
    pub table: &'a Path,
    /// The file of labels.
    pub labels: &'a Path,
    /// The table that is written.
    pub output: &'a Path,
    /// The columns of the labels that come along; none: all.
    pub columns: &'a [String],
    /// Rows without a label are left out.
    pub matched: bool,
    /// What is judged, if anything.
    pub question: Option<Question<'a>>,
    /// Where the judgement is written as JSON.
    pub summary: Option<&'a Path>,
    /// Replace the outputs if they exist.
    pub force: bool,
    /// How the table is compressed.
    pub compression: Compression,
}

/// How well a score tells labels apart.
pub struct Question<'a> {
    /// The column of the labels.
    pub label: &'a str,
    /// Labels that are positive; none: 1 and true are, and 0 and false are not.
    pub positive: &'a [String],
    /// The column of the score; its negative counts after a minus.
    pub score: &'a str,
}

/// Joins, and gives the judgement, if one was asked for. Memory: the labels, some thousand rows,
/// and 16 bytes for each row that is judged.
///
/// # Errors
/// Input: a file is damaged, or they do not go together; Usage: columns that they lack; Io.
pub fn join(request: &Join) -> Result<Option<Value>> {
    let inputs = [request.table, request.labels].map(Path::to_path_buf);
    let mut outputs = Outputs::new(&inputs, request.force);
    let mut declared = vec![(request.output.to_path_buf(), Format::Parquet)];
    let summary = request
        .summary
        .map(|path| (path.to_path_buf(), Format::Json));
    declared.extend(summary);
    outputs.open(&declared)?;
    let table = TableFile::open(request.table)?;
    let labels = Labels::read(request.labels, request.columns)?;
    must_be_circles(&table, request.labels, &labels.circles)?;
    let question = request.question.as_ref();
    let judge = question.map(|question| Judge::new(&table, &labels, question));
    let mut judge = judge.transpose()?;
    let file = outputs.create(request.output, Format::Parquet)?;
    let (columns, names) = columns(&table, &labels)?;
    let mut writer = TableWriter::create(file, &columns, request.compression)?;
    let matched = write(request, &table, &labels, &mut writer, judge.as_mut())?;
    let receipt = writer.finish(&footer(request, &table, &labels, &names))?;
    let judgement = judge.map(Judge::judgement).transpose()?;
    if let Some(path) = request.summary {
        write_summary(&mut outputs, path, &judgement)?;
    }
    outputs.commit()?;
    let repeated = labels.repeated;
    if repeated > 0 {
        tracing::warn!("{repeated} labels are of variants that have one already: the first counts");
    }
    if matched == 0 {
        tracing::warn!("no row has a label: are the names of contigs and the assembly the same?");
    }
    tracing::info!(
        "{} rows; {} of {} rows of the table have one of {} labels",
        number(receipt.rows),
        number(matched),
        number(table.rows()),
        number(u64::from(labels.count))
    );
    Ok(judgement)
}

/// The columns of the table and of the labels, and what the labels' are called.
fn columns(table: &TableFile, labels: &Labels) -> Result<(Vec<ColumnSpec>, Vec<String>)> {
    let mut columns = super::columns(table)?;
    let mut names = Vec::new();
    for Column { name, .. } in &labels.columns {
        let clashes = |name: &str| columns.iter().any(|column| column.name == name);
        let mut name = name.clone();
        while clashes(&name) || names.contains(&name) {
            name = format!("label_{name}");
        }
        names.push(name);
    }
    let own = labels.columns.iter().zip(&names);
    columns.extend(own.map(|(column, name)| ColumnSpec::new(name, column.kind())));
    Ok((columns, names))
}

/// Writes all rows, and says how many of the table's have a label.
fn write(
    request: &Join,
    table: &TableFile,
    labels: &Labels,
    writer: &mut TableWriter,
    mut judge: Option<&mut Judge>,
) -> Result<u64> {
    let all: Vec<usize> = (0..table.schema().fields().len()).collect();
    let matches = Matches::new(table, labels)?;
    let (mut matched, mut open) = (0, 0);
    for group in 0..table.parquet().num_row_groups() {
        for batch in table.read(group, &all, BATCH)? {
            let batch = batch?;
            let (mut rows, mut found) = (Vec::new(), Vec::new());
            matched += matches.of(&batch, |row, label| {
                if label.is_some() || !request.matched {
                    rows.push(row);
                    found.push(label);
                }
            })?;
            if let Some(judge) = &mut judge {
                judge.see(&batch, &rows, &found)?;
            }
            writer.write_arrays(&beside(&batch, rows, labels, &found)?)?;
            open += found.len();
            if open >= GROUP_ROWS {
                writer.close_group()?;
                open = 0;
            }
        }
        writer.close_group()?;
        open = 0;
    }
    Ok(matched)
}

/// These rows of a batch, and their labels beside them.
fn beside(
    batch: &RecordBatch,
    rows: Vec<u32>,
    labels: &Labels,
    found: &[Option<u32>],
) -> Result<Vec<ArrayRef>> {
    let all = rows.len() == batch.num_rows() && rows.iter().zip(0..).all(|(row, at)| *row == at);
    let mut arrays = if all {
        batch.columns().to_vec()
    } else {
        let taken = take_arrays(
            batch.columns(),
            &UInt32Array::from(rows) as &dyn Array,
            None,
        );
        taken.map_err(|e| Error::because(Kind::Internal, e))?
    };
    arrays.extend(labels.columns.iter().map(|column| column.array(found)));
    Ok(arrays)
}

/// The table's footer, which also says where the labels are from.
fn footer(request: &Join, table: &TableFile, labels: &Labels, names: &[String]) -> Value {
    let mut footer = table.footer.clone();
    let file = file_name(request.labels);
    for (column, name) in labels.columns.iter().zip(names) {
        footer["columns"][name] = json!({
            "dtype": column.kind().name(),
            "semantics": format!("{} of the labels in {file}", column.name),
        });
    }
    let on = if labels.of_variants() {
        "variant"
    } else {
        "interval"
    };
    let record = json!({"file": file, "by": on, "columns": names});
    match footer["labels"].as_array_mut() {
        Some(all) => all.push(record),
        None => footer["labels"] = json!([record]),
    }
    footer
}

fn write_summary(outputs: &mut Outputs, path: &Path, judgement: &Option<Value>) -> Result<()> {
    let mut file = outputs.create(path, Format::Json)?;
    let text = format!("{:#}\n", judgement.as_ref().unwrap_or(&Value::Null));
    let name: PathBuf = file.name().to_path_buf();
    let written = file.write_all(text.as_bytes());
    written.map_err(|e| Error::io(&name, &e))?;
    file.finish().map(drop)
}

/// A judgement as lines between tabs.
pub fn described(judgement: &Value) -> String {
    let cell = |value: &Value| match value {
        Value::Null => "NA".to_string(),
        Value::Number(n) if n.is_f64() => format!("{:.4}", n.as_f64().unwrap_or_default()),
        other => other
            .as_str()
            .map_or_else(|| other.to_string(), str::to_string),
    };
    let mut text = "type\trows\tpositive\tauroc\tauroc_low\tauroc_high\t\
        average_precision\taverage_precision_low\taverage_precision_high\n"
        .to_string();
    for kind in judgement["types"].as_array().into_iter().flatten() {
        let mut line = ["type", "rows", "positive"]
            .map(|key| cell(&kind[key]))
            .to_vec();
        for key in ["auroc", "average_precision"] {
            line.push(cell(&kind[key]["value"]));
            line.extend([0usize, 1].map(|end| cell(&kind[key]["interval"][end])));
        }
        text += &(line.join("\t") + "\n");
    }
    text
}
