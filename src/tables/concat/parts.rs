//! What a joined table says of the tables that it was made of, where their selections do not add
//! up to one: under `parts`, each with the parameters that say which rows it had.

use super::identity::{WHICH, is_of_records, without, without_params};
use super::selection::selected;
use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use crate::sequence::Contig;
use crate::sequence::region::Span;
use crate::tables::contigs;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Parameters that say what was read.
const WHAT: [&str; 3] = ["input", "input-sha256", "input-bytes"];

/// Puts `parts` into a footer, in the place of its selection.
///
/// # Errors
/// Input: two of them have the same rows.
pub fn together(tables: &[TableFile], mut footer: Value) -> Result<Value> {
    let contigs = contigs(&tables[0])?;
    let mut all: Vec<(Value, &TableFile)> = Vec::new();
    for table in tables {
        for part in parts(table) {
            for (other, from) in &all {
                if share_rows(table.kind(), [other, &part], &contigs)? {
                    let what = format!("it may have rows that {} has too", from.path.display());
                    let error = Error::input(what).file(table.path.display());
                    return Err(error.todo("give each part once"));
                }
            }
            all.push((part, table));
        }
    }
    let keys = footer.as_object().map(|all| all.keys().cloned().collect());
    let keys: Vec<String> = keys.unwrap_or_default();
    let place = keys
        .iter()
        .position(|key| ["selection", "parts"].contains(&key.as_str()));
    without(&mut footer, &["selection", "parts"]);
    without_params(&mut footer, &WHICH);
    if let Some(footer) = footer.as_object_mut() {
        let all = all.into_iter().map(|(part, _)| part).collect();
        footer.shift_insert(place.unwrap_or_default(), "parts".to_string(), all);
    }
    Ok(footer)
}

/// The parts of a table: those that it was made of, or the table itself.
fn parts(table: &TableFile) -> Vec<Value> {
    if let Some(parts) = table.footer["parts"].as_array() {
        return parts.clone();
    }
    let params = table.footer["params"].as_object().into_iter().flatten();
    let which = params.filter(|(name, _)| WHICH.contains(&name.as_str()));
    let which: Map<String, Value> = which.map(|(k, v)| (k.clone(), v.clone())).collect();
    let selection = &table.footer["selection"];
    vec![json!({"rows": table.rows(), "selection": selection, "params": which})]
}

/// Whether two parts have a row in common, as far as their footers say.
fn share_rows(kind: &str, [one, other]: [&Value; 2], contigs: &[Contig]) -> Result<bool> {
    if is_of_records(kind) && !same_input(one, other) {
        return Ok(false);
    }
    let of_a_file = !one["params"]["input"].is_null();
    let (one, other) = (&one["selection"], &other["selection"]);
    let is_all = |selection: &Value| selection["regions"].as_array().is_some_and(Vec::is_empty);
    if is_all(one) || is_all(other) {
        return Ok(true);
    }
    match (selected(one, contigs)?, selected(other, contigs)?) {
        // A read, or a deletion, may lie in several regions of a contig.
        (Some(one), Some(other)) if of_a_file => {
            let here: HashSet<usize> = one.iter().map(|span| span.contig).collect();
            Ok(other.iter().any(|span| here.contains(&span.contig)))
        }
        (Some(one), Some(other)) => Ok(one.iter().any(|a| {
            let overlaps = |b: &Span| a.contig == b.contig && a.start < b.end && b.start < a.end;
            other.iter().any(overlaps)
        })),
        _ => Ok(is_of_records(kind) || one == other),
    }
}

/// Whether two parts are of one input, by its digest, or else by its name and size. Of a pipe
/// nothing is known but that it cannot be read twice.
fn same_input(one: &Value, other: &Value) -> bool {
    let of = |part: &'_ Value| WHAT.map(|key| part["params"][key].clone());
    let ([name, sum, bytes], [other, other_sum, other_bytes]) = (of(one), of(other));
    if !sum.is_null() || !other_sum.is_null() {
        return sum == other_sum;
    }
    let made_up = name.is_null();
    name == other && (made_up || !bytes.is_null() && bytes == other_bytes)
}
