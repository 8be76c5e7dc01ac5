//! Classes or values of whole sequences.

mod baselines;
mod logistic;
mod measure;

pub use baselines::linear_start;

use super::labelled::Labelled;
use super::network::{Network, foreign};
use super::objective::{Baseline, Evaluation, Loss, Objective, Select, not_drawn};
use super::sampler::{EpochPlace, generator};
use crate::encoder::Encoder;
use crate::error::{Error, Kind, Result};
use crate::head::{Link, Shape, Task, Unit};
use crate::ops::{Tensor, cross_entropy};
use crate::sequence::{Segment, reverse_complement};
use measure::{Measuring, measure};
use rand::Rng;
use rand::seq::SliceRandom;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::f64::consts::LN_2;

/// Sequences that an evaluation reads at a time.
const READING: usize = 64;

/// A sequence and what the head should say of it: a class, or a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    codes: Vec<u8>,
    target: f64,
}

impl Example {
    /// Bases of some examples.
    pub fn bases(examples: &[Self]) -> u64 {
        examples
            .iter()
            .map(|example| example.codes.len() as u64)
            .sum()
    }

    /// Whether it is one of about one in `n`: its copies are too, and its reverse complement.
    pub(super) fn is_one_in(&self, n: u64) -> bool {
        let mut reverse = self.codes.clone();
        reverse_complement(&mut reverse);
        let sum = Sha256::digest(self.codes.as_slice().min(&reverse));
        let first = sum
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        first.is_multiple_of(n.max(1))
    }

    /// Bases of the longest of them.
    pub fn longest(examples: &[Self]) -> u64 {
        let lengths = examples.iter().map(|example| example.codes.len() as u64);
        lengths.max().unwrap_or_default()
    }
}

/// How a head reads a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The mean of its hidden vectors; with a layer of so many numbers before the last one.
    Mean(Option<usize>),
    /// Attention within so many bases to either side, then attention that pools.
    Attention {
        /// Bases.
        window: usize,
        /// Numbers of the layer before the last one.
        hidden: usize,
    },
}

/// Places around the centre of a sequence that attention tells apart, at most.
const PLACES: usize = 512;
/// Queries that pool, and the numbers that each takes.
const QUERIES: usize = 64;
const WIDTH: usize = 8;

impl Reading {
    /// The head's shape, for sequences of at most so many bases.
    fn shape(self, longest: usize) -> Shape {
        match self {
            Self::Mean(None) => Shape::Linear,
            Self::Mean(Some(hidden)) => Shape::Mlp { hidden },
            Self::Attention { window, hidden } => Shape::Attention {
                heads: 4,
                window,
                queries: QUERIES,
                width: WIDTH,
                places: longest.clamp(1, PLACES),
                hidden,
            },
        }
    }
}

/// The head for the labels of a table: one output for each class, in the order of numbers or
/// letters; or a single value.
///
/// # Errors
/// Input: fewer than two classes, or a label that is not a number where values are wanted.
pub fn task(rows: &[Labelled], values: bool, reading: Reading) -> Result<Task> {
    let longest = rows.iter().map(|row| row.codes.len()).max();
    let shape = reading.shape(longest.unwrap_or_default());
    let name = "label".to_string();
    let unit = Unit::Sequence;
    if values {
        let outputs = vec!["value".to_string()];
        let link = Link::Identity;
        return Ok(Task {
            name,
            unit,
            link,
            outputs,
            shape,
            both_strands: false,
            stale: false,
        });
    }
    let classes: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let mut outputs: Vec<String> = classes.into_iter().map(str::to_string).collect();
    outputs.sort_by_key(|label| (label.parse::<i64>().unwrap_or(i64::MAX), label.clone()));
    match outputs.len() {
        2..=1000 => Ok(Task {
            name,
            unit,
            link: Link::Softmax,
            outputs,
            shape,
            both_strands: false,
            stale: false,
        }),
        n => Err(
            Error::input(format!("{n} classes of labels, expected 2 to 1000"))
                .todo("for numbers give --values"),
        ),
    }
}

