//! The scores of a variant.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What a variant changes on one strand. Numbers that do not exist are NaN; logarithms natural.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// What was scored of the reference: positions of the forward strand, 0-based.
    pub window: Range<u64>,
    /// Bases whose log-likelihoods `ll_ref` sums.
    pub n_ref: u32,
    /// Bases whose log-likelihoods `ll_alt` sums.
    pub n_alt: u32,
    /// Log-likelihood of the reference.
    pub ll_ref: f64,
    /// Log-likelihood of the alternate haplotype.
    pub ll_alt: f64,
    /// One number for each of [`SCORES`].
    pub values: [f64; SCORES.len()],
    /// log P(A, C, G, T) at the site given the bases before and after it, if all four were scored.
    pub four: Option<[f64; 4]>,
    /// The reference's vector, if embeddings are wanted and there is one.
    pub ref_emb: Option<Vec<f32>>,
    /// The alternate haplotype's.
    pub alt_emb: Option<Vec<f32>>,
}

/// A score of a variant.
pub struct Score {
    /// Its name, as in tables.
    pub name: &'static str,
    /// Of a number with one.
    pub unit: Option<&'static str>,
    /// What it means, in one line.
    pub meaning: &'static str,
    /// The mean of both strands' says something.
    pub has_mean: bool,
}

const NAT: Option<&str> = Some("nat");

const fn score(name: &'static str, unit: Option<&'static str>, meaning: &'static str) -> Score {
    Score {
        name,
        unit,
        meaning,
        has_mean: true,
    }
}

/// What [`Scores::values`] are, in order.
pub const SCORES: [Score; 12] = [
    score("delta_ll", NAT, "ll_alt - ll_ref"),
    score("delta_ll_mean", NAT, "ll_alt / n_alt - ll_ref / n_ref"),
    score(
        "llr",
        NAT,
        "log P(ALT) - log P(REF) at the site; of several bases the sum",
    ),
    score(
        "jsd_mean",
        NAT,
        "mean Jensen-Shannon divergence of the predictions after the site",
    ),
    score(
        "jsd_max",
        NAT,
        "largest Jensen-Shannon divergence after the site",
    ),
    Score {
        name: "jsd_max_offset",
        unit: None,
        meaning: "how many bases after the site that is, from 1",
        // The place of the largest effect has no mean.
        has_mean: false,
    },
    score(
        "cos_dist",
        None,
        "cosine distance of the vectors after the allele",
    ),
    score(
        "l2_dist",
        None,
        "Euclidean distance of the vectors after the allele",
    ),
    score("dot", None, "product of the vectors after the allele"),
    score(
        "cos_dist_win",
        None,
        "cosine distance of the mean vectors around the site",
    ),
    score(
        "l2_dist_win",
        None,
        "Euclidean distance of the mean vectors around the site",
    ),
    score(
        "dot_win",
        None,
        "product of the mean vectors around the site",
    ),
];
