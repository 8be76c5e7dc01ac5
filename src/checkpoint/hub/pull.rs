//! `models pull`: which files of a repository a model is made of, and the cache that they fill, in
//! the layout of Hugging Face's own tools: contents in `blobs`, links to them in `snapshots`, and
//! in `refs` what a branch or a tag means.

use super::blob::{fetch, persist};
use super::client::{Client, Remote};
use super::{CONVERTED, Name, cache};
use crate::error::{Error, Kind, Result};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files beside the weights that a model is understood by, or that say what it is.
const BESIDE: [&str; 12] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
];

/// What training leaves beside weights.
const NO_WEIGHTS: [&str; 4] = ["training_args", "optimizer", "scheduler", "rng_state"];

/// Disk that is left free.
const SPARE: u64 = 100_000_000;

/// What is fetched of a model.
pub struct Plan {
    client: Client,
    name: Name,
    commit: String,
    folder: PathBuf,
    files: Vec<(String, Remote)>,
    /// Of the files, the parts of the pickle that is converted, in their order.
    pickle: Vec<String>,
    /// The licence that its card names.
    pub licence: Option<String>,
    /// Bytes of all files.
    pub size: u64,
}

/// What of a repository is fetched.
///
/// # Errors
/// Usage: not a name, connections are forbidden, or the weights are pickles and `convert` is not
/// set. Model: there is no such model or revision, or no weights. Io: the hub cannot be reached, or
/// the disk lacks room.
pub fn plan(name: &str, convert: bool) -> Result<Plan> {
    let name = Name::parse(name)?;
    let client = Client::from_environment()?;
    let about = persist(|| client.repository(&name))?;
    let commit = about["sha"].as_str().filter(|commit| super::plain(commit));
    let Some(commit) = commit.map(str::to_string) else {
        let what = "the hub names no commit: is HF_ENDPOINT a hub?";
        return Err(Error::new(Kind::Io, what).file(&name));
    };
    let siblings = about["siblings"].as_array().into_iter().flatten();
    let listed: Vec<&str> = siblings
        .filter_map(|file| file["rfilename"].as_str())
        .collect();
    let mut plan = Plan {
        folder: name.folder(&cache()?),
        licence: licence(&about),
        client,
        name,
        commit,
        files: Vec::new(),
        pickle: Vec::new(),
        size: 0,
    };
    let beside = BESIDE.iter().filter(|file| listed.contains(file));
    for file in beside {
        plan.add(file)?;
    }
    if listed.contains(&SINGLE) {
        plan.add(SINGLE)?;
    } else if listed.contains(&INDEX) {
        plan.add(INDEX)?;
        // What an index lists is looked at when the model is opened.
        let shard = |file: &&&str| file.ends_with(".safetensors") && file.starts_with("model-");
        for file in listed.iter().filter(shard) {
            plan.add(file)?;
        }
    } else {
        plan.pickle = plan.pickles(&listed, convert)?;
        for file in plan.pickle.clone() {
            plan.add(&file)?;
        }
    }
    plan.must_have_room()?;
    Ok(plan)
}

/// The licence that a model's card names.
fn licence(about: &Value) -> Option<String> {
    let card = about["cardData"]["license"].as_str();
    let tags = about["tags"].as_array().into_iter().flatten();
    let mut tags = tags.filter_map(|tag| tag.as_str()?.strip_prefix("license:"));
    card.or_else(|| tags.next()).map(str::to_string)
}

impl Plan {
    /// The model, and the commit that it is of.
    pub fn named(&self) -> String {
        format!("{} at {}", self.name, self.commit)
    }

