//! Which sequences are read, and from what.

use super::CONTEXT;
use super::intervals::Intervals;
use super::regions::RegionOptions;
use super::shard::Sharding;
use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::io::alignments::is_alignments;
use crate::io::genome::{Genome, Options};
use crate::io::pileup::{Choice, Consensus};
use crate::run::name_of;
use crate::sequence::Contig;
use crate::sequence::interval::Interval;
use crate::sequence::region::Query;
use crate::sequence::shard::{By, Cut, Shard};
use crate::stream::Strand;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is read of the sequences that are asked for.
pub struct Wanted<'a> {
    /// The shard; none: all of them.
    pub shard: Option<Shard>,
    /// Bases of a bin: none is in two shards.
    pub bin: u64,
    /// The regions; none: all.
    pub regions: &'a [Query],
    /// The intervals, if these are all.
    pub intervals: &'a [Interval],
    /// The contigs, if they are known from an earlier reading.
    pub contigs: Option<Vec<Contig>>,
}

/// Which sequences are read.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Source {
    /// FASTA: plain, gzip, BGZF or zstd; - is stdin. With --reference, sorted alignments.
    #[serde(skip)]
    pub fasta: PathBuf,
    #[command(flatten)]
    #[serde(flatten)]
    pub regions: RegionOptions,
    /// A row for each interval of a file instead.
    #[command(flatten)]
    #[serde(flatten)]
    pub intervals: Intervals,
    /// Bases read before a region, so that its rows know their context [default: the model's
    /// trained length, or 65,536 if its files do not state it].
    #[arg(long, value_name = "BASES", help_heading = "Input")]
    pub context: Option<u64>,
    /// Do not join regions that overlap: their rows come twice.
    #[arg(long, help_heading = "Input")]
    pub keep_overlaps: bool,
    /// One of several parts.
    #[command(flatten)]
    #[serde(flatten)]
    pub sharding: Sharding,
    /// What shards are made of.
    #[arg(
        long,
        value_enum,
        default_value = "contig",
        requires = "shard",
        help_heading = "Input"
    )]
    pub shard_by: By,
    /// Write an empty table if there is nothing to read: no sequence, read, interval or region in the
    /// file of them.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    pub allow_empty: bool,
    /// Read BGZF files without their end marker.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    pub allow_missing_eof: bool,
    /// A sample's own sequence instead.
    #[command(flatten)]
    #[serde(flatten)]
    pub sample: Sample,
}

impl Source {
    /// Bases of context that a region gets: the trained length, or half of it on either side for
    /// a bidirectional model.
    pub fn context(&self, facts: &Facts) -> u64 {
        let trained = facts.context.unwrap_or(CONTEXT);
        let default = if facts.causal { trained } else { trained / 2 };
        self.context.unwrap_or(default as u64)
    }

    /// Whether not all is read of every contig, so that context comes before what is.
    pub fn gives_context(&self) -> bool {
        let stretches = self.sharding.shard.is_some() && self.shard_by == By::Bases;
        stretches || self.regions.are_given() || self.intervals.intervals.is_some()
    }

    /// What a user should know of the context that regions get.
    pub fn note(&self, facts: &Facts) -> Option<String> {
        let unknown = facts.context.is_none() && self.context.is_none();
        (unknown && self.gives_context()).then(|| {
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
        files.extend(self.regions.file());
        let intervals = self.intervals.intervals.iter();
        files.extend(intervals.map(|path| ("intervals", path.clone())));
        files
    }

    /// Whether regions or intervals are asked for, and these are all.
    fn asks_for_nothing(&self, regions: &[Query]) -> bool {
        let asked = self.regions.are_given() || self.intervals.intervals.is_some();
        asked && regions.is_empty()
    }

    /// Opens this part of the input. `together`: regions may be read as one sequence with gaps.
    ///
    /// # Errors
    /// Those of the readers; Usage: options that do not go together.
    pub fn open(
        &self,
        facts: &Facts,
        strand: Strand,
        together: bool,
        wanted: Wanted,
    ) -> Result<Genome> {
        let Wanted {
            shard,
            bin,
            regions,
            intervals,
            contigs,
        } = wanted;
        let shard = shard.map(|shard| Cut {
            shard,
            by: self.shard_by,
            bin,
        });
        let mut regions = regions.to_vec();
        let file = self.intervals.intervals.as_deref().unwrap_or(Path::new(""));
        let file = Arc::from(file.display().to_string());
        let exact = |interval: &Interval| {
            let query = Query::exact(interval.region.clone());
            query
                .of_line(&file, interval.line)
                .on_circle(interval.circle)
        };
        regions.extend(intervals.iter().map(exact));
        let context = self.context(facts);
        let (left, right) = match strand {
            Strand::Forward if facts.causal => (context, 0),
            Strand::Reverse if facts.causal => (0, context),
            _ => (context, context),
        };
        if self.sample.reference.is_some() {
            return self.open_sample((&regions, shard), [left, right], strand);
        }
        if is_alignments(&self.fasta)? {
            let what = "this is a file of reads, not FASTA";
            let todo = "give the reference of its alignments with -r, or use crocuta reads";
            return Err(Error::usage(what).file(self.fasta.display()).todo(todo));
        }
        let options = Options {
            nothing: self.asks_for_nothing(&regions),
            regions,
            context: left,
            context_after: right,
            keep_overlaps: self.keep_overlaps,
            together,
            shard,
            contigs,
            allow_missing_eof: self.allow_missing_eof,
            allow_empty: self.allow_empty,
        };
        Genome::open(&self.fasta, options)
    }

    fn open_sample(
        &self,
        regions: (&[Query], Option<Cut>),
        context: [u64; 2],
        strand: Strand,
    ) -> Result<Genome> {
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
        let consensus = if self.asks_for_nothing(regions.0) {
            consensus.of_nothing()
        } else {
            consensus
        };
        let name = self.fasta.display().to_string();
        Ok(Genome::of_alignments(name, consensus))
    }
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
    #[arg(
        short,
        long,
        value_name = "FASTA",
        conflicts_with = "time_limit",
        help_heading = "Alignments"
    )]
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
                ("undecided", name_of(self.undecided).into()),
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
