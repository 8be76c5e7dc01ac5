//! Options that commands share. Those that decide the numbers are serialised into the identity of
//! a run; those that do not are skipped there.

use super::device::{Precision, Target};
use super::intervals::Intervals;
use super::opened::Loaded;
use crate::adapter;
use crate::checkpoint::{self, Checkpoint};
use crate::encoder::{Facts, Layer, Model};
use crate::error::{Error, Result};
use crate::io::alignments::is_alignments;
use crate::io::genome::{Genome, Options};
use crate::io::pileup::{Choice, Consensus};
use crate::io::{bed, spill::Spill};
use crate::sequence::interval::Interval;
use crate::sequence::region::Query;
use crate::stream::{Pool, Strand, Windows};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Context of a region for a model that does not state the length it was trained on.
const CONTEXT: usize = 1 << 16;

/// Which sequences are read.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Source {
    /// FASTA: plain, gzip, BGZF or zstd; - is stdin. With --reference, sorted alignments.
    #[serde(skip)]
    pub fasta: PathBuf,
    /// A sample's own sequence instead.
    #[command(flatten)]
    #[serde(flatten)]
    pub sample: Sample,
    /// Only this region, as in samtools: chr, chr:beg-end, 1-based, end included. Repeatable.
    #[arg(long, value_name = "REGION", help_heading = "Input")]
    pub region: Vec<String>,
    /// Only the regions of this BED file.
    #[arg(long, value_name = "BED", help_heading = "Input")]
    #[serde(skip)]
    pub regions_file: Option<PathBuf>,
    /// Bases read before a region, so that its rows know their context [default: the model's
    /// trained length, or 65,536 if its files do not state it].
    #[arg(long, value_name = "BASES", help_heading = "Input")]
    pub context: Option<u64>,
    /// Do not join regions that overlap: their rows come twice.
    #[arg(long, help_heading = "Input")]
    pub keep_overlaps: bool,
    /// A row for each interval of a file instead.
    #[command(flatten)]
    #[serde(flatten)]
    pub intervals: Intervals,
    /// Write an empty table if there are no sequences.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    pub allow_empty: bool,
    /// Read a BGZF file without its end marker.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    pub allow_missing_eof: bool,
}

impl Source {
    /// Bases of context that a region gets: the trained length, or half of it on either side for
    /// a bidirectional model.
    pub fn context(&self, facts: &Facts) -> u64 {
        let trained = facts.context.unwrap_or(CONTEXT);
        let default = if facts.causal { trained } else { trained / 2 };
        self.context.unwrap_or(default as u64)
    }

    /// What a user should know of the context that regions get.
    pub fn note(&self, facts: &Facts) -> Option<String> {
        let unknown = facts.context.is_none() && self.context.is_none();
        (unknown && !self.described().is_empty()).then(|| {
            format!(
                "the model's files do not state its trained length: regions get {} bases of \
                 context (--context)",
                self.context(facts)
            )
        })
    }

    /// The files that are read.
    pub fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files = vec![("input", self.fasta.clone())];
        let indexes = [".fai", ".gzi", ".bai", ".csi", ".crai"];
        files.extend(indexed("input index", &self.fasta, &indexes));
        if let Some(reference) = &self.sample.reference {
            files.push(("reference", reference.clone()));
            files.extend(indexed("reference index", reference, &[".fai", ".gzi"]));
        }
        let regions = self.regions_file.iter();
        files.extend(regions.map(|path| ("regions file", path.clone())));
        let intervals = self.intervals.intervals.iter();
        files.extend(intervals.map(|path| ("intervals", path.clone())));
        files
    }

    /// Opens the input, at these intervals if there are any. `together`: regions may be read as one
    /// sequence with gaps.
    ///
    /// # Errors
    /// Those of the readers; Usage: options that do not go together.
    pub fn open(
        &self,
        facts: &Facts,
        strand: Strand,
        together: bool,
        intervals: &[Interval],
    ) -> Result<Genome> {
        let mut regions = queries(&self.region, self.regions_file.as_deref())?;
        let exact = |interval: &Interval| Query::exact(interval.region.clone());
        regions.extend(intervals.iter().map(exact));
        let context = self.context(facts);
        let (left, right) = match strand {
            Strand::Forward if facts.causal => (context, 0),
            Strand::Reverse if facts.causal => (0, context),
            _ => (context, context),
        };
        if self.sample.reference.is_some() {
            return self.open_sample(&regions, [left, right], strand);
        }
        if is_alignments(&self.fasta)? {
            let what = "this is a file of reads, not FASTA";
            let todo = "give the reference of its alignments with -r, or use crocuta reads";
            return Err(Error::usage(what).file(self.fasta.display()).todo(todo));
        }
        Genome::open(
            &self.fasta,
            Options {
                regions,
                context: left,
                context_after: right,
                keep_overlaps: self.keep_overlaps,
                together,
                allow_missing_eof: self.allow_missing_eof,
                allow_empty: self.allow_empty,
            },
        )
    }

    fn open_sample(&self, regions: &[Query], context: [u64; 2], strand: Strand) -> Result<Genome> {
        if strand != Strand::Forward || self.keep_overlaps {
            let what = "alignments are read along the forward strand, each region once";
            return Err(Error::usage(what));
        }
        let reference = self.sample.reference.as_deref();
        let consensus = Consensus::open(
            &self.fasta,
            reference.unwrap_or(Path::new("")),
            regions,
            context,
            self.sample.choice(),
            self.allow_missing_eof,
        )?;
        let name = self.fasta.display().to_string();
        Ok(Genome::of_alignments(name, consensus))
    }

    /// The regions as given, for the metadata.
    pub fn described(&self) -> Vec<String> {
        let mut all = described(&self.region, self.regions_file.as_deref());
        let intervals = self.intervals.intervals.iter();
        all.extend(intervals.map(|path| format!("intervals {}", super::file_name(path))));
        all
    }
}

