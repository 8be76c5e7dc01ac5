//! `fit`: train a model.

mod options;
mod progress;

use super::process::{Logging, print};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::head::{Link, Shape};
use crate::io::labelled;
use crate::run::use_threads;
use crate::sequence::region::{Query, Region, Span};
use crate::stream::{self, SIGNAL};
use crate::train::{
    self, Draws, Genomes, Labels, Network, NextBase, Objective, Plan, Reading, Record, Saving,
    Sequences, Sizes, Source, Tracks, Trained, Trainee,
};
use options::{ClassWeights, Output, Schedules, Split, Start, Strands};
use progress::Progress;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Options of `crocuta fit`.
///
/// Memory: one byte a base of the genomes, five copies of the parameters, and the activations of
/// one part of a step: about 100 bytes for each base of it, each layer and each unit of width.
/// The part is --batch times --chunk bases, over --accumulate.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  crocuta fit genome.fa.gz --preset crocuta-bacteria --validate chr:3713323-4641652 -o model\n  \
crocuta fit genome.fa.gz -m model --learning-rate 3e-4 --validate-file held_out.bed -o better\n  \
crocuta fit --objective sequences --table t.csv --validate-table v.csv -m model --lora 8 -o lora\n  \
crocuta fit --objective tracks --genes --labels a.gff3 --both-strands a.fa -m model -o finder"
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

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Task {
    /// Each base from those before it.
    NextBase,
    /// The labels of a table of sequences.
    Sequences,
    /// Classes or values of each base.
    Tracks,
}

/// What an objective says of itself, for the records.
struct About {
    name: &'static str,
    score: &'static str,
    data: Vec<Source>,
    held_out: Vec<String>,
    tested: Vec<String>,
    device: [String; 2],
    settings: Map<String, Value>,
}

impl Fit {
    /// Runs the command.
    pub fn run(&self, logging: &Logging) -> Result<()> {
        use_threads(self.schedule.threads)?;
        checkpoint::must_be_free(&self.output.output)?;
        match self.objective {
            Task::NextBase => self.next_base(logging),
            Task::Sequences => self.sequences(logging),
            Task::Tracks => self.tracks(logging),
        }
    }

    fn next_base(&self, logging: &Logging) -> Result<()> {
        if self.fasta.is_empty() || self.split.table.is_some() {
            let what = "next-base learns from FASTA files";
            return Err(Error::usage(what).todo("give them, or --objective sequences"));
        }
        if self.split.head_only {
            return Err(Error::usage("--head-only is for the heads of tasks"));
        }
        let queries = self.split.queries()?;
        let seed = self.schedule.seed;
        let start = self.start.open(seed, self.output.max_size)?;
        let start_of = self.start.identity(&start);
        let mut trainee = Trainee::new(start, None, self.split.trained()?, seed)?;
        let Network { facts, .. } = trainee.network(false)?;
        if !facts.causal {
            let what = "next-base needs a model that reads in one direction";
            return Err(Error::usage(what).todo("take another architecture than Caduceus"));
        }
        let without = "this architecture is trained on the CPU";
        let (device, words) = self.schedule.open(facts.trains_on_gpu, without)?;
        trainee.run_on(device);
        let genomes = Genomes::read(&self.fasta)?;
        let data = genomes.files.clone();
        let sets = held_back(&genomes, &queries)?;
        let [regions, tested] = sets.each_ref().map(|spans| named(&genomes, spans));
        let length = self.schedule.length;
        let sizes = Sizes {
            length: length.unwrap_or(facts.context.unwrap_or(1 << 16) as u64),
            chunk: self.schedule.chunk,
            batch: usize::from(self.schedule.batch.unwrap_or(8)),
            parts: usize::from(self.schedule.accumulate),
        };
        let both = self.split.strand != Some(Strands::Forward);
        let draws = Draws {
            both,
            corrupt: self.split.corrupted()?,
            seed,
        };
        let mut objective = NextBase::new(genomes, sets, sizes, draws)?;
        let step = sizes.chunk.min(sizes.length) * sizes.batch as u64;
        let plan = self
            .schedule
            .plan(objective.epoch_bases(), step, sizes.batch)?;
        let own = [
            ("strand", json!(if both { "both" } else { "forward" })),
            ("corrupt", json!(draws.corrupt)),
            ("length", json!(sizes.length)),
            ("chunk", json!(sizes.chunk)),
            ("batch", json!(sizes.batch)),
        ];
        let about = About {
            name: "next-base",
            score: "bits per base",
            data,
            held_out: regions,
            tested,
            device: words,
            settings: self.settings(&trainee, &plan, &own),
        };
        self.train(
            logging,
            &mut trainee,
            &mut objective,
            &plan,
            about,
            start_of,
        )
    }

