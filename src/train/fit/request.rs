//! What is asked of a training run.

use crate::error::{Error, Result};
use crate::head::Shape;
use crate::sequence::region::Query;
use crate::train::{Plan, Reading, Schedule, Select, Trained};
use std::path::PathBuf;

/// A training run: what is learned, from which data, how.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is learned, and the files that it is learned from.
    pub lesson: Lesson,
    /// Regions that choose the weights, and regions that test them.
    pub held_back: [Vec<Query>; 2],
    /// A model is brought closer to a genome: what chooses the weights is the end of its longest
    /// contig, unless something else is.
    pub adapts: bool,
    /// Which values change.
    pub trained: Trained,
    /// Whether both strands are read; none: as is usual for the lesson.
    pub both: Option<bool>,
    /// The part of the inputs of the head's first of two layers that is left out of a step.
    pub head_dropout: f64,
    /// The logits are divided by the temperature that is best on held-out data.
    pub calibrate: bool,
    /// The steps.
    pub steps: Steps,
    /// What all random numbers follow from.
    pub seed: u64,
}

/// What is learned, and the files that it is learned from.
#[derive(Clone, Debug)]
pub enum Lesson {
    /// Each base from those before it.
    NextBase {
        /// Genomes.
        fasta: Vec<PathBuf>,
        /// The fraction of the bases that are read wrongly.
        corrupt: f64,
    },
    /// The labels of tables of sequences.
    Sequences {
        /// To train on.
        table: PathBuf,
        /// To choose the weights.
        validate: Option<PathBuf>,
        /// To test them.
        test: Option<PathBuf>,
        /// Labels are values, not classes.
        values: bool,
        /// How the head reads a sequence.
        reading: Reading,
        /// What decides which weights are kept.
        select: Select,
    },
    /// Classes or values of each base.
    Tracks(Tracking),
}

/// What is learned of each base.
#[derive(Clone, Debug)]
pub struct Tracking {
    /// Genomes.
    pub fasta: Vec<PathBuf>,
    /// What is known of their bases.
    pub labels: Vec<PathBuf>,
    /// Types of features; none: all.
    pub features: Vec<String>,
    /// The labels are genes.
    pub genes: bool,
    /// How the head computes.
    pub shape: Shape,
    /// The head reads both strands.
    pub both_strands: bool,
    /// Classes count alike, however rare they are.
    pub balanced: bool,
}

/// The steps of a run.
#[derive(Clone, Debug)]
pub struct Steps {
    /// Bases of a passage; none: the model's context.
    pub length: Option<u64>,
    /// Bases that a lane reads in a step.
    pub chunk: u64,
    /// Passages or sequences of a step; none: as is usual for the lesson.
    pub batch: Option<usize>,
    /// Parts of a step.
    pub parts: usize,
    /// Times that everything is read, unless `count` says how many steps there are.
    pub epochs: f64,
    /// Steps.
    pub count: Option<u64>,
    /// Bases that all steps read at most, unless `count` says how many there are.
    pub most: Option<u64>,
    /// The highest learning rate.
    pub peak: f64,
    /// Steps in which it rises; none: a twentieth, 1000 at most.
    pub warm_up: Option<u64>,
    /// The last one, as a fraction of the highest.
    pub last: f64,
    /// Weight decay of matrices.
    pub decay: f64,
    /// Longest gradient.
    pub clip: f64,
    /// Steps between evaluations; none: a twentieth, or more where they would take above a fifth of
    /// the time.
    pub evaluate_every: Option<u64>,
    /// Evaluations in a row without a better one, after which a run ends.
    pub patience: Option<u64>,
}

impl Steps {
    /// The plan for an epoch of so many bases or sequences, so many of them in a step, and lanes or
    /// sequences side by side; `evaluation`: how many steps take as long as an evaluation.
    ///
    /// # Errors
    /// Usage: a number that no run can have, by the name of its option.
    pub fn plan(&self, epoch: u64, step: u64, batch: usize, evaluation: f64) -> Result<Plan> {
        for (name, value, most) in [
            ("epochs", self.epochs, 1e6),
            ("learning-rate", self.peak, 1e3),
            ("clip", self.clip, f64::MAX),
        ] {
            if !(value > 0.0 && value <= most) {
                return Err(Error::usage(format!("--{name} must be above 0 and finite")));
            }
        }
        for (name, value) in [("last-rate", self.last), ("weight-decay", self.decay)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::usage(format!("--{name} must be from 0 to 1")));
            }
        }
        let epochs = || (self.epochs * epoch as f64 / step.max(1) as f64).ceil() as u64;
        let most = self
            .most
            .map_or(u64::MAX, |most| (most / step.max(1)).max(1));
        let steps = self.count.unwrap_or_else(|| epochs().min(most));
        Ok(Plan {
            schedule: Schedule {
                peak: self.peak,
                warm_up: self.warm_up.unwrap_or((steps / 20).min(1000)),
                steps,
                last: self.last,
            },
            parts: self.parts.min(batch),
            decay: self.decay,
            clip: self.clip,
            evaluate_every: self.evaluate_every.unwrap_or_else(|| {
                let fifth = (4.0 * evaluation).ceil() as u64;
                (steps / 20).max(fifth).clamp(1, steps.max(1))
            }),
            patience: self.patience,
        })
    }
}
