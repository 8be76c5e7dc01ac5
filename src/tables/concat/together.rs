//! What the footer of the one table says, and how the rows of several become its rows.

use super::identity::{WHICH, is_of_records, must_equal, without, without_params};
use super::{parts, regions, shards};
use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use crate::table::Known;
use serde_json::{Map, Value};

/// What a footer says that was found in the table's part.
const MEASURED: &str = "measured";

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
        without(&mut footer, &[MEASURED]);
        if sharded > 0 {
            without(&mut footer, &["shard", "shards"]);
            return footer;
        }
        without(&mut footer, &["selection", "parts"]);
        without_params(&mut footer, &WHICH);
        if !is_of_records(table.kind()) {
            // Of whole contigs it says nothing.
            without_params(&mut footer, &["context"]);
        }
        footer
    };
    let one = common(first);
    for other in others {
        must_equal(first, other, "", &one, &common(other))?;
    }
    let (mut footer, together) = if sharded > 0 {
        (shards::together(tables, allow_gaps)?, Together::Sorted)
    } else if others.is_empty() {
        (first.footer.clone(), Together::Sorted)
    } else if is_of_records(first.kind()) {
        let footer = parts::together(tables, first.footer.clone())?;
        (footer, Together::Given)
    } else {
        (regions::together(tables, allow_gaps)?, Together::Sorted)
    };
    if let Some(measured) = footer.get_mut(MEASURED).and_then(Value::as_object_mut) {
        measured.extend(known(tables));
    }
    Ok((footer, together))
}

/// What was found in all parts together.
fn known(tables: &[TableFile]) -> Map<String, Value> {
    let each = tables.iter();
    let each = each.filter_map(|table| Known::of(&table.footer[MEASURED]));
    let sum = each.reduce(|mut sum, known| {
        sum.add(known);
        sum
    });
    sum.map(|sum| sum.measured()).unwrap_or_default()
}
