//! Options of `pilot`.

use crate::pilot::Request;
use crate::run::options::{Precision, Target, Workers};
use crate::run::units::{duration, size};
use std::path::PathBuf;
use std::time::Duration;

/// Options of `crocuta pilot`.
///
/// Memory: what the candidates take, which --max-memory bounds; and one byte a base of the genome,
/// twice.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  crocuta pilot genome.fa.gz -o pilot --budget 30m\n  \
crocuta pilot genome.fa.gz --labels genes.gff3 --feature CDS -o pilot\n  \
crocuta pilot --table train.csv -o pilot --candidates transformer hyena my/config.json"
)]
pub struct Pilot {
    /// The FASTA file to measure on: plain, gzip, BGZF or zstd.
    pub fasta: Option<PathBuf>,
    /// The directory to make: report.html and results.parquet.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// What is known of each base: GFF3, GTF, BED, bedGraph or bigWig. Repeatable [default: each
    /// base is learned from those before it].
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Task",
        conflicts_with = "table"
    )]
    pub labels: Vec<PathBuf>,
    /// Learn these types of features. Repeatable [default: all].
    #[arg(long, value_name = "TYPE", help_heading = "Task", requires = "labels")]
    pub feature: Vec<String>,
    /// A table of sequences and labels to learn: CSV, TSV or Parquet whose columns "sequence" and
    /// "label" are read.
    #[arg(long, value_name = "TABLE", help_heading = "Task")]
    pub table: Option<PathBuf>,
    /// A table to measure on [default: about a tenth of the sequences of --table].
    #[arg(long, value_name = "TABLE", help_heading = "Task", requires = "table")]
    pub validate_table: Option<PathBuf>,
    /// The time that all of it may take, such as 30m or 2h.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30m")]
    pub budget: Duration,
    /// Compare these instead of all that are known and can learn the task: transformer,
    /// sliding-window, performer, nystrom, mamba, mamba2, s4d, hyena, hybrid; your own config.json,
    /// or a model's directory.
    #[arg(long, value_name = "NAME", num_args = 1.., help_heading = "Candidates")]
    pub candidates: Vec<String>,
    /// Parameters of each candidate that is known by name, within 5 %.
    #[arg(long, value_name = "N", default_value_t = 250_000, help_heading = "Candidates",
          value_parser = clap::value_parser!(u64).range(20_000..=1_000_000_000))]
    pub parameters: u64,
    /// Bases of the passages that are read in training.
    #[arg(long, value_name = "BASES", default_value_t = 2048, help_heading = "Steps",
          value_parser = clap::value_parser!(u64).range(16..=1 << 24))]
    pub length: u64,
    /// Steps of each training run [default: as many as the budget allows]. With it equal seeds give
    /// equal weights, whatever the speed of the machine.
    #[arg(long, value_name = "N", help_heading = "Steps",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Distances of copies that are to be recalled; those for which there is no time are left out.
    #[arg(long, value_name = "BASES", num_args = 1.., default_values_t = [64, 256, 1024, 4096],
          help_heading = "Steps", value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    pub distances: Vec<u32>,
    /// The first seed: equal seeds give equal weights.
    #[arg(long, default_value_t = 0, help_heading = "Steps")]
    pub seed: u64,
    /// Seeds from which each candidate is trained.
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Steps",
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub seeds: u16,
    /// Memory that a candidate may take, such as 8G [default: what is free].
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Run")]
    pub max_memory: Option<u64>,
    /// Where to compute: auto, cpu, cuda or cuda:N. CUDA's libraries are opened at run time.
    #[arg(long, default_value = "auto", help_heading = "Run")]
    pub device: Target,
    /// What matrix products multiply; they sum in f32.
    #[arg(long, value_enum, default_value = "f32", help_heading = "Run")]
    pub precision: Precision,
    #[command(flatten)]
    pub workers: Workers,
}

impl Pilot {
    /// What they ask for.
    pub fn request(&self) -> Request {
        Request {
            fasta: self.fasta.clone(),
            labels: self.labels.clone(),
            features: self.feature.clone(),
            table: self.table.clone(),
            validate_table: self.validate_table.clone(),
            output: self.output.clone(),
            budget: self.budget,
            candidates: self.candidates.clone(),
            parameters: self.parameters,
            length: self.length,
            steps: self.steps,
            distances: self.distances.clone(),
            seed: self.seed,
            seeds: self.seeds,
            memory: self.max_memory,
        }
    }
}
