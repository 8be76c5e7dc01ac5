//! `table join`: rows beside labels.

use crate::cli::process::print;
use crate::error::{Error, Result};
use crate::io::atomic::is_stdout;
use crate::run::{Compressed, Workers};
use crate::tables::join::{Join, Question, described, join};
use std::path::PathBuf;

/// Options of `crocuta table join`.
#[derive(clap::Args, Clone, Debug)]
pub struct Joined {
    /// The table.
    table: PathBuf,
    /// The labels: VCF or BCF (INFO), TSV, CSV or Parquet (chrom, pos, ref, alt, or chrom, start,
    /// end, and other columns), BED, GFF3 or GTF.
    labels: PathBuf,
    /// The table to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Only these columns of the labels.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Only rows that have a label.
    #[arg(long)]
    matched: bool,
    /// Print how well a score tells the labels of this column apart: AUROC and average precision.
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// Labels that are positive; all others are not [default: 1 and true, against 0 and false].
    #[arg(long, value_name = "VALUES", value_delimiter = ',', requires = "label")]
    positive: Vec<String>,
    /// The score: the higher, the more likely positive; after a minus, the lower.
    #[arg(
        long,
        value_name = "COLUMN",
        default_value = "-delta_ll",
        requires = "label",
        allow_hyphen_values = true
    )]
    by_score: String,
    /// Print the judgement as JSON.
    #[arg(long, requires = "label")]
    json: bool,
    /// Write the judgement to this file as JSON.
    #[arg(long, value_name = "FILE", requires = "label")]
    summary: Option<PathBuf>,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    compressed: Compressed,
    #[command(flatten)]
    workers: Workers,
}

impl Joined {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of [`join`]; Usage: two things for standard output.
    pub fn run(&self) -> Result<()> {
        if self.label.is_some() && is_stdout(&self.output) {
            let error = Error::usage("--label prints to stdout, where the table would go");
            return Err(error.todo("give a file to -o"));
        }
        self.workers.start()?;
        let question = self.label.as_deref().map(|label| Question {
            label,
            positive: &self.positive,
            score: &self.by_score,
        });
        let judgement = join(&Join {
            table: &self.table,
            labels: &self.labels,
            output: &self.output,
            columns: &self.columns,
            matched: self.matched,
            question,
            summary: self.summary.as_deref(),
            force: self.force,
            compression: self.compressed.compression,
        })?;
        match judgement {
            None => Ok(()),
            Some(judgement) if self.json => print(&format!("{judgement:#}\n")),
            Some(judgement) => print(&described(&judgement)),
        }
    }
}
