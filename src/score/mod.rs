//! Variant effects: what the model says of the reference, against what it says of each alternate.
//!
//! The reference streams once, with all that lies to its left. At each site the state is forked,
//! and each alternate runs from there over the bases after the site: left of it both haplotypes
//! are the same, and cancel. On a GPU alternates branch off within the reference's steps instead.
//! What the reference's own suffix says comes from the reference's pass, a little later. So S sites
//! with A bases after each cost the encoder the reference's length and A bases an alternate,
//! whatever the context: windows of W bases on either side cost 4 W a site.
//!
//! A variant is scored as [`Variant`] has it: without the bases that REF and ALT share, as far
//! left as it goes on the strand that is read. Equal changes have equal scores, however they were
//! spelled.

mod alleles;
mod background;
mod branches;
mod contig;
mod forks;
mod haplotypes;
mod kept;
mod ledger;
mod line;
mod part;
mod pass;
mod plot;
mod prepare;
mod quartets;
mod queue;
mod reference;
mod run;
mod scores;
mod sites;
mod windows;

pub use alleles::{read_alleles, region_of, saturate};
pub use background::Background;
pub use contig::{Contig, ContigStrand};
pub use haplotypes::{Carried, join};
pub use ledger::{Change, Ledger};
pub use part::{Chosen, Part, Shares, count_records};
pub use pass::score;
pub use plot::draw;
pub use prepare::{Checked, EVERY, prepare};
pub use reference::Reference;
pub use run::run;
pub use scores::Embeddings;

use crate::error::Result;
use crate::head::LanguageModel;
use crate::sequence::allele::Variant;
use crate::stream::Engine;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What computes the numbers.
#[derive(Clone, Copy)]
pub struct Scorer<'a> {
    /// The encoder.
    pub engine: &'a Engine,
    /// Hidden vectors to logits.
    pub head: &'a LanguageModel,
}

/// How variants are scored.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Forks of a stream, or windows.
    pub mode: Mode,
    /// Bases after a variant that are scored, in a stream.
    pub after: usize,
    /// Bases before a site that the model must have read, in a stream; none: all of the contig.
    pub context: Option<u64>,
    /// Bases on either side of a variant in the mean vectors.
    pub around: usize,
    /// The longest allele that is scored.
    pub longest: usize,
    /// Score the reverse strand too.
    pub both_strands: bool,
    /// Score all four bases at the site of a single change, whichever alleles there are.
    pub four: bool,
    /// Vectors to keep.
    pub embeddings: Option<Embeddings>,
    /// Only a part of the input's records is scored.
    pub shard: bool,
    /// Tokens of a step.
    pub chunk: usize,
    /// Where scratch files lie.
    pub scratch: PathBuf,
}

/// What the model has read before a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of the contig.
    Stream,
    /// A window's bases, from an empty state.
    Window(Window),
}

/// A window around each site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its length.
    pub size: usize,
    /// Bases before the variant; less than `size`.
    pub left: usize,
}

impl Window {
    /// Its bases before a variant of the strand that is read: on the reverse strand those after it.
    fn left_of(&self, variant: &Variant, reverse: bool) -> usize {
        if reverse {
            let others = self.left + variant.reference.len().max(1);
            self.size.saturating_sub(others)
        } else {
            self.left
        }
    }
}

/// One change of one contig, and the alleles of the ledger that are this change.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The change, on the strand that is read.
    pub variant: Variant,
    /// Its alleles' places.
    pub entries: Vec<usize>,
}

/// Is told after each step how many bases went through the encoder, and the contig's name; may
/// stop the run.
pub type Watch<'a> = dyn FnMut(u64, &str) -> Result<()> + 'a;

#[cfg(test)]
mod tests;
