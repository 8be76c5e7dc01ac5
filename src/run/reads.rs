//! `reads`: every read of a file through a model into a row of a table.

mod check;

use super::device::Load;
use super::estimate::Estimate;
use super::genome::Dtype;
use super::layers::{self, Layers};
use super::options::{
    Compute, MASK_EVERY, Output, RegionOptions, Sharding, indexed, is_given, note_of_masks,
    selection_of_intervals, selection_of_spans,
};
use super::outputs::{Format, Outputs};
use super::provenance::{self, About};
use super::session::{Loaded, Session};
use super::summary::Summary;
use super::units::number;
use super::{Job, file_name, heads, name_of};
use crate::checkpoint::{self, Checkpoint};
use crate::error::{Error, Result};
use crate::head::{LanguageModel, Task, Unit};
use crate::io::alignments::{Alignments, Options, Writer};
use crate::io::atomic::{AtomicFile, is_stdout};
use crate::io::source::beside;
use crate::sequence::shard::Blocks;
use crate::stream::reads::{self, ReadHead, ReadReceipts, ReadSettings, ReadSink, ReadTotals};
use crate::stream::{Engine, Journal, Pool, Progress, Strand, TableOutput};
use crate::table::footer::ShardRecord;
use crate::table::{self, Groups, Vectors};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Options of `crocuta reads`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(
    mut_arg("strand", |arg| arg.hide(true)),
    mut_arg("exact", |arg| arg.hide(true)),
    after_help = "Example:\n  crocuta reads sample.bam -m MODEL -o reads.parquet --bam-out tagged.bam"
)]
pub struct Reads {
    /// BAM, CRAM, SAM or FASTQ, known by its content; FASTQ and SAM may be compressed; - is stdin.
    #[serde(skip)]
    reads: PathBuf,
    /// The FASTA that a CRAM file was written against, with its index (samtools faidx); in any
    /// format, what `=` in sequences stands for.
    #[arg(short, long, value_name = "FASTA", help_heading = "Input")]
    #[serde(skip)]
    reference: Option<PathBuf>,
    /// Regions need an index.
    #[command(flatten)]
    #[serde(flatten)]
    regions: RegionOptions,
    #[command(flatten)]
    #[serde(flatten)]
    sharding: Sharding,
    /// A row for secondary and supplementary alignments too.
    #[arg(long, help_heading = "Input")]
    all_alignments: bool,
    /// Which way reads that are stored as their reverse complement are read.
    #[arg(long, value_enum, default_value = "sequenced", help_heading = "Input")]
    orientation: Orientation,
    /// Write an empty table if there is nothing to read: no sequence, read, interval or region in the
    /// file of them.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    allow_empty: bool,
    /// Read BGZF files without their end marker.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    allow_missing_eof: bool,
    #[command(flatten)]
    #[serde(flatten)]
    compute: Compute,
    /// For bidirectional models: mask one base in so many at a time, in as many runs of the model,
    /// and score the masked ones [default: 8].
    #[arg(long, value_name = "N", help_heading = "Run",
          value_parser = clap::value_parser!(u16).range(1..))]
    mask_every: Option<u16>,
    /// The head of sequences that says the class, or the values, of each read: one of
    /// `crocuta models show`, or lm for none [default: the model's own if it has one].
    #[arg(long, value_name = "NAME", help_heading = "Heads")]
    head: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    layers: Layers,
    /// How the bases of a read become one vector.
    #[arg(long, value_enum, default_value = "mean", help_heading = "Output")]
    pool: Pool,
    /// Write no vectors.
    #[arg(long, conflicts_with_all = ["pool", "layer"], help_heading = "Output")]
    no_embedding: bool,
    /// Numbers of the vectors.
    #[arg(long, value_enum, default_value = "f16", help_heading = "Output")]
    dtype: Dtype,
    /// Write the predictions of every base of every read to a table of their own. Without -o
    /// instead of the table of reads.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    #[serde(serialize_with = "is_given")]
    per_base: Option<PathBuf>,
    /// Write the records as BAM, in their order, with tags: ll, the mean log-probability of a
    /// base, and pp, the perplexity. With an index beside it if they are sorted. Without -o
    /// instead of the table.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "time_limit",
        help_heading = "Output"
    )]
    #[serde(skip)]
    bam_out: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    output: Output,
}

/// Which way a read is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
enum Orientation {
    /// As it was sequenced.
    Sequenced,
    /// As it lies on the reference: as BAM stores it.
    Reference,
}

