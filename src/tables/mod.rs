//! `crocuta table`: work on finished tables, one file a subcommand.

pub mod concat;
pub mod export;
mod file;
pub mod show;

use crate::sequence::Contig;
pub use concat::concat;
pub use export::export;
use serde_json::Value;
pub use show::show;

/// The contigs of the reference that a footer speaks of.
fn contigs(footer: &Value) -> Vec<Contig> {
    let contigs = footer["reference"]["contigs"].as_array();
    let each = contigs.into_iter().flatten().map(|contig| Contig {
        name: contig["name"].as_str().unwrap_or_default().to_string(),
        length: contig["length"].as_u64().unwrap_or_default(),
    });
    each.collect()
}
