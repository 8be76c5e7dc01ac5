//! The parameters that are trained, and the model that they make.

use super::sampler::generator;
use crate::adapter::{self, Scale};
use crate::checkpoint::{Checkpoint, Config, Weights};
use crate::encoder::{Facts, Model};
use crate::error::{Error, Kind, Result};
use crate::head::{HEADS, LanguageModel, PAIR_WEIGHT, TEMPERATURE, Task, TaskHead};
use crate::io::sha256::hex;
use crate::ops::{Device, Tensor, gate};
use rand::Rng;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Which values change.
#[derive(Clone, Debug, PartialEq)]
pub enum Trained {
    /// All of the model.
    All,
    /// A task's head.
    Head,
    /// A task's head, if there is one, and low-rank adapters of the encoder's linear layers.
    Adapter {
        /// How strong they are.
        scale: Scale,
        /// The part of the inputs of each that is left out of a step.
        dropout: f64,
    },
}

/// A checkpoint whose values change.
pub struct Trainee {
    source: Checkpoint,
    trained: Trained,
    task: Option<Task>,
    shapes: BTreeMap<String, Vec<usize>>,
    /// One at least.
    devices: Vec<Device>,
    /// The part of the inputs of the head's first of two layers that is left out of a step.
    head_dropout: f64,
    /// What the inputs that are left out follow from: the seed and the step.
    drawn: (u64, u64),
    /// The parameters by name, row-major.
    pub values: BTreeMap<String, Vec<f32>>,
}

/// A model at one moment of training.
pub struct Network {
    /// The configuration, with the weights of this moment.
    pub checkpoint: Checkpoint,
    /// The encoder.
    pub model: Model,
    /// What is known of it.
    pub facts: Facts,
    /// The parameters, to ask [`crate::ops::Gradients`] for. They lie in memory.
    pub parameters: BTreeMap<String, Tensor>,
    /// Where it runs: where its tokens are to lie.
    pub device: Device,
    task: Option<Task>,
}

impl Trainee {
    /// Prepares a model, and a head for `task`: the model's own of that name, or one of zeros.
    /// Adapters begin at random places that follow from the seed, and change nothing at first.
    ///
    /// # Errors
    /// As [`Model::load`]; Usage if there is nothing to train.
    pub fn new(
        source: Checkpoint,
        task: Option<Task>,
        trained: Trained,
        seed: u64,
    ) -> Result<Self> {
        let (model, facts) = Model::load(&source)?;
        if task.is_none() {
            LanguageModel::load(&source, &model, &facts)?;
        }
        let unused = source.weights.unused();
        let source = match &task {
            Some(task) => with_head(source, task, facts.width, seed)?,
            None => source,
        };
        let head = match &task {
            Some(task) => task.untrained(facts.width, seed)?,
            None => BTreeMap::new(),
        };
        let mut trainee = Self {
            source,
            trained,
            task,
            shapes: BTreeMap::new(),
            devices: vec![Device::Cpu],
            head_dropout: 0.0,
            drawn: (seed, 0),
            values: BTreeMap::new(),
        };
        let weights = trainee.source.weights.clone();
        if trainee.trained == Trained::All {
            for name in weights.names() {
                let fixed = facts.fixed.iter().any(|part| name.contains(part));
                let used = !unused.iter().any(|other| other == name);
                if used && !fixed && weights.is_float(name) {
                    trainee.take(name)?;
                }
            }
        }
        for name in head.keys() {
            trainee.take(name)?;
        }
        if let Trained::Adapter { scale, .. } = trainee.trained.clone() {
            for (i, module) in adapter::modules(&weights).into_iter().enumerate() {
                trainee.adapt(&module, &scale, seed, i as u64);
            }
        }
        if trainee.values.is_empty() {
            Err(Error::usage("there is nothing to train"))
        } else {
            Ok(trainee)
        }
    }

    /// Trains on these devices from now on, of which there is one at least, instead of on the CPU.
    pub fn run_on(&mut self, devices: Vec<Device>) {
        self.devices = devices;
    }