/// Everything that a run reads, open.
pub struct OpenReads {
    session: Session,
    head: ReadHead,
    /// The same head for each of the other devices.
    other_heads: Vec<ReadHead>,
    /// The head of sequences.
    task: Option<Task>,
    source: Alignments,
    /// The records of a shard.
    blocks: Option<Blocks>,
    vectors: Option<Vectors>,
    /// Regions without a base, which have no row.
    left_out: u64,
}

/// The files that a run writes.
pub struct ReadTargets {
    table: Option<AtomicFile>,
    bases: Option<AtomicFile>,
    bam: Option<Writer>,
}

impl Job for Reads {
    type Opened = OpenReads;
    type Targets = ReadTargets;

    fn shared(&self) -> (&Compute, &Output) {
        (&self.compute, &self.output)
    }

    fn sharding(&self) -> &Sharding {
        &self.sharding
    }

    fn check_options(&self) -> Result<()> {
        for (given, option) in [
            (self.compute.strand != Strand::Forward, "--strand"),
            (self.compute.exact, "--exact"),
        ] {
            if given {
                let what = format!("{option} does not go with reads");
                return Err(Error::usage(what));
            }
        }
        if self.output.resume && self.bam_out.is_some() {
            let what = "--resume is for tables: it does not go with --bam-out";
            return Err(Error::usage(what));
        }
        Ok(())
    }

    fn inputs(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![("reads", self.reads.clone())];
        let indexes = [".bai", ".csi", ".crai"];
        files.extend(indexed("index of reads", &self.reads, &indexes));
        if let Some(reference) = &self.reference {
            files.push(("reference", reference.clone()));
            files.extend(indexed("reference index", reference, &[".fai", ".gzi"]));
        }
        files.extend(self.regions.file());
        files
    }

    fn outputs(&self) -> Vec<(PathBuf, Format)> {
        let tables = self.table().into_iter().chain(self.per_base.clone());
        let mut outputs: Vec<_> = tables.map(|path| (path, Format::Parquet)).collect();
        outputs.extend(self.bam_out.iter().map(|path| (path.clone(), Format::Bam)));
        outputs.extend(self.bam_index().map(|path| (path, Format::Bai)));
        outputs
    }

    fn open(&self) -> Result<OpenReads> {
        let mut loaded = Loaded::open(&self.compute, checkpoint::DEFAULT)?;
        let (regions, left_out) = self.regions.queries(self.allow_empty)?;
        let options = Options {
            nothing: regions.is_empty() && self.regions.are_given(),
            regions,
            reference: self.reference.clone(),
            allow_missing_eof: self.allow_missing_eof,
            allow_empty: self.allow_empty,
            sequences: false,
        };
        let task = self.task(&loaded.checkpoint)?;
        let source = Alignments::open(&self.reads, &options)?;
        let facts = &loaded.facts;
        let pool = (!self.no_embedding).then_some(self.pool);
        let asked = match pool {
            Some(_) => self.layers.find(facts)?,
            None => Vec::new(),
        };
        let vectors = pool.map(|pool| Vectors {
            element: self.dtype.element(),
            dim: facts.width,
            layers: layers::named(facts, &asked),
            pool: Some(name_of(pool)),
            causal: facts.causal,
        });
        // The likelihoods come from the last of them, whichever layers are asked for.
        let last = loaded.layers.len() - 1;
        loaded.layers.splice(..last, asked);
        let load = Load {
            bases: None,
            vectors: pool.is_some(),
        };
        let mut session = Session::open(loaded, &self.compute, None, load)?;
        session
            .notes
            .extend(heads::notes(&session.checkpoint, task.as_ref())?);
        let idle = note_of_masks(self.mask_every, !session.engine.facts.causal);
        session.notes.extend(idle.map(str::to_string));
        let head = |engine: &Engine| {
            let Engine { model, facts, .. } = engine;
            let weights = &session.checkpoint.weights;
            let load = |task: &Task| task.load(weights, facts.width);
            Ok(ReadHead {
                likelihood: Some(LanguageModel::load(&session.checkpoint, model, facts)?),
                task: task.as_ref().map(load).transpose()?,
                masked: (!facts.causal)
                    .then_some(usize::from(self.mask_every.unwrap_or(MASK_EVERY))),
                pool,
                per_base: self.per_base.is_some(),
            })
        };
        let other_heads = session.others.iter().map(head).collect::<Result<_>>()?;
        let head = head(&session.engine)?;
        let contigs = source.header().contigs.len() as u64;
        let outputs = task.as_ref().map(heads::outputs);
        let causal = session.engine.facts.causal;
        let columns = table::reads(causal, outputs.as_ref(), vectors.as_ref());
        session.estimate = Estimate::new(
            &session.engine,
            session.tokens(),
            &columns,
            None,
            contigs,
            1,
        );
        let blocks = match self.sharding.one() {
            Some(shard) => Some(self.blocks(&source, shard)?),
            None => None,
        };
        Ok(OpenReads {
            session,
            head,
            other_heads,
            task,
            source,
            blocks,
            vectors,
            left_out,
        })
    }

