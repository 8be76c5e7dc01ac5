//! A compact head for motifs: windowed attention over any encoder's hidden vectors, then logits
//! over classes. Streams with a halo, exact at any chunk size.
//!
//! Symbols: T rows of a step, D width, H heads of d = D / H columns, w window, C classes.
//!
//! ```text
//! q, k, v = LayerNorm(x) W + b                               (D each)
//! a_i = Σ_j softmax_j(q_i·k_j / √d + r[j − i + w]) v_j       j from i − w to i + w, or to i
//! y_i = x_i + a_i W_out + b_out
//! logits_i = y_i W_classes + b_classes                       (C)
//! ```
//!
//! There are no positions but the learned bias r, one number for each head and distance (Raffel
//! et al. 2020, arXiv:1910.10683): a motif scores the same wherever it stands, and at a sequence's
//! ends the window is simply cut.
//!
//! Weights: `norm`, `q`, `k`, `v`, `out`, `classes`, each with `.weight` (outputs, inputs) and
//! `.bias`, and `position.weight` (H, 2w + 1), or (H, w + 1) when causal.

mod backward;

use crate::checkpoint::{Config, Weights};
use crate::error::{Error, Kind, Result};
use crate::ops::{Device, Tensor};
use crate::ops::{LayerNorm, Linear, Matrix, math, math::simd, multiply, unwritten, with_slices};
use crate::sequence::Segment;
use backward::{Part, Step};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Queries of a tile: a tile's scores, 64 by 64 + 2w, stay in the L2 cache for motif windows.
const QUERIES: usize = 64;
/// Of the norm.
const EPS: f64 = 1e-5;

/// The sizes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSizes {
    /// D, the encoder's width.
    pub width: usize,
    /// H, a divisor of D.
    pub heads: usize,
    /// w: positions that a row sees to its left, and to its right if not causal.
    pub window: usize,
    /// C, logits of a position.
    pub classes: usize,
    /// Rows see nothing to their right.
    pub causal: bool,
}

impl LocalSizes {
    /// Reads and checks the keys `width`, `heads`, `window`, `classes` and `causal`.
    pub fn read(config: &Config) -> Result<Self> {
        let width = config.size("width", 1..=1 << 16, None)?;
        let heads = config.size("heads", 1..=width, Some(4.min(width)))?;
        if !width.is_multiple_of(heads) {
            return Err(config.error("heads", format!("{heads} does not divide width {width}")));
        }
        Ok(Self {
            width,
            heads,
            window: config.size("window", 0..=1 << 12, Some(16))?,
            classes: config.size("classes", 1..=1 << 16, None)?,
            causal: config.flag("causal", Some(false))?,
        })
    }

    /// Rows by which the output lags behind the input.
    pub fn lag(&self) -> usize {
        if self.causal { 0 } else { self.window }
    }

    /// Distances that have a bias: w to the left, 0, and w to the right if not causal.
    fn distances(&self) -> usize {
        self.window + self.lag() + 1
    }

    /// Bytes of state for one unfinished sequence.
    pub fn state_bytes(&self) -> usize {
        (2 * (self.window + self.lag()) + 2 * self.lag()) * self.width * size_of::<f32>()
    }
}

/// The head: hidden vectors (T, D) to logits (rows, C) of the rows whose window is complete.
pub struct LocalAttention {
    sizes: LocalSizes,
    norm: LayerNorm,
    qkv: Linear,        // (3D, D)
    position: Vec<f32>, // (H, distances)
    position_tensor: Tensor,
    out: Linear,     // (D, D)
    classes: Linear, // (C, D)
}

/// What each lane's unfinished sequence leaves behind: the keys and values of its last 2w rows,
/// and the w rows that still wait for their right context.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalState {
    lanes: Vec<Held>,
}

/// Rows of one sequence. `first` is the larger of 0 and `next` − w.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Held {
    /// Position of the first key.
    first: usize,
    /// Position of the next row to come out, and of the first query.
    next: usize,
    keys: Vec<f32>,    // (rows from `first` on, D)
    values: Vec<f32>,  // as keys
    queries: Vec<f32>, // (rows from `next` on, D)
    hidden: Vec<f32>,  // as queries
}

