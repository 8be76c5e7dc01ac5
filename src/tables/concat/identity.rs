//! Whether tables are of equal runs.

use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use serde_json::{Map, Value};

/// Parameters that say which rows there are, not how they were computed.
pub const WHICH: [&str; 5] = [
    "input",
    "input-sha256",
    "input-bytes",
    "regions-file",
    "intervals",
];

/// Whether rows are those of an input's records, and counted there.
pub fn is_of_records(kind: &str) -> bool {
    ["reads", "read_bases", "sequences", "variants"].contains(&kind)
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
