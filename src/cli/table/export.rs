//! `table export`: rows of a table in another format.

use crate::error::Result;
use crate::run::Workers;
use crate::tables::export;
use crate::tables::export::{Export, Form};
use std::path::PathBuf;

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
    /// Only this region, as in samtools: chr, chr:beg-end, 1-based, end included. Of reads and
    /// variants, those that overlap it. Repeatable.
    #[arg(long, value_name = "REGION")]
    region: Vec<String>,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    workers: Workers,
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

impl Exported {
    /// Runs the command.
    ///
    /// # Errors
    /// Those of [`export`].
    pub fn run(&self) -> Result<()> {
        self.workers.start()?;
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
