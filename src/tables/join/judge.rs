//! How well a score tells positive labels from others: the area under the ROC curve, and the
//! average precision, each with a 95 % interval.
//!
//! The interval of the area is DeLong's (DeLong, DeLong and Clarke-Pearson 1988); that of the
//! average precision is normal on the scale of the logit, with the number of positives as sample
//! size (Boyd, Eng and Page 2013).

use super::Question;
use crate::error::{Error, Result};
use crate::io::labels::{Column, Labels};
use crate::io::table_file::TableFile;
use arrow_array::RecordBatch;
use rayon::prelude::*;
use serde_json::{Value, json};

/// Half of a 95 % interval, in standard deviations.
const Z: f64 = 1.959_963_984_540_054;

/// Rows on the way to a judgement.
pub struct Judge<'a> {
    table: &'a TableFile,
    column: &'a Column,
    question: &'a Question<'a>,
    /// The column of the score, and its sign.
    score: (&'a str, f64),
    /// The names of types.
    types: Vec<String>,
    rows: Vec<Judged>,
}

/// A row with a score and a label.
#[derive(Clone, Copy)]
struct Judged {
    score: f64,
    positive: bool,
    kind: u16,
}

impl<'a> Judge<'a> {
    /// Of this table with these labels.
    ///
    /// # Errors
    /// Usage: one of the columns is not there, or no score.
    pub fn new(
        table: &'a TableFile,
        labels: &'a Labels,
        question: &'a Question<'a>,
    ) -> Result<Self> {
        let column = labels
            .columns
            .iter()
            .find(|column| column.name == question.label);
        let column = column.ok_or_else(|| {
            let names: Vec<&str> = labels.columns.iter().map(|c| c.name.as_str()).collect();
            let what = format!("the labels have no column {}", question.label);
            Error::usage(what).todo(format!("they have {}", names.join(", ")))
        })?;
        let (name, sign) = match question.score.strip_prefix('-') {
            Some(name) => (name, -1.0),
            None => (question.score, 1.0),
        };
        if table.column(name).is_none() {
            let what = format!("there is no column {name} to judge by");
            let error = Error::usage(what).file(table.path.display());
            return Err(error.todo("name one with --by-score"));
        }
        Ok(Self {
            table,
            column,
            question,
            score: (name, sign),
            types: Vec::new(),
            rows: Vec::new(),
        })
    }

    /// Takes note of rows of a batch and their labels.
    pub fn see(&mut self, batch: &RecordBatch, rows: &[u32], labels: &[Option<u32>]) -> Result<()> {
        let (name, sign) = self.score;
        let score = self.table.numbers(batch, name)?;
        let kind = match batch.column_by_name("type") {
            Some(_) => Some(self.table.texts(batch, "type")?),
            None => None,
        };
        for (row, label) in rows.iter().zip(labels) {
            let row = *row as usize;
            let text = label.and_then(|label| self.column.text(label));
            let (Some(text), Some(score)) = (text, score(row)) else {
                continue;
            };
            let positive = self.is_positive(text)?;
            let kind = kind.as_ref().and_then(|kind| kind(row)).unwrap_or_default();
            let kind = self.kind(kind);
            let score = sign * score;
            self.rows.push(Judged {
                score,
                positive,
                kind,
            });
        }
        Ok(())
    }

    fn is_positive(&self, text: &str) -> Result<bool> {
        let positive = self.question.positive;
        match text {
            _ if !positive.is_empty() => Ok(positive.iter().any(|known| known == text)),
            "1" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "false" | "False" | "FALSE" => Ok(false),
            _ => {
                let what = format!("the label \"{text}\" is neither 1 nor 0");
                let error = Error::usage(what).file(&self.column.name);
                Err(error.todo("say with --positive which labels are positive"))
            }
        }
    }

