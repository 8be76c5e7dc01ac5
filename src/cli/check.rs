//! `check`: a dry run.

use super::fit::Fit;
use super::process::print;
use crate::error::Result;
use crate::run::{self, Embed, Predict, Reads, Score};

/// Commands that can be checked, with their own options.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(after_help = "Example:\n  crocuta check embed genome.fa.gz -m MODEL")]
pub enum Check {
    /// What `crocuta embed` would take.
    #[command(after_help = "Example:\n  crocuta check embed genome.fa.gz -m MODEL --bin 128")]
    Embed(Box<Embed>),
    /// What `crocuta predict` would take.
    #[command(after_help = "Example:\n  crocuta check predict genome.fa.gz -m MODEL")]
    Predict(Box<Predict>),
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
    ///
    /// # Errors
    /// Those that the run would meet before its work.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Embed(embed) => embed
                .must_not_adapt()
                .and_then(|()| run::check(&embed.job(), print)),
            Self::Predict(predict) => predict
                .must_not_adapt()
                .and_then(|()| run::check(&**predict, print)),
            Self::Score(score) => run::check(&**score, print),
            Self::Reads(reads) => run::check(&**reads, print),
            Self::Fit(fit) => print(&fit.check()?),
        }
    }
}
