//! Linear models of sparse features: multinomial logistic regression, and ridge regression. What a
//! model of DNA should beat.
//!
//! Gradient descent with Nesterov's momentum on the mean loss plus `penalty / 2` times the squares of
//! all weights but the biases, in steps of 1 / L; L from a few rounds of power iteration.

use rayon::prelude::*;

/// Features that are not zero: their places and values.
pub type Features = Vec<(u32, f32)>;

const ROUNDS: usize = 200;
const POWER: usize = 20;
/// Rows of a task: sums do not depend on the number of threads.
const TILE: usize = 256;

/// Weights (features, K), and K biases.
pub struct LinearModel {
    weights: Vec<f64>,
    biases: Vec<f64>,
    classes: bool,
}

impl LinearModel {
    /// Fits rows of `width` features to their targets: classes below `outputs`, or one value.
    pub fn fit(
        rows: &[Features],
        targets: &[f64],
        (width, outputs): (usize, usize),
        classes: bool,
        penalty: f64,
    ) -> Self {
        // The curvature of the loss is at most half of the features' for classes, and theirs twice
        // for squares; the bias is a feature of its own.
        let curvature = (largest_eigenvalue(rows, width) + 1.0) * if classes { 0.5 } else { 2.0 };
        let rate = 1.0 / (curvature + penalty);
        let zero = || Self {
            weights: vec![0.0; width * outputs],
            biases: vec![0.0; outputs],
            classes,
        };
        let (mut now, mut ahead, mut momentum) = (zero(), zero(), 1.0f64);
        for _ in 0..ROUNDS {
            let (mut weights, mut biases) = ahead.gradient(rows, targets);
            for (slope, w) in weights.iter_mut().zip(&ahead.weights) {
                *slope = w - rate * (*slope + penalty * w);
            }
            for (slope, b) in biases.iter_mut().zip(&ahead.biases) {
                *slope = b - rate * *slope;
            }
            let next = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
            let beyond = (momentum - 1.0) / next;
            let pairs = [
                (&mut ahead.weights, &weights, &now.weights),
                (&mut ahead.biases, &biases, &now.biases),
            ];
            for (ahead, new, old) in pairs {
                let both = new.iter().zip(old);
                let moved = ahead.iter_mut().zip(both);
                moved.for_each(|(ahead, (new, old))| *ahead = new + beyond * (new - old));
            }
            (now.weights, now.biases, momentum) = (weights, biases, next);
        }
        now
    }

    /// Weights (K, features) and biases, in single precision.
    pub fn transposed(&self) -> [Vec<f32>; 2] {
        let outputs = self.biases.len();
        let of = |output: usize| self.weights.iter().skip(output).step_by(outputs);
        let weights = (0..outputs).flat_map(|output| of(output).map(|w| *w as f32));
        [
            weights.collect(),
            self.biases.iter().map(|b| *b as f32).collect(),
        ]
    }

    /// What it says of a row: K probabilities, or a value.
    pub fn predict(&self, row: &Features) -> Vec<f64> {
        let outputs = self.biases.len();
        let mut out = self.biases.clone();
        for &(feature, x) in row {
            let weights = &self.weights[feature as usize * outputs..][..outputs];
            let sums = out.iter_mut().zip(weights);
            sums.for_each(|(out, w)| *out += f64::from(x) * w);
        }
        if self.classes {
            let largest = out.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            out.iter_mut().for_each(|x| *x = (*x - largest).exp());
            let sum: f64 = out.iter().sum();
            out.iter_mut().for_each(|x| *x /= sum);
        }
        out
    }

    /// Of the mean loss, to weights and biases.
    fn gradient(&self, rows: &[Features], targets: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let outputs = self.biases.len();
        let tiles = rows.par_chunks(TILE).zip(targets.par_chunks(TILE));
        let sums: Vec<_> = tiles
            .map(|(rows, targets)| {
                let mut sums = (vec![0.0; self.weights.len()], vec![0.0; outputs]);
                for (row, target) in rows.iter().zip(targets) {
                    let mut errors = self.predict(row);
                    if self.classes {
                        errors[*target as usize] -= 1.0;
                    } else {
                        errors[0] = 2.0 * (errors[0] - target);
                    }
                    for &(feature, x) in row {
                        let slopes = &mut sums.0[feature as usize * outputs..][..outputs];
                        let slopes = slopes.iter_mut().zip(&errors);
                        slopes.for_each(|(slope, error)| *slope += f64::from(x) * error);
                    }
                    let slopes = sums.1.iter_mut().zip(&errors);
                    slopes.for_each(|(slope, error)| *slope += error);
                }
                sums
            })
            .collect();
        let mut whole = (vec![0.0; self.weights.len()], vec![0.0; outputs]);
        let n = rows.len().max(1) as f64;
        for (weights, biases) in sums {
            let add = |to: &mut Vec<f64>, from: Vec<f64>| {
                to.iter_mut().zip(from).for_each(|(to, x)| *to += x / n);
            };
            add(&mut whole.0, weights);
            add(&mut whole.1, biases);
        }
        whole
    }
}

/// Of the mean of `x xᵀ` over the rows.
fn largest_eigenvalue(rows: &[Features], width: usize) -> f64 {
    let mut direction = vec![1.0 / (width.max(1) as f64).sqrt(); width];
    let mut length = 0.0;
    for _ in 0..POWER {
        let mut next = vec![0.0; width];
        for row in rows {
            let along = row
                .iter()
                .map(|&(i, x)| f64::from(x) * direction[i as usize]);
            let along: f64 = along.sum();
            row.iter()
                .for_each(|&(i, x)| next[i as usize] += f64::from(x) * along);
        }
        let n = rows.len().max(1) as f64;
        length = next.iter().map(|x| x * x).sum::<f64>().sqrt() / n;
        if length == 0.0 {
            break;
        }
        direction = next.into_iter().map(|x| x / (n * length)).collect();
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_stand_where_the_gradient_of_the_penalised_loss_is_zero() {
        let rows: Vec<Features> = (0..40)
            .map(|i| vec![(0, (i % 7) as f32 - 3.0), (1, (i % 5) as f32 * 0.5)])
            .collect();
        let targets: Vec<f64> = (0..40)
            .map(|i| f64::from(u8::from(i * i % 11 > 4)))
            .collect();
        for classes in [true, false] {
            let outputs = if classes { 2 } else { 1 };
            let model = LinearModel::fit(&rows, &targets, (2, outputs), classes, 0.1);
            let (weights, biases) = model.gradient(&rows, &targets);
            for (slope, w) in weights.iter().zip(&model.weights) {
                assert!((slope + 0.1 * w).abs() < 1e-4, "{slope} {w}");
            }
            assert!(biases.iter().all(|slope| slope.abs() < 1e-4), "{biases:?}");
        }
    }
}
