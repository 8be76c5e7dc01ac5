//! Heads for tasks that a user trains: a linear layer on hidden vectors, or on their mean over a
//! sequence.
//!
//! A model's directory lists its heads under the key `_crocuta_heads` of `config.json`; their
//! weights are `crocuta_heads.<name>.weight` (K, D) and `.bias` (K).

use crate::checkpoint::{Config, Weights};
use crate::error::Result;
use crate::ops::{Linear, Tensor, segment_mean};
use crate::sequence::Segment;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
}

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
        serde_json::from_value(value.clone())
            .map_err(|e| config.error(HEADS, format!("not a list of heads ({e})")))
    }

    /// The list with this head in it, in the place of one of the same name.
    pub fn listed(&self, config: &Config) -> Result<Value> {
        let mut all = Self::list(config)?;
        all.retain(|task| task.name != self.name);
        all.push(self.clone());
        Ok(json!(all))
    }

    /// The names of its tensors: weight and bias.
    pub fn tensors(&self) -> [String; 2] {
        ["weight", "bias"].map(|part| format!("crocuta_heads.{}.{part}", self.name))
    }

    /// The head, on hidden vectors of `width`.
    pub fn load(&self, weights: &Weights, width: usize) -> Result<TaskHead> {
        let [weight, bias] = self.tensors();
        let outputs = self.outputs.len();
        let weight = weights.tensor(&weight, &[outputs, width])?;
        let bias = weights.tensor(&bias, &[outputs])?;
        Ok(TaskHead {
            linear: Linear::new(weight, Some(bias)),
            unit: self.unit,
        })
    }
}

/// A head with its weights.
pub struct TaskHead {
    linear: Linear,
    unit: Unit,
}

impl TaskHead {
    /// Hidden vectors (T, D) to (T, K); to (B, K), a row for each segment, if the head describes
    /// sequences, which must then be whole.
    pub fn forward(&self, hidden: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        match self.unit {
            Unit::Base => self.linear.forward(hidden),
            Unit::Sequence => self.linear.forward(&segment_mean(hidden, segments)?),
        }
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
mod tests {
    use super::*;
    use serde_json::Map;

    fn task(name: &str) -> Task {
        Task {
            name: name.to_string(),
            unit: Unit::Sequence,
            link: Link::Softmax,
            outputs: vec!["no".into(), "yes".into()],
        }
    }

    #[test]
    fn heads_are_listed_in_the_configuration_and_replaced_by_name() {
        let mut config = Map::new();
        for name in ["a", "b", "a"] {
            let listed = task(name)
                .listed(&Config::new("c", config.clone()))
                .unwrap();
            config.insert(HEADS.into(), listed);
        }
        let config = Config::new("c", config);
        assert_eq!(Task::list(&config).unwrap(), [task("b"), task("a")]);
        let wrong = Map::from_iter([(HEADS.to_string(), json!([{"name": 1}]))]);
        let error = Task::list(&Config::new("c", wrong)).unwrap_err();
        assert!(error.to_string().contains(HEADS), "{error}");
    }

    #[test]
    fn links_give_probabilities() {
        let mut row = [0.0, 3f32.ln()];
        Link::Softmax.apply(&mut row);
        assert!((row[0] - 0.25).abs() < 1e-6 && (row[1] - 0.75).abs() < 1e-6);
        let mut row = [0.0, 3f32.ln()];
        Link::Sigmoid.apply(&mut row);
        assert!((row[0] - 0.5).abs() < 1e-6 && (row[1] - 0.75).abs() < 1e-6);
    }
}
