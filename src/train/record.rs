//! What stands beside trained weights: how they came to be, and how good they are.

use super::network::Trainee;
use super::objective::{Baseline, Evaluation};
use super::run::Outcome;
use super::saved::Point;
use super::split::DataFile;
use serde_json::{Map, Value, json};
use std::path::Path;

/// How a model was trained.
pub struct RunRecord {
    /// What it was trained to do.
    pub objective: &'static str,
    /// What its score is: `bits per base`.
    pub score: &'static str,
    /// The command line.
    pub command: String,
    /// The licence of the weights, if the user gave one.
    pub license: Option<String>,
    /// What was read.
    pub data: Vec<DataFile>,
    /// What was held out, as regions or in words.
    pub held_out: Vec<String>,
    /// What was tested on at the end, likewise.
    pub tested: Vec<String>,
    /// The device that it was trained on, in words, and what its matrix products multiplied.
    pub device: [String; 2],
    /// Settings, by name.
    pub settings: Map<String, Value>,
    /// Measures on data that neither trained nor chose anything, if there is any.
    pub test: Option<Evaluation>,
    /// What simple models make of the same data.
    pub baselines: Vec<Baseline>,
    /// Files that the model at the start had read, each as `metrics.json` has it.
    pub read_before: Vec<Value>,
    /// What a user should know, besides.
    pub warnings: Vec<String>,
    /// The logits were divided by this, which was best on held-out data.
    pub temperature: Option<f64>,
}

impl RunRecord {
    /// The content of `metrics.json`.
    pub(super) fn metrics(&self, trainee: &Trainee, outcome: &Outcome) -> Value {
        let data = self.data.iter().map(|source| {
            json!({
                "file": file_name(&source.path),
                "sha256": source.sha256,
                "size": source.size,
            })
        });
        let point = |point: &Point| {
            json!({
                "step": point.step, "bases": point.bases, "training_loss": point.loss,
                "score": point.score,
            })
        };
        let measures = |found: &Option<Evaluation>| found.as_ref().map(|e| e.metrics.clone());
        let baseline = |baseline: &Baseline| {
            json!({
                "name": baseline.name,
                "evaluation": measures(&baseline.evaluation),
                "test": measures(&baseline.test),
            })
        };
        json!({
            "crocuta": env!("CARGO_PKG_VERSION"),
            "objective": self.objective,
            "command": self.command,
            "settings": self.settings,
            "data": data.collect::<Vec<_>>(),
            "read_by_the_start": self.read_before,
            "held_out": self.held_out,
            "tested": self.tested,
            "device": self.device[0],
            "precision": self.device[1],
            "start": start(trainee),
            "parameters": trainee.size(),
            "steps": outcome.steps,
            "kept_step": outcome.kept,
            "bases_read": outcome.bases,
            "seconds": outcome.seconds,
            "evaluation": outcome.evaluation.as_ref().map(|evaluation| &evaluation.metrics),
            "test": self.test.as_ref().map(|evaluation| &evaluation.metrics),
            "baselines": self.baselines.iter().map(baseline).collect::<Vec<_>>(),
            "warnings": self.warnings,
            "temperature": self.temperature,
            "history": outcome.history.iter().map(point).collect::<Vec<_>>(),
        })
    }
}

/// What the training started from.
pub(super) fn start(trainee: &Trainee) -> String {
    let source = trainee.source();
    match source.digest.get() {
        "" => "random values".to_string(),
        digest => format!("{} (sha256 {digest})", source.name),
    }
}

pub(super) fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    crate::error::printable(&name.to_string_lossy())
}
