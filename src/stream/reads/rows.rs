//! What the model's output says of a read: likelihoods summed, vectors pooled.

use super::steps::{Part, ReadStep};
use super::{Pool, ReadEngine};
use crate::error::{Error, Result};
use crate::head::PREDICTIONS;
use crate::sequence::{N, base};
use rayon::prelude::*;
use std::ops::Range;

/// Rows of one task.
const ROWS: usize = 512;

/// The model's output for a step.
#[derive(Default)]
pub struct Values {
    /// (T, D); empty if no vectors are wanted.
    pub hidden: Vec<f32>,
    /// (T, V)
    pub logits: Vec<f32>,
    /// Logits are those of the base itself, which was hidden.
    pub masked: bool,
    /// T
    pub tokens: usize,
}

impl Values {
    fn row<'a>(&self, values: &'a [f32], row: usize) -> &'a [f32] {
        let width = values.len() / self.tokens.max(1);
        &values[row * width..(row + 1) * width]
    }

    /// The logits after the last token.
    pub fn last_logits(&self) -> Option<&[f32]> {
        let last = self.tokens.checked_sub(1)?;
        Some(self.row(&self.logits, last))
    }
}

/// What is known of some bases of a read.
#[derive(Default)]
pub struct Partial {
    /// Sum of log-probabilities, in nats.
    pub sum: f64,
    /// Bases in it.
    pub scored: u64,
    /// Bases that are N.
    pub ambiguous: u64,
    /// Bases in `pooled`.
    pub bases: u64,
    /// Of each dimension: the sum, the largest or the last value.
    pub pooled: Vec<f64>,
    /// (bases, [`PREDICTIONS`]), if they are wanted; NaN is NULL.
    pub predictions: Vec<f32>,
}

impl Partial {
    /// Adds the bases that follow.
    pub fn merge(&mut self, other: Self, pool: Option<Pool>) {
        self.sum += other.sum;
        self.scored += other.scored;
        self.ambiguous += other.ambiguous;
        self.bases += other.bases;
        if self.pooled.is_empty() {
            self.pooled = other.pooled;
        } else if !other.pooled.is_empty() {
            pool_into(&mut self.pooled, other.pooled.iter().copied(), pool);
        }
        self.predictions.extend(other.predictions);
    }

    /// The read's vector.
    pub fn vector(&self, pool: Option<Pool>) -> Vec<f32> {
        let divisor = match pool {
            Some(Pool::Mean) => self.bases as f64,
            _ => 1.0,
        };
        self.pooled.iter().map(|x| (x / divisor) as f32).collect()
    }
}

fn pool_into(pooled: &mut [f64], row: impl Iterator<Item = f64>, pool: Option<Pool>) {
    for (pooled, x) in pooled.iter_mut().zip(row) {
        match pool {
            Some(Pool::Mean) => *pooled += x,
            Some(Pool::Max) => *pooled = pooled.max(x),
            Some(Pool::Last) | None => *pooled = x,
        }
    }
}

/// What a step says of each of its parts. `before`: the logits after the step before it.
pub fn partials(
    engine: &ReadEngine,
    step: &ReadStep,
    values: &Values,
    before: &[f32],
) -> Result<Vec<Partial>> {
    let (mut tasks, mut row) = (Vec::new(), 0);
    for (at, part) in step.parts.iter().enumerate() {
        for from in part.kept.clone().step_by(ROWS) {
            tasks.push((at, row, from..(from + ROWS).min(part.kept.end)));
        }
        row += part.codes.len();
    }
    let scored: Vec<(usize, Partial)> = tasks
        .into_par_iter()
        .map(|(at, row, bases)| {
            let part = &step.parts[at];
            (at, partial(engine, part, row, bases, values, before))
        })
        .collect();
    let mut partials: Vec<Partial> = step.parts.iter().map(|_| Partial::default()).collect();
    for (at, partial) in scored {
        let read = &step.parts[at].read;
        if partial.sum.is_nan() || partial.pooled.iter().any(|x| x.is_nan()) {
            let name = String::from_utf8_lossy(read.record.name()).into_owned();
            return Err(Error::model("the model's output is not a number")
                .place(format!("read {name}"))
                .todo("check the weights with crocuta models verify"));
        }
        partials[at].merge(partial, engine.pool);
    }
    Ok(partials)
}

/// Bases `bases` of a part whose first one is the step's row `first`.
fn partial(
    engine: &ReadEngine,
    part: &Part,
    first: usize,
    bases: Range<usize>,
    values: &Values,
    before: &[f32],
) -> Partial {
    let mut out = Partial::default();
    let starts = part.segment.is_some_and(|segment| segment.starts);
    for i in bases {
        let (row, code) = (first + i, part.codes[i]);
        let logits = match i {
            _ if values.masked => values.row(&values.logits, row),
            0 if starts => &[],
            0 if row == 0 => before,
            _ => values.row(&values.logits, row - 1),
        };
        out.bases += 1;
        out.ambiguous += u64::from(base(code) == N);
        if !logits.is_empty()
            && let Some(logp) = engine.likelihood.log_probability(logits, code)
        {
            out.sum += logp;
            out.scored += 1;
        }
        if engine.per_base {
            let start = out.predictions.len();
            out.predictions.resize(start + PREDICTIONS, f32::NAN);
            let predictions = &mut out.predictions[start..];
            engine.likelihood.predict(logits, code, false, predictions);
        }
        if engine.pool.is_some() {
            let vector = values
                .row(&values.hidden, row)
                .iter()
                .copied()
                .map(f64::from);
            match out.pooled.is_empty() {
                true => out.pooled = vector.collect(),
                false => pool_into(&mut out.pooled, vector, engine.pool),
            }
        }
    }
    out
}
