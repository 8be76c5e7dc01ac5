//! Runs that can go on after they were stopped, as if they never had been: one file beside the
//! output holds parameters, moments, the place in the data and the model's state.

use super::optimiser::AdamW;
use crate::error::{Error, Kind, Result};
use crate::io::atomic::{AtomicFile, hidden};
use crate::stream::{RunIdentity, difference};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Changes when the file's form does: this, the identity and what was saved, and the SHA-256 of all
/// that.
/// With the number of the layout, which is a digit.
const MAGIC: &[u8; 16] = b"crocuta fit v3\n\0";

/// All that a run is, between two steps.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    /// Steps done.
    pub step: u64,
    /// Bases read.
    pub bases: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// The parameters.
    pub values: BTreeMap<String, Vec<f32>>,
    /// Its moments.
    pub optimiser: AdamW,
    /// The best parameters so far.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub worse: u64,
    /// Sum of the losses since the last point of the history.
    pub sum: f64,
    /// Predictions in the sum.
    pub count: u64,
    /// The curve.
    pub history: Vec<Point>,
    /// The place in the data, and the model's state.
    pub objective: Vec<u8>,
}

/// Parameters that were better than any before.
#[derive(Serialize, Deserialize)]
pub struct Best {
    /// After how many steps.
    pub step: u64,
    /// Their rank.
    pub rank: [f64; 2],
    /// The parameters.
    pub values: BTreeMap<String, Vec<f32>>,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: u64,
    /// Bases read.
    pub bases: u64,
    /// Mean training loss since the last point; none before the first step.
    pub loss: Option<f64>,
    /// Score on held-out data, if there is any.
    pub score: Option<f64>,
}

impl Saved {
    /// Before the first step.
    pub fn new(optimiser: AdamW) -> Self {
        Self {
            step: 0,
            bases: 0,
            seconds: 0.0,
            values: BTreeMap::new(),
            optimiser,
            best: None,
            worse: 0,
            sum: 0.0,
            count: 0,
            history: Vec::new(),
            objective: Vec::new(),
        }
    }
}

/// Where and when a run is saved.
pub struct Saving {
    path: PathBuf,
    identity: RunIdentity,
    every: Duration,
    last: Instant,
    found: Option<Vec<u8>>,
}

impl Saving {
    /// The run whose model will stand at `output`. `identity` is all that two runs must have in
    /// common to be the same run. Saves about every `every`.
    ///
    /// # Errors
    /// Usage: an earlier run was stopped here and `resume` is not set, or it was another one. Input:
    /// another version saved it. What is damaged is left out, with a warning, and the run starts anew.
    pub fn open(
        output: &Path,
        identity: RunIdentity,
        every: Duration,
        resume: bool,
    ) -> Result<Self> {
        let name = hidden(output, ".fit")
            .ok_or_else(|| Error::usage("not the name of a directory").file(output.display()))?;
        let path = output.with_file_name(name);
        let mut saving = Self {
            path,
            identity,
            every,
            last: Instant::now(),
            found: None,
        };
        let bytes = match fs::read(&saving.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(saving),
            Err(e) => return Err(Error::io(&saving.path, &e)),
        };
        let error = |what: &str| Error::usage(what).file(saving.path.display());
        if !resume {
            return Err(error("an earlier run was stopped here")
                .todo("give --resume to go on with it, or remove the file"));
        }
        if is_of_another_version(&bytes) {
            return Err(Error::input("another version of crocuta saved this run")
                .file(saving.path.display())
                .todo("go on with that version, or remove the file to start anew"));
        }
        let Some(body) = whole(&bytes) else {
            let path = saving.path.display();
            tracing::warn!("{path}: the file of an earlier run is damaged: starting anew");
            return Ok(saving);
        };
        let (text, saved): (String, &[u8]) =
            postcard::take_from_bytes(body).map_err(|e| damaged(&saving.path).caused_by(e))?;
        let before: RunIdentity =
            serde_json::from_str(&text).map_err(|e| damaged(&saving.path).caused_by(e))?;
        if let Some(what) = difference(&before, &saving.identity) {
            return Err(error(&format!("cannot resume: {what}"))
                .todo("repeat the earlier command, or remove the file to start anew"));
        }
        saving.found = Some(saved.to_vec());
        Ok(saving)
    }

