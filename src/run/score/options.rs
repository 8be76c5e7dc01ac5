//! The options of `crocuta score`.

use super::protocol::Protocol;
use crate::io::variants::decoded;
use crate::run::options::{Compute, Output, RegionOptions, Sharding};
use crate::score::Embeddings;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use std::path::PathBuf;
use std::str::FromStr;

/// Options of `crocuta score`.
#[derive(clap::Args, Clone, Debug, Serialize)]
#[command(
    after_help = "Example:\n  crocuta score variants.vcf.gz -r genome.fa.gz -m MODEL -o scores.parquet --vcf-out scored.vcf.gz",
    mut_arg("region", |arg| arg.conflicts_with("saturate")),
    mut_arg("regions_file", |arg| arg.conflicts_with("saturate")),
    mut_arg("overlap", |arg| arg.hide(true)),
    mut_arg("exact", |arg| arg.hide(true))
)]
pub struct Score {
    /// Variants: VCF (plain, gzip, BGZF, zstd) or BCF; - is stdin. In any order.
    #[arg(required_unless_present = "saturate", conflicts_with = "saturate")]
    #[serde(skip)]
    pub(super) variants: Option<PathBuf>,
    /// The reference that the variants were called on: FASTA, plain, gzip, BGZF or zstd.
    #[arg(short, long, value_name = "FASTA", help_heading = "Input")]
    #[serde(skip)]
    pub(super) reference: PathBuf,
    /// Instead of a VCF: every single-base change of this region, chr:beg-end, 1-based, end
    /// included.
    #[arg(long, value_name = "REGION", help_heading = "Input")]
    pub(super) saturate: Option<String>,
    /// Score also, as rows of their own, the variants that this sample carries together: phased, on
    /// one haplotype, at most --after bases apart.
    #[arg(
        long,
        visible_alias = "samples",
        value_name = "NAME",
        conflicts_with = "saturate",
        value_parser = OsStringValueParser::new().map(|name| decoded(name.as_encoded_bytes())),
        help_heading = "Input"
    )]
    pub(super) sample: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) regions: RegionOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) sharding: Sharding,
    /// What shards are made of; with `site`, --context bounds what each reads before its first.
    #[arg(
        long,
        value_enum,
        default_value = "contig",
        requires = "shard",
        help_heading = "Input"
    )]
    pub(super) shard_by: By,
    /// Common variants, to tell how each score stands among theirs: a VCF or BCF that is scored in
    /// the same run, or a table of an earlier run with the same model and options. The columns
    /// _quantile are the part of those of the same type whose score is lower.
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    #[serde(skip)]
    pub(super) background: Option<PathBuf>,
    /// Read BGZF files without their end marker.
    #[arg(long, help_heading = "Input")]
    #[serde(skip)]
    pub(super) allow_missing_eof: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) compute: Compute,
    /// What the model has read before a variant: a stream along the contig, or a window of
    /// --window bases [default: stream, or window with --window or a bidirectional model].
    #[arg(long, value_enum, help_heading = "Run")]
    pub(super) mode: Option<ModeName>,
    /// Bases after a variant that are scored, in a stream.
    #[arg(long, value_name = "BASES", default_value_t = 1024, help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub(super) after: u32,
    /// Bases that the model reads before a variant at least, in a stream, or `all` of the contig
    /// [default: the length on which the model was trained, or 65,536 if its files do not state it].
    #[arg(long, value_name = "BASES", help_heading = "Run")]
    pub(super) context: Option<Context>,
    /// The longest REF or ALT that is scored.
    #[arg(long, value_name = "BASES", default_value_t = 1024, help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    pub(super) max_allele: u32,
    /// Bases on either side of a variant in the mean vectors of the columns _win [default: 768].
    #[arg(long, value_name = "BASES", help_heading = "Run")]
    pub(super) flank: Option<u32>,
    /// Options of a published protocol; those given beside it win.
    #[arg(long, value_enum, help_heading = "Run")]
    pub(super) protocol: Option<Protocol>,
    #[command(flatten)]
    #[serde(flatten)]
    pub(super) output: Output,
    /// Write the variants too, with the scores in INFO: .vcf text, .bcf BCF, any other name BGZF;
    /// with an index. Without -o instead of the table.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "saturate",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub(super) vcf_out: Option<PathBuf>,
    /// Write the table as text too, tabs between columns: BGZF if the name ends in .gz. Without -o
    /// instead of Parquet.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    #[serde(skip)]
    pub(super) tsv: Option<PathBuf>,
    /// Columns of --tsv, in this order, separated by commas [default: all but vectors].
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "tsv",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub(super) tsv_columns: Option<Vec<String>>,
    /// A field of INFO that the tables have too, as the column info_KEY. Repeatable.
    #[arg(
        long,
        value_name = "KEY",
        conflicts_with = "saturate",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub(super) info: Vec<String>,
    /// Keep vectors of both alleles: after the variant, or their means around it.
    #[arg(long, value_enum, help_heading = "Output")]
    pub(super) embeddings: Option<Embeddings>,
    /// The layer whose vectors are compared and kept: 0 the embedding, i the residual stream after
    /// block i, -1 that after the last block; or the name of a published module, as crocuta models
    /// show lists them [default: the last norm's output].
    #[arg(long, value_name = "LAYER", help_heading = "Output")]
    pub(super) layer: Option<String>,
    /// A picture of the region: log-likelihood differences as a heat map, SVG or PNG, by its name.
    /// Without -o instead of the table.
    #[arg(
        long,
        value_name = "FILE",
        requires = "saturate",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub(super) plot: Option<PathBuf>,
}

/// What shards are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub(super) enum By {
    /// The variants of whole contigs, of about as many bases in each shard.
    Contig,
    /// Equal numbers of consecutive records.
    Site,
}

/// How the model comes to a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub(super) enum ModeName {
    /// The state is carried along the contig, and forked at each variant.
    Stream,
    /// Each allele's window is read with an empty state.
    Window,
}

/// What `--context` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Context {
    /// All of the contig.
    All,
    /// So many bases at least.
    Bases(u64),
}

impl FromStr for Context {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(bases) => Ok(Self::Bases(bases)),
            Err(_) if text == "all" => Ok(Self::All),
            Err(_) => Err("expected a number of bases, or all".to_string()),
        }
    }
}
