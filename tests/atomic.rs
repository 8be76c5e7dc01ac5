//! Promises of output files that need a process of their own.

use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crocuta::error::Kind;
use crocuta::io::atomic::{AtomicFile, remove_all_temporaries};

/// `remove_all_temporaries` is about the whole process, so these tests take turns.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn a_signal_handler_can_remove_every_unfinished_file() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let count = || std::fs::read_dir(directory.path()).unwrap().count();
    let mut files = ["a", "b"].map(|name| AtomicFile::create(&at(name), false).unwrap());
    files[0].write_all(b"x").unwrap();
    AtomicFile::create(&at("done"), false)
        .unwrap()
        .finish()
        .unwrap();
    assert_eq!(count(), 3);
    remove_all_temporaries();
    assert_eq!(count(), 1);
    for file in files {
        assert_eq!(file.finish().unwrap_err().kind(), Kind::Io);
    }
    assert_eq!(count(), 1);
}

#[test]
fn a_fifo_is_written_in_place() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: `name` is a NUL-terminated string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let reader = std::thread::spawn({
        let path = path.clone();
        move || std::fs::read(path).unwrap()
    });
    let mut file = AtomicFile::create(&path, false).unwrap();
    file.write_all(b"abc").unwrap();
    file.finish().unwrap();
    assert_eq!(reader.join().unwrap(), b"abc");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn child_that_waits_to_be_killed() {
    let Some(path) = std::env::var_os("ATOMIC_CHILD") else {
        return;
    };
    let mut file = AtomicFile::create(path.as_ref(), false).unwrap();
    file.write_all(b"half").unwrap();
    println!("\nready");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_live_process_keeps_its_output_and_a_killed_one_leaves_nothing_that_stays() {
    use std::io::{BufRead, BufReader};
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_waits_to_be_killed", "--nocapture"])
        .env("ATOMIC_CHILD", &path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"));

    let error = AtomicFile::create(&path, false).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("in use"), "{error}");

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!path.exists());
    let file = AtomicFile::create(&path, false).unwrap();
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        1,
        "only our own"
    );
    file.finish().unwrap();
}
