//! `embed` and `predict`: a FASTA file through a model into a table.

use super::device;
use super::estimate::Estimate;
use super::options::{Binning, Compute, Output, Source, readable};
use super::process::{Logging, peak_memory};
use super::tracks::Heads;
use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, Kind, Result};
use crate::head::{LanguageModel, Link, Task};
use crate::io::atomic::{self, AtomicFile};
use crate::io::genome::Genome;
use crate::io::input;
use crate::io::pileup::Consensus;
use crate::io::schema::{self, ColumnMeaning, Metadata, Rows};
use crate::io::table::{Column, Receipt};
use crate::io::vector::Element;
use crate::ops::Device;
use crate::stream::{
    self, Engine, Head, Identity, Journal, Progress, Settings, Sink, Strand, Totals, Tracks,
    Windows,
};
use clap::ValueEnum;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Options of `crocuta embed`.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Example:\n  crocuta embed genome.fa.gz -m MODEL -o embeddings.parquet --bin 128"
)]
pub struct Embed {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    binning: Binning,
    /// Numbers of the vectors.
    #[arg(long, value_enum, default_value = "f16", help_heading = "Output")]
    dtype: Dtype,
}

/// Options of `crocuta predict`.
#[derive(clap::Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  crocuta predict genome.fa.gz -m MODEL -o predictions.parquet --strand both\n  \
crocuta predict genome.fa.gz --genes genes.gff3"
)]
pub struct Predict {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    heads: Heads,
    /// Write the raw logits too, as a float32 vector over the model's tokens.
    #[arg(long, help_heading = "Output")]
    logits: bool,
    /// For models that look both ways: hide one base in so many at a time, in as many runs of the
    /// model, and predict the hidden ones. Not with --exact, which writes the logits alone.
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Run",
          value_parser = clap::value_parser!(u16).range(1..))]
    mask_every: u16,
}

/// What both need.
#[derive(clap::Args, Clone, Debug)]
struct Inputs {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    compute: Compute,
    #[command(flatten)]
    output: Output,
}

/// The type of a vector's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    /// Half precision: half the size, 11 bits.
    F16,
    /// Single precision: as computed.
    F32,
}

/// What the rows hold.
#[derive(Clone, Copy)]
enum Table<'a> {
    Embeddings {
        dtype: Dtype,
        binning: &'a Binning,
    },
    Predictions {
        logits: bool,
        mask_every: u16,
        heads: &'a Heads,
    },
}

impl Embed {
    /// Runs the command.
    pub fn run(&self, logging: &Logging) -> Result<()> {
        self.inputs.run(self.table(), logging)
    }

    /// Opens everything and says what the run would take.
    pub fn check(&self) -> Result<()> {
        self.inputs.check(self.table())
    }

    fn table(&self) -> Table<'_> {
        Table::Embeddings {
            dtype: self.dtype,
            binning: &self.binning,
        }
    }
}

impl Predict {
    /// Runs the command.
    pub fn run(&self, logging: &Logging) -> Result<()> {
        self.inputs.run(self.table(), logging)
    }

    /// Opens everything and says what the run would take.
    pub fn check(&self) -> Result<()> {
        self.inputs.check(self.table())
    }

    fn table(&self) -> Table<'_> {
        Table::Predictions {
            logits: self.logits,
            mask_every: self.mask_every,
            heads: &self.heads,
        }
    }
}

/// Everything that a run reads, open.
struct Opened {
    checkpoint: Checkpoint,
    engine: Engine,
    genome: Genome,
    columns: Vec<Column>,
    /// The head that predicts, if it is not the language model.
    task: Option<Task>,
    /// Strands as they are read.
    strand: Strand,
    windows: Option<Windows>,
    chunk: usize,
    estimate: Estimate,
}

