//! Tensor names, shapes and initialisation of each architecture, as published.

mod evo;
mod hyenadna;
mod mamba;
mod s4d;
mod transformer;

use super::safetensors::Entry;
use super::{Architecture, Config};
use crate::error::{Error, Result};
use ::safetensors::Dtype;
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
        Architecture::HyenaDna => hyenadna::plan(config, &mut plan)?,
        Architecture::Mamba => mamba::mamba(config, &mut plan)?,
        Architecture::Mamba2 => mamba::mamba2(config, &mut plan)?,
        Architecture::Caduceus => mamba::caduceus(config, &mut plan)?,
        Architecture::Evo1 => evo::evo1(config, &mut plan)?,
        Architecture::Evo2 => evo::evo2(config, &mut plan)?,
        Architecture::S4d => s4d::plan(config, &mut plan)?,
        Architecture::Transformer => transformer::plan(config, &mut plan)?,
        Architecture::Pretrained(_) => {
            let what = "a published Transformer is opened as it is, not made anew";
            return Err(Error::usage(what)
                .todo("crocuta models list --published names those that can be made"));
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

    /// Adds a list of whole numbers.
    fn integers(&mut self, name: impl Display, values: Vec<usize>) {
        let shape = [values.len()];
        let value = move |index: usize| values.get(index).map_or(0.0, |&value| value as f64);
        self.add(name, &shape, Fill::Each(Box::new(value)));
        if let Some(planned) = self.0.last_mut() {
            planned.entry.dtype = Dtype::I64;
        }
    }

    /// Adds `weight` [rows, columns] and, if there is one, `bias` [rows], which begins at zero.
    fn linear(&mut self, name: impl Display, [rows, columns]: [usize; 2], fill: Fill, bias: bool) {
        self.add(format!("{name}.weight"), &[rows, columns], fill);
        if bias {
            self.add(format!("{name}.bias"), &[rows], Fill::constant(0.0));
        }
    }

    /// Adds `weight` [rows, …] and `bias` [rows], both with PyTorch's default.
    fn torch(&mut self, name: impl Display, shape: &[usize]) {
        let fan_in = shape[1..].iter().product();
        self.add(format!("{name}.weight"), shape, Fill::torch(fan_in));
        self.add(format!("{name}.bias"), &shape[..1], Fill::torch(fan_in));
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

/// `count` evenly spaced values from `first` to `last`.
fn ramp(first: f64, last: f64, count: usize) -> Fill {
    let step = (last - first) / (count.max(2) - 1) as f64;
    Fill::Each(Box::new(move |index| first + step * index as f64))
}
