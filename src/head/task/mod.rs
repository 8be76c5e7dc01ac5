//! Heads for tasks that a user trains: a linear layer on hidden vectors, or on their mean over a
//! sequence; two layers; windowed attention over hidden vectors ([`LocalAttention`]); or, for
//! sequences, attention that pools them ([`AttentionPooling`]).
//!
//! A model's directory lists its heads under the key `_crocuta_heads` of `config.json`; their
//! weights are `crocuta_heads.<name>.weight` (K, D) and `.bias` (K); of two layers `.hidden.weight`
//! (H, D), `.hidden.bias` (H) and a `.weight` of (K, H); or those of the attention. A head of both
//! strands reads vectors of 2D numbers: D of the strand that is described, then D of the same base in
//! the run over the reverse complement.

mod whole;

pub use whole::{Piece, SoFar};

use super::attention_pooling::{AttentionPooling, BASES, PAIRS, PoolingSizes, pairs};
use super::local_attention::{LocalAttention, LocalSizes, LocalState};
use crate::checkpoint::{Config, Weights};
use crate::error::{Error, Result};
use crate::ops::{Activation, Device, Linear, PoolSizes, Tensor};
use crate::ops::{gelu_erf, segment_mean, timing, unwritten};
use crate::sequence::Segment;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The key of `config.json`.
pub const HEADS: &str = "_crocuta_heads";

/// What a head is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name, within the model.
    pub name: String,
    /// What it describes.
    pub unit: Unit,
    /// How its numbers are to be read.
    pub link: Link,
    /// What each of its K numbers stands for.
    pub outputs: Vec<String>,
    /// How it computes them.
    #[serde(default, skip_serializing_if = "Shape::is_linear")]
    pub shape: Shape,
    /// It reads the hidden vectors of both strands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub both_strands: bool,
    /// The encoder was trained after it, without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// How a head computes its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// From each vector alone: a linear layer.
    #[default]
    Linear,
    /// From each vector alone: a layer of so many numbers, GELU, a linear layer.
    Mlp {
        /// H.
        hidden: usize,
    },
    /// From the vectors of all bases so many to the left and to the right.
    LocalAttention {
        /// H, a divisor of the vectors' width.
        heads: usize,
        /// w.
        window: usize,
    },
    /// Of sequences: attention nearby, then attention that pools, then two layers.
    Attention {
        /// Heads of the attention nearby, a divisor of the vectors' width.
        heads: usize,
        /// w of it.
        window: usize,
        /// Q, queries that pool.
        queries: usize,
        /// E, numbers that each takes.
        width: usize,
        /// P, places around a sequence's centre that they tell apart.
        places: usize,
        /// H, numbers between the two layers.
        hidden: usize,
    },
}

/// The weight (K, 16 P) by which the pair of bases at each place of a sequence adds to the logits, of
/// heads of sequences with attention: a linear model of the bases, which such a head begins as.
pub const PAIR_WEIGHT: &str = "pairs.weight";

/// Rows that a thread takes at a time.
const TOGETHER: usize = 256;

/// Limits of sizes that a configuration states.
const MOST: usize = 1 << 16;

/// What a head describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Each base.
    Base,
    /// A sequence as a whole: the mean of its hidden vectors.
    Sequence,
}

/// How a head's numbers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// As they are.
    Identity,
    /// Log-odds, each of its own.
    Sigmoid,
    /// Logits of classes that exclude each other.
    Softmax,
}

impl Task {
    /// The heads that a configuration lists.
    ///
    /// # Errors
    /// Model: the key holds something else.
    pub fn list(config: &Config) -> Result<Vec<Self>> {
        let Some(value) = config.get(HEADS) else {
            return Ok(Vec::new());
        };
        serde_json::from_value(value.clone()).map_err(|e| {
            config
                .error(HEADS, format!("not a list of heads ({e})"))
                .caused_by(e)
        })
    }

    /// The list with this head in it, in the place of one of the same name.
    pub fn listed(&self, config: &Config) -> Result<Value> {
        let mut all = Self::list(config)?;
        all.retain(|task| task.name != self.name);
        all.push(self.clone());
        Ok(json!(all))
    }

    /// What a user should know of a head that is stale.
    pub fn warning(&self) -> Option<String> {
        let name = &self.name;
        self.stale.then(|| {
            format!(
                "the head \"{name}\" is older than its encoder, which was trained without it: train \
                 the head again with crocuta fit"
            )
        })
    }

