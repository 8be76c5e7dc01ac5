//! How well a model knows what it read, as footers say it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::f64::consts::LN_2;

/// The names in a footer's `measured`.
const BITS: &str = "bits_per_base";
const BASES: &str = "bits_per_base_of";

/// Parts of a bit that are counted. Whole numbers add up the same in any order: so what the shards
/// of a run, or a run that was resumed, found is what one run finds.
const PARTS: f64 = 16_384.0;

/// What a model said of the bases that it read, each as often as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// How many bases.
    pub bases: u64,
    /// The sum of −log₂ P(base), in [`PARTS`].
    parts: u64,
}

impl Known {
    /// Counts natural log-probabilities of bases; NaN is no base.
    pub fn read(&mut self, logps: impl IntoIterator<Item = f32>) {
        for logp in logps.into_iter().filter(|logp| !logp.is_nan()) {
            self.bases += 1;
            let parts = (f64::from(-logp) / LN_2 * PARTS).round() as u64;
            self.parts = self.parts.saturating_add(parts);
        }
    }

    /// Adds what was found elsewhere.
    pub fn add(&mut self, other: Self) {
        self.bases += other.bases;
        self.parts = self.parts.saturating_add(other.parts);
    }

    /// Bits a base; `None` of no bases. A model that knows nothing needs 2 for A, C, G and T, and
    /// more if it believes in other tokens.
    pub fn bits(&self) -> Option<f64> {
        (self.bases > 0).then(|| self.parts as f64 / PARTS / self.bases as f64)
    }

    /// What a footer's `measured` says.
    pub fn measured(&self) -> Map<String, Value> {
        Map::from_iter([
            (BITS.to_string(), json!(self.bits())),
            (BASES.to_string(), json!(self.bases)),
        ])
    }

    /// What a footer's `measured` says, read; none if it says nothing of it. Exact below 10¹¹ bits.
    pub fn of(measured: &Value) -> Option<Self> {
        let bases = measured[BASES].as_u64()?;
        let bits = measured[BITS].as_f64().unwrap_or_default();
        let parts = (bits * bases as f64 * PARTS).round() as u64;
        Some(Self { bases, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole_in_any_order_and_through_footers() {
        let logps: Vec<f32> = (0..10_000)
            .map(|i| -((i * 37 % 1001) as f32) / 300.0)
            .collect();
        let mut whole = Known::default();
        whole.read(logps.iter().copied().chain([f32::NAN]));
        let mut together = Known::default();
        for part in logps.chunks(333).rev() {
            let mut known = Known::default();
            known.read(part.iter().copied());
            let text = Value::from(known.measured()).to_string();
            let read = Known::of(&serde_json::from_str(&text).unwrap());
            assert_eq!(read, Some(known));
            together.add(known);
        }
        assert_eq!(together, whole);
        assert_eq!(whole.bases, 10_000);
        let sum: f64 = logps.iter().map(|&logp| f64::from(logp)).sum();
        let bits = whole.bits().unwrap();
        assert!((bits + sum / 1e4 / LN_2).abs() < 1e-5, "{bits}");
    }

    #[test]
    fn of_no_bases_nothing_is_known() {
        let none = Known::default();
        assert_eq!(none.bits(), None);
        assert_eq!(Known::of(&none.measured().into()), Some(none));
        assert_eq!(Known::of(&Value::Null), None);
    }
}
