//! What the model says along the reference, as far back as anyone still asks.

use crate::error::Result;
use crate::head::{LanguageModel, PREDICTIONS};
use crate::ops::Tensor;
use crate::stream::check_finite;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ops::Range;

/// What was predicted of one base.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Reading {
    /// log P(this base), of all tokens; NaN for N, and where nothing was predicted.
    pub logp: f32,
    /// P(A, C, G, T), of these four; NaN where nothing was predicted.
    pub four: [f32; 4],
}

impl Reading {
    /// What `logits` say of the base `code`; nothing if they are empty.
    pub fn new(head: &LanguageModel, logits: &[f32], code: u8) -> Self {
        let mut out = [f32::NAN; PREDICTIONS];
        head.predict(logits, code, false, &mut out);
        Self::of(&out)
    }

    /// Nothing: no base comes before.
    pub const NONE: Self = Self {
        logp: f32::NAN,
        four: [f32::NAN; 4],
    };

    /// Of what [`LanguageModel::predictions`] gave for a base.
    pub fn of(numbers: &[f32; PREDICTIONS]) -> Self {
        let [logp, a, c, g, t, ..] = *numbers;
        let four = [a, c, g, t];
        Self { logp, four }
    }

    /// Whether anything was predicted.
    pub fn exists(&self) -> bool {
        !self.four[0].is_nan()
    }
}

/// The readings of consecutive bases: base i by the logits of token i − 1, or of token i if the
/// model is bidirectional. `before` are the logits of the token before the first.
pub(super) fn readings(
    head: &LanguageModel,
    causal: bool,
    before: &[f32],
    logits: &[f32],
    codes: &[u8],
) -> Vec<Reading> {
    let rows = logits.chunks_exact(head.width());
    let rows: Vec<&[f32]> = if causal {
        std::iter::once(before).chain(rows).collect()
    } else {
        rows.collect()
    };
    let each = codes.par_iter().zip(rows).with_min_len(64);
    each.map(|(&code, row)| Reading::new(head, row, code))
        .collect()
}

/// Readings and hidden vectors of consecutive positions of a strand.
///
/// Memory: D + 5 numbers a position that was not forgotten.
#[derive(Serialize, Deserialize)]
pub(super) struct Line {
    /// The first position that is kept.
    from: u64,
    width: usize,
    readings: VecDeque<Reading>,
    hidden: VecDeque<f32>, // (positions, D)
}

impl Line {
    /// A line that begins at `from`, of hidden vectors of `width`; 0 where they are kept elsewhere.
    pub fn new(from: u64, width: usize) -> Self {
        Self {
            from,
            width,
            readings: VecDeque::new(),
            hidden: VecDeque::new(),
        }
    }

    /// Appends positions.
    pub fn push(&mut self, readings: Vec<Reading>, hidden: &[f32]) {
        self.readings.extend(readings);
        self.hidden.extend(hidden);
    }

    /// Forgets what lies before `position`.
    pub fn forget(&mut self, position: u64) {
        let n = position
            .saturating_sub(self.from)
            .min(self.readings.len() as u64) as usize;
        self.readings.drain(..n);
        self.hidden.drain(..n * self.width);
        self.from += n as u64;
    }

    /// The readings of a range, as far as they are kept.
    pub fn readings(&self, range: Range<u64>) -> impl ExactSizeIterator<Item = &Reading> {
        self.readings.range(self.kept(range))
    }

    /// The sum of the hidden vectors of a range, as far as they are kept.
    pub fn sum(&self, range: Range<u64>) -> Sum {
        let kept = self.kept(range);
        let mut sum = Sum::new(self.width);
        let values = self
            .hidden
            .range(kept.start * self.width..kept.end * self.width);
        for (i, value) in values.enumerate() {
            sum.values[i % self.width] += f64::from(*value);
        }
        sum.count = kept.len();
        sum
    }

    fn kept(&self, range: Range<u64>) -> Range<usize> {
        let clamp = |position: u64| {
            let offset = position.saturating_sub(self.from);
            offset.min(self.readings.len() as u64) as usize
        };
        let (start, end) = (clamp(range.start), clamp(range.end));
        start..end.max(start)
    }
}

/// A sum of so many hidden vectors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Sum {
    pub values: Vec<f64>,
    pub count: usize,
}

impl Sum {
    pub fn new(width: usize) -> Self {
        Self {
            values: vec![0.0; width],
            count: 0,
        }
    }

    /// Adds rows of hidden vectors.
    pub fn add(&mut self, hidden: &[f32]) {
        let width = self.values.len();
        for row in hidden.chunks_exact(width) {
            for (sum, value) in self.values.iter_mut().zip(row) {
                *sum += f64::from(*value);
            }
        }
        self.count += hidden.len() / width;
    }

    /// The mean; `None` of no vectors.
    pub fn mean(&self) -> Option<Vec<f32>> {
        self.mean_with(&Self::new(self.values.len()))
    }

    /// The mean of this and another sum; `None` of no vectors.
    pub fn mean_with(&self, other: &Self) -> Option<Vec<f32>> {
        let count = (self.count + other.count) as f64;
        let sums = self.values.iter().zip(&other.values);
        (count > 0.0).then(|| sums.map(|(a, b)| ((a + b) / count) as f32).collect())
    }
}

/// What the model says along an alternate haplotype, from the variant on.
#[derive(Serialize, Deserialize)]
pub(super) struct Haplotype {
    /// The alternate's bases, then the reference's that follow.
    pub readings: Vec<Reading>,
    /// The hidden vector after the alternate's last base; `None` if there is no base.
    pub site: Option<Vec<f32>>,
    /// Of the alternate's bases and those around it that the variant could change.
    pub around: Sum,
    /// Of the bases before the variant, where the variant could change them.
    pub left: Option<Sum>,
}

/// The vectors (T, D) of the layer that is compared, and the logits (T, V), as numbers; `hidden`:
/// what the head reads, and the vectors if they are others. `place` names a token.
///
/// # Errors
/// Model, if one is not finite: it would pass for a missing one.
pub(super) fn outputs(
    head: &LanguageModel,
    (hidden, vectors): (Tensor, Option<Tensor>),
    place: impl Fn(usize) -> String,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let logits: Vec<f32> = head.forward(&hidden)?.to_vec1()?;
    let vectors = vectors.unwrap_or(hidden);
    let width = vectors.dim(1)?;
    let vectors: Vec<f32> = vectors.to_vec1()?;
    check_finite(&vectors, width, &place)?;
    check_finite(&logits, head.width(), &place)?;
    Ok((vectors, logits))
}
