//! Distillation: HyenaDNA's implicit filters, as long as the training context, become sums of a
//! few exponentials, which run as recurrences of constant state (Massaroli et al. 2023,
//! arXiv:2310.18780).
//!
//! It is an approximation, and how good it is depends on the weights: each layer's filter errors
//! and the error of the hidden vectors on a check sequence are measured, returned, and stored
//! beside the weights in `distillation.json`. `attention` does the same with what a Transformer's
//! tokens see.

mod attention;
mod compare;
mod fit;
mod hankel;

pub use attention::{AttentionReport, Cheaper, cheaper_attention};
pub use compare::{CHECK_BASES, Check, Compared, OutputError, compare, trained};
pub use fit::{Errors, Modes, counts, fit};

use crate::checkpoint::{self, Architecture, Changes, Checkpoint, Staging, Weights};
use crate::encoder::{Model, hyena};
use crate::error::{Error, Kind, Result};
use crate::ops::{Device, Tensor};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Channels whose taps are held at a time.
const CHANNELS: usize = 32;

/// How far the distilled model is from its original.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Exponentials of a channel.
    pub modes: usize,
    /// How many it might have had.
    pub allowed: usize,
    /// L, taps of the original filters.
    pub length: usize,
    /// Of each layer.
    pub layers: Vec<LayerErrors>,
    /// Of the hidden vectors.
    pub output: OutputError,
}

/// The largest and the median error of a layer's channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerErrors {
    /// Largest of each figure.
    pub max: Errors,
    /// Median of each figure.
    pub median: Errors,
}

/// Fits up to `modes` exponentials to every filter of the HyenaDNA model `source`, measures the errors
/// on `check`, or on random bases, and writes the distilled model to the new directory `out`:
/// the source's, with `filter_fn.modal.{poles,residues,h0}` in each layer, `"filter": "modal"`
/// and `"modes"` in the configuration, and `distillation.json`.
///
/// A filter's error does not say what it makes of the hidden vectors: of all numbers of modes that
/// were fitted the one is kept with which these differ least, by [`OutputError::rms`]. So that
/// error never rises with `modes`.
///
/// Returns the report and the SHA-256 of `model.safetensors`. A usage error where the source has
/// no implicit filters. Memory: the weights twice, 32 filters with what [`fit`] needs, and four
/// times the exponentials of all filters.
pub fn distil(
    source: &Checkpoint,
    modes: usize,
    check: Option<Check>,
    out: &Path,
) -> Result<(Report, String)> {
    let refused = |what: &str| Err(Error::usage(what).file(source.dir.display()));
    if source.architecture != Architecture::HyenaDna {
        return refused("only the filters of HyenaDNA models can be distilled");
    }
    let sizes = hyena::Hyperparameters::read(&source.config)?;
    if sizes.modes.is_some() {
        return refused("the filters were distilled before");
    }
    if modes == 0 || 2 * modes > sizes.length {
        let what = format!("{modes} modes for filters of {} taps", sizes.length);
        return Err(Error::usage(what).todo("give from 1 to half as many"));
    }
    let staging = Staging::begin(out)?;
    let check = check.unwrap_or_else(|| Check::random(CHECK_BASES.min(sizes.length - 2)));
    let candidates = filters(source, &sizes, modes)?;
    let original = Compared {
        model: Model::Hyena(hyena::Model::load(&sizes, &source.weights)?),
        facts: sizes.facts(),
        head: None,
    };
    let mut best = Err(Error::new(Kind::Internal, "nothing was fitted"));
    for candidate in candidates {
        let model = candidate.model(source, &sizes, out)?;
        let next = compare([&original, &model], &check);
        let next = next.map(|(output, _)| (candidate, output));
        best = match (best, next) {
            (Ok(a), Ok(b)) => Ok(if b.1.rms < a.1.rms { b } else { a }),
            // Vectors that are not finite are no candidate while others are.
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            (Err(_), Err(error)) => Err(error),
        };
    }
    let (best, output) = best?;
    let report = Report {
        modes: best.modes,
        allowed: modes,
        length: sizes.length,
        layers: best.layers,
        output,
    };
    let text = format!("{:#}\n", report.to_json(source));
    let config = [("filter", json!("modal")), ("modes", json!(best.modes))];
    let changes = Changes {
        config: config
            .map(|(key, value)| (key.into(), value))
            .into_iter()
            .collect(),
        tensors: best.tensors,
        files: vec![("distillation.json", text)],
    };
    let digest = checkpoint::write_model(staging, source, changes, |_| Ok(()))?;
    Ok((report, digest))
}

/// All filters as sums of so many exponentials.
struct Candidate {
    modes: usize,
    /// The new tensors of all layers, by name.
    tensors: BTreeMap<String, candle_core::Tensor>,
    layers: Vec<LayerErrors>,
}

impl Candidate {
    /// The model with these filters.
    fn model(
        &self,
        source: &Checkpoint,
        sizes: &hyena::Hyperparameters,
        out: &Path,
    ) -> Result<Compared> {
        let all = source.weights.stored().iter().chain(&self.tensors);
        let all = all.map(|(name, tensor)| (name.clone(), tensor.clone()));
        let sizes = hyena::Hyperparameters {
            modes: Some(self.modes),
            ..sizes.clone()
        };
        let weights = Weights::new(out.display(), all.collect());
        Ok(Compared {
            model: Model::Hyena(hyena::Model::load(&sizes, &weights)?),
            facts: sizes.facts(),
            head: None,
        })
    }
}

