//! The model card, as Hugging Face shows it: what the model is, what it is good for and what not, and
//! how good it is beside simple models.

use super::network::{Trained, Trainee};
use super::objective::Evaluation;
use super::record::{RunRecord, file_name, start};
use super::run::Outcome;
use crate::head::{Link, Task, Unit};
use serde_json::Value;
use std::path::Path;

/// Digits of a number that a reader compares.
const DIGITS: i32 = 4;

/// The text of `README.md` of a model that will stand at `target`.
pub(super) fn write(
    record: &RunRecord,
    trainee: &Trainee,
    outcome: &Outcome,
    target: &Path,
) -> String {
    let mut text = String::from("---\n");
    if let Some(license) = &record.license {
        text.push_str(&format!("license: {}\n", yaml(license)));
    }
    text.push_str(&format!(
        "library_name: crocuta\ntags:\n- dna\n- genomics\n- {}\n---\n\n",
        record.objective
    ));
    text.push_str(&format!("# {}: {}\n\n", file_name(target), what(trainee)));
    text.push_str(&format!(
        "{} trained parameters of a model of the architecture {}, from {}. Objective: {}. {} steps \
         over {} bases in {:.0} s on {}, in {}; the weights are those after step {}.\n\n",
        trainee.size(),
        trainee.source().architecture,
        start(trainee),
        record.objective,
        outcome.steps,
        outcome.bases,
        outcome.seconds,
        record.device[0],
        record.device[1],
        outcome.kept,
    ));
    text.push_str(&use_of(record, trainee));
    held_out(&mut text, record, outcome);
    text.push_str("\n![loss](loss.svg)\n\n## Data\n\n| file | size | sha256 |\n|---|---|---|\n");
    for source in &record.data {
        let (name, size) = (file_name(&source.path), source.size);
        text.push_str(&format!("| {name} | {size} | {} |\n", source.sha256));
    }
    text.push_str(&format!("\n## Command\n\n    {}\n\n", record.command));
    text.push_str("Settings, all digits and the whole curve: `metrics.json`.\n");
    text
}

/// What was made, in words.
fn what(trainee: &Trainee) -> String {
    let made = match trainee.task() {
        None => "a language model of DNA".to_string(),
        Some(task) => {
            let unit = match task.unit {
                Unit::Base => "bases",
                Unit::Sequence => "sequences",
            };
            match task.link {
                Link::Identity => format!("values of {unit}"),
                _ => format!("classes of {unit}: {}", task.outputs.join(", ")),
            }
        }
    };
    match trainee.trained() {
        Trained::Adapter { .. } => {
            let base = &trainee.source().name;
            format!("{made} (an adapter of {base})")
        }
        _ => made,
    }
}

/// What it is good for, and what not.
fn use_of(record: &RunRecord, trainee: &Trainee) -> String {
    let files: Vec<String> = record
        .data
        .iter()
        .map(|file| file_name(&file.path))
        .collect();
    let files = some_of(&files);
    let mut text = String::from("## Use\n\n");
    text.push_str(&match trainee.task() {
        None => format!(
            "Good for: probabilities and vectors of DNA like that of {files}. Not known: how good it \
             is on other genomes, beyond what is measured below. Not by itself good for: effects of \
             variants, which must be measured against known ones (`crocuta score`, \
             docs/variants.md).\n"
        ),
        Some(task) => format!(
            "Good for: {} like those of {files}. Not known: how good it is on others, such as other \
             species, lengths, or frequencies of the classes.{}\n",
            match task.unit {
                Unit::Base => "bases of genomes",
                Unit::Sequence => "sequences",
            },
            overlap(task)
        ),
    });
    if let Some(temperature) = record.temperature {
        text.push_str(&format!(
            "\nIts logits were divided by {temperature:.3}, which made its probabilities fit \
             held-out data best.\n"
        ));
    }
    for warning in &record.warnings {
        text.push_str(&format!("\n**Note:** {warning}.\n"));
    }
    text.push('\n');
    text
}

/// The names, or the first ones and how many others there are.
pub(super) fn some_of(names: &[String]) -> String {
    match names {
        [first, second, third, others @ ..] if others.len() > 1 => {
            format!("{first}, {second}, {third} and {} others", others.len())
        }
        few => few.join(", "),
    }
}

