//! Whether tables are of equal runs, and what the footer of the one table says.

use super::{parts, regions, shards};
use crate::error::{Error, Result};
use crate::tables::file::TableFile;
use serde_json::{Map, Value};

/// Parameters that say which rows there are, not how they were computed.
pub const WHICH: [&str; 5] = [
    "input",
    "input-sha256",
    "input-bytes",
    "regions-file",
    "intervals",
];

/// How the rows of several tables become those of one.
pub enum Together {
    /// In the order of the contigs, or of the records of the one input.
    Sorted,
    /// Table after table, as they are given: their records are of several inputs.
    Given,
}

/// The footer of the table that these make together, and how their rows do.
///
/// # Errors
/// Input: they are of different runs, or not all parts are there and gaps are not allowed.
pub fn together(tables: &[TableFile], allow_gaps: bool) -> Result<(Value, Together)> {
    let Some((first, others)) = tables.split_first() else {
        return Err(Error::usage("no tables"));
    };
    let sharded = tables
        .iter()
        .filter(|table| shards::is_shard(table))
        .count();
    if sharded > 0 && sharded < tables.len() {
        let what = "some tables are shards and some are not";
        return Err(Error::input(what).file(first.path.display()));
    }
    let common = |table: &TableFile| {
        let mut footer = table.footer.clone();
        if sharded > 0 {
            without(&mut footer, &["shard", "shards"]);
        } else {
            without(&mut footer, &["selection", "parts"]);
            without_params(&mut footer, &WHICH);
            without_params(&mut footer, &["context"]);
        }
        footer
    };
    let one = common(first);
    for other in others {
        must_equal(first, other, "", &one, &common(other))?;
    }
    if sharded > 0 {
        Ok((shards::together(tables, allow_gaps)?, Together::Sorted))
    } else if others.is_empty() {
        Ok((first.footer.clone(), Together::Sorted))
    } else if is_of_records(first.kind()) {
        let footer = parts::together(tables, first.footer.clone())?;
        Ok((footer, Together::Given))
    } else {
        Ok((regions::together(tables, allow_gaps)?, Together::Sorted))
    }
}

/// Whether rows are those of an input's records, and counted there.
pub fn is_of_records(kind: &str) -> bool {
    ["reads", "read_bases", "variants"].contains(&kind)
}

/// An error if something of two tables differs.
pub fn must_equal(
    first: &TableFile,
    other: &TableFile,
    place: &str,
    one: &Value,
    another: &Value,
) -> Result<()> {
    let Some((what, one, another)) = difference(place, one, another) else {
        return Ok(());
    };
    let what = format!("{what} is {another}, but {one} in {}", first.path.display());
    let error = Error::input(what).file(other.path.display());
    Err(error.todo("only tables of equal runs can be joined"))
}

/// Removes keys of a footer.
pub fn without(footer: &mut Value, keys: &[&str]) {
    if let Some(all) = footer.as_object_mut() {
        all.retain(|key, _| !keys.contains(&key.as_str()));
    }
}

/// Removes parameters of a footer.
pub fn without_params(footer: &mut Value, names: &[&str]) {
    without(&mut footer["params"], names);
    let params = footer["params"].as_object();
    if params.is_none_or(Map::is_empty) {
        without(footer, &["params"]);
    }
}

/// The first thing that differs: its place, and what it is in both.
fn difference(place: &str, one: &Value, another: &Value) -> Option<(String, String, String)> {
    if one == another {
        return None;
    }
    let named = |name: &str| match place {
        "" => name.to_string(),
        place => format!("{place}.{name}"),
    };
    match (one, another) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let of = |all: &Map<String, Value>, name: &String| {
                all.get(name).cloned().unwrap_or_default()
            };
            let mut found = names.map(|name| difference(&named(name), &of(a, name), &of(b, name)));
            found.find_map(|found| found)
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(i, (a, b))| difference(&named(&i.to_string()), a, b))
        }
        _ => {
            let said = |value: &Value| match value {
                Value::Null => "absent".to_string(),
                Value::Object(_) => "present".to_string(),
                Value::Array(all) => format!("a list of {}", all.len()),
                other => other.to_string(),
            };
            Some((place.to_string(), said(one), said(another)))
        }
    }
}

/// The first few of many.
pub fn listed(names: impl Iterator<Item = String>, count: u64) -> String {
    const NAMED: usize = 5;
    let first: Vec<String> = names.take(NAMED).collect();
    let more = count - first.len() as u64;
    if more > 0 {
        format!("{} and {more} more", first.join(", "))
    } else {
        first.join(", ")
    }
}
