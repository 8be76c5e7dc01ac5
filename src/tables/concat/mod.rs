//! `table concat`: the tables of shards, or of runs over some contigs each, become one table.
//!
//! Row groups are copied as they are, without decoding them, wherever the one table would have the
//! same row group; where groups would hold rows of several tables, these rows are written anew. So
//! shards of whole contigs become, byte for byte, the table of a single run.

mod identity;
mod keys;
mod merge;
mod source;

use super::file::TableFile;
use crate::error::{Error, Result};
use crate::io::atomic::is_stdout;
use crate::io::table_writer::{ColumnSpec, TableWriter};
use crate::run::outputs::{Format, Outputs};
use crate::run::units::{number, readable};
use merge::{Merge, Order};
use std::path::{Path, PathBuf};

/// Makes one table of several, in the order of the reference's contigs, or of the input's records.
///
/// Memory: a row group of each table that is open in the middle of one.
///
/// # Errors
/// Input: they are not parts of one table, overlap, or leave gaps without `allow_gaps`; Usage and
/// Io: the output.
pub fn concat(paths: &[PathBuf], output: &Path, allow_gaps: bool, force: bool) -> Result<()> {
    let mut outputs = Outputs::new(paths, force);
    outputs.open(&[(output.to_path_buf(), Format::Parquet)])?;
    let tables: Vec<TableFile> = paths
        .iter()
        .map(|path| TableFile::open(path))
        .collect::<Result<_>>()?;
    let footer = identity::together(&tables, allow_gaps)?;
    let columns = columns(&tables)?;
    let file = outputs.create(output, Format::Parquet)?;
    let order = Order::of(&tables[0])?;
    let mut merge = Merge::new(&tables, &order, TableWriter::create(file, &columns)?)?;
    merge.run()?;
    let (copied, written) = (merge.copied, merge.written);
    let receipt = merge.writer.finish(&footer)?;
    outputs.commit()?;
    let name = if is_stdout(output) {
        "stdout".to_string()
    } else {
        output.display().to_string()
    };
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
    let fields = first.schema().fields().iter();
    let columns = fields.map(|field| {
        ColumnSpec::of(field).ok_or_else(|| {
            let what = format!(
                "the column {} is of a type that crocuta does not write",
                field.name()
            );
            Error::input(what).file(first.path.display())
        })
    });
    columns.collect()
}
