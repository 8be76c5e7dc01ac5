//! `table summarise`: the numbers of groups of rows.

use crate::error::Result;
use crate::run::{Compressed, Workers};
use crate::tables::summarise::{Summarise, summarise};
use std::path::PathBuf;

/// Options of `crocuta table summarise`.
#[derive(clap::Args, Clone, Debug)]
pub struct Summarised {
    /// The table.
    table: PathBuf,
    /// A column, each value of which is a group; or a file of intervals (BED, GFF3, GTF), each of
    /// which is one. On a circular contig (GFF3: Is_circular=true) a gene over the origin has the
    /// rows at both ends.
    #[arg(long, value_name = "COLUMN|FILE")]
    by: String,
    /// Only these columns of numbers [default: all of float32 and float64].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// The file to write: TSV if its name ends in .tsv, else a table.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    compressed: Compressed,
    #[command(flatten)]
    workers: Workers,
}

impl Summarised {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of [`summarise`].
    pub fn run(&self) -> Result<()> {
        self.workers.start()?;
        summarise(&Summarise {
            table: &self.table,
            by: &self.by,
            columns: &self.columns,
            output: &self.output,
            force: self.force,
            compression: self.compressed.compression,
        })
    }
}
