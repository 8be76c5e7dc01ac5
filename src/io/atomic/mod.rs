//! Output files that are either complete or absent.
//!
//! An [`AtomicFile`] is written under a temporary name beside its target and takes the target's
//! name only in [`AtomicFile::finish`], after its bytes are on disk. Whatever happens before that
//! (an error, a signal, a kill) leaves the target absent or as it was.
//!
//! What stands at the target decides how it is written:
//! - nothing, or a regular file and `--force`: temporary name, then rename;
//! - a symbolic link to a regular file and `--force`: the file it points to is replaced, the link
//!   stays; a link that points to nothing is refused;
//! - a device or a FIFO (`/dev/null`, `/dev/full`), or `-` for stdout: written in place, since a
//!   rename would replace the device itself; a terminal is refused;
//! - a directory: refused.

mod set;
mod sum;

pub use set::OutputSet;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags};
use sha2::{Digest, Sha256};
use sum::Sum;

use super::sha256::hex;
use crate::error::{Error, Kind, Result};

/// Standard output was closed when the process started, and what is written there is lost.
pub static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// The temporary files of this process that are not finished yet.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// An output file that appears under its name only when [`finish`](Self::finish)ed; dropping it
/// removes what was written.
#[derive(Debug)]
pub struct AtomicFile {
    /// The path as given.
    path: PathBuf,
    /// What messages call the file.
    name: PathBuf,
    file: File,
    /// `None` for a file written in place.
    temporary: Option<Temporary>,
    /// Those with which it takes its name.
    set: Option<OutputSet>,
    force: bool,
    bytes: u64,
    sum: Sum,
}

/// The temporary file, which unlinks itself and leaves the registry when dropped.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    target: PathBuf,
}

/// What a finished file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Its length in bytes.
    pub bytes: u64,
    /// The SHA-256 of its bytes, in lower-case hexadecimal; of an output of a set, if the
    /// [set is summed](OutputSet::sum).
    pub sha256: Option<String>,
}

/// Fails unless the directory around `path` is there.
///
/// # Errors
/// Io.
pub fn must_be_in_a_directory(path: &Path) -> Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    match parent.filter(|parent| !parent.exists()) {
        Some(parent) => Err(Error::new(Kind::Io, "no such directory")
            .file(parent.display())
            .todo("make it first (mkdir -p), or name another")),
        None => Ok(()),
    }
}

impl AtomicFile {
    /// Opens `path` for writing; call it before any work, so that a run does not compute for hours
    /// and then find that it may not write.
    ///
    /// # Errors
    /// `Usage`: the target exists and `force` is not set, is a directory, a dangling link or a
    /// terminal, or another process is writing it. `Io`: its directory is missing or read-only.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        if is_stdout(path) {
            if STDOUT_CLOSED.load(Ordering::Relaxed) {
                return Err(Error::new(Kind::Io, "is closed").file("stdout"));
            }
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let stdout = stdout.map_err(|e| Error::io(Path::new("stdout"), &e))?;
            return Self::in_place((path, Path::new("stdout")), File::from(stdout));
        }
        let target = match fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(is_directory(path)),
            Err(_) if path.as_os_str().as_bytes().ends_with(b"/") => {
                return Err(is_directory(path));
            }
            Ok(found) if is_stream(&found) => {
                let file = OpenOptions::new().write(true).open(path);
                return Self::in_place((path, path), file.map_err(|e| Error::io(path, &e))?);
            }
            Ok(_) if !force => return Err(exists(path)),
            Ok(_) => fs::canonicalize(path).map_err(|e| Error::io(path, &e))?,
            Err(e) if e.raw_os_error() == Some(libc::EIO) => return Err(Error::io(path, &e)),
            Err(_) if fs::symlink_metadata(path).is_ok() => {
                return Err(Error::usage("output is a symbolic link to nothing")
                    .file(path.display())
                    .todo("name the file itself"));
            }
            Err(_) => path.to_path_buf(),
        };
        must_be_in_a_directory(path)?;
        let (file, temporary) = Temporary::create(path, target)?;
        Ok(Self::new((path, path), file, Some(temporary), force))
    }

    fn in_place((path, name): (&Path, &Path), file: File) -> Result<Self> {
        if file.is_terminal() {
            return Err(Error::usage("output is a terminal and the data is binary")
                .file(name.display())
                .todo("redirect it to a file or give -o"));
        }
        Ok(Self::new((path, name), file, None, true))
    }

    fn new(
        (path, name): (&Path, &Path),
        file: File,
        temporary: Option<Temporary>,
        force: bool,
    ) -> Self {
        Self {
            path: path.to_path_buf(),
            name: name.to_path_buf(),
            file,
            temporary,
            set: None,
            force,
            bytes: 0,
            sum: Sum::new(),
        }
    }

    /// The path as it was given; `-` for standard output.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is written in place: a device, a FIFO or standard output.
    pub fn is_stream(&self) -> bool {
        self.temporary.is_none()
    }

    /// The path as it was given, for messages.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Does without this output: its set is complete without it.
    pub fn withdraw(self) {
        if let Some(set) = &self.set {
            set.withdraw(&self.name);
        }
    }

    /// Brings the bytes to disk and gives the file its name; one of a set gets its name when the
    /// set is [committed](OutputSet::commit).
    ///
    /// # Errors
    /// `Io` if the disk refuses; `Usage` if, without `force`, a file of that name appeared since
    /// [`create`](Self::create). The target is then absent or unchanged, unless only the directory could
    /// not be brought to disk.
    pub fn finish(mut self) -> Result<Written> {
        let sha256 = self.sum.finish();
        if let Some(set) = self.set.take() {
            self.sync().map_err(|e| Error::io(&self.name, &e))?;
            if let Some(temporary) = self.temporary.take() {
                set.add(
                    (self.name.clone(), self.bytes),
                    (self.file, temporary),
                    self.force,
                );
            }
        } else if let Some(temporary) = &self.temporary {
            let renamed = self.sync().and_then(|()| temporary.rename(self.force));
            match renamed {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(exists(&self.name).place("appeared during the run"));
                }
                other => other.map_err(|e| Error::io(&self.name, &e))?,
            }
            let synced = fault::point().and_then(|()| sync_directory(&temporary.target));
            synced.map_err(|e| Error::io(&self.name, &e))?;
        }
        Ok(Written {
            bytes: self.bytes,
            sha256,
        })
    }

    /// Writes a block, while another thread sums it.
    pub(super) fn write_block(&mut self, block: &Arc<Vec<u8>>) -> io::Result<()> {
        fault::point()?;
        self.sum.add_block(block);
        self.file.write_all(block)?;
        self.bytes += block.len() as u64;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        fault::point()?;
        self.file.sync_all()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fault::point()?;
        let n = self.file.write(bytes)?;
        self.sum.add(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        fault::point()?;
        self.file.flush()
    }
}