/// The filters of all layers, for each number of modes that is tried.
fn filters(
    source: &Checkpoint,
    sizes: &hyena::Hyperparameters,
    modes: usize,
) -> Result<Vec<Candidate>> {
    let mut candidates: Vec<Candidate> = counts(modes)
        .map(|modes| Candidate {
            modes,
            tensors: BTreeMap::new(),
            layers: Vec::new(),
        })
        .collect();
    for (i, (weights, filter)) in hyena::filters(sizes, &source.weights)?.iter().enumerate() {
        let mut fitted = Vec::with_capacity(sizes.width);
        for first in (0..sizes.width).step_by(CHANNELS) {
            let channels = first..sizes.width.min(first + CHANNELS);
            let taps = filter.taps(channels, sizes.length)?;
            fitted.par_extend(taps.par_chunks(sizes.length).map(|h| {
                let fits = fit(h, modes).into_iter();
                let fits = fits.map(|modes| (modes.errors(h), modes));
                (h[0], fits.collect::<Vec<_>>())
            }));
        }
        let h0: Vec<f32> = fitted.iter().map(|(h0, _)| *h0).collect();
        let modal = weights.at("modal");
        for (nth, candidate) in candidates.iter_mut().enumerate() {
            let flat = |part: fn(&Modes) -> &Vec<[f32; 2]>| -> Vec<f32> {
                let all = fitted.iter().flat_map(|(_, fits)| part(&fits[nth].1));
                all.flatten().copied().collect()
            };
            let shape = (sizes.width, candidate.modes, 2);
            let poles = Tensor::from_vec(flat(|modes| &modes.poles), shape, &Device::Cpu)?;
            let residues = Tensor::from_vec(flat(|modes| &modes.residues), shape, &Device::Cpu)?;
            let h0 = Tensor::new(h0.clone(), &Device::Cpu)?;
            candidate.tensors.extend([
                (modal.full("poles"), poles.stored()?),
                (modal.full("residues"), residues.stored()?),
                (modal.full("h0"), h0.stored()?),
            ]);
            let errors: Vec<Errors> = fitted.iter().map(|(_, fits)| fits[nth].0).collect();
            candidate.layers.push(LayerErrors::of(&errors));
        }
        tracing::info!("distilled layer {} of {}", i + 1, sizes.layers);
    }
    Ok(candidates)
}

impl LayerErrors {
    /// Over the channels.
    pub fn of(errors: &[Errors]) -> Self {
        let nth = |part: fn(&Errors) -> f64, n: usize| {
            let mut values: Vec<f64> = errors.iter().map(part).collect();
            values.sort_by(f64::total_cmp);
            values.get(n).copied().unwrap_or_default()
        };
        let all = |n| Errors {
            l1: nth(|e| e.l1, n),
            l2: nth(|e| e.l2, n),
            beyond: nth(|e| e.beyond, n),
            overshoot: nth(|e| e.overshoot, n),
        };
        Self {
            max: all(errors.len().saturating_sub(1)),
            median: all(errors.len() / 2),
        }
    }

    fn to_json(self) -> Value {
        let pair = |max: f64, median: f64| json!({ "max": max, "median": median });
        json!({
            "relative_l1": pair(self.max.l1, self.median.l1),
            "relative_l2": pair(self.max.l2, self.median.l2),
            "beyond_length": pair(self.max.beyond, self.median.beyond),
            "overshoot_beyond_length": pair(self.max.overshoot, self.median.overshoot),
        })
    }
}

impl Report {
    /// The report as it is stored.
    fn to_json(&self, source: &Checkpoint) -> Value {
        let layers: Vec<Value> = self.layers.iter().map(|layer| layer.to_json()).collect();
        json!({
            "original": { "name": source.name, "sha256": source.digest.get() },
            "modes": self.modes,
            "modes_allowed": self.allowed,
            "length": self.length,
            "filters": layers,
            "output": {
                "sequence": self.output.sequence,
                "bases": self.output.bases,
                "largest_difference": self.output.largest,
                "rms_difference": self.output.rms,
            },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            length,
            modes,
            allowed,
            ..
        } = self;
        let fewer = if modes < allowed {
            format!(", of {allowed} allowed: with more the hidden vectors differ no less")
        } else {
            String::new()
        };
        writeln!(
            f,
            "filters of {length} taps as {modes} modes{fewer}; errors relative to the filter, \
             max/median of channels"
        )?;
        writeln!(f, "layer\tL1\tL2\tbeyond its length")?;
        for (i, LayerErrors { max, median }) in self.layers.iter().enumerate() {
            writeln!(
                f,
                "{i}\t{:.2e}/{:.2e}\t{:.2e}/{:.2e}\t{:.2e}/{:.2e}",
                max.l1, median.l1, max.l2, median.l2, max.beyond, median.beyond
            )?;
        }
        writeln!(f, "{}", self.output)
    }
}

#[cfg(test)]
mod tests;
