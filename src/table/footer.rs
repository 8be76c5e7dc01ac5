//! What a table's footer says of it: the JSON under the key `crocuta`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the table layout: the major number rises when a reader must change.
pub const VERSION: &str = "1.0.0";

/// What the footer key `crocuta` says, as JSON. Nothing in it depends on when or where the run
/// took place, unless the caller gives `command`: equal runs give equal files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Footer {
    /// [`VERSION`].
    pub version: String,
    /// `embeddings`, `predictions`, ….
    pub table: String,
    /// The columns the table is for.
    pub primary_columns: Vec<String>,
    /// How positions are counted.
    pub coordinates: Coordinates,
    /// The sequences that the rows lie on.
    pub reference: ReferenceRecord,
    /// The model that computed them.
    pub model: ModelRecord,
    /// What the columns mean, by name.
    pub columns: BTreeMap<String, ColumnMeaning>,
    /// How the model was run.
    pub inference: Inference,
    /// Which part of the reference was asked for.
    pub selection: Selection,
    /// Which shard the table is, if it is one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardRecord>,
    /// The program that wrote the file.
    pub tool: Tool,
    /// Every other parameter that changes the numbers, by its long option.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub params: serde_json::Map<String, serde_json::Value>,
    /// What the run found, by name: another part of the same input has other numbers.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub measured: serde_json::Map<String, serde_json::Value>,
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
pub struct ReferenceRecord {
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
pub struct ModelRecord {
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
    /// `float16`, `float32`, `int64`, `string`, …; of a vector, of its numbers.
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

/// Which part of the reference was asked for; the regions are written as on the command line:
/// `chrom`, or `chrom:start-end`, 1-based and closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Selection {
    /// These, in the order of the contigs.
    Listed {
        /// The regions; empty: all.
        regions: Vec<String>,
    },
    /// Intervals, or more regions than a footer should list.
    Counted {
        /// How many there are.
        count: u64,
        /// SHA-256 of their lines.
        sha256: String,
    },
}

/// Which part of the run's input this table holds the rows of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Its number, from 1.
    pub index: u64,
    /// How many there are.
    pub of: u64,
    /// What the shards are made of: `contig`, `bases`, `site`, `read`.
    pub by: String,
    /// Of reads and sites: how many consecutive ones make a block; blocks go to the shards in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
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

impl Footer {
    /// The JSON that is stored.
    ///
    /// # Errors
    /// None in practice: every part has a JSON form.
    pub fn to_json(&self) -> crate::Result<serde_json::Value> {
        serde_json::to_value(self)
            .map_err(|e| crate::Error::new(crate::error::Kind::Internal, format!("footer: {e}")))
    }
}