impl Temporary {
    /// Creates and locks `.<name>.tmp-<pid>-<random>` beside `target`, and removes what dead
    /// processes left there under the same name.
    fn create(name: &Path, target: PathBuf) -> Result<(File, Self)> {
        let Some(prefix) = hidden(&target, ".tmp-") else {
            return Err(Error::usage("output has no file name").file(name.display()));
        };
        let directory = directory_of(&target);
        // The directory stays locked until our file is, so that nobody takes it for stale. A file
        // system without locks loses this courtesy, nothing else: the rename is still atomic.
        let opened = File::open(&directory).map_err(|e| Error::io(&directory, &e))?;
        let _ = opened.lock();
        for entry in fs::read_dir(&directory).map_err(|e| Error::io(&directory, &e))? {
            let Ok(entry) = entry else { continue };
            if let Some(pid) = pid_of(&entry.file_name(), &prefix) {
                Self::consider(&entry.path(), pid, name)?;
            }
        }
        let mut own = prefix;
        let (pid, tag) = (std::process::id(), rand::random::<u32>());
        own.push(format!("{pid}-{tag:08x}"));
        let path = directory.join(own);
        live().insert(path.clone());
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = created.map_err(|e| {
            live().remove(&path);
            Error::io(name, &e)
        })?;
        let _ = file.try_lock();
        Ok((file, Self { path, target }))
    }

    /// A temporary file of the same output: in use if it is locked; else stale, and removed, even
    /// if a process has the id of the one that made it.
    fn consider(path: &Path, pid: i32, name: &Path) -> Result<()> {
        let Ok(file) = File::open(path) else {
            return Ok(());
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::usage("output is in use")
                .file(name.display())
                .place(format!("process {pid}"))
                .todo("wait for it or choose another output")),
            Ok(()) => {
                if fs::remove_file(path).is_ok() {
                    tracing::info!(file = %path.display(), "removed what a killed run left");
                }
                Ok(())
            }
            Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    fn rename(&self, force: bool) -> io::Result<()> {
        fault::point()?;
        if force {
            return fs::rename(&self.path, &self.target);
        }
        match rename_no_replace(&self.path, &self.target) {
            // A hard link refuses just as well.
            Err(e) if is_unknown(&e) => fs::hard_link(&self.path, &self.target),
            other => other,
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing of this name.
        let _ = fs::remove_file(&self.path);
        live().remove(&self.path);
    }
}

/// Removes the temporary files and directories of every unfinished output of this process: for the
/// thread that handles SIGINT and SIGTERM, just before it exits.
pub fn remove_all_temporaries() {
    for path in std::mem::take(&mut *live()) {
        remove(&path);
    }
}

/// Remembers a temporary directory for [`remove_all_temporaries`].
pub fn remember(directory: &Path) {
    live().insert(directory.to_path_buf());
}

/// Removes a temporary directory, and forgets it.
pub fn remove_directory(directory: &Path) {
    remove(directory);
    live().remove(directory);
}

fn remove(path: &Path) {
    // Another process may be writing into a directory while it is emptied.
    for _ in 0..10 {
        match remove_blindly(path) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => break,
        }
    }
}

/// Asks of nothing what it is: where a disk fails that may not be known either.
fn remove_blindly(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {}
        removed => return removed,
    }
    for entry in fs::read_dir(path)?.flatten() {
        let _ = remove_blindly(&entry.path());
    }
    fs::remove_dir(path)
}

