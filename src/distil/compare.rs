//! How far an approximation is from its original, on a user's sequences.

use crate::checkpoint::Checkpoint;
use crate::encoder::{Encoder, Facts, Model, Segment};
use crate::error::{Error, Result};
use crate::head::LanguageModel;
use crate::ops::{Device, Tensor};
use std::fmt;

/// Bases of a random check sequence, at most.
pub const CHECK_BASES: usize = 1 << 15;
/// Bases of a step of the check, of models that carry a state.
const STEP: usize = 4096;

/// What the models are compared on.
pub struct Check {
    /// Where they came from, for the report.
    pub name: String,
    /// Base codes of one sequence or more, each run on its own; not empty.
    pub sequences: Vec<Vec<u8>>,
}

impl Check {
    /// Random bases: `bases` of them, always the same ones.
    pub fn random(bases: usize) -> Self {
        let mut state = 1u64;
        let mut base = || {
            // Knuth's MMIX generator; its upper bits are good.
            state = state.wrapping_mul(6_364_136_223_846_793_005);
            state = state.wrapping_add(1_442_695_040_888_963_407);
            (state >> 62) as u8
        };
        Self {
            name: "random bases".into(),
            sequences: vec![(0..bases).map(|_| base()).collect()],
        }
    }

    /// The same bases as sequences of at most `bases` each.
    #[must_use]
    pub fn cut(self, bases: usize) -> Self {
        let pieces = self.sequences.iter().flat_map(|codes| codes.chunks(bases));
        Self {
            sequences: pieces.map(<[u8]>::to_vec).collect(),
            name: self.name,
        }
    }
}

/// The error of the hidden vectors on a check sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputError {
    /// Where the sequence came from.
    pub sequence: String,
    /// Its bases.
    pub bases: usize,
    /// Largest difference of a value, relative to the largest magnitude.
    pub largest: f64,
    /// Root of the mean squared difference, relative to that of the values.
    pub rms: f64,
}

/// A model with its head, if what it says of bases is compared too.
pub struct Compared {
    /// The encoder.
    pub model: Model,
    /// What is known of it.
    pub facts: Facts,
    /// What it says of the next base.
    pub head: Option<LanguageModel>,
}

impl Compared {
    /// The model of a checkpoint, with its head if it reads in one direction.
    ///
    /// # Errors
    /// As [`Model::load`] and [`LanguageModel::load`].
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        let (model, facts) = Model::load(checkpoint)?;
        let head = if facts.causal {
            Some(LanguageModel::load(checkpoint, &model, &facts)?)
        } else {
            None
        };
        Ok(Self { model, facts, head })
    }
}

/// The length on which both models were trained, or 8,192 bases where neither says.
pub fn trained(models: [&Compared; 2]) -> usize {
    let known = models.iter().filter_map(|model| model.facts.context);
    known.min().unwrap_or(8192)
}

/// Sums over the values of both models.
#[derive(Default)]
struct Sums {
    largest: f64,
    difference: f64,
    squares: f64,
    difference_squares: f64,
    /// Bits of the bases that were predicted, by each model; and how many these were.
    bits: [f64; 2],
    predicted: usize,
}

/// The error of the second model's hidden vectors, and the bits a base of each, where both have a
/// head.
///
/// # Errors
/// Usage: vectors of different lengths; Model: vectors that are zero or not finite.
pub fn compare(models: [&Compared; 2], check: &Check) -> Result<(OutputError, Option<[f64; 2]>)> {
    let [a, b] = models.map(|model| model.facts.width);
    if a != b {
        let what = format!("vectors of {a} and of {b} numbers cannot be compared");
        return Err(Error::usage(what));
    }
    let mut sums = Sums::default();
    for codes in &check.sequences {
        sums.sequence(models, codes)?;
    }
    if !sums.difference.is_finite() || sums.largest == 0.0 {
        return Err(Error::model("hidden vectors that are zero or not finite"));
    }
    let both = models.iter().all(|model| model.head.is_some());
    let predicted = sums.predicted as f64;
    let output = OutputError {
        sequence: check.name.clone(),
        bases: check.sequences.iter().map(Vec::len).sum(),
        largest: sums.difference / sums.largest,
        rms: (sums.difference_squares / sums.squares).sqrt(),
    };
    let bits = (both && sums.predicted > 0).then(|| sums.bits.map(|bits| bits / predicted));
    Ok((output, bits))
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hidden vectors on {} bases ({}): largest difference {:.2e} of the largest magnitude, \
             root mean square {:.2e}",
            self.bases, self.sequence, self.largest, self.rms
        )
    }
}

impl Sums {
    fn sequence(&mut self, models: [&Compared; 2], codes: &[u8]) -> Result<()> {
        let streams = models.iter().all(|model| model.facts.streams());
        let step = if streams { STEP } else { codes.len() };
        let mut states = [models[0].model.start(1)?, models[1].model.start(1)?];
        for (i, piece) in codes.chunks(step).enumerate() {
            let from = i * step;
            let segment = Segment {
                lane: 0,
                len: piece.len(),
                starts: from == 0,
                ends: from + piece.len() == codes.len(),
            };
            let mut hidden = Vec::with_capacity(2);
            for (at, (model, state)) in models.iter().zip(&mut states).enumerate() {
                let tokens = piece.iter().map(|code| model.facts.vocabulary.token(*code));
                let tokens = Tensor::new(tokens.collect::<Vec<_>>(), &Device::Cpu)?;
                let layers = model.facts.default_layers();
                let mut found = model
                    .model
                    .forward_layers(&tokens, &[segment], state, &layers)?;
                if let (Some(head), Some(read)) = (&model.head, found.last()) {
                    let next = codes[from + 1..].iter().take(piece.len());
                    let bits = bits(head, &head.forward(read)?, next)?;
                    self.bits[at] += bits.iter().sum::<f64>();
                    self.predicted += if at == 0 { bits.len() } else { 0 };
                }
                hidden.push(found.swap_remove(0).to_vec1::<f32>()?);
            }
            let both = hidden[0].iter().zip(&hidden[1]);
            both.for_each(|(x, y)| self.add(*x, *y));
        }
        Ok(())
    }

    fn add(&mut self, x: f32, y: f32) {
        let (x, d) = (f64::from(x), f64::from(y - x));
        // A maximum that keeps not-a-number.
        self.difference = if d.abs() <= self.difference {
            self.difference
        } else {
            d.abs()
        };
        self.largest = self.largest.max(x.abs());
        self.squares += x * x;
        self.difference_squares += d * d;
    }
}

/// The bits of the bases that rows of logits predict; none of N.
fn bits<'a>(
    head: &LanguageModel,
    logits: &Tensor,
    next: impl Iterator<Item = &'a u8>,
) -> Result<Vec<f64>> {
    let rows = logits.to_vec2::<f32>()?;
    let known = rows.iter().zip(next);
    let known = known.filter_map(|(row, code)| head.log_probability(row, *code));
    Ok(known.map(|log| -log / std::f64::consts::LN_2).collect())
}
