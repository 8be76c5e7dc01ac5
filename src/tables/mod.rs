//! `crocuta table`: work on finished tables, one file a subcommand.

pub mod concat;
pub mod export;
mod file;
pub mod show;

use crate::error::{Error, Result};
use crate::sequence::Contig;
pub use concat::concat;
pub use export::export;
use file::TableFile;
pub use show::show;

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
