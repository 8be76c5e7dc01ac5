//! The columns of our tables, and the metadata in their footer. docs/tables.md is the reader's
//! side of this file; a change here raises [`VERSION`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::table::{Column, ColumnKind};
use super::vector::Element;

/// The version of the table layout: the major number rises when a reader must change.
pub const VERSION: &str = "1.0.0";

/// Rows of a row group of per-base tables: groups start at multiples of it along a contig, so the
/// group that holds a locus can be computed.
pub const GROUP_POSITIONS: u64 = 32_768;

/// The bits of the column `flags`. A binned row has the bits of all its bases, or-ed.
pub mod flag {
    /// The base is N or another ambiguity code.
    pub const AMBIGUOUS: u8 = 1;
    /// The base was written in lower case.
    pub const SOFT_MASKED: u8 = 2;
    /// The model saw less context than was asked for with `--min-context`.
    pub const WARM_UP: u8 = 4;
    /// The model's state was reset before this base.
    pub const RESET: u8 = 8;
    /// A value did not fit its type and was clipped.
    pub const CLIPPED: u8 = 16;
}

/// A row of the table is a base, or a bin of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One row a base: `end = start + 1`, and there is a column `base`.
    Bases,
    /// One row a bin of bases: no column `base`; `flags` are or-ed; `context_left` is that of the
    /// bin's first base in reading direction.
    Bins,
}

/// `chrom, start, end, strand, base, flags, context_left`.
fn keys(rows: Rows) -> Vec<Column> {
    let mut columns = vec![
        Column::new("chrom", ColumnKind::Words),
        Column::new("start", ColumnKind::I64),
        Column::new("end", ColumnKind::I64),
        Column::new("strand", ColumnKind::Words),
    ];
    if rows == Rows::Bases {
        columns.push(Column::new("base", ColumnKind::Words));
    }
    columns.push(Column::new("flags", ColumnKind::U8));
    columns.push(Column::new("context_left", ColumnKind::I32));
    columns
}

/// The columns of an `embeddings` table: the keys, then `embedding`, a vector of `dim` numbers.
///
/// ```
/// use crocuta::io::{schema, vector::Element};
/// let columns = schema::embeddings(schema::Rows::Bases, Element::F16, 256);
/// let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
/// assert_eq!(names.join(","), "chrom,start,end,strand,base,flags,context_left,embedding");
/// ```
pub fn embeddings(rows: Rows, element: Element, dim: usize) -> Vec<Column> {
    let mut columns = keys(rows);
    columns.push(Column::new(
        "embedding",
        ColumnKind::Vector { element, dim },
    ));
    columns
}

/// The columns of a table of a sample's own sequence: after `context_left`, how many reads there
/// are at the base, or at a base of the bin in the mean.
pub fn with_depth(mut columns: Vec<Column>, rows: Rows) -> Vec<Column> {
    let kind = match rows {
        Rows::Bases => ColumnKind::I32,
        Rows::Bins => ColumnKind::F32,
    };
    let after = columns
        .iter()
        .position(|column| column.name == "context_left");
    columns.insert(after.map_or(0, |i| i + 1), Column::new("depth", kind));
    columns
}

/// The probability columns of a `predictions` table, all `float32` and NULL where nothing was
/// predicted.
pub const PROBABILITIES: [&str; 7] = [
    "logp_base",
    "p_A",
    "p_C",
    "p_G",
    "p_T",
    "p_other",
    "entropy",
];

/// The columns of a `predictions` table: the keys, [`PROBABILITIES`], and with `logits` (element
/// type, vocabulary size) the raw logits as a vector.
pub fn predictions(logits: Option<(Element, usize)>) -> Vec<Column> {
    let mut columns = keys(Rows::Bases);
    let optional = |name| Column::new(name, ColumnKind::OptionalF32);
    columns.extend(PROBABILITIES.map(optional));
    if let Some((element, dim)) = logits {
        columns.push(Column::new("logits", ColumnKind::Vector { element, dim }));
    }
    columns
}

/// The columns of a `predictions` table of a task's head: the keys, and a `float32` for each of the
/// head's outputs: `prob_<class>`, or `value_<name>` unless they are `probabilities`.
pub fn heads(outputs: &[String], probabilities: bool) -> Vec<Column> {
    let mut columns = keys(Rows::Bases);
    let prefix = if probabilities { "prob" } else { "value" };
    let named = outputs.iter().map(|name| format!("{prefix}_{name}"));
    columns.extend(named.map(|name| Column::new(name, ColumnKind::OptionalF32)));
    columns
}

