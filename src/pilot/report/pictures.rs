//! The pictures of the report, each from the rows of an experiment.

use super::chart::{Axis, Chart, Series, Unit};
use crate::error::Result;
use crate::pilot::quality::Measure;
use crate::pilot::results::Results;
use crate::table::{Experiment, Origin, PilotRow};
use std::collections::BTreeMap;

const BASES: Axis = Axis {
    name: "bases of the sequence",
    unit: Unit::Count,
    log: true,
};

/// A picture, and what it shows.
pub struct Picture {
    /// What stands above it.
    pub title: &'static str,
    /// What stands below it.
    pub caption: &'static str,
    /// SVG.
    pub svg: String,
}

/// All pictures for which there are rows.
///
/// # Errors
/// Internal.
pub fn all(results: &Results) -> Result<Vec<Picture>> {
    let charts = [
        memory(results),
        time(results),
        throughput(results),
        latency(results),
        course(results),
        cost(results),
        context(results),
        recall(results),
    ];
    let shown = charts
        .into_iter()
        .filter(|(.., chart)| !chart.series.is_empty());
    let picture = |(title, caption, chart): (_, _, Chart)| {
        let svg = chart.svg()?;
        Ok(Picture {
            title,
            caption,
            svg,
        })
    };
    shown.map(picture).collect()
}

type Shown = (&'static str, &'static str, Chart);

/// A line for each candidate, of rows of a measure: means over seeds, whose rows are joined in the
/// order of their places. Labels of bases are read by each seed in passages of its own, so that
/// places differ a little.
fn lines(results: &Results, experiment: Experiment, measure: &str) -> Vec<Series> {
    let series = results.names.iter().enumerate().map(|(number, name)| {
        let mut series = Series {
            name: name.clone(),
            number,
            ..Series::default()
        };
        let mut seeds: BTreeMap<Option<i64>, Vec<(i64, &PilotRow)>> = BTreeMap::new();
        for row in results.of(experiment, name, measure) {
            if let Some(at) = row.at {
                seeds.entry(row.seed).or_default().push((at, row));
            }
        }
        for rows in seeds.values_mut() {
            rows.sort_by_key(|(at, _)| *at);
        }
        let most = seeds.values().map(Vec::len).max().unwrap_or(0);
        for rank in 0..most {
            let here: Vec<_> = seeds.values().filter_map(|rows| rows.get(rank)).collect();
            let mean = |of: &dyn Fn(&(i64, &PilotRow)) -> f64| {
                here.iter().map(|row| of(row)).sum::<f64>() / here.len() as f64
            };
            let point = (mean(&|(at, _)| *at as f64), mean(&|(_, row)| row.value));
            if here
                .iter()
                .all(|(_, row)| row.origin == Origin::Extrapolated)
            {
                series.beyond.push(point);
            } else {
                series.points.push(point);
            }
        }
        series
    });
    series
        .filter(|s| !s.points.is_empty() || !s.beyond.is_empty())
        .collect()
}

fn lined(series: Vec<Series>, x: Axis, y: Axis) -> Chart {
    Chart {
        x,
        y,
        series,
        front: Vec::new(),
        scattered: false,
    }
}

fn memory(results: &Results) -> Shown {
    let y = Axis {
        name: "peak memory",
        unit: Unit::Bytes,
        log: true,
    };
    let series = lines(results, Experiment::Memory, "peak_memory");
    (
        "Memory against length",
        "The most memory that a run took that read one sequence of so many bases, in steps with the \
         state carried, as crocuta embed does; the program itself is in it. Broken lines are \
         extrapolated: what was not tried, for want of memory or time.",
        lined(series, BASES, y),
    )
}

fn time(results: &Results) -> Shown {
    let y = Axis {
        name: "time",
        unit: Unit::Seconds,
        log: true,
    };
    let series = lines(results, Experiment::Memory, "seconds");
    (
        "Time against length",
        "How long the same runs took, without the opening of the model.",
        lined(series, BASES, y),
    )
}

fn throughput(results: &Results) -> Shown {
    let x = Axis {
        name: "windows of 1,024 bases in a step",
        unit: Unit::Count,
        log: true,
    };
    let y = Axis {
        name: "bases a second",
        unit: Unit::Count,
        log: true,
    };
    (
        "Throughput",
        "Many short sequences, so many side by side.",
        lined(
            lines(results, Experiment::Throughput, "bases_per_second"),
            x,
            y,
        ),
    )
}

