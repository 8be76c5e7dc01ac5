//! What candidates learn of the user's data: each is trained on the same bases in the same order,
//! from each seed, and measured on what is held out. The rate of learning rises and then stays, so
//! that a point of the course is what a run of that length would have led to: the end is where all
//! have read equal bases, and an earlier evaluation is where all have taken equal operations.

use super::candidate::Candidate;
use super::kept::{Found, Kept};
use super::{Entrant, Pilot, Tell, interval, is_finding};
use crate::error::{Error, Result};
use crate::stream;
use crate::table::{Experiment, Origin, PilotRow};
use crate::train::{self, Estimate, Evaluation, Lesson, Prepared, Saving, Steps, Trained};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

/// Bases of a step, or one passage if that is longer.
const STEP: u64 = 8192;
/// Sequences of a step, of tables.
const SEQUENCES: usize = 32;
/// Evaluations up to where all have taken equal operations.
const EVALUATIONS: u64 = 4;
/// The learning rate.
const RATE: f64 = 2e-3;
/// Steps by which a run is timed before it.
const TRIAL: u64 = 100;
/// Steps of a run, at least and at most.
const STEPS: [u64; 2] = [8, 1 << 20];
/// The part of the time that is planned for: some is left for what takes longer.
const PLANNED: f64 = 0.93;
/// Training takes so many times the operations of reading: forward, and twice that back.
const TRAINING: f64 = 3.0;

/// Trains and measures all candidates until the budget is used up.
///
/// # Errors
/// Those of the data and the models, but for candidates that cannot be trained; Io.
pub fn measure(pilot: &Pilot, kept: &mut Kept, tell: Tell) -> Result<()> {
    let mut timed = Vec::new();
    for entrant in &pilot.entrants {
        let name = &entrant.candidate.name;
        tell(&format!("quality: timing {name}"), kept.clock());
        let found = kept.once(&format!("quality/{name}/speed"), || time(pilot, entrant))?;
        let of = |measure: &str| found.rows.iter().find(|row| row.measure == measure);
        if let Some(seconds) = of("seconds_per_step") {
            timed.push((entrant, seconds.value));
        }
    }
    let all: f64 = timed.iter().map(|(_, seconds)| seconds).sum();
    if timed.is_empty() {
        return Ok(());
    }
    let seeds = pilot.request.seeds;
    let left = (pilot.budget() - kept.clock()) * PLANNED;
    let planned = pilot.request.steps.unwrap_or_else(|| {
        let steps = left / (all * f64::from(seeds));
        (steps as u64).clamp(STEPS[0], STEPS[1])
    });
    let found = kept.once("quality/steps", || {
        let row = PilotRow::new(Experiment::Training, "all", "steps", planned as f64);
        Ok(Found::rows(vec![row.unit("steps").origin(Origin::Counted)]))
    })?;
    let steps = found.rows.first().map_or(planned, |row| row.value as u64);
    let operations = timed
        .iter()
        .map(|(entrant, _)| operations(pilot, &entrant.candidate));
    let least = operations.fold(f64::INFINITY, f64::min);
    for seed in (0..seeds).map(|i| pilot.request.seed + u64::from(i)) {
        for (entrant, seconds) in &timed {
            let name = &entrant.candidate.name;
            let key = format!("quality/{name}/{seed}");
            let over = kept.clock() + seconds * steps as f64 > 1.05 * pilot.budget();
            let asked = pilot.request.steps.is_some() || seed == pilot.request.seed;
            if over && !asked && kept.known(&key).is_none() {
                tell(
                    &format!("quality: no time for {name}, seed {seed}"),
                    kept.clock(),
                );
                continue;
            }
            tell(
                &format!("quality: training {name}, {steps} steps, seed {seed}"),
                kept.clock(),
            );
            let part = least / operations_of(pilot, entrant);
            let equal = ((steps as f64 * part).round() as u64).clamp(1, steps);
            let path = kept.beside(&format!("{name}-{seed}"));
            kept.once(&key, || train(pilot, entrant, seed, (steps, equal), path))?;
        }
    }
    Ok(())
}

fn operations_of(pilot: &Pilot, entrant: &Entrant) -> f64 {
    operations(pilot, &entrant.candidate)
}