/// What a `variants` table holds besides its keys and the scores of the forward strand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VariantColumns {
    /// Rows of haplotypes: which one, and the alleles that it carries.
    pub haplotypes: bool,
    /// Scores of the reverse strand, `_rc`.
    pub reverse: bool,
    /// The means of both strands, `_avg`.
    pub mean: bool,
    /// The width of the vectors `ref_emb` and `alt_emb`.
    pub embeddings: Option<usize>,
}

/// The columns of a `variants` table: the allele as the input has it, as it was scored, its status,
/// what was scored, and `scores` (names of float32 columns after the two log-likelihoods).
pub fn variants(scores: &[&str], with: VariantColumns) -> Vec<Column> {
    let mut columns = vec![
        Column::new("record_index", ColumnKind::I64),
        Column::new("alt_index", ColumnKind::I32),
        Column::new("chrom", ColumnKind::Words),
        Column::new("pos", ColumnKind::I64),
        Column::new("id", ColumnKind::Text),
        Column::new("ref", ColumnKind::Text),
        Column::new("alt", ColumnKind::Text),
        Column::new("start", ColumnKind::I64),
        Column::new("end", ColumnKind::I64),
        Column::new("norm_pos", ColumnKind::OptionalI64),
        Column::new("norm_ref", ColumnKind::Text),
        Column::new("norm_alt", ColumnKind::Text),
        Column::new("variant_id", ColumnKind::Text),
        Column::new("type", ColumnKind::Words),
        Column::new("status", ColumnKind::Words),
    ];
    if with.haplotypes {
        columns.push(Column::new("haplotype", ColumnKind::OptionalI64));
        columns.push(Column::new("haplotype_alleles", ColumnKind::Text));
    }
    let counts = ["window_start", "window_end", "n_ref", "n_alt"];
    columns.extend(counts.map(|name| Column::new(name, ColumnKind::OptionalI64)));
    for suffix in with.suffixes() {
        let name = |name: &str| format!("{name}{suffix}");
        let likelihoods = ["ll_ref", "ll_alt"];
        columns.extend(likelihoods.map(|ll| Column::new(name(ll), ColumnKind::OptionalF64)));
        // The place of the largest effect has no mean.
        let scores = scores.iter();
        let scores = scores.filter(|score| suffix != "_avg" || !score.ends_with("_offset"));
        columns.extend(scores.map(|score| Column::new(name(score), ColumnKind::OptionalF32)));
    }
    if let Some(dim) = with.embeddings {
        for suffix in with
            .suffixes()
            .into_iter()
            .filter(|suffix| *suffix != "_avg")
        {
            for name in ["ref_emb", "alt_emb"] {
                let element = Element::F32;
                let kind = ColumnKind::OptionalVector { element, dim };
                columns.push(Column::new(format!("{name}{suffix}"), kind));
            }
        }
    }
    columns
}

impl VariantColumns {
    /// The suffixes of score columns.
    pub fn suffixes(self) -> Vec<&'static str> {
        let all = [("", true), ("_rc", self.reverse), ("_avg", self.mean)];
        let wanted = all.into_iter().filter(|(_, wanted)| *wanted);
        wanted.map(|(suffix, _)| suffix).collect()
    }
}

/// The columns of a `reads` table: what the read is, where it is aligned, its likelihoods, and with
/// `embedding` (element type, width) a vector.
pub fn reads(embedding: Option<(Element, usize)>) -> Vec<Column> {
    let mut columns = vec![
        Column::new("read_index", ColumnKind::I64),
        Column::new("read_name", ColumnKind::Text),
        Column::new("read_number", ColumnKind::U8),
        Column::new("flag", ColumnKind::U16),
        Column::new("chrom", ColumnKind::OptionalWords),
        Column::new("start", ColumnKind::OptionalI64),
        Column::new("end", ColumnKind::OptionalI64),
        Column::new("strand", ColumnKind::OptionalWords),
        Column::new("mapq", ColumnKind::OptionalU8),
        Column::new("length", ColumnKind::I32),
        Column::new("n_scored", ColumnKind::I32),
        Column::new("n_ambiguous", ColumnKind::I32),
        Column::new("sum_logp", ColumnKind::OptionalF64),
        Column::new("mean_logp", ColumnKind::OptionalF32),
        Column::new("perplexity", ColumnKind::OptionalF32),
    ];
    if let Some((element, dim)) = embedding {
        let kind = ColumnKind::OptionalVector { element, dim };
        columns.push(Column::new("embedding", kind));
    }
    columns.push(Column::new("status", ColumnKind::Words));
    columns
}

