//! `predictions`: what the language model, or a head, says of every base.

use super::Column;
use super::positions::{Positions, RowUnit, keys};
use crate::io::table_writer::{ColumnKind, Values};
use crate::io::vector::Element;

/// The probability columns, all `float32` and NULL where nothing was predicted: name, unit and
/// meaning, for a causal model and for a bidirectional one.
pub const PROBABILITIES: [(&str, Option<&str>, [&str; 2]); 7] = [
    (
        "logp_base",
        Some("nat"),
        [
            "log P(base at start | bases before it)",
            "log P(base at start | bases around it)",
        ],
    ),
    ("p_A", None, BASE),
    ("p_C", None, BASE),
    ("p_G", None, BASE),
    ("p_T", None, BASE),
    (
        "p_other",
        None,
        ["probability of tokens that are no base"; 2],
    ),
    ("entropy", Some("nat"), ["entropy of p_A, p_C, p_G, p_T"; 2]),
];

/// The place of `entropy` among [`PROBABILITIES`].
const ENTROPY: usize = 6;

/// What can be written as tracks: names, and places among [`PROBABILITIES`].
pub const TRACKS: [(&str, usize); 6] = [
    ("logp", 0),
    ("entropy", ENTROPY),
    ("p_A", 1),
    ("p_C", 2),
    ("p_G", 3),
    ("p_T", 4),
];

const BASE: [&str; 2] = [
    "P(this base at start | bases before it), over the four bases",
    "P(this base at start | bases around it), over the four bases",
];

/// The columns of a `predictions` table of the language model: the keys, [`PROBABILITIES`], and
/// with `logits` (the vocabulary's size) the raw logits as a vector.
pub fn predictions(causal: bool, logits: Option<usize>) -> Vec<Column<Positions>> {
    let mut columns = keys(RowUnit::Base);
    for (at, (name, unit, meanings)) in PROBABILITIES.into_iter().enumerate() {
        let meaning = meanings[usize::from(!causal)];
        let mut column = Column::new(
            name,
            ColumnKind::OptionalF32,
            meaning,
            move |rows: &Positions| rows.numbers(at),
        );
        column.unit = unit;
        columns.push(column.primary());
    }
    if let Some(dim) = logits {
        let element = Element::F32;
        let meaning = if causal {
            "logits after reading the base at start, of the base that follows"
        } else {
            "logits of the base at start after reading all around it, of that base"
        };
        let first = PROBABILITIES.len();
        let column = Column::new(
            "logits",
            ColumnKind::Vector { element, dim },
            meaning,
            move |rows: &Positions| {
                Values::F32Vectors(rows.vectors(first..first + dim).into_owned())
            },
        );
        columns.push(column.of_layer("lm_head").primary());
    }
    columns
}

/// The columns of a `predictions` table of bins: the keys, and the means of their bases'
/// predictions.
pub fn bin_predictions(causal: bool) -> Vec<Column<Positions>> {
    let mut columns = keys(RowUnit::Bin);
    columns.extend(pooled("bin", causal));
    columns
}

/// What a language model says of the bases of a `unit`, whose numbers are means.
pub(super) fn pooled(unit: &str, causal: bool) -> [Column<Positions>; 3] {
    let around = if causal { "before" } else { "around" };
    let perplexity = |rows: &Positions| match rows.numbers(0) {
        Values::OptionalF32(means) => {
            let each = means.into_iter();
            Values::OptionalF32(each.map(|mean| mean.map(|mean| (-mean).exp())).collect())
        }
        other => other,
    };
    let mean = |rows: &Positions| rows.numbers(0);
    let entropy = |rows: &Positions| rows.numbers(ENTROPY);
    let kind = ColumnKind::OptionalF32;
    [
        Column::new(
            "mean_logp",
            kind,
            format!(
                "mean of log P(base | bases {around} it) over the {unit}'s bases that have one"
            ),
            mean,
        )
        .unit("nat")
        .primary(),
        Column::new(
            "mean_entropy",
            kind,
            "mean entropy of the predictions of the four bases",
            entropy,
        )
        .unit("nat")
        .primary(),
        Column::new("perplexity", kind, "exp(−`mean_logp`)", perplexity).primary(),
    ]
}

/// What a task's head gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadOutputs {
    /// The head's name.
    pub head: String,
    /// What each number stands for.
    pub names: Vec<String>,
    /// They are probabilities of classes, not values.
    pub probabilities: bool,
}

impl HeadOutputs {
    /// The name of an output's column: `prob_<class>`, or `value_<name>`.
    pub fn column(&self, output: &str) -> String {
        let prefix = if self.probabilities { "prob" } else { "value" };
        format!("{prefix}_{output}")
    }

    /// What a number is, in words.
    pub(super) fn what(&self) -> &'static str {
        if self.probabilities {
            "probability"
        } else {
            "value"
        }
    }
}

/// The columns of a `predictions` table of a task's head: the keys, and a `float32` for each of the
/// head's outputs, of bins their means.
pub fn head_outputs(outputs: &HeadOutputs, unit: RowUnit) -> Vec<Column<Positions>> {
    let mut columns = keys(unit);
    let place = match unit {
        RowUnit::Base => "at start",
        RowUnit::Bin => "in the mean of the bin",
    };
    let what = outputs.what();
    for (at, name) in outputs.names.iter().enumerate() {
        let column = Column::new(
            outputs.column(name),
            ColumnKind::OptionalF32,
            format!("{what} of {name} {place}"),
            move |rows: &Positions| rows.numbers(at),
        );
        columns.push(column.of_layer(&outputs.head).primary());
    }
    columns
}
