//! `reads`: every read of a file through a model into a row of a table.

use super::device;
use super::estimate::Estimate;
use super::options::{Compute, Output, readable};
use super::process::{Logging, peak_memory};
use super::run::{Dtype, file_name, name_of};
use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, Kind, Result};
use crate::head::LanguageModel;
use crate::io::alignments::{Alignments, Options, Writer, flag};
use crate::io::atomic::{self, AtomicFile};
use crate::io::schema::{self, ColumnMeaning, Metadata};
use crate::io::table::{Column, TableWriter};
use crate::io::vector::Element;
use crate::io::{bed, fai};
use crate::sequence::region::Query;
use crate::stream::{
    self, Pool, Progress, ReadEngine, ReadReceipts, ReadSettings, ReadSink, ReadTotals, Strand,
};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Records that a check looks at; of more, it does not know what they will take.
const SAMPLE: u64 = 1_000_000;

/// Options of `crocuta reads`.
#[derive(clap::Args, Clone, Debug)]
#[command(
    mut_arg("strand", |arg| arg.hide(true)),
    mut_arg("exact", |arg| arg.hide(true)),
    mut_arg("scratch", |arg| arg.hide(true)),
    mut_arg("resume", |arg| arg.hide(true)),
    mut_arg("checkpoint_every", |arg| arg.hide(true)),
    mut_arg("max_output", |arg| arg.hide(true)),
    after_help = "Example:\n  crocuta reads sample.bam -m MODEL -o reads.parquet --bam-out tagged.bam"
)]
pub struct Reads {
    /// BAM, CRAM, SAM or FASTQ, known by its content; FASTQ and SAM may be compressed; - is stdin.
    reads: PathBuf,
    /// The FASTA that a CRAM file was written against, with its index (samtools faidx).
    #[arg(short, long, value_name = "FASTA", help_heading = "Input")]
    reference: Option<PathBuf>,
    /// Only reads that overlap this region, as in samtools: chr, chr:beg-end, 1-based, end
    /// included. Needs an index. Repeatable.
    #[arg(long, value_name = "REGION", help_heading = "Input")]
    region: Vec<String>,
    /// Only reads that overlap the regions of this BED file.
    #[arg(long, value_name = "BED", help_heading = "Input")]
    regions_file: Option<PathBuf>,
    /// A row for secondary and supplementary alignments too.
    #[arg(long, help_heading = "Input")]
    all_alignments: bool,
    /// Which way reads that are stored reverse-complemented are read.
    #[arg(long, value_enum, default_value = "sequenced", help_heading = "Input")]
    orientation: Orientation,
    /// Write an empty table if there are no reads.
    #[arg(long, help_heading = "Input")]
    allow_empty: bool,
    /// Read a BGZF file without its end marker.
    #[arg(long, help_heading = "Input")]
    allow_missing_eof: bool,
    #[command(flatten)]
    compute: Compute,
    /// For models that look both ways: hide one base in so many at a time, in as many runs of the
    /// model, and score the hidden ones.
    #[arg(long, value_name = "N", default_value_t = 8, help_heading = "Run",
          value_parser = clap::value_parser!(u16).range(1..))]
    mask_every: u16,
    /// How the bases of a read become one vector.
    #[arg(long, value_enum, default_value = "mean", help_heading = "Output")]
    pool: Pool,
    /// Write no vectors.
    #[arg(long, conflicts_with = "pool", help_heading = "Output")]
    no_embedding: bool,
    /// Numbers of the vectors.
    #[arg(long, value_enum, default_value = "f16", help_heading = "Output")]
    dtype: Dtype,
    /// Write the predictions of every base of every read to a second table.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    per_base: Option<PathBuf>,
    /// Write the records as BAM, in their order, with tags: ll, the mean log-probability of a
    /// base, and pp, the perplexity. With an index beside it if they are sorted.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    bam_out: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Which way a read is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Orientation {
    /// As it was sequenced.
    Sequenced,
    /// As it lies on the reference: as BAM stores it.
    Reference,
}

/// Everything that a run reads, open.
struct Opened {
    checkpoint: Checkpoint,
    engine: ReadEngine,
    source: Alignments,
    windows: Option<stream::Windows>,
    chunk: usize,
    embedding: Option<(Element, usize, Pool)>,
    estimate: Estimate,
}