fn latency(results: &Results) -> Shown {
    let x = Axis {
        name: "bases of a step",
        unit: Unit::Count,
        log: true,
    };
    let y = Axis {
        name: "time of a step, median",
        unit: Unit::Seconds,
        log: true,
    };
    let mut series = lines(results, Experiment::Latency, "step_p50");
    for one in &mut series {
        let rows = results.of(Experiment::Latency, &one.name, "step_p50");
        let ends = rows.filter_map(|row| Some((row.at? as f64, row.interval?)));
        one.whiskers = ends.collect();
    }
    (
        "Latency of a stream",
        "Steps of one sequence whose state is carried from step to step; the thin lines go from the \
         5th to the 95th percentile.",
        lined(series, x, y),
    )
}

/// The axis of what quality is measured by.
fn quality(measure: Option<Measure>) -> Axis {
    let name = match measure.map(|measure| measure.name) {
        Some("bits_per_base") => "bits a base of what is held out: lower is better",
        Some("mcc") => "Matthews' correlation of what is held out: higher is better",
        Some("auroc") => "area under the ROC curve, mean over classes: higher is better",
        _ => "mean squared error of what is held out: lower is better",
    };
    Axis {
        name,
        unit: Unit::Plain(3),
        log: false,
    }
}

fn course(results: &Results) -> Shown {
    let x = Axis {
        name: "bases read in training",
        unit: Unit::Count,
        log: true,
    };
    let measure = results.measure();
    let name = measure.map_or("", |measure| measure.name);
    (
        "Learning",
        "Quality on what is held out as training goes on, means over the seeds.",
        lined(
            lines(results, Experiment::Training, name),
            x,
            quality(measure),
        ),
    )
}

fn cost(results: &Results) -> Shown {
    let point = |name: &str| {
        let seconds = 1e6 / results.throughput(name)?;
        Some((
            seconds,
            results
                .mean(name, "bases")
                .filter(|mean| mean.is_finite())?,
        ))
    };
    let series = results
        .names
        .iter()
        .enumerate()
        .filter_map(|(number, name)| {
            let (x, y) = point(name)?;
            let values: Vec<f64> = results
                .quality(name, "bases")
                .iter()
                .map(|row| row.value)
                .collect();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            Some(Series {
                name: name.clone(),
                number,
                points: vec![(x, y)],
                beyond: Vec::new(),
                whiskers: vec![(x, [low, high])],
            })
        });
    let chart = Chart {
        x: Axis {
            name: "time to read a million bases of short windows",
            unit: Unit::Seconds,
            log: true,
        },
        y: quality(results.measure()),
        series: series.collect(),
        front: results.front().into_iter().filter_map(point).collect(),
        scattered: true,
    };
    (
        "Quality against cost",
        "After equal bases. The grey line joins the candidates than which no other one is both faster \
         and better: the Pareto front. Thin lines go from the least to the greatest of the seeds.",
        chart,
    )
}

fn context(results: &Results) -> Shown {
    let x = Axis {
        name: "bases before",
        unit: Unit::Count,
        log: true,
    };
    let mut series = lines(results, Experiment::Context, "bits_per_base");
    // The first class begins at none, which has no logarithm.
    for point in series.iter_mut().flat_map(|one| &mut one.points) {
        point.0 = point.0.max(16.0);
    }
    (
        "Bits a base by context",
        "Bases with at least so many before them in their window, up to the next point; the first \
         point is of fewer than 64.",
        lined(series, x, quality(results.measure())),
    )
}

fn recall(results: &Results) -> Shown {
    let x = Axis {
        name: "distance of the copies, bases",
        unit: Unit::Count,
        log: true,
    };
    let y = Axis {
        name: "share of the copied bases that are recalled",
        unit: Unit::Plain(2),
        log: false,
    };
    (
        "Recall at a distance",
        "Random bases of which the second half copies the first: nothing but memory predicts them. \
         Guessing gives 0.25. All were trained by equal steps, one run for each distance.",
        lined(lines(results, Experiment::Recall, "recall"), x, y),
    )
}
