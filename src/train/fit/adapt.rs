//! A model brought closer to one genome, for a run that reads it: without a directory of its own.

use super::{Computer, Lesson, Request, Steps, prepare};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::io::sha256::digest_of;
use crate::train::{Report, Trained};
use serde_json::Value;
use std::path::Path;

/// Bases that adapting reads at most: of 5 Mb two fifths, which takes two processor cores some
/// minutes.
const BASES: u64 = 2_000_000;

impl Steps {
    /// The steps that adapt a model to a genome.
    pub fn adapting() -> Self {
        Self {
            length: None,
            chunk: 2048,
            batch: Some(4),
            parts: 1,
            epochs: 4.0,
            count: None,
            most: Some(BASES),
            peak: 5e-4,
            warm_up: None,
            last: 0.1,
            decay: 0.1,
            clip: 1.0,
            evaluate_every: None,
            patience: Some(4),
        }
    }
}

/// The model, trained on the FASTA file at `fasta` for a while, with the weights that were best on
/// the end of its longest contig. Its digest follows from all that decides its weights.
///
/// # Errors
/// As [`prepare`] and [`super::run`]; those of `watch`, which is told of each step.
pub fn adapt(
    start: Checkpoint,
    fasta: &Path,
    open: impl FnOnce(Option<&'static str>) -> Result<Computer>,
    watch: &mut dyn FnMut(&Report) -> Result<()>,
) -> Result<Checkpoint> {
    let name = format!("{}, adapted", start.name);
    let request = Request {
        lesson: Lesson::NextBase {
            fasta: vec![fasta.to_path_buf()],
            corrupt: 0.0,
        },
        held_back: [Vec::new(), Vec::new()],
        adapts: true,
        trained: Trained::All,
        head_dropout: 0.0,
        calibrate: false,
        both: None,
        steps: Steps::adapting(),
        seed: 0,
    };
    let mut fit = prepare(&request, start, open)?;
    for warning in fit.warnings() {
        tracing::warn!("{warning}");
    }
    let identity = Value::Object(fit.identity()).to_string();
    fit.train(None, watch)?;
    let mut adapted = fit.trainee.adapted()?;
    adapted.digest = digest_of(identity.as_bytes()).into();
    adapted.name = name;
    Ok(adapted)
}