fn columns(embedding: Option<(Element, usize, Pool)>) -> Vec<Column> {
    schema::reads(embedding.map(|(element, dim, _)| (element, dim)))
}

/// The files that a run writes, claimed before any work.
struct Targets {
    table: AtomicFile,
    bases: Option<AtomicFile>,
    bam: Option<AtomicFile>,
    index: Option<AtomicFile>,
    summary: Option<AtomicFile>,
}

impl Reads {
    /// Runs the command.
    pub fn run(&self, logging: &Logging) -> Result<()> {
        self.check_options()?;
        let targets = self.targets()?;
        let mut opened = self.open()?;
        let columns = columns(opened.embedding);
        opened.estimate.check_memory()?;
        let format = opened.source.format().name();
        let (place, _) = device::describe(&opened.engine.device);
        tracing::info!("{format}, on {place}; {}", opened.estimate);
        let header = opened.source.header();
        let bases = targets
            .bases
            .map(|file| TableWriter::create(file, &schema::read_bases()));
        let bam = targets
            .bam
            .map(|file| Writer::create(file, targets.index, header));
        let mut sink = ReadSink {
            table: TableWriter::create(targets.table, &columns)?,
            bases: bases.transpose()?,
            bam: bam.transpose()?,
            contigs: header.contigs.clone(),
            embedding: opened.embedding,
            sequenced: self.orientation == Orientation::Sequenced,
            rows: [0, 0],
            clipped: 0,
        };
        let settings = ReadSettings {
            chunk: opened.chunk,
            windows: opened.windows,
            sequenced: self.orientation == Orientation::Sequenced,
            all: self.all_alignments,
            keep: self.bam_out.is_some(),
        };
        let mut progress = Progress::new(logging.progress(), None);
        let source = &mut opened.source;
        let run = stream::run_reads(source, &opened.engine, &mut sink, &settings, &mut progress);
        progress.finish();
        let totals = run?;
        let clipped = sink.clipped;
        let receipts = sink.finish(|table| self.metadata(table, &opened).to_json())?;
        let seconds = progress.elapsed().as_secs_f64();
        self.report(
            &opened,
            &totals,
            &receipts,
            seconds,
            clipped,
            targets.summary,
        )
    }

    /// Opens everything, looks at the first reads, and says what the run would take.
    pub fn check(&self) -> Result<()> {
        self.check_options()?;
        let mut opened = self.open()?;
        let (mut records, mut reads, mut bases, mut longest) = (0u64, 0, 0, 0);
        let mut ended = false;
        while !ended && records < SAMPLE {
            let Some(record) = opened.source.next_record()? else {
                ended = true;
                continue;
            };
            records += 1;
            let left_out = [flag::SECONDARY, flag::SUPPLEMENTARY];
            if self.all_alignments || !left_out.iter().any(|&bit| record.has(bit)) {
                let length = record.len() as u64;
                reads += 1;
                bases += length + opened.windows.map_or(0, |windows| windows.shared(length));
                longest = longest.max(length);
            }
        }
        if ended {
            opened.estimate.rows = Some(reads);
            opened.estimate.bases = Some(bases);
        }
        let engine = &opened.engine;
        let speed = (opened.estimate).measure(&engine.model, &engine.facts, &engine.device)?
            / engine.masked.unwrap_or(1) as f64;
        let seen = if ended { "all" } else { "the first" };
        super::process::print(&format!(
            "format: {}\n{seen} {records} records: {reads} reads of {bases} bases, the longest {longest}\n{}",
            opened.source.format().name(),
            opened.estimate.describe(speed)
        ))?;
        opened.estimate.check_memory()
    }

    fn check_options(&self) -> Result<()> {
        let Self {
            compute, output, ..
        } = self;
        let refused = [
            (compute.strand != Strand::Forward, "--strand"),
            (compute.exact, "--exact"),
            (output.resume, "--resume"),
            (output.max_output.is_some(), "--max-output"),
        ];
        match refused.iter().find(|(given, _)| *given) {
            Some((_, option)) => Err(Error::usage(format!("{option} does not go with reads"))),
            None => Ok(()),
        }
    }

