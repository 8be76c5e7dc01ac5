//! What the model's output says of a read: likelihoods summed, vectors pooled.

use super::steps::{ReadPart, ReadStep};
use super::{Pool, ReadHead, ReadOutput};
use crate::error::Result;
use crate::head::PREDICTIONS;
use crate::sequence::{N, base};
use crate::stream::coming::{Aside, Coming};
use crate::stream::finite::check_finite;
use crate::stream::journal::{load, store};
use crate::stream::pipeline::{Next, Outcome, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// Rows of one task.
const ROWS: usize = 512;

/// What the model gives for a step, when the device has computed it.
#[derive(Default)]
pub struct PromisedReads {
    /// (T, N · D) of N layers; empty if no vectors are wanted.
    pub vectors: Coming,
    /// (T, V); empty if no likelihoods are wanted.
    pub logits: Coming,
    /// What the head of sequences says of each part that ends one; empty without such a head.
    pub said: Vec<Option<Vec<f32>>>,
    /// Logits are those of the base itself, which was masked.
    pub masked: bool,
    /// T
    pub tokens: usize,
}

/// The model's output for a step.
struct ReadValues {
    vectors: Vec<f32>, // (T, N · D)
    logits: Vec<f32>,  // (T, V)
    said: Vec<Option<Vec<f32>>>,
    masked: bool,
    tokens: usize,
}

impl PromisedReads {
    /// Waits for it.
    fn read(self) -> Result<ReadValues> {
        Ok(ReadValues {
            vectors: self.vectors.read()?,
            logits: self.logits.read()?,
            said: self.said,
            masked: self.masked,
            tokens: self.tokens,
        })
    }
}

impl Outcome for (ReadStep, PromisedReads) {
    fn put_aside(self, aside: &mut Aside) -> Result<Self> {
        let (step, mut values) = self;
        values.vectors = values.vectors.put_aside(aside)?;
        values.logits = values.logits.put_aside(aside)?;
        Ok((step, values))
    }
}

impl ReadValues {
    fn row<'a>(&self, values: &'a [f32], row: usize) -> &'a [f32] {
        let width = values.len() / self.tokens.max(1);
        &values[row * width..(row + 1) * width]
    }

    /// The logits after the last token.
    fn last_logits(&self) -> Option<&[f32]> {
        let last = self
            .tokens
            .checked_sub(1)
            .filter(|_| !self.logits.is_empty())?;
        Some(self.row(&self.logits, last))
    }
}

/// What is known of some bases of a read.
#[derive(Default, Serialize, Deserialize)]
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
    /// What the head of sequences says, once the read has ended.
    pub said: Option<Vec<f32>>,
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
        self.said = other.said.or(self.said.take());
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

/// What a read needs of the step before.
#[derive(Default, Serialize, Deserialize)]
struct ReadBefore {
    /// The logits after the last base of the unfinished read.
    logits: Vec<f32>,
    /// What is known of that.
    open: Partial,
    /// Ambiguous bases of the reads so far.
    ambiguous: u64,
}

/// Makes rows of what was computed of reads.
pub(super) struct OfReads<'a> {
    head: &'a ReadHead,
    before: ReadBefore,
}

impl<'a> OfReads<'a> {
    pub fn new(head: &'a ReadHead) -> Self {
        Self {
            head,
            before: ReadBefore::default(),
        }
    }

    /// Ambiguous bases of all reads so far.
    pub fn ambiguous(&self) -> u64 {
        self.before.ambiguous
    }

