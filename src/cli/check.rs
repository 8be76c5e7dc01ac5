//! `check`: a dry run.

use super::reads::Reads;
use super::run::{Embed, Predict};
use super::score::Score;
use crate::error::Result;

/// Commands that can be checked, with their own options.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(after_help = "Example:\n  crocuta check embed genome.fa.gz -m MODEL")]
pub enum Check {
    /// What `crocuta embed` would take.
    Embed(Embed),
    /// What `crocuta predict` would take.
    Predict(Predict),
    /// What `crocuta score` would take.
    Score(Box<Score>),
    /// What `crocuta reads` would take.
    Reads(Box<Reads>),
}

impl Check {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Embed(embed) => embed.check(),
            Self::Predict(predict) => predict.check(),
            Self::Score(score) => score.check(),
            Self::Reads(reads) => reads.check(),
        }
    }
}