    /// Claims the outputs.
    fn targets(&self) -> Result<Targets> {
        let force = self.output.force;
        let file = self
            .bam_out
            .as_deref()
            .filter(|path| path.as_os_str() != "-");
        let index = file.map(|path| fai::beside(path, ".bai"));
        let outputs = [
            Some(&self.output.output),
            self.per_base.as_ref(),
            self.bam_out.as_ref(),
            index.as_ref(),
            self.output.summary.as_ref(),
        ];
        let outputs: Vec<&Path> = outputs
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        let inputs = [Some(&self.reads), self.reference.as_ref()];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
        atomic::must_all_differ(&outputs, &inputs)?;
        let create = |path: Option<&Path>, force: bool| {
            path.map(|path| AtomicFile::create(path, force)).transpose()
        };
        Ok(Targets {
            table: AtomicFile::create(&self.output.output, force)?,
            bases: create(self.per_base.as_deref(), force)?,
            bam: create(self.bam_out.as_deref(), force)?,
            index: create(index.as_deref(), force)?,
            summary: create(self.output.summary.as_deref(), true)?,
        })
    }

    fn open(&self) -> Result<Opened> {
        let (checkpoint, model, facts) = self.compute.load_or(checkpoint::DEFAULT)?;
        let windows = self.compute.windows(&facts)?;
        let mut regions = Vec::new();
        for text in &self.region {
            regions.push(Query::parse(text)?);
        }
        if let Some(path) = &self.regions_file {
            let records = bed::read(path)?.into_iter();
            regions.extend(records.map(|record| Query::exact(record.region)));
        }
        let options = Options {
            regions,
            reference: self.reference.clone(),
            allow_missing_eof: self.allow_missing_eof,
            allow_empty: self.allow_empty,
        };
        let source = Alignments::open(&self.reads, &options)?;
        let likelihood = LanguageModel::load(&checkpoint, &model, &facts)?;
        let unused = checkpoint.unused();
        if let Some(first) = unused.first() {
            let name = &checkpoint.name;
            tracing::warn!(
                "{name}: {} tensors are not used, such as {first}",
                unused.len()
            );
        }
        if let Some(note) = &facts.note {
            tracing::warn!("{}: {note}", checkpoint.name);
        }
        let pool = (!self.no_embedding).then_some(self.pool);
        let device = device::open(
            self.compute.device,
            self.compute.precision,
            self.compute.device_memory,
            &facts,
        )?;
        let chunk = device::chunk(self.compute.chunk, &device, &model, &facts)?;
        let embedding = pool.map(|pool| (self.dtype.element(), facts.width, pool));
        let columns = columns(embedding);
        let tokens = (chunk as u64).max(windows.map_or(0, |windows| windows.size as u64));
        Ok(Opened {
            chunk,
            embedding,
            estimate: Estimate {
                bases: None,
                rows: None,
                row_bytes: Estimate::row_bytes(&columns),
                chunk: tokens,
                memory: Estimate::memory(&facts, tokens, None, &columns),
                scratch: 0,
            },
            engine: ReadEngine {
                device,
                masked: (!facts.causal).then_some(usize::from(self.mask_every)),
                model,
                facts,
                likelihood,
                pool,
                per_base: self.per_base.is_some(),
            },
            checkpoint,
            source,
            windows,
        })
    }

