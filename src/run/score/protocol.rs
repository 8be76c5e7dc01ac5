//! Published protocols, as options.

use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::score::Embeddings;
use crate::stream::Strand;

/// A published protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
pub(super) enum Protocol {
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
    /// Marin's: all four bases at the site of a single change, in a stream, both strands;
    /// site_logp_A_avg to site_entropy_avg, delta_ll_avg, jsd_mean_avg.
    Marin,
}

/// What a protocol fixes.
#[derive(Default)]
pub(super) struct Options {
    pub window: Option<usize>,
    pub left: Option<usize>,
    pub around: Option<usize>,
    pub embeddings: Option<Embeddings>,
    pub four: bool,
}

impl Protocol {
    pub fn options(self, facts: &Facts) -> Result<Options> {
        if self == Self::Gpn && facts.causal {
            let error = Error::usage("the protocol gpn masks the site of a bidirectional model");
            return Err(error.todo("for this model use hyenadna-llr"));
        }
        if self == Self::Marin && !facts.causal {
            let error = Error::usage("the protocol marin is for causal models");
            return Err(error.todo("for this model use gpn"));
        }
        let (window, left) = match self {
            Self::Evo2Brca1 => (Some(8192), None),
            Self::HyenaDnaLlr => (Some(facts.context.unwrap_or(1024)), None),
            Self::Gpn => (Some(512), None),
            Self::Bend => (Some(512), facts.causal.then_some(511)),
            Self::LrbEmbed => (Some(131_072), None),
            Self::Marin => (None, None),
        };
        let pooled = self == Self::LrbEmbed;
        Ok(Options {
            window,
            left,
            around: pooled.then_some(768),
            embeddings: pooled.then_some(Embeddings::Window),
            four: self == Self::Marin,
        })
    }

    pub fn strand(self) -> Strand {
        match self {
            Self::Evo2Brca1 | Self::Bend => Strand::Forward,
            Self::HyenaDnaLlr | Self::Gpn | Self::LrbEmbed | Self::Marin => Strand::Both,
        }
    }
}
