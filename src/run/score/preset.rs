//! Published protocols, as options.

use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::score::Embeddings;
use crate::stream::Strand;

/// A published protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
pub(super) enum Preset {
    /// Evo 2's BRCA1 notebook: windows of 8192 bases; delta_ll_mean is its evo2_delta_score.
    #[value(name = "evo2-brca1")]
    Evo2Brca1,
    /// HyenaDNA in TraitGym: windows of the trained length, both strands; delta_ll_mean_avg.
    #[value(name = "hyenadna-llr")]
    HyenaDnaLlr,
    /// GPN: windows of 512 bases, the site masked, both strands; llr_avg.
    Gpn,
    /// BEND, zero-shot: cos_dist after 511 bases, or in the middle of 512 for a bidirectional
    /// model.
    Bend,
    /// The Long-Range Benchmark: means over 768 bases on either side in windows of 131,072, both
    /// strands; ref_emb and alt_emb.
    #[value(name = "lrb-embed")]
    LrbEmbed,
}

/// What a preset fixes.
#[derive(Default)]
pub(super) struct Options {
    pub window: Option<usize>,
    pub left: Option<usize>,
    pub around: Option<usize>,
    pub embeddings: Option<Embeddings>,
}

impl Preset {
    pub fn options(self, facts: &Facts) -> Result<Options> {
        if self == Self::Gpn && facts.causal {
            let error = Error::usage("the preset gpn masks the site of a bidirectional model");
            return Err(error.todo("for this model use hyenadna-llr"));
        }
        let (window, left) = match self {
            Self::Evo2Brca1 => (8192, None),
            Self::HyenaDnaLlr => (facts.context.unwrap_or(1024), None),
            Self::Gpn => (512, None),
            Self::Bend => (512, facts.causal.then_some(511)),
            Self::LrbEmbed => (131_072, None),
        };
        let pooled = self == Self::LrbEmbed;
        Ok(Options {
            window: Some(window),
            left,
            around: pooled.then_some(768),
            embeddings: pooled.then_some(Embeddings::Window),
        })
    }

    pub fn strand(self) -> Strand {
        match self {
            Self::Evo2Brca1 | Self::Bend => Strand::Forward,
            Self::HyenaDnaLlr | Self::Gpn | Self::LrbEmbed => Strand::Both,
        }
    }
}
