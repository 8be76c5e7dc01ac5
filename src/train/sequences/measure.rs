//! How good a head of sequences is.

use super::{Example, READING, forward};
use crate::error::Result;
use crate::head::{Link, Task};
use crate::train::calibration::Calibration;
use crate::train::metrics::{self, Confusion};
use crate::train::network::Network;
use crate::train::objective::{Evaluation, Select};
use serde_json::{Map, Value, json};

/// What is measured.
pub(super) struct Measuring<'a> {
    pub task: &'a Task,
    /// What decides which of two measurements is better.
    pub select: Select,
    /// Intervals too, over sequences: they take longer than the rest.
    pub intervals: bool,
}

/// What a head said of a sequence, probabilities or values, and the truth.
pub(super) type Predicted = (Vec<f32>, f64);

/// How good the head is on examples; none without them.
pub(super) fn measure(
    network: &Network,
    examples: &[Example],
    measuring: &Measuring,
) -> Result<Option<Evaluation>> {
    let task = measuring.task;
    let mut found = Vec::with_capacity(examples.len());
    let width = task.outputs.len();
    for batch in examples.chunks(READING) {
        let mut values: Vec<f32> = forward(network, batch)?.flatten_all()?.to_vec1()?;
        for (row, example) in values.chunks_exact_mut(width).zip(batch) {
            task.link.apply(row);
            found.push((row.to_vec(), example.target));
        }
    }
    Ok(measuring.of(&found))
}

impl Measuring<'_> {
    /// How good predictions are; none of none.
    pub fn of(&self, found: &[Predicted]) -> Option<Evaluation> {
        if found.is_empty() {
            return None;
        }
        let mut all = Map::new();
        all.insert("sequences".into(), json!(found.len()));
        let score = match self.task.link {
            Link::Identity => self.values(found, &mut all),
            _ => self.classes(found, &mut all),
        };
        let chosen = match self.select {
            Select::Loss => None,
            Select::Mcc => all.get("mcc").and_then(Value::as_f64),
            Select::Auroc => all.get("auroc").and_then(Value::as_f64),
        };
        Some(Evaluation {
            score,
            rank: [chosen.map_or(score, |chosen| -chosen), score],
            metrics: all,
        })
    }

    fn classes(&self, found: &[Predicted], all: &mut Map<String, Value>) -> f64 {
        let width = self.task.outputs.len();
        let bits = |(row, truth): &Predicted| {
            -f64::from(row[*truth as usize].max(f32::MIN_POSITIVE)).log2()
        };
        let score = found.iter().map(bits).sum::<f64>() / found.len() as f64;
        all.insert("cross_entropy_bits".into(), json!(score));
        let mut predictions = vec![0; width];
        found
            .iter()
            .for_each(|(row, _)| predictions[predicted(row)] += 1);
        let names = self.task.outputs.iter().cloned();
        let counted: Map<String, Value> = names
            .zip(predictions.into_iter().map(|n| json!(n)))
            .collect();
        all.insert("predicted".into(), Value::Object(counted));
        let confusion = |found: &[&Predicted]| {
            Confusion::new(
                width,
                found
                    .iter()
                    .map(|(row, truth)| (*truth as usize, predicted(row))),
            )
        };
        if self.intervals {
            let mut calibration = Calibration::default();
            for (row, truth) in found {
                let logs: Vec<f32> = row.iter().map(|p| p.max(f32::MIN_POSITIVE).ln()).collect();
                calibration.add(&logs, *truth as usize);
            }
            all.extend(calibration.measures());
        }
        let mut add = |name: &str, statistic: &dyn Fn(&[&Predicted]) -> Option<f64>| {
            let whole = found.iter().collect::<Vec<_>>();
            all.insert(name.into(), json!(statistic(&whole)));
            if self.intervals {
                let interval = metrics::interval(found, statistic);
                all.insert(format!("{name}_ci95"), json!(interval));
            }
        };
        add("mcc", &|found| confusion(found).mcc());
        add("accuracy", &|found| confusion(found).accuracy());
        if width == 2 {
            let pairs = |found: &[&Predicted]| -> (Vec<f64>, Vec<bool>) {
                found
                    .iter()
                    .map(|(row, truth)| (f64::from(row[1]), *truth == 1.0))
                    .unzip()
            };
            add("f1", &|found| Some(confusion(found).f1(1)));
            add("auroc", &|found| {
                let (scores, truths) = pairs(found);
                metrics::auroc(&scores, &truths)
            });
            add("average_precision", &|found| {
                let (scores, truths) = pairs(found);
                metrics::average_precision(&scores, &truths)
            });
        } else {
            add("macro_f1", &|found| Some(confusion(found).macro_f1()));
        }
        score
    }

    fn values(&self, found: &[Predicted], all: &mut Map<String, Value>) -> f64 {
        let pairs = |found: &[&Predicted]| -> (Vec<f64>, Vec<f64>) {
            found
                .iter()
                .map(|(row, truth)| (f64::from(row[0]), *truth))
                .unzip()
        };
        let mean = |found: &[&Predicted]| {
            let (x, y) = pairs(found);
            let sum: f64 = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum();
            Some(sum / x.len() as f64)
        };
        let rank = |found: &[&Predicted]| {
            let (x, y) = pairs(found);
            metrics::spearman(&x, &y)
        };
        let whole: Vec<&Predicted> = found.iter().collect();
        let score = mean(&whole).unwrap_or_default();
        all.insert("mean_squared_error".into(), json!(score));
        all.insert("spearman".into(), json!(rank(&whole)));
        if self.intervals {
            all.insert(
                "spearman_ci95".into(),
                json!(metrics::interval(found, rank)),
            );
        }
        score
    }
}

/// The most probable class; of equally probable ones the first.
fn predicted(row: &[f32]) -> usize {
    let order = |a: &(usize, &f32), b: &(usize, &f32)| a.1.total_cmp(b.1).then(b.0.cmp(&a.0));
    let best = row.iter().enumerate().max_by(order);
    best.map_or(0, |(class, _)| class)
}