/// Operations a base of training: of both strands, where labels of bases are learned by a candidate
/// that reads in one direction.
fn operations(pilot: &Pilot, candidate: &Candidate) -> f64 {
    let both = matches!(pilot.data.lesson, Lesson::Tracks(_)) && candidate.facts.causal;
    let strands = if both { 2.0 } else { 1.0 };
    strands * TRAINING * candidate.operations(pilot.data.length)
}

/// The run that trains a candidate for so many steps, with so many between evaluations.
fn prepare(
    pilot: &Pilot,
    entrant: &Entrant,
    seed: u64,
    steps: u64,
    every: u64,
) -> Result<Prepared> {
    let length = pilot.data.length;
    let table = pilot.request.table.is_some();
    let windows = (STEP / length).max(1) as usize;
    let mut lesson = pilot.data.lesson.clone();
    let mut material = pilot.data.material.clone();
    if let Lesson::Tracks(tracking) = &mut lesson {
        tracking.both_strands = entrant.candidate.facts.causal;
        material.read_both_strands(tracking.both_strands);
    }
    let request = train::Request {
        lesson,
        held_back: [Vec::new(), Vec::new()],
        adapts: false,
        head_dropout: 0.0,
        calibrate: false,
        trained: Trained::All,
        both: None,
        steps: Steps {
            length: Some(length),
            chunk: length,
            batch: Some(if table { SEQUENCES } else { windows }),
            parts: 1,
            epochs: 1.0,
            count: Some(steps),
            most: None,
            peak: RATE,
            warm_up: None,
            last: 1.0,
            decay: 0.1,
            clip: 1.0,
            evaluate_every: Some(every),
            patience: None,
        },
        seed,
    };
    let start = entrant.candidate.checkpoint(seed)?;
    train::prepare_with(&request, material, start, |without| (pilot.open)(without))
}

/// Seconds of a step, its share of evaluations among them.
fn time(pilot: &Pilot, entrant: &Entrant) -> Result<Found> {
    let seed = pilot.request.seed;
    let fit = prepare(pilot, entrant, seed, TRIAL, TRIAL / EVALUATIONS);
    let timed = fit.and_then(|fit| Ok((fit.estimate(), fit.measure()?)));
    let (estimate, speed) = match timed {
        Ok(found) => found,
        Err(error) if is_finding(&error) => {
            return Ok(Found::noted(Vec::new(), format!("not trained: {error}")));
        }
        Err(error) => return Err(error),
    };
    let row = |measure, value, unit| {
        let row = PilotRow::new(
            Experiment::Training,
            &entrant.candidate.name,
            measure,
            value,
        );
        row.unit(unit)
    };
    // What is held out besides the windows that are evaluated is not read.
    let read = Estimate {
        tested: 0,
        ..estimate
    };
    let seconds = read.seconds(speed) / TRIAL as f64;
    Ok(Found::rows(vec![
        row("bases_per_second", speed, "bases/s"),
        row("seconds_per_step", seconds, "seconds"),
    ]))
}

/// A moment of training at which it was measured.
struct Moment {
    step: u64,
    bases: u64,
    evaluation: Evaluation,
}

/// Trains for `steps`; after about `equal` all candidates have taken equal operations.
fn train(
    pilot: &Pilot,
    entrant: &Entrant,
    seed: u64,
    (steps, equal): (u64, u64),
    path: PathBuf,
) -> Result<Found> {
    let every = equal.div_ceil(EVALUATIONS).max(1);
    let mut fit = prepare(pilot, entrant, seed, steps, every)?;
    // A run that is broken off begins anew: what it measured on its way would be lost.
    let mut saving = Saving::open(&path, fit.identity(), Duration::MAX, true)?;
    let mut course: Vec<Moment> = Vec::new();
    let trained = fit.train(Some(&mut saving), &mut |report| {
        if let Some(evaluation) = report.evaluation {
            course.push(Moment {
                step: report.step,
                bases: report.bases,
                evaluation: evaluation.clone(),
            });
        }
        stream::go_on()
    });
    saving.remove();
    let name = &entrant.candidate.name;
    let outcome = match trained {
        Err(error) if is_finding(&error) => {
            return Ok(Found::noted(Vec::new(), format!("not trained: {error}")));
        }
        other => other?,
    };
    let last = course
        .last()
        .ok_or_else(|| Error::usage("nothing is held out to measure on"))?;
    let mut rows = vec![
        PilotRow::new(Experiment::Training, name, "seconds", outcome.seconds)
            .at(last.bases)
            .unit("seconds"),
    ];
    for moment in &course {
        let (measure, value) = Measure::of(&moment.evaluation.metrics);
        let row = PilotRow::new(Experiment::Training, name, measure.name, value);
        rows.push(row.at(moment.bases).unit(measure.unit));
    }
    let operations = operations_of(pilot, entrant) * last.bases as f64;
    let row = PilotRow::new(Experiment::Training, name, "operations", operations);
    rows.push(
        row.at(last.bases)
            .unit("operations")
            .origin(Origin::Counted),
    );
    rows.extend(measured(name, "bases", last));
    let near = |moment: &&Moment| moment.step.abs_diff(equal);
    if let Some(moment) = course.iter().min_by_key(near) {
        rows.extend(measured(name, "operations", moment));
    }
    rows.extend(by_context(name, &last.evaluation.metrics));
    Ok(Found {
        rows: rows.into_iter().map(|row| row.seed(seed)).collect(),
        note: None,
        weights: Some(fit.digest()),
    })
}

