//! Distillation: HyenaDNA's implicit filters, as long as the training context, become sums of a
//! few exponentials, which run as recurrences of constant state (Massaroli et al. 2023,
//! arXiv:2310.18780).
//!
//! It is an approximation, and how good it is depends on the weights: each layer's filter errors
//! and the error of the hidden vectors on a check sequence are measured, returned, and stored
//! beside the weights in `distillation.json`. [`attention`] does the same with what a Transformer's
//! tokens see.

mod attention;
mod compare;
mod fit;
mod hankel;

pub use attention::{AttentionReport, Cheaper, cheaper_attention};
pub use compare::{CHECK_BASES, Check, OutputError};
pub use fit::{Errors, Modes, fit};

use crate::checkpoint::{self, Architecture, Changes, Checkpoint, Weights};
use crate::encoder::{Model, hyena};
use crate::error::{Error, Kind, Result};
use crate::ops::{Device, Tensor};
use compare::{Compared, compare};
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
/// Returns the report and the SHA-256 of `model.safetensors`. A usage error where the source has
/// no implicit filters. Memory: the weights twice, and 32 filters with what [`fit`] needs.
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
    let mut report = None;
    let digest = checkpoint::derive(source, out, || {
        let check = check.unwrap_or_else(|| Check::random(CHECK_BASES.min(sizes.length - 2)));
        let (tensors, layers) = filters(source, &sizes, modes)?;
        let changed = hyena::Hyperparameters {
            modes: Some(modes),
            ..sizes.clone()
        };
        let stored = source.weights.stored();
        let all = stored.iter().chain(&tensors);
        let all = all.map(|(name, tensor)| (name.clone(), tensor.clone()));
        let weights = Weights::new(out.display(), all.collect());
        let original = hyena::Model::load(&sizes, &source.weights)?;
        let distilled = hyena::Model::load(&changed, &weights)?;
        let [original, distilled] = [(original, &sizes), (distilled, &changed)];
        let compared = |(model, sizes): (_, &hyena::Hyperparameters)| Compared {
            model: Model::Hyena(model),
            facts: sizes.facts(),
            head: None,
        };
        let (output, _) = compare([&compared(original), &compared(distilled)], &check)?;
        let measured = Report {
            modes,
            length: sizes.length,
            layers,
            output,
        };
        let text = format!("{:#}\n", measured.to_json(source));
        report = Some(measured);
        let config = [("filter", json!("modal")), ("modes", json!(modes))];
        Ok(Changes {
            config: config
                .map(|(key, value)| (key.into(), value))
                .into_iter()
                .collect(),
            tensors,
            files: vec![("distillation.json", text)],
        })
    })?;
    let report = report.ok_or_else(|| Error::new(Kind::Internal, "nothing was measured"))?;
    Ok((report, digest))
}

/// The new tensors of all layers, and each layer's errors.
fn filters(
    source: &Checkpoint,
    sizes: &hyena::Hyperparameters,
    modes: usize,
) -> Result<(BTreeMap<String, candle_core::Tensor>, Vec<LayerErrors>)> {
    let (mut tensors, mut layers) = (BTreeMap::new(), Vec::new());
    for (i, (weights, filter)) in hyena::filters(sizes, &source.weights)?.iter().enumerate() {
        let mut fitted = Vec::with_capacity(sizes.width);
        for first in (0..sizes.width).step_by(CHANNELS) {
            let channels = first..sizes.width.min(first + CHANNELS);
            let taps = filter.taps(channels, sizes.length)?;
            fitted.par_extend(taps.par_chunks(sizes.length).map(|h| {
                let modes = fit(h, modes);
                let errors = modes.errors(h);
                (h[0], modes, errors)
            }));
        }
        let h0: Vec<f32> = fitted.iter().map(|(h0, ..)| *h0).collect();
        let flat = |part: fn(&Modes) -> &Vec<[f32; 2]>| -> Vec<f32> {
            let all = fitted.iter().flat_map(|(_, modes, _)| part(modes));
            all.flatten().copied().collect()
        };
        let (shape, modal) = ((sizes.width, modes, 2), weights.at("modal"));
        let poles = Tensor::from_vec(flat(|modes| &modes.poles), shape, &Device::Cpu)?;
        let residues = Tensor::from_vec(flat(|modes| &modes.residues), shape, &Device::Cpu)?;
        tensors.insert(modal.full("poles"), poles.stored()?);
        tensors.insert(modal.full("residues"), residues.stored()?);
        tensors.insert(modal.full("h0"), Tensor::new(h0, &Device::Cpu)?.stored()?);
        let errors: Vec<Errors> = fitted.iter().map(|(.., errors)| *errors).collect();
        layers.push(LayerErrors::of(&errors));
        tracing::info!("distilled layer {} of {}", i + 1, sizes.layers);
    }
    Ok((tensors, layers))
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
            "original": { "name": source.name, "sha256": source.digest },
            "modes": self.modes,
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
        writeln!(
            f,
            "filters of {} taps as {} modes; errors relative to the filter, max/median of channels",
            self.length, self.modes
        )?;
        writeln!(f, "layer\tL1\tL2\tbeyond its length")?;
        for (i, LayerErrors { max, median }) in self.layers.iter().enumerate() {
            writeln!(
                f,
                "{i}\t{:.2e}/{:.2e}\t{:.2e}/{:.2e}\t{:.2e}/{:.2e}",
                max.l1, median.l1, max.l2, median.l2, max.beyond, median.beyond
            )?;
        }
        let output = &self.output;
        writeln!(
            f,
            "hidden vectors on {} bases ({}): largest difference {:.2e} of the largest magnitude, \
             root mean square {:.2e}",
            output.bases, output.sequence, output.largest, output.rms
        )
    }
}

#[cfg(test)]
mod tests;
