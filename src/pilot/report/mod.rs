//! The report: `report.html`, one file that needs nothing else, and `results.parquet`.

mod chart;
mod page;
mod pictures;

use super::results::Results;
use super::verdict::verdict;
use super::{Kept, Pilot};
use crate::checkpoint::Staging;
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::compression::Compression;
use crate::stream::TableOutput;
use crate::table::footer::{Tool, VERSION};
use crate::table::{self, Experiment, Groups, PilotRows};
use page::Page;
use serde_json::{Map, Value, json};
use std::fs;

/// The file of all numbers.
const TABLE: &str = "results.parquet";

/// Writes both files to the directory; the sentences of the verdict.
///
/// # Errors
/// Io.
pub fn write(pilot: &Pilot, kept: &Kept, command: &str, out: &Staging) -> Result<Vec<String>> {
    let rows = kept.all().iter().flat_map(|done| done.found.rows.clone());
    let results = Results {
        rows: rows.collect(),
        names: names(kept),
    };
    table(pilot, kept, command, &results, out)?;
    let sentences = verdict(&results);
    let page = Page {
        pilot,
        kept,
        command,
        results: &results,
        verdict: &sentences,
    };
    out.write("report.html", page.html()?.as_bytes())?;
    Ok(sentences)
}

/// The candidates that run, in the order in which they were entered.
fn names(kept: &Kept) -> Vec<String> {
    let rows = kept.all().iter().flat_map(|done| &done.found.rows);
    let known =
        rows.filter(|row| row.experiment == Experiment::Candidate && row.measure == "parameters");
    known.map(|row| row.candidate.clone()).collect()
}

fn table(
    pilot: &Pilot,
    kept: &Kept,
    command: &str,
    results: &Results,
    out: &Staging,
) -> Result<()> {
    let columns = table::pilot();
    let described = columns.iter().map(|column| {
        let described = serde_json::to_value(column.described()).unwrap_or_default();
        (column.spec.name.clone(), described)
    });
    let described: Map<String, Value> = described.collect();
    let weights = kept.all().iter().filter_map(|done| {
        let digest = done.found.weights.clone()?;
        Some((done.key.clone(), Value::from(digest)))
    });
    let weights: Map<String, Value> = weights.collect();
    let about = pilot.about().into_iter();
    let about: Map<String, Value> = about.map(|(k, v)| (k.to_string(), v.into())).collect();
    let footer = json!({
        "version": VERSION,
        "table": "pilot",
        "primary_columns": ["value"],
        "columns": described,
        "tool": Tool::this(),
        "about": about,
        "weights_sha256": weights,
        "command": command,
        "complete": true,
    });
    // The directory that is made is locked, as that of an output would be.
    let own = out.path().join(".table");
    let failed = |e: std::io::Error| Error::io(&own, &e);
    fs::create_dir(&own).map_err(failed)?;
    let target = AtomicFile::create(&own.join(TABLE), false)?;
    let form = (Groups::of_records(), Compression::default());
    let mut output = TableOutput::create(target, columns, form)?;
    output.write(PilotRows(results.rows.clone()))?;
    output.finish(&footer)?;
    fs::rename(own.join(TABLE), out.path().join(TABLE)).map_err(failed)?;
    fs::remove_dir(&own).map_err(failed)
}
