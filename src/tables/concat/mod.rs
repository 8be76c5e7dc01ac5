//! `table concat`: the tables of shards, of runs over some contigs each, or over several files of
//! reads or variants, become one table.
//!
//! Row groups are copied as they are, without decoding them, wherever the one table would have the
//! same row group; where groups would hold rows of several tables, these rows are written anew. So
//! shards of whole contigs become, byte for byte, the table of a single run.

mod identity;
mod keys;
mod merge;
mod parts;
mod regions;
mod selection;
mod shards;
mod source;
mod together;

use crate::error::{Error, Result};
use crate::io::compression::Compression;
use crate::io::table_file::TableFile;
use crate::io::table_writer::{ColumnSpec, TableWriter};
use crate::run::outputs::{Format, Outputs};
use crate::run::units::{number, readable};
use merge::{Merge, Order};
use std::path::{Path, PathBuf};
use together::Together;

/// Makes one table of several, in the order of the reference's contigs, or of the input's records;
/// of several inputs, one after another.
///
/// Row groups that stay whole are copied as they are; others are written anew, and compressed so.
///
/// Memory: a row group of each table that is open in the middle of one.
///
/// # Errors
/// Input: they are not parts of one table, overlap, or leave gaps without `allow_gaps`; Usage and
/// Io: the output.
pub fn concat(
    paths: &[PathBuf],
    output: &Path,
    allow_gaps: bool,
    force: bool,
    compression: Compression,
) -> Result<()> {
    let mut outputs = Outputs::new(paths, force);
    outputs.open(&[(output.to_path_buf(), Format::Parquet)])?;
    let tables: Vec<TableFile> = paths
        .iter()
        .map(|path| TableFile::open(path))
        .collect::<Result<_>>()?;
    let (footer, together) = together::together(&tables, allow_gaps)?;
    let columns = columns(&tables)?;
    let file = outputs.create(output, Format::Parquet)?;
    let name = file.name().display().to_string();
    let mut writer = TableWriter::create(file, &columns, compression)?;
    let (copied, written) = match together {
        Together::Sorted => {
            let order = Order::of(&tables[0])?;
            Merge::new(&tables, &order, &mut writer)?.run()?
        }
        Together::Given => (append(&tables, &mut writer)?, 0),
    };
    let receipt = writer.finish(&footer)?;
    outputs.commit()?;
    tracing::info!(
        "{name}: {} rows of {} tables, {}; {} row groups copied, {} rows written anew",
        number(receipt.rows),
        tables.len(),
        readable(receipt.bytes),
        number(copied),
        number(written)
    );
    Ok(())
}

/// Copies all row groups of the tables, and says how many these are.
fn append(tables: &[TableFile], writer: &mut TableWriter) -> Result<u64> {
    let mut copied = 0;
    for table in tables {
        for group in 0..table.parquet().num_row_groups() {
            writer.append_group((&table.path, &table.file), table.parquet(), group)?;
            copied += 1;
        }
    }
    Ok(copied)
}

/// The columns that all tables have.
fn columns(tables: &[TableFile]) -> Result<Vec<ColumnSpec>> {
    let Some((first, others)) = tables.split_first() else {
        return Ok(Vec::new());
    };
    for other in others {
        if other.schema().fields() != first.schema().fields() {
            let what = format!("its columns are not those of {}", first.path.display());
            return Err(Error::input(what).file(other.path.display()));
        }
    }
    super::columns(first)
}
