//! The training loop: the same for every objective.

use super::network::{Network, Trainee};
use super::objective::{Evaluation, Objective};
use super::optimiser::{AdamW, Schedule, norm};
use super::saved::{Best, Point, Saved, Saving};
use crate::error::{Error, Result};
use crate::io::threads::start_in;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

/// How to train.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Learning rates and the number of steps.
    pub schedule: Schedule,
    /// Parts in which a step is computed, one after the other: memory is that of one part.
    pub parts: usize,
    /// Weight decay.
    pub decay: f64,
    /// Gradients longer than this are shortened to it.
    pub clip: f64,
    /// Steps between evaluations.
    pub evaluate_every: u64,
    /// Ends after so many evaluations in a row without a better one.
    pub patience: Option<u64>,
}

/// How far a run has come, after each step.
pub struct Report<'a> {
    /// Steps done.
    pub step: u64,
    /// Steps planned.
    pub steps: u64,
    /// Bases read since the very start.
    pub bases: u64,
    /// Mean loss of the step; none before the first one.
    pub loss: Option<f64>,
    /// What was measured at this step, if anything.
    pub evaluation: Option<&'a Evaluation>,
}

/// What a run leaves.
pub struct Outcome {
    /// Steps done.
    pub steps: u64,
    /// Bases read.
    pub bases: u64,
    /// Seconds of training, evaluations included, breaks not.
    pub seconds: f64,
    /// The curve.
    pub history: Vec<Point>,
    /// The step whose parameters were kept.
    pub kept: u64,
    /// What was measured on held-out data with them.
    pub evaluation: Option<Evaluation>,
}

/// Trains: the trainee holds the best parameters afterwards, by the objective's score, or the
/// last ones if nothing is held out.
///
/// `watch` is told of each step; if it returns an error, the run is saved, if it is to be, and ends
/// with it.
///
/// # Errors
/// Usage: the loss is no longer a number. Else those of the model, the data and the saving.
pub fn run(
    trainee: &mut Trainee,
    objective: &mut dyn Objective,
    plan: &Plan,
    mut saving: Option<&mut Saving>,
    watch: &mut dyn FnMut(&Report) -> Result<()>,
) -> Result<Outcome> {
    let started = Instant::now();
    let found = match saving.as_deref_mut() {
        Some(saving) => saving.load()?,
        None => None,
    };
    let mut at = match found {
        Some(saved) => {
            objective.restore(&saved.objective)?;
            trainee.restore(saved.values.clone())?;
            saved
        }
        None => Saved::new(AdamW::new(plan.decay)),
    };
    let before = at.seconds;
    let steps = plan.schedule.steps;
    if at.history.is_empty() {
        // What training starts from is the first to beat.
        let evaluation = evaluate(trainee, objective, &mut at)?;
        watch(&Report {
            step: 0,
            steps,
            bases: 0,
            loss: None,
            evaluation: evaluation.as_ref(),
        })?;
    }
    while at.step < steps && !stopped(&at, plan) {
        let loss = step(trainee, objective, plan, &mut at)?;
        at.step += 1;
        at.seconds = before + started.elapsed().as_secs_f64();
        let due = at.step.is_multiple_of(plan.evaluate_every) || at.step == steps;
        let evaluation = if due {
            evaluate(trainee, objective, &mut at)?
        } else {
            None
        };
        let watched = watch(&Report {
            step: at.step,
            steps,
            bases: at.bases,
            loss: Some(loss),
            evaluation: evaluation.as_ref(),
        });
        if let Some(saving) = saving.as_deref_mut()
            && (watched.is_err() || saving.is_due())
        {
            at.values.clone_from(&trainee.values);
            at.objective = objective.save()?;
            saving.store(&at)?;
        }
        watched?;
    }
    let kept = at.best.as_ref().map_or(at.step, |best| best.step);
    if let Some(best) = at.best.take() {
        trainee.restore(best.values)?;
    }
    let evaluation = objective.evaluate(&trainee.network(false)?, true)?;
    Ok(Outcome {
        steps: at.step,
        bases: at.bases,
        seconds: before + started.elapsed().as_secs_f64(),
        history: at.history,
        kept,
        evaluation,
    })
}

fn stopped(at: &Saved, plan: &Plan) -> bool {
    plan.patience.is_some_and(|patience| at.worse >= patience)
}

