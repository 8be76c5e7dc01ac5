//! A child process with limits, for work on files that may be hostile.

use crate::error::{Error, Kind, Result};
use crate::io::threads;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the work on a file of `size` bytes may take: 10 s, and a second for each 20 MB.
pub fn time_limit(size: u64) -> Duration {
    Duration::from_secs(10 + size / 20_000_000)
}

/// Limits this process: 2 GiB of address space, or four times `size` if that is more, or what the
/// process may use already if that is less; no core dumps; and it ends when its parent does.
pub fn confine(size: u64) -> Result<()> {
    let limit = |resource, bytes: u64| {
        let mut limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: bytes,
        };
        // SAFETY: getrlimit writes the structure that the pointer is derived from, nothing else.
        let known = unsafe { libc::getrlimit(resource, &mut limit) } == 0;
        if known && limit.rlim_cur <= bytes {
            return Ok(());
        }
        limit = libc::rlimit {
            rlim_cur: bytes,
            rlim_max: bytes,
        };
        // SAFETY: setrlimit reads the structure that the pointer is derived from, nothing else.
        match unsafe { libc::setrlimit(resource, &limit) } {
            0 => Ok(()),
            _ => {
                Err(Error::new(Kind::Internal, std::io::Error::last_os_error()).place("setrlimit"))
            }
        }
    };
    limit(libc::RLIMIT_AS, size.saturating_mul(4).max(2 << 30))?;
    limit(libc::RLIMIT_CORE, 0)?;
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    Ok(())
}

/// Runs the command, which works on `file`, to its end or for `time` at most. The last line that
/// it says on stderr is its error.
pub fn run(mut command: Command, file: &Path, time: Duration) -> Result<()> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let broken =
        |e: std::io::Error| Error::new(Kind::Io, format!("child process: {e}")).caused_by(e);
    let mut child = command.spawn().map_err(broken)?;
    let pipe = child.stderr.take();
    // Read beside the waiting, so that a long message does not block the child.
    let said = threads::start(move || {
        let mut said = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().take(1 << 16).read_to_end(&mut said);
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let said = said.inspect_err(|_| {
        let _ = child.kill().and_then(|()| child.wait());
    })?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(broken)? {
            break status;
        }
        if begun.elapsed() > time {
            child.kill().and_then(|()| child.wait()).map_err(broken)?;
            return Err(Error::model(format!(
                "took longer than {} s",
                time.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if status.success() {
        return Ok(());
    }
    let said = said.join().unwrap_or_default();
    let line = said
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("no message");
    let line = line.trim_start_matches("crocuta: error: ");
    let line = line
        .strip_prefix(&format!("{}: ", file.display()))
        .unwrap_or(line);
    let error = match status.code() {
        Some(2) => Error::usage(line),
        Some(5) => Error::new(Kind::Io, line),
        Some(4) => Error::model(line),
        _ => Error::model(format!("reading it ended with {status}: {line}")),
    };
    Err(error.file(file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, time: Duration) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, Path::new("x.pt"), time)
    }

    #[test]
    fn however_a_child_ends_it_is_one_error() {
        let minute = Duration::from_secs(60);
        assert!(shell("exit 0", minute).is_ok());
        for (script, kind, message) in [
            (
                "echo 'crocuta: error: x.pt: bad' >&2; exit 4",
                Kind::Model,
                "x.pt: bad",
            ),
            ("echo no config >&2; exit 2", Kind::Usage, "x.pt: no config"),
            ("echo disk full >&2; exit 5", Kind::Io, "x.pt: disk full"),
            ("kill -6 $$", Kind::Model, "signal: 6"),
            ("yes | head -c 1000000 >&2; exit 101", Kind::Model, "101"),
        ] {
            let error = shell(script, minute).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(message), "{error}");
        }
    }

    #[test]
    fn a_child_that_does_not_end_is_ended() {
        let begun = Instant::now();
        let error = shell("exec sleep 60", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), Kind::Model);
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}
