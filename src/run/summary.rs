//! What a run says when it is done: on stderr, and as JSON.

use super::memory::peak_memory;
use super::session::Session;
use super::units::{number, readable};
use crate::error::{Error, Result, printable};
use crate::io::atomic::AtomicFile;
use crate::io::table_writer::Receipt;
use crate::ops::Device;
use crate::ops::timing;
use crate::stream::pipeline::{Totals, Work};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files that the last line names at most.
const LISTED: usize = 4;

/// What heads count for, whatever ops they call.
const HEAD: &str = "head";

/// What a run did.
#[derive(Default)]
pub struct Summary {
    /// What went through the encoder.
    pub totals: Totals,
    /// The table, if one was written.
    pub receipt: Option<Receipt>,
    /// Rows, with a table or without.
    pub rows: u64,
    /// Rows whose vectors were cut to float16's largest number.
    pub clipped: u64,
    /// What the rows are, in words: `12 rows of 3 sequences`.
    pub counted: String,
    /// The command's own numbers, by name.
    pub own: Map<String, Value>,
    /// What a user should know.
    pub notes: Vec<String>,
    /// What went wrong with records.
    pub warnings: Vec<String>,
    /// Records that failed, for --strict.
    pub failed: Option<String>,
}

impl Summary {
    /// Counts what has no base, and so no row, as failed: intervals, or regions.
    pub fn leave_out(&mut self, n: u64, what: &str) {
        self.own.insert("left_out".to_string(), json!(n));
        if n > 0 {
            let what = format!("{n} {what} have no base, and no row");
            self.warnings.push(what.clone());
            self.failed = Some(what);
        }
    }

    /// Says what was done, and how much was written: the table, or else these files.
    pub fn report(&self, session: &Session, seconds: f64, files: &[(PathBuf, u64)]) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        if self.clipped > 0 {
            let n = self.clipped;
            tracing::warn!("{n} rows were cut to float16's range: use --dtype f32");
        }
        for note in &self.notes {
            tracing::info!("{note}");
        }
        let written = match &self.receipt {
            Some(table) => format!(", {}", readable(table.bytes)),
            None => listed(files),
        };
        let speed = self.totals.bases as f64 / seconds.max(1e-9);
        tracing::info!(
            "{}{written} in {seconds:.1} s on {}: {} bases/s, peak memory {}",
            self.counted,
            session.place(),
            number(speed as u64),
            readable(peak_memory().unwrap_or_default()),
        );
    }
}

/// The first files, each with its bytes, and how many more there are.
fn listed(files: &[(PathBuf, u64)]) -> String {
    let first = files.iter().take(LISTED);
    let name = |path: &Path| printable(&path.to_string_lossy());
    let named = first.map(|(path, bytes)| format!(", {} {}", name(path), readable(*bytes)));
    let more = match files.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more files"),
    };
    named.collect::<String>() + &more
}

/// Writes the summary as JSON: the same keys for all commands, then the command's own.
///
/// # Errors
/// Io.
pub fn write(
    mut file: AtomicFile,
    done: &Summary,
    session: &Session,
    (seconds, profiled): (f64, bool),
) -> Result<()> {
    // Of the device that took the most.
    let peaks = session.engines().filter_map(|engine| match &engine.device {
        Device::Cpu => None,
        Device::Cuda(gpu) => Some(gpu.peak_memory()),
    });
    let device_peak = peaks.collect::<Result<Vec<_>>>()?.into_iter().max();
    let receipt = done.receipt.as_ref();
    let mut all = json!({
        "rows": done.rows,
        "clipped_rows": done.clipped,
        "encoder_bases": done.totals.bases,
        "encoder_steps": done.totals.steps,
        "seconds": seconds,
        "bases_per_second": done.totals.bases as f64 / seconds.max(1e-9),
        "peak_memory_bytes": peak_memory(),
        "device_peak_memory_bytes": device_peak,
        "output_bytes": receipt.map_or(0, |receipt| receipt.bytes),
        "output_sha256": receipt.map(|receipt| &receipt.sha256),
        "model": session.checkpoint.name,
        "model_sha256": session.checkpoint.digest.get(),
        "device": session.place(),
        "chunk": session.chunk,
        "threads": rayon::current_num_threads(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let Value::Object(all) = &mut all {
        all.extend(done.own.clone());
        if profiled {
            all.insert("profile".to_string(), profile(done.totals.work));
        }
    }
    let text = format!("{all:#}\n");
    file.write_all(text.as_bytes())
        .map_err(|e| Error::io(file.name(), &e))?;
    file.finish().map(drop)
}

/// Where the time went: seconds in which each thread was at work, and of the one that computes, by
/// op.
fn profile(work: Work) -> Value {
    let mut ops = timing::taken();
    let head = ops.remove(HEAD).unwrap_or_default();
    let encoder = work.encoder.saturating_sub(head);
    let known: Duration = ops.values().sum();
    let mut by_op: Map<String, Value> = ops
        .into_iter()
        .map(|(name, taken)| (name.to_string(), json!(taken.as_secs_f64())))
        .collect();
    let rest = encoder.saturating_sub(known);
    by_op.insert("all else".to_string(), json!(rest.as_secs_f64()));
    json!({
        "reader_seconds": work.reader.as_secs_f64(),
        "encoder_seconds": encoder.as_secs_f64(),
        "encoder_seconds_by_op": by_op,
        "head_seconds": head.as_secs_f64(),
        "rows_seconds": work.rows.as_secs_f64(),
        "writer_seconds": work.writer.as_secs_f64(),
    })
}
