//! Runs that can go on after they were stopped.
//!
//! A journal is a directory beside the output, or in one for many runs: finished row groups as
//! tables of their own (parts), the rows after them, what the stages of the pipeline carry, and
//! `journal.json`, which is replaced last and so always names a complete checkpoint, with the
//! SHA-256 of each of its files. The parts become the output when the run ends; row groups are
//! copied as they are, so a resumed run gives the same bytes as one that was never stopped.

mod lock;
mod values;

pub use values::{load, store};

use crate::error::{Error, Kind, Result};
use crate::io::atomic::{AtomicFile, hidden, is_stdout};
use crate::io::sha256::{digest, digest_of, hex};
use lock::{LOCK, lock};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use values::internal;

/// What makes two runs the same run, by name.
pub type RunIdentity = Map<String, Value>;

/// A place in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Sequences, or records, or groups of sites, before it.
    pub sequences: u64,
    /// Bases of the sequence before it.
    pub bases: u64,
}

/// The journal of one run.
pub struct Journal {
    directory: PathBuf,
    every: Duration,
    entry: Entry,
    /// Held as long as this run is at work here.
    lock: File,
}

/// `journal.json`, but for its own digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    identity: RunIdentity,
    /// Checkpoints so far, which is also the number of parts.
    checkpoints: u64,
    position: Position,
    /// SHA-256 of the files that all checkpoints added, by name.
    parts: BTreeMap<String, String>,
    /// SHA-256 of the files that the last checkpoint alone needs.
    files: BTreeMap<String, String>,
}

impl Entry {
    /// Of a run without a checkpoint.
    fn new(identity: RunIdentity) -> Self {
        Self {
            identity,
            checkpoints: 0,
            position: Position::default(),
            parts: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }
}

/// A checkpoint in the making.
pub struct Mark {
    directory: PathBuf,
    number: u64,
    position: Position,
    parts: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

impl Journal {
    /// The journal of a run, in `directory`, where many may have theirs, or beside its `output`: a
    /// new one, or the one that an earlier run of the same identity left. A checkpoint is made about
    /// every `every`. A damaged journal is left out, with a warning, and the run starts anew.
    ///
    /// # Errors
    /// `Usage`, naming what differs, if the earlier run beside the output was another one; if
    /// another process is at work there.
    pub fn open(
        output: &Path,
        directory: Option<&Path>,
        identity: RunIdentity,
        every: Duration,
    ) -> Result<Self> {
        let name = hidden(output, ".journal")
            .filter(|_| !is_stdout(output))
            .ok_or_else(|| Error::usage("--resume needs -o FILE"))?;
        let directory = match directory {
            // Whatever the output's path is this time.
            Some(directory) => directory.join(format!("crocuta-{}", key(&identity))),
            None => output.with_file_name(name),
        };
        let lock = lock(&directory)?;
        let entry = match earlier(&directory)? {
            Some(entry) => {
                if let Some(what) = difference(&entry.identity, &identity) {
                    let error = Error::usage(format!("cannot resume: {what}"));
                    let todo = "repeat the earlier command, or remove the directory to start anew";
                    return Err(error.file(directory.display()).todo(todo));
                }
                tracing::info!("going on after checkpoint {}", entry.checkpoints);
                entry
            }
            None => Entry::new(identity),
        };
        tidy(&directory, &entry)?;
        Ok(Self {
            lock,
            directory,
            every,
            entry,
        })
    }

    /// Where the run goes on.
    pub fn position(&self) -> Position {
        self.entry.position
    }

    /// How many checkpoints there are.
    pub fn checkpoints(&self) -> u64 {
        self.entry.checkpoints
    }

