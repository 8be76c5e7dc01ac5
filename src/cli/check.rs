//! `check`: a dry run.

use super::run::{Embed, Predict};
use crate::error::Result;

/// Commands that can be checked, with their own options.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(after_help = "Example:\n  crocuta check embed genome.fa.gz -m MODEL")]
pub enum Check {
    /// What `crocuta embed` would take.
    Embed(Embed),
    /// What `crocuta predict` would take.
    Predict(Predict),
}

impl Check {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::Embed(embed) => embed.check(),
            Self::Predict(predict) => predict.check(),
        }
    }
}
