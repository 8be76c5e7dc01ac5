//! `table show`: what a table's footer and statistics say, as people read it.

use crate::error::{Result, printable};
use crate::io::table_file::TableFile;
use crate::run::units::{number, readable};
use parquet::file::statistics::Statistics;
use serde_json::{Value, json};
use std::path::Path;

/// Sequences that are named.
const NAMED: usize = 6;

/// What is known of a table, as lines of text or as JSON.
///
/// # Errors
/// Input: it is no table of ours; Io.
pub fn show(path: &Path, json: bool) -> Result<String> {
    let table = TableFile::open(path)?;
    if json {
        let about = json!({
            "file": path.display().to_string(),
            "bytes": table.file.bytes(),
            "rows": table.rows(),
            "row_groups": table.parquet().num_row_groups(),
            "columns": columns(&table),
            "footer": table.footer,
        });
        return Ok(format!("{about:#}\n"));
    }
    Ok(described(&table))
}

/// A column: what it means, and what is in it.
fn columns(table: &TableFile) -> Vec<Value> {
    let fields = table.schema().fields().iter().enumerate();
    let each = fields.map(|(column, field)| {
        let about = &table.footer["columns"][field.name().as_str()];
        let groups = table.parquet().row_groups().iter();
        let bytes = groups.filter_map(|group| group.columns().get(column));
        let bytes: i64 = bytes.map(|chunk| chunk.compressed_size()).sum();
        let found = Found::of(table, column, about["dtype"].as_str());
        let mut value = json!({"name": field.name()});
        for key in ["dtype", "dim", "unit", "layer", "pool", "semantics"] {
            if !about[key].is_null() {
                value[key] = about[key].clone();
            }
        }
        value["nulls"] = json!(found.nulls);
        value["min"] = found.min;
        value["max"] = found.max;
        value["bytes"] = json!(bytes);
        value
    });
    each.collect()
}

/// What the statistics of all row groups say of a column.
#[derive(Default)]
struct Found {
    nulls: Option<u64>,
    min: Value,
    max: Value,
}

impl Found {
    fn of(table: &TableFile, column: usize, dtype: Option<&str>) -> Self {
        let groups = 0..table.parquet().num_row_groups();
        let groups: Vec<_> = groups
            .map(|group| table.statistics(group, column))
            .collect();
        let optional = table.schema().field(column).is_nullable();
        let nulls = groups
            .iter()
            .map(|group| group.and_then(Statistics::null_count_opt));
        let nulls = if optional { nulls.sum() } else { Some(0) };
        let mut found = Self {
            nulls,
            ..Self::default()
        };
        for statistics in groups {
            let Some(statistics) = statistics else {
                continue;
            };
            if is_cut(statistics) {
                return Self {
                    nulls: found.nulls,
                    ..Self::default()
                };
            }
            let Some([min, max]) = ends(statistics, dtype) else {
                continue;
            };
            if found.min.is_null() || less(&min, &found.min) {
                found.min = min;
            }
            if found.max.is_null() || less(&found.max, &max) {
                found.max = max;
            }
        }
        found
    }
}

/// Whether these are of long strings, of which Parquet keeps the beginnings.
fn is_cut(statistics: &Statistics) -> bool {
    let text = matches!(statistics, Statistics::ByteArray(_));
    text && !(statistics.min_is_exact() && statistics.max_is_exact())
}

/// The least and the largest value. Of vectors there are none.
fn ends(statistics: &Statistics, dtype: Option<&str>) -> Option<[Value; 2]> {
    fn pair<T: Copy + Into<Value>>(min: Option<&T>, max: Option<&T>) -> Option<[Value; 2]> {
        Some([(*min?).into(), (*max?).into()])
    }
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    match statistics {
        Statistics::Int32(values) => pair(values.min_opt(), values.max_opt()),
        Statistics::Int64(values) => pair(values.min_opt(), values.max_opt()),
        Statistics::Float(values) => pair(values.min_opt(), values.max_opt()),
        Statistics::Double(values) => pair(values.min_opt(), values.max_opt()),
        _ if dtype == Some("string") => {
            let ends = [statistics.min_bytes_opt()?, statistics.max_bytes_opt()?];
            Some(ends.map(text))
        }
        _ => None,
    }
}

fn less(a: &Value, b: &Value) -> bool {
    match (a.as_str(), b.as_str()) {
        (Some(a), Some(b)) => a < b,
        _ => a.as_f64() < b.as_f64(),
    }
}