/// The examples of a table's rows. `others`: sequences that must not be among them; what equals
/// one of them, or its reverse complement, is left out. Also returns how many that were.
///
/// # Errors
/// Input: a label is none of the task's.
pub fn examples(
    task: &Task,
    rows: Vec<Labelled>,
    others: &[&[Labelled]],
) -> Result<(Vec<Example>, usize)> {
    let mut taken = BTreeSet::new();
    for row in others.iter().flat_map(|rows| rows.iter()) {
        let mut reverse = row.codes.clone();
        reverse_complement(&mut reverse);
        taken.extend([row.codes.clone(), reverse]);
    }
    let (all, mut examples) = (rows.len(), Vec::new());
    for Labelled { codes, label } in rows {
        if taken.contains(&codes) {
            continue;
        }
        let class = task.outputs.iter().position(|output| *output == label);
        let target = match task.link {
            Link::Identity => label.parse::<f64>().ok().filter(|value| value.is_finite()),
            _ => class.map(|class| class as f64),
        };
        let target = target.ok_or_else(|| {
            let what = match task.link {
                Link::Identity => "not a number",
                _ => "not a label of the training table",
            };
            Error::input(format!("label \"{label}\": {what}"))
        })?;
        examples.push(Example { codes, target });
    }
    let left_out = all - examples.len();
    Ok((examples, left_out))
}

/// Cross-entropy of classes, or the squared error of values.
pub struct Sequences {
    task: Task,
    training: Vec<Example>,
    held_out: Vec<Example>,
    test: Vec<Example>,
    /// Sequences of one part of a step.
    batch: usize,
    both: bool,
    seed: u64,
    select: Select,
    place: EpochPlace,
    /// The order of the epoch, and which sequences are reverse-complemented in it.
    order: Vec<(usize, bool)>,
    /// What the parts of the next step read.
    drawn: Vec<Vec<Example>>,
}

impl Sequences {
    /// Trains on the first of the sets, evaluates on the second and tests on the third; `batch` sequences at a time, in an order that follows from the seed;
    /// on either strand of each, if `both`.
    ///
    /// # Errors
    /// Usage: there are none, or what selects is no measure of the task.
    pub fn new(
        task: Task,
        [training, held_out, test]: [Vec<Example>; 3],
        batch: usize,
        (both, seed): (bool, u64),
        select: Select,
    ) -> Result<Self> {
        if select == Select::Auroc && task.outputs.len() != 2 {
            let what = "--select auroc is for two classes";
            return Err(Error::usage(what).todo("give --select mcc, or loss"));
        }
        if training.is_empty() {
            return Err(Error::usage("no sequences are left to train on"));
        }
        let mut sequences = Self {
            task,
            training,
            held_out,
            test,
            batch: batch.max(1),
            both,
            seed,
            select,
            place: EpochPlace::default(),
            order: Vec::new(),
            drawn: Vec::new(),
        };
        sequences.seek(EpochPlace::default());
        Ok(sequences)
    }

    /// Sequences of an epoch.
    pub fn count(&self) -> usize {
        self.training.len()
    }

    fn seek(&mut self, place: EpochPlace) {
        let mut rng = generator("sequences", self.seed, place.epoch);
        let mut order: Vec<usize> = (0..self.training.len()).collect();
        order.shuffle(&mut rng);
        self.order = order
            .into_iter()
            .map(|i| (i, self.both && rng.random()))
            .collect();
        self.place = place;
    }

