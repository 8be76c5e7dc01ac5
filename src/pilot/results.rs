//! What was measured, to be asked: whose quality is how good, and who is better than whom.

use super::quality::{MEASURES, Measure};
use crate::table::{Experiment, PilotRow};

/// The 97.5 % point of Student's t for 1 to 9 degrees of freedom; beyond, the normal's.
const STUDENT: [f64; 9] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262,
];

/// All rows of a pilot, to be asked.
pub struct Results {
    /// The rows.
    pub rows: Vec<PilotRow>,
    /// The candidates, in the order of the report.
    pub names: Vec<String>,
}

/// How two candidates compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The first one is better.
    Better,
    /// The second one is.
    Worse,
    /// Too close to call.
    Close,
}

impl Results {
    /// The rows of a measure.
    pub fn of<'a>(
        &'a self,
        experiment: Experiment,
        candidate: &'a str,
        measure: &'a str,
    ) -> impl Iterator<Item = &'a PilotRow> {
        self.rows.iter().filter(move |row| {
            row.experiment == experiment && row.candidate == candidate && row.measure == measure
        })
    }

    /// The measure of quality that the rows have.
    pub fn measure(&self) -> Option<Measure> {
        MEASURES.into_iter().find(|measure| {
            let mut rows = self.rows.iter();
            rows.any(|row| row.experiment == Experiment::Quality && row.measure == measure.name)
        })
    }

    /// Bases a second at the best number of windows.
    pub fn throughput(&self, candidate: &str) -> Option<f64> {
        let rows = self.of(Experiment::Throughput, candidate, "bases_per_second");
        rows.map(|row| row.value).max_by(f64::total_cmp)
    }

    /// Quality from each seed, when all had this alike.
    pub fn quality<'a>(&'a self, candidate: &'a str, budget: &str) -> Vec<&'a PilotRow> {
        let Some(measure) = self.measure() else {
            return Vec::new();
        };
        let rows = self.of(Experiment::Quality, candidate, measure.name);
        rows.filter(|row| row.budget.as_deref() == Some(budget))
            .collect()
    }

    /// The mean of quality over the seeds.
    pub fn mean(&self, candidate: &str, budget: &str) -> Option<f64> {
        let rows = self.quality(candidate, budget);
        let sum: f64 = rows.iter().map(|row| row.value).sum();
        (!rows.is_empty()).then(|| sum / rows.len() as f64)
    }

    /// Candidates by their quality, the best one first.
    pub fn ranked(&self, budget: &str) -> Vec<(&str, f64)> {
        let higher = self.measure().is_some_and(|measure| measure.higher);
        let each = self.names.iter();
        let each = each.filter_map(|name| Some((name.as_str(), self.mean(name, budget)?)));
        let mut ranked: Vec<(&str, f64)> = each.filter(|(_, mean)| mean.is_finite()).collect();
        ranked.sort_by(|a, b| {
            if higher {
                b.1.total_cmp(&a.1)
            } else {
                a.1.total_cmp(&b.1)
            }
        });
        ranked
    }

    /// How two candidates compare: by the 95 % interval of their differences seed by seed, which
    /// read the same bases in the same order; with one seed, by their intervals over the data.
    pub fn compare(&self, a: &str, b: &str, budget: &str) -> Comparison {
        let higher = self.measure().is_some_and(|measure| measure.higher);
        let (a, b) = (self.quality(a, budget), self.quality(b, budget));
        let pairs = a
            .iter()
            .filter_map(|x| Some((*x, *b.iter().find(|y| y.seed == x.seed)?)));
        let pairs: Vec<(&PilotRow, &PilotRow)> = pairs.collect();
        let [low, high] = match pairs.as_slice() {
            [] => return Comparison::Close,
            [(x, y)] => match (x.interval, y.interval) {
                (Some([low, high]), Some([from, to])) => [low - to, high - from],
                _ => return Comparison::Close,
            },
            pairs => difference(
                &pairs
                    .iter()
                    .map(|(x, y)| x.value - y.value)
                    .collect::<Vec<_>>(),
            ),
        };
        match (low > 0.0, high < 0.0) {
            (true, _) if higher => Comparison::Better,
            (true, _) => Comparison::Worse,
            (_, true) if higher => Comparison::Worse,
            (_, true) => Comparison::Better,
            _ => Comparison::Close,
        }
    }

    /// The best candidate, those that are too close to it to call, and those that are worse.
    pub fn split(&self, budget: &str) -> Option<(&str, Vec<&str>, Vec<&str>)> {
        let ranked = self.ranked(budget);
        let ((best, _), others) = ranked.split_first()?;
        let others = others.iter().map(|(name, _)| *name);
        let (close, worse) =
            others.partition(|name| self.compare(best, name, budget) == Comparison::Close);
        Some((best, close, worse))
    }

    /// Whether a candidate learned more than guessing gives: from each seed, by the interval over the
    /// held-out data where it has one.
    pub fn beats_guessing(&self, candidate: &str, budget: &str) -> bool {
        let Some(measure) = self.measure() else {
            return false;
        };
        let Some(guess) = measure.guess else {
            return true;
        };
        let rows = self.quality(candidate, budget);
        rows.iter().all(|row| {
            let [low, high] = row.interval.unwrap_or([row.value; 2]);
            if measure.higher {
                low > guess
            } else {
                high < guess
            }
        })
    }

    /// Candidates than which no other one is faster and better at once, the fastest first.
    pub fn front(&self) -> Vec<&str> {
        let higher = self.measure().is_some_and(|measure| measure.higher);
        let sign = if higher { -1.0 } else { 1.0 };
        let each = self.names.iter().filter_map(|name| {
            let mean = self.mean(name, "bases").filter(|mean| mean.is_finite())?;
            Some((name.as_str(), self.throughput(name)?, sign * mean))
        });
        let mut each: Vec<(&str, f64, f64)> = each.collect();
        each.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut best = f64::INFINITY;
        each.retain(|(.., cost)| {
            let better = *cost < best;
            best = best.min(*cost);
            better
        });
        each.into_iter().map(|(name, ..)| name).collect()
    }
}

