//! The process around a command: memory, threads, signals, logging, exit code.

use super::log::{self, Logging};
use crate::error::{Error, Kind, Result};
use crate::io::atomic::{self, STDOUT_CLOSED};
use crate::io::panics::is_contained;
use crate::io::threads;
use crate::stream;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Runs before `main`: Rust's own start replaces a closed standard output by /dev/null, and what is
/// written there would be lost without an error.
#[cfg_attr(
    any(target_os = "linux", target_os = "android"),
    unsafe(link_section = ".init_array")
)]
#[cfg_attr(
    target_vendor = "apple",
    unsafe(link_section = "__DATA,__mod_init_func")
)]
#[used]
static LOOK_AT_STDOUT: extern "C" fn() = look_at_stdout;

extern "C" fn look_at_stdout() {
    // SAFETY: asks for the flags of a file descriptor, which need not be open.
    if unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } == -1 {
        STDOUT_CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Address space that is scarce for an arena for each of many threads.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SCARCE: u64 = 4 << 30;

/// Before anything else: how this process meets the operating system.
pub fn set_up() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets parameters of the allocator before any thread starts. Activations are freed
    // and allocated again at every step: returned to the system each time, their pages would be
    // faulted in anew (a third of the time of a small model). Where address space is scarce, none
    // is kept for what may come: an arena for each thread takes 64 MiB.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        if crate::run::address_limit().is_some_and(|limit| limit < SCARCE) {
            libc::mallopt(libc::M_ARENA_MAX, 1);
            libc::mallopt(libc::M_TOP_PAD, 1 << 20);
        } else {
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
    // SAFETY: ignoring a signal has no preconditions. A write beyond RLIMIT_FSIZE then fails with
    // EFBIG and is reported, as other failed writes are.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    std::panic::set_hook(Box::new(|panic| {
        if is_contained() {
            return;
        }
        let place = panic
            .location()
            .map(|l| format!(" at {}:{}", l.file(), l.line()));
        log::fail(format!(
            "internal error (a bug){}: please report it with the command line (version {})",
            place.unwrap_or_default(),
            env!("CARGO_PKG_VERSION")
        ));
    }));
}

/// How long a run is waited for that is asked to stop; and one that makes a checkpoint before.
const PATIENCE: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(25)];

/// Signals and logging, once the command line is known. `steps`: the command looks for signals
/// between its steps, others end as soon as one comes; `saves`: it makes a checkpoint then.
///
/// # Errors
/// Memory: no thread can be started; those of [`Logging::start`].
pub fn start(logging: &Logging, steps: bool, saves: bool) -> Result<()> {
    let patience = PATIENCE[usize::from(saves)];
    logging.start()?;
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([libc::SIGINT, libc::SIGTERM]) {
        threads::start(move || {
            for signal in signals.forever() {
                if stream::ask(signal) || !steps {
                    exit_interrupted();
                }
                // The run stops at its next step, or after a checkpoint; one that takes longer is
                // not waited for.
                let waiting = threads::start(move || {
                    std::thread::sleep(patience);
                    exit_interrupted();
                });
                if waiting.is_err() {
                    exit_interrupted();
                }
            }
        })?;
    }
    Ok(())
}

/// Ends the process as an interrupted run ends.
fn exit_interrupted() {
    atomic::remove_all_temporaries();
    let error = stream::interrupted();
    log::fail(&error);
    // SAFETY: ends the process; temporary files are gone, and other threads' work with it.
    unsafe { libc::_exit(i32::from(error.exit_code())) }
}

/// What clap has to say: help and versions on stdout, usage errors on stderr. `params`: a file from
/// which some of the options came.
pub fn explain(error: &clap::Error, params: Option<&Path>) -> ExitCode {
    let printed = error.print();
    if let (true, Some(path)) = (error.use_stderr(), params) {
        let path = crate::error::printable(&path.display().to_string());
        let _ = writeln!(
            std::io::stderr(),
            "Options were read from {path} too (--params)."
        );
    }
    match (error.use_stderr(), printed) {
        (false, Err(e)) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            ExitCode::from(Kind::Io as u8)
        }
        (false, _) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(Kind::Usage as u8),
    }
}

/// Runs a command, reports its error, and gives the exit code.
pub fn finish(command: impl FnOnce() -> Result<()>) -> ExitCode {
    ExitCode::from(exit_code(command))
}

fn exit_code(command: impl FnOnce() -> Result<()>) -> u8 {
    // Nothing of the command is used after a panic, which the hook has reported.
    match catch_unwind(AssertUnwindSafe(command)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) if error.kind() == Kind::Unread => 0,
        Ok(Err(error)) => {
            log::fail(&error);
            error.exit_code()
        }
        Err(_) => Kind::Internal as u8,
    }
}

/// Prints a command's output.
pub fn print(text: &str) -> Result<()> {
    if STDOUT_CLOSED.load(Ordering::Relaxed) {
        return Err(Error::new(Kind::Io, "is closed").file("stdout"));
    }
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|e| Error::io(Path::new("stdout"), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_error() {
        assert_eq!(exit_code(|| panic!("a bug")), 1);
        assert_eq!(exit_code(|| Err(Error::input("bad"))), 3);
        assert_eq!(exit_code(|| Ok(())), 0);
    }
}
