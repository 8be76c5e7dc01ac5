//! The directory that a training run makes.

use super::card;
use super::curve;
use super::network::{Trained, Trainee};
use super::record::RunRecord;
use super::run::Outcome;
use crate::adapter;
use crate::checkpoint::{self, Changes, Staging};
use crate::error::Result;
use crate::head::{HEADS, TEMPERATURE, Task};
use serde_json::{Map, json};

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
        (
            "README.md",
            card::write(record, trainee, outcome, out.target()),
        ),
        ("metrics.json", format!("{metrics:#}\n")),
        (
            "loss.svg",
            curve::draw(&outcome.history, outcome.kept, record.score)?,
        ),
    ];
    let source = trainee.source();
    let mut config = Map::new();
    if let Some(temperature) = source.config.get(TEMPERATURE) {
        config.insert(TEMPERATURE.into(), temperature.clone());
    }
    if let Trained::Adapter { scale, dropout } = trainee.trained() {
        // Heads of the model that are older stay there.
        let mut heads = Task::list(&source.config)?;
        heads.retain(|task| Some(&task.name) == trainee.task().map(|own| &own.name));
        if !heads.is_empty() {
            config.insert(HEADS.into(), json!(heads));
        }
        let base = (source.name.as_str(), source.digest.get());
        let (text, (name, tensors)) =
            adapter::files((scale, *dropout), base, config, trainee.stored()?);
        files.push(("adapter_config.json", text));
        let digest = checkpoint::write_directory(out, (name, &tensors), &files)?;
        return Ok((name, digest));
    }
    let mut heads = Task::list(&source.config)?;
    let left_behind = trainee.left_behind()?;
    heads
        .iter_mut()
        .for_each(|task| task.stale |= left_behind.contains(task));
    if !heads.is_empty() {
        config.insert(HEADS.into(), json!(heads));
    }
    if source.config.has("torch_dtype") {
        config.insert("torch_dtype".into(), json!("float32"));
    }
    let changes = Changes {
        config,
        tensors: trainee.stored()?,
        files,
    };
    let digest = checkpoint::write_model(out, source, changes, |_| Ok(()))?;
    Ok(("model.safetensors", digest))
}