/// What the quality of a task is measured by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// Its name in the table.
    pub name: &'static str,
    /// The same in words.
    pub words: &'static str,
    /// Its unit, if it has one.
    pub unit: &'static str,
    /// More of it is better.
    pub higher: bool,
    /// What guessing gives, if that is known.
    pub guess: Option<f64>,
}

/// Those that there are, the one that is shown first.
pub const MEASURES: [Measure; 4] = [
    Measure {
        name: "bits_per_base",
        words: "bits per base",
        unit: "bits",
        higher: false,
        guess: Some(2.0),
    },
    Measure {
        name: "mcc",
        words: "Matthews' correlation",
        unit: "",
        higher: true,
        guess: Some(0.0),
    },
    Measure {
        name: "auroc",
        words: "area under the ROC curve",
        unit: "",
        higher: true,
        guess: Some(0.5),
    },
    Measure {
        name: "mean_squared_error",
        words: "mean squared error",
        unit: "",
        higher: false,
        guess: None,
    },
];

impl Measure {
    /// A value of it, in words.
    pub fn said(&self, value: f64) -> String {
        if self.unit.is_empty() {
            format!("{} {value:.4}", self.words)
        } else {
            format!("{value:.4} {}", self.words)
        }
    }

    /// The one that metrics have, and its value. Of several classes' areas it is the mean.
    fn of(metrics: &Map<String, Value>) -> (Self, f64) {
        let whole = MEASURES.into_iter().find_map(|measure| {
            let value = metrics.get(measure.name)?.as_f64()?;
            Some((measure, value))
        });
        whole.unwrap_or_else(|| {
            let areas = metrics
                .iter()
                .filter(|(name, _)| name.starts_with("auroc_"));
            let areas: Vec<f64> = areas.filter_map(|(_, value)| value.as_f64()).collect();
            let mean = areas.iter().sum::<f64>() / areas.len() as f64;
            (MEASURES[2], mean)
        })
    }
}

/// All metrics of a moment, with their intervals.
fn measured(name: &str, budget: &str, moment: &Moment) -> Vec<PilotRow> {
    let metrics = &moment.evaluation.metrics;
    let row = |measure: &str, value: f64, unit: &str| {
        let interval = interval(metrics.get(&format!("{measure}_ci95")));
        let row = PilotRow::new(Experiment::Quality, name, measure, value);
        row.at(moment.bases)
            .budget(budget)
            .unit(unit)
            .interval(interval)
    };
    let (main, value) = Measure::of(metrics);
    let mut rows = vec![row(main.name, value, main.unit)];
    for (measure, value) in metrics {
        let has_interval = metrics.contains_key(&format!("{measure}_ci95"));
        if let (Some(value), true) = (value.as_f64(), has_interval && measure != main.name) {
            let unit = if measure.ends_with("_bits") {
                "bits"
            } else {
                ""
            };
            rows.push(row(measure, value, unit));
        }
    }
    rows
}

fn by_context(name: &str, metrics: &Map<String, Value>) -> Vec<PilotRow> {
    let classes = metrics.get("bits_per_base_by_context");
    let classes = classes.and_then(Value::as_array).into_iter().flatten();
    let row = |class: &Value| {
        let bits = class["bits_per_base"].as_f64()?;
        let row = PilotRow::new(Experiment::Context, name, "bits_per_base", bits);
        let row = row.at(class["from"].as_u64()?).unit("bits");
        Some(row.interval(interval(class.get("bits_per_base_ci95"))))
    };
    classes.filter_map(row).collect()
}