    /// Whether the head that is trained adds something for the bases at each place, and knows nothing
    /// of it yet.
    pub fn begins_as_linear(&self) -> bool {
        let pairs = |task: &Task| self.values.get(&format!("{}{PAIR_WEIGHT}", task.prefix()));
        let pairs = self.task.as_ref().and_then(pairs);
        pairs.is_some_and(|values| values.iter().all(|x| *x == 0.0))
    }

    /// Lets the head begin as a linear model of the bases at their places.
    pub fn begin_as_linear(&mut self, [weights, biases]: [Vec<f32>; 2]) {
        let prefix = self.task.as_ref().map(Task::prefix).unwrap_or_default();
        self.values
            .insert(format!("{prefix}{PAIR_WEIGHT}"), weights);
        self.values.insert(format!("{prefix}bias"), biases);
    }

    /// Leaves this part of the inputs of the head's first of two layers out of each step, other ones
    /// in each.
    pub fn thin_head(&mut self, dropout: f64) {
        self.head_dropout = dropout;
    }

    /// Begins a step: the next networks that are tracked leave out other inputs.
    pub fn begin_step(&mut self, step: u64) {
        self.drawn.1 = step;
    }

    /// How many devices it trains on.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Makes a stored tensor a parameter.
    fn take(&mut self, name: &str) -> Result<()> {
        let weights = &self.source.weights;
        let shape = weights.shape(name).unwrap_or_default().to_vec();
        let values = weights.tensor(name, &shape)?.flatten_all()?.to_vec1()?;
        self.shapes.insert(name.to_string(), shape);
        self.values.insert(name.to_string(), values);
        Ok(())
    }

    /// Adds the two factors for a linear layer (out, in): A uniform as PEFT has it, B zero.
    fn adapt(&mut self, module: &str, scale: &Scale, seed: u64, number: u64) {
        let shape = self.source.weights.shape(&format!("{module}.weight"));
        let Some(&[out, inner]) = shape else {
            return;
        };
        let mut rng = generator("adapter", seed, number);
        let bound = 1.0 / (inner as f32).sqrt();
        let a = (0..scale.rank * inner).map(|_| rng.random_range(-bound..=bound));
        for (part, shape, values) in [
            ("lora_A", [scale.rank, inner], a.collect()),
            ("lora_B", [out, scale.rank], vec![0.0; out * scale.rank]),
        ] {
            let name = format!("{module}.{part}.weight");
            self.shapes.insert(name.clone(), shape.to_vec());
            self.values.insert(name, values);
        }
    }

    /// What the training started from, with the head's place in it.
    pub fn source(&self) -> &Checkpoint {
        &self.source
    }

    /// Which values change.
    pub fn trained(&self) -> &Trained {
        &self.trained
    }

    /// The number of values that are trained.
    pub fn size(&self) -> usize {
        self.values.values().map(Vec::len).sum()
    }

    /// The model with these values, on the first device; with `tracked`, what it computes can be
    /// differentiated.
    pub fn network(&self, tracked: bool) -> Result<Network> {
        self.network_on(0, tracked)
    }

