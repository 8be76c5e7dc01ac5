//! `check`: a dry run.

use super::fit::Fit;
use super::reads::Reads;
use super::run::{Embed, Predict};
use super::score::Score;
use crate::error::Result;

/// Commands that can be checked, with their own options.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(after_help = "Example:\n  crocuta check embed genome.fa.gz -m MODEL")]
pub enum Check {
    /// What `crocuta embed` would take.
    #[command(after_help = "Example:\n  crocuta check embed genome.fa.gz -m MODEL --bin 128")]
    Embed(Embed),
    /// What `crocuta predict` would take.
    #[command(after_help = "Example:\n  crocuta check predict genome.fa.gz -m MODEL")]
    Predict(Predict),
    /// What `crocuta score` would take.
    #[command(
        after_help = "Example:\n  crocuta check score variants.vcf.gz -r genome.fa.gz -m MODEL"
    )]
    Score(Box<Score>),
    /// What `crocuta reads` would take.
    #[command(after_help = "Example:\n  crocuta check reads sample.bam -m MODEL")]
    Reads(Box<Reads>),
    /// What `crocuta fit` would take.
    #[command(after_help = "Example:\n  crocuta check fit genome.fa.gz -m MODEL -o OUT")]
    Fit(Box<Fit>),
}

impl Check {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Embed(embed) => embed.check(),
            Self::Predict(predict) => predict.check(),
            Self::Score(score) => score.check(),
            Self::Reads(reads) => reads.check(),
            Self::Fit(fit) => fit.check(),
        }
    }
}