    fn tracks(&self, logging: &Logging) -> Result<()> {
        let split = &self.split;
        if self.fasta.is_empty() || split.labels.is_empty() || split.table.is_some() {
            let what = "tracks are learned from FASTA files and labels of their bases";
            return Err(Error::usage(what).todo("give the files and --labels"));
        }
        let queries = split.queries()?;
        let seed = self.schedule.seed;
        let start = self.start.open(seed, self.output.max_size)?;
        let start_of = self.start.identity(&start);
        let genomes = Genomes::read(&self.fasta)?;
        let labels = match split.genes {
            true => Labels::genes(&split.labels, &genomes)?,
            false => Labels::read(&split.labels, &split.feature, &genomes)?,
        };
        let task = labels.task(split.shape(), split.both_strands);
        let mut trainee = Trainee::new(start, Some(task.clone()), split.trained()?, seed)?;
        let Network { facts, .. } = trainee.network(false)?;
        if split.both_strands && !facts.causal {
            let what = "--both-strands is for models that read in one direction";
            return Err(Error::usage(what).todo("leave it out: this one looks both ways already"));
        }
        let mut data = genomes.files.clone();
        data.extend(labels.files.clone());
        if split.corrupt != 0.0 {
            return Err(Error::usage("--corrupt is for --objective next-base"));
        }
        let plain =
            task.link == Link::Softmax && !matches!(task.shape, Shape::LocalAttention { .. });
        let without = "this architecture, or this kind of head, is trained on the CPU";
        let (device, words) = self.schedule.open(plain && facts.trains_on_gpu, without)?;
        trainee.run_on(device);
        let sets = held_back(&genomes, &queries)?;
        let [regions, tested] = sets.each_ref().map(|spans| named(&genomes, spans));
        let context = facts.context.map_or(u64::MAX, |context| context as u64);
        let both = split
            .strand
            .map_or(split.genes, |strand| strand == Strands::Both);
        let reading = Reading {
            length: self.schedule.length.unwrap_or(context.min(8192)),
            batch: usize::from(self.schedule.batch.unwrap_or(8)),
            parts: usize::from(self.schedule.accumulate),
            both,
            balanced: split.class_weights == ClassWeights::Balanced,
        };
        let mut objective = Tracks::new(task.clone(), genomes, labels, sets, reading, seed)?;
        let step = reading.length.saturating_mul(reading.batch as u64);
        let plan = self
            .schedule
            .plan(objective.epoch_bases(), step, reading.batch)?;
        let own = [
            ("strand", json!(if both { "both" } else { "forward" })),
            ("length", json!(reading.length)),
            ("batch", json!(reading.batch)),
            ("head", json!(task)),
            (
                "class_weights",
                json!(if reading.balanced { "balanced" } else { "none" }),
            ),
        ];
        let about = About {
            name: "tracks",
            score: match task.link {
                Link::Identity => "squared error",
                _ => "bits",
            },
            data,
            held_out: regions,
            tested,
            device: words,
            settings: self.settings(&trainee, &plan, &own),
        };
        self.train(
            logging,
            &mut trainee,
            &mut objective,
            &plan,
            about,
            start_of,
        )
    }