    /// The same on another one of the devices.
    pub fn network_on(&self, device: usize, tracked: bool) -> Result<Network> {
        let missing = || Error::new(Kind::Internal, "no such device");
        let device = self.devices.get(device).ok_or_else(missing)?.clone();
        let mut parameters = BTreeMap::new();
        for (name, values) in &self.values {
            let shape = self.shapes.get(name).cloned().unwrap_or_default();
            let tensor = Tensor::from_slice(values, shape, &Device::Cpu)?;
            let tensor = if tracked { tensor.parameter() } else { tensor };
            parameters.insert(name.clone(), tensor);
        }
        let mut replaced = parameters.clone();
        if let Some(task) = self
            .task
            .as_ref()
            .filter(|_| tracked && self.head_dropout > 0.0)
        {
            let name = format!("{}hidden.weight", task.prefix());
            if let Some(weight) = parameters.get(&name) {
                replaced.insert(name, self.thinned(weight, self.head_dropout, u64::MAX)?);
            }
        }
        if let Trained::Adapter { scale, dropout } = &self.trained {
            replaced.retain(|name, _| !name.contains(".lora_"));
            for (number, (name, a)) in parameters.iter().enumerate() {
                let Some(module) = name.strip_suffix(".lora_A.weight") else {
                    continue;
                };
                let weight = format!("{module}.weight");
                let b = parameters.get(&format!("{module}.lora_B.weight"));
                let shape = self.source.weights.shape(&weight);
                if let (Some(b), Some(shape)) = (b, shape) {
                    let base = self.source.weights.tensor(&weight, shape)?;
                    let adapted = if tracked && *dropout > 0.0 {
                        let a = self.thinned(a, *dropout, number as u64)?;
                        scale.adapt(&base, &a, b)?
                    } else {
                        scale.adapt(&base, a, b)?
                    };
                    replaced.insert(weight, adapted);
                }
            }
        }
        let checkpoint = self.source.with(self.source.weights.replacing(replaced));
        let (model, facts) = Model::load(&checkpoint)?;
        Ok(Network {
            checkpoint,
            model,
            facts,
            parameters,
            device,
            task: self.task.clone(),
        })
    }

    /// SHA-256 of the parameters' names and values, in hex.
    pub fn digest(&self) -> String {
        let mut sum = Sha256::new();
        for (name, values) in &self.values {
            sum.update(name);
            values
                .iter()
                .for_each(|value| sum.update(value.to_le_bytes()));
        }
        hex(&sum.finalize())
    }

    /// A matrix (out, in) without some of its columns, which leaves those inputs out of a step; the
    /// others count more in turn. The same ones for all rows of a step: the product is added to
    /// the weight before anything is computed of it. Srivastava et al. 2014 (JMLR 15:1929).
    fn thinned(&self, a: &Tensor, dropout: f64, number: u64) -> Result<Tensor> {
        let (rank, inputs) = a.dims2()?;
        let (seed, step) = self.drawn;
        let mut rng = generator(&format!("dropout {number}"), seed, step);
        let kept = (1.0 / (1.0 - dropout)) as f32;
        let columns: Vec<f32> = (0..inputs)
            .map(|_| if rng.random_bool(dropout) { 0.0 } else { kept })
            .collect();
        let mask = Tensor::from_vec(columns.repeat(rank), (rank, inputs), &Device::Cpu)?;
        gate((a, 0), (&mask, 0), inputs)
    }

    /// Divides the logits by a temperature from now on: those of the head that is trained, by all that
    /// adds to them; else those of the language model, by what its configuration says.
    ///
    /// # Errors
    /// Model: the configuration says something else than a temperature.
    pub fn cool(&mut self, temperature: f64) -> Result<()> {
        if let Some(task) = &self.task {
            let prefix = task.prefix();
            for part in ["weight", "bias", PAIR_WEIGHT] {
                if let Some(values) = self.values.get_mut(&format!("{prefix}{part}")) {
                    values.iter_mut().for_each(|x| *x /= temperature as f32);
                }
            }
            return Ok(());
        }
        let before = self.source.config.number(TEMPERATURE, Some(1.0))?;
        let mut config = self.source.config.as_json().clone();
        config.insert(TEMPERATURE.to_string(), json!(before * temperature));
        let name = self.source.dir.join("config.json");
        self.source.config = Config::new(name.display(), config);
        Ok(())
    }

    /// The model with these values; heads that were not trained are stale.
    ///
    /// # Errors
    /// Those of the model.
    pub fn adapted(&self) -> Result<Checkpoint> {
        let mut tensors = self.source.weights.stored().clone();
        tensors.extend(self.stored()?);
        let weights = Weights::new(self.source.dir.display(), tensors);
        let mut adapted = self.source.with(weights);
        let mut heads = Task::list(&self.source.config)?;
        let behind = self.left_behind()?;
        heads
            .iter_mut()
            .for_each(|task| task.stale |= behind.contains(task));
        if !heads.is_empty() {
            let mut config = self.source.config.as_json().clone();
            config.insert(HEADS.to_string(), json!(heads));
            let name = self.source.dir.join("config.json");
            adapted.config = Config::new(name.display(), config);
        }
        Ok(adapted)
    }

