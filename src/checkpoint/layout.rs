//! Tensor names, shapes and initialisation of each architecture, as published.

use super::safetensors::Entry;
use super::{Architecture, Config};
use crate::error::Result;
use ::safetensors::Dtype;
use std::f64::consts::PI;
use std::fmt::Display;

/// A tensor that is to be made.
pub struct Planned {
    /// Its name, type and shape.
    pub entry: Entry,
    /// Where its values come from.
    pub fill: Fill,
    /// It has the values of the tensor of this name.
    pub like: Option<String>,
}

/// Where a tensor's values come from.
pub enum Fill {
    /// Normal around zero, with this standard deviation.
    Normal(f64),
    /// Uniform from low to high.
    Uniform(f64, f64),
    /// A bias b such that softplus(b) is log-uniform from min to max, and at least floor.
    TimeStep {
        /// Shortest step.
        min: f64,
        /// Longest step.
        max: f64,
        /// Lower bound of the step.
        floor: f64,
    },
    /// A function of the place in row-major order.
    Each(Box<dyn Fn(usize) -> f64>),
}

impl Fill {
    fn constant(value: f64) -> Self {
        Self::Each(Box::new(move |_| value))
    }

    /// PyTorch's default for linear and convolutional layers that sum `fan_in` inputs.
    fn torch(fan_in: usize) -> Self {
        let bound = 1.0 / (fan_in as f64).sqrt();
        Self::Uniform(-bound, bound)
    }
}

/// The tensors of the model that `config` describes.
pub fn plan(config: &Config) -> Result<Vec<Planned>> {
    let mut plan = Plan::default();
    match Architecture::of(config)? {
        Architecture::HyenaDna => hyenadna(config, &mut plan)?,
        other => {
            return Err(config.error("model_type", format!("{other} cannot be made new")));
        }
    }
    Ok(plan.0)
}

#[derive(Default)]
struct Plan(Vec<Planned>);

