//! A sequence that comes in steps: how long the first one takes, and those after it, with the state
//! carried.

use super::candidate::Candidate;
use super::kept::Found;
use super::pass;
use crate::encoder::{Encoder, Segment};
use crate::error::{Kind, Result};
use crate::ops::Device;
use crate::stream::Engine;
use crate::table::{Experiment, PilotRow};
use std::time::Instant;

/// Bases of a step.
pub const STEPS: [usize; 4] = [1, 64, 1024, 8192];
/// Steps of a sequence, at least and at most.
const COUNT: [usize; 2] = [5, 2000];
/// Where even the least take longer, a sequence ends after so many times its time.
const PATIENCE: f64 = 2.0;
/// Steps of a length are not tried if so many seconds would not suffice for the fewest.
const WORTH: f64 = 1.0;
/// Of so many sequences at most the median time to the first row is taken.
const FIRSTS: usize = 5;

/// Times of steps of each length, in about so many seconds.
///
/// # Errors
/// Those of the model and its device.
pub fn measure(candidate: &Candidate, device: &Device, seconds: f64) -> Result<Found> {
    if !candidate.facts.streams() {
        let note = "it reads sequences whole, so that it has no steps";
        return Ok(Found::noted(Vec::new(), note));
    }
    let engine = pass::engine(candidate, device.clone())?;
    let mut rows = Vec::new();
    // The median of the steps before, and their bases.
    let mut before: Option<(f64, usize)> = None;
    for bases in STEPS {
        let expected = before.map_or(0.0, |(median, fewer)| median * (bases / fewer) as f64);
        if expected * (COUNT[0] + 3) as f64 > WORTH.max(seconds) {
            let note = format!("steps of {bases} bases: there was no time for them");
            return Ok(Found::noted(rows, note));
        }
        let times = match times(&engine, bases, seconds / STEPS.len() as f64) {
            Err(error) if error.kind() == Kind::Memory => {
                let note = format!("steps of {bases} bases: the memory was used up");
                return Ok(Found::noted(rows, note));
            }
            other => other?,
        };
        let row = |measure, value: f64| {
            let row = PilotRow::new(Experiment::Latency, &candidate.name, measure, value);
            row.at(bases as u64).unit("seconds")
        };
        let [low, high] = [0.05, 0.95].map(|part| percentile(&times.each, part));
        rows.push(row("first_row", percentile(&times.first, 0.5)));
        let median = percentile(&times.each, 0.5);
        before = Some((median, bases));
        let median = row("step_p50", median);
        rows.push(median.interval(Some([low, high])));
        rows.push(row("step_p95", high));
        rows.push(row("step_p99", percentile(&times.each, 0.99)));
    }
    Ok(Found::rows(rows))
}

/// Sorted times.
struct Times {
    first: Vec<f64>,
    each: Vec<f64>,
}

fn times(engine: &Engine, bases: usize, seconds: f64) -> Result<Times> {
    let sequence = |count: usize, until: f64| {
        let begun = Instant::now();
        let mut state = engine.model.start(1)?;
        let (mut first, mut each) = (0.0, Vec::new());
        let mut before = begun;
        for step in 0..=count {
            let taken = begun.elapsed().as_secs_f64();
            let enough = step > COUNT[0] && taken > until;
            if enough || (step > 1 && taken > PATIENCE * until) {
                break;
            }
            let segment = Segment {
                lane: 0,
                len: bases,
                starts: step == 0,
                ends: false,
            };
            engine.forward(pass::tokens(engine, bases), &[segment], &mut state)?;
            engine.device.synchronize()?;
            let now = Instant::now();
            let taken = (now - before).as_secs_f64();
            if step == 0 {
                first = taken;
            } else {
                each.push(taken);
            }
            before = now;
        }
        Ok::<_, crate::Error>((first, each))
    };
    // What is kept for later steps is computed once.
    sequence(0, seconds)?;
    let mut first = Vec::new();
    let begun = Instant::now();
    while first.is_empty() || (first.len() < FIRSTS && begun.elapsed().as_secs_f64() < seconds) {
        first.push(sequence(0, seconds)?.0);
    }
    let (_, mut each) = sequence(COUNT[1], seconds)?;
    first.sort_by(f64::total_cmp);
    each.sort_by(f64::total_cmp);
    Ok(Times { first, each })
}

/// Of sorted values: the smallest that this part of them does not exceed.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    let at = rank.clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let found = [0.05, 0.5, 0.95, 0.99].map(|part| percentile(&values, part));
        assert_eq!(found, [5.0, 50.0, 95.0, 99.0]);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }
}
