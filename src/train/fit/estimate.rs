//! What a training run will take.

use super::Prepared;
use crate::error::Result;
use std::time::{Duration, Instant};

/// Bytes of activations for each base of a part, each layer and each unit of width.
const ACTIVATION: u64 = 100;
/// Copies of the parameters: values, gradient, two moments, best values.
const COPIES: u64 = 5;
/// Time in which speed is measured, at least.
const MEASURED: Duration = Duration::from_millis(200);

/// An estimate of a run, before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Values that change.
    pub parameters: u64,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Bases that these steps read, at most.
    pub bases: u64,
    /// Bases that all evaluations read.
    pub evaluated: u64,
    /// Bases that the test reads.
    pub tested: u64,
    /// Bytes of memory besides the weights as they were read: genomes and labels, five copies of the
    /// parameters, activations.
    pub memory: u64,
}

impl Estimate {
    /// Seconds of a run at so many bases a second in training. A gradient takes two times as long as
    /// what it is of, so that an evaluation takes a third.
    pub fn seconds(&self, speed: f64) -> f64 {
        (self.bases as f64 + (self.evaluated + self.tested) as f64 / 3.0) / speed
    }
}

impl Prepared {
    /// What the run will take.
    pub fn estimate(&self) -> Estimate {
        let (plan, pace) = (&self.plan, &self.pace);
        let part = pace.bases.div_ceil(plan.parts.max(1) as u64);
        let parameters = self.trainee.size() as u64;
        let (layers, width) = (self.facts.layers as u64, self.facts.width as u64);
        let activations = part * pace.strands * layers.max(1) * width * ACTIVATION;
        let steps = plan.schedule.steps;
        let evaluations = steps.div_ceil(plan.evaluate_every.max(1)) + 1;
        let [held_out, tested] = pace.held_back;
        Estimate {
            parameters,
            steps,
            bases: pace.bases.saturating_mul(steps),
            evaluated: held_out.saturating_mul(evaluations),
            tested,
            memory: pace.bytes + 4 * COPIES * parameters + activations,
        }
    }

    /// Bases that training reads in a second, by computing parts of steps with their gradients. The
    /// run itself must not follow: what was read here would not be read again.
    pub fn measure(mut self) -> Result<f64> {
        let network = self.trainee.network(true)?;
        let mut part = || -> Result<u64> {
            self.objective.draw(self.plan.parts)?;
            let loss = self.objective.loss(&network, 0)?;
            loss.output.backward(loss.seed)?;
            network.device.synchronize()?;
            Ok(loss.bases)
        };
        // The first one makes what later ones keep: on a GPU that takes longer than they do.
        part()?;
        let (start, mut bases) = (Instant::now(), part()?);
        while start.elapsed() < MEASURED {
            bases += part()?;
        }
        Ok(bases as f64 / start.elapsed().as_secs_f64())
    }
}
