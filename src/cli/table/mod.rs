//! `table`: work on finished tables.

mod export;
mod join;
mod summarise;

use super::process::print;
use crate::error::Result;
use crate::run::{Compressed, Workers};
use crate::tables::{concat, show};
use export::Exported;
use join::Joined;
use std::path::PathBuf;
use summarise::Summarised;

/// Commands on tables that other commands wrote.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(after_help = "Example:\n  crocuta table show embeddings.parquet")]
pub enum Table {
    /// Show what a table holds: its rows and columns, the model and how it was run.
    #[command(after_help = "Examples:\n  crocuta table show embeddings.parquet\n  \
crocuta table show embeddings.parquet --json | jq .footer.model")]
    Show {
        /// The table.
        table: PathBuf,
        /// Print JSON: all that the text says, the statistics of the columns and the whole footer.
        #[arg(long)]
        json: bool,
    },
    /// Make one table of the tables of shards, or of runs over some contigs each.
    #[command(
        after_help = "Examples:\n  crocuta table concat shard*.parquet -o genome.parquet\n  \
crocuta table concat chr2.parquet chr1.parquet -o both.parquet --allow-gaps"
    )]
    Concat {
        /// The tables, in any order.
        #[arg(required = true)]
        tables: Vec<PathBuf>,
        /// The table to write; - is stdout.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Do without shards, contigs or regions that no table holds.
        #[arg(long)]
        allow_gaps: bool,
        /// Replace the output if it exists.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        compressed: Compressed,
        #[command(flatten)]
        workers: Workers,
    },
    /// Write rows of a table in another format: TSV, CSV, Arrow IPC or NumPy.
    #[command(
        after_help = "Examples:\n  crocuta table export scores.parquet -o scores.tsv\n  \
crocuta table export embeddings.parquet -o chr2.npy --region chr2:1-50,000\n  \
crocuta table export scores.parquet -o - --tsv --columns chrom,pos,ref,alt,delta_ll | head"
    )]
    Export(Box<Exported>),
    /// Join rows with labels of their variants, or of intervals, and judge a score by them.
    #[command(
        after_help = "Examples:\n  crocuta table join scores.parquet clinvar.vcf.gz --columns CLNSIG -o joined.parquet\n  \
crocuta table join scores.parquet labels.tsv --label pathogenic -o joined.parquet\n  \
crocuta table join embeddings.parquet genes.gff3 --matched -o genes.parquet"
    )]
    Join(Box<Joined>),
    /// Summarise numbers in each interval of a file, or for each value of a column.
    #[command(
        after_help = "Examples:\n  crocuta table summarise predictions.parquet --by genes.gff3 -o genes.tsv\n  \
crocuta table summarise scores.parquet --by type --columns delta_ll,llr -o types.tsv"
    )]
    Summarise(Box<Summarised>),
}

impl Table {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of the command.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Show { table, json } => print(&show(table, *json)?),
            Self::Concat {
                tables,
                output,
                allow_gaps,
                force,
                compressed,
                workers,
            } => {
                workers.start()?;
                let compression = compressed.compression;
                concat(tables, output, *allow_gaps, *force, compression)
            }
            Self::Export(exported) => exported.run(),
            Self::Join(joined) => joined.run(),
            Self::Summarise(summarised) => summarised.run(),
        }
    }
}