    fn kind(&mut self, name: &str) -> u16 {
        let known = self.types.iter().position(|known| known == name);
        let place = known.unwrap_or_else(|| {
            self.types.push(name.to_string());
            self.types.len() - 1
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// The judgement of all rows, and of those of each type.
    pub fn judgement(mut self) -> Result<Value> {
        self.rows
            .par_sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
        let mut types = vec![judged("all", &|| self.rows.iter())];
        let mut kinds: Vec<(usize, &String)> = self.types.iter().enumerate().collect();
        kinds.retain(|(_, name)| !name.is_empty());
        kinds.sort_by_key(|(_, name)| *name);
        for (place, name) in kinds {
            let of_kind = || {
                self.rows
                    .iter()
                    .filter(move |row| usize::from(row.kind) == place)
            };
            types.push(judged(name, &of_kind));
        }
        Ok(json!({
            "label": self.question.label,
            "by_score": self.question.score,
            "higher_is": "positive",
            "intervals": {"level": 0.95, "auroc": "DeLong", "average_precision": "logit"},
            "types": types,
        }))
    }
}

/// Rows of one score: how many are positive, and how many are not.
struct Tie {
    positive: f64,
    negative: f64,
}

/// What sorted rows say of the score.
fn judged<'a, I: Iterator<Item = &'a Judged>>(name: &str, rows: &dyn Fn() -> I) -> Value {
    let (mut count, mut positive) = (0u64, 0u64);
    for row in rows() {
        count += 1;
        positive += u64::from(row.positive);
    }
    let (p, n) = (positive as f64, (count - positive) as f64);
    let mut value = json!({"type": name, "rows": count, "positive": positive});
    if p > 0.0 && n > 0.0 {
        let (area, half) = area(p, n, rows);
        let ends = half.map(|half| [(area - half).max(0.0), (area + half).min(1.0)]);
        value["auroc"] = json!({"value": area, "interval": ends});
        let (precision, ends) = average_precision(p, n, rows);
        value["average_precision"] = json!({"value": precision, "interval": ends});
    }
    value
}

/// Gives `take` the ties of sorted rows, from the lowest score on.
fn ties<'a>(rows: impl Iterator<Item = &'a Judged>, mut take: impl FnMut(&Tie)) {
    let (mut last, mut tie) = (
        None,
        Tie {
            positive: 0.0,
            negative: 0.0,
        },
    );
    for row in rows {
        // Zeros of both signs are equal.
        if last.is_some_and(|last| last != row.score) {
            take(&std::mem::replace(
                &mut tie,
                Tie {
                    positive: 0.0,
                    negative: 0.0,
                },
            ));
        }
        last = Some(row.score);
        if row.positive {
            tie.positive += 1.0;
        } else {
            tie.negative += 1.0;
        }
    }
    if last.is_some() {
        take(&tie);
    }
}

/// The area under the ROC curve, and half of DeLong's interval: of the parts of others that each
/// positive is above, and of the positives that are above each other, the variances.
fn area<'a, I: Iterator<Item = &'a Judged>>(
    p: f64,
    n: f64,
    rows: &dyn Fn() -> I,
) -> (f64, Option<f64>) {
    let (mut below, mut sum) = (0.0, 0.0);
    ties(rows(), |tie| {
        sum += tie.positive * (below + tie.negative / 2.0);
        below += tie.negative;
    });
    let area = sum / (p * n);
    let (mut below, mut lower, mut of_positives, mut of_others) = (0.0, 0.0, 0.0, 0.0);
    ties(rows(), |tie| {
        let above = (below + tie.negative / 2.0) / n - area;
        of_positives += tie.positive * above * above;
        let under = 1.0 - (lower + tie.positive / 2.0) / p - area;
        of_others += tie.negative * under * under;
        below += tie.negative;
        lower += tie.positive;
    });
    let enough = p > 1.0 && n > 1.0;
    let variance = of_positives / (p - 1.0) / p + of_others / (n - 1.0) / n;
    (area, enough.then(|| Z * variance.sqrt()))
}

/// The mean of the precisions at each positive, the highest scores first; none of its interval if
/// it is 1, where the logit has none.
fn average_precision<'a, I: Iterator<Item = &'a Judged>>(
    p: f64,
    n: f64,
    rows: &dyn Fn() -> I,
) -> (f64, Option<[f64; 2]>) {
    // From the lowest score on: all are taken at first.
    let (mut taken, mut found, mut sum) = (p + n, p, 0.0);
    ties(rows(), |tie| {
        if tie.positive > 0.0 {
            sum += tie.positive * found / taken;
        }
        taken -= tie.positive + tie.negative;
        found -= tie.positive;
    });
    let mean = sum / p;
    if mean >= 1.0 {
        return (1.0, None);
    }
    let logit = (mean / (1.0 - mean)).ln();
    let half = Z / (p * mean * (1.0 - mean)).sqrt();
    let ends = [logit - half, logit + half].map(|x| 1.0 / (1.0 + (-x).exp()));
    (mean, Some(ends))
}