    /// How good something is, with intervals or without.
    fn measuring(&self, intervals: bool) -> Measuring<'_> {
        Measuring {
            task: &self.task,
            select: self.select,
            intervals,
        }
    }

    fn next_batch(&mut self) -> Vec<Example> {
        let mut batch = Vec::with_capacity(self.batch);
        while batch.len() < self.batch {
            let Some(&(i, reverse)) = self.order.get(self.place.next as usize) else {
                // An epoch ends with a smaller batch.
                if !batch.is_empty() {
                    break;
                }
                let epoch = self.place.epoch + 1;
                self.seek(EpochPlace { epoch, next: 0 });
                continue;
            };
            self.place.next += 1;
            let mut example = self.training[i].clone();
            if reverse {
                reverse_complement(&mut example.codes);
            }
            batch.push(example);
        }
        batch
    }
}

impl Objective for Sequences {
    fn draw(&mut self, parts: usize) -> Result<()> {
        self.drawn = (0..parts).map(|_| self.next_batch()).collect();
        Ok(())
    }

    fn loss(&self, network: &Network, part: usize) -> Result<Loss> {
        let batch = self.drawn.get(part).ok_or_else(not_drawn)?;
        let output = forward(network, batch)?;
        let (sum, seed) = match self.task.link {
            Link::Identity => squares(&output, batch)?,
            _ => {
                let targets: Vec<u32> = batch.iter().map(|example| example.target as u32).collect();
                let (sum, seed) = cross_entropy(&output, &targets, &vec![1.0; batch.len()])?;
                (sum / LN_2, seed)
            }
        };
        Ok(Loss {
            output,
            seed,
            sum,
            count: batch.len() as u64,
            bases: batch.iter().map(|example| example.codes.len() as u64).sum(),
        })
    }

    fn evaluate(&self, network: &Network, whole: bool) -> Result<Option<Evaluation>> {
        measure(network, &self.held_out, &self.measuring(whole))
    }

    fn test(&self, network: &Network) -> Result<Option<Evaluation>> {
        measure(network, &self.test, &self.measuring(true))
    }

    fn baselines(&self) -> Result<Vec<Baseline>> {
        let sets = [&self.training, &self.held_out, &self.test];
        baselines::baselines(sets.map(Vec::as_slice), &self.measuring(true))
    }

    fn save(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(&self.place).map_err(|e| Error::because(Kind::Internal, e))
    }

    fn restore(&mut self, saved: &[u8]) -> Result<()> {
        self.seek(postcard::from_bytes(saved).map_err(|e| foreign().caused_by(e))?);
        Ok(())
    }
}

/// (B, K): what the head says of each sequence, from an empty state.
fn forward(network: &Network, batch: &[Example]) -> Result<Tensor> {
    let vocabulary = &network.facts.vocabulary;
    let codes = batch.iter().flat_map(|example| &example.codes);
    let codes: Vec<u8> = codes.copied().collect();
    let tokens: Vec<u32> = codes.iter().map(|code| vocabulary.token(*code)).collect();
    let count = tokens.len();
    let tokens = Tensor::from_vec(tokens, count, &network.device)?;
    let segment = |example: &Example| Segment {
        lane: 0,
        len: example.codes.len(),
        starts: true,
        ends: true,
    };
    let segments: Vec<Segment> = batch.iter().map(segment).collect();
    let mut state = network.model.start(1)?;
    let hidden = network.model.forward(&tokens, &segments, &mut state)?;
    network
        .head()?
        .forward_sequences(&hidden, &codes, &segments)
}

/// The sum of the squared errors, and its gradient.
fn squares(output: &Tensor, batch: &[Example]) -> Result<(f64, Tensor)> {
    let values: Vec<f32> = output.flatten_all()?.to_vec1()?;
    let errors = values
        .iter()
        .zip(batch)
        .map(|(y, example)| f64::from(*y) - example.target);
    let errors: Vec<f64> = errors.collect();
    let gradient: Vec<f32> = errors.iter().map(|error| 2.0 * *error as f32).collect();
    let gradient = Tensor::from_vec(gradient, output.dims(), output.device())?;
    Ok((errors.iter().map(|error| error * error).sum(), gradient))
}

#[cfg(test)]
mod tests;