    /// Where its files lie.
    pub fn directory(&self) -> &Path {
        &self.directory
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

    /// Reads what the last checkpoint stored under a name, if there is one.
    ///
    /// # Errors
    /// Io, and those of `read`.
    pub fn restore(
        &self,
        name: &str,
        read: &mut dyn FnMut(&mut dyn Read) -> Result<()>,
    ) -> Result<()> {
        if self.entry.checkpoints == 0 {
            return Ok(());
        }
        let path = numbered(&self.directory, name, self.entry.checkpoints);
        let file = File::open(&path).map_err(|e| Error::io(&path, &e))?;
        let mut file = BufReader::with_capacity(1 << 20, file);
        read(&mut file).map_err(|error| error.file(path.display()))
    }

    /// Makes a checkpoint valid, and removes what only the one before needed.
    ///
    /// # Errors
    /// Io.
    pub(super) fn commit(&mut self, checkpoint: Mark) -> Result<()> {
        self.entry.checkpoints = checkpoint.number;
        self.entry.position = checkpoint.position;
        self.entry.parts.extend(checkpoint.parts);
        let old = std::mem::replace(&mut self.entry.files, checkpoint.files);
        let text = serde_json::to_string_pretty(&self.entry).map_err(internal)?;
        let text = format!("{text}\n{}\n", digest_of(text.as_bytes()));
        let mut file = AtomicFile::create(&self.directory.join(ENTRY), true)?;
        file.write_all(text.as_bytes())
            .map_err(|e| Error::io(file.name(), &e))?;
        file.finish()?;
        for name in old.keys() {
            // Gone already if the last run was stopped between the two.
            let _ = fs::remove_file(self.directory.join(name));
        }
        Ok(())
    }

    /// Removes the journal of a finished run, whose outputs stand; warns if it cannot.
    pub fn remove(self) {
        let directory = self.directory.clone();
        if let Err(error) = self.clear() {
            let directory = directory.display();
            tracing::warn!("{error}: remove {directory}, the run is done");
        }
    }

    /// Removes the checkpoint first, whose files are then none's, and last what keeps others out.
    fn clear(self) -> Result<()> {
        let Self {
            directory, lock, ..
        } = self;
        let remove = |name| match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(&directory.join(name), &error))
            }
            _ => Ok(()),
        };
        remove(ENTRY)?;
        tidy(&directory, &Entry::new(RunIdentity::new()))?;
        remove(LOCK)?;
        // Over a network the file of an open lock stays until it is closed.
        drop(lock);
        match fs::remove_dir(&directory) {
            // Another run has begun here, or has ended.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
                ) =>
            {
                Ok(())
            }
            removed => removed.map_err(|e| Error::io(&directory, &e)),
        }
    }
}

/// Says when a checkpoint is due.
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

    pub fn begin(&mut self, position: Position) -> Mark {
        self.number += 1;
        self.last = Instant::now();
        Mark {
            directory: self.directory.clone(),
            number: self.number,
            position,
            parts: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }
}

impl Mark {
    /// Its number, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Stores something under a name; the next checkpoint stores it anew.
    ///
    /// # Errors
    /// Io, and those of `write`.
    pub fn store(
        &mut self,
        name: &str,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let path = numbered(&self.directory, name, self.number);
        let mut file = BufWriter::with_capacity(1 << 20, AtomicFile::create(&path, true)?);
        write(&mut file).map_err(|error| error.file(path.display()))?;
        let file = file.into_inner().map_err(|e| Error::io(&path, e.error()))?;
        let sha256 = summed(&path, file.finish()?.sha256)?;
        self.files.insert(named(&path), sha256);
        Ok(())
    }

    /// Counts a finished file of the journal's directory among those that every later checkpoint
    /// needs too.
    ///
    /// # Errors
    /// Internal: it was not summed.
    pub fn keep(&mut self, path: &Path, sha256: Option<String>) -> Result<()> {
        self.parts.insert(named(path), summed(path, sha256)?);
        Ok(())
    }
}

fn summed(path: &Path, sha256: Option<String>) -> Result<String> {
    sha256.ok_or_else(|| {
        let what = "a file of a checkpoint was not summed";
        Error::new(Kind::Internal, what).file(path.display())
    })
}

