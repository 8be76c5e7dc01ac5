//! The background of a run: variants that are scored with it, or the table of an earlier run.

use super::{OpenScore, Score};
use crate::error::{Error, Result};
use crate::io::table_file::{TableFile, is_parquet};
use crate::io::variants::Options;
use crate::score::{self, Background, Chosen, Ledger, Part, Reference};
use crate::table::{self, Known, Of, SCORES};
use serde_json::Value;
use std::path::Path;
use std::sync::PoisonError;

/// Rows that are read at a time.
const BATCH: usize = 1 << 13;

/// Parameters in which runs may differ whose scores are compared.
const FREE: [&str; 7] = [
    "input",
    "input-sha256",
    "sample",
    "embeddings",
    "max-allele",
    "protocol",
    "background",
];

impl Score {
    /// Adds the variants of the background to the ledger, if it is no table.
    pub(super) fn read_background(&self, reference: &Reference, ledger: &mut Ledger) -> Result<()> {
        let Some(path) = self.background.as_deref() else {
            return Ok(());
        };
        if is_parquet(path)? {
            return Ok(());
        }
        let first = ledger.len();
        let options = Options {
            sample: None,
            allow_missing_eof: self.allow_missing_eof,
        };
        let all = Chosen {
            part: Part::All,
            within: None,
        };
        score::read_alleles(path, (&options, &[]), reference, &all, ledger)?;
        ledger.set_background(first);
        Ok(())
    }

    /// The background of the table of an earlier run; none if it is no table.
    ///
    /// # Errors
    /// Input: the file is damaged; Usage: its scores were made otherwise.
    pub(super) fn earlier_background(&self, opened: &OpenScore) -> Result<Option<Background>> {
        let Some(path) = self.background.as_deref() else {
            return Ok(None);
        };
        if !is_parquet(path)? {
            return Ok(None);
        }
        let table = TableFile::open(path)?;
        let columns = table::variants(&opened.columns);
        let footer = self.footer(opened, &Known::default(), &columns)?;
        must_be_alike(path, &table.footer, &footer)?;
        let of = opened.columns.of();
        let suffix = if of == Of::Mean { "_avg" } else { "" };
        let shown = |at: &usize| SCORES[*at].has_mean;
        let places: Vec<usize> = (0..SCORES.len()).filter(shown).collect();
        let names = places
            .iter()
            .map(|&at| format!("{}{suffix}", SCORES[at].name));
        let names: Vec<String> = names.collect();
        let mut background = Background::new(of);
        let wanted: Vec<usize> = names
            .iter()
            .map(String::as_str)
            .chain(["type"])
            .map(|name| table.column(name).ok_or_else(|| table.other_type(name)))
            .collect::<Result<_>>()?;
        for group in 0..table.parquet().num_row_groups() {
            for batch in table.read(group, &wanted, BATCH)? {
                let batch = batch?;
                let kind = table.texts(&batch, "type")?;
                let columns = names.iter().map(|name| table.numbers(&batch, name));
                let columns: Vec<_> = columns.collect::<Result<_>>()?;
                for row in 0..batch.num_rows() {
                    let mut numbers = [f32::NAN; SCORES.len()];
                    for (&at, number) in places.iter().zip(&columns) {
                        numbers[at] = number(row).map_or(f32::NAN, |number| number as f32);
                    }
                    background.add(kind(row).unwrap_or_default(), &numbers);
                }
            }
        }
        background.sort();
        Ok(Some(background))
    }

    /// The background of a run that has scored it, if it was read.
    pub(super) fn scored_background(&self, opened: &OpenScore) -> Result<Option<Background>> {
        let ledger = opened.ledger.read().unwrap_or_else(PoisonError::into_inner);
        if self.background.is_none() || ledger.background().is_empty() {
            return Ok(None);
        }
        Background::scored(opened.columns.of(), &ledger).map(Some)
    }
}

/// Fails unless two footers' scores can be compared.
fn must_be_alike(path: &Path, earlier: &Value, footer: &Value) -> Result<()> {
    let params = |footer: &Value| {
        let mut params = footer["params"].as_object().cloned().unwrap_or_default();
        params.retain(|name, _| !FREE.contains(&name.as_str()));
        params
    };
    let alike = [
        "/table",
        "/model/sha256",
        "/inference/mode",
        "/inference/window",
        "/inference/precision",
    ];
    let differs = |pointer: &&&str| earlier.pointer(pointer) != footer.pointer(pointer);
    let what = match alike.iter().find(differs) {
        Some(pointer) => pointer.trim_start_matches('/').replace('/', "."),
        None => {
            let (earlier, now) = (params(earlier), params(footer));
            let mut names = earlier.keys().chain(now.keys());
            match names.find(|name| earlier.get(*name) != now.get(*name)) {
                Some(name) => format!("--{name}"),
                None => return Ok(()),
            }
        }
    };
    let error = Error::usage(format!("its scores were made otherwise: {what} differs"));
    let todo = "give the variants themselves, or score them with this model and these options";
    Err(error.file(path.display()).todo(todo))
}
