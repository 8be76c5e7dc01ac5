//! The candidates that are known by name, each made as large as the others.

use super::candidate::{Candidate, Size, Start};
use crate::checkpoint::{Config, preset};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// How far a candidate's parameters may be from what was asked for.
pub const TOLERANCE: f64 = 0.05;
/// Blocks that a candidate may have.
const LAYERS: std::ops::RangeInclusive<usize> = 2..=24;
/// The largest width.
const WIDEST: usize = 4096;
/// Of sizes that fit alike, the one that is so many times as wide as deep.
const SHAPE: f64 = 16.0;
/// Bases that windowed attention sees.
pub const WINDOW: usize = 256;

/// Bases of the shortest wave that describes a position to a long filter.
const WAVE: u64 = 32;
/// Numbers that describe all positions of a filter, at most.
const POSITIONS: u64 = 1 << 22;

/// Widths of the feed-forward layers, in eighths of the blocks' width: the usual one, and others if
/// no number of blocks fits it.
const INNER: [usize; 5] = [32, 28, 36, 24, 20];

/// How a candidate's configuration follows from its sizes, and the bases that it is trained on at a
/// time.
type Make = fn(Size, u64) -> Value;

/// A candidate that is known by name.
pub struct Known {
    /// Its name.
    pub name: &'static str,
    about: &'static str,
    /// It reads a sequence whole: it can learn labels, but not the next base.
    pub whole: bool,
    /// Widths of its blocks are multiples of this.
    step: usize,
    make: Make,
}

/// All of them, in the order of reports.
pub const KNOWN: [Known; 9] = [
    Known {
        name: "transformer",
        about: "full attention to all bases before",
        whole: false,
        step: 8,
        make: |size, _| transformer(size, json!({"attention": "causal"})),
    },
    Known {
        name: "sliding-window",
        about: "attention to the last 256 bases",
        whole: false,
        step: 8,
        make: |size, _| {
            let attention = json!({"attention": "sliding", "window": WINDOW});
            transformer(size, attention)
        },
    },
    Known {
        name: "performer",
        about: "attention by 64 random features",
        whole: false,
        step: 8,
        make: |size, _| {
            let attention = json!({"attention": "performer", "features": 64});
            transformer(size, attention)
        },
    },
    Known {
        name: "nystrom",
        about: "attention by 64 landmarks, in both directions",
        whole: true,
        step: 8,
        make: |size, _| {
            let attention = json!({"attention": "nystrom", "landmarks": 64});
            transformer(size, attention)
        },
    },
    Known {
        name: "mamba",
        about: "selective state space",
        whole: false,
        step: 4,
        make: |Size { width, layers, .. }, _| {
            of(
                "mamba-d256-l16",
                json!({
                    "hidden_size": width,
                    "intermediate_size": 2 * width,
                    "num_hidden_layers": layers,
                    "time_step_rank": width.div_ceil(16)
                }),
            )
        },
    },
    Known {
        name: "mamba2",
        about: "state space duality",
        whole: false,
        step: 8,
        make: |Size { width, layers, .. }, _| {
            of(
                "mamba2-d256-l16",
                json!({
                    "hidden_size": width,
                    "num_hidden_layers": layers,
                    "num_heads": width / 8,
                    "head_dim": 16,
                    "state_size": 64,
                    "tie_word_embeddings": true
                }),
            )
        },
    },
    Known {
        name: "s4d",
        about: "diagonal state space that does not depend on the input",
        whole: false,
        step: 4,
        make: |Size { width, layers, .. }, _| {
            of("s4d-d256-l8", json!({"d_model": width, "n_layer": layers}))
        },
    },
    Known {
        name: "hyena",
        about: "long convolutions with gates, filters as long as the passages of training",
        whole: false,
        step: 4,
        make: hyena,
    },
    Known {
        name: "hybrid",
        about: "short, medium and long convolutions below attention to the last 256 bases",
        whole: false,
        step: 8,
        make: hybrid,
    },
];

/// A preset with some keys changed.
fn of(name: &str, changes: Value) -> Value {
    let mut config = preset(name).unwrap_or_default();
    if let Value::Object(changes) = changes {
        config.extend(changes);
    }
    Value::Object(config)
}

fn transformer(size: Size, attention: Value) -> Value {
    let mut changes = Map::from_iter([
        ("hidden_size".to_string(), json!(size.width)),
        ("inner_size".to_string(), json!(size.inner)),
        ("num_layers".to_string(), json!(size.layers)),
    ]);
    if let Value::Object(attention) = attention {
        changes.extend(attention);
    }
    of("transformer-d256-l8", Value::Object(changes))
}

/// HyenaDNA whose filters can have single sharp taps, as copies need them. The published one describes
/// a position by waves no shorter than the filter is long, and filters made of these are smooth over
/// hundreds of taps for thousands of steps. Here the shortest wave is [`WAVE`] bases long (or as many
/// waves as [`POSITIONS`] allows), and sines of a lower frequency make one tap of them. Weights begin
/// as large as the width needs them: the published deviation is that of a width of 2,500.
fn hyena(size: Size, length: u64) -> Value {
    let Size {
        width,
        layers,
        inner,
    } = size;
    let waves = (length / WAVE).min(POSITIONS / length / 2).max(2);
    of(
        "hyenadna-tiny-1k",
        json!({
            "activation_freq": 3,
            "d_model": width,
            "d_inner": inner,
            "emb_dim": 2 * waves + 1,
            "filter_order": width.clamp(16, 32),
            "initializer_range": 1.0 / (width as f64).sqrt(),
            "n_layer": layers,
            "max_seq_len": length + 2
        }),
    )
}