const ENTRY: &str = "journal.json";

/// The name of a run in a directory of many: of the same length for all, by what makes it that run.
/// But for the chunk, which on a GPU depends on its free memory: of another one a run is refused,
/// where it would else begin anew without a word.
fn key(identity: &RunIdentity) -> String {
    let mut identity = identity.clone();
    identity.shift_remove("chunk");
    let text = Value::Object(identity).to_string();
    hex(&Sha256::digest(text)[..12])
}

fn named(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The file of a checkpoint that has this name.
fn numbered(directory: &Path, name: &str, number: u64) -> PathBuf {
    directory.join(format!("{name}-{number}"))
}

/// What an earlier run left, if all of it is as it was written.
fn earlier(directory: &Path) -> Result<Option<Entry>> {
    let path = directory.join(ENTRY);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory
            ) =>
        {
            String::new()
        }
        Err(error) => return Err(Error::io(&path, &error)),
    };
    let entry = text.trim_end().rsplit_once('\n').and_then(|(text, sum)| {
        let is_whole = digest_of(text.as_bytes()) == sum;
        is_whole.then(|| serde_json::from_str::<Entry>(text).ok())?
    });
    let damaged = |what: &str| {
        tracing::warn!("{what}: {}: starting anew", directory.display());
        Ok(None)
    };
    let Some(entry) = entry else {
        return damaged("the journal of an earlier run is damaged");
    };
    for (name, sum) in entry.parts.iter().chain(&entry.files) {
        if digest(&directory.join(name)).ok().as_ref() != Some(sum) {
            return damaged(&format!("{name} of an earlier run is damaged"));
        }
    }
    Ok(Some(entry))
}

/// Removes what no checkpoint needs: what a run that was killed had begun of its next one, or what
/// is damaged.
fn tidy(directory: &Path, entry: &Entry) -> Result<()> {
    let failed = |e| Error::io(directory, &e);
    for found in fs::read_dir(directory).map_err(failed)? {
        let found = found.map_err(failed)?;
        let name = found.file_name().to_string_lossy().into_owned();
        let needed = match name.as_str() {
            LOCK => true,
            ENTRY => entry.checkpoints > 0,
            name => entry.parts.contains_key(name) || entry.files.contains_key(name),
        };
        if needed {
            continue;
        }
        let removed = if found.file_type().map_err(failed)?.is_dir() {
            fs::remove_dir_all(found.path())
        } else {
            fs::remove_file(found.path())
        };
        removed.map_err(|e| Error::io(&found.path(), &e))?;
    }
    Ok(())
}

/// The first thing in which two runs differ, in words; none if they are the same.
pub fn difference(before: &RunIdentity, now: &RunIdentity) -> Option<String> {
    let mut keys = before.keys().chain(now.keys());
    let key = keys.find(|key| before.get(*key) != now.get(*key))?;
    let shown = |value: Option<&Value>| value.map_or("absent".to_string(), Value::to_string);
    let (was, is) = (shown(before.get(key)), shown(now.get(key)));
    // A digest tells a reader nothing.
    Some(match was.len().max(is.len()) {
        0..64 => format!("{key} was {was} and is {is}"),
        _ => format!("{key} differs"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn runs_that_come_and_go_have_a_journal_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let (at_work, times) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let come_and_go = || {
            for _ in 0..2000 {
                let (output, every) = (Path::new("out.parquet"), Duration::ZERO);
                match Journal::open(output, Some(directory.path()), RunIdentity::new(), every) {
                    Ok(journal) => {
                        assert_eq!(at_work.fetch_add(1, Ordering::SeqCst), 0);
                        times.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        at_work.fetch_sub(1, Ordering::SeqCst);
                        journal.remove();
                    }
                    Err(error) => assert_eq!(error.kind(), Kind::Usage, "{error}"),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(come_and_go);
            }
        });
        assert!(times.into_inner() > 0);
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
