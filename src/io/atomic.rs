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

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};

/// The temporary files of this process that are not finished yet.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// An output file that appears under its name only when [`finish`](Self::finish)ed; dropping it
/// removes what was written.
#[derive(Debug)]
pub struct AtomicFile {
    /// What messages call the file: the path as given.
    name: PathBuf,
    file: File,
    /// `None` for a file written in place.
    temporary: Option<Temporary>,
    force: bool,
    bytes: u64,
    sha256: Sha256,
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
    /// The SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
}

impl AtomicFile {
    /// Opens `path` for writing; call it before any work, so that a run does not compute for hours
    /// and then find that it may not write.
    ///
    /// # Errors
    /// `Usage`: the target exists and `force` is not set, is a directory, a dangling link or a
    /// terminal, or another process is writing it. `Io`: its directory is missing or read-only.
    pub fn create(path: &Path, force: bool) -> Result<Self> {
        if path == Path::new("-") {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let stdout = stdout.map_err(|e| Error::io(Path::new("stdout"), &e))?;
            return Self::in_place(Path::new("stdout"), File::from(stdout));
        }
        let target = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Error::usage("output is a directory")
                    .file(path.display())
                    .todo("name a file"));
            }
            Ok(found) if is_stream(&found) => {
                let file = OpenOptions::new().write(true).open(path);
                return Self::in_place(path, file.map_err(|e| Error::io(path, &e))?);
            }
            Ok(_) if !force => return Err(exists(path)),
            Ok(_) => fs::canonicalize(path).map_err(|e| Error::io(path, &e))?,
            Err(_) if fs::symlink_metadata(path).is_ok() => {
                return Err(Error::usage("output is a symbolic link to nothing")
                    .file(path.display())
                    .todo("name the file itself"));
            }
            Err(_) => path.to_path_buf(),
        };
        let (file, temporary) = Temporary::create(path, target)?;
        Ok(Self::new(path, file, Some(temporary), force))
    }

    fn in_place(name: &Path, file: File) -> Result<Self> {
        if file.is_terminal() {
            return Err(Error::usage("output is a terminal and the data is binary")
                .file(name.display())
                .todo("redirect it to a file or give -o"));
        }
        Ok(Self::new(name, file, None, true))
    }

    fn new(name: &Path, file: File, temporary: Option<Temporary>, force: bool) -> Self {
        Self {
            name: name.to_path_buf(),
            file,
            temporary,
            force,
            bytes: 0,
            sha256: Sha256::new(),
        }
    }

    /// The path as it was given, for messages.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Brings the bytes to disk and gives the file its name.
    ///
    /// # Errors
    /// `Io` if the disk refuses; `Usage` if, without `force`, a file of that name appeared since
    /// [`create`](Self::create). The target is then absent or unchanged.
    pub fn finish(self) -> Result<Written> {
        if let Some(temporary) = &self.temporary {
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
            sha256: hex(&self.sha256.finalize()),
        })
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
        self.sha256.update(&bytes[..n]);
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
        let Some(base) = target.file_name() else {
            return Err(Error::usage("output has no file name").file(name.display()));
        };
        let mut prefix = OsString::from(".");
        prefix.push(base);
        prefix.push(".tmp-");
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

    /// A temporary file of the same output: in use if it is locked; stale, and removed, if it is
    /// not and its process is gone.
    fn consider(path: &Path, pid: i32, name: &Path) -> Result<()> {
        let Ok(file) = File::open(path) else {
            return Ok(());
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::usage("output is in use")
                .file(name.display())
                .place(format!("process {pid}"))
                .todo("wait for it or choose another output")),
            Ok(()) if !is_alive(pid) => {
                if fs::remove_file(path).is_ok() {
                    tracing::info!(file = %path.display(), "removed what a killed run left");
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn rename(&self, force: bool) -> io::Result<()> {
        fault::point()?;
        if force {
            return fs::rename(&self.path, &self.target);
        }
        match rename_no_replace(&self.path, &self.target) {
            // Not every file system knows RENAME_NOREPLACE; a hard link refuses just as well.
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
                fs::hard_link(&self.path, &self.target)
            }
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

/// Unlinks the temporary files of every unfinished [`AtomicFile`] of this process: for the thread
/// that handles SIGINT and SIGTERM, just before it exits.
pub fn remove_all_temporaries() {
    for path in std::mem::take(&mut *live()) {
        let _ = fs::remove_file(path);
    }
}

/// Refuses an output that is the same file as one of the inputs, by whatever path.
///
/// # Errors
/// `Usage`, naming the output.
pub fn must_differ(output: &Path, inputs: &[&Path]) -> Result<()> {
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok().filter(|m| m.is_file())?;
        Some((found.dev(), found.ino()))
    };
    let output_identity = identity(output);
    if output_identity.is_some()
        && inputs
            .iter()
            .any(|input| identity(input) == output_identity)
    {
        return Err(Error::usage("output is also an input")
            .file(output.display())
            .todo("choose another output"));
    }
    Ok(())
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

fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 sends nothing; kill only looks whether the process exists.
    let found = unsafe { libc::kill(pid, 0) } == 0;
    found || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let c = |path: &Path| Ok::<_, io::Error>(CString::new(path.as_os_str().as_bytes())?);
    let (from, to) = (c(from)?, c(to)?);
    let at = libc::AT_FDCWD;
    // SAFETY: both pointers are to NUL-terminated strings that outlive the call.
    let rc = unsafe { libc::renameat2(at, from.as_ptr(), at, to.as_ptr(), libc::RENAME_NOREPLACE) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn sync_directory(target: &Path) -> io::Result<()> {
    match File::open(directory_of(target))?.sync_all() {
        // Some network file systems cannot; the rename itself stands.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
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
mod tests {
    use super::*;

    fn listing(directory: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, force: bool, bytes: &[u8]) -> Result<Written> {
        let mut file = AtomicFile::create(path, force)?;
        for piece in bytes.chunks(3) {
            file.write_all(piece).map_err(|e| Error::io(path, &e))?;
        }
        file.finish()
    }

    #[test]
    fn a_finished_file_holds_what_was_written_and_nothing_stands_there_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let mut file = AtomicFile::create(&path, false).unwrap();
        file.write_all(b"abc").unwrap();
        assert!(!path.exists());
        let written = file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(written.bytes, 3);
        assert!(
            written
                .sha256
                .starts_with("ba7816bf8f01cfea414140de5dae2223b00361a3")
        );
        assert_eq!(listing(directory.path()), ["out"]);
    }

    #[test]
    fn a_failure_at_any_system_call_leaves_the_old_file_and_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        for before in [None, Some(b"old")] {
            let mut n = 0;
            loop {
                let _ = fs::remove_file(&path);
                if let Some(old) = before {
                    fs::write(&path, old).unwrap();
                }
                let result = failing_from(n, || write(&path, before.is_some(), b"0123456789"));
                let now = fs::read(&path).ok();
                let Err(error) = result else { break };
                assert_eq!(error.kind(), Kind::Io);
                assert!(error.to_string().contains("No space left"), "{error}");
                // Only the directory's fsync comes after the rename: the file is then complete.
                let complete = now.as_deref() == Some(b"0123456789");
                assert!(
                    now.as_deref() == before.map(|b| &b[..]) || (complete && n == 6),
                    "{n}"
                );
                assert_eq!(listing(directory.path()).len(), usize::from(now.is_some()));
                n += 1;
            }
            assert_eq!(n, 7, "4 writes, fsync, rename, fsync of the directory");
        }
    }

    #[test]
    fn an_existing_file_is_replaced_only_with_force() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        fs::write(&path, "old").unwrap();
        let error = AtomicFile::create(&path, false).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, true, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(listing(directory.path()), ["out"]);
    }

    #[test]
    fn a_file_that_appears_during_the_run_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let file = AtomicFile::create(&path, false).unwrap();
        fs::write(&path, "other").unwrap();
        assert_eq!(file.finish().unwrap_err().kind(), Kind::Usage);
        assert_eq!(fs::read(&path).unwrap(), b"other");
        assert_eq!(listing(directory.path()), ["out"]);
    }

    #[test]
    fn directories_and_dangling_links_are_usage_errors_and_a_missing_directory_is_io() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::os::unix::fs::symlink("nothing", at("link")).unwrap();
        let kind = |path: &Path| AtomicFile::create(path, true).unwrap_err().kind();
        assert_eq!(kind(directory.path()), Kind::Usage);
        assert_eq!(kind(&at("link")), Kind::Usage);
        assert_eq!(kind(&at("missing/out")), Kind::Io);
        assert_eq!(listing(directory.path()), ["link"]);
    }

    #[test]
    fn a_link_stays_and_the_file_it_points_to_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert_eq!(
            AtomicFile::create(&link, false).unwrap_err().kind(),
            Kind::Usage
        );
        write(&link, true, b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn devices_are_written_in_place_and_a_full_one_is_an_io_error() {
        write(Path::new("/dev/null"), false, b"abc").unwrap();
        assert!(is_stream(&fs::metadata("/dev/null").unwrap()));
        let error = write(Path::new("/dev/full"), false, b"a").unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains("No space left"), "{error}");
    }

    #[test]
    fn a_second_writer_of_the_same_output_is_told_that_it_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        let first = AtomicFile::create(&path, false).unwrap();
        let error = AtomicFile::create(&path, true).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("in use"), "{error}");
        first.finish().unwrap();
    }

    #[test]
    fn what_a_killed_run_left_is_removed_and_files_of_other_outputs_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let dead = i32::MAX; // above every kernel's pid_max
        for name in [".out", ".other"] {
            let name = format!("{name}.tmp-{dead}-0123abcd");
            fs::write(directory.path().join(name), "x").unwrap();
        }
        write(&directory.path().join("out"), false, b"abc").unwrap();
        let other = format!(".other.tmp-{dead}-0123abcd");
        assert_eq!(listing(directory.path()), [other.as_str(), "out"]);
    }

    #[test]
    fn an_output_that_is_also_an_input_is_refused_under_any_path() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        assert_eq!(
            must_differ(&link, &[&file]).unwrap_err().kind(),
            Kind::Usage
        );
        must_differ(&directory.path().join("new"), &[&file]).unwrap();
    }
}
