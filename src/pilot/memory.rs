//! One long sequence: its length doubled until it is the longest contig, or memory or time is used
//! up. What lies beyond is extrapolated, and says so.

use super::candidate::Candidate;
use super::kept::{Found, Kept};
use super::pass::{self, Taken};
use super::{Pilot, is_finding};
use crate::error::{Kind, Result};
use crate::ops::Device;
use crate::run::units::{number, readable, seconds as time};
use crate::table::{Experiment, Origin, PilotRow};
use std::time::Duration;

/// The first length.
pub const SHORTEST: u64 = 1024;
/// Bases, at most, of a pass that loads a GPU's kernels.
const WARM: u64 = 8192;
/// Seconds that a pass may take beyond what was expected of it, unless its share of the time is
/// more.
const GRACE: f64 = 1.0;

/// What passes of growing length took.
struct Course<'a> {
    name: &'a str,
    /// Bases from which on memory grows no more; none: it grows with the sequence.
    until: Option<u64>,
    longest: u64,
    points: Vec<(u64, Taken)>,
}

/// Measures peak memory and time of one candidate, in so many seconds.
///
/// # Errors
/// Those of the model and its device, but for a lack of memory, which is a finding; Io.
pub fn measure(
    pilot: &Pilot,
    kept: &mut Kept,
    (candidate, device): (&Candidate, &Device),
    seconds: f64,
) -> Result<()> {
    let facts = &candidate.facts;
    let step = match device {
        Device::Cpu => facts.cpu_step,
        Device::Cuda(_) => facts.longest_gpu_step(Some(pilot.longest)),
    };
    let mut course = Course {
        name: &candidate.name,
        // Activations are those of a step, and the state says itself whether it grows.
        until: (facts.streams() && facts.token_bytes == 0).then_some(step as u64),
        longest: pilot.longest,
        points: Vec::new(),
    };
    let begun = kept.clock();
    for bases in lengths(pilot.longest) {
        let left = seconds - (kept.clock() - begun);
        let reason = course.beyond(bases, pilot.memory, left);
        let found = kept.once(
            &format!("memory/{}/{bases}", course.name),
            || match reason {
                Some(reason) => Ok(course.extrapolated(&reason)),
                None => pass(pilot, (candidate, device), bases, &course, seconds),
            },
        )?;
        let of = |measure: &str| found.rows.iter().find(|row| row.measure == measure);
        let measured = of("peak_memory").zip(of("seconds"));
        let Some((memory, time)) = measured.filter(|(memory, _)| memory.origin == Origin::Measured)
        else {
            break;
        };
        let taken = Taken {
            memory: memory.value as u64,
            seconds: time.value,
        };
        course.points.push((bases, taken));
    }
    Ok(())
}

/// Lengths that double, up to the longest.
fn lengths(longest: u64) -> impl Iterator<Item = u64> {
    let doubled = (0..)
        .map(|i| SHORTEST << i)
        .take_while(move |bases| *bases < longest);
    doubled.chain([longest])
}

fn rows(name: &str, bases: u64, taken: Taken, origin: Origin) -> [PilotRow; 2] {
    let row = |measure, value: f64, unit| {
        let row = PilotRow::new(Experiment::Memory, name, measure, value);
        row.at(bases).unit(unit).origin(origin)
    };
    [
        row("peak_memory", taken.memory as f64, "bytes"),
        row("seconds", taken.seconds, "seconds"),
    ]
}

/// One pass; what is beyond the device is extrapolated.
fn pass(
    pilot: &Pilot,
    (candidate, device): (&Candidate, &Device),
    bases: u64,
    course: &Course,
    seconds: f64,
) -> Result<Found> {
    let name = &candidate.name;
    let taken = match device {
        Device::Cpu => {
            let expected = course.expect(bases).map_or(0.0, |taken| taken.seconds);
            let patience = Duration::from_secs_f64(2.0 * expected + seconds.max(GRACE));
            pass::read_in_child((pilot.child)()?, candidate, bases, patience)
        }
        device => pass_on_gpu(candidate, device, bases).map(Some),
    };
    let stopped = |reason: &str| course.extrapolated(reason);
    Ok(match taken {
        Ok(Some(taken)) if taken.memory <= pilot.memory => {
            Found::rows(rows(name, bases, taken, Origin::Measured).to_vec())
        }
        Ok(Some(taken)) => stopped(&format!(
            "{} bases took {}",
            number(bases),
            readable(taken.memory)
        )),
        Ok(None) => stopped("the time that it was given was over"),
        Err(error) if error.kind() == Kind::Memory => stopped("the memory was used up"),
        Err(error) if is_finding(&error) => stopped(&error.to_string()),
        Err(error) => return Err(error),
    })
}