/// Logits, and which rows they are of.
#[derive(Debug)]
pub struct LocalRows {
    /// (rows of all pieces, C).
    pub logits: Tensor,
    /// One for each segment of the step, in its order.
    pub pieces: Vec<LocalPiece>,
}

/// Consecutive rows of one sequence that are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalPiece {
    /// 0-based position of the first row in its sequence.
    pub offset: usize,
    /// Rows; 0 where none is complete yet.
    pub len: usize,
}

impl LocalAttention {
    /// Takes the head's weights.
    pub fn load(sizes: LocalSizes, weights: &Weights) -> Result<Self> {
        let d = sizes.width;
        let pair = |name: &str, to: usize| {
            let weights = weights.at(name);
            let weight = weights.tensor("weight", &[to, d])?;
            Ok::<_, Error>((weight, weights.tensor("bias", &[to])?))
        };
        let [(q, q_bias), (k, k_bias), (v, v_bias)] = [pair("q", d)?, pair("k", d)?, pair("v", d)?];
        let norm = weights.at("norm");
        let (out, out_bias) = pair("out", d)?;
        let (classes, classes_bias) = pair("classes", sizes.classes)?;
        let position = weights.at("position");
        let position = position.tensor("weight", &[sizes.heads, sizes.distances()])?;
        Ok(Self {
            sizes,
            norm: LayerNorm::new(
                norm.tensor("weight", &[d])?,
                norm.tensor("bias", &[d])?,
                EPS,
            ),
            qkv: Linear::new(
                Tensor::cat(&[q, k, v], 0)?,
                Some(Tensor::cat(&[q_bias, k_bias, v_bias], 0)?),
            ),
            position: position.to_vec1()?,
            position_tensor: position,
            out: Linear::new(out, Some(out_bias)),
            classes: Linear::new(classes, Some(classes_bias)),
        })
    }

    /// Untrained weights by their names: uniform within ±1/√D, biases and positions zero, norm
    /// one, `out` zero, so that training begins at the linear classifier of each position alone.
    /// The same seed gives the same values.
    pub fn create(sizes: LocalSizes, seed: u64) -> Result<BTreeMap<String, candle_core::Tensor>> {
        let d = sizes.width;
        let mut rng = StdRng::seed_from_u64(seed);
        let bound = 1.0 / (d as f32).sqrt();
        let mut tensors = BTreeMap::new();
        let mut add = |name: &str, shape: &[usize], value: &mut dyn FnMut() -> f32| {
            let values = (0..shape.iter().product()).map(|_| value()).collect();
            let tensor = Tensor::from_vec::<f32>(values, shape, &Device::Cpu)?;
            tensors.insert(name.to_string(), tensor.stored()?);
            Ok::<_, Error>(())
        };
        for (name, rows) in [("q", d), ("k", d), ("v", d), ("classes", sizes.classes)] {
            add(&format!("{name}.weight"), &[rows, d], &mut || {
                rng.random_range(-bound..=bound)
            })?;
            add(&format!("{name}.bias"), &[rows], &mut || 0.0)?;
        }
        add("out.weight", &[d, d], &mut || 0.0)?;
        add("out.bias", &[d], &mut || 0.0)?;
        add("norm.weight", &[d], &mut || 1.0)?;
        add("norm.bias", &[d], &mut || 0.0)?;
        add(
            "position.weight",
            &[sizes.heads, sizes.distances()],
            &mut || 0.0,
        )?;
        Ok(tensors)
    }

    /// The head's sizes.
    pub fn sizes(&self) -> LocalSizes {
        self.sizes
    }

    /// An empty state for `lanes` unfinished sequences at a time.
    pub fn start(&self, lanes: usize) -> LocalState {
        LocalState {
            lanes: vec![Held::default(); lanes],
        }
    }

