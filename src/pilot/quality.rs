//! What candidates learn of the user's data: each is trained on the same bases in the same order,
//! from each seed, and measured on what is held out. The rate of learning rises and then stays, so
//! that a point of the course is what a run of that length would have led to: the end is where all
//! have read equal bases, and an earlier evaluation is where all have taken equal operations.

use super::kept::{Found, Kept};
use super::training::{self, Timed};
use super::{Pilot, Tell, interval, is_finding};
use crate::error::{Error, Result};
use crate::stream;
use crate::table::{Experiment, Origin, PilotRow};
use crate::train::{Evaluation, Saving};
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

/// Where a run is expected to end after so many budgets, it is left out.
const LATEST: f64 = 1.05;

/// Trains and measures all candidates until the budget is used up.
///
/// # Errors
/// Those of the data and the models, but for candidates that cannot be trained; Io.
pub fn measure(pilot: &Pilot, kept: &mut Kept, timed: &[Timed], tell: Tell) -> Result<()> {
    if timed.is_empty() {
        return Ok(());
    }
    let steps = training::steps(pilot, kept, timed)?;
    let seeds = pilot.request.seeds;
    // Seconds that were expected of the runs so far, and those that they took.
    let (mut expected, mut taken) = (0.0, 0.0);
    for seed in (0..seeds).map(|i| pilot.request.seed + u64::from(i)) {
        let mut left_out: Vec<&str> = Vec::new();
        for timed in timed {
            let name = &timed.entrant.candidate.name;
            let key = format!("quality/{name}/{seed}");
            let (before, seconds) = (kept.clock(), timed.seconds(steps));
            let slower = if taken > expected {
                taken / expected
            } else {
                1.0
            };
            let over = before + slower * seconds > LATEST * pilot.budget();
            let asked = pilot.request.steps.is_some() || seed == pilot.request.seed;
            if over && !asked && kept.known(&key).is_none() {
                left_out.push(name);
                continue;
            }
            let what = format!("quality: training {name}, {steps} steps, seed {seed}");
            tell(&what, before);
            let path = kept.beside(&format!("{name}-{seed}"));
            let known = kept.known(&key).is_some();
            kept.once(&key, || train(pilot, timed, seed, steps, path))?;
            if !known {
                expected += seconds;
                taken += kept.clock() - before;
            }
        }
        if !left_out.is_empty() {
            let names = left_out.join(", ");
            tell(
                &format!("quality: no time for seed {seed} of {names}"),
                kept.clock(),
            );
        }
    }
    Ok(())
}

/// A moment of training at which it was measured.
struct Moment {
    step: u64,
    bases: u64,
    evaluation: Evaluation,
}

/// Trains one candidate for `steps` from one seed.
fn train(pilot: &Pilot, timed: &Timed, seed: u64, steps: u64, path: PathBuf) -> Result<Found> {
    let entrant = timed.entrant;
    let (equal, every) = (timed.equal(steps), timed.every(steps));
    let mut fit = training::prepare(pilot, entrant, seed, steps, every)?;
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
    let operations = training::operations(pilot, &entrant.candidate) * last.bases as f64;
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