    fn sequences(&self, logging: &Logging) -> Result<()> {
        let split = &self.split;
        let (Some(table), true) = (&split.table, self.fasta.is_empty()) else {
            let what = "sequences are learned from a table";
            return Err(Error::usage(what).todo("give --table, and no FASTA file"));
        };
        let regions = [&split.validate, &split.test];
        let files = [&split.validate_file, &split.test_file];
        if regions.iter().any(|all| !all.is_empty()) || files.iter().any(|file| file.is_some()) {
            let what = "--validate and --test, and their files, are for regions";
            return Err(Error::usage(what).todo("give --validate-table and --test-table"));
        }
        if split.corrupt != 0.0 {
            return Err(Error::usage("--corrupt is for --objective next-base"));
        }
        let mut data = Vec::new();
        let mut read = |path: &Path| -> Result<Vec<labelled::Labelled>> {
            let rows = labelled::read(path)?;
            data.push(Source::read(path, rows.len() as u64)?);
            Ok(rows)
        };
        let training = read(table)?;
        let mut others = Vec::new();
        for path in [&split.validate_table, &split.test_table] {
            others.push(
                path.as_deref()
                    .map(&mut read)
                    .transpose()?
                    .unwrap_or_default(),
            );
        }
        let task = train::task(&training, split.values).map_err(|e| e.file(table.display()))?;
        let taken: Vec<&[_]> = others.iter().map(Vec::as_slice).collect();
        let (training, copies) =
            train::examples(&task, training, &taken).map_err(|e| e.file(table.display()))?;
        if copies > 0 {
            tracing::warn!("{copies} sequences are not trained on: copies of held-out ones");
        }
        let mut sets = others
            .into_iter()
            .map(|rows| train::examples(&task, rows, &[]));
        let mut next = || sets.next().transpose().map(|set| set.unwrap_or_default().0);
        let (held_out, test) = (next()?, next()?);
        let named = |path: &Option<PathBuf>| {
            let path = path.iter().map(|path| path.display().to_string());
            path.collect::<Vec<_>>()
        };
        let seed = self.schedule.seed;
        let start = self.start.open(seed, self.output.max_size)?;
        let start_of = self.start.identity(&start);
        let mut trainee = Trainee::new(start, Some(task.clone()), split.trained()?, seed)?;
        let on_gpu = trainee.network(false)?.facts.trains_on_gpu;
        let without = "this architecture is trained on the CPU";
        let (device, words) = self.schedule.open(on_gpu, without)?;
        trainee.run_on(device);
        let batch = usize::from(self.schedule.batch.unwrap_or(64));
        let both = split.strand == Some(Strands::Both);
        let plan = self
            .schedule
            .plan(training.len() as u64, batch as u64, batch)?;
        let part = batch.div_ceil(plan.parts);
        let sets = [training, held_out, test];
        let mut objective = Sequences::new(task.clone(), sets, part, both, seed)?;
        let own = [
            ("strand", json!(if both { "both" } else { "forward" })),
            ("batch", json!(batch)),
            ("outputs", json!(task.outputs)),
            ("copies_left_out", json!(copies)),
        ];
        let about = About {
            name: "sequences",
            score: if split.values {
                "squared error"
            } else {
                "bits"
            },
            data,
            held_out: named(&split.validate_table),
            tested: named(&split.test_table),
            device: words,
            settings: self.settings(&trainee, &plan, &own),
        };
        self.train(
            logging,
            &mut trainee,
            &mut objective,
            &plan,
            about,
            start_of,
        )
    }