impl Inputs {
    fn run(&self, table: Table, logging: &Logging) -> Result<()> {
        let Self {
            source,
            compute,
            output,
        } = self;
        let inputs = [Some(&source.fasta), source.sample.reference.as_ref()];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
        let outputs = [Some(&output.output), output.summary.as_ref()];
        let outputs: Vec<&Path> = (outputs.into_iter().flatten())
            .map(PathBuf::as_path)
            .collect();
        atomic::must_all_differ(&outputs, &inputs)?;
        if source.sample.reference.is_some() && (output.resume || compute.exact) {
            return Err(Error::usage(
                "--resume and --exact do not go with alignments",
            ));
        }
        // Before any work, so that a run does not end at a file that it may not write.
        let heads = table.heads();
        let target = match heads.is_some_and(Heads::writes) && output.output == Path::new("-") {
            true => None,
            false => Some(AtomicFile::create(&output.output, output.force)?),
        };
        let summary = output
            .summary
            .as_deref()
            .map(|path| AtomicFile::create(path, true));
        let summary = summary.transpose()?;
        let mut opened = self.open(table)?;
        if opened.task.is_some() && output.resume {
            let what = "--resume is for embeddings and the language model's predictions";
            return Err(Error::usage(what));
        }
        let scratch = compute.scratch(&output.output);
        let tracks = match (heads, &opened.task) {
            (Some(heads), Some(task)) => heads.open(task, &inputs, output.force, &scratch)?,
            _ => Tracks::default(),
        };
        opened.estimate.check_memory()?;
        opened.estimate.check_output(output.max_output)?;
        tracing::info!(
            "on {}; {}",
            device::describe(&opened.engine.device).0,
            opened.estimate
        );
        let largest = output
            .max_output
            .map(|bytes| (bytes, opened.estimate.row_bytes));
        let journal = match output.resume {
            true if matches!(opened.engine.device, Device::Cuda(_)) => {
                return Err(Error::usage("--resume is for runs on the CPU")
                    .todo("add --device cpu, or run without --resume"));
            }
            true => {
                let every = Duration::from_secs(output.checkpoint_every);
                Some(Journal::open(
                    &output.output,
                    self.identity(table, &opened)?,
                    every,
                )?)
            }
            false => None,
        };
        let bin = table.bins().map_or(1, |(size, _)| size);
        let sink = match target {
            Some(target) => Sink::create(target, opened.columns.clone(), bin, largest, journal)?,
            None => Sink::without_table(),
        };
        let consensus = opened.genome.consensus();
        let depths = consensus.map(Consensus::depths);
        let mut sink = sink.with_depths(depths).with_tracks(tracks);
        let mut progress = Progress::new(logging.progress(), opened.estimate.bases);
        let settings = Settings {
            chunk: opened.chunk,
            windows: opened.windows,
            strand: opened.strand,
            bins: table.bins(),
            scratch,
        };
        let run = match compute.exact {
            true => stream::run_exact,
            false => stream::run,
        };
        let run = run(
            &mut opened.genome,
            &opened.engine,
            &mut sink,
            &settings,
            &mut progress,
        );
        progress.finish();
        let totals = run?;
        let clipped = sink.clipped();
        let (receipt, genes) = sink.finish(&self.metadata(table, &opened).to_json()?)?;
        if let Some(genes) = genes {
            tracing::info!("{genes} genes");
        }
        let seconds = progress.elapsed().as_secs_f64();
        self.report(&opened, &totals, &receipt, seconds, clipped, summary)
    }