    /// Takes hidden vectors (T, D), and gives the logits of the rows that are complete: all but
    /// the last w of a sequence that goes on, all of one that ends.
    ///
    /// The segments' lengths sum to T. Memory: the step's rows six times.
    pub fn forward(
        &self,
        hidden: &Tensor,
        segments: &[Segment],
        state: &mut LocalState,
    ) -> Result<LocalRows> {
        let d = self.sizes.width;
        let (rows, _) = hidden.dims2()?;
        if segments.iter().map(|segment| segment.len).sum::<usize>() != rows {
            let what = format!("the segments do not sum to {rows} rows");
            return Err(Error::new(Kind::Internal, what));
        }
        let qkv = self.qkv.forward(&self.norm.forward(hidden)?)?; // (T, 3D)
        let (helds, pieces) = self.take_in([hidden, &qkv], segments, state)?;
        let total = pieces.iter().map(|piece| piece.len).sum::<usize>();
        if total == 0 {
            let logits = Tensor::zeros((0, self.sizes.classes), hidden.device())?;
            return Ok(LocalRows { logits, pieces });
        }
        let attended = self.attend(&helds, &pieces, total);
        let residual = helds.iter().zip(&pieces);
        let residual = residual
            .flat_map(|(held, piece)| &held.hidden[..piece.len * d])
            .copied()
            .collect();
        let [mut attended, mut residual] =
            [attended, residual].map(|rows| Tensor::from_vec(rows, (total, d), hidden.device()));
        if qkv.is_tracked() || self.position_tensor.is_tracked() {
            let parts = helds.into_iter().zip(pieces.iter().zip(segments));
            let parts = parts.map(|(held, (&piece, segment))| Part {
                held,
                piece,
                len: segment.len,
            });
            let step = Arc::new(Step {
                sizes: self.sizes,
                position: self.position.clone(),
                parts: parts.collect(),
            });
            let again = Arc::clone(&step);
            let parents = [&qkv, &self.position_tensor];
            attended = attended.map(|x| x.derived(parents, move |grad| step.attention(grad)));
            let backward = move |grad: &Tensor| Ok([Some(again.residual(grad)?)]);
            residual = residual.map(|x| x.derived([hidden], backward));
        }
        let y = self.out.forward_residual(&attended?, &residual?)?; // (rows, D)
        let logits = self.classes.forward(&y)?;
        Ok(LocalRows { logits, pieces })
    }

    /// What each segment's sequence holds with the rows of a step, of which `state` keeps what the
    /// next one needs; and which of its rows are complete.
    fn take_in(
        &self,
        step: [&Tensor; 2],
        segments: &[Segment],
        state: &mut LocalState,
    ) -> Result<(Vec<Held>, Vec<LocalPiece>)> {
        let (d, window) = (self.sizes.width, self.sizes.window);
        let (mut helds, mut pieces) = (Vec::new(), Vec::new());
        with_slices(step, |[hidden, qkv]| {
            let mut from = 0;
            for segment in segments {
                let mut own = Held::default();
                let lane = if segment.starts && segment.ends {
                    &mut own
                } else {
                    state.lanes.get_mut(segment.lane).ok_or_else(|| {
                        Error::new(Kind::Internal, format!("no lane {}", segment.lane))
                    })?
                };
                let mut held = std::mem::take(lane);
                if segment.starts {
                    held = Held::default();
                }
                let to = from + segment.len;
                held.append(&hidden[from * d..to * d], &qkv[from * 3 * d..to * 3 * d], d);
                from = to;
                let waiting = if segment.ends { 0 } else { self.sizes.lag() };
                let len = (held.queries.len() / d).saturating_sub(waiting);
                if !segment.ends {
                    *lane = held.after(len, window, d);
                }
                pieces.push(LocalPiece {
                    offset: held.next,
                    len,
                });
                helds.push(held);
            }
            Ok(())
        })?;
        Ok((helds, pieces))
    }

    /// The attention of all pieces' rows: (rows, D), heads side by side.
    fn attend(&self, helds: &[Held], pieces: &[LocalPiece], rows: usize) -> Vec<f32> {
        let (d, heads) = (self.sizes.width, self.sizes.heads);
        let mut out = unwritten(rows * d);
        let (mut tiles, mut rest) = (Vec::new(), &mut out[..]);
        for (held, piece) in helds.iter().zip(pieces) {
            let (here, later) = rest.split_at_mut(piece.len * d);
            let parts = here.chunks_mut(QUERIES * d).enumerate();
            tiles.extend(parts.map(|(i, out)| (held, i * QUERIES, out)));
            rest = later;
        }
        tiles.into_par_iter().for_each(|(held, first, out)| {
            let n = out.len() / d;
            let columns: Vec<_> = (0..heads)
                .into_par_iter()
                .map(|head| self.tile(held, head, first, n))
                .collect();
            for (i, row) in out.chunks_exact_mut(d).enumerate() {
                for (out, head) in row.chunks_exact_mut(d / heads).zip(&columns) {
                    out.copy_from_slice(&head[i * out.len()..][..out.len()]);
                }
            }
        });
        out
    }