/// The 95 % interval of a mean of differences.
fn difference(each: &[f64]) -> [f64; 2] {
    let n = each.len() as f64;
    let mean = each.iter().sum::<f64>() / n;
    let squares: f64 = each.iter().map(|x| (x - mean).powi(2)).sum();
    let error = (squares / (n - 1.0) / n).sqrt();
    let times = STUDENT.get(each.len() - 2).copied().unwrap_or(1.96);
    [mean - times * error, mean + times * error]
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Bits a base from three seeds of each candidate, after equal bases.
    pub fn results(values: &[(&str, [f64; 3])]) -> Results {
        let rows = values.iter().flat_map(|(name, values)| {
            values.iter().zip(0..).map(move |(value, seed)| {
                let row = PilotRow::new(Experiment::Quality, name, "bits_per_base", *value);
                row.seed(seed).budget("bases")
            })
        });
        Results {
            rows: rows.collect(),
            names: values.iter().map(|(name, _)| name.to_string()).collect(),
        }
    }

    #[test]
    fn what_differs_alike_from_every_seed_is_told_apart_and_what_does_not_is_not() {
        let results = results(&[
            ("a", [1.90, 1.95, 1.93]),
            ("b", [1.92, 1.97, 1.951]),
            ("c", [1.91, 1.94, 1.94]),
        ]);
        assert_eq!(results.compare("a", "b", "bases"), Comparison::Better);
        assert_eq!(results.compare("b", "a", "bases"), Comparison::Worse);
        assert_eq!(results.compare("a", "c", "bases"), Comparison::Close);
        let (best, close, worse) = results.split("bases").unwrap();
        assert_eq!((best, close, worse), ("a", vec!["c"], vec!["b"]));
    }

    #[test]
    fn the_front_holds_what_no_other_one_beats_in_both() {
        let mut results = results(&[("a", [1.9; 3]), ("b", [1.8; 3]), ("c", [1.95; 3])]);
        for (name, speed) in [("a", 100.0), ("b", 50.0), ("c", 60.0)] {
            let row = PilotRow::new(Experiment::Throughput, name, "bases_per_second", speed);
            results.rows.push(row.at(1));
        }
        assert_eq!(results.front(), ["a", "b"]);
    }
}
