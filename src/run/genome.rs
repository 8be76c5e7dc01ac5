//! `embed` and `predict`: sequences through a model into a table.

mod columns;
mod estimate;
mod open;
mod predict;
mod report;
mod sequences;
mod shards;

use super::Job;
use super::heads::Heads;
use super::layers::{self, Layers};
use super::options::{Binning, Compute, MASK_EVERY, Output, Sharding, Source};
use super::outputs::{Format, Outputs};
use super::session::{Loaded, Session};
use super::summary::Summary;
use crate::checkpoint::{self, Checkpoint};
use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::head::{LanguageModel, Task};
use crate::io::atomic::{AtomicFile, is_stdout};
use crate::io::genome::Genome;
use crate::io::pileup::Consensus;
use crate::io::vector::Element;
use crate::sequence::region::Query;
use crate::sequence::shard::By;
use crate::stream::genome::{self, GenomeSettings, GenomeSink, Head, Reading, Tracks};
use crate::stream::{Engine, Journal, Pool, Progress, Strand, TableOutput};
use crate::table::{Column, Groups, Positions};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Options of `crocuta embed`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(
    after_help = "Example:\n  crocuta embed genome.fa.gz -m MODEL -o embeddings.parquet --bin 128"
)]
pub struct Embed {
    #[command(flatten)]
    #[serde(flatten)]
    binning: Binning,
    #[command(flatten)]
    #[serde(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    #[serde(flatten)]
    layers: Layers,
    /// Numbers of the vectors.
    #[arg(long, value_enum, default_value = "f16", help_heading = "Output")]
    dtype: Dtype,
}

/// Options of `crocuta predict`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(
    after_help = "Examples:\n  crocuta predict genome.fa.gz -m MODEL -o predictions.parquet --strand both\n  \
crocuta predict genome.fa.gz --genes genes.gff3\n  \
crocuta predict sequences.csv --adapter CLASSIFIER -o classes.parquet"
)]
pub struct Predict {
    /// One row for every BASES bases, at multiples of it.
    #[arg(long, value_name = "BASES", conflicts_with = "intervals",
          value_parser = clap::value_parser!(u32).range(1..))]
    bin: Option<u32>,
    #[command(flatten)]
    #[serde(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    #[serde(flatten)]
    heads: Heads,
    /// Write the raw logits too, as a float32 vector over the model's tokens.
    #[arg(long, help_heading = "Output")]
    logits: bool,
    /// For bidirectional models: mask one base in so many at a time, in as many runs of the model,
    /// and predict the masked ones [default: 8]. Not with --exact, which writes the logits alone.
    #[arg(long, value_name = "N", help_heading = "Run",
          value_parser = clap::value_parser!(u16).range(1..))]
    mask_every: Option<u16>,
}

/// What both need.
#[derive(clap::Args, Clone, Debug, Serialize)]
struct Inputs {
    #[command(flatten)]
    #[serde(flatten)]
    source: Source,
    #[command(flatten)]
    #[serde(flatten)]
    compute: Compute,
    /// Train the model on the FASTA first, some minutes on two processor cores, so that it knows
    /// this genome better: `crocuta fit` of it, for this run alone.
    #[arg(long, conflicts_with_all = ["reference", "resume", "time_limit", "shard"],
          help_heading = "Run")]
    adapt: bool,
    #[command(flatten)]
    #[serde(flatten)]
    output: Output,
}

impl Inputs {
    fn must_not_adapt(&self) -> Result<()> {
        if !self.adapt {
            return Ok(());
        }
        let error = Error::usage("a dry run does not adapt the model");
        Err(error.todo("leave out --adapt: crocuta check fit says what that takes"))
    }

    /// The model, adapted to the input if that is asked for.
    fn load(&self, bundled: &str) -> Result<Loaded> {
        let fasta = self.adapt.then_some(self.source.fasta.as_path());
        if fasta.is_some_and(is_stdout) {
            let error = Error::usage("--adapt reads the FASTA three times");
            return Err(error.todo("give a file, not standard input"));
        }
        Loaded::adapted(&self.compute, bundled, fasta)
    }
}

/// The type of a vector's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub enum Dtype {
    /// Half precision: half the size, 11 bits.
    F16,
    /// Single precision: as computed.
    F32,
}