    /// The file from which the same command goes on, if it was saved.
    pub fn file(&self) -> Option<&Path> {
        Some(self.path.as_path()).filter(|path| path.is_file())
    }

    /// The earlier run, once.
    pub(super) fn load(&mut self) -> Result<Option<Saved>> {
        let Some(bytes) = self.found.take() else {
            return Ok(None);
        };
        let saved: Saved =
            postcard::from_bytes(&bytes).map_err(|e| damaged(&self.path).caused_by(e))?;
        tracing::info!("going on after step {}", saved.step);
        Ok(Some(saved))
    }

    /// Whether the last time is long ago.
    pub(super) fn is_due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    /// Saves; until that is done, the file before stays.
    pub(super) fn store(&mut self, saved: &Saved) -> Result<()> {
        let text = Value::Object(self.identity.clone()).to_string();
        let encoded = postcard::to_stdvec(&text)
            .and_then(|text| postcard::to_stdvec(saved).map(|saved| (text, saved)));
        let (text, saved) = encoded.map_err(|e| Error::because(Kind::Internal, e))?;
        let file = AtomicFile::create(&self.path, true)?;
        let mut writer = BufWriter::new(file);
        let parts = [&MAGIC[..], &text, &saved];
        let mut sum = Sha256::new();
        parts.iter().for_each(|part| sum.update(part));
        let sum = sum.finalize();
        let mut parts = parts.into_iter().chain([&sum[..]]);
        let written = parts.try_for_each(|part| writer.write_all(part));
        written.map_err(|e| Error::io(&self.path, &e))?;
        let file = writer
            .into_inner()
            .map_err(|e| Error::io(&self.path, e.error()))?;
        file.finish()?;
        self.last = Instant::now();
        Ok(())
    }

    /// Forgets a run that has ended, whose model stands; warns if it cannot.
    pub fn remove(self) {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                let path = self.path.display();
                tracing::warn!("{path}: {e}: remove it, the run is done");
            }
            _ => {}
        }
    }
}

/// What is between the magic and the sum, if the sum is that of the rest.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, sum) = bytes.split_last_chunk::<32>()?;
    (Sha256::digest(rest)[..] == sum[..]).then_some(())?;
    rest.strip_prefix(MAGIC)
}

fn is_of_another_version(bytes: &[u8]) -> bool {
    let Some(begin) = bytes.first_chunk::<16>() else {
        return false;
    };
    let mut other = *MAGIC;
    other[13] = begin[13];
    begin == &other && begin != MAGIC && begin[13].is_ascii_digit()
}

/// The error for a file that is whole, but not what this version writes.
fn damaged(path: &Path) -> Error {
    Error::input("the file of an earlier run cannot be read")
        .file(path.display())
        .todo("remove it to start anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_left_out_and_a_whole_one_gone_on_from() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let open = |resume| {
            let identity = RunIdentity::from_iter([("seed".to_string(), Value::from(1))]);
            Saving::open(&output, identity, Duration::ZERO, resume)
        };
        let mut saved = Saved::new(AdamW::new(0.1));
        saved.values.insert("w".to_string(), vec![1.0, 2.0]);
        let mut first = open(false).unwrap();
        assert_eq!(first.file(), None);
        first.store(&saved).unwrap();
        assert!(first.file().is_some_and(|path| path.ends_with(".out.fit")));
        assert_eq!(open(false).err().unwrap().kind(), Kind::Usage);
        let path = dir.path().join(".out.fit");
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            for damaged in [&damaged[..], &bytes[..at]] {
                fs::write(&path, damaged).unwrap();
                assert!(open(true).unwrap().load().unwrap().is_none(), "{at}");
            }
        }
        let mut other = bytes.clone();
        other[13] = b'1';
        fs::write(&path, &other).unwrap();
        let error = open(true).err().unwrap();
        assert!(error.to_string().contains("another version"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), other);
        fs::write(&path, bytes).unwrap();
        let found = open(true).unwrap().load().unwrap().unwrap();
        assert_eq!(found.values, saved.values);
    }
}
