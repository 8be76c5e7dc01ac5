//! What the measurements say, in at most ten plain sentences.

use super::latency;
use super::quality::{MEASURES, Measure};
use crate::run::units::{number, readable, seconds};
use crate::table::{Experiment, Origin, PilotRow};

/// Recall from which a candidate remembers.
const REMEMBERS: f64 = 0.9;
/// Memory grows if it does by so many bytes a base, and by so many in all: more than a process's
/// memory differs from run to run.
const GROWS: [f64; 2] = [64.0, 8e6];
/// Up to this length, two steps, activations grow whatever the model.
const STEP: i64 = 16_384;
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
    fn split(&self, budget: &str) -> Option<(&str, Vec<&str>, Vec<&str>)> {
        let ranked = self.ranked(budget);
        let ((best, _), others) = ranked.split_first()?;
        let others = others.iter().map(|(name, _)| *name);
        let (close, worse) =
            others.partition(|name| self.compare(best, name, budget) == Comparison::Close);
        Some((best, close, worse))
    }

    /// Whether a candidate learned more than guessing gives: from each seed, by the interval over the
    /// held-out data where it has one.
    fn beats_guessing(&self, candidate: &str, budget: &str) -> bool {
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

/// The sentences.
pub fn verdict(results: &Results) -> Vec<String> {
    let quality = ["bases", "operations"].map(|budget| learned(results, budget));
    let [bases, operations] = quality;
    let sentences = [
        memory(results),
        reach(results),
        throughput(results),
        latency(results),
        bases,
        operations,
        front(results),
        context(results),
        recall(results),
        choice(results),
    ];
    sentences.into_iter().flatten().collect()
}

/// `a, b and c`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => "none".to_string(),
        [one] => (*one).to_string(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Whose memory grows with the sequence.
fn memory(results: &Results) -> Option<String> {
    let growth = |name: &str| {
        let rows: Vec<_> = results
            .of(Experiment::Memory, name, "peak_memory")
            .collect();
        let from = rows.iter().find(|row| row.at >= Some(STEP))?;
        let to = rows.last()?;
        let (bytes, bases) = (to.value - from.value, (to.at? - from.at?).max(1));
        let grows = bytes > GROWS[1] && bytes / bases as f64 > GROWS[0];
        Some((grows, (*to).clone()))
    };
    let known = results.names.iter();
    let known = known.filter_map(|name| Some((name.as_str(), growth(name)?)));
    let known: Vec<(&str, (bool, PilotRow))> = known.collect();
    let (grow, stay): (Vec<_>, Vec<_>) = known.iter().partition(|(_, (grows, _))| *grows);
    let names = |each: &[&(&str, (bool, PilotRow))]| {
        listed(&each.iter().map(|(name, _)| *name).collect::<Vec<_>>())
    };
    let most = stay
        .iter()
        .map(|(_, (_, row))| row.value)
        .max_by(f64::total_cmp);
    match grow
        .iter()
        .max_by(|a, b| a.1.1.value.total_cmp(&b.1.1.value))
    {
        Some((name, (_, row))) => {
            let expected = match row.origin {
                Origin::Extrapolated => " (extrapolated)",
                _ => "",
            };
            let others = most.map_or(String::new(), |most| {
                format!(
                    "; {} stay below {}",
                    names(&stay),
                    readable(most as u64 + 1)
                )
            });
            Some(format!(
                "Memory grows with the sequence for {}: {name} takes {} for {} bases{expected}{others}.",
                names(&grow),
                readable(row.value as u64),
                number(row.at.unwrap_or_default().unsigned_abs()),
            ))
        }
        None => most.map(|most| {
            format!(
                "Memory binds none of the candidates at these lengths: all stay below {}.",
                readable(most as u64 + 1)
            )
        }),
    }
}

/// How long the longest sequence takes the first candidate, and the fastest.
fn reach(results: &Results) -> Option<String> {
    let last = |name: &str| {
        let row = results.of(Experiment::Memory, name, "seconds").last()?;
        Some(row.clone())
    };
    let each = results.names.iter().filter_map(|name| last(name));
    let each: Vec<PilotRow> = each.collect();
    let longest = each.iter().filter_map(|row| row.at).max()?;
    let at = each.iter().filter(|row| row.at == Some(longest));
    let fast = at.clone().min_by(|a, b| a.value.total_cmp(&b.value))?;
    let slow = at.max_by(|a, b| a.value.total_cmp(&b.value))?;
    let said = |row: &PilotRow| {
        let how = match row.origin {
            Origin::Extrapolated => ", extrapolated",
            _ => "",
        };
        format!("{} ({}{how})", row.candidate, seconds(row.value))
    };
    Some(format!(
        "A sequence of {} bases is read fastest by {} and slowest by {}.",
        number(longest.unsigned_abs()),
        said(fast),
        said(slow)
    ))
}

fn throughput(results: &Results) -> Option<String> {
    let each = results
        .names
        .iter()
        .filter_map(|name| Some((name, results.throughput(name)?)));
    let each: Vec<(&String, f64)> = each.collect();
    let (fast, speed) = each.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let (first, base) = each.first()?;
    let times = if first == fast {
        String::new()
    } else {
        format!(", {:.1} times as many as {first}", speed / base)
    };
    Some(format!(
        "Of many short windows {fast} reads most: {} bases a second{times}.",
        number(*speed as u64)
    ))
}

fn latency(results: &Results) -> Option<String> {
    let bases = latency::STEPS[1] as i64;
    let each = results.names.iter().filter_map(|name| {
        let mut rows = results.of(Experiment::Latency, name, "step_p95");
        Some((name, rows.find(|row| row.at == Some(bases))?.value))
    });
    let each: Vec<(&String, f64)> = each.collect();
    let (fast, least) = each.iter().min_by(|a, b| a.1.total_cmp(&b.1))?;
    let (slow, most) = each.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(format!(
        "In a stream, 95 % of steps of {bases} bases take less than {} with {fast} and {} with {slow}.",
        seconds(*least),
        seconds(*most)
    ))
}

fn learned(results: &Results, budget: &str) -> Option<String> {
    let measure = results.measure()?;
    let (best, close, worse) = results.split(budget)?;
    let said = measure.said(results.mean(best, budget)?);
    let alike = match budget {
        "bases" => "After equal bases",
        _ => "After equal operations",
    };
    if !results.beats_guessing(best, budget) {
        return Some(format!(
            "{alike} none has learned more than guessing gives; {best} is nearest, {said}."
        ));
    }
    let rest = match (close.is_empty(), worse.is_empty()) {
        (_, true) if !close.is_empty() => format!("; too close to call: {}", listed(&close)),
        (true, false) => format!("; worse: {}", listed(&worse)),
        (true, true) => String::new(),
        _ => format!(
            "; too close to call: {}; worse: {}",
            listed(&close),
            listed(&worse)
        ),
    };
    Some(format!("{alike} {best} is best, {said}{rest}."))
}

fn front(results: &Results) -> Option<String> {
    let front = results.front();
    let (best, ..) = results.split("bases")?;
    (front.len() > 1 && results.beats_guessing(best, "bases")).then(|| {
        format!(
            "No candidate is both faster and better than one of {}: the choice among them is \
             between speed and quality.",
            listed(&front)
        )
    })
}

/// What bases further away than 64 are worth.
fn context(results: &Results) -> Option<String> {
    let gain = |name: &str| {
        let rows: Vec<_> = results
            .of(Experiment::Context, name, "bits_per_base")
            .collect();
        let mean = |at: Option<i64>| {
            let values = rows.iter().filter(|row| row.at == at).map(|row| row.value);
            let values: Vec<f64> = values.collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        let far = rows.iter().filter_map(|row| row.at).max()?;
        Some((mean(Some(0)) - mean(Some(far)), far))
    };
    let each = results
        .names
        .iter()
        .filter_map(|name| Some((name, gain(name)?)));
    let (name, (gain, far)) = each.max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    Some(format!(
        "Context is worth most to {name}: {gain:.4} bits a base less with {far} bases before than \
         with fewer than 64."
    ))
}

fn recall(results: &Results) -> Option<String> {
    let recalls = |name: &str, distance: i64| {
        let mut rows = results.of(Experiment::Recall, name, "recall");
        Some(rows.find(|row| row.at == Some(distance))?.value)
    };
    let rows = results.rows.iter().filter(|row| row.measure == "recall");
    let farthest = rows.filter_map(|row| row.at).max()?;
    let each = results.names.iter();
    let each = each.filter_map(|name| Some((name.as_str(), recalls(name, farthest)?)));
    let (yes, no): (Vec<_>, Vec<_>) = each.partition(|(_, recall)| *recall >= REMEMBERS);
    let names = |each: Vec<(&str, f64)>| {
        let names: Vec<&str> = each.into_iter().map(|(name, _)| name).collect();
        listed(&names)
    };
    let farthest = number(farthest.unsigned_abs());
    Some(match (yes.is_empty(), no.is_empty()) {
        (true, _) => format!(
            "None recalls copies {farthest} bases away after this training: see the shorter distances."
        ),
        (_, true) => format!("All recall copies {farthest} bases away."),
        _ => format!(
            "Copies {farthest} bases away are recalled by {}, not by {}.",
            names(yes),
            names(no)
        ),
    })
}

/// The fastest of those that are not worse than the best.
fn choice(results: &Results) -> Option<String> {
    let (best, close, _) = results.split("bases")?;
    if !results.beats_guessing(best, "bases") {
        let said = "What serves this data cannot be told after so little training: give a larger \
                    --budget, or more --steps.";
        return Some(said.to_string());
    }
    let speed = |name: &&str| results.throughput(name).unwrap_or_default();
    let good = std::iter::once(best).chain(close.iter().copied());
    let chosen = good.max_by(|a, b| speed(a).total_cmp(&speed(b)))?;
    let why = if chosen == best {
        "nothing that is as good is faster"
    } else {
        "it is the fastest of those that are too close to the best to call"
    };
    Some(format!("On this data {chosen} serves best: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(values: &[(&str, [f64; 3])]) -> Results {
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
        let said = verdict(&results).join(" ");
        assert!(
            said.contains("After equal bases a is best, 1.9267 bits per base"),
            "{said}"
        );
        assert!(said.contains("too close to call: c; worse: b"), "{said}");
    }

    #[test]
    fn none_is_chosen_where_none_has_learned_more_than_guessing_gives() {
        let said =
            |values: [f64; 3]| verdict(&results(&[("a", values), ("b", [2.3; 3])])).join(" ");
        let guessed = said([2.1, 1.9, 2.1]);
        assert!(guessed.contains("none has learned"), "{guessed}");
        assert!(guessed.contains("cannot be told"), "{guessed}");
        assert!(!guessed.contains("serves best"), "{guessed}");
        assert!(said([1.9; 3]).contains("a serves best"));
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

    #[test]
    fn there_are_ten_sentences_at_most_and_none_of_nothing() {
        let empty = Results {
            rows: Vec::new(),
            names: vec!["a".to_string()],
        };
        assert!(verdict(&empty).is_empty());
    }
}