impl Dtype {
    /// The type of a vector's numbers.
    pub fn element(self) -> Element {
        match self {
            Self::F16 => Element::F16,
            Self::F32 => Element::F32,
        }
    }
}

impl Embed {
    /// The run that these options ask for.
    pub fn job(&self) -> GenomeJob<'_> {
        GenomeJob {
            inputs: &self.inputs,
            rows: RowsOf::Embeddings(self),
        }
    }
}

impl Embed {
    /// An error for a dry run that would train first.
    ///
    /// # Errors
    /// Usage.
    pub fn must_not_adapt(&self) -> Result<()> {
        self.inputs.must_not_adapt()
    }
}

impl Predict {
    /// An error for a dry run that would train first.
    ///
    /// # Errors
    /// Usage.
    pub fn must_not_adapt(&self) -> Result<()> {
        self.inputs.must_not_adapt()
    }

    /// The run over bases that these options ask for.
    fn job(&self) -> GenomeJob<'_> {
        GenomeJob {
            inputs: &self.inputs,
            rows: RowsOf::Predictions(self),
        }
    }
}

/// A run over the sequences of a FASTA input.
pub struct GenomeJob<'a> {
    inputs: &'a Inputs,
    rows: RowsOf<'a>,
}

/// What the rows hold.
#[derive(Clone, Copy)]
enum RowsOf<'a> {
    Embeddings(&'a Embed),
    Predictions(&'a Predict),
}

/// Everything that a run reads, open.
pub struct OpenGenome {
    session: Session,
    genome: Genome,
    head: Head,
    /// The same head for each of the other devices.
    other_heads: Vec<Head>,
    columns: Vec<Column<Positions>>,
    /// Whether a table is written.
    has_table: bool,
    /// The head that predicts, if it is not the language model.
    task: Option<Task>,
    settings: GenomeSettings,
    /// The regions that are read; none: all.
    regions: Vec<Query>,
    /// Of which type the features are that are intervals.
    feature: Option<String>,
    /// Intervals, or regions, without a base, which have no row.
    left_out: u64,
}

/// The files that a run writes.
pub struct GenomeTargets {
    table: Option<AtomicFile>,
    tracks: Tracks,
}

impl Job for GenomeJob<'_> {
    type Opened = OpenGenome;
    type Targets = GenomeTargets;

    fn shared(&self) -> (&Compute, &Output) {
        (&self.inputs.compute, &self.inputs.output)
    }

    fn sharding(&self) -> &Sharding {
        &self.inputs.source.sharding
    }

    fn check_options(&self) -> Result<()> {
        let Inputs {
            source,
            compute,
            output,
            ..
        } = self.inputs;
        if source.sample.reference.is_some() && (output.resume || compute.exact) {
            let what = "--resume and --exact do not go with alignments";
            return Err(Error::usage(what));
        }
        let by_interval = source.intervals.intervals.is_some();
        if by_interval && source.shard_by == By::Bases {
            let error = Error::usage("--shard-by bases would cut intervals");
            return Err(error.todo("use --shard-by contig"));
        }
        if compute.strand == Strand::Own && !by_interval {
            return Err(Error::usage("--strand own is for --intervals"));
        }
        if let RowsOf::Predictions(predict) = self.rows
            && predict.logits
            && (by_interval || predict.bin.is_some())
        {
            let what = "--logits does not go with --bin and --intervals";
            return Err(Error::usage(what));
        }
        if output.resume && self.heads().is_some_and(Heads::writes) {
            let what = "--resume is for tables: it does not go with --genes, --bed, --bigwig and \
                        --bedgraph";
            return Err(Error::usage(what));
        }
        match self.heads() {
            Some(heads) if self.inputs.adapt && heads.ask_for_a_head() => {
                let what = "--adapt trains the encoder by its language model: a head that was \
                            trained on it as it was would say less than before";
                Err(Error::usage(what).todo(
                    "leave out --adapt, or adapt the language model by crocuta fit, and train a head \
                     on that",
                ))
            }
            Some(heads) => heads.check(by_interval, self.bins().is_some()),
            None => Ok(()),
        }
    }

    fn inputs(&self) -> Vec<(&'static str, PathBuf)> {
        self.inputs.source.files()
    }

    fn outputs(&self) -> Vec<(PathBuf, Format)> {
        let table = self.table().map(|path| (path, Format::Parquet));
        let beside = self.heads().map(Heads::outputs).unwrap_or_default();
        table.into_iter().chain(beside).collect()
    }

    fn open(&self) -> Result<OpenGenome> {
        let loaded = self.inputs.load(self.bundled())?;
        let task = match self.heads() {
            Some(heads) => heads.task(&loaded.checkpoint)?,
            None => None,
        };
        self.open_with(loaded, task)
    }

    fn session(opened: &OpenGenome) -> &Session {
        &opened.session
    }

    fn options(&self) -> Result<Map<String, Value>> {
        match self.rows {
            RowsOf::Embeddings(embed) => super::identity::options(embed),
            RowsOf::Predictions(predict) => super::identity::options(predict),
        }
    }

    fn declare(&self, opened: &OpenGenome, outputs: &mut Outputs) -> Result<GenomeTargets> {
        let table = match self.table() {
            Some(path) => Some(outputs.create(&path, Format::Parquet)?),
            None => None,
        };
        let tracks = match self.heads() {
            Some(heads) => heads.open(
                opened.task.as_ref(),
                &opened.session,
                outputs,
                &opened.settings,
                self.sharding().one(),
            )?,
            None => Tracks::default(),
        };
        Ok(GenomeTargets { table, tracks })
    }

    fn process(
        &self,
        opened: &mut OpenGenome,
        targets: GenomeTargets,
        journal: Option<&mut Journal>,
        progress: &mut Progress,
    ) -> Result<Summary> {
        let mut sink = self.sink(opened, targets, journal.as_deref())?;
        let heads = std::iter::once(&opened.head).chain(&opened.other_heads);
        let readings = opened.session.engines().zip(heads);
        let readings = readings.map(|(engine, head)| Reading {
            engine,
            head,
            settings: &opened.settings,
        });
        let readings: Vec<_> = readings.collect();
        let genome = &mut opened.genome;
        let totals = if self.inputs.compute.exact {
            genome::run_exact(genome, readings[0], &mut sink, progress)?
        } else {
            genome::run(genome, &readings, &mut sink, journal, progress)?
        };
        let rows = sink.rows();
        let footer = match &sink.table {
            Some(table) => self.footer(opened, table.columns())?,
            None => Value::Null,
        };
        let receipt = sink.finish(&footer, opened.genome.finished_contigs())?;
        let mut summary = Summary {
            totals,
            rows,
            clipped: receipt.clipped,
            receipt: receipt.table,
            ..self.counts(opened, rows)
        };
        if let RowsOf::Embeddings(_) = self.rows {
            let engine = &opened.session.engine;
            let written = layers::summary(&engine.facts, &engine.layers);
            summary.own.extend([written]);
        }
        let genes = receipt.genes.map(|genes| format!("{genes} genes"));
        summary.notes.extend(genes);
        Ok(summary)
    }

    fn describe(&self, opened: &mut OpenGenome) -> Result<String> {
        let counted = match opened.genome.planned() {
            Some(planned) => planned,
            None => opened.genome.count()?,
        };
        opened.estimate(Some(counted));
        let OpenGenome {
            session,
            head,
            settings,
            ..
        } = opened;
        let speed = if self.inputs.compute.exact {
            let tile = session.estimate.chunk.min(8192) as usize;
            genome::exact_speed(&session.engine, head, tile, &settings.scratch)?
        } else {
            session.estimate.measure(session.engines())? / head.runs() as f64
        };
        session.estimate.speed = Some(speed);
        match self.sharding().all() {
            Some(shards) => self.describe_shards(opened, shards, speed),
            None => Ok(session.estimate.describe(speed)),
        }
    }
}

