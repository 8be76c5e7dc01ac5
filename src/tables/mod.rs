//! `crocuta table`: work on finished tables, one file a subcommand.

pub mod concat;
pub mod export;
pub mod join;
mod places;
pub mod show;
pub mod summarise;

use crate::error::{Error, Result};
use crate::io::table_file::TableFile;
use crate::io::table_writer::ColumnSpec;
use crate::sequence::Contig;
use crate::sequence::contigs::must_be_circle;
use arrow_schema::Field;
pub use concat::concat;
pub use export::export;
pub use join::join;
pub use show::show;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
pub use summarise::summarise;

/// The contigs of the reference that a table's footer speaks of.
///
/// # Errors
/// Input: one is longer than anything that a table can say.
fn contigs(table: &TableFile) -> Result<Vec<Contig>> {
    let contigs = table.footer["reference"]["contigs"].as_array();
    let each = contigs.into_iter().flatten().map(|contig| {
        let length = contig["length"]
            .as_i64()
            .and_then(|n| u64::try_from(n).ok());
        let name = contig["name"].as_str().map(str::to_string);
        let contig = name
            .zip(length)
            .map(|(name, length)| Contig { name, length });
        contig.ok_or_else(|| {
            let what = "damaged: its footer has a contig without a name or a length";
            Error::input(what).file(table.path.display())
        })
    });
    each.collect()
}

/// Fails where an annotation at `path` says that contigs of the table are circles of other lengths.
///
/// # Errors
/// Input; those of [`contigs`].
fn must_be_circles(table: &TableFile, path: &Path, circles: &HashMap<String, u64>) -> Result<()> {
    for contig in contigs(table)? {
        if let Some(bases) = circles.get(&contig.name) {
            let checked = must_be_circle(*bases, &contig);
            checked.map_err(|error| error.file(path.display()))?;
        }
    }
    Ok(())
}

/// The columns of a table, to be written again.
///
/// # Errors
/// Input: one is of a type that we do not write.
fn columns(table: &TableFile) -> Result<Vec<ColumnSpec>> {
    let column = |field: &Arc<Field>| {
        ColumnSpec::of(field).ok_or_else(|| {
            let name = field.name();
            let what = format!("the column {name} is of a type that crocuta does not write");
            Error::input(what).file(table.path.display())
        })
    };
    table.schema().fields().iter().map(column).collect()
}