/// Regions as given, for the metadata.
pub fn described(regions: &[String], file: Option<&Path>) -> Vec<String> {
    let bed = file.map(|path| format!("BED {}", super::file_name(path)));
    regions.iter().cloned().chain(bed).collect()
}

/// The regions of the command line and of a BED file.
///
/// # Errors
/// Usage: not a region. Those of the reader of BED.
pub fn queries(regions: &[String], file: Option<&Path>) -> Result<Vec<Query>> {
    let mut queries = Vec::new();
    for text in regions {
        queries.push(Query::parse(text)?);
    }
    if let Some(path) = file {
        let records = bed::read(path)?.into_iter();
        queries.extend(records.map(|record| Query::exact(record.region)));
    }
    Ok(queries)
}

/// The indexes that stand beside a file.
pub fn indexed(
    what: &'static str,
    path: &Path,
    extensions: &[&str],
) -> Vec<(&'static str, PathBuf)> {
    let beside = extensions.iter().map(|extension| {
        let mut path = path.as_os_str().to_os_string();
        path.push(extension);
        PathBuf::from(path)
    });
    let there = beside.filter(|path| path.is_file());
    there.map(|path| (what, path)).collect()
}

/// How the sequence of a sample comes from its alignments.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Sample {
    /// The input holds sorted alignments (BAM, CRAM, SAM) on this FASTA, which has an index: read
    /// the sample's own sequence along it, at each position the base that most reads have.
    #[arg(short, long, value_name = "FASTA", help_heading = "Alignments")]
    #[serde(skip)]
    pub reference: Option<PathBuf>,
    /// Reads that it takes to decide a position.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        requires = "reference",
        help_heading = "Alignments"
    )]
    pub min_depth: u32,
    /// The part of the reads that must agree.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.6, requires = "reference",
          value_parser = fraction, help_heading = "Alignments")]
    pub min_fraction: f64,
    /// Count only alignments of at least this mapping quality.
    #[arg(
        long,
        value_name = "Q",
        default_value_t = 10,
        requires = "reference",
        help_heading = "Alignments"
    )]
    pub min_mapping_quality: u8,
    /// Count only bases of at least this quality.
    #[arg(
        long,
        value_name = "Q",
        default_value_t = 13,
        requires = "reference",
        help_heading = "Alignments"
    )]
    pub min_base_quality: u8,
    /// What stands where reads are too few or disagree.
    #[arg(
        long,
        value_enum,
        default_value = "reference",
        requires = "reference",
        help_heading = "Alignments"
    )]
    pub undecided: Undecided,
}

/// What stands where reads decide nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub enum Undecided {
    /// The reference's base.
    Reference,
    /// N.
    N,
}

impl Sample {
    fn choice(&self) -> Choice {
        Choice {
            min_depth: self.min_depth,
            min_fraction: self.min_fraction,
            min_mapping_quality: self.min_mapping_quality,
            min_base_quality: self.min_base_quality,
            undecided_n: self.undecided == Undecided::N,
        }
    }

    /// What changes the sequence, for the metadata.
    pub fn params(&self) -> Vec<(&'static str, serde_json::Value)> {
        match self.reference {
            None => Vec::new(),
            Some(_) => vec![
                ("min-depth", self.min_depth.into()),
                ("min-fraction", self.min_fraction.into()),
                ("min-mapping-quality", self.min_mapping_quality.into()),
                ("min-base-quality", self.min_base_quality.into()),
                ("undecided", super::name_of(self.undecided).into()),
            ],
        }
    }
}