    /// One head of the `n` queries from `first` on: (n, d).
    fn tile(&self, held: &Held, head: usize, first: usize, n: usize) -> Vec<f32> {
        let (d, window, lag) = (self.sizes.width, self.sizes.window, self.sizes.lag());
        let width = d / self.sizes.heads;
        let known = held.first + held.keys.len() / d;
        let position = held.next + first;
        let low = position.saturating_sub(window);
        let high = (position + n + lag).min(known);
        let part = |rows: &'_ [f32], from: usize| from * d + head * width..rows.len();
        let matrix = |rows, count| Matrix::new(rows, [count, width], d);
        let queries = matrix(&held.queries[part(&held.queries, first)], n);
        let from = low - held.first;
        let keys = matrix(&held.keys[part(&held.keys, from)], high - low);
        let values = matrix(&held.values[part(&held.values, from)], high - low);
        let mut scores = unwritten(n * (high - low));
        multiply(&mut scores, 0.0, queries, keys.transposed());
        let distances = self.sizes.distances();
        let position_bias = &self.position[head * distances..][..distances];
        let scale = 1.0 / (width as f32).sqrt();
        weigh(
            &mut scores,
            high - low,
            position - low,
            window,
            scale,
            position_bias,
        );
        let mut out = unwritten(n * width);
        let weights = Matrix::new(&scores, [n, high - low], high - low);
        multiply(&mut out, 0.0, weights, values);
        out
    }
}

impl Held {
    /// Adds rows: `hidden` (n, D), and `qkv` (n, 3D).
    fn append(&mut self, hidden: &[f32], qkv: &[f32], d: usize) {
        self.hidden.extend_from_slice(hidden);
        for row in qkv.chunks_exact(3 * d) {
            self.queries.extend_from_slice(&row[..d]);
            self.keys.extend_from_slice(&row[d..2 * d]);
            self.values.extend_from_slice(&row[2 * d..]);
        }
    }

    /// What is left when `len` rows have come out.
    fn after(&self, len: usize, window: usize, d: usize) -> Self {
        let next = self.next + len;
        let first = next.saturating_sub(window);
        let keys = (first - self.first) * d;
        Self {
            first,
            next,
            keys: self.keys[keys..].to_vec(),
            values: self.values[keys..].to_vec(),
            queries: self.queries[len * d..].to_vec(),
            hidden: self.hidden[len * d..].to_vec(),
        }
    }
}

simd! {
/// Scores (n, columns) to weights that sum to 1 within each query's window and are 0 outside.
/// The first query stands at column `at`; the bias of a key `window` columns before its query is
/// `bias`' first.
fn weigh(scores: &mut [f32], columns: usize, at: usize, window: usize, scale: f32, bias: &[f32]) {
    for (i, row) in scores.chunks_exact_mut(columns).enumerate() {
        let query = at + i;
        let low = query.saturating_sub(window);
        let high = (query + bias.len() - window).min(columns);
        row[..low].fill(0.0);
        row[high..].fill(0.0);
        let row = &mut row[low..high];
        let mut largest = f32::NEG_INFINITY;
        for (x, bias) in row.iter_mut().zip(&bias[low + window - query..]) {
            *x = *x * scale + bias;
            largest = if *x > largest { *x } else { largest };
        }
        let mut sum = 0.0;
        for x in row.iter_mut() {
            *x = math::exp::<FMA>(*x - largest);
            sum += *x;
        }
        let factor = 1.0 / sum;
        for x in row.iter_mut() {
            *x *= factor;
        }
    }
}
}

#[cfg(test)]
mod tests;