    fn metadata(&self, table: &str, opened: &Opened) -> Metadata {
        let Opened {
            checkpoint, engine, ..
        } = opened;
        let mut columns = BTreeMap::new();
        if table == "read_bases" {
            columns = ColumnMeaning::probabilities();
        } else if let Some((element, dim, pool)) = opened.embedding {
            let pool = name_of(pool);
            let mut meaning =
                ColumnMeaning::embedding(element, dim, engine.facts.layer, Some(&pool));
            meaning.semantics = "states after reading each base of the read".to_string();
            columns.insert("embedding".to_string(), meaning);
        }
        let mut params = serde_json::Map::new();
        params.insert("input".to_string(), file_name(&self.reads).into());
        params.insert("orientation".to_string(), name_of(self.orientation).into());
        params.insert("all-alignments".to_string(), self.all_alignments.into());
        if let Some(windows) = opened.windows {
            params.insert("overlap".to_string(), windows.overlap.into());
        }
        if let Some(window) = self.compute.attention_window {
            params.insert("attention-window".to_string(), window.into());
        }
        if let Some(stride) = engine.masked {
            params.insert("mask-every".to_string(), stride.into());
        }
        let contigs = opened.source.header().contigs.iter();
        let contigs = contigs.map(|contig| schema::ContigDigest {
            name: contig.name.clone(),
            length: contig.length,
            md5: None,
            sha512t24u: None,
        });
        let bed = self
            .regions_file
            .iter()
            .map(|path| format!("BED {}", file_name(path)));
        let primary = match table {
            "read_bases" => vec!["logp_base".to_string()],
            _ => vec!["mean_logp".to_string(), "embedding".to_string()],
        };
        Metadata {
            version: schema::VERSION.to_string(),
            table: table.to_string(),
            primary_columns: primary,
            coordinates: schema::Coordinates::zero_based(),
            reference: schema::Reference {
                path: self.reference.as_deref().map(file_name).unwrap_or_default(),
                contigs: contigs.collect(),
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
                    None => "stream".to_string(),
                },
                chunk: opened.chunk as u64,
                window: opened.windows.map(|windows| windows.size as u64),
                strand: "forward".to_string(),
                precision: name_of(self.compute.precision),
                device: device::describe(&opened.engine.device).1.to_string(),
            },
            selection: schema::Selection {
                regions: self.region.iter().cloned().chain(bed).collect(),
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
        totals: &ReadTotals,
        receipts: &ReadReceipts,
        seconds: f64,
        clipped: u64,
        summary: Option<AtomicFile>,
    ) -> Result<()> {
        let speed = totals.bases as f64 / seconds.max(1e-9);
        let peak = peak_memory();
        let left_out = totals.secondary + totals.supplementary;
        if left_out > 0 {
            tracing::info!(
                "left out {} secondary and {} supplementary alignments (--all-alignments keeps them)",
                totals.secondary,
                totals.supplementary
            );
        }
        for (n, what) in [
            (totals.no_sequence, "reads have no sequence"),
            (
                totals.bad_alignment,
                "reads have an alignment that cannot be: their chrom, start and end are NULL",
            ),
            (clipped, "rows were cut to float16's range: use --dtype f32"),
        ] {
            if n > 0 {
                tracing::warn!("{n} {what}");
            }
        }
        tracing::info!(
            "{} reads, {} bases, the longest {}, {} in {seconds:.1} s: {speed:.0} bases a second, \
             peak memory {}",
            totals.rows,
            totals.bases,
            totals.longest,
            readable(receipts.table.bytes),
            readable(peak.unwrap_or_default()),
        );
        if let Some(mut file) = summary {
            let summary = serde_json::json!({
                "records": totals.records,
                "rows": receipts.table.rows,
                "secondary_left_out": totals.secondary,
                "supplementary_left_out": totals.supplementary,
                "no_sequence": totals.no_sequence,
                "bad_alignment": totals.bad_alignment,
                "bases": totals.bases,
                "ambiguous": totals.ambiguous,
                "longest": totals.longest,
                "clipped_rows": clipped,
                "encoder_steps": totals.steps,
                "seconds": seconds,
                "bases_per_second": speed,
                "peak_memory_bytes": peak,
                "output_bytes": receipts.table.bytes,
                "output_sha256": receipts.table.sha256,
                "per_base_rows": receipts.bases.as_ref().map(|bases| bases.rows),
                "per_base_sha256": receipts.bases.as_ref().map(|bases| &bases.sha256),
                "bam_out_sha256": receipts.bam.as_ref().map(|bam| &bam.sha256),
                "model": opened.checkpoint.name,
                "model_sha256": opened.checkpoint.digest,
                "device": device::describe(&opened.engine.device).0,
                "threads": rayon::current_num_threads(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            let text = format!("{summary:#}\n");
            let put = file.write_all(text.as_bytes());
            put.map_err(|e| Error::io(file.name(), &e))?;
            file.finish()?;
        }
        match self.output.strict && totals.bad_alignment > 0 {
            true => {
                let what = format!(
                    "{} reads have an alignment that cannot be",
                    totals.bad_alignment
                );
                Err(Error::new(Kind::Strict, what))
            }
            false => Ok(()),
        }
    }
}