/// A number from 0 to 1.
fn fraction(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    let number = number.filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| format!("{text}: expected a number from 0 to 1"))
}

/// The model and how it runs.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Compute {
    /// The model: a bundled one by its name, a directory with config.json and model.safetensors,
    /// or hf:owner/name[@revision] out of Hugging Face's cache [default: crocuta-bacteria, bundled;
    /// with --genes crocuta-bacteria-genes].
    #[arg(short, long, value_name = "MODEL")]
    #[serde(skip)]
    pub model: Option<PathBuf>,
    /// Apply an adapter to the model: a directory in PEFT's layout, as `crocuta fit --lora` makes
    /// them. Repeatable: several add up, and each brings its heads.
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub adapter: Vec<PathBuf>,
    /// Bases that the model reads at a time. Changes speed and memory, not the numbers [default:
    /// 8192, or 32768 for HyenaDNA with filters of 65,536 taps or more; on a GPU, as many as fit].
    #[arg(long, value_name = "BASES", help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..=1 << 26))]
    #[serde(skip)]
    pub chunk: Option<u32>,
    /// Strands to read; - rows have their context on the right.
    #[arg(long, value_enum, default_value = "forward", help_heading = "Run")]
    pub strand: Strand,
    /// Read windows of so many bases, each with an empty state, instead of carrying it.
    /// Bidirectional models always do [default for them: the trained length, or 65,536 if the
    /// model's files do not state it].
    #[arg(long, value_name = "BASES", help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(2..=1 << 26))]
    pub window: Option<u32>,
    /// Bases that neighbouring windows share; rows come from the centre of a window, or from its
    /// end if the model is causal [default: half a window].
    #[arg(long, value_name = "BASES", help_heading = "Run")]
    pub overlap: Option<u32>,
    /// For bidirectional models: run each sequence whole, however long it is, layer by layer over
    /// scratch files, instead of windows. The forward strand only.
    #[arg(long, conflicts_with_all = ["window", "overlap", "resume"], help_heading = "Run")]
    pub exact: bool,
    /// Let attention look back only so many bases, which bounds its memory [default: all].
    #[arg(long, value_name = "BASES", help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub attention_window: Option<u32>,
    /// Where to compute: auto, cpu, cuda or cuda:N. CUDA's libraries are opened at run time.
    #[arg(long, default_value = "auto", help_heading = "Run")]
    #[serde(skip)]
    pub device: Target,
    /// What matrix products multiply; they sum in f32.
    #[arg(long, value_enum, default_value = "f32", help_heading = "Run")]
    pub precision: Precision,
    /// The GPU's memory that values may take, such as 20G [default: what is free]. Less of it means
    /// shorter steps, or filter spectra that are computed at each use.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Run")]
    #[serde(skip)]
    pub device_memory: Option<u64>,
    /// Worker threads [default: all processors that the process may use].
    #[arg(short, long, value_name = "N", help_heading = "Run",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    #[serde(skip)]
    pub threads: Option<u16>,
    /// Directory for scratch files, needed by --exact and by --strand other than forward
    /// [default: $TMPDIR, or the output's].
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    #[serde(skip)]
    pub scratch: Option<PathBuf>,
}