    /// What must be the same for a run to go on with another's checkpoint.
    fn identity(&self, table: Table, opened: &Opened) -> Result<Identity> {
        let Self {
            source, compute, ..
        } = self;
        if input::is_stdin(&source.fasta) {
            return Err(Error::usage(
                "--resume needs an input that can be read again, not stdin",
            ));
        }
        let file = std::fs::metadata(&source.fasta).map_err(|e| Error::io(&source.fasta, &e))?;
        let modified = file
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let (dtype, bin, logits, mask) = match table {
            Table::Embeddings { dtype, .. } => (Some(name_of(dtype)), table.bins(), None, None),
            Table::Predictions {
                logits, mask_every, ..
            } => (None, None, Some(logits), Some(mask_every)),
        };
        let identity = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "input": file_name(&source.fasta),
            "input size": file.len(),
            "input time": modified.map(|time| time.as_nanos().to_string()),
            "model": opened.checkpoint.digest,
            "regions": source.described(),
            "context": source.context(&opened.engine.facts),
            "keep-overlaps": source.keep_overlaps,
            "chunk": opened.chunk,
            "strand": name_of(compute.strand),
            "window": opened.windows.map(|windows| windows.size),
            "overlap": opened.windows.map(|windows| windows.overlap),
            "attention-window": compute.attention_window,
            "dtype": dtype,
            "bin": bin.map(|(size, _)| size),
            "pool": bin.map(|(_, pool)| name_of(pool)),
            "logits": logits,
            "mask-every": mask,
        });
        match identity {
            serde_json::Value::Object(identity) => Ok(identity),
            _ => Err(Error::new(
                Kind::Internal,
                "the identity of a run is an object",
            )),
        }
    }

    fn check(&self, table: Table) -> Result<()> {
        let opened = self.open(table)?;
        let speed = match self.compute.exact {
            true => {
                let scratch = self.compute.scratch(&self.output.output);
                stream::exact_speed(
                    &opened.engine,
                    opened.estimate.chunk.min(8192) as usize,
                    &scratch,
                )?
            }
            false => {
                let Engine {
                    model,
                    facts,
                    device,
                    ..
                } = &opened.engine;
                opened.estimate.measure(model, facts, device)? / opened.engine.runs() as f64
            }
        };
        super::process::print(&opened.estimate.describe(speed))?;
        opened.estimate.check_memory()?;
        opened.estimate.check_output(self.output.max_output)
    }

    fn open(&self, table: Table) -> Result<Opened> {
        let bundled = match table {
            Table::Predictions { heads, .. } if heads.genes.is_some() => checkpoint::GENES,
            _ => checkpoint::DEFAULT,
        };
        let (checkpoint, model, facts) = self.compute.load_or(bundled)?;
        let exact = self.compute.exact;
        let scratch = self.compute.exact_bytes(&model)?;
        let task = match table {
            Table::Predictions { heads, .. } => heads.task(&checkpoint)?,
            Table::Embeddings { .. } => None,
        };
        let strand = self.strand(table, task.as_ref())?;
        if let (true, Table::Predictions { logits: false, .. }) = (exact, table) {
            return Err(Error::usage(
                "--exact does not hide bases, so it predicts none: it needs --logits",
            ));
        }
        let windows = self.compute.windows(&facts)?;
        let genome = self.source.open(&facts, strand)?;
        let (head, columns) = match table {
            Table::Predictions { .. } if task.is_some() => {
                let task = task
                    .as_ref()
                    .ok_or_else(|| Error::new(Kind::Internal, "no head"))?;
                let head = task.load(&checkpoint.weights, facts.width)?;
                let columns = schema::heads(&task.outputs, task.link != Link::Identity);
                (Head::Task(Box::new(head)), columns)
            }
            Table::Embeddings { dtype, .. } => {
                let rows = if table.bins().is_some() {
                    Rows::Bins
                } else {
                    Rows::Bases
                };
                (
                    Head::Embedding,
                    schema::embeddings(rows, dtype.element(), facts.width),
                )
            }
            Table::Predictions {
                logits, mask_every, ..
            } => {
                let masked = (!facts.causal && !exact).then_some(usize::from(mask_every));
                let model = LanguageModel::load(&checkpoint, &model, &facts)?;
                let vector = logits.then(|| (Element::F32, model.width()));
                (
                    Head::Prediction {
                        model,
                        logits,
                        masked,
                    },
                    schema::predictions(vector),
                )
            }
        };
        let columns = match (genome.consensus(), table.bins()) {
            (None, _) => columns,
            (Some(_), None) => schema::with_depth(columns, Rows::Bases),
            (Some(_), Some(_)) => schema::with_depth(columns, Rows::Bins),
        };
        let unused = checkpoint.unused();
        if let Some(first) = unused.first() {
            tracing::warn!(
                "{}: {} tensors are not used, such as {first}",
                checkpoint.name,
                unused.len()
            );
        }
        if let Some(note) = &facts.note {
            tracing::warn!("{}: {note}", checkpoint.name);
        }
        let device = match exact {
            true => Device::Cpu,
            false => {
                let Compute {
                    device,
                    precision,
                    device_memory,
                    ..
                } = self.compute;
                device::open(device, precision, device_memory, &facts)?
            }
        };
        let chunk = device::chunk(self.compute.chunk, &device, &model, &facts)?;
        let engine = Engine {
            model,
            facts,
            head,
            device,
        };
        let bin = table.bins().map_or(1, |(size, _)| size);
        let strands = if strand == Strand::Both { 2 } else { 1 };
        let passes = match strand {
            Strand::Both | Strand::Mean | Strand::Joined => 2,
            Strand::Forward | Strand::Reverse => 1,
        };
        let window = windows.map_or(0, |windows| windows.size as u64);
        let tokens = (chunk as u64).max(window);
        let genome_bases = genome.bases_hint();
        let estimate = Estimate {
            bases: genome_bases.map(|bases| {
                let again = windows.map_or(0, |windows| windows.shared(bases));
                (bases + again) * passes
            }),
            rows: genome
                .bases_hint()
                .map(|bases| bases.div_ceil(bin) * strands),
            row_bytes: Estimate::row_bytes(&columns),
            chunk: tokens,
            memory: match engine.device {
                Device::Cpu => Estimate::memory(&engine.facts, tokens, genome_bases, &columns),
                Device::Cuda(_) => {
                    let rows = tokens.div_ceil(bin) + 1;
                    Estimate::memory_beside_gpu(&engine.facts, tokens, rows, &columns)
                }
            },
            scratch,
        };
        Ok(Opened {
            checkpoint,
            engine,
            genome,
            columns,
            task,
            strand,
            windows,
            chunk,
            estimate,
        })
    }

    /// The strands that are read: those asked for, or what the head was trained on.
    fn strand(&self, table: Table, task: Option<&Task>) -> Result<Strand> {
        let (Table::Predictions { logits, .. }, Some(task)) = (table, task) else {
            return Ok(self.compute.strand);
        };
        if logits || self.compute.exact {
            let what = "--logits and --exact are the language model's";
            return Err(Error::usage(what).todo("add --head lm"));
        }
        if self.compute.strand != Strand::Forward {
            let what = format!(
                "the head \"{}\" reads the strands it was trained on",
                task.name
            );
            return Err(Error::usage(what).todo("leave out --strand, or add --head lm"));
        }
        match (task.both_strands, &self.source.sample.reference) {
            (false, _) => Ok(Strand::Forward),
            (true, Some(_)) => Err(Error::usage(
                "a head of both strands does not read alignments",
            )),
            (true, None) => Ok(Strand::Joined),
        }
    }

    fn metadata(&self, table: Table, opened: &Opened) -> Metadata {
        let Opened {
            checkpoint,
            engine,
            genome,
            ..
        } = opened;
        let (name, mut columns) = match table {
            Table::Embeddings { dtype, .. } => {
                let pool = table.bins().map(|(_, pool)| name_of(pool));
                let facts = &engine.facts;
                let element = dtype.element();
                let meaning =
                    ColumnMeaning::embedding(element, facts.width, facts.layer, pool.as_deref());
                (
                    "embeddings",
                    BTreeMap::from([("embedding".to_string(), meaning)]),
                )
            }
            Table::Predictions { .. } if opened.task.is_some() => {
                let task = opened.task.iter();
                let means = task.flat_map(|task| {
                    let names = schema::heads(&task.outputs, task.link != Link::Identity);
                    let names = names.into_iter().rev().take(task.outputs.len()).rev();
                    names.zip(&task.outputs).map(|(column, output)| {
                        (
                            column.name,
                            ColumnMeaning::of_head(&task.name, output, task.link != Link::Identity),
                        )
                    })
                });
                ("predictions", means.collect())
            }
            Table::Predictions { logits, .. } => {
                let mut columns = ColumnMeaning::probabilities();
                if logits {
                    let mut meaning = ColumnMeaning::embedding(
                        Element::F32,
                        engine.facts.vocabulary.size,
                        "lm_head",
                        None,
                    );
                    meaning.semantics = match engine.facts.causal {
                        true => "logits after reading the base at start, of the base that follows",
                        false => "logits after reading the base at start, of that base",
                    }
                    .to_string();
                    columns.insert("logits".to_string(), meaning);
                }
                ("predictions", columns)
            }
        };
        if !engine.facts.causal {
            let around = columns.into_iter();
            columns = around
                .map(|(name, meaning)| (name, meaning.both_ways()))
                .collect();
        }
        let mut params = serde_json::Map::new();
        if let Some((size, _)) = table.bins() {
            params.insert("bin".to_string(), size.into());
        }
        if let Some(windows) = opened.windows {
            params.insert("overlap".to_string(), windows.overlap.into());
        }
        if let Some(window) = self.compute.attention_window {
            params.insert("attention-window".to_string(), window.into());
        }
        if let Head::Prediction {
            masked: Some(stride),
            ..
        } = engine.head
        {
            params.insert("mask-every".to_string(), stride.into());
        }
        for (name, value) in self.source.sample.params() {
            params.insert(name.to_string(), value);
        }
        if self.source.sample.reference.is_some() {
            params.insert(
                "alignments".to_string(),
                file_name(&self.source.fasta).into(),
            );
        }
        if !self.source.described().is_empty() {
            let context = self.source.context(&engine.facts);
            params.insert("context".to_string(), context.into());
        }
        Metadata {
            version: schema::VERSION.to_string(),
            table: name.to_string(),
            primary_columns: columns.keys().cloned().collect(),
            coordinates: schema::Coordinates::zero_based(),
            reference: schema::Reference {
                path: file_name(
                    self.source
                        .sample
                        .reference
                        .as_ref()
                        .unwrap_or(&self.source.fasta),
                ),
                contigs: genome
                    .finished_contigs()
                    .iter()
                    .map(|contig| schema::ContigDigest {
                        name: contig.name.clone(),
                        length: contig.length,
                        md5: None,
                        sha512t24u: None,
                    })
                    .collect(),
            },
            model: schema::Model {
                name: checkpoint.name.clone(),
                architecture: checkpoint.architecture.to_string(),
                sha256: checkpoint.digest.clone(),
                n_params: checkpoint.weights.values() as u64,
            },
            columns,
            inference: schema::Inference {
                mode: match opened.windows {
                    Some(_) => "window".to_string(),
                    None if self.compute.exact => "exact".to_string(),
                    None => "stream".to_string(),
                },
                chunk: opened.chunk as u64,
                window: opened.windows.map(|windows| windows.size as u64),
                strand: match opened.strand {
                    Strand::Joined => "joined".to_string(),
                    strand => name_of(strand),
                },
                precision: name_of(self.compute.precision),
                device: device::describe(&engine.device).1.to_string(),
            },
            selection: schema::Selection {
                regions: self.source.described(),
                shard: (0, 1),
            },
            tool: schema::Tool::this(),
            params,
            command: None,
            complete: true,
        }
    }

    /// Says what was done, on stderr and in the summary.
    fn report(
        &self,
        opened: &Opened,
        totals: &Totals,
        receipt: &Receipt,
        seconds: f64,
        clipped: u64,
        summary: Option<AtomicFile>,
    ) -> Result<()> {
        let counts = opened.genome.counts();
        let speed = totals.bases as f64 / seconds.max(1e-9);
        let peak = peak_memory();
        let device_peak = match &opened.engine.device {
            Device::Cpu => None,
            Device::Cuda(gpu) => Some(gpu.peak_memory()?),
        };
        if counts.ambiguous_total() > 0 {
            let codes: String = counts.ambiguous.keys().collect();
            tracing::warn!("{} ambiguous → N ({codes})", counts.ambiguous_total());
        }
        let chosen = opened.genome.consensus().map(Consensus::chosen);
        if let Some(chosen) = chosen {
            tracing::info!(
                "of {} positions {} are other than the reference, {} deleted, {} undecided",
                chosen.positions,
                chosen.changed,
                chosen.deleted,
                chosen.undecided
            );
            if chosen.refused > 0 {
                let n = chosen.refused;
                tracing::warn!("{n} alignments cannot be, or span too much, and were left out");
            }
        }
        if clipped > 0 {
            tracing::warn!("{clipped} rows were cut to float16's range: use --dtype f32");
        }
        tracing::info!(
            "{} rows of {} sequences, {} in {seconds:.1} s: {speed:.0} bases a second, peak memory {}",
            receipt.rows,
            counts.sequences,
            readable(receipt.bytes),
            readable(peak.unwrap_or_default()),
        );
        if let Some(mut file) = summary {
            let summary = serde_json::json!({
                "rows": receipt.rows,
                "sequences": counts.sequences,
                "empty_sequences": counts.empty,
                "bases_read": counts.bases,
                "n": counts.n,
                "soft_masked": counts.soft_masked,
                "ambiguous": counts.ambiguous,
                "consensus": chosen.map(|chosen| serde_json::json!({
                    "positions": chosen.positions,
                    "changed": chosen.changed,
                    "deleted": chosen.deleted,
                    "undecided": chosen.undecided,
                    "alignments": chosen.alignments,
                    "refused": chosen.refused,
                })),
                "clipped_rows": clipped,
                "encoder_bases": totals.bases,
                "encoder_steps": totals.steps,
                "seconds": seconds,
                "bases_per_second": speed,
                "peak_memory_bytes": peak,
                "device_peak_memory_bytes": device_peak,
                "output_bytes": receipt.bytes,
                "output_sha256": receipt.sha256,
                "model": opened.checkpoint.name,
                "model_sha256": opened.checkpoint.digest,
                "device": device::describe(&opened.engine.device).0,
                "chunk": opened.chunk,
                "threads": rayon::current_num_threads(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            let text = format!("{summary:#}\n");
            file.write_all(text.as_bytes())
                .map_err(|e| Error::io(file.name(), &e))?;
            file.finish()?;
        }
        match self.output.strict && counts.empty > 0 {
            true => Err(Error::new(
                Kind::Strict,
                format!("{} sequences are empty", counts.empty),
            )),
            false => Ok(()),
        }
    }
}

impl Table<'_> {
    fn bins(&self) -> Option<(u64, stream::Pool)> {
        match self {
            Self::Embeddings { binning, .. } => binning.bin.map(|n| (u64::from(n), binning.pool)),
            Self::Predictions { .. } => None,
        }
    }
}

impl<'a> Table<'a> {
    fn heads(&self) -> Option<&'a Heads> {
        match self {
            Self::Embeddings { .. } => None,
            Self::Predictions { heads, .. } => Some(heads),
        }
    }
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

/// An option's value as it is spelled on the command line.
pub(super) fn name_of(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_string())
        .unwrap_or_default()
}

/// A path's last part, for the metadata.
pub(super) fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
