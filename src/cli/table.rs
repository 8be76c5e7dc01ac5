//! `table`: work on finished tables.

use super::process::print;
use crate::error::Result;
use crate::tables::export::{Export, Form};
use crate::tables::{concat, export, show};
use std::path::PathBuf;

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
    },
    /// Write rows of a table in another format: TSV, CSV, Arrow IPC or NumPy.
    #[command(
        after_help = "Examples:\n  crocuta table export scores.parquet -o scores.tsv\n  \
crocuta table export embeddings.parquet -o chr2.npy --region chr2:1-50,000\n  \
crocuta table export scores.parquet -o - --tsv --columns chrom,pos,ref,alt,delta_ll | head"
    )]
    Export(Box<Exported>),
}

/// Options of `crocuta table export`.
#[derive(clap::Args, Clone, Debug)]
pub struct Exported {
    /// The table.
    table: PathBuf,
    /// The file to write; - is stdout. Its extension says the format, unless an option does.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    form: Forms,
    /// Only these columns, in this order.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    columns: Vec<String>,
    /// Only rows that overlap these regions, chr:beg-end, counted from 1.
    #[arg(long, value_name = "REGION")]
    region: Vec<String>,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args, Clone, Debug)]
#[group(multiple = false)]
struct Forms {
    /// Columns separated by tabs, NA where there is no value.
    #[arg(long)]
    tsv: bool,
    /// Columns separated by commas, nothing where there is no value.
    #[arg(long)]
    csv: bool,
    /// Arrow IPC, also called Feather.
    #[arg(long)]
    ipc: bool,
    /// The matrix of a vector column, and the other columns as TSV beside it.
    #[arg(long)]
    npy: bool,
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
            } => concat(tables, output, *allow_gaps, *force),
            Self::Export(exported) => exported.run(),
        }
    }
}

impl Exported {
    fn run(&self) -> Result<()> {
        let Forms { tsv, csv, ipc, npy } = self.form;
        let given = [
            (tsv, Form::Tsv),
            (csv, Form::Csv),
            (ipc, Form::Ipc),
            (npy, Form::Npy),
        ];
        let form = given.into_iter().find(|(given, _)| *given);
        export(&Export {
            table: &self.table,
            output: &self.output,
            form: form.map(|(_, form)| form),
            columns: &self.columns,
            regions: &self.region,
            force: self.force,
        })
    }
}
