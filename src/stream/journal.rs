//! Runs that can go on after they were stopped.
//!
//! A journal is a directory beside the output: finished row groups as tables of their own (parts),
//! the rows after them, the model's state, and `journal.json`, which is replaced last and so
//! always names a complete checkpoint. The parts become the output when the run ends; row groups
//! are copied as they are, so a resumed run gives the same bytes as one that was never stopped.

use super::blocks::{Bins, Block};
use super::steps::Position;
use crate::encoder::State;
use crate::error::{Error, Kind, Result};
use crate::io::atomic::AtomicFile;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What makes two runs the same run, by name.
pub type Identity = Map<String, Value>;

/// The journal of one output.
pub struct Journal {
    directory: PathBuf,
    every: Duration,
    entry: Entry,
}

/// `journal.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    identity: Identity,
    /// Checkpoints so far, which is also the number of parts.
    checkpoints: u64,
    position: Position,
}

/// What the encoder's thread needs to go on.
#[derive(Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub state: State,
    pub before: Vec<f32>,
    pub bins: Option<Bins>,
}

impl Journal {
    /// The journal of `output`: a new one, or the one that an earlier run of the same identity
    /// left. A checkpoint is made about every `every`.
    ///
    /// # Errors
    /// `Usage`, naming what differs, if the earlier run was another one.
    pub fn open(output: &Path, identity: Identity, every: Duration) -> Result<Self> {
        let name = output
            .file_name()
            .ok_or_else(|| Error::usage("--resume needs -o FILE"))?;
        let directory = output.with_file_name(format!(".{}.journal", name.to_string_lossy()));
        let path = directory.join("journal.json");
        let entry = match fs::read(&path) {
            Ok(text) => {
                let entry: Entry = serde_json::from_slice(&text).map_err(|_| {
                    Error::usage("the journal of an earlier run is damaged")
                        .file(path.display())
                        .todo(format!("remove {}", directory.display()))
                })?;
                same(&entry.identity, &identity).map_err(|error| {
                    let todo = "repeat the earlier command, or remove the directory to start anew";
                    error.file(directory.display()).todo(todo)
                })?;
                tracing::info!("going on after checkpoint {}", entry.checkpoints);
                entry
            }
            Err(_) => Entry {
                identity,
                checkpoints: 0,
                position: Position::default(),
            },
        };
        fs::create_dir_all(&directory).map_err(|e| Error::io(&directory, &e))?;
        Ok(Self {
            directory,
            every,
            entry,
        })
    }

    /// Where the run goes on.
    pub(super) fn position(&self) -> Position {
        self.entry.position
    }

    /// The next checkpoint's number, and how often they are made.
    pub(super) fn clock(&self) -> Clock {
        Clock {
            directory: self.directory.clone(),
            every: self.every,
            last: Instant::now(),
            number: self.entry.checkpoints,
        }
    }

    /// The state at the last checkpoint; none at the start of a run.
    pub(super) fn snapshot(&self) -> Result<Option<Snapshot>> {
        match self.entry.checkpoints {
            0 => Ok(None),
            n => load(&self.directory.join(format!("state-{n}"))).map(Some),
        }
    }

    /// The rows after the last finished group, in the blocks in which they were written.
    pub(super) fn pending(&self) -> Result<Vec<Block>> {
        match self.entry.checkpoints {
            0 => Ok(Vec::new()),
            n => load(&self.directory.join(format!("rows-{n}"))),
        }
    }

    /// All parts of a run that has ended, in order: one for each checkpoint, and the last.
    pub(super) fn parts(&self) -> impl Iterator<Item = PathBuf> {
        (1..=self.entry.checkpoints + 1).map(|n| part(&self.directory, n))
    }

    /// The file of the `ahead`-th part after the last checkpoint.
    pub(super) fn create_part(&self, ahead: u64) -> Result<AtomicFile> {
        AtomicFile::create(&part(&self.directory, self.entry.checkpoints + ahead), true)
    }

    /// Makes a checkpoint valid: the current part is finished, `pending` are the rows after it.
    pub(super) fn commit(&mut self, position: Position, pending: &[Block]) -> Result<()> {
        let number = self.entry.checkpoints + 1;
        store(&self.directory.join(format!("rows-{number}")), &pending)?;
        (self.entry.checkpoints, self.entry.position) = (number, position);
        let mut file = AtomicFile::create(&self.directory.join("journal.json"), true)?;
        let text = serde_json::to_vec_pretty(&self.entry).map_err(internal)?;
        file.write_all(&text)
            .map_err(|e| Error::io(file.name(), &e))?;
        file.finish()?;
        for old in ["state", "rows"] {
            // Gone already if the last run was stopped between the two.
            let _ = fs::remove_file(self.directory.join(format!("{old}-{}", number - 1)));
        }
        Ok(())
    }

    /// Removes the journal of a finished run.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory).map_err(|e| Error::io(&self.directory, &e))
    }
}

/// Says when a checkpoint is due, and stores the state for it.
pub(super) struct Clock {
    directory: PathBuf,
    every: Duration,
    last: Instant,
    number: u64,
}

impl Clock {
    pub fn due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    pub fn store(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.number += 1;
        self.last = Instant::now();
        store(
            &self.directory.join(format!("state-{}", self.number)),
            snapshot,
        )
    }
}

fn part(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("part-{number}.parquet"))
}

fn store(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, AtomicFile::create(path, true)?);
    postcard::to_io(value, &mut file).map_err(|e| Error::new(Kind::Io, e).file(path.display()))?;
    let file = file.into_inner().map_err(|e| Error::io(path, e.error()))?;
    file.finish().map(drop)
}

fn load<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let mut buffer = vec![0; 1 << 16];
    let reader = BufReader::with_capacity(1 << 20, file);
    let read = postcard::from_io((reader, &mut buffer));
    let (value, _) = read.map_err(|e| {
        Error::input(format!("the checkpoint cannot be read: {e}"))
            .file(path.display())
            .todo("remove the journal's directory to start anew")
    })?;
    Ok(value)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("journal: {error}"))
}

/// An error that names the first thing in which two runs differ.
fn same(before: &Identity, now: &Identity) -> Result<()> {
    let keys = before.keys().chain(now.keys());
    match keys
        .into_iter()
        .find(|key| before.get(*key) != now.get(*key))
    {
        None => Ok(()),
        Some(key) => {
            let shown =
                |value: Option<&Value>| value.map_or("nothing".to_string(), Value::to_string);
            Err(Error::usage(format!(
                "cannot resume: {key} was {} and is {}",
                shown(before.get(key)),
                shown(now.get(key))
            )))
        }
    }
}