    /// Its weights before training, by name, on hidden vectors of `width`: a linear layer of zeros,
    /// or what [`LocalAttention::create`] makes of the seed.
    ///
    /// # Errors
    /// Model: the shape does not fit the width.
    pub fn untrained(
        &self,
        width: usize,
        seed: u64,
    ) -> Result<BTreeMap<String, candle_core::Tensor>> {
        let outputs = self.outputs.len();
        let zeros = |shape: &[usize]| Tensor::zeros(shape, &Device::Cpu)?.stored();
        let mut tensors = match self.sizes(width)? {
            Some(sizes) => LocalAttention::create(sizes, seed)?,
            None => BTreeMap::from([
                ("weight".to_string(), zeros(&[outputs, self.last(width)])?),
                ("bias".to_string(), zeros(&[outputs])?),
            ]),
        };
        if let Some(sizes) = self.pooling(width)? {
            tensors.extend(AttentionPooling::create(sizes, seed)?);
            let pairs = zeros(&[outputs, PAIRS * sizes.pool.places])?;
            tensors.insert(PAIR_WEIGHT.to_string(), pairs);
        }
        if let Shape::Mlp { hidden } | Shape::Attention { hidden, .. } = self.shape {
            let inputs = self.inputs(width);
            let mut rng = StdRng::seed_from_u64(seed);
            let bound = 1.0 / (inputs as f32).sqrt();
            let values = (0..hidden * inputs).map(|_| rng.random_range(-bound..=bound));
            let weight = Tensor::from_vec::<f32>(values.collect(), (hidden, inputs), &Device::Cpu)?;
            tensors.insert("hidden.weight".to_string(), weight.stored()?);
            tensors.insert("hidden.bias".to_string(), zeros(&[hidden])?);
        }
        let prefix = self.prefix();
        let named = tensors.into_iter();
        let named = named.map(|(part, x)| (format!("{prefix}{part}"), x));
        Ok(named.collect())
    }

    /// What the names of its weights begin with.
    pub fn prefix(&self) -> String {
        format!("crocuta_heads.{}.", self.name)
    }

    /// The length of the vectors that its first layer reads, of an encoder of `width`.
    fn inputs(&self, width: usize) -> usize {
        match self.shape {
            Shape::Attention { queries, width, .. } => queries * width,
            _ if self.both_strands => 2 * width,
            _ => width,
        }
    }

    /// The length of the vectors that the last linear layer reads.
    fn last(&self, width: usize) -> usize {
        match self.shape {
            Shape::Mlp { hidden } | Shape::Attention { hidden, .. } => hidden,
            _ => self.inputs(width),
        }
    }

    /// Of a local-attention head.
    fn sizes(&self, width: usize) -> Result<Option<LocalSizes>> {
        let Shape::LocalAttention { heads, window } = self.shape else {
            return Ok(None);
        };
        let width = self.inputs(width);
        if heads == 0 || !width.is_multiple_of(heads) || window > 4096 || self.unit != Unit::Base {
            let what = format!(
                "head \"{}\": attention of {heads} heads and window {window} to vectors of {width}",
                self.name
            );
            return Err(Error::model(what).todo("take --head-shape linear"));
        }
        Ok(Some(LocalSizes {
            width,
            heads,
            window,
            classes: self.outputs.len(),
            causal: false,
        }))
    }

    /// Of a head of sequences with attention.
    fn pooling(&self, d: usize) -> Result<Option<PoolingSizes>> {
        let Shape::Attention {
            heads,
            window,
            queries,
            width,
            places,
            hidden,
        } = self.shape
        else {
            return Ok(None);
        };
        let sizes = [heads, queries, width, places, hidden];
        let fits = sizes.iter().all(|size| (1..=MOST).contains(size)) && window <= 4096;
        let d = d + BASES;
        let divides = heads > 0 && d.is_multiple_of(heads) && queries * width <= MOST;
        if !fits || !divides || self.unit != Unit::Sequence || self.both_strands {
            let what = format!(
                "head \"{}\": attention of these sizes to vectors of {d}",
                self.name
            );
            return Err(Error::model(what).todo("take --head-shape linear"));
        }
        let pool = PoolSizes {
            queries,
            width,
            places,
        };
        let local = LocalSizes {
            width: d,
            heads,
            window,
            classes: pool.row(),
            causal: false,
        };
        Ok(Some(PoolingSizes { local, pool }))
    }

