//! Calls to the system that fail.

use crate::harness::{Case, bytes};
use crate::run::{RUNS, Small, WORK};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Exit codes of docs/exit-codes.md that a fault may lead to.
const CODES: [i32; 5] = [0, 3, 4, 5, 137];

/// The library of faults.c, compiled.
fn library(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/faults.c");
    let library = dir.join("faults.so");
    let mut compiler = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
    compiler.args(["-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o"]);
    let made = compiler
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(made.success());
    library
}

/// The errors that calls of a kind fail with, as the system would.
fn errors(kind: &str) -> &'static [i32] {
    match kind {
        "write" => &[libc::ENOSPC],
        "create" => &[libc::EACCES, libc::ENOSPC],
        "open" => &[libc::EMFILE],
        "spawn" | "thread" => &[libc::EAGAIN],
        _ => &[libc::EIO],
    }
}

/// Names the calls that a sample begins with.
const OFFSET: &str = "CROCUTA_FAULTS_OFFSET";
/// One call in so many is in a sample.
const SAMPLED: usize = 60;

/// Which calls a sample takes: other ones at each commit, so that all have their turn, and the same
/// ones however often a commit is tested.
fn offset() -> usize {
    if let Ok(given) = std::env::var(OFFSET) {
        return given.parse().unwrap();
    }
    let mut git = Command::new("git");
    let head = git
        .args(["rev-parse", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let head = head.output().map(|output| output.stdout);
    let head = String::from_utf8(head.unwrap_or_default()).unwrap();
    // Sources without a repository have no commit.
    let number = head.get(..8).map(|hex| usize::from_str_radix(hex, 16));
    number.map_or(0, Result::unwrap) % SAMPLED
}

/// Lets calls of every kind fail in a small run, one in `step` of them; counts the exit codes, and
/// fails at the end if a promise was broken.
fn disturb(line: &str, step: usize) -> BTreeMap<i32, usize> {
    let dir = tempfile::tempdir().unwrap();
    let (library, counts) = (library(dir.path()), dir.path().join("counts"));
    let offset = offset();
    let preload = ("LD_PRELOAD", library.to_str().unwrap());
    let small = Small::new(line);
    small.clean();
    small.run(&[preload, ("FAULT_COUNTS", counts.to_str().unwrap())]);
    let counts = std::fs::read_to_string(counts).unwrap();
    let (mut codes, mut broken) = (BTreeMap::new(), Vec::new());
    for count in counts.lines() {
        let (kind, count) = count.split_once(' ').unwrap();
        let count: usize = count.parse().unwrap();
        // Not the same in all lines.
        let step = step.min(count.div_ceil(2)).max(1);
        for (number, &error) in (1 + (line.len() + offset) % step..=count)
            .step_by(step)
            .flat_map(|number| errors(kind).iter().map(move |error| (number, error)))
        {
            // Space that is gone stays gone.
            let ends: &[&str] = if error == libc::ENOSPC {
                &["", " and all after it"]
            } else {
                &[""]
            };
            for end in ends {
                let (number, error) = (number.to_string(), error.to_string());
                let mut variables = vec![
                    preload,
                    ("FAULT_CALL", kind),
                    ("FAULT_NUMBER", &number),
                    ("FAULT_ERROR", &error),
                ];
                if !end.is_empty() {
                    variables.push(("FAULT_ON", "1"));
                }
                small.clean();
                let what = format!("{line}: {kind} {number}{end}");
                let run = AssertUnwindSafe(|| meets(&small, &variables, (kind, &what)));
                match catch_unwind(run) {
                    Ok(code) => *codes.entry(code).or_default() += 1,
                    Err(_) => broken.push(what),
                }
            }
        }
    }
    let repeats = format!("{OFFSET}={offset} repeats it");
    assert!(broken.is_empty(), "{repeats}: {broken:#?}");
    codes
}

/// Runs with a fault, and holds the run to what is promised.
fn meets(small: &Small, variables: &[(&str, &str)], (kind, what): (&str, &str)) -> i32 {
    let ended = small.run(variables);
    let stderr = &ended.stderr;
    let code = ended.code.unwrap_or(-1);
    assert!(CODES.contains(&code), "{what}: code {code}\n{stderr}");
    let is_bug = stderr.contains("panicked") || stderr.contains("internal error");
    assert!(!is_bug, "{what}\n{stderr}");
    // A disk that fails has damaged nothing.
    let blamed = ["read", "stat"].contains(&kind) && [3, 4].contains(&code);
    assert!(!blamed, "{what}: code {code}\n{stderr}");
    let left = small.left();
    // What is printed last is lost where the model stands already, and the message with it where
    // no more can be written.
    let is_silent = kind == "write" && !stderr.contains("error:");
    let is_printed = stderr.contains("stdout") || is_silent;
    if code == 0 || is_printed && !left.is_empty() {
        assert!(left == small.whole, "{what}: other outputs\n{stderr}");
        return code;
    }
    let names: Vec<_> = left.keys().collect();
    assert!(
        names.is_empty(),
        "{what}: code {code}, and {names:?}\n{stderr}"
    );
    if kind != "unlink" {
        assert_eq!(small.hidden(), None, "{what}\n{stderr}");
    }
    small.again(what);
    code
}

fn sample(lines: &[&str]) {
    for line in lines {
        let codes = disturb(line, SAMPLED);
        assert!(codes.keys().any(|code| *code != 0), "{line}: {codes:?}");
    }
}

#[test]
fn a_call_that_fails_in_a_run_leaves_all_or_nothing() {
    sample(&RUNS);
}

#[test]
fn a_call_that_fails_in_work_on_models_and_tables_leaves_all_or_nothing() {
    sample(&WORK);
}

/// Hours of one processor; takes all. Prints how many calls failed, and the exit codes.
#[test]
#[ignore = "takes long: run it after changes to io"]
fn any_call_that_fails_leaves_all_or_nothing() {
    let lines: Vec<&str> = RUNS.iter().chain(&WORK).copied().collect();
    let [next, all, broken] = [const { AtomicUsize::new(0) }; 3];
    let work = || {
        while let Some(line) = lines.get(next.fetch_add(1, Relaxed)) {
            match catch_unwind(|| disturb(line, 1)) {
                Ok(codes) => {
                    println!("{line}: {codes:?}");
                    all.fetch_add(codes.values().sum(), Relaxed)
                }
                Err(_) => broken.fetch_add(1, Relaxed),
            };
        }
    };
    let processors = std::thread::available_parallelism().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..processors.get() {
            scope.spawn(work);
        }
    });
    let (all, broken) = (all.into_inner(), broken.into_inner());
    println!("{all} faults in {} command lines", lines.len());
    assert_eq!(broken, 0, "command lines that break a promise");
}