    /// The task that is trained.
    pub fn task(&self) -> Option<&Task> {
        self.task.as_ref()
    }

    /// The heads of the model that this training leaves aside, though it changes their encoder.
    ///
    /// # Errors
    /// Model: the configuration lists no heads.
    pub fn left_behind(&self) -> Result<Vec<Task>> {
        if self.trained == Trained::Head {
            return Ok(Vec::new());
        }
        let trained = self.task.as_ref().map(|task| task.name.as_str());
        let mut others = Task::list(&self.source.config)?;
        others.retain(|task| Some(task.name.as_str()) != trained);
        Ok(others)
    }

    /// The parameters as a file stores them.
    pub fn stored(&self) -> Result<BTreeMap<String, candle_core::Tensor>> {
        let network = self.network(false)?;
        let tensors = network.parameters.iter();
        tensors
            .map(|(name, tensor)| Ok((name.clone(), tensor.stored()?)))
            .collect()
    }

    /// Takes up values that were saved.
    ///
    /// # Errors
    /// Usage: they are of another model.
    pub fn restore(&mut self, values: BTreeMap<String, Vec<f32>>) -> Result<()> {
        let sizes = |values: &BTreeMap<String, Vec<f32>>| {
            let sizes = values.iter();
            let sizes = sizes.map(|(name, values)| (name.clone(), values.len()));
            sizes.collect::<Vec<_>>()
        };
        if sizes(&values) == sizes(&self.values) {
            self.values = values;
            Ok(())
        } else {
            Err(Error::usage("the saved parameters are another model's"))
        }
    }
}

/// The checkpoint with a place for the task's head.
fn with_head(source: Checkpoint, task: &Task, width: usize, seed: u64) -> Result<Checkpoint> {
    let mut tensors = source.weights.stored().clone();
    let fresh = |own: &Task| Task {
        stale: false,
        ..own.clone()
    };
    let known = Task::list(&source.config)?;
    let own = known.iter().any(|own| fresh(own) == *task);
    match known.iter().find(|own| own.name == task.name) {
        Some(head) if own => tracing::info!("the model's head \"{}\" is trained on", head.name),
        Some(head) => {
            let name = &head.name;
            tracing::warn!("the model's head \"{name}\" is another one: a new one takes its place");
        }
        None => {}
    }
    if !own {
        // One of this name may be of another shape, with tensors that the new one has not.
        tensors.retain(|name, _| !name.starts_with(&task.prefix()));
    }
    for (name, untrained) in task.untrained(width, seed)? {
        if !own || source.weights.shape(&name) != Some(untrained.dims()) {
            tensors.insert(name, untrained);
        }
    }
    let mut config = source.config.as_json().clone();
    config.insert(HEADS.to_string(), task.listed(&source.config)?);
    let mut changed = source.with(Weights::new(source.dir.display(), tensors));
    changed.config = Config::new(source.dir.join("config.json").display(), config);
    Ok(changed)
}

impl Network {
    /// The language-model head.
    pub fn language_model(&self) -> Result<LanguageModel> {
        LanguageModel::load(&self.checkpoint, &self.model, &self.facts)
    }

    /// The head of the task that is trained.
    pub fn head(&self) -> Result<TaskHead> {
        match &self.task {
            Some(task) => task.load(&self.checkpoint.weights, self.facts.width),
            None => Err(Error::new(Kind::Internal, "the model has no head to train")),
        }
    }
}

/// An error for a state of training that another objective saved.
pub(super) fn foreign() -> Error {
    Error::new(Kind::Internal, "the saved state is another objective's")
}

#[cfg(test)]
mod tests;