    /// The head, on hidden vectors of `width`.
    ///
    /// # Errors
    /// Model: weights are missing or do not fit.
    pub fn load(&self, weights: &Weights, width: usize) -> Result<TaskHead> {
        if self.outputs.is_empty() || self.shape == (Shape::Mlp { hidden: 0 }) {
            return Err(Error::model(format!(
                "head \"{}\" has no outputs",
                self.name
            )));
        }
        let weights = weights.at("crocuta_heads").at(&self.name);
        let outputs = self.outputs.len();
        let mut halves = None;
        let layer = match self.sizes(width)? {
            Some(sizes) => Readout::Local(Box::new(LocalAttention::load(sizes, &weights)?)),
            None => {
                let pair = |weights: &Weights, to: usize, from: usize| {
                    Ok::<_, Error>(Dense {
                        weight: weights.tensor("weight", &[to, from])?,
                        bias: weights.tensor("bias", &[to])?,
                    })
                };
                let last = pair(&weights, outputs, self.last(width))?;
                let hidden = match self.shape {
                    Shape::Mlp { hidden } | Shape::Attention { hidden, .. } => {
                        Some(pair(&weights.at("hidden"), hidden, self.inputs(width))?)
                    }
                    _ => None,
                };
                let first = hidden.as_ref().unwrap_or(&last);
                if self.both_strands {
                    let half = |from| first.weight.narrow(1, from, width);
                    let [own, other] = [half(0)?, half(width)?].map(|half| Linear::new(half, None));
                    halves = Some(([own, other], first.bias.to_vec1()?));
                }
                Readout::Dense(hidden.map(Dense::linear), last.linear())
            }
        };
        let pooling = self.pooling(width)?;
        let pooling = pooling.map(|sizes| AttentionPooling::load(sizes, &weights));
        let pooling = pooling.transpose()?;
        let pairs = pooling.as_ref().map(|pooling| {
            let pairs = weights.tensor(PAIR_WEIGHT, &[outputs, PAIRS * pooling.places()])?;
            Ok::<_, Error>(Linear::new(pairs, None))
        });
        Ok(TaskHead {
            layer,
            halves,
            pooling,
            pairs: pairs.transpose()?,
            unit: self.unit,
            link: self.link,
            outputs,
        })
    }
}

impl Shape {
    fn is_linear(&self) -> bool {
        *self == Self::Linear
    }
}

struct Dense {
    weight: Tensor,
    bias: Tensor,
}

impl Dense {
    fn linear(self) -> Linear {
        Linear::new(self.weight, Some(self.bias))
    }
}

/// A head with its weights.
pub struct TaskHead {
    layer: Readout,
    /// Of a head of both strands without attention: what its first layer, of N numbers, makes of
    /// the vector of the strand that is described, and of the other's; and that layer's bias.
    halves: Option<([Linear; 2], Vec<f32>)>, // (N, D) each, (N)
    /// Of a head of sequences, if it does not read their means.
    pooling: Option<AttentionPooling>,
    /// Of the same: what the pairs of bases at their places add.
    pairs: Option<Linear>, // (K, 16 P)
    unit: Unit,
    link: Link,
    outputs: usize,
}

enum Readout {
    /// The hidden layer, if there is one, and the last.
    Dense(Option<Linear>, Linear),
    Local(Box<LocalAttention>),
}

