//! What stands beside trained weights: how they came to be, and how good they are.

use super::curve;
use super::network::{Trained, Trainee};
use super::objective::Evaluation;
use super::run::Outcome;
use super::saved::Point;
use super::split::DataFile;
use crate::adapter;
use crate::checkpoint::{self, Changes, Staging};
use crate::error::Result;
use crate::head::HEADS;
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
}

/// Completes the directory `out` with what was trained, `metrics.json`, `loss.svg` and the
/// model card `README.md`: a model (`config.json`, `model.safetensors`), or an adapter in PEFT's
/// files. Returns the name of the file of weights and its digest.
///
/// # Errors
/// Io.
pub fn write(
    trainee: &Trainee,
    record: &RunRecord,
    outcome: &Outcome,
    out: Staging,
) -> Result<(&'static str, String)> {
    let metrics = record.metrics(trainee, outcome);
    let mut files = vec![
        ("README.md", record.card(trainee, outcome)),
        ("metrics.json", format!("{metrics:#}\n")),
        (
            "loss.svg",
            curve::draw(&outcome.history, outcome.kept, record.score)?,
        ),
    ];
    let source = trainee.source();
    let mut config = Map::new();
    if let Trained::Adapter(scale) = trainee.trained() {
        if let Some(heads) = source.config.get(HEADS) {
            config.insert(HEADS.into(), heads.clone());
        }
        let (text, (name, tensors)) =
            adapter::files(scale, &source.name, config, trainee.stored()?);
        files.push(("adapter_config.json", text));
        let digest = checkpoint::write_directory(out, (name, &tensors), &files)?;
        return Ok((name, digest));
    }
    if source.config.has("torch_dtype") {
        config.insert("torch_dtype".into(), json!("float32"));
    }
    let changes = Changes {
        config,
        tensors: trainee.stored()?,
        files,
    };
    let digest = checkpoint::write_model(out, source, changes)?;
    Ok(("model.safetensors", digest))
}

impl RunRecord {
    fn metrics(&self, trainee: &Trainee, outcome: &Outcome) -> Value {
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
        json!({
            "crocuta": env!("CARGO_PKG_VERSION"),
            "objective": self.objective,
            "command": self.command,
            "settings": self.settings,
            "data": data.collect::<Vec<_>>(),
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
            "history": outcome.history.iter().map(point).collect::<Vec<_>>(),
        })
    }

    /// The model card, as Hugging Face shows it.
    fn card(&self, trainee: &Trainee, outcome: &Outcome) -> String {
        let mut text = String::from("---\n");
        if let Some(license) = &self.license {
            text.push_str(&format!("license: {}\n", yaml(license)));
        }
        text.push_str(&format!(
            "library_name: crocuta\ntags:\n- dna\n- genomics\n- {}\n---\n\n",
            self.objective
        ));
        text.push_str(&format!(
            "# {} trained with crocuta {}\n\n\
             {} trained values, from {}. Objective: {}. {} steps over {} bases in {:.0} s on {}, in \
             {}; the weights are those after step {}.\n\n",
            trainee.source().architecture,
            env!("CARGO_PKG_VERSION"),
            trainee.size(),
            start(trainee),
            self.objective,
            outcome.steps,
            outcome.bases,
            outcome.seconds,
            self.device[0],
            self.device[1],
            outcome.kept,
        ));
        text.push_str("## Held out\n\n");
        match (&outcome.evaluation, self.held_out.is_empty()) {
            (Some(evaluation), _) => {
                text.push_str("Not seen in training, but used to choose the step:\n\n");
                self.held_out
                    .iter()
                    .for_each(|region| text.push_str(&format!("- `{region}`\n")));
                table(&mut text, evaluation);
            }
            (None, _) => text.push_str("Nothing: how good the model is, is not known.\n"),
        }
        if let Some(test) = &self.test {
            text.push_str("\n## Test\n\nMeasured once, at the end; neither trained nor chose:\n\n");
            let tested = self.tested.iter();
            tested.for_each(|region| text.push_str(&format!("- `{region}`\n")));
            table(&mut text, test);
        }
        text.push_str(
            "\n![loss](loss.svg)\n\n## Data\n\n| file | size | sha256 |\n|---|---|---|\n",
        );
        for source in &self.data {
            let (name, size) = (file_name(&source.path), source.size);
            text.push_str(&format!("| {name} | {size} | {} |\n", source.sha256));
        }
        text.push_str(&format!("\n## Command\n\n    {}\n\n", self.command));
        text.push_str("Settings and the whole curve: `metrics.json`.\n");
        text
    }
}

fn table(text: &mut String, evaluation: &Evaluation) {
    text.push_str("\n| measure | value |\n|---|---|\n");
    // Lists of several measures are for metrics.json.
    let measures = evaluation.metrics.iter().filter(|(_, value)| {
        let list = value.as_array().and_then(|list| list.first());
        !list.is_some_and(Value::is_object)
    });
    for (name, value) in measures {
        text.push_str(&format!("| {} | {value} |\n", name.replace('_', " ")));
    }
}

/// What the training started from.
fn start(trainee: &Trainee) -> String {
    let source = trainee.source();
    match source.digest.as_str() {
        "" => "random values".to_string(),
        digest => format!("{} (sha256 {digest})", source.name),
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    crate::error::printable(&name.to_string_lossy())
}

/// A text as a YAML scalar.
fn yaml(text: &str) -> String {
    Value::String(text.to_string()).to_string()
}
