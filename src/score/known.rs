//! How well the model knows the reference: what it said of the bases that it read.

use super::line::Reading;
use serde::{Deserialize, Serialize};

/// The log-probabilities of the reference's bases, each as often as it was read. N has none, and
/// nothing is predicted of the base after an empty state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// How many bases.
    pub bases: u64,
    /// The sum of log P(base), natural.
    logp: f64,
}

impl Known {
    /// Counts what was read.
    pub(super) fn read<'a>(&mut self, readings: impl IntoIterator<Item = &'a Reading>) {
        for reading in readings {
            if !reading.logp.is_nan() {
                self.bases += 1;
                self.logp += f64::from(reading.logp);
            }
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.bases += other.bases;
        self.logp += other.logp;
    }

    /// Bits a base; `None` of no bases. A model that knows nothing needs 2 for A, C, G and T, and
    /// more if it believes in other tokens.
    pub fn bits(&self) -> Option<f64> {
        let bits = -self.logp / self.bases as f64 / std::f64::consts::LN_2;
        (self.bases > 0).then_some(bits)
    }
}