    fn session(opened: &OpenReads) -> &Session {
        &opened.session
    }

    fn options(&self) -> Result<Map<String, Value>> {
        super::identity::options(self)
    }

    fn declare(&self, opened: &OpenReads, outputs: &mut Outputs) -> Result<ReadTargets> {
        let mut table = |path: Option<&Path>| {
            let file = path.map(|path| outputs.create(path, Format::Parquet));
            file.transpose()
        };
        let bases = table(self.per_base.as_deref())?;
        let table = table(self.table().as_deref())?;
        let bam = match &self.bam_out {
            Some(path) => {
                let file = outputs.create(path, Format::Bam)?;
                let index = self.bam_index();
                let index = index.map(|path| outputs.create(&path, Format::Bai));
                let line = provenance::line(&opened.session);
                let header = opened.source.header();
                Some(Writer::create(file, index.transpose()?, header, &line)?)
            }
            None => None,
        };
        Ok(ReadTargets { table, bases, bam })
    }

    fn process(
        &self,
        opened: &mut OpenReads,
        targets: ReadTargets,
        journal: Option<&mut Journal>,
        progress: &mut Progress,
    ) -> Result<Summary> {
        let mut sink = self.sink(opened, targets, journal.as_deref())?;
        let settings = ReadSettings {
            chunk: opened.session.chunk,
            windows: opened.session.windows,
            sequenced: self.sequenced(),
            all: self.all_alignments,
            blocks: opened.blocks,
            keep: self.bam_out.is_some(),
            scratch: self.compute.scratch(self.output.path()),
        };
        let heads = std::iter::once(&opened.head).chain(&opened.other_heads);
        let models: Vec<_> = opened.session.engines().zip(heads).collect();
        let source = &mut opened.source;
        let (totals, read) = reads::run(source, &models, &mut sink, &settings, journal, progress)?;
        let footers = [
            match &sink.table {
                Some(table) => self.footer(opened, "reads", table.columns())?,
                None => Value::Null,
            },
            match &sink.bases {
                Some(bases) => self.footer(opened, "read_bases", bases.columns())?,
                None => Value::Null,
            },
        ];
        let receipts = sink.finish(&footers)?;
        let engine = &opened.session.engine;
        let given = &engine.layers[..engine.layers.len() - 1];
        let written = layers::summary(&engine.facts, given);
        let mut summary = Summary {
            totals,
            rows: receipts
                .table
                .as_ref()
                .map_or(read.rows, |table| table.rows),
            clipped: receipts.clipped,
            ..counts(&read, receipts)
        };
        summary.own.extend([written]);
        summary.leave_out(opened.left_out, "regions");
        Ok(summary)
    }

    fn describe(&self, opened: &mut OpenReads) -> Result<String> {
        check::describe(self, opened)
    }
}

impl Reads {
    /// The head of sequences, if there is one.
    fn task(&self, checkpoint: &Checkpoint) -> Result<Option<Task>> {
        let own = Task::list(&checkpoint.config)?.into_iter();
        let own = own.filter(|task| task.unit == Unit::Sequence).collect();
        heads::chosen(own, self.head.as_deref())
    }

    /// The table's path; none if rows of bases, or the records with their tags, are all that is
    /// written.
    fn table(&self) -> Option<PathBuf> {
        let elsewhere = self.bam_out.is_some() || self.per_base.is_some();
        self.output.table(elsewhere).map(Path::to_path_buf)
    }

    fn sequenced(&self) -> bool {
        self.orientation == Orientation::Sequenced
    }

    /// The index of the BAM file, if that is a file.
    fn bam_index(&self) -> Option<PathBuf> {
        let is_file = |path: &&Path| {
            let stream = std::fs::metadata(path).is_ok_and(|found| !found.is_file());
            !is_stdout(path) && !stream
        };
        let file = self.bam_out.as_deref().filter(is_file);
        file.map(|path| beside(path, ".bai"))
    }