impl GenomeJob<'_> {
    fn heads(&self) -> Option<&Heads> {
        match self.rows {
            RowsOf::Embeddings(_) => None,
            RowsOf::Predictions(predict) => Some(&predict.heads),
        }
    }

    fn bins(&self) -> Option<(u64, Pool)> {
        match self.rows {
            RowsOf::Embeddings(embed) => {
                let Binning { bin, pool } = embed.binning;
                bin.map(|size| (u64::from(size), pool))
            }
            RowsOf::Predictions(predict) => predict.bin.map(|size| (u64::from(size), Pool::Mean)),
        }
    }

    /// The model, if none is named.
    fn bundled(&self) -> &'static str {
        match self.heads() {
            Some(heads) if heads.genes.is_some() => checkpoint::GENES,
            _ => checkpoint::DEFAULT,
        }
    }

    /// The table's path; none if rows go to other files alone.
    fn table(&self) -> Option<PathBuf> {
        let elsewhere = self.heads().is_some_and(Heads::writes);
        let path = self.inputs.output.table(elsewhere);
        path.map(Path::to_path_buf)
    }

    /// The strands that are read: those asked for, or what the head was trained on.
    fn strand(&self, task: Option<&Task>) -> Result<Strand> {
        let Inputs {
            source, compute, ..
        } = self.inputs;
        let RowsOf::Predictions(predict) = self.rows else {
            return Ok(compute.strand);
        };
        let Some(task) = task else {
            if compute.exact && !predict.logits {
                let what = "--exact does not mask bases, so it predicts none: it needs --logits";
                return Err(Error::usage(what));
            }
            return Ok(compute.strand);
        };
        let without = |option| predict.heads.without(option);
        if predict.logits || compute.exact {
            let what = "--logits and --exact are the language model's";
            return Err(Error::usage(what).todo(without("these")));
        }
        if compute.strand != Strand::Forward {
            let what = format!(
                "the head \"{}\" reads the strands it was trained on",
                task.name
            );
            return Err(Error::usage(what).todo(without("--strand")));
        }
        match (task.both_strands, &source.sample.reference) {
            (false, _) => Ok(Strand::Forward),
            (true, Some(_)) => Err(Error::usage(
                "a head of both strands does not read alignments",
            )),
            (true, None) => Ok(Strand::Joined),
        }
    }

    /// Whether bases are masked, to be predicted: by a bidirectional language model, in windows.
    fn masks(&self, facts: &Facts, task: Option<&Task>) -> bool {
        let predicts = matches!(self.rows, RowsOf::Predictions(_)) && task.is_none();
        predicts && !facts.causal && !self.inputs.compute.exact
    }

    /// What is computed of hidden vectors.
    fn head(&self, checkpoint: &Checkpoint, engine: &Engine, task: Option<&Task>) -> Result<Head> {
        let Engine { model, facts, .. } = engine;
        match (self.rows, task) {
            (RowsOf::Embeddings(_), _) => Ok(Head::Embedding),
            (RowsOf::Predictions(_), Some(task)) => {
                let head = task.load(&checkpoint.weights, facts.width)?;
                Ok(Head::Task(Box::new(head)))
            }
            (RowsOf::Predictions(predict), None) => {
                let masks = self.masks(facts, task);
                Ok(Head::Prediction {
                    model: Box::new(LanguageModel::load(checkpoint, model, facts)?),
                    logits: predict.logits,
                    masked: masks.then_some(usize::from(predict.mask_every.unwrap_or(MASK_EVERY))),
                })
            }
        }
    }

    fn sink(
        &self,
        opened: &mut OpenGenome,
        targets: GenomeTargets,
        journal: Option<&Journal>,
    ) -> Result<GenomeSink> {
        let columns = std::mem::take(&mut opened.columns);
        let bin = opened.settings.bins.map_or(1, |(size, _)| size);
        let groups = match opened.settings.intervals {
            Some(_) => Groups::of_intervals(),
            None => Groups::of_positions(bin),
        };
        let form = (groups, self.inputs.output.compressed.compression);
        let table = match (targets.table, journal) {
            (None, _) => None,
            (Some(file), None) => Some(TableOutput::create(file, columns, form)?),
            (Some(file), Some(journal)) => {
                Some(TableOutput::resume(file, columns, form, journal, "table")?)
            }
        };
        let row = opened.session.estimate.row_bytes;
        let table = table.map(|table| table.at_most(self.inputs.output.max_output, row));
        Ok(GenomeSink::new(
            table,
            targets.tracks,
            opened.genome.consensus().map(Consensus::depths),
        ))
    }
}
