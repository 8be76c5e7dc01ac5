//! `pilot`: a row for every number that `crocuta pilot` measured.

use super::{Batch, Column, Groups, fit_records};
use crate::io::table_writer::{ColumnKind, Values};
use serde::{Deserialize, Serialize};

/// What a row was measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Experiment {
    /// What is known of a candidate before any run.
    Candidate,
    /// One long sequence.
    Memory,
    /// Many short sequences.
    Throughput,
    /// Steps of a sequence whose state is carried.
    Latency,
    /// The course of training.
    Training,
    /// What training led to.
    Quality,
    /// The same by the bases that were read before a base.
    Context,
    /// Copies at a distance.
    Recall,
}

impl Experiment {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Memory => "memory",
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Training => "training",
            Self::Quality => "quality",
            Self::Context => "context",
            Self::Recall => "recall",
        }
    }
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A measurement.
    Measured,
    /// What measurements at shorter lengths let expect.
    Extrapolated,
    /// Counted from the configuration.
    Counted,
}

/// A number that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PilotRow {
    /// What it was measured for.
    pub experiment: Experiment,
    /// Of which candidate.
    pub candidate: String,
    /// From which seed, where one decides it.
    pub seed: Option<i64>,
    /// What was measured.
    pub measure: String,
    /// Where: bases of a sequence or a step, sequences of a step, bases of training, a distance.
    pub at: Option<i64>,
    /// What all candidates had alike: `bases` or `operations`.
    pub budget: Option<String>,
    /// The number.
    pub value: f64,
    /// The 95 % interval, or the 5th and 95th percentile of times.
    pub interval: Option<[f64; 2]>,
    /// Its unit.
    pub unit: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl PilotRow {
    /// A measured number, with nothing more to say of it.
    pub fn new(experiment: Experiment, candidate: &str, measure: &str, value: f64) -> Self {
        Self {
            experiment,
            candidate: candidate.to_string(),
            seed: None,
            measure: measure.to_string(),
            at: None,
            budget: None,
            value,
            interval: None,
            unit: String::new(),
            origin: Origin::Measured,
        }
    }

    /// At this place.
    #[must_use]
    pub fn at(mut self, at: u64) -> Self {
        self.at = i64::try_from(at).ok();
        self
    }

    /// In this unit.
    #[must_use]
    pub fn unit(mut self, unit: &str) -> Self {
        self.unit = unit.to_string();
        self
    }

    /// From this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = i64::try_from(seed).ok();
        self
    }

    /// With all candidates alike in this.
    #[must_use]
    pub fn budget(mut self, budget: &str) -> Self {
        self.budget = Some(budget.to_string());
        self
    }

    /// Within this interval.
    #[must_use]
    pub fn interval(mut self, interval: Option<[f64; 2]>) -> Self {
        self.interval = interval;
        self
    }

    /// From there.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }
}

/// Rows of the table.
#[derive(Clone, Debug, Default)]
pub struct PilotRows(pub Vec<PilotRow>);

impl Batch for PilotRows {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn split_off(&mut self, row: usize) -> Self {
        Self(self.0.split_off(row))
    }

    fn fit(&self, row: usize, groups: &mut Groups) -> usize {
        fit_records(groups, 0..(self.0.len() - row) as i64)
    }
}

/// Words of rows, each named once.
fn words(each: impl Iterator<Item = Option<String>>) -> (Vec<Option<i32>>, Vec<String>) {
    let mut words: Vec<String> = Vec::new();
    let codes = each.map(|word| {
        let word = word?;
        let known = words.iter().position(|known| *known == word);
        let code = known.unwrap_or_else(|| {
            words.push(word);
            words.len() - 1
        });
        i32::try_from(code).ok()
    });
    (codes.collect(), words)
}

fn word(
    name: &str,
    meaning: &str,
    of: impl Fn(&PilotRow) -> String + Send + Sync + 'static,
) -> Column<PilotRows> {
    Column::new(name, ColumnKind::Words, meaning, move |rows: &PilotRows| {
        let (codes, words) = words(rows.0.iter().map(|row| Some(of(row))));
        let codes = codes.into_iter().flatten().collect();
        Values::Words { codes, words }
    })
}

fn number(
    name: &str,
    meaning: &str,
    of: impl Fn(&PilotRow) -> Option<f64> + Send + Sync + 'static,
) -> Column<PilotRows> {
    let fill = move |rows: &PilotRows| {
        let finite = |row: &PilotRow| of(row).filter(|value| value.is_finite());
        Values::OptionalF64(rows.0.iter().map(finite).collect())
    };
    Column::new(name, ColumnKind::OptionalF64, meaning, fill)
}

fn whole(
    name: &str,
    meaning: &str,
    of: impl Fn(&PilotRow) -> Option<i64> + Send + Sync + 'static,
) -> Column<PilotRows> {
    let fill = move |rows: &PilotRows| Values::OptionalI64(rows.0.iter().map(&of).collect());
    Column::new(name, ColumnKind::OptionalI64, meaning, fill)
}

/// The columns of a `pilot` table.
pub fn pilot() -> Vec<Column<PilotRows>> {
    let budget = |rows: &PilotRows| {
        let (codes, words) = words(rows.0.iter().map(|row| row.budget.clone()));
        Values::OptionalWords { codes, words }
    };
    let origin = |row: &PilotRow| match row.origin {
        Origin::Measured => "measured",
        Origin::Extrapolated => "extrapolated",
        Origin::Counted => "counted",
    };
    vec![
        word(
            "experiment",
            "candidate, memory, throughput, latency, training, quality, context or recall",
            |row| row.experiment.name().to_string(),
        ),
        word("candidate", "the model that was measured", |row| {
            row.candidate.clone()
        }),
        whole("seed", "the seed, where one decides the value", |row| {
            row.seed
        }),
        word("measure", "what was measured", |row| row.measure.clone()),
        whole(
            "at",
            "where: bases of the sequence (memory), sequences of a step (throughput), bases of a step \
             (latency), bases read (training, quality), bases before (context), distance (recall)",
            |row| row.at,
        ),
        Column::new(
            "budget",
            ColumnKind::OptionalWords,
            "what the candidates had alike: bases or operations",
            budget,
        ),
        number("value", "the number, in the unit of its row", |row| {
            Some(row.value)
        })
        .primary(),
        number(
            "low",
            "lower end of the 95 % interval; of times, their 5th percentile",
            |row| row.interval.map(|[low, _]| low),
        ),
        number(
            "high",
            "upper end of the 95 % interval; of times, their 95th percentile",
            |row| row.interval.map(|[_, high]| high),
        ),
        word("unit", "the unit of value, low and high", |row| {
            row.unit.clone()
        }),
        word("origin", "measured, extrapolated or counted", move |row| {
            origin(row).to_string()
        }),
    ]
}
