//! A training run from what is asked to what is written: data, objective, plan, records.

mod estimate;
mod identity;
mod lesson;
mod material;
mod request;

pub use estimate::Estimate;
pub use material::Material;
pub use request::{Lesson, Request, Steps, Tracking};

use super::{
    DataFile, Objective, Outcome, Plan, Report, RunRecord, Saving, Trained, Trainee, record, run,
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
    let material = Material::read(&request.lesson, &request.held_back)?;
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
    let trained = request.trained.clone();
    let mut trainee = Trainee::new(start, material.task.clone(), trained, request.seed)?;
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
    let plan = request.steps.plan(pace.epoch, pace.step, pace.batch)?;
    let mut settings = chosen.settings;
    settings.extend(shared_settings(&request, &plan));
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
    })
}

impl Prepared {
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
        saving: &mut Saving,
        watch: &mut dyn FnMut(&Report) -> Result<()>,
    ) -> Result<Outcome> {
        let objective = self.objective.as_mut();
        run(&mut self.trainee, objective, &self.plan, saving, watch)
    }

    /// Tests what was trained, and completes the directory `out` with it; as [`record::write`].
    pub fn write(
        self,
        outcome: &Outcome,
        command: String,
        license: Option<String>,
        out: Staging,
    ) -> Result<(&'static str, String)> {
        let [held_out, tested] = self.held_back;
        let test = self.objective.test(&self.trainee.network(false)?)?;
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
        };
        record::write(&self.trainee, &record, outcome, out)
    }
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
        Trained::Adapter(scale) => json!({"lora": scale.rank, "alpha": scale.alpha}),
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
        ("seed", json!(request.seed)),
    ])
}
