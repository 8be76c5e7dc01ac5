//! What a model is trained to do.

use super::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use serde_json::{Map, Value};

/// A task: it reads its data, and says how far the model is off.
///
/// The loop in [`super::run`] knows only this of it.
pub trait Objective: Sync {
    /// Reads the data of a step, for so many parts of it. What it read is not read again in this
    /// epoch.
    fn draw(&mut self, parts: usize) -> Result<()>;

    /// The loss on what was drawn for the `part`-th part of a step, once. A state that the model
    /// carries goes on without gradients; so a part stays on its device.
    fn loss(&self, network: &Network, part: usize) -> Result<Loss>;

    /// How good the model is on what was held out; none if nothing was. `whole`: with all that the
    /// records hold, which may take longer.
    fn evaluate(&self, network: &Network, whole: bool) -> Result<Option<Evaluation>>;

    /// How good it is on what neither trained nor chose anything: asked once, at the end.
    fn test(&self, network: &Network) -> Result<Option<Evaluation>>;

    /// What simple models make of the same data.
    fn baselines(&self) -> Result<Vec<Baseline>> {
        Ok(Vec::new())
    }

    /// What [`Objective::restore`] needs to go on as if there had been no break.
    fn save(&self) -> Result<Vec<u8>>;

    /// Goes on from what [`Objective::save`] gave.
    fn restore(&mut self, saved: &[u8]) -> Result<()>;
}

/// A loss and its gradient.
pub struct Loss {
    /// What the model computed.
    pub output: Tensor,
    /// The gradient of the sum of the losses to `output`.
    pub seed: Tensor,
    /// The sum of the losses, in bits where they are likelihoods.
    pub sum: f64,
    /// Predictions in the sum.
    pub count: u64,
    /// Bases that were read.
    pub bases: u64,
}

/// A measurement on held-out data.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The loss: lower is better.
    pub score: f64,
    /// What decides which parameters are kept, and when to stop: lower is better, and of equal ones
    /// the second number decides.
    pub rank: [f64; 2],
    /// All that was measured, for the records.
    pub metrics: Map<String, Value>,
}

impl Evaluation {
    /// In which the loss decides.
    pub fn by_loss(score: f64, metrics: Map<String, Value>) -> Self {
        Self {
            score,
            rank: [score; 2],
            metrics,
        }
    }

    /// Whether it is better than another one.
    pub fn is_better(rank: [f64; 2], than: [f64; 2]) -> bool {
        rank[0] < than[0] || (rank[0] == than[0] && rank[1] < than[1])
    }
}

/// What decides which parameters are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Select {
    /// The loss.
    Loss,
    /// Matthews' correlation coefficient; of equal ones, the loss.
    Mcc,
    /// The area under the receiver operating characteristic, of two classes; of equal ones, the loss.
    Auroc,
}

/// What a simple model makes of the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Which one.
    pub name: &'static str,
    /// On held-out data, which chose its penalty.
    pub evaluation: Option<Evaluation>,
    /// On the test data.
    pub test: Option<Evaluation>,
}

/// An error for a loss on data that nothing has drawn.
pub(super) fn not_drawn() -> Error {
    Error::new(Kind::Internal, "no data were drawn for a part of a step")
}
