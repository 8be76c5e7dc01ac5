//! How candidates are trained on the user's data, what that takes, and how many steps of it fit into
//! the budget.

use super::candidate::Candidate;
use super::kept::{Found, Kept};
use super::{Entrant, Pilot, Tell, is_finding};
use crate::error::Result;
use crate::table::{Experiment, Origin, PilotRow};
use crate::train::{self, Estimate, Lesson, Prepared, Steps, Trained};

/// Bases of a step, or one passage if that is longer.
const STEP: u64 = 8192;
/// Sequences of a step, of tables.
const SEQUENCES: usize = 32;
/// Evaluations up to where all have taken equal operations.
const EVALUATIONS: u64 = 4;
/// The learning rate.
const RATE: f64 = 2e-3;
/// Steps of the run of which an evaluation is timed.
const TRIAL: u64 = 100;
/// Steps of a run, at least and at most.
const STEPS: [u64; 2] = [8, 1 << 20];
/// The part of the time that is planned for: some is left for what takes longer.
const PLANNED: f64 = 0.93;
/// Training takes so many times the operations of reading: forward, and twice that back.
const TRAINING: f64 = 3.0;
/// Bases that the other experiments read of each candidate at least.
const READ: f64 = 65_536.0;
/// Seconds that they take at least besides: processes are started, models are made.
const OPENED: f64 = 0.5;

/// A candidate that can be trained, and what that takes.
pub struct Timed<'a> {
    /// The candidate.
    pub entrant: &'a Entrant,
    /// Seconds of a step.
    step: f64,
    /// Seconds of an evaluation.
    evaluation: f64,
    /// Seconds of reading a base.
    base: f64,
    /// The part of a run after which all candidates have taken equal operations.
    part: f64,
}

impl Timed<'_> {
    /// The step, of so many, after which all candidates have taken equal operations.
    pub fn equal(&self, steps: u64) -> u64 {
        ((steps as f64 * self.part).round() as u64).clamp(1, steps)
    }

    /// Steps between evaluations of a run of so many.
    pub fn every(&self, steps: u64) -> u64 {
        self.equal(steps).div_ceil(EVALUATIONS).max(1)
    }

    /// Seconds of a run: of its steps, and of evaluations before, on the way, and at the end.
    pub fn seconds(&self, steps: u64) -> f64 {
        let evaluations = steps.div_ceil(self.every(steps)) + 2;
        steps as f64 * self.step + evaluations as f64 * self.evaluation
    }
}

/// Where the speed of a candidate's training is kept.
fn speed_key(name: &str) -> String {
    format!("quality/{name}/speed")
}

/// Times all candidates; those that cannot be trained are left out, and noted.
///
/// # Errors
/// Those of the data and the models, but for candidates that cannot be trained; Io.
pub fn time<'a>(pilot: &'a Pilot, kept: &mut Kept, tell: Tell) -> Result<Vec<Timed<'a>>> {
    let mut timed = Vec::new();
    for entrant in &pilot.entrants {
        let name = &entrant.candidate.name;
        tell(&format!("quality: timing {name}"), kept.clock());
        let found = kept.once(&speed_key(name), || time_one(pilot, entrant))?;
        let of = |measure: &str| {
            let mut rows = found.rows.iter();
            rows.find(|row| row.measure == measure).map(|row| row.value)
        };
        if let (Some(speed), Some(step), Some(evaluation)) = (
            of("bases_per_second"),
            of("seconds_per_step"),
            of("seconds_per_evaluation"),
        ) {
            timed.push(Timed {
                entrant,
                step,
                evaluation,
                base: 1.0 / (TRAINING * speed),
                part: 1.0,
            });
        }
    }
    let taken = |timed: &Timed| operations(pilot, &timed.entrant.candidate);
    let least = timed.iter().map(taken).fold(f64::INFINITY, f64::min);
    for timed in &mut timed {
        timed.part = least / taken(timed);
    }
    Ok(timed)
}

/// Seconds of the pilot when the last candidate had been timed.
pub fn timed_at(kept: &Kept, timed: &[Timed]) -> f64 {
    let clocks = timed
        .iter()
        .filter_map(|timed| kept.finished(&speed_key(&timed.entrant.candidate.name)));
    clocks.fold(0.0, f64::max)
}

/// Seconds that the shortest training of all takes, from one seed.
pub fn least(timed: &[Timed]) -> f64 {
    timed.iter().map(|timed| timed.seconds(STEPS[0])).sum()
}

/// Seconds that the other experiments take at least.
pub fn least_of_others(timed: &[Timed]) -> f64 {
    let each = timed.iter().map(|timed| OPENED + READ * timed.base);
    each.sum()
}

/// Steps of a run: those that were asked for, or as many as fit into what is left of the budget.
///
/// # Errors
/// Io.
pub fn steps(pilot: &Pilot, kept: &mut Kept, timed: &[Timed]) -> Result<u64> {
    let left = (pilot.budget() - kept.clock()) * PLANNED;
    let fits = |steps: u64| {
        let all: f64 = timed.iter().map(|timed| timed.seconds(steps)).sum();
        all * f64::from(pilot.request.seeds) <= left
    };
    let planned = pilot.request.steps.unwrap_or_else(|| {
        let [mut low, mut high] = STEPS;
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    });
    let found = kept.once("quality/steps", || {
        let row = PilotRow::new(Experiment::Training, "all", "steps", planned as f64);
        Ok(Found::rows(vec![row.unit("steps").origin(Origin::Counted)]))
    })?;
    Ok(found.rows.first().map_or(planned, |row| row.value as u64))
}

/// Operations a base of training: of both strands, where labels of bases are learned by a candidate
/// that reads in one direction.
pub fn operations(pilot: &Pilot, candidate: &Candidate) -> f64 {
    let both = matches!(pilot.data.lesson, Lesson::Tracks(_)) && candidate.facts.causal;
    let strands = if both { 2.0 } else { 1.0 };
    strands * TRAINING * candidate.operations(pilot.data.length)
}

/// The run that trains a candidate for so many steps, with so many between evaluations.
pub fn prepare(
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

/// Seconds of a step and of an evaluation.
fn time_one(pilot: &Pilot, entrant: &Entrant) -> Result<Found> {
    let seed = pilot.request.seed;
    let fit = prepare(pilot, entrant, seed, TRIAL, TRIAL);
    let timed = fit.and_then(|fit| Ok((fit.estimate(), fit.measure()?)));
    let (estimate, speed) = match timed {
        Ok(found) => found,
        Err(error) if is_finding(&error) => {
            return Ok(Found::noted(Vec::new(), format!("not trained: {error}")));
        }
        Err(error) => return Err(error),
    };
    let row = |measure, value, unit| {
        let name = &entrant.candidate.name;
        PilotRow::new(Experiment::Training, name, measure, value).unit(unit)
    };
    // What is held out besides the windows that are evaluated is not read.
    let steps = Estimate {
        evaluated: 0,
        tested: 0,
        ..estimate
    };
    let evaluations = Estimate {
        bases: 0,
        tested: 0,
        ..estimate
    };
    // An estimate counts one before the first step, and one at the end.
    Ok(Found::rows(vec![
        row("bases_per_second", speed, "bases/s"),
        row(
            "seconds_per_step",
            steps.seconds(speed) / TRIAL as f64,
            "seconds",
        ),
        row(
            "seconds_per_evaluation",
            evaluations.seconds(speed) / 2.0,
            "seconds",
        ),
    ]))
}
