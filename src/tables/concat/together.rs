//! What the footer of the one table says, and how the rows of several become its rows.

use super::identity::{WHICH, is_of_records, must_equal, without, without_params};
use super::{parts, regions, shards};
use crate::error::{Error, Result};
use crate::tables::file::TableFile;
use serde_json::Value;

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