impl Plan {
    fn add(&mut self, name: impl Display, shape: &[usize], fill: Fill) {
        let entry = Entry {
            name: name.to_string(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
        };
        self.0.push(Planned {
            entry,
            fill,
            like: None,
        });
    }

    /// Adds `weight` [rows, columns] and `bias` [rows]; the bias begins at zero.
    fn linear(&mut self, name: impl Display, rows: usize, columns: usize, fill: Fill) {
        self.add(format!("{name}.weight"), &[rows, columns], fill);
        self.add(format!("{name}.bias"), &[rows], Fill::constant(0.0));
    }

    /// Adds `weight` [rows, …] and `bias` [rows], both with PyTorch's default.
    fn torch(&mut self, name: impl Display, shape: &[usize]) {
        let fan_in = shape[1..].iter().product();
        self.add(format!("{name}.weight"), shape, Fill::torch(fan_in));
        self.add(format!("{name}.bias"), &shape[..1], Fill::torch(fan_in));
    }

    fn layer_norm(&mut self, name: impl Display, width: usize) {
        self.add(format!("{name}.weight"), &[width], Fill::constant(1.0));
        self.add(format!("{name}.bias"), &[width], Fill::constant(0.0));
    }
}

/// Largest width and number of layers: far above any published model, and small enough that
/// sizes of single tensors do not overflow.
const WIDTH: std::ops::RangeInclusive<usize> = 1..=1 << 16;
const LAYERS: std::ops::RangeInclusive<usize> = 1..=1024;

/// Rows of the embedding.
fn vocabulary(config: &Config, multiple: usize) -> Result<usize> {
    let multiple = config.size("pad_vocab_size_multiple", WIDTH, Some(multiple))?;
    Ok(config
        .size("vocab_size", WIDTH, None)?
        .next_multiple_of(multiple))
}

/// HyenaDNA in the layout of LongSafari/hyenadna-*-hf: positions, times and decay rates are
/// stored; the three sines share one frequency; the head is stored and equals the embedding.
fn hyenadna(config: &Config, plan: &mut Plan) -> Result<()> {
    let width = config.size("d_model", WIDTH, None)?;
    let inner = config.size("d_inner", WIDTH, Some(4 * width))?;
    let layers = config.size("n_layer", LAYERS, None)?;
    let length = config.size("max_seq_len", 2..=1 << 31, None)?;
    let bands = config.size("emb_dim", 3..=1025, None)? / 2;
    let features = 2 * bands + 1;
    let hidden = config.size("filter_order", WIDTH, None)?;
    let taps = config.size("short_filter_order", 1..=1024, Some(3))?;
    let frequency = config.number("activation_freq", Some(1.0))?;
    let rows = vocabulary(config, 8)?;
    let deviation = config.number("initializer_range", Some(0.02))?;
    // Layers that write to the residual stream: as GPT-2, two for each block.
    let residual = deviation / (2.0 * layers as f64).sqrt();

    let embedding = "hyena.backbone.embeddings.word_embeddings.weight";
    plan.add(embedding, &[rows, width], Fill::Normal(deviation));
    for layer in 0..layers {
        let at = format!("hyena.backbone.layers.{layer}");
        plan.layer_norm(format!("{at}.norm1"), width);
        plan.layer_norm(format!("{at}.norm2"), width);
        plan.linear(
            format!("{at}.mlp.fc1"),
            inner,
            width,
            Fill::Normal(deviation),
        );
        plan.linear(
            format!("{at}.mlp.fc2"),
            width,
            inner,
            Fill::Normal(residual),
        );
        let at = format!("{at}.mixer");
        plan.linear(
            format!("{at}.in_proj"),
            3 * width,
            width,
            Fill::Normal(deviation),
        );
        plan.linear(
            format!("{at}.out_proj"),
            width,
            width,
            Fill::Normal(residual),
        );
        plan.torch(format!("{at}.short_filter"), &[3 * width, 1, taps]);
        let at = format!("{at}.filter_fn");
        plan.add(format!("{at}.bias"), &[width], Fill::Normal(1.0));
        plan.add(
            format!("{at}.pos_emb.z"),
            &[1, length, features],
            positions(length, bands),
        );
        plan.add(
            format!("{at}.pos_emb.t"),
            &[1, length, 1],
            ramp(0.0, 1.0, length),
        );
        let (slow, fast) = (0.01f64.ln() / 1.5, 0.01f64.ln() / 0.3);
        plan.add(
            format!("{at}.modulation.deltas"),
            &[1, 1, width],
            ramp(slow, fast, width),
        );
        let at = format!("{at}.implicit_filter");
        plan.torch(format!("{at}.0"), &[hidden, features]);
        plan.add(
            format!("{at}.1.freq"),
            &[1, hidden],
            Fill::constant(frequency),
        );
        plan.torch(format!("{at}.2"), &[hidden, hidden]);
        plan.torch(format!("{at}.4"), &[hidden, hidden]);
        plan.add(
            format!("{at}.6.weight"),
            &[width, hidden],
            Fill::torch(hidden),
        );
    }
    plan.layer_norm("hyena.backbone.ln_f", width);
    plan.add("lm_head.weight", &[rows, width], Fill::Normal(deviation));
    if let Some(head) = plan.0.last_mut() {
        head.like = Some(embedding.to_string());
    }
    Ok(())
}

/// `count` evenly spaced values from `first` to `last`.
fn ramp(first: f64, last: f64, count: usize) -> Fill {
    let step = (last - first) / (count.max(2) - 1) as f64;
    Fill::Each(Box::new(move |index| first + step * index as f64))
}

/// The filter's input at position j: t = j/(l-1), then cos(f w) and -sin(f w) for each of the
/// frequencies f from 1e-4 to bands-1, where w = 2πj/l. (The two lengths differ by one, as
/// published.)
fn positions(length: usize, bands: usize) -> Fill {
    Fill::Each(Box::new(move |index| {
        let (position, feature) = (index / (2 * bands + 1), index % (2 * bands + 1));
        if feature == 0 {
            return position as f64 / (length - 1) as f64;
        }
        let band = (feature - 1) % bands;
        let step = (bands as f64 - 1.0 - 1e-4) / (bands.max(2) - 1) as f64;
        let frequency = 1e-4 + step * band as f64;
        let angle = frequency * 2.0 * PI * position as f64 / length as f64;
        match feature <= bands {
            true => angle.cos(),
            false => -angle.sin(),
        }
    }))
}