/// One step of the optimiser; the mean loss.
fn step(
    trainee: &mut Trainee,
    objective: &mut dyn Objective,
    plan: &Plan,
    at: &mut Saved,
) -> Result<f64> {
    objective.draw(plan.parts)?;
    trainee.begin_step(at.step);
    let devices: Vec<usize> = (0..trainee.devices()).collect();
    let networks = side_by_side(&devices, |&device| trainee.network_on(device, true))?;
    let mut gradients: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let (mut sum, mut count) = (0.0, 0);
    let parts: Vec<usize> = (0..plan.parts).collect();
    // Each device has one part at a time, and always the same ones; their sum is in the order of
    // the parts, on however many devices.
    for round in parts.chunks(networks.len()) {
        let on: Vec<(&Network, usize)> = networks.iter().zip(round.iter().copied()).collect();
        let objective = &*objective;
        let learned = side_by_side(&on, |&(network, part)| {
            let learned = learn(objective, network, part);
            learned.map_err(|error| error.file(network.device.name()))
        });
        for part in learned? {
            sum += part.sum;
            count += part.count;
            at.bases += part.bases;
            add(part.gradients, &mut gradients);
        }
    }
    if at.step == 0 && count > 0 {
        every_parameter_counts(&networks[0], &gradients)?;
    }
    let mean = sum / count.max(1) as f64;
    let length = norm(gradients.values().map(Vec::as_slice)) / count.max(1) as f64;
    if !mean.is_finite() || !length.is_finite() {
        let what = format!("the loss is not a number at step {}", at.step + 1);
        return Err(Error::usage(what).todo("give a lower --learning-rate"));
    }
    at.sum += sum;
    at.count += count;
    let shortened = if length > plan.clip {
        plan.clip / length
    } else {
        1.0
    };
    let factor = (shortened / count.max(1) as f64) as f32;
    let rate = plan.schedule.rate(at.step);
    at.optimiser.begin_step();
    for (name, mut gradient) in gradients {
        gradient.iter_mut().for_each(|x| *x *= factor);
        if let Some(values) = trainee.values.get_mut(&name) {
            at.optimiser.update(&name, values, &gradient, rate);
        }
    }
    Ok(mean)
}

/// An error if the loss does not depend on one of the parameters, which would never change.
fn every_parameter_counts(network: &Network, gradients: &BTreeMap<String, Vec<f32>>) -> Result<()> {
    let mut names = network.parameters.keys();
    match names.find(|name| !gradients.contains_key(*name)) {
        Some(name) => Err(Error::usage(format!(
            "{name} cannot be trained: the loss does not depend on it"
        ))),
        None => Ok(()),
    }
}

/// What a device has learned of one part of a step.
struct Learned {
    sum: f64,
    count: u64,
    bases: u64,
    /// Of each parameter that the output depends on.
    gradients: Vec<(String, Vec<f32>)>,
}

/// The loss of one part of a step, and its gradients.
fn learn(objective: &dyn Objective, network: &Network, part: usize) -> Result<Learned> {
    let loss = objective.loss(network, part)?;
    let mut gradients = Vec::new();
    if loss.count > 0 {
        let found = loss.output.backward(loss.seed)?;
        for (name, parameter) in &network.parameters {
            if let Some(gradient) = found.of(parameter) {
                gradients.push((name.clone(), gradient.flatten_all()?.to_vec1()?));
            }
        }
    }
    Ok(Learned {
        sum: loss.sum,
        count: loss.count,
        bases: loss.bases,
        gradients,
    })
}

/// Adds one part's gradients.
fn add(found: Vec<(String, Vec<f32>)>, gradients: &mut BTreeMap<String, Vec<f32>>) {
    for (name, gradient) in found {
        match gradients.get_mut(&name) {
            Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x),
            None => {
                gradients.insert(name, gradient);
            }
        }
    }
}

/// Runs each on a thread of its own, unless it is alone; the results in their order.
fn side_by_side<T: Sync, O: Send>(
    all: &[T],
    run: impl Fn(&T) -> Result<O> + Sync,
) -> Result<Vec<O>> {
    if let [alone] = all {
        return Ok(vec![run(alone)?]);
    }
    let run = &run;
    thread::scope(|scope| {
        let threads = all.iter().map(|one| start_in(scope, move || run(one)));
        let threads: Vec<_> = threads.collect::<Result<_>>()?;
        let results = threads.into_iter().map(|thread| {
            let joined = thread.join();
            joined.unwrap_or_else(|panic| resume_unwind(panic))
        });
        results.collect()
    })
}

/// Measures, and keeps the parameters if they are the best so far.
fn evaluate(
    trainee: &Trainee,
    objective: &dyn Objective,
    at: &mut Saved,
) -> Result<Option<Evaluation>> {
    let evaluation = objective.evaluate(&trainee.network(false)?, false)?;
    at.history.push(Point {
        step: at.step,
        bases: at.bases,
        loss: (at.count > 0).then(|| at.sum / at.count as f64),
        score: evaluation.as_ref().map(|evaluation| evaluation.score),
    });
    (at.sum, at.count) = (0.0, 0);
    if let Some(Evaluation { rank, .. }) = &evaluation {
        let best = at
            .best
            .as_ref()
            .map_or([f64::INFINITY; 2], |best| best.rank);
        if Evaluation::is_better(*rank, best) {
            at.worse = 0;
            at.best = Some(Best {
                step: at.step,
                rank: *rank,
                values: trainee.values.clone(),
            });
        } else {
            at.worse += 1
        }
    }
    Ok(evaluation)
}