/// Works with so many threads from now on.
///
/// # Errors
/// Usage: they cannot be started.
pub fn use_threads(threads: Option<u16>) -> Result<()> {
    let Some(threads) = threads else {
        return Ok(());
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
    pool.build_global()
        .map_err(|e| Error::usage(format!("--threads: {e}")))
}

impl Compute {
    /// Opens the model, or the bundled one of that name if none was given, and builds its encoder.
    ///
    /// # Errors
    /// Those of the checkpoint and the adapters; Usage: an attention window for no attention.
    pub fn load_or(&self, bundled: &str) -> Result<Loaded> {
        let model = self.model.as_deref().unwrap_or(Path::new(bundled));
        let checkpoint = adapter::with_adapters(Checkpoint::open(model)?, &self.adapter)?;
        let (mut model, mut facts) = Model::load(&checkpoint)?;
        if let Some(window) = self.attention_window {
            model.set_attention_window(Some(window as usize), &mut facts)?;
        }
        Ok(Loaded {
            checkpoint,
            model,
            facts,
            layers: vec![Layer::Norm],
        })
    }

    /// The files of the model and the adapters.
    ///
    /// # Errors
    /// Usage: not the name of a model; Io.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for path in self.model.iter().chain(&self.adapter) {
            files.extend(checkpoint::files(path)?);
        }
        Ok(files)
    }

    /// Bytes of scratch files for a base of a sequence; 0 without --exact. A usage error if
    /// --exact does not fit the model or the strand.
    pub fn exact_bytes(&self, model: &Model) -> Result<u64> {
        match (self.exact, model.layered(), self.strand) {
            (false, ..) => Ok(0),
            (true, Some(model), Strand::Forward) => {
                let values = model.stored() * size_of::<f32>();
                Ok(values as u64 + 1) // and the base itself
            }
            (true, Some(_), _) => Err(Error::usage("--exact reads the forward strand only")),
            (true, None, _) => Err(Error::usage(
                "--exact is for bidirectional models; causal ones are exact without it",
            )),
        }
    }

    /// The windows to read, if any, and what a user should know of them.
    ///
    /// # Errors
    /// Usage: an overlap that does not fit.
    pub fn windows(&self, facts: &Facts) -> Result<(Option<Windows>, Vec<String>)> {
        let mut notes = Vec::new();
        if self.exact {
            return Ok((None, notes));
        }
        let size = match (self.window, facts.causal, facts.context) {
            (Some(size), ..) => size as usize,
            (None, true, _) if self.overlap.is_some() => {
                return Err(Error::usage("--overlap needs --window"));
            }
            (None, true, _) => return Ok((None, notes)),
            (None, false, Some(trained)) => trained,
            (None, false, None) => {
                notes.push(format!(
                    "the model's files do not state its trained length: it reads windows of \
                     {CONTEXT} bases (--window)"
                ));
                CONTEXT
            }
        };
        let overlap = self.overlap.map_or(size / 2, |overlap| overlap as usize);
        if overlap >= size {
            return Err(Error::usage("--overlap must be less than --window"));
        }
        let windows = Windows {
            size,
            overlap,
            centred: !facts.causal,
        };
        Ok((Some(windows), notes))
    }

    /// Where scratch files lie.
    pub fn scratch(&self, output: &Path) -> PathBuf {
        Spill::directory(self.scratch.as_deref(), output)
    }
}

/// Bins of bases.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Binning {
    /// One row for every BASES bases, at multiples of it.
    #[arg(long, value_name = "BASES", group = "pooled", help_heading = "Output",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub bin: Option<u32>,
    /// How the bases of a bin, or of an interval, become one vector.
    #[arg(
        long,
        value_enum,
        default_value = "mean",
        requires = "pooled",
        help_heading = "Output"
    )]
    pub pool: Pool,
}

/// Where the table goes.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Output {
    /// The table to write, Parquet; - is stdout.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    #[serde(skip)]
    pub output: PathBuf,
    /// Replace the output if it exists.
    #[arg(long, help_heading = "Output")]
    #[serde(skip)]
    pub force: bool,
    /// Refuse to start if the table may become larger, such as 500G.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Output")]
    #[serde(skip)]
    pub max_output: Option<u64>,
    /// Write counts, speed and memory of the run as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    #[serde(skip)]
    pub summary: Option<PathBuf>,
    /// Go on where an earlier run of the same command was stopped; keeps checkpoints in a hidden
    /// directory beside the output until the run ends.
    #[arg(long, help_heading = "Output")]
    #[serde(skip)]
    pub resume: bool,
    /// Seconds between checkpoints.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 600,
        requires = "resume",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub checkpoint_every: u64,
    /// Keep the checkpoints of --resume in this directory, instead of beside the output.
    #[arg(long, value_name = "DIR", requires = "resume", help_heading = "Output")]
    #[serde(skip)]
    pub checkpoint_dir: Option<PathBuf>,
    /// Exit with code 6 if there were warnings about records.
    #[arg(long, help_heading = "Output")]
    #[serde(skip)]
    pub strict: bool,
}

/// `500`, `10k`, `5M`, `1.5G`, `2T`: bytes, powers of ten.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: expected a number of bytes, such as 500M or 1.5G");
    let text = text.strip_suffix(['B', 'b']).unwrap_or(text);
    let (number, unit) = match text.chars().last().ok_or_else(wrong)?.to_ascii_uppercase() {
        'K' => (&text[..text.len() - 1], 1e3),
        'M' => (&text[..text.len() - 1], 1e6),
        'G' => (&text[..text.len() - 1], 1e9),
        'T' => (&text[..text.len() - 1], 1e12),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    if (number * unit).is_finite() && number >= 0.0 {
        Ok((number * unit) as u64)
    } else {
        Err(wrong())
    }
}

/// `1,234,567`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.5 GB`: bytes, powers of ten.
pub fn readable(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}