    /// What a step says of each of its parts.
    fn partials(&self, step: &ReadStep, values: &ReadValues) -> Vec<Partial> {
        let (mut tasks, mut row) = (Vec::new(), 0);
        for (at, part) in step.parts.iter().enumerate() {
            for from in part.kept.clone().step_by(ROWS) {
                tasks.push((at, row, from..(from + ROWS).min(part.kept.end)));
            }
            row += part.codes.len();
        }
        let scored: Vec<(usize, Partial)> = tasks
            .into_par_iter()
            .map(|(at, row, bases)| (at, self.partial(&step.parts[at], row, bases, values)))
            .collect();
        let mut partials: Vec<Partial> = step.parts.iter().map(|_| Partial::default()).collect();
        for (at, partial) in scored {
            partials[at].merge(partial, self.head.pool);
        }
        for (partial, said) in partials.iter_mut().zip(&values.said) {
            partial.said.clone_from(said);
        }
        partials
    }

    /// Bases `bases` of a part whose first one is the step's row `first`.
    fn partial(
        &self,
        part: &ReadPart,
        first: usize,
        bases: Range<usize>,
        values: &ReadValues,
    ) -> Partial {
        let head = self.head;
        let mut out = Partial::default();
        let starts = part.segment.is_some_and(|segment| segment.starts);
        for i in bases {
            let (row, code) = (first + i, part.codes[i]);
            let logits = match i {
                _ if values.logits.is_empty() => &[],
                _ if values.masked => values.row(&values.logits, row),
                0 if starts => &[],
                0 if row == 0 => &self.before.logits,
                _ => values.row(&values.logits, row - 1),
            };
            out.bases += 1;
            out.ambiguous += u64::from(base(code) == N);
            if let Some(likelihood) = &head.likelihood {
                if !logits.is_empty()
                    && let Some(logp) = likelihood.log_probability(logits, code)
                {
                    out.sum += logp;
                    out.scored += 1;
                }
                if head.per_base {
                    let start = out.predictions.len();
                    out.predictions.resize(start + PREDICTIONS, f32::NAN);
                    let predictions = &mut out.predictions[start..];
                    likelihood.predict(logits, code, false, predictions);
                }
            }
            if head.pool.is_some() {
                let vector = values
                    .row(&values.vectors, row)
                    .iter()
                    .copied()
                    .map(f64::from);
                if out.pooled.is_empty() {
                    out.pooled = vector.collect();
                } else {
                    pool_into(&mut out.pooled, vector, head.pool);
                }
            }
        }
        out
    }
}

impl Stage for OfReads<'_> {
    type In = (ReadStep, PromisedReads);
    type Out = Vec<ReadOutput>;

    fn run(&mut self, (step, values): Self::In, to: &mut Next<Self::Out>) -> Result<()> {
        let values = values.read()?;
        for numbers in [&values.logits, &values.vectors] {
            let width = numbers.len() / values.tokens.max(1);
            check_finite(numbers, width, |token| step.place(token))?;
        }
        for (part, said) in step.parts.iter().zip(&values.said) {
            let said = said.as_deref().unwrap_or_default();
            check_finite(said, said.len(), |_| part.name())?;
        }
        let partials = self.partials(&step, &values);
        if let Some(last) = values.last_logits() {
            self.before.logits = last.to_vec();
        }
        let mut out = Vec::new();
        for (part, mut partial) in step.parts.iter().zip(partials) {
            let read = || Arc::clone(&part.read);
            if !part.read.wanted {
                out.push(ReadOutput::Record(read()));
                continue;
            }
            if self.head.per_base {
                let predictions = std::mem::take(&mut partial.predictions);
                let codes = part.codes[part.kept.clone()].to_vec();
                let from = part.from + part.kept.start;
                out.push(ReadOutput::Bases(read(), from, codes, predictions));
            }
            self.before.open.merge(partial, self.head.pool);
            if part.last {
                let row = std::mem::take(&mut self.before.open);
                self.before.ambiguous += row.ambiguous;
                out.push(ReadOutput::Row(read(), row));
            }
        }
        to.send(out)
    }

    fn save(&self, file: &mut dyn Write) -> Result<()> {
        store(&self.before, file)
    }

    fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        self.before = load(file)?;
        Ok(())
    }
}