/// Blocks of short, medium and long filters in turn, and attention in the last one.
fn hybrid(size: Size, length: u64) -> Value {
    let Size {
        width,
        layers,
        inner,
    } = size;
    let below = layers - 1;
    let blocks = |first: usize| (first..below).step_by(3).collect::<Vec<_>>();
    of(
        "crocuta-bacteria",
        json!({
            "hidden_size": width,
            // Gated: three matrices instead of two.
            "inner_mlp_size": (inner * 11 / 16).next_multiple_of(8),
            "num_layers": layers,
            "num_filters": width,
            "hcl_filter_groups": width,
            "hcm_filter_groups": width,
            "hcs_filter_groups": width,
            "hcs_layer_idxs": blocks(0),
            "hcm_layer_idxs": blocks(1),
            "hcl_layer_idxs": blocks(2),
            "attn_layer_idxs": [below],
            "attention_window": WINDOW,
            "max_seqlen": length
        }),
    )
}

impl Known {
    /// With so many parameters, within [`TOLERANCE`], trained on passages of `length` bases.
    ///
    /// # Errors
    /// Usage: no size of it has so many.
    pub fn sized(&self, parameters: u64, length: u64) -> Result<Candidate> {
        let mut best: Option<(f64, Candidate)> = None;
        for inner in INNER {
            for layers in LAYERS {
                for candidate in self.around(parameters, length, layers, inner)? {
                    let off = (candidate.parameters as f64 / parameters as f64 - 1.0).abs();
                    let shape = candidate.facts.width as f64 / (SHAPE * layers as f64);
                    // Within half of what is allowed, the shape decides.
                    let worse = (off - TOLERANCE / 2.0).max(0.0) * 1e3 + shape.ln().abs();
                    let better = best.as_ref().is_none_or(|(least, _)| worse < *least);
                    if off <= TOLERANCE && better {
                        best = Some((worse, candidate));
                    }
                }
            }
            if best.is_some() {
                break;
            }
        }
        best.map(|(_, candidate)| candidate).ok_or_else(|| {
            let what = format!("no {} has {parameters} parameters", self.name);
            Error::usage(what).todo("give another number of --parameters")
        })
    }

    /// With so many blocks, the widest one that has fewer parameters, and the next.
    fn around(
        &self,
        parameters: u64,
        length: u64,
        layers: usize,
        inner: usize,
    ) -> Result<[Candidate; 2]> {
        let of = |steps: usize| {
            let width = steps * self.step;
            let inner = width * inner / 8;
            let size = Size {
                width,
                layers,
                inner,
            };
            self.make(size, length)
        };
        let (mut low, mut high) = (1, WIDEST / self.step);
        while low < high {
            let middle = usize::midpoint(low, high);
            if of(middle)?.parameters < parameters {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok([of(low.saturating_sub(1).max(1))?, of(low)?])
    }

    fn make(&self, size: Size, length: u64) -> Result<Candidate> {
        let Value::Object(config) = (self.make)(size, length) else {
            return Err(Error::usage("not a configuration"));
        };
        let config = Config::new(self.name, config);
        let dir = Path::new(self.name);
        let mut candidate = Candidate::random(self.name, self.about, config, dir)?;
        candidate.start = Start::Sized(size);
        Ok(candidate)
    }
}

/// A candidate of the same size for passages of another length; the same one if it is a user's own.
///
/// # Errors
/// Model: no such model; as [`Known::sized`].
pub fn for_length(candidate: &Candidate, length: u64) -> Result<Candidate> {
    let known = KNOWN.iter().find(|known| known.name == candidate.name);
    match (known, &candidate.start) {
        (Some(known), Start::Sized(_)) => known.sized(candidate.parameters, length),
        _ => Ok(candidate.clone()),
    }
}

/// The candidate of this name.
///
/// # Errors
/// Usage: none is called so; as [`Known::sized`].
pub fn named(name: &str, parameters: u64, length: u64) -> Result<Candidate> {
    let known = KNOWN.iter().find(|known| known.name == name);
    let known = known.ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
        Error::usage(format!("no candidate {name}")).todo(format!(
            "give one of {}, a config.json, or a model's directory",
            names.join(", ")
        ))
    })?;
    known.sized(parameters, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_have_equal_parameters_within_five_percent() {
        for parameters in [20_000, 60_000, 250_000, 1_000_000, 10_000_000] {
            for known in &KNOWN {
                let candidate = known.sized(parameters, 4096).unwrap();
                let ratio = candidate.parameters as f64 / parameters as f64;
                assert!((ratio - 1.0).abs() <= TOLERANCE, "{}: {ratio}", known.name);
                assert_eq!(candidate.facts.causal, !known.whole, "{}", known.name);
                let made = candidate.checkpoint(1).unwrap();
                crate::encoder::Model::load(&made).unwrap();
            }
        }
    }
}
