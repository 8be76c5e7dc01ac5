//! `fit`: train a model.

mod options;
mod progress;
mod request;

use super::log::Logging;
use super::process::print;
use crate::checkpoint::{self, Checkpoint, Staging};
use crate::error::{Error, Kind, Result};
use crate::run::units::readable;
use crate::run::{binds, command};
use crate::stream;
use crate::train::{self, Prepared, Request, Saving};
use options::{Output, Schedules, Split, Start, Strands, Task};
use progress::Progress;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Options of `crocuta fit`.
///
/// Memory: one byte a base of the genomes, five copies of the parameters, and the activations of
/// one part of a step: about 100 bytes for each base of it, each layer and each unit of width.
/// The part is --batch times --chunk bases, over --accumulate. `crocuta check fit` says how much.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  crocuta fit genome.fa.gz -m crocuta-bacteria\n  \
crocuta fit genome.fa.gz --preset crocuta-bacteria --validate chr:3713323-4641652 -o model\n  \
crocuta fit genome.fa.gz -m model --learning-rate 3e-4 --validate-file held_out.bed -o better\n  \
crocuta fit --objective sequences --table t.csv --validate-table v.csv -m model --lora 8 -o lora\n  \
crocuta fit --objective genes --labels a.gff3 --both-strands a.fa -m model -o finder"
)]
pub struct Fit {
    /// FASTA files to train on: plain, gzip, BGZF or zstd.
    fasta: Vec<PathBuf>,
    #[command(flatten)]
    start: Start,
    /// What to learn.
    #[arg(long, value_enum, default_value = "next-base", help_heading = "Task")]
    objective: Task,
    #[command(flatten)]
    split: Split,
    #[command(flatten)]
    schedule: Schedules,
    #[command(flatten)]
    output: Output,
}

impl Fit {
    /// Runs the command.
    pub fn run(&self, logging: &Logging) -> Result<()> {
        if let Some(limit) = self.output.time_limit {
            stream::stop_after(limit)?;
        }
        self.schedule.workers.start()?;
        let output = self.directory()?;
        self.must_be_free(&output)?;
        let mut fit = self.prepare()?;
        for warning in fit.warnings() {
            tracing::warn!("{warning}");
        }
        let mut saving = self.saving(&output, &fit)?;
        let out = Staging::replacing(&output, Some(self.output.force))?;
        let steps = fit.plan.schedule.steps;
        tracing::info!("{} parameters, {steps} steps", fit.parameters());
        let score = fit.score;
        let mut progress = Progress::new(logging.progress(), steps, score);
        let outcome = fit.train(Some(&mut saving), &mut |report| {
            progress.show(report);
            stream::go_on()
        });
        progress.finish();
        let outcome = outcome.inspect_err(|error| {
            let stopped = [Kind::Interrupted, Kind::Terminated].contains(&error.kind());
            if let Some(path) = saving.file().filter(|_| stopped) {
                let place = path.display();
                tracing::info!(
                    "the run stands in {place}: the same command with --resume goes on there"
                );
            }
        })?;
        let before = fit.warnings().len();
        let words = (command(), self.output.license.clone());
        let written = fit.write(&outcome, words, out)?;
        saving.remove();
        for warning in &written.warnings[before..] {
            tracing::warn!("{warning}");
        }
        for line in &written.summary {
            tracing::info!("{line}");
        }
        let path = output.join(written.name);
        print(&format!("{}  {}\n", written.digest, path.display()))
    }

    /// What the command would take, in lines of `name: value`.
    pub fn check(&self) -> Result<String> {
        self.schedule.workers.start()?;
        if let Ok(output) = self.directory() {
            self.must_be_free(&output)?;
        }
        let fit = self.prepare()?;
        let estimate = fit.estimate();
        let speed = fit.measure()?;
        Ok(format!(
            "parameters: {}\nsteps: {}\nbases in training: {}\nbases in evaluations: {}\nmemory besides the weights: {}\n\
             speed: {speed:.0} bases a second\ntime: {:.0} s\n{}",
            estimate.parameters,
            estimate.steps,
            estimate.bases,
            estimate.evaluated + estimate.tested,
            readable(estimate.memory),
            estimate.seconds(speed),
            binds::training(estimate.memory),
        ))
    }

    /// Reads and checks everything.
    fn prepare(&self) -> Result<Prepared> {
        let adapts = self.split.adapts(self.objective, &self.start);
        let request = Request {
            lesson: self.split.lesson(self.objective, &self.fasta)?,
            held_back: self.split.queries()?,
            adapts,
            trained: self.split.trained()?,
            head_dropout: self.split.head_dropout()?,
            calibrate: self.split.calibrate,
            both: self.split.strand.map(|strand| strand == Strands::Both),
            steps: self.schedule.steps(adapts),
            seed: self.schedule.seed,
        };
        let start = self.open()?;
        train::prepare(&request, start, |without_gpu| {
            self.schedule.open(without_gpu)
        })
    }

    /// The directory to make.
    fn directory(&self) -> Result<PathBuf> {
        if let Some(output) = &self.output.output {
            return Ok(output.clone());
        }
        let adapts = self.split.adapts(self.objective, &self.start);
        let name = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            Some(name.split('.').next()?.to_string())
        };
        let names = (
            self.fasta.first().and_then(name),
            self.start.model.as_ref().and_then(name),
        );
        match names {
            (Some(genome), Some(model)) if adapts => Ok(PathBuf::from(format!("{genome}-{model}"))),
            _ => Err(Error::usage("no directory to make").todo("give -o DIR")),
        }
    }

    /// Refuses a directory that stands there, unless --force replaces it, and it is not where
    /// training starts from.
    fn must_be_free(&self, output: &Path) -> Result<()> {
        let read = self.start.model.iter().chain(&self.start.config);
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if let Some(target) = real(output)
            && read
                .filter_map(|path| real(path))
                .any(|path| path.starts_with(&target))
        {
            let error = Error::usage("output is also an input").file(output.display());
            return Err(error.todo("choose another output"));
        }
        checkpoint::must_be_free(output, Some(self.output.force))
    }

    fn open(&self) -> Result<Checkpoint> {
        self.start.open(self.schedule.seed, self.output.max_size)
    }

    /// Where the run is saved, and an earlier one that it goes on with.
    fn saving(&self, output: &Path, fit: &Prepared) -> Result<Saving> {
        let Output {
            checkpoint_every,
            resume,
            ..
        } = &self.output;
        let every = Duration::from_secs(*checkpoint_every);
        Saving::open(output, fit.identity(), every, *resume)
    }
}