fn described(table: &TableFile) -> String {
    let footer = &table.footer;
    // What a table does not say has no line.
    let words = |value: &Value| match value {
        Value::Null => String::new(),
        other => plain(other),
    };
    let count = |value: &Value| value.as_u64().map(number).unwrap_or_default();
    let mut lines = vec![
        ("table", table.kind().to_string()),
        ("rows", number(table.rows())),
        (
            "row groups",
            number(table.parquet().num_row_groups() as u64),
        ),
        ("size", readable(table.file.bytes())),
        ("coordinates", words(&footer["coordinates"]["system"])),
    ];
    let model = &footer["model"];
    lines.extend([
        ("model", words(&model["name"])),
        ("architecture", words(&model["architecture"])),
        ("parameters", count(&model["n_params"])),
        ("sha256", words(&model["sha256"])),
    ]);
    let inference = &footer["inference"];
    let bases = |value: &Value| match value {
        Value::Null => String::new(),
        bases => format!("{} bases", count(bases)),
    };
    let computed = [&inference["precision"], &inference["device"]].map(words);
    let computed = computed.into_iter().filter(|words| !words.is_empty());
    let computed = computed.collect::<Vec<_>>().join(" on ");
    lines.extend([
        ("mode", words(&inference["mode"])),
        ("window", bases(&inference["window"])),
        ("strand", words(&inference["strand"])),
        ("chunk", bases(&inference["chunk"])),
        ("computed", computed),
        ("reference", reference(footer)),
        ("selected", selected(footer)),
    ]);
    let parameters = footer["params"].as_object();
    let parameters = parameters.into_iter().flatten();
    let parameters: Vec<String> = parameters
        .map(|(name, value)| format!("{name} {}", words(value)))
        .collect();
    if !parameters.is_empty() {
        lines.push(("settings", parameters.join(", ")));
    }
    let tool = &footer["tool"];
    lines.push((
        "written by",
        format!("{} {}", words(&tool["name"]), words(&tool["version"])),
    ));
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    let text = lines.map(|(name, value)| format!("{name}: {}\n", printable(&value)));
    text.collect::<String>() + &listed(&columns(table))
}

fn reference(footer: &Value) -> String {
    let reference = &footer["reference"];
    if reference.is_null() {
        return String::new();
    }
    let contigs = reference["contigs"].as_array();
    let contigs = contigs.map(Vec::as_slice).unwrap_or_default();
    let bases: u64 = contigs
        .iter()
        .filter_map(|contig| contig["length"].as_u64())
        .sum();
    let names = contigs.iter().filter_map(|contig| contig["name"].as_str());
    let mut names: Vec<&str> = names.take(NAMED).collect();
    if contigs.len() > NAMED {
        names.push("...");
    }
    format!(
        "{}, {} sequences ({}), {} bases",
        reference["path"]
            .as_str()
            .filter(|path| !path.is_empty())
            .unwrap_or("no file"),
        number(contigs.len() as u64),
        names.join(", "),
        number(bases)
    )
}

fn selected(footer: &Value) -> String {
    let all = [&footer["selection"]];
    let parts = footer["parts"].as_array();
    let selections: Vec<&Value> = match parts {
        Some(parts) => parts.iter().map(|part| &part["selection"]).collect(),
        None if all[0].is_null() => return String::new(),
        None => all.to_vec(),
    };
    let mut text = listed_first(
        selections
            .into_iter()
            .map(|selection| match selection["regions"].as_array() {
                None => format!("{} regions or intervals", selection["count"]),
                Some(regions) if regions.is_empty() => "all".to_string(),
                Some(regions) => listed_first(regions.iter().map(plain), ", ", "regions"),
            }),
        "; ",
        "parts",
    );
    let (shard, shards) = (&footer["shard"], &footer["shards"]);
    for record in [shard, shards]
        .into_iter()
        .filter(|record| record.is_object())
    {
        let index = match record["index"].as_array() {
            Some(several) => format!(
                "s {}",
                listed_first(several.iter().map(plain), ", ", "shards")
            ),
            None => format!(" {}", record["index"]),
        };
        let by = plain(&record["by"]);
        text += &format!(", of that shard{index} of {} by {by}", record["of"]);
    }
    text
}

/// A value, without quotes.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_string)
}

/// The first few of many.
fn listed_first(names: impl ExactSizeIterator<Item = String>, between: &str, what: &str) -> String {
    let count = names.len();
    let first: Vec<String> = names.take(NAMED).collect();
    let first = first.join(between);
    if count > NAMED {
        format!("{first}{between}... ({} {what})", number(count as u64))
    } else {
        first
    }
}

/// The columns, as a table with a line each.
fn listed(columns: &[Value]) -> String {
    const HEADER: [&str; 7] = ["column", "type", "unit", "nulls", "min", "max", "size"];
    let cell = |value: &Value| match value {
        Value::Null => "-".to_string(),
        Value::String(text) => printable(text),
        other => other.to_string(),
    };
    // In as many digits as tell a number from its neighbours of the same precision.
    let end = |value: &Value, dtype: &Value| match value.as_f64() {
        Some(number) if dtype == "float32" => (number as f32).to_string(),
        _ => cell(value),
    };
    let mut rows: Vec<Vec<String>> = vec![HEADER.map(str::to_string).to_vec()];
    rows[0].push("meaning".to_string());
    for column in columns {
        let dtype = match column["dim"].as_u64() {
            Some(dim) => format!("{} x {dim}", cell(&column["dtype"])),
            None => cell(&column["dtype"]),
        };
        let bytes = column["bytes"].as_u64().unwrap_or_default();
        let mut row = vec![cell(&column["name"]), dtype];
        row.extend(["unit", "nulls"].map(|key| cell(&column[key])));
        row.extend(["min", "max"].map(|key| end(&column[key], &column["dtype"])));
        row.extend([readable(bytes), cell(&column["semantics"])]);
        rows.push(row);
    }
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: Vec<usize> = (0..HEADER.len()).map(|at| width(at).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).map(|(cell, &width)| {
            let blanks = width.saturating_sub(cell.chars().count());
            format!("{cell}{}", " ".repeat(blanks + 2))
        });
        format!("{}{}\n", padded.collect::<String>(), row[HEADER.len()])
    };
    format!("\n{}", rows.iter().map(line).collect::<String>())
}