/// Runs another command, of which the n-th call of a kind fails; its exit code, and what it says.
fn with_fault(
    (small, line): (&Small, &str),
    library: &Path,
    (kind, number, error): (&str, usize, i32),
) -> (Option<i32>, String) {
    let mut command = small.other(line);
    let faults = [
        ("FAULT_CALL", kind),
        ("FAULT_NUMBER", &number.to_string()),
        ("FAULT_ERROR", &error.to_string()),
    ];
    let output = command.env("LD_PRELOAD", library).envs(faults).output();
    let output = output.unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}

/// What is said of a model where the system does not say what is there.
#[test]
fn a_model_that_the_system_does_not_speak_of_is_not_called_absent() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    let small = Small::new("models convert model --dtype f16 -o out");
    for line in [
        "models show model",
        "models verify model",
        "models show crocuta-bacteria",
    ] {
        let mut failed = 0;
        for number in 1..30 {
            let (code, stderr) = with_fault((&small, line), &library, ("stat", number, libc::EIO));
            match code {
                Some(0) => {}
                Some(5) => failed += 1,
                code => panic!("{line}: stat {number}: {code:?}\n{stderr}"),
            }
        }
        assert!(failed > 0, "{line}");
    }
}

/// What a command says of a table that it only looks at: no outputs, so the codes are all.
#[test]
fn a_table_that_cannot_be_read_is_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    let small = Small::new("table export one.parquet -o out.tsv");
    for line in ["table show one.parquet", "table show one.parquet --json"] {
        for kind in ["read", "stat"] {
            for number in 1..40 {
                let (code, stderr) =
                    with_fault((&small, line), &library, (kind, number, libc::EIO));
                let expected = [Some(0), Some(5)].contains(&code);
                assert!(expected, "{line}: {kind} {number}: {code:?}\n{stderr}");
            }
        }
    }
}

#[test]
fn threads_that_cannot_be_started_are_out_of_memory() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    let small = Small::new("models convert model --dtype f16 -o out");
    for line in ["models show model", "models verify model"] {
        let mut seen = 0;
        for number in 1..4 {
            let (code, stderr) =
                with_fault((&small, line), &library, ("thread", number, libc::EAGAIN));
            match code {
                Some(0) => {}
                Some(137) => {
                    assert!(stderr.contains("no thread can be started"), "{stderr}");
                    seen += 1;
                }
                code => panic!("{line}: thread {number}: {code:?}\n{stderr}"),
            }
        }
        assert!(seen > 0, "{line}");
    }
}

#[test]
fn a_child_that_cannot_be_started_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let library = library(dir.path());
    let case = Case::new("models convert m.pt --config model/config.json -o new");
    let case = case.file("m.pt", bytes::torch(b"\x80\x02}.", &[]));
    let faults = [
        ("FAULT_CALL", "spawn"),
        ("FAULT_NUMBER", "1"),
        ("FAULT_ERROR", "11"),
    ];
    let output = case
        .command()
        .env("LD_PRELOAD", library)
        .envs(faults)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("child process"), "{stderr}");
    assert!(!case.path("new").exists());
}
