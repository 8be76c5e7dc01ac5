//! Tables that are shards of one run.

use super::identity::{listed, must_equal, without};
use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Whether a table is a shard, or holds some of them.
pub fn is_shard(table: &TableFile) -> bool {
    shards(&table.footer).is_some_and(|(index, of)| (index.len() as u64) < of)
        || table.footer["shard"].is_object()
}

/// Which shards a table holds, of how many.
fn shards(footer: &Value) -> Option<(Vec<u64>, u64)> {
    let one = &footer["shard"];
    if let (Some(index), Some(of)) = (one["index"].as_u64(), one["of"].as_u64()) {
        return Some((vec![index], of));
    }
    let several = &footer["shards"];
    let index = several["index"].as_array()?.iter();
    Some((
        index.filter_map(Value::as_u64).collect(),
        several["of"].as_u64()?,
    ))
}

/// What shards are made of.
fn made_of(footer: &Value) -> Value {
    let records = [&footer["shard"], &footer["shards"]];
    let record = records.into_iter().find(|record| record.is_object());
    let mut record = record.cloned().unwrap_or_default();
    without(&mut record, &["index"]);
    record
}

/// The footer of shards: that of the whole run, if all are there and each thing of the run was read
/// as the whole run reads it; else `shards` says which are there.
///
/// # Errors
/// Input: they are made of other things, one comes twice, or one is missing.
pub fn together(tables: &[TableFile], allow_gaps: bool) -> Result<Value> {
    let first = made_of(&tables[0].footer);
    let of = first["of"].as_u64().unwrap_or_default();
    let mut held: BTreeMap<u64, &TableFile> = BTreeMap::new();
    for table in tables {
        must_equal(&tables[0], table, "shard", &first, &made_of(&table.footer))?;
        let here = |what: String| Error::input(what).file(table.path.display());
        for index in shards(&table.footer).unwrap_or_default().0 {
            if !(1..=of).contains(&index) {
                return Err(here(format!("damaged: shard {index} of {of}")));
            }
            if let Some(other) = held.insert(index, table) {
                let other = other.path.display();
                return Err(here(format!("shard {index} is also in {other}")));
            }
        }
    }
    let missing = of - held.len() as u64;
    if missing > 0 && !allow_gaps {
        let names = (1..=of).filter(|index| !held.contains_key(index));
        let names = listed(names.map(|index| index.to_string()), missing);
        let what = format!("{missing} of {of} shards are missing: {names}");
        return Err(Error::input(what).todo("name their tables too, or give --allow-gaps"));
    }
    let mut footer = tables[0].footer.clone();
    let keys = footer.as_object().map(|all| all.keys().cloned().collect());
    let keys: Vec<String> = keys.unwrap_or_default();
    let place = keys.iter().position(|key| key.starts_with("shard"));
    without(&mut footer, &["shard", "shards"]);
    if missing > 0 || starts_anew(&footer, &first) {
        let mut record = json!({"index": held.keys().collect::<Vec<_>>()});
        if let (Some(record), Some(rest)) = (record.as_object_mut(), first.as_object()) {
            record.extend(rest.clone());
        }
        if let (Some(all), Some(place)) = (footer.as_object_mut(), place) {
            all.shift_insert(place, "shards".to_string(), record);
        }
    }
    Ok(footer)
}

/// Whether each shard begins with `--context` where the whole run goes on.
fn starts_anew(footer: &Value, made_of: &Value) -> bool {
    match made_of["by"].as_str() {
        Some("bases") => true,
        Some("site") => footer["inference"]["mode"] == "stream",
        _ => false,
    }
}
