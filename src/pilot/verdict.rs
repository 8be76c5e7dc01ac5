//! What the measurements say, in at most ten plain sentences.

use super::results::Results;
use super::{latency, memory};
use crate::run::units::{number, readable, seconds};
use crate::table::{Experiment, Origin, PilotRow};

/// How many times as fast one must be to be preferred to a better one that is too close to call.
const FASTER: f64 = 1.1;
/// Recall from which a candidate remembers.
const REMEMBERS: f64 = 0.9;
/// Memory grows if it does by so many bytes a base, and by so many in all: more than a process's
/// memory differs from run to run.
const GROWS: [f64; 2] = [64.0, 8e6];
/// Up to this length, two steps, activations grow whatever the model.
const STEP: i64 = 16_384;

/// The sentences.
pub fn verdict(results: &Results) -> Vec<String> {
    // Where none has learned anything from equal bases, fewer of them say no more.
    let something = results.split("bases");
    let something = something.filter(|(best, ..)| results.beats_guessing(best, "bases"));
    let operations = something.and_then(|_| learned(results, "operations"));
    let sentences = [
        memory(results),
        reach(results),
        throughput(results),
        latency(results),
        learned(results, "bases"),
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
        let to = rows.last()?;
        // Of the last doubling: a GPU's steps are long, and activations grow up to one.
        let last = (to.at? / 2).max(STEP);
        let mut from = rows.iter().filter(|row| row.at >= Some(STEP));
        let from = from.rfind(|row| row.at <= Some(last))?;
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
                let below = readable(most as u64 + 1);
                let verb = if stay.len() == 1 { "stays" } else { "stay" };
                format!("; {} {verb} below {below}", names(&stay))
            });
            let which = match grow.as_slice() {
                [_] => format!("{name}, which"),
                _ => format!("{}: {name}", names(&grow)),
            };
            Some(format!(
                "Memory grows with the sequence for {which} takes {} for {} bases{expected}{others}.",
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
    // Of a short one the time is that of a single step, which latency tells.
    if longest < memory::SHORTEST as i64 {
        return None;
    }
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
    let bases = number(longest.unsigned_abs());
    Some(if each.len() == 1 {
        format!("A sequence of {bases} bases is read by {}.", said(fast))
    } else {
        format!(
            "A sequence of {bases} bases is read fastest by {} and slowest by {}.",
            said(fast),
            said(slow)
        )
    })
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
    let other = if each.len() == 1 {
        String::new()
    } else {
        format!(" and {} with {slow}", seconds(*most))
    };
    Some(format!(
        "In a stream, 95 % of steps of {bases} bases take less than {} with {fast}{other}.",
        seconds(*least)
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
    if close.is_empty() && worse.is_empty() {
        return (budget == "bases").then(|| format!("{best} reaches {said}."));
    }
    let rest = match (close.is_empty(), worse.is_empty()) {
        (_, true) if !close.is_empty() => format!("; too close to call: {}", listed(&close)),
        (true, false) => format!("; worse: {}", listed(&worse)),
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
        if far == 0 {
            return None;
        }
        Some((mean(Some(0)) - mean(Some(far)), far))
    };
    let learned = results.names.iter();
    let learned = learned.filter(|name| results.beats_guessing(name, "bases"));
    let each = learned.filter_map(|name| Some((name, gain(name)?)));
    let (name, (gain, far)) = each.max_by(|a, b| a.1.0.total_cmp(&b.1.0))?;
    if gain <= 0.0 {
        return Some("Bases further away than 64 have helped no candidate so far.".to_string());
    }
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
        (_, true) if yes.len() == 1 => {
            format!("{} recalls copies {farthest} bases away.", names(yes))
        }
        (_, true) => format!("All recall copies {farthest} bases away."),
        _ => format!(
            "Copies {farthest} bases away are recalled by {}, not by {}.",
            names(yes),
            names(no)
        ),
    })
}

/// The best, unless one that is too close to it to call is clearly faster.
fn choice(results: &Results) -> Option<String> {
    let (best, close, _) = results.split("bases")?;
    if !results.beats_guessing(best, "bases") {
        let said = "What serves this data cannot be told after so little training: give a larger \
                    --budget, or more --steps.";
        return Some(said.to_string());
    }
    let speed = |name: &&str| results.throughput(name).unwrap_or_default();
    if results.ranked("bases").len() == 1 {
        return None;
    }
    let clearly = |name: &&str| speed(name) > FASTER * speed(&best);
    let faster = close.iter().copied().filter(clearly);
    let (chosen, why) = match faster.max_by(|a, b| speed(a).total_cmp(&speed(b))) {
        Some(name) => (
            name,
            format!(
                "too close to {best} to call, it reads short sequences {:.1} times as fast",
                speed(&name) / speed(&best)
            ),
        ),
        None => (
            best,
            "nothing that is as good is clearly faster".to_string(),
        ),
    };
    Some(format!("On this data {chosen} serves best: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pilot::results::tests::results;

    #[test]
    fn memory_of_one_step_does_not_count_as_memory_that_grows_with_the_sequence() {
        let mut results = results(&[("attention", [1.9; 3]), ("hyena", [1.8; 3])]);
        // A GPU's steps are 2^20 bases long.
        for at in (10..23).map(|power| 1i64 << power) {
            for (name, until) in [("attention", at), ("hyena", at.min(1 << 20))] {
                let bytes = 2000.0 * until as f64;
                let row = PilotRow::new(Experiment::Memory, name, "peak_memory", bytes);
                results.rows.push(row.at(at as u64));
            }
        }
        let said = memory(&results).unwrap();
        assert!(
            said.contains("with the sequence for attention, which"),
            "{said}"
        );
        assert!(said.contains("hyena stays below"), "{said}");
    }

    #[test]
    fn what_is_too_close_to_call_is_said_beside_what_is_worse() {
        let results = results(&[
            ("a", [1.90, 1.95, 1.93]),
            ("b", [1.92, 1.97, 1.951]),
            ("c", [1.91, 1.94, 1.94]),
        ]);
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
    fn a_better_one_is_left_for_one_that_is_clearly_faster_and_too_close_to_call() {
        let said = |speed: f64| {
            let mut results = results(&[("a", [1.90, 1.95, 1.93]), ("c", [1.91, 1.94, 1.94])]);
            for (name, speed) in [("a", 1000.0), ("c", speed)] {
                let row = PilotRow::new(Experiment::Throughput, name, "bases_per_second", speed);
                results.rows.push(row);
            }
            choice(&results).unwrap()
        };
        assert!(said(1050.0).contains("a serves best: nothing"));
        assert!(said(1300.0).contains(
            "c serves best: too close to a to call, it reads short sequences 1.3 times as fast"
        ));
    }

    #[test]
    fn a_single_candidate_is_compared_with_none() {
        let said = verdict(&results(&[("a", [1.9; 3])]));
        assert_eq!(said, ["a reaches 1.9000 bits per base."]);
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
