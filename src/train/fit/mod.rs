//! A training run from what is asked to what is written: data, objective, plan, records.

mod adapt;
mod estimate;
mod identity;
mod lesson;
mod material;
mod read_before;
mod request;

pub use adapt::adapt;
pub use estimate::Estimate;
pub use material::Material;
pub use request::{Lesson, Request, Steps, Tracking};

use super::{
    Baseline, DataFile, Evaluation, Objective, Outcome, Plan, Report, RunRecord, Saving, Trained,
    Trainee, card, linear_start, run, write,
};
use crate::checkpoint::{Checkpoint, Staging};
use crate::encoder::Facts;
use crate::error::Result;
use crate::head::{Link, Task};
use crate::ops::Device;
use lesson::Pace;
use serde_json::{Map, Value, json};

/// A run that can begin: everything was read and checked.
pub struct Prepared {
    trainee: Trainee,
    objective: Box<dyn Objective>,
    facts: Facts,
    /// How it trains.
    pub plan: Plan,
    /// What the score is: `bits per base`.
    pub score: &'static str,
    name: &'static str,
    pace: Pace,
    start: Map<String, Value>,
    files: Vec<(&'static str, DataFile)>,
    held_back: [Vec<String>; 2],
    device: [String; 2],
    settings: Map<String, Value>,
    /// The temperature that is best on held-out data is applied.
    calibrate: bool,
    /// Files that the model at the start had read.
    read_before: Vec<Value>,
    /// What a user should know of what is held out, and of heads.
    warnings: Vec<String>,
}

/// Where a run computes: the devices, of which there is one at least, their name, and what matrix
/// products multiply.
pub type Computer = (Vec<Device>, [String; 2]);

/// Reads the data and prepares to train `start`. `open` opens the devices; it is told why the run
/// cannot be on a GPU, if that is so. A step has a part for each of them at least.
///
/// Memory: the genomes, one byte a base, with their labels, or the sequences; and the parameters.
///
/// # Errors
/// Those of the files, the model and the device; Usage: what is asked cannot be.
pub fn prepare(
    request: &Request,
    start: Checkpoint,
    open: impl FnOnce(Option<&'static str>) -> Result<Computer>,
) -> Result<Prepared> {
    let material = Material::read(&request.lesson, &request.held_back, request.adapts)?;
    prepare_with(request, material, start, open)
}

/// [`prepare`] with what was read for the request's lesson already.
///
/// # Errors
/// Those of the model and the device; Usage: what is asked cannot be.
pub fn prepare_with(
    request: &Request,
    material: Material,
    start: Checkpoint,
    open: impl FnOnce(Option<&'static str>) -> Result<Computer>,
) -> Result<Prepared> {
    let identity = identity::start(&start)?;
    let record = start.record();
    let trained = request.trained.clone();
    let mut trainee = Trainee::new(start, material.task.clone(), trained, request.seed)?;
    trainee.thin_head(request.head_dropout);
    if let (Some(task), material::Data::Tables { sets, .. }) = (&material.task, &material.data)
        && let Lesson::Sequences { select, .. } = request.lesson
        && trainee.begins_as_linear()
        && let Some(start) = linear_start(task, sets, select)
    {
        trainee.begin_as_linear(start);
    }
    let network = trainee.network(false)?;
    request.lesson.suits(&network.facts)?;
    let without = lesson::without_gpu(&network.facts, material.task.as_ref());
    let (devices, words) = open(without)?;
    let mut request = request.clone();
    request.steps.parts = request.steps.parts.max(devices.len());
    trainee.run_on(devices);
    let score = score(material.task.as_ref());
    let (files, held_back) = (material.files.clone(), material.held_back.clone());
    let chosen = lesson::choose(&request, material, &network.facts)?;
    let pace = chosen.pace;
    let plan = {
        let evaluation = pace.evaluation(&request.trained);
        request
            .steps
            .plan(pace.epoch, pace.step, pace.batch, evaluation)?
    };
    let mut settings = chosen.settings;
    settings.extend(shared_settings(&request, &plan));
    let mut warnings: Vec<String> = record
        .iter()
        .filter_map(|record| read_before::warning(record, &files, &held_back))
        .collect();
    for head in trainee.left_behind()? {
        warnings.push(format!(
            "the model's head \"{}\" is not trained, though its encoder is: train it again, or use \
             it with the model as it was",
            head.name
        ));
    }
    Ok(Prepared {
        trainee,
        objective: chosen.objective,
        facts: network.facts,
        plan,
        score,
        name: request.lesson.name(),
        pace,
        start: identity,
        files,
        held_back,
        device: words,
        settings,
        calibrate: request.calibrate,
        read_before: record.as_ref().map(read_before::files).unwrap_or_default(),
        warnings,
    })
}

impl Prepared {
    /// What a user should know before it begins.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The number of values that are trained.
    pub fn parameters(&self) -> usize {
        self.trainee.size()
    }

    /// SHA-256 of the values that are trained, in hex.
    pub fn digest(&self) -> String {
        self.trainee.digest()
    }

    /// All that decides the weights: what two runs must have in common to be the same run.
    pub fn identity(&self) -> Map<String, Value> {
        let [held_out, tested] = &self.held_back;
        let mut identity = self.settings.clone();
        identity.extend(self.start.clone());
        identity.extend(identity::files(&self.files));
        identity.extend(lesson::settings([
            ("crocuta", json!(env!("CARGO_PKG_VERSION"))),
            ("objective", json!(self.name)),
            ("held_out", json!(held_out)),
            ("tested", json!(tested)),
            ("device", json!(self.device)),
        ]));
        identity
    }

    /// Trains, as [`run`] does.
    pub fn train(
        &mut self,
        saving: Option<&mut Saving>,
        watch: &mut dyn FnMut(&Report) -> Result<()>,
    ) -> Result<Outcome> {
        let objective = self.objective.as_mut();
        run(&mut self.trainee, objective, &self.plan, saving, watch)
    }

    /// Tests what was trained, and completes the directory `out` with it; as [`write()`].
    pub fn write(
        mut self,
        outcome: &Outcome,
        (command, license): (String, Option<String>),
        out: Staging,
    ) -> Result<Written> {
        let temperature = outcome.evaluation.as_ref().filter(|_| self.calibrate);
        let temperature = temperature.and_then(|found| found.metrics.get("temperature")?.as_f64());
        if let Some(temperature) = temperature {
            self.trainee.cool(temperature)?;
        }
        let [held_out, tested] = self.held_back;
        let mut warnings = self.warnings;
        if self.calibrate && temperature.is_none() {
            warnings.push(
                "--calibrate changed nothing: no temperature was found, for nothing is held out, or \
                 what is predicted has none"
                    .to_string(),
            );
        }
        let test = self.objective.test(&self.trainee.network(false)?)?;
        let baselines = self.objective.baselines()?;
        warnings.extend(findings(outcome, test.as_ref(), &baselines));
        let record = RunRecord {
            objective: self.name,
            score: self.score,
            command,
            license,
            data: self.files.into_iter().map(|(_, source)| source).collect(),
            held_out,
            tested,
            device: self.device,
            settings: self.settings,
            test,
            baselines,
            read_before: self.read_before,
            warnings,
            temperature,
        };
        let (name, digest) = write(&self.trainee, &record, outcome, out)?;
        Ok(Written {
            name,
            digest,
            summary: summary(outcome, &record),
            warnings: record.warnings,
        })
    }
}

/// What a run has written.
pub struct Written {
    /// The file of weights.
    pub name: &'static str,
    /// Its SHA-256.
    pub digest: String,
    /// What was measured, in lines of words: the test's last.
    pub summary: Vec<String>,
    /// What a user should know, which stands in the card too.
    pub warnings: Vec<String>,
}

/// What the measures say that a user should not overlook.
fn findings(outcome: &Outcome, test: Option<&Evaluation>, baselines: &[Baseline]) -> Vec<String> {
    let mut found = Vec::new();
    let own = test.or(outcome.evaluation.as_ref());
    if let Some(predicted) = own.and_then(|own| own.metrics.get("predicted")?.as_object()) {
        let ever = |(_, n): &(&String, &Value)| n.as_u64() != Some(0);
        let mut classes = predicted.iter().filter(ever);
        if let (Some((class, _)), None) = (classes.next(), classes.next()) {
            found.push(format!(
                "the model that was kept predicts one class, {class}, for every held-out sequence"
            ));
        }
    }
    let mcc = |found: &Evaluation| found.metrics.get("mcc")?.as_f64();
    let simple = baselines.iter().filter_map(|baseline| {
        let found = baseline.test.as_ref().or(baseline.evaluation.as_ref())?;
        Some((baseline.name, mcc(found)?))
    });
    let best = simple.max_by(|a, b| a.1.total_cmp(&b.1));
    if let (Some((name, simple)), Some(own)) = (best, own.and_then(mcc))
        && simple >= own
    {
        found.push(format!(
            "a linear model of {name} is no worse: MCC {simple:.3}, this model {own:.3}"
        ));
    }
    found
}

/// Tracks of values whose measures a line has.
const TRACKS: usize = 3;

/// The measures that a reader compares, in a line.
fn measures(found: &Evaluation) -> String {
    let names = [
        "bits_per_base",
        "mcc",
        "accuracy",
        "auroc",
        "spearman",
        "cross_entropy_bits",
        "mean_squared_error",
    ];
    // Of tracks of values, each has its own.
    let own = found.metrics.keys().map(String::as_str);
    let own = own.filter(|name| name.starts_with("spearman_") && !name.ends_with("_ci95"));
    let shown = names
        .into_iter()
        .chain(own.take(TRACKS))
        .filter_map(|name| {
            let value = card::shown(found.metrics.get(name)?);
            let interval = match found.metrics.get(&format!("{name}_ci95")) {
                None => String::new(),
                Some(Value::Null) => " (no 95 % interval)".to_string(),
                Some(interval) => format!(" ({})", card::shown(interval)),
            };
            Some(format!("{} {value}{interval}", name.replace('_', " ")))
        });
    shown.collect::<Vec<_>>().join(", ")
}

/// What was measured, in lines: on held-out data, of simple models, and last on the test.
fn summary(outcome: &Outcome, record: &RunRecord) -> Vec<String> {
    let mut lines = Vec::new();
    for baseline in &record.baselines {
        if let Some(found) = baseline.test.as_ref().or(baseline.evaluation.as_ref()) {
            lines.push(format!(
                "linear model, {}: {}",
                baseline.name,
                measures(found)
            ));
        }
    }
    if let Some(found) = &outcome.evaluation {
        lines.push(format!(
            "held out, after step {}: {}",
            outcome.kept,
            measures(found)
        ));
    }
    lines.extend(
        record
            .test
            .as_ref()
            .map(|found| format!("test: {}", measures(found))),
    );
    lines
}

/// What the score of a task is.
fn score(task: Option<&Task>) -> &'static str {
    match task {
        None => "bits per base",
        Some(task) if task.link == Link::Identity => "squared error",
        Some(_) => "bits",
    }
}

/// The settings that all lessons have.
fn shared_settings(request: &Request, plan: &Plan) -> Map<String, Value> {
    let trained = match &request.trained {
        Trained::All => json!("all"),
        Trained::Head => json!("head"),
        Trained::Adapter { scale, dropout } => {
            json!({"lora": scale.rank, "alpha": scale.alpha, "dropout": dropout})
        }
    };
    lesson::settings([
        ("trained", trained),
        ("accumulate", json!(plan.parts)),
        ("steps", json!(plan.schedule.steps)),
        ("learning_rate", json!(plan.schedule.peak)),
        ("warm_up", json!(plan.schedule.warm_up)),
        ("last_rate", json!(plan.schedule.last)),
        ("weight_decay", json!(plan.decay)),
        ("clip", json!(plan.clip)),
        ("evaluate_every", json!(plan.evaluate_every)),
        ("patience", json!(plan.patience)),
        ("head_dropout", json!(request.head_dropout)),
        ("calibrate", json!(request.calibrate)),
        ("seed", json!(request.seed)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_measures_names_what_is_missing_and_is_never_empty() {
        let line = |metrics: Value| {
            let metrics = metrics.as_object().cloned().unwrap_or_default();
            measures(&Evaluation::by_loss(1.0, metrics))
        };
        assert_eq!(
            line(json!({"bits_per_base": 1.7471, "bits_per_base_ci95": null})),
            "bits per base 1.747 (no 95 % interval)"
        );
        assert_eq!(
            line(
                json!({"mean_squared_error": 0.25, "mean_squared_error_ci95": [0.2, 0.3],
                        "spearman_w": 0.5, "spearman_w_ci95": null})
            ),
            "mean squared error 0.2500 (0.2000 to 0.3000), spearman w 0.5000 (no 95 % interval)"
        );
    }
}