    fn sink(
        &self,
        opened: &OpenReads,
        targets: ReadTargets,
        journal: Option<&Journal>,
    ) -> Result<ReadSink> {
        let causal = opened.session.engine.facts.causal;
        let outputs = opened.task.as_ref().map(heads::outputs);
        let columns = table::reads(causal, outputs.as_ref(), opened.vectors.as_ref());
        let of_bases = table::read_bases(causal);
        let compression = self.output.compressed.compression;
        let form = (Groups::of_records(), compression);
        let form_of_bases = (Groups::of_read_bases(), compression);
        let table = targets.table.map(|file| match journal {
            None => TableOutput::create(file, columns, form),
            Some(journal) => TableOutput::resume(file, columns, form, journal, "table"),
        });
        let table = table.transpose()?;
        let bases = targets.bases.map(|file| match journal {
            None => TableOutput::create(file, of_bases, form_of_bases),
            Some(journal) => TableOutput::resume(file, of_bases, form_of_bases, journal, "bases"),
        });
        let contigs = opened.source.header().contigs.iter();
        let row = opened.session.estimate.row_bytes;
        Ok(ReadSink {
            table: table.map(|table| table.at_most(self.output.max_output, row)),
            bases: bases.transpose()?,
            bam: targets.bam,
            contigs: contigs
                .map(|contig| Arc::from(contig.name.as_str()))
                .collect(),
            pool: opened.head.pool,
            sequenced: self.sequenced(),
        })
    }

    fn footer<B>(
        &self,
        opened: &OpenReads,
        table: &'static str,
        columns: &[table::Column<B>],
    ) -> Result<Value> {
        let mut params = vec![
            ("input", json!(file_name(&self.reads))),
            ("orientation", json!(name_of(self.orientation))),
            ("all-alignments", json!(self.all_alignments)),
        ];
        if let Some(bytes) = opened.source.bytes() {
            params.push(("input-bytes", json!(bytes)));
        }
        params.extend(self.regions.param());
        params.extend(self.layers.params());
        if let Some(task) = &opened.task {
            params.push(("head", json!(task.name)));
        }
        if let Some(stride) = opened.head.masked {
            params.push(("mask-every", json!(stride)));
        }
        let contigs = &opened.source.header().contigs;
        let about = About {
            table,
            reference: (self.reference.as_deref(), contigs),
            mode: None,
            window: None,
            strand: Strand::Forward,
            selection: match opened.source.spans() {
                [] if self.regions.are_given() => selection_of_intervals(&[]),
                spans => selection_of_spans(spans, contigs),
            },
            shard: self.sharding.record("read").map(|record| ShardRecord {
                block: opened.blocks.map(|blocks| blocks.size),
                ..record
            }),
            params,
            measured: Map::new(),
        };
        provenance::footer(&opened.session, &self.compute, about, columns)
    }
}

/// What was read.
fn counts(read: &ReadTotals, receipts: ReadReceipts) -> Summary {
    let mut summary = Summary {
        counted: format!(
            "{} reads, {} bases, the longest {}",
            number(read.rows),
            number(read.bases),
            number(read.longest)
        ),
        ..Summary::default()
    };
    if read.secondary + read.supplementary > 0 {
        summary.notes.push(format!(
            "left out {} secondary and {} supplementary alignments (--all-alignments keeps them)",
            read.secondary, read.supplementary
        ));
    }
    for (n, what) in [
        (read.no_sequence, "reads have no sequence"),
        (
            read.bad_alignment,
            "reads have an invalid alignment: their chrom, start and end are NULL",
        ),
    ] {
        if n > 0 {
            summary.warnings.push(format!("{n} {what}"));
        }
    }
    let own = json!({
        "records": read.records,
        "secondary_left_out": read.secondary,
        "supplementary_left_out": read.supplementary,
        "no_sequence": read.no_sequence,
        "bad_alignment": read.bad_alignment,
        "bases": read.bases,
        "ambiguous": read.ambiguous,
        "longest": read.longest,
        "per_base_rows": receipts.bases.as_ref().map(|bases| bases.rows),
        "per_base_sha256": receipts.bases.as_ref().map(|bases| &bases.sha256),
        "bam_out_sha256": receipts.bam.as_ref().map(|bam| &bam.sha256),
    });
    if let Value::Object(own) = own {
        summary.own = own;
    }
    if read.bad_alignment > 0 {
        let n = read.bad_alignment;
        summary.failed = Some(format!("{n} reads have an invalid alignment"));
    }
    summary.receipt = receipts.table;
    summary
}