fn overlap(task: &Task) -> &'static str {
    match task.link {
        Link::Softmax => " Every input gets a class, even one that belongs to none of them.",
        _ => "",
    }
}

fn held_out(text: &mut String, record: &RunRecord, outcome: &Outcome) {
    text.push_str("## Held out of this run\n\n");
    let listed = |text: &mut String, all: &[String]| {
        all.iter()
            .for_each(|region| text.push_str(&format!("- `{region}`\n")));
    };
    match &outcome.evaluation {
        Some(evaluation) => {
            text.push_str("Not trained on in this run, but used to choose the step:\n\n");
            listed(text, &record.held_out);
            table(text, evaluation);
        }
        None => text.push_str("Nothing: how good the model is, is not known.\n"),
    }
    if let Some(test) = &record.test {
        text.push_str(
            "\n## Test\n\nMeasured once, at the end; in this run it neither trained nor chose:\n\n",
        );
        listed(text, &record.tested);
        table(text, test);
    }
    if record.baselines.is_empty() {
        return;
    }
    text.push_str("\n## Beside simple models\n\nLinear models of the same training data; the penalty of each was chosen on held-out data.\n\n");
    let own = record.test.as_ref().or(outcome.evaluation.as_ref());
    let simple = record.baselines.iter().map(|baseline| {
        let found = baseline.test.as_ref().or(baseline.evaluation.as_ref());
        (format!("linear, {}", baseline.name), found)
    });
    let names = [
        "mcc",
        "mcc_ci95",
        "accuracy",
        "cross_entropy_bits",
        "spearman",
        "mean_squared_error",
    ];
    let has = |name: &&str| own.is_some_and(|own| own.metrics.contains_key(*name));
    let names: Vec<&str> = names.into_iter().filter(has).collect();
    let titles = names
        .iter()
        .map(|name| format!(" {} |", name.replace('_', " ")));
    text.push_str(&format!("| model |{}\n", titles.collect::<String>()));
    text.push_str(&format!("|---|{}\n", "---|".repeat(names.len())));
    for (name, found) in std::iter::once(("this model".to_string(), own)).chain(simple) {
        let cell = |name: &&str| {
            found
                .and_then(|found| found.metrics.get(*name))
                .map_or(String::new(), shown)
        };
        let cells = names.iter().map(|name| format!(" {} |", cell(name)));
        text.push_str(&format!("| {name} |{}\n", cells.collect::<String>()));
    }
}

fn table(text: &mut String, evaluation: &Evaluation) {
    text.push_str("\n| measure | value |\n|---|---|\n");
    // Lists of several measures are for metrics.json.
    let measures = evaluation.metrics.iter().filter(|(_, value)| {
        let list = value.as_array().and_then(|list| list.first());
        !list.is_some_and(Value::is_object)
    });
    for (name, value) in measures {
        text.push_str(&format!(
            "| {} | {} |\n",
            name.replace('_', " "),
            shown(value)
        ));
    }
}

/// A value with as many digits as a reader compares.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => rounded(number.as_f64().unwrap_or_default()),
        Value::Array(values) if values.len() == 2 => {
            let ends: Vec<String> = values.iter().map(shown).collect();
            ends.join(" to ")
        }
        Value::Object(values) => {
            let each = values
                .iter()
                .map(|(name, value)| format!("{name} {}", shown(value)));
            each.collect::<Vec<_>>().join(", ")
        }
        Value::Null => "not defined".to_string(),
        other => other.to_string(),
    }
}

fn rounded(x: f64) -> String {
    if x == 0.0 {
        return "0".to_string();
    }
    let before = x.abs().log10().floor() as i32 + 1;
    let decimals = (DIGITS - before.max(0)).max(0) + (-before).clamp(0, 12);
    format!("{x:.*}", decimals as usize)
}

/// A text as a YAML scalar.
fn yaml(text: &str) -> String {
    Value::String(text.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_have_as_many_digits_as_are_compared() {
        for (value, text) in [
            (json!(1.448773255943034), "1.449"),
            (json!(0.05123456), "0.05123"),
            (json!(123456.7), "123457"),
            (json!([1.4105798, 1.49234]), "1.411 to 1.492"),
            (json!(null), "not defined"),
            (json!(50), "50"),
            (json!({"EI": 4, "N": 3}), "EI 4, N 3"),
        ] {
            assert_eq!(shown(&value), text);
        }
    }
}
