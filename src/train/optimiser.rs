//! AdamW and the learning rate's schedule. Loshchilov & Hutter 2019, arXiv:1711.05101.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Values that are updated, or summed, at a time. Sums do not depend on the number of threads.
const TILE: usize = 1 << 14;

/// Adam with weight decay that does not pass through the moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    decay: f64,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

/// Running means of a tensor's gradient and of its square.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.95;
const EPS: f32 = 1e-8;

impl AdamW {
    /// At each step, the values that decay lose `decay · rate` of themselves.
    pub fn new(decay: f64) -> Self {
        Self {
            decay,
            steps: 0,
            moments: BTreeMap::new(),
        }
    }

    /// Begins the next step: then [`AdamW::update`] once for each tensor.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// The new values of the tensor `name`.
    pub fn update(&mut self, name: &str, values: &mut [f32], gradient: &[f32], rate: f64) {
        let moments = self
            .moments
            .entry(name.to_string())
            .or_insert_with(|| Moments {
                first: vec![0.0; values.len()],
                second: vec![0.0; values.len()],
            });
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.steps as f64);
        let step = (rate / correction(BETA1)) as f32;
        let root = (1.0 / correction(BETA2).sqrt()) as f32;
        let kept = if decays(name) {
            (1.0 - rate * self.decay) as f32
        } else {
            1.0
        };
        values
            .par_chunks_mut(TILE)
            .zip(gradient.par_chunks(TILE))
            .zip(moments.first.par_chunks_mut(TILE))
            .zip(moments.second.par_chunks_mut(TILE))
            .for_each(|(((values, gradient), first), second)| {
                let moments = first.iter_mut().zip(second);
                for ((x, g), (m, v)) in values.iter_mut().zip(gradient).zip(moments) {
                    *m = BETA1 * *m + (1.0 - BETA1) * g;
                    *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                    *x = kept * *x - step * *m / (v.sqrt() * root + EPS);
                }
            });
    }
}

/// Whether a tensor decays: the matrices of linear layers. Not biases, norms, skips, embeddings,
/// the taps, poles and time steps of filters, nor the small networks that compute filters.
fn decays(name: &str) -> bool {
    let matrix = name.ends_with(".weight") || name.contains(".lora_");
    let other = ["norm", "embed", "conv", "filter", "ln_", "lm_head"];
    let name = name.replace("out_filter_dense", "out_dense");
    matrix && !other.iter().any(|part| name.contains(part))
}

/// The Euclidean norm over all tensors.
pub fn norm<'a>(gradients: impl Iterator<Item = &'a [f32]>) -> f64 {
    let square = |tile: &[f32]| tile.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let sums = gradients.map(|gradient| {
        let tiles: Vec<f64> = gradient.par_chunks(TILE).map(square).collect();
        tiles.iter().sum::<f64>()
    });
    sums.sum::<f64>().sqrt()
}

/// The learning rate over a run: a linear rise, then half a cosine down to a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps of the rise.
    pub warm_up: u64,
    /// All steps.
    pub steps: u64,
    /// The last rate, as a fraction of the highest.
    pub last: f64,
}

impl Schedule {
    /// The rate of a step, from 0 on.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        let length = self.steps.saturating_sub(self.warm_up).max(2) - 1;
        let done = ((step - self.warm_up) as f64 / length as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (PI * done).cos());
        self.peak * (self.last + (1.0 - self.last) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_equal_the_published_algorithm_in_f64() {
        let (rate, decay) = (0.01, 0.1);
        let gradients = [[0.5f64, -2.0], [0.25, 1.0], [-1.0, 3.0]];
        let mut adam = AdamW::new(decay);
        let mut values = [1.0f32, -1.0];
        let (mut x, mut m, mut v) = ([1.0f64, -1.0], [0.0; 2], [0.0; 2]);
        for (t, gradient) in gradients.iter().enumerate() {
            adam.begin_step();
            let single = gradient.map(|g| g as f32);
            adam.update("layers.0.out_proj.weight", &mut values, &single, rate);
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * gradient[i];
                v[i] = 0.95 * v[i] + 0.05 * gradient[i] * gradient[i];
                let time = t as i32 + 1;
                let (mean, square) = (
                    m[i] / (1.0 - 0.9f64.powi(time)),
                    v[i] / (1.0 - 0.95f64.powi(time)),
                );
                x[i] = x[i] * (1.0 - rate * decay) - rate * mean / (square.sqrt() + 1e-8);
                assert!((f64::from(values[i]) - x[i]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn only_matrices_of_linear_layers_decay() {
        for name in [
            "hyena.backbone.layers.0.mixer.in_proj.weight",
            "hyena.backbone.layers.1.mlp.fc1.weight",
            "blocks.2.mlp.l3.weight",
            "blocks.2.inner_mha_cls.Wqkv.weight",
            "blocks.2.out_filter_dense.weight",
            "backbone.layers.0.mixer.x_proj.weight",
        ] {
            assert!(decays(name), "{name}");
        }
        for name in [
            "hyena.backbone.layers.0.mixer.in_proj.bias",
            "hyena.backbone.layers.0.norm1.weight",
            "hyena.backbone.ln_f.weight",
            "hyena.backbone.embeddings.word_embeddings.weight",
            "hyena.backbone.layers.0.mixer.short_filter.weight",
            "hyena.backbone.layers.0.mixer.filter_fn.implicit_filter.1.freq",
            "hyena.backbone.layers.0.mixer.filter_fn.implicit_filter.0.weight",
            "blocks.0.pre_norm.scale",
            "blocks.0.filter.log_poles",
            "blocks.0.filter.h",
            "backbone.layers.0.mixer.A_log",
            "backbone.layers.0.mixer.D",
            "backbone.layers.0.mixer.conv1d.weight",
        ] {
            assert!(!decays(name), "{name}");
        }
    }

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_its_last() {
        let schedule = Schedule {
            peak: 2.0,
            warm_up: 4,
            steps: 105,
            last: 0.1,
        };
        let rates: Vec<f64> = (0..105).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates[..5], [0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!((rates[54] - 1.1).abs() < 1e-12 && (rates[104] - 0.2).abs() < 1e-12);
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]));
        assert!((schedule.rate(1000) - 0.2).abs() < 1e-12);
    }

    #[test]
    fn the_norm_is_over_all_tensors() {
        let (a, b) = (vec![3.0; 20_000], vec![4.0; 20_000]);
        let found = norm([&a[..], &b[..]].into_iter());
        assert!((found - 5.0 * 20_000f64.sqrt()).abs() < 1e-9);
    }
}
