//! The command line: one file for each command, a struct of options for each concern.

mod allocator;
mod check;
mod completions;
mod fit;
mod log;
mod models;
mod options;
mod params;
mod pilot;
mod process;
mod table;
#[cfg(test)]
mod tests;
mod version;

pub use allocator::Allocator;

use crate::run::{self, Embed, Predict, Reads, Score};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Long-context DNA models over whole genomes: exact at any chunk size, in bounded memory.
#[derive(Parser)]
#[command(
    name = "crocuta",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    mut_subcommands(options::with_negative_numbers)
)]
#[command(
    after_help = "Exit codes: 0 done; 1 internal error; 2 usage; 3 bad input; 4 model missing \
or damaged; 5 cannot read or write; 6 records failed (--strict); 130, 143 stopped by a signal; \
137 out of memory.\n\nExample:\n  crocuta embed genome.fa.gz -m MODEL -o embeddings.parquet"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: log::Logging,
    #[command(flatten)]
    params: params::Params,
}

#[derive(Subcommand)]
enum Command {
    /// Write a hidden vector for every base, or bin of bases, of a FASTA file.
    Embed(Box<Embed>),
    /// Write what a language model or a head says of every base of a FASTA file; genes too.
    Predict(Box<Predict>),
    /// Write what a model says of every variant of a VCF or BCF file.
    Score(Box<Score>),
    /// Write a row for every read of a BAM, CRAM, SAM or FASTQ file: likelihoods and a vector.
    Reads(Box<Reads>),
    /// Train a model, from scratch or from where it is, and write it to a new directory.
    Fit(Box<fit::Fit>),
    /// Compare architectures on your data: memory, speed and what they learn; a report.
    Pilot(Box<pilot::Pilot>),
    /// The child process of `pilot`.
    #[command(hide = true)]
    PilotChild(pilot::Child),
    /// List, show, make, verify, convert and merge models.
    #[command(subcommand)]
    Models(models::Models),
    /// Show finished tables, join those of shards to one, and write rows in other formats.
    #[command(subcommand)]
    Table(table::Table),
    /// Open everything that a run would, and estimate its size, memory and time.
    #[command(subcommand)]
    Check(check::Check),
    /// Print a completion script for a shell, or write the manual's pages.
    Completions(completions::Completions),
    /// Say what this program is, and what it finds on this machine: commit, SIMD, CUDA, features.
    Version(version::Version),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::set_up();
    #[cfg(feature = "htslib")]
    crate::io::source::find_certificates();
    let (words, params) = match params::expand(std::env::args_os().collect()) {
        Ok(expanded) => expanded,
        Err(error) => return process::finish(|| Err(error)),
    };
    let parsed = Cli::command().try_get_matches_from(words);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return process::explain(&error, params.as_deref()),
    };
    let steps = !matches!(
        cli.command,
        Command::Models(_)
            | Command::Table(_)
            | Command::Check(_)
            | Command::Completions(_)
            | Command::Version(_)
            | Command::PilotChild(_)
    );
    let saves = match &cli.command {
        Command::Embed(embed) => run::resumes(&embed.job()),
        Command::Predict(predict) => run::resumes(&**predict),
        Command::Score(score) => run::resumes(&**score),
        Command::Reads(reads) => run::resumes(&**reads),
        Command::Fit(_) => true,
        _ => false,
    };
    process::finish(|| {
        process::start(&cli.logging, steps, saves)?;
        options::must_be_named_once(&matches)?;
        let params = cli.params.write(&matches)?;
        match cli.command {
            Command::Embed(embed) => run::run(&embed.job(), cli.logging.progress()),
            Command::Predict(predict) => run::run(&*predict, cli.logging.progress()),
            Command::Score(score) => run::run(&*score, cli.logging.progress()),
            Command::Reads(reads) => run::run(&*reads, cli.logging.progress()),
            Command::Fit(fit) => fit.run(&cli.logging),
            Command::Pilot(pilot) => pilot.run(&cli.logging),
            Command::PilotChild(child) => child.run(),
            Command::Models(models) => models.run(cli.logging.progress()),
            Command::Table(table) => table.run(),
            Command::Check(check) => check.run(),
            Command::Completions(completions) => completions.run(),
            Command::Version(version) => version.run(),
        }?;
        params.commit()
    })
}