impl TaskHead {
    /// Hidden vectors (T, D) of whole sequences of these codes to (B, K), a row for each segment.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn forward_sequences(
        &self,
        hidden: &Tensor,
        codes: &[u8],
        segments: &[Segment],
    ) -> Result<Tensor> {
        let (Some(pooling), Readout::Dense(first, last), Some(linear)) =
            (&self.pooling, &self.layer, &self.pairs)
        else {
            return self.forward(hidden, segments);
        };
        let width = PAIRS * pooling.places();
        let (mut rows, mut rest) = (vec![0.0f32; segments.len() * width], codes);
        for (row, segment) in rows.chunks_exact_mut(width).zip(segments) {
            let (own, later) = rest.split_at(segment.len);
            for pair in pairs(own, None, (0, own.len()), pooling.places()) {
                row[pair] = 1.0;
            }
            rest = later;
        }
        let rows = Tensor::from_vec(rows, (segments.len(), width), &Device::Cpu)?;
        let out = dense(&pooling.forward(hidden, codes, segments)?, first, last)?;
        linear.forward_residual(&rows, &out)
    }

    /// Hidden vectors of whole sequences (T, D), or (T, 2D) of both strands, to (T, K); to (B, K),
    /// a row for each segment, if the head describes sequences by their means.
    ///
    /// # Errors
    /// Those of the ops.
    pub fn forward(&self, hidden: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let _span = timing::whole("head");
        match (&self.layer, self.unit) {
            (Readout::Dense(first, last), Unit::Base) => dense(hidden, first, last),
            (Readout::Dense(first, last), Unit::Sequence) => {
                dense(&segment_mean(hidden, segments)?, first, last)
            }
            (Readout::Local(local), _) => {
                Ok(local.forward(hidden, segments, &mut local.start(0))?.logits)
            }
        }
    }

    /// K.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether a base's numbers depend on the vectors of others.
    pub fn looks_around(&self) -> bool {
        matches!(self.layer, Readout::Local(_))
    }

    /// The first stage of reading piece by piece: what of the hidden vectors (T, D) must wait for
    /// the other strand. `strands`: how many rows follow each other, and whether they are of the
    /// reverse strand.
    pub fn begin(&self, hidden: &Tensor, strands: &[(usize, bool)]) -> Result<Tensor> {
        let _span = timing::whole("head");
        match (&self.layer, &self.halves) {
            (_, Some((halves, _))) => {
                if let [(_, reverse)] = strands {
                    return halves[usize::from(*reverse)].forward(hidden); // (T, N)
                }
                // Thousands of short sequences: as many products would take longer than one of all.
                let [own, other] = halves.each_ref().map(|half| half.forward(hidden));
                let both = Tensor::cat(&[own?, other?], 0)?; // (2T, N)
                let tokens = both.dim(0)? / 2;
                let of_strands = strands.iter().flat_map(|&(rows, reverse)| {
                    std::iter::repeat_n(if reverse { tokens } else { 0 }, rows)
                });
                let rows = of_strands.enumerate().map(|(i, from)| (from + i) as u32);
                let rows = Tensor::from_vec(rows.collect(), tokens, hidden.device())?;
                both.index_select(&rows, 0) // (T, N)
            }
            (Readout::Dense(first, last), None) => dense(hidden, first, last), // (T, K)
            (Readout::Local(_), None) => Ok(hidden.clone()),                   // (T, D)
        }
    }

    /// An empty state of the second stage.
    pub fn start(&self) -> Option<LocalState> {
        match &self.layer {
            Readout::Dense(..) => None,
            Readout::Local(local) => Some(local.start(1)),
        }
    }

    /// The second stage: parts of both strands side by side, or of one, to what the head says of
    /// the bases that are complete: (rows, K), probabilities or values.
    pub fn end(
        &self,
        mut parts: Vec<f32>,
        segment: Segment,
        state: &mut Option<LocalState>,
    ) -> Result<Vec<f32>> {
        if let Some((_, bias)) = &self.halves {
            let n = bias.len();
            let mut sums: Vec<f32> = unwritten(parts.len() / 2);
            let rows = sums.par_chunks_exact_mut(n);
            let rows = rows.zip(parts.par_chunks_exact(2 * n));
            rows.with_min_len(TOGETHER).for_each(|(sum, row)| {
                let strands = row[..n].iter().zip(&row[n..]).zip(bias);
                for (sum, ((own, other), bias)) in sum.iter_mut().zip(strands) {
                    *sum = own + other + bias;
                }
            });
            parts = sums; // (rows, N)
        }
        let mut out = match (&self.layer, state) {
            (Readout::Local(local), Some(state)) => {
                let width = local.sizes().width;
                let parts = Tensor::from_vec(parts, (segment.len, width), &Device::Cpu)?;
                local.forward(&parts, &[segment], state)?.logits.to_vec1()?
            }
            (Readout::Dense(Some(_), last), _) if self.halves.is_some() => {
                let width = parts.len() / segment.len;
                let parts = Tensor::from_vec(parts, (segment.len, width), &Device::Cpu)?;
                last.forward(&gelu_erf(&parts)?)?.to_vec1()?
            }
            _ => parts,
        };
        out.par_chunks_exact_mut(self.outputs)
            .with_min_len(TOGETHER)
            .for_each(|row| self.link.apply(row));
        Ok(out)
    }
}

fn dense(x: &Tensor, first: &Option<Linear>, last: &Linear) -> Result<Tensor> {
    match first {
        Some(first) => last.forward(&first.forward_activated(x, Activation::GeluErf)?),
        None => last.forward(x),
    }
}

impl Link {
    /// Turns a row of K numbers into what it says: probabilities, or values.
    pub fn apply(self, row: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Sigmoid => row.iter_mut().for_each(|x| *x = 1.0 / (1.0 + (-*x).exp())),
            Self::Softmax => {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|x| *x = (*x - largest).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}

#[cfg(test)]
mod tests;
