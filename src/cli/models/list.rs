//! `models list`: models by name.

use crate::checkpoint::{self, Checkpoint, Config, Tokenizer};
use crate::encoder::Model;
use crate::error::Result;
use crate::run::units::{number, readable};

/// The models that need no files, and the configurations that are known: a table, aligned.
///
/// # Errors
/// Internal: one of them cannot be opened.
pub fn known() -> Result<String> {
    let heads = [
        "name",
        "weights",
        "parameters",
        "context",
        "organism",
        "size",
    ];
    let mut rows = vec![heads.map(str::to_string)];
    for name in checkpoint::bundled() {
        let opened = Checkpoint::open(name.as_ref())?;
        let facts = Model::describe(&opened.config, &opened.tokenizer)?;
        let bytes = opened.weights.bytes() as u64;
        let parameters = opened.weights.parameters(facts.fixed) as u64;
        rows.push(row(
            name,
            ["bundled", organism(name)],
            parameters,
            facts.context,
            bytes,
        ));
    }
    let others = |name: &&str| !checkpoint::bundled().any(|bundled| bundled == *name);
    for name in checkpoint::presets().filter(others) {
        let config = Config::new(name, checkpoint::preset(name)?);
        let facts = Model::describe(&config, &Tokenizer::default())?;
        let weights = checkpoint::weighed(&config, facts.fixed)?;
        rows.push(row(
            name,
            ["untrained", "-"],
            weights.parameters,
            facts.context,
            weights.bytes,
        ));
    }
    Ok(aligned(&rows))
}

/// What a bundled model was trained on.
fn organism(name: &str) -> &'static str {
    match name {
        "crocuta-human" => "human",
        _ => "bacteria",
    }
}

fn row(
    name: &str,
    [weights, organism]: [&str; 2],
    parameters: u64,
    context: Option<usize>,
    bytes: u64,
) -> [String; 6] {
    [
        name.to_string(),
        weights.to_string(),
        millions(parameters as f64 / 1e6),
        context.map_or("-".to_string(), |bases| number(bases as u64)),
        organism.to_string(),
        readable(bytes),
    ]
}

/// The published checkpoints, and how they come here.
pub fn published() -> String {
    let heads = ["name", "organism", "parameters", "context", "size"];
    let mut rows = vec![heads.map(str::to_string)];
    for model in checkpoint::published() {
        rows.push([
            model.name.to_string(),
            model.organism.to_string(),
            model.millions.map_or("-".to_string(), millions),
            model.context.map_or("-".to_string(), number),
            model.bytes.map_or("-".to_string(), readable),
        ]);
    }
    let mut text = aligned(&rows);
    text.push_str(
        "\nOf what is - nothing certain is known here. They come into Hugging Face's cache by:\n",
    );
    for model in checkpoint::published() {
        let line = format!("crocuta models pull {} {}", model.name, model.options);
        text.push_str(&format!("  {}\n", line.trim_end()));
    }
    text.push_str("--config names the keys of Evo 2's published YAML file: docs/models.md.\n");
    text
}

/// `6.5 M`, `1.1 B`: a number of parameters.
fn millions(n: f64) -> String {
    if n < 999.95 {
        format!("{n:.1} M")
    } else {
        format!("{:.1} B", n / 1e3)
    }
}

/// Columns side by side, two blanks between them.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, cell)| format!("{cell:<0$}", width(column)));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