    /// The objective's own settings and those that all share.
    fn settings(
        &self,
        trainee: &Trainee,
        plan: &Plan,
        own: &[(&str, Value)],
    ) -> Map<String, Value> {
        let trained = match trainee.trained() {
            Trained::All => json!("all"),
            Trained::Head => json!("head"),
            Trained::Adapter(scale) => json!({"lora": scale.rank, "alpha": scale.alpha}),
        };
        let shared = [
            ("trained", trained),
            ("accumulate", json!(plan.parts)),
            ("steps", json!(plan.schedule.steps)),
            ("learning_rate", json!(plan.schedule.peak)),
            ("warm_up", json!(plan.schedule.warm_up)),
            ("last_rate", json!(plan.schedule.last)),
            ("weight_decay", json!(plan.decay)),
            ("clip", json!(plan.clip)),
            ("evaluate_every", json!(plan.evaluate_every)),
            ("patience", json!(plan.patience)),
            ("seed", json!(self.schedule.seed)),
        ];
        let all = own.iter().cloned().chain(shared);
        all.map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// Trains, tests, and writes the model.
    fn train(
        &self,
        logging: &Logging,
        trainee: &mut Trainee,
        objective: &mut dyn Objective,
        plan: &Plan,
        about: About,
        start: Value,
    ) -> Result<()> {
        let out = &self.output.output;
        let mut identity = about.settings.clone();
        let digests: Vec<_> = about.data.iter().map(|source| &source.sha256).collect();
        identity.insert("objective".into(), json!(about.name));
        identity.insert("start".into(), start);
        identity.insert("data".into(), json!(digests));
        identity.insert("held_out".into(), json!(about.held_out));
        identity.insert("tested".into(), json!(about.tested));
        identity.insert("device".into(), json!(about.device));
        let every = Duration::from_secs(self.output.save_every);
        let mut saving = Saving::open(out, identity, every, self.output.resume)?;
        let steps = plan.schedule.steps;
        tracing::info!("{} parameters, {steps} steps", trainee.size());
        let mut progress = Progress::new(logging.progress(), steps, about.score);
        let outcome = train::run(trainee, objective, plan, &mut saving, &mut |report| {
            progress.show(report);
            match SIGNAL.load(Ordering::Relaxed) {
                0 => Ok(()),
                _ => Err(stream::interrupted()),
            }
        })?;
        progress.finish();
        let record = Record {
            objective: about.name,
            score: about.score,
            command: command(),
            license: self.output.license.clone(),
            data: about.data,
            held_out: about.held_out,
            tested: about.tested,
            device: about.device,
            settings: about.settings,
            test: objective.test(&trainee.network(false)?)?,
        };
        let (name, digest) = train::write(trainee, &record, &outcome, out)?;
        saving.remove()?;
        if let Some(evaluation) = &outcome.evaluation {
            let (score, kept, unit) = (evaluation.score, outcome.kept, record.score);
            tracing::info!("{score:.4} {unit} on what was held out, after step {kept}");
        }
        print(&format!("{digest}  {}\n", out.join(name).display()))
    }
}

/// What chooses the weights, and what tests them; a warning if nothing is held out.
fn held_back(genomes: &Genomes, [chosen, tested]: &[Vec<Query>; 2]) -> Result<[Vec<Span>; 2]> {
    let sets = [genomes.held_out(chosen)?, genomes.held_out(tested)?];
    if sets.iter().all(Vec::is_empty) {
        tracing::warn!("nothing is held out: how good the model is will not be known");
    }
    Ok(sets)
}

/// Spans as regions.
fn named(genomes: &Genomes, spans: &[Span]) -> Vec<String> {
    let regions = spans.iter().map(|span| {
        let contig = genomes.contigs[span.contig].name.clone();
        let (start, end) = (span.start, span.end);
        Region { contig, start, end }.to_string()
    });
    regions.collect()
}

/// The command line, as it was given.
fn command() -> String {
    let words = std::env::args_os().map(|word| {
        let word = crate::error::printable(&word.to_string_lossy());
        match word.is_empty() || word.contains([' ', '\'', '"', '*', '$', '(']) {
            true => format!("'{}'", word.replace('\'', "'\\''")),
            false => word,
        }
    });
    let words: Vec<String> = words.skip(1).collect();
    format!("crocuta {}", words.join(" "))
}