/// The columns of a `read_bases` table: the read, its base, where that is aligned, and
/// [`PROBABILITIES`].
pub fn read_bases() -> Vec<Column> {
    let mut columns = vec![
        Column::new("read_index", ColumnKind::I64),
        Column::new("offset", ColumnKind::I32),
        Column::new("ref_pos", ColumnKind::OptionalI64),
        Column::new("base", ColumnKind::Words),
        Column::new("qual", ColumnKind::OptionalU8),
    ];
    let optional = |name| Column::new(name, ColumnKind::OptionalF32);
    columns.extend(PROBABILITIES.map(optional));
    columns
}

/// What the footer key `crocuta` says, as JSON. Nothing in it depends on when or where the run
/// took place, unless the caller gives `command`: equal runs give equal files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// [`VERSION`].
    pub version: String,
    /// `embeddings`, `predictions`, ….
    pub table: String,
    /// The columns the table is for.
    pub primary_columns: Vec<String>,
    /// How positions are counted.
    pub coordinates: Coordinates,
    /// The sequences that the rows lie on.
    pub reference: Reference,
    /// The model that computed them.
    pub model: Model,
    /// What the primary columns mean, by name.
    pub columns: BTreeMap<String, ColumnMeaning>,
    /// How the model was run.
    pub inference: Inference,
    /// Which part of the reference was asked for.
    pub selection: Selection,
    /// The program that wrote the file.
    pub tool: Tool,
    /// Every other parameter that changes the numbers, by its long option.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// The command line, if the user wanted it recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// True: a table that was cut short has no footer at all.
    pub complete: bool,
}

/// How positions are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinates {
    /// `0-based half-open`.
    pub system: String,
    /// What the values of `strand` mean.
    pub strand_meaning: String,
}

/// The sequences that the rows lie on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The FASTA's file name, without its directory.
    pub path: String,
    /// Its sequences, in its order: the order of the rows.
    pub contigs: Vec<ContigDigest>,
}

/// A sequence of the reference, with what identifies it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContigDigest {
    /// Its name.
    pub name: String,
    /// Its length in bases.
    pub length: u64,
    /// MD5 of its upper-case bases, as in SAM's `M5`, if it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub md5: Option<String>,
    /// The GA4GH refget digest, if it was computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha512t24u: Option<String>,
}

/// The model that computed the rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name: of the preset or the directory.
    pub name: String,
    /// The encoder: `hyena`, `caduceus`, ….
    pub architecture: String,
    /// SHA-256 of its weights.
    pub sha256: String,
    /// Its number of parameters.
    pub n_params: u64,
}

/// What a column means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnMeaning {
    /// The layer it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// The length of a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// `float16`, `float32`.
    pub dtype: String,
    /// In words, for instance `state after reading the base at start`.
    pub semantics: String,
    /// Of a number with one: `nat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How the bases of a bin became one row: `mean`, `last`, `max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// How the model was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inference {
    /// `stream` (state carried along the contig), `window` (reset at every window) or `exact`
    /// (each sequence whole, in both directions).
    pub mode: String,
    /// Bases per call of the model; does not change the numbers beyond rounding.
    pub chunk: u64,
    /// Bases of a window, in window mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// `forward`, `reverse`, `both`, `mean`.
    pub strand: String,
    /// `f32`, `bf16`, ….
    pub precision: String,
    /// `cpu`, `cuda`.
    pub device: String,
}

/// Which part of the reference was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// The regions as `chrom:start-end`, 1-based and closed as on the command line; empty: all.
    pub regions: Vec<String>,
    /// This shard's number, and of how many.
    pub shard: (u64, u64),
}

/// The program that wrote the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `crocuta`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Coordinates {
    /// The one way that our tables count.
    pub fn zero_based() -> Self {
        Self {
            system: "0-based half-open".to_string(),
            strand_meaning:
                "+ = as in the reference; - = its reverse complement; . = both combined".to_string(),
        }
    }
}

impl Tool {
    /// This program.
    pub fn this() -> Self {
        Self {
            name: "crocuta".to_string(),
            version: env!("CARGO_PKG_VERSION").to_string(),
        }
    }
}