/// Puts one directory in the place of another, whose content is removed; where the file system
/// cannot exchange two names, nothing stands at the target for a moment.
///
/// # Errors
/// Io: the target has not changed.
pub fn exchange(new: &Path, target: &Path) -> Result<()> {
    let failed = |e: io::Error| Error::io(target, &e);
    if rename_with(new, target, RenameFlags::EXCHANGE).is_err() {
        let mut aside = new.to_path_buf().into_os_string();
        aside.push(".old");
        let aside = PathBuf::from(aside);
        fs::rename(target, &aside).map_err(failed)?;
        if let Err(e) = fs::rename(new, target) {
            let _ = fs::rename(&aside, target);
            return Err(failed(e));
        }
        return fs::remove_dir_all(&aside).map_err(|e| Error::io(&aside, &e));
    }
    // What was there has the new one's name now, and goes as that would.
    Ok(())
}

/// A name for what belongs to `target` and lies beside it, hidden: `.<its name><ending>`. Of a name
/// so long that nothing could be added to it, a digest instead. None if it has no name.
pub fn hidden(target: &Path, ending: &str) -> Option<OsString> {
    let base = target.file_name()?;
    let mut name = OsString::from(".");
    // A process's id and a random number may follow; file systems hold 255 bytes.
    if base.len() + ending.len() <= 220 {
        name.push(base);
    } else {
        name.push(&hex(&Sha256::digest(base.as_bytes()))[..32]);
    }
    name.push(ending);
    Some(name)
}

/// Whether a path means standard output.
pub fn is_stdout(path: &Path) -> bool {
    let names = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    names.iter().any(|name| path == Path::new(name))
}

fn is_directory(path: &Path) -> Error {
    Error::usage("output is a directory")
        .file(path.display())
        .todo("name a file")
}

fn exists(path: &Path) -> Error {
    Error::new(Kind::Usage, "output exists")
        .file(path.display())
        .todo("give --force to replace it")
}

fn is_stream(found: &fs::Metadata) -> bool {
    let kind = found.file_type();
    kind.is_char_device() || kind.is_fifo() || kind.is_block_device() || kind.is_socket()
}

/// The directory that holds `path`.
pub(super) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process id in `<prefix><pid>-<random>`.
fn pid_of(name: &OsStr, prefix: &OsStr) -> Option<i32> {
    let rest = name.as_bytes().strip_prefix(prefix.as_bytes())?;
    let (pid, tag) = std::str::from_utf8(rest).ok()?.split_once('-')?;
    let is_ours = tag.len() == 8 && tag.bytes().all(|b| b.is_ascii_hexdigit());
    pid.parse().ok().filter(|pid| is_ours && *pid > 0)
}

/// Is there a process of this id?
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 sends nothing; kill only looks whether the process exists.
    let found = unsafe { libc::kill(pid, 0) } == 0;
    found || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    rename_with(from, to, RenameFlags::NOREPLACE)
}

/// Linux and macOS have a call each for this, with flags of their own.
fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
}

/// Not every file system, nor every kernel, knows the flags of [`rename_with`].
fn is_unknown(error: &io::Error) -> bool {
    let codes = [libc::EINVAL, libc::ENOSYS, libc::ENOTSUP];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

fn sync_directory(target: &Path) -> io::Result<()> {
    match File::open(directory_of(target))?.sync_all() {
        // Some network file systems cannot; the rename itself stands.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

/// Where tests make the n-th system call fail.
mod fault {
    #[cfg(not(test))]
    pub(super) fn point() -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    thread_local! {
        pub(super) static CALLS_LEFT: std::cell::Cell<Option<usize>> =
            const { std::cell::Cell::new(None) };
    }

    #[cfg(test)]
    pub(super) fn point() -> std::io::Result<()> {
        CALLS_LEFT.with(|left| match left.get() {
            Some(0) => Err(std::io::Error::from_raw_os_error(libc::ENOSPC)),
            Some(n) => {
                left.set(Some(n - 1));
                Ok(())
            }
            None => Ok(()),
        })
    }
}

/// Runs `work` with every system call of an [`AtomicFile`] from the `n`-th (0-based) on failing.
#[cfg(test)]
pub(super) fn failing_from<T>(n: usize, work: impl FnOnce() -> T) -> T {
    fault::CALLS_LEFT.with(|left| left.set(Some(n)));
    let result = work();
    fault::CALLS_LEFT.with(|left| left.set(None));
    result
}

#[cfg(test)]
mod tests;
