//! What every command has open: the model on its device.

use super::device::{self, Load};
use super::estimate::Estimate;
use super::options::{Compute, Precision};
use crate::adapter;
use crate::checkpoint::Checkpoint;
use crate::encoder::{Facts, Layer, Model};
use crate::error::Result;
use crate::ops::Device;
use crate::stream::{Engine, Windows, go_on};
use crate::train;
use std::path::Path;

/// A model that was loaded, not yet on its device.
pub struct Loaded {
    /// Configuration and weights.
    pub checkpoint: Checkpoint,
    /// The encoder.
    pub model: Model,
    /// Its sizes and tokens.
    pub facts: Facts,
    /// The layers that the run computes, as [`Engine`] has them.
    pub layers: Vec<Layer>,
}

impl Loaded {
    /// Opens the model that was asked for, and builds its encoder. If none was, it is the bundled
    /// one that the adapter was trained on, or else the one of that name.
    ///
    /// # Errors
    /// Those of the checkpoint and the adapters; Usage: an attention window for no attention.
    pub fn open(compute: &Compute, bundled: &str) -> Result<Self> {
        Self::adapted(compute, bundled, None)
    }

    /// The same of a model that is first trained on the FASTA file `adapt`, if there is one.
    ///
    /// # Errors
    /// As [`Loaded::open`], and those of the training.
    pub fn adapted(compute: &Compute, bundled: &str, adapt: Option<&Path>) -> Result<Self> {
        let model = match &compute.model {
            Some(model) => model,
            None => Path::new(adapter::bundled_base(&compute.adapter)?.unwrap_or(bundled)),
        };
        let mut checkpoint = adapter::with_adapters(Checkpoint::open(model)?, &compute.adapter)?;
        if let Some(fasta) = adapt {
            checkpoint = adapted(checkpoint, compute, fasta)?;
        }
        let rounded = compute.precision == Precision::Bf16;
        checkpoint.weights = checkpoint.weights.rounding(rounded);
        let (model, facts) = encoder(&checkpoint, compute)?;
        Ok(Self {
            layers: facts.default_layers(),
            checkpoint,
            model,
            facts,
        })
    }
}

/// The model brought closer to a genome.
fn adapted(checkpoint: Checkpoint, compute: &Compute, fasta: &Path) -> Result<Checkpoint> {
    let open = |without_gpu| {
        let Compute {
            device: target,
            precision,
            device_memory,
            ..
        } = compute;
        let (device, others) =
            device::open_unless(without_gpu, target, *precision, *device_memory)?;
        let trained = match device {
            Device::Cpu => Precision::F32,
            Device::Cuda(_) => *precision,
        };
        let words = [device.name(), super::name_of(trained)];
        Ok((std::iter::once(device).chain(others).collect(), words))
    };
    let (mut first, mut last) = (None, None);
    let adapted = train::adapt(checkpoint, fasta, open, &mut |report| {
        if let Some(evaluation) = report.evaluation {
            first.get_or_insert(evaluation.score);
            last = last.map_or(Some(evaluation.score), |last: f64| {
                Some(last.min(evaluation.score))
            });
            let (step, steps, score) = (report.step, report.steps, evaluation.score);
            tracing::debug!("adapting, step {step} of {steps}: {score:.4} bits per base");
        }
        go_on()
    })?;
    if let (Some(first), Some(last)) = (first, last) {
        tracing::info!(
            "adapted to {}: {first:.4} bits per base before, {last:.4} after",
            fasta.display()
        );
    }
    Ok(adapted)
}

/// The encoder of a checkpoint, as the options want it.
fn encoder(checkpoint: &Checkpoint, compute: &Compute) -> Result<(Model, Facts)> {
    let (mut model, mut facts) = Model::load(checkpoint)?;
    if let Some(window) = compute.attention_window {
        model.set_attention_window(Some(window as usize), &mut facts)?;
    }
    Ok((model, facts))
}

/// A model as it runs.
pub struct Session {
    /// Configuration and weights.
    pub checkpoint: Checkpoint,
    /// The encoder on its device.
    pub engine: Engine,
    /// The same on each of the other devices.
    pub others: Vec<Engine>,
    /// Tokens of a step.
    pub chunk: usize,
    /// Windows that are read with an empty state each; none: the state is carried.
    pub windows: Option<Windows>,
    /// What a run takes.
    pub estimate: Estimate,
    /// What a user should know, besides what the model's files say.
    pub notes: Vec<String>,
}

impl Session {
    /// Brings a model to the devices that were asked for. `on_cpu`: this run cannot be on a GPU.
    ///
    /// # Errors
    /// As [`device::open`] and [`device::chunk`].
    pub fn open(
        loaded: Loaded,
        compute: &Compute,
        on_cpu: Option<&str>,
        load: Load,
    ) -> Result<Self> {
        let Loaded {
            checkpoint,
            model,
            facts,
            layers,
        } = loaded;
        let (windows, notes) = compute.windows(&facts)?;
        let (device, others) = device::open(compute, &facts, on_cpu)?;
        let engine = Engine {
            device,
            model,
            facts,
            layers,
        };
        let mut chunk = device::chunk(compute.chunk, &engine, load)?;
        let others = others.into_iter().map(|device| {
            // What ops keep on a device is their model's.
            let (model, facts) = encoder(&checkpoint, compute)?;
            let engine = Engine {
                device,
                model,
                facts,
                layers: engine.layers.clone(),
            };
            chunk = chunk.min(device::chunk(compute.chunk, &engine, load)?);
            Ok(engine)
        });
        let others = others.collect::<Result<_>>()?;
        Ok(Self {
            checkpoint,
            engine,
            others,
            chunk,
            windows,
            estimate: Estimate::default(),
            notes,
        })
    }

    /// Says which model runs, and what a user should know of it; not its digest, which is summed up
    /// while the run goes on.
    pub fn announce(&self) {
        let Checkpoint { name, origin, .. } = &self.checkpoint;
        tracing::info!("model {name} ({origin})");
        self.warn();
    }

    /// The model's name, where it comes from, and the beginning of its digest.
    pub fn named(&self) -> String {
        let Checkpoint {
            name,
            origin,
            digest,
            ..
        } = &self.checkpoint;
        let digest = digest.get();
        let short = digest.get(..12).unwrap_or(digest);
        format!("{name} ({origin}), sha256 {short}")
    }

    /// Says what a user should know of the model.
    pub fn warn(&self) {
        let name = &self.checkpoint.name;
        let unused = self.checkpoint.unused();
        if let Some(first) = unused.first() {
            let n = unused.len();
            tracing::warn!("{name}: {n} tensors are not used, such as {first}");
        }
        if let Some(note) = &self.engine.facts.note {
            tracing::warn!("{name}: {note}");
        }
        for note in &self.notes {
            tracing::warn!("{note}");
        }
    }

    /// Tokens of a step, or of a window if that is longer.
    pub fn tokens(&self) -> u64 {
        let window = self.windows.map_or(0, |windows| windows.size);
        self.chunk.max(window) as u64
    }

    /// The devices in words, and as tables and summaries name them.
    pub fn device(&self) -> (String, &'static str) {
        device::describe(self.engines().map(|engine| &engine.device))
    }

    /// The encoder on each of the devices.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&self.engine).chain(&self.others)
    }

    /// The devices in words.
    pub fn place(&self) -> String {
        self.device().0
    }
}