impl ColumnMeaning {
    /// The meaning of `embedding`: `dim` numbers from `layer`, pooled by `pool` if binned.
    pub fn embedding(element: Element, dim: usize, layer: &str, pool: Option<&str>) -> Self {
        Self {
            layer: Some(layer.to_string()),
            dim: Some(dim),
            dtype: element.name().to_string(),
            semantics: "state after reading the base at start".to_string(),
            unit: None,
            pool: pool.map(str::to_string),
        }
    }

    /// The same of a model that looks both ways: what it says of a base comes from all around it.
    #[must_use]
    pub fn both_ways(mut self) -> Self {
        let one_way = [
            (
                "after reading the base at start",
                "of the base at start after reading all around it",
            ),
            ("bases before it", "bases around it"),
        ];
        for (found, meant) in one_way {
            self.semantics = self.semantics.replace(found, meant);
        }
        self
    }

    /// The meaning of a column of the task's head `head`: the probability of `output`, or its value.
    pub fn of_head(head: &str, output: &str, probability: bool) -> Self {
        let what = if probability { "probability" } else { "value" };
        Self {
            layer: Some(head.to_string()),
            dim: None,
            dtype: Element::F32.name().to_string(),
            semantics: format!("{what} of {output} at start"),
            unit: None,
            pool: None,
        }
    }

    /// The meanings of [`PROBABILITIES`], by name.
    pub fn probabilities() -> BTreeMap<String, Self> {
        PROBABILITIES
            .iter()
            .map(|name| {
                let (semantics, unit) = match *name {
                    "logp_base" => ("log P(base at start | bases before it)", Some("nat")),
                    "p_other" => ("probability of tokens that are no base", None),
                    "entropy" => ("entropy of p_A, p_C, p_G, p_T", Some("nat")),
                    _ => (
                        "P(this base at start | bases before it), over the four bases",
                        None,
                    ),
                };
                let meaning = Self {
                    layer: None,
                    dim: None,
                    dtype: Element::F32.name().to_string(),
                    semantics: semantics.to_string(),
                    unit: unit.map(str::to_string),
                    pool: None,
                };
                ((*name).to_string(), meaning)
            })
            .collect()
    }
}

impl Metadata {
    /// The metadata as the footer holds them.
    ///
    /// # Errors
    /// None in practice: every part has a JSON form.
    pub fn to_json(&self) -> crate::Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|e| {
            crate::Error::new(crate::error::Kind::Internal, format!("table metadata: {e}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata() -> Metadata {
        let embedding = ColumnMeaning::embedding(Element::F16, 256, "final_norm", None);
        Metadata {
            version: VERSION.to_string(),
            table: "embeddings".to_string(),
            primary_columns: vec!["embedding".to_string()],
            coordinates: Coordinates::zero_based(),
            reference: Reference {
                path: "g.fa".to_string(),
                contigs: vec![ContigDigest {
                    name: "chr1".to_string(),
                    length: 248_956_422,
                    md5: None,
                    sha512t24u: None,
                }],
            },
            model: Model {
                name: "hyenadna-tiny-1k".to_string(),
                architecture: "hyena".to_string(),
                sha256: "00".repeat(32),
                n_params: 436_352,
            },
            columns: [("embedding".to_string(), embedding)].into(),
            inference: Inference {
                mode: "stream".to_string(),
                chunk: 65_536,
                window: None,
                strand: "forward".to_string(),
                precision: "f32".to_string(),
                device: "cpu".to_string(),
            },
            selection: Selection {
                regions: Vec::new(),
                shard: (0, 1),
            },
            tool: Tool::this(),
            params: serde_json::Map::new(),
            command: None,
            complete: true,
        }
    }

    #[test]
    fn metadata_are_read_back_and_hold_no_field_that_was_not_given() {
        let json = metadata().to_json().unwrap();
        assert_eq!(json["coordinates"]["system"], "0-based half-open");
        assert_eq!(json["reference"]["contigs"][0]["length"], 248_956_422);
        for absent in ["command", "params"] {
            assert!(json.get(absent).is_none(), "{absent}");
        }
        assert_eq!(
            serde_json::from_value::<Metadata>(json).unwrap(),
            metadata()
        );
    }

    #[test]
    fn only_predictions_may_be_null_and_binned_rows_have_no_base() {
        for column in predictions(Some((Element::F32, 12))) {
            let is_optional = column.kind == ColumnKind::OptionalF32;
            assert_eq!(is_optional, PROBABILITIES.contains(&column.name.as_str()));
        }
        let bins = embeddings(Rows::Bins, Element::F16, 8);
        assert!(bins.iter().all(|column| column.name != "base"));
    }
}