/// One pass, after one that loads the kernels and is not counted.
fn pass_on_gpu(candidate: &Candidate, device: &Device, bases: u64) -> Result<Taken> {
    let engine = || pass::engine(candidate, device.clone());
    pass::read(&engine()?, bases.min(WARM))?;
    pass::read(&engine()?, bases)
}

impl Course<'_> {
    /// Why a pass is not tried, from what shorter ones took.
    fn beyond(&self, bases: u64, memory: u64, left: f64) -> Option<String> {
        let expected = self.expect(bases)?;
        let bases = number(bases);
        if expected.memory > memory {
            let need = readable(expected.memory);
            return Some(format!("{bases} bases would take about {need} of memory"));
        }
        (expected.seconds > left).then(|| {
            let need = time(expected.seconds);
            format!("{bases} bases would take about {need}, more than it was given")
        })
    }

    /// What a pass would take by the last two: memory grows along a line as far as it grows; time
    /// with the length where memory does not, and else by the power that it grew by.
    fn expect(&self, bases: u64) -> Option<Taken> {
        let [.., (before, less), (last, more)] = self.points.as_slice() else {
            return None;
        };
        let grown = self.until.map_or(bases, |until| bases.min(until));
        let further = grown.saturating_sub(*last) as f64;
        let (before, last, bases) = (*before as f64, *last as f64, bases as f64);
        let slope = (more.memory as f64 - less.memory as f64).max(0.0) / (last - before);
        let power = (more.seconds / less.seconds).log2() / (last / before).log2();
        let power = match self.until {
            None if power.is_finite() => power.clamp(1.0, 2.0),
            _ => 1.0,
        };
        Some(Taken {
            memory: (more.memory as f64 + slope * further) as u64,
            seconds: more.seconds * (bases / last).powf(power),
        })
    }

    /// What all longer lengths would take, and why they were not tried.
    fn extrapolated(&self, reason: &str) -> Found {
        let last = self.points.last().map_or(0, |(bases, _)| *bases);
        let further = lengths(self.longest).filter(|bases| *bases > last);
        let expected = further.filter_map(|bases| Some((bases, self.expect(bases)?)));
        let found =
            expected.flat_map(|(bases, taken)| rows(self.name, bases, taken, Origin::Extrapolated));
        let note = match last {
            0 => format!("not measured: {reason}"),
            _ => format!("measured up to {} bases: {reason}", number(last)),
        };
        Found::noted(found.collect(), note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(memory: u64, seconds: f64) -> Taken {
        Taken { memory, seconds }
    }

    fn course(until: Option<u64>, points: &[(u64, Taken)]) -> Course<'static> {
        Course {
            name: "x",
            until,
            longest: 1 << 20,
            points: points.to_vec(),
        }
    }

    #[test]
    fn what_is_expected_goes_on_as_it_went() {
        let points = [(1024, taken(100, 1.0)), (2048, taken(200, 2.0))];
        let linear = course(None, &points);
        assert_eq!(linear.expect(8192), Some(taken(800, 8.0)));
        let none = course(None, &[]).extrapolated("too little memory");
        assert_eq!(
            none.note.as_deref(),
            Some("not measured: too little memory")
        );
        assert!(none.rows.is_empty());
        let square = [(1024, taken(100, 1.0)), (2048, taken(100, 4.0))];
        assert_eq!(course(None, &square).expect(4096), Some(taken(100, 16.0)));
        assert_eq!(course(None, &points[..1]).expect(4096), None);
        let text = linear.beyond(4096, 399, 100.0).unwrap();
        assert!(text.contains("of memory"), "{text}");
        assert!(linear.beyond(4096, 400, 3.9).unwrap().contains("4 s"));
        assert_eq!(linear.beyond(4096, 400, 4.0), None);
        // Where a step ends, memory does not grow any more, and time does as the length.
        let memory = course(Some(4096), &points)
            .expect(1 << 20)
            .map(|taken| taken.memory);
        assert_eq!(memory, Some(400));
        let bounded = course(Some(512), &square).expect(1 << 20);
        assert_eq!(bounded, Some(taken(100, 2048.0)));
    }

    #[test]
    fn lengths_double_up_to_the_longest_contig() {
        assert_eq!(lengths(5000).collect::<Vec<_>>(), [1024, 2048, 4096, 5000]);
        assert_eq!(lengths(4096).collect::<Vec<_>>(), [1024, 2048, 4096]);
        assert_eq!(lengths(300).collect::<Vec<_>>(), [300]);
    }
}
