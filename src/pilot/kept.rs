//! What was measured so far, in a hidden file beside the output: a line of JSON for each finished
//! measurement, so that a repeated command goes on behind the last one.

use crate::error::{Error, Kind, Result};
use crate::io::atomic::hidden;
use crate::stream::{RunIdentity, difference};
use crate::table::PilotRow;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The finished measurements of a pilot, and its clock.
pub struct Kept {
    path: PathBuf,
    file: File,
    done: Vec<Measurement>,
    started: Instant,
    before: f64,
}

/// A finished measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What it is, as `memory/hyena/1024`.
    pub key: String,
    /// Seconds of the pilot when it was finished.
    pub clock: f64,
    /// What was found.
    #[serde(flatten)]
    pub found: Found,
}

/// What a measurement found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// The numbers.
    pub rows: Vec<PilotRow>,
    /// Why nothing more was found, if something is missing.
    pub note: Option<String>,
    /// SHA-256 of the weights that were trained, if any were.
    pub weights: Option<String>,
}

impl Found {
    /// Numbers alone.
    pub fn rows(rows: Vec<PilotRow>) -> Self {
        Self {
            rows,
            ..Self::default()
        }
    }

    /// Numbers, and why there are no more.
    pub fn noted(rows: Vec<PilotRow>, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..Self::rows(rows)
        }
    }
}

impl Kept {
    /// The measurements of the pilot whose report will stand at `output`. `identity` is all that
    /// two runs must have in common to be the same pilot. A last line that was cut short is left
    /// out.
    ///
    /// # Errors
    /// Usage: what is kept there is another pilot's; Io.
    pub fn open(output: &Path, identity: &RunIdentity) -> Result<Self> {
        let name = hidden(output, ".pilot")
            .ok_or_else(|| Error::usage("not the name of a directory").file(output.display()))?;
        let path = output.with_file_name(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::io(&path, &e)),
        };
        let mut lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let mut length = 0;
        let mut done = Vec::new();
        match lines.next() {
            Some(first) => {
                let before = serde_json::from_str::<RunIdentity>(first);
                let before = before.map_err(|e| foreign(&path).caused_by(e))?;
                if let Some(what) = difference(&before, identity) {
                    let error = Error::usage(format!("cannot go on: {what}"));
                    let todo = "repeat the earlier command, or remove the file to start anew";
                    return Err(error.file(path.display()).todo(todo));
                }
                length += first.len();
                for line in lines {
                    let Ok(measurement) = serde_json::from_str::<Measurement>(line) else {
                        break;
                    };
                    length += line.len();
                    done.push(measurement);
                }
            }
            None => length = 0,
        }
        let failed = |e: std::io::Error| Error::io(&path, &e);
        let open = OpenOptions::new().create(true).append(true).open(&path);
        let file = open.map_err(failed)?;
        file.set_len(length as u64).map_err(failed)?;
        let before = done.last().map_or(0.0, |last| last.clock);
        if !done.is_empty() {
            let count = done.len();
            tracing::info!("going on after {count} measurements and {before:.0} s");
        }
        let mut kept = Self {
            file,
            done,
            started: Instant::now(),
            before,
            path,
        };
        if length == 0 {
            kept.line(identity)?;
        }
        Ok(kept)
    }

    /// Seconds that the pilot has taken, those before a break among them.
    pub fn clock(&self) -> f64 {
        self.before + self.started.elapsed().as_secs_f64()
    }

    /// What was found under this key, or else what `measure` finds, which is kept.
    ///
    /// # Errors
    /// Those of `measure`; Io.
    pub fn once(&mut self, key: &str, measure: impl FnOnce() -> Result<Found>) -> Result<Found> {
        if let Some(known) = self.known(key) {
            return Ok(known.clone());
        }
        let found = measure()?;
        let measurement = Measurement {
            key: key.to_string(),
            clock: self.clock(),
            found: found.clone(),
        };
        self.line(&measurement)?;
        self.done.push(measurement);
        Ok(found)
    }

    /// What was found under this key, if it was.
    pub fn known(&self, key: &str) -> Option<&Found> {
        let known = self.done.iter().find(|done| done.key == key);
        known.map(|done| &done.found)
    }

    /// Seconds of the pilot when what is under this key was finished, if it was.
    pub fn finished(&self, key: &str) -> Option<f64> {
        let known = self.done.iter().find(|done| done.key == key);
        known.map(|done| done.clock)
    }

    /// All measurements, in the order in which they were made.
    pub fn all(&self) -> &[Measurement] {
        &self.done
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value).map_err(|e| Error::because(Kind::Internal, e))?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        let written = written.and_then(|()| self.file.sync_data());
        written.map_err(|e| Error::io(&self.path, &e))
    }

    /// Where a training run of this name is saved, and gone on with: beside the measurements.
    pub fn beside(&self, name: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{name}"));
        path.into()
    }

    /// Forgets a pilot whose report stands; warns if it cannot.
    pub fn remove(self) {
        if let Err(e) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!("{path}: {e}: remove it, the pilot is done");
        }
    }
}

fn foreign(path: &Path) -> Error {
    Error::input("not what a pilot has kept")
        .file(path.display())
        .todo("remove it to start anew")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Experiment;
    use serde_json::Value;

    fn identity(seed: u64) -> RunIdentity {
        RunIdentity::from_iter([("seed".to_string(), Value::from(seed))])
    }

    #[test]
    fn what_was_measured_is_not_measured_again_and_a_cut_line_is() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let row = |value| PilotRow::new(Experiment::Memory, "hyena", "peak_memory", value);
        let found = |value| Ok(Found::rows(vec![row(value)]));
        let mut kept = Kept::open(&output, &identity(1)).unwrap();
        kept.once("a", || found(1.0)).unwrap();
        kept.once("b", || found(2.0)).unwrap();
        let path = dir.path().join(".out.pilot");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() - 5]).unwrap();
        let mut kept = Kept::open(&output, &identity(1)).unwrap();
        assert_eq!(kept.once("a", || found(9.0)).unwrap().rows[0].value, 1.0);
        assert_eq!(kept.once("b", || found(3.0)).unwrap().rows[0].value, 3.0);
        let kept = Kept::open(&output, &identity(1)).unwrap();
        let values = kept.all().iter().map(|done| done.found.rows[0].value);
        assert_eq!(values.collect::<Vec<_>>(), [1.0, 3.0]);
        let error = Kept::open(&output, &identity(2)).err().unwrap();
        assert!(error.to_string().contains("seed"), "{error}");
        kept.remove();
        assert!(!path.exists());
    }
}
