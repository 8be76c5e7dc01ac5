//! Many short sequences: windows of 1,024 bases side by side, as many as are fastest.

use super::candidate::Candidate;
use super::kept::Found;
use super::pass;
use crate::encoder::{Encoder, Segment};
use crate::error::{Kind, Result};
use crate::ops::Device;
use crate::stream::Engine;
use crate::table::{Experiment, PilotRow};
use std::time::Instant;

/// Bases of a window.
pub const WINDOW: usize = 1024;
/// Windows of a step, doubled up to this on the CPU, and on a GPU.
const MOST: [usize; 2] = [64, 1024];
/// Steps whose times are compared, at least.
const STEPS: usize = 3;

/// Bases and windows a second by the windows of a step, in about so many seconds.
///
/// # Errors
/// Those of the model and its device.
pub fn measure(candidate: &Candidate, device: &Device, seconds: f64) -> Result<Found> {
    let engine = pass::engine(candidate, device.clone())?;
    let most = MOST[usize::from(matches!(device, Device::Cuda(_)))];
    let tried = most.ilog2() as f64 + 1.0;
    let (mut rows, mut best, mut worse) = (Vec::new(), 0.0, 0);
    let started = Instant::now();
    let mut windows = 1;
    // Beyond the fastest number of windows more of them gain nothing.
    while windows <= most && worse < 2 && started.elapsed().as_secs_f64() < seconds {
        let speed = match rate(&engine, windows, seconds / tried) {
            Err(error) if error.kind() == Kind::Memory => break,
            other => other?,
        };
        let row = |measure, value, unit| {
            let row = PilotRow::new(Experiment::Throughput, &candidate.name, measure, value);
            row.at(windows as u64).unit(unit)
        };
        rows.push(row("bases_per_second", speed, "bases/s"));
        rows.push(row(
            "queries_per_second",
            speed / WINDOW as f64,
            "windows/s",
        ));
        worse = if speed > best { 0 } else { worse + 1 };
        best = speed.max(best);
        windows *= 2;
    }
    Ok(Found::rows(rows))
}

/// Bases a second of steps of so many windows: of the fastest, since what else the machine does
/// only slows them.
fn rate(engine: &Engine, windows: usize, seconds: f64) -> Result<f64> {
    let segment = Segment {
        lane: 0,
        len: WINDOW,
        starts: true,
        ends: true,
    };
    let mut state = engine.model.start(1)?;
    let mut step = || {
        let tokens = pass::tokens(engine, windows * WINDOW);
        let begun = Instant::now();
        engine.forward(tokens, &vec![segment; windows], &mut state)?;
        engine.device.synchronize()?;
        Ok::<_, crate::Error>(begun.elapsed().as_secs_f64())
    };
    let mut least = step()?;
    let begun = Instant::now();
    for done in 0.. {
        if done >= STEPS && begun.elapsed().as_secs_f64() > seconds {
            break;
        }
        least = least.min(step()?);
    }
    Ok((windows * WINDOW) as f64 / least)
}