    /// Where the licence stands.
    pub fn page(&self) -> String {
        self.client.page(&self.name)
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    fn add(&mut self, file: &str) -> Result<()> {
        // It becomes a name in the snapshot.
        if !super::plain(file) {
            return Err(Error::model("not the name of a file")
                .file(&self.name)
                .place(file));
        }
        let remote = persist(|| self.client.describe(&self.name, &self.commit, file))?;
        self.size = self.size.saturating_add(remote.size);
        self.files.push((file.to_string(), remote));
        Ok(())
    }

    /// The one pickle that holds the weights, or its parts.
    fn pickles(&self, listed: &[&str], convert: bool) -> Result<Vec<String>> {
        let extensions = [".bin", ".ckpt", ".pt", ".pth"];
        let whole = |file: &str| file.split(".part").next().unwrap_or_default().to_string();
        let is_pickle = |file: &&&str| {
            let whole = whole(file);
            let left = NO_WEIGHTS.iter().any(|start| file.starts_with(start));
            !left && !file.contains('/') && extensions.iter().any(|end| whole.ends_with(end))
        };
        let mut found: Vec<&str> = listed.iter().filter(is_pickle).copied().collect();
        // Parts are numbered: 10 comes behind 9.
        found.sort_by_key(|file| (file.len(), file.to_string()));
        let error = |what: String| Error::model(what).file(&self.name);
        let Some(first) = found.first() else {
            let todo = format!("look at {}", self.page());
            return Err(error("neither safetensors nor pickles of weights".into()).todo(todo));
        };
        if found.iter().any(|file| whole(file) != whole(first)) {
            let what = format!("several pickles: {}", found.join(", "));
            return Err(error(what).todo("fetch the one that you want, and use models convert"));
        }
        if !convert {
            let what = format!("its weights are a PyTorch pickle alone, {first}");
            let error = Error::usage(what).file(&self.name);
            return Err(error.todo("add --convert, which reads it without running what is in it"));
        }
        Ok(found.into_iter().map(str::to_string).collect())
    }

    /// Fails unless the disk has room for what is not there.
    fn must_have_room(&self) -> Result<()> {
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(|e| Error::io(&blobs, &e))?;
        let here = |remote: &Remote| {
            let names = [remote.etag.clone(), format!("{}.incomplete", remote.etag)];
            let sizes = names
                .iter()
                .filter_map(|name| fs::metadata(blobs.join(name)).ok());
            sizes.map(|found| found.len()).max().unwrap_or(0)
        };
        let missing = |(_, remote): &(String, Remote)| remote.size.saturating_sub(here(remote));
        let mut needed: u64 = self.files.iter().map(missing).sum();
        let of_pickle = self
            .files
            .iter()
            .filter(|(file, _)| self.pickle.contains(file));
        let pickle: u64 = of_pickle.map(|(_, remote)| remote.size).sum();
        // Once more as safetensors, and before that in one piece.
        needed += pickle * if self.pickle.len() > 1 { 2 } else { 1 };
        let free = free(&blobs)?;
        if needed > 0 && needed + SPARE > free {
            let what = format!("{needed} bytes are needed, and {free} are free");
            let error = Error::new(Kind::Io, what).file(blobs.display());
            return Err(error.todo("make room, or name another disk in HF_HOME"));
        }
        Ok(())
    }

    /// Fetches the files; `arrived` is told of bytes. `convert` makes a directory of a pickle: it is
    /// given the file, the snapshot, where the configuration lies, and the directory's name.
    /// Returns the directory that is the model.
    ///
    /// # Errors
    /// Io; Usage: another process fetches a file; Model: a file is not what the hub says.
    pub fn fetch(
        &self,
        arrived: &mut dyn FnMut(u64),
        convert: impl FnOnce(&Path, &Path, &Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let (blobs, refs) = (self.folder.join("blobs"), self.folder.join("refs"));
        let snapshot = self.folder.join("snapshots").join(&self.commit);
        for directory in [&blobs, &refs, &snapshot] {
            fs::create_dir_all(directory).map_err(|e| Error::io(directory, &e))?;
        }
        for (file, remote) in &self.files {
            fetch(&self.client, &self.name, remote, &blobs, arrived)?;
            link(
                &snapshot.join(file),
                &Path::new("../../blobs").join(&remote.etag),
            )?;
        }
        let converted = snapshot.join(CONVERTED);
        if !self.pickle.is_empty() && !converted.is_dir() {
            let joined = self.joined(&snapshot, &blobs)?;
            let done = convert(&joined, &snapshot, &converted);
            if self.pickle.len() > 1 {
                fs::remove_file(&joined).map_err(|e| Error::io(&joined, &e))?;
            }
            done?;
        }
        // Last: by it the model is found.
        if self.name.revision() != self.commit {
            let path = refs.join(self.name.revision());
            let temporary = refs.join(format!(".{}", std::process::id()));
            fs::write(&temporary, &self.commit)
                .and_then(|()| fs::rename(&temporary, &path))
                .map_err(|e| Error::io(&path, &e))?;
        }
        Ok(if converted.is_dir() {
            converted
        } else {
            snapshot
        })
    }

    /// The pickle in one piece.
    fn joined(&self, snapshot: &Path, blobs: &Path) -> Result<PathBuf> {
        if let [one] = &self.pickle[..] {
            return Ok(snapshot.join(one));
        }
        let path = blobs.join(format!("{}.joined", self.commit));
        let failed = |e: std::io::Error| Error::io(&path, &e);
        let mut whole = fs::File::create(&path).map_err(failed)?;
        for part in &self.pickle {
            let mut part = fs::File::open(snapshot.join(part)).map_err(failed)?;
            std::io::copy(&mut part, &mut whole).map_err(failed)?;
        }
        Ok(path)
    }
}

/// Makes a link, in the place of what is there.
fn link(path: &Path, to: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|found| found == to) {
        return Ok(());
    }
    let mut temporary = path.as_os_str().to_os_string();
    temporary.push(format!(".{}", std::process::id()));
    symlink(to, &temporary)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| Error::io(path, &e))
}

/// Bytes that a directory's disk has free.
fn free(directory: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(directory);
    let found = found.map_err(|e| Error::io(directory, &e.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
