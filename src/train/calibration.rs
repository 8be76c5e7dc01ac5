//! Whether probabilities are what they say they are: Guo et al. 2017, arXiv:1706.04599.

use serde_json::{Map, Value, json};

/// Bins of the expected calibration error, by the probability of the most probable class.
const BINS: usize = 15;
/// Temperatures that are tried: `2^(i / 8)`, from a quarter to eight; the best one lies between.
const TEMPERATURES: usize = 41;

fn temperature(i: f64) -> f64 {
    2f64.powf(i / 8.0 - 2.0)
}

/// What is known of predictions, counted as they come.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    /// Of each bin: predictions, the sum of their probabilities, those that are right.
    bins: [[f64; 3]; BINS],
    /// Of each temperature: the sum of the losses, in nats.
    losses: Vec<f64>,
    count: f64,
}

impl Calibration {
    /// Counts a prediction: logits of classes, or logarithms of their probabilities, and which one
    /// was true.
    pub fn add(&mut self, logits: &[f32], truth: usize) {
        self.losses.resize(TEMPERATURES, 0.0);
        self.count += 1.0;
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let away = |x: f32| f64::from(x - largest);
        for (i, loss) in self.losses.iter_mut().enumerate() {
            let t = temperature(i as f64);
            let all: f64 = logits.iter().map(|&x| (away(x) / t).exp()).sum();
            *loss += all.ln() - away(logits[truth]) / t;
        }
        let all: f64 = logits.iter().map(|&x| away(x).exp()).sum();
        let confidence = 1.0 / all;
        let right = logits[truth] == largest;
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        let [n, sum, hits] = &mut self.bins[bin];
        *n += 1.0;
        *sum += confidence;
        *hits += f64::from(u8::from(right));
    }

    /// The expected calibration error: the mean distance of the probability of the most probable
    /// class from how often it is the true one.
    fn error(&self) -> f64 {
        let away = self.bins.iter().map(|[_, sum, hits]| (sum - hits).abs());
        away.sum::<f64>() / self.count
    }

    /// The temperature at which the loss is least, and that loss in bits: from the parabola through
    /// the best of those that were tried and its neighbours.
    fn best(&self) -> (f64, f64) {
        let order = |a: &usize, b: &usize| self.losses[*a].total_cmp(&self.losses[*b]);
        let least = (0..self.losses.len()).min_by(order).unwrap_or_default();
        let near = least.clamp(1, TEMPERATURES - 2);
        let [a, b, c] = [near - 1, near, near + 1].map(|i| self.losses[i]);
        let bend = a - 2.0 * b + c;
        let shift = if bend > 0.0 {
            0.5 * (a - c) / bend
        } else {
            0.0
        };
        let shift = shift.clamp(-1.0, 1.0);
        let loss = b - 0.25 * (a - c) * shift;
        let bits = loss.min(self.losses[least]) / self.count / std::f64::consts::LN_2;
        (temperature(near as f64 + shift), bits)
    }

    /// The measures by name; none of no predictions.
    pub fn measures(&self) -> Map<String, Value> {
        if self.count == 0.0 {
            return Map::new();
        }
        let (temperature, bits) = self.best();
        Map::from_iter([
            (
                "expected_calibration_error".to_string(),
                json!(self.error()),
            ),
            ("temperature".to_string(), json!(temperature)),
            ("bits_at_temperature".to_string(), json!(bits)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Predictions of two classes with the first one's log-odds, of which `rate` are right.
    fn of(odds: f32, rate: f64) -> Calibration {
        let mut found = Calibration::default();
        for i in 0..1000 {
            let truth = usize::from(f64::from(i) >= rate * 1000.0);
            found.add(&[odds, 0.0], truth);
        }
        found
    }

    #[test]
    fn the_temperature_makes_probabilities_what_they_say() {
        // 0.9 is claimed: log-odds 2.197; three in four are right: log-odds 1.0986, temperature 2.
        let found = of(9f32.ln(), 0.75);
        assert!((found.error() - 0.15).abs() < 1e-6, "{}", found.error());
        let (temperature, bits) = found.best();
        assert!((temperature - 2.0).abs() < 0.01, "{temperature}");
        let entropy = -(0.75f64 * 0.75f64.log2() + 0.25 * 0.25f64.log2());
        assert!((bits - entropy).abs() < 1e-3, "{bits} {entropy}");
        let right = of(9f32.ln(), 0.9);
        assert!(right.error() < 1e-6 && (right.best().0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn of_nothing_there_is_no_measure() {
        assert!(Calibration::default().measures().is_empty());
    }
}
