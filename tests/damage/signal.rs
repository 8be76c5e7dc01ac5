//! Signals and resources.

use crate::harness::{Case, bases, listing, record};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A run in the middle of an endless sequence from a pipe; `fed`: its input goes on.
fn endless(case: &Case, fed: bool) -> Child {
    let mut command = case.command();
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b">a\nACGTACGTACGTACGTACGTACGT\n").unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(
        lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("on the CPU"))
    );
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    std::thread::spawn(move || {
        let line = [b"ACGT".repeat(15), b"\n".to_vec()].concat().repeat(50);
        while fed && input.write_all(&line).is_ok() {}
        std::thread::sleep(Duration::from_secs(30));
        drop(input);
    });
    child
}

fn send(child: &Child, signal: i32) {
    // SAFETY: our own child, which was not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

const ENDLESS: &str = "embed - -m model -o out.parquet --chunk 512";

#[test]
fn a_signal_stops_a_run_soon_and_leaves_nothing() {
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let case = Case::new(ENDLESS);
        let before = listing(&case.path(""));
        let mut child = endless(&case, true);
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(before == listing(&case.path("")));
    }
}

#[test]
fn a_signal_stops_a_run_that_waits_for_input() {
    let case = Case::new(ENDLESS);
    let before = listing(&case.path(""));
    let mut child = endless(&case, false);
    let start = Instant::now();
    send(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(before == listing(&case.path("")));
}

#[test]
fn a_second_interrupt_stops_at_once() {
    let case = Case::new(ENDLESS);
    let before = listing(&case.path(""));
    let mut child = endless(&case, false);
    let start = Instant::now();
    send(&child, libc::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    send(&child, libc::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(before == listing(&case.path("")));
}

#[test]
fn a_killed_run_leaves_all_or_nothing_and_the_next_one_succeeds() {
    let text = record("a", &bases(1, 20_000), 60);
    let mut whole = Case::embed(&text, "--strand both");
    let start = Instant::now();
    let whole = whole.run().succeeds(&["out.parquet"]);
    let time = start.elapsed();
    let mut finished = 0;
    for i in 0..16 {
        let mut case = Case::embed(&text, "--strand both");
        let mut child = case.command().stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(time * i / 14);
        // The run may be over already.
        child.kill().unwrap();
        child.wait().unwrap();
        if case.path("out.parquet").exists() {
            finished += 1;
            assert!(std::fs::read(case.path("out.parquet")).unwrap() == whole.file("out.parquet"));
            continue;
        }
        let mut next = Vec::from(["out.parquet".to_string()]);
        next.extend(
            listing(&case.path(""))
                .into_keys()
                .filter(|name| name.starts_with('.')),
        );
        let status = case.command().stderr(Stdio::null()).status().unwrap();
        assert!(status.success());
        let left: Vec<_> = listing(&case.path(""))
            .into_keys()
            .filter(|name| name.starts_with('.'))
            .collect();
        assert_eq!(left, Vec::<String>::new());
        case = case.args("check embed a.fa -m model");
        case.run().succeeds(&[]);
    }
    assert!(finished < 16, "no run was killed in its middle");
}

/// `models convert` whose child waits for its configuration, which is a pipe.
fn waiting_conversion() -> Case {
    let case = Case::new("models convert m.pt --config c -o new")
        .file("m.pt", crate::harness::bytes::torch(b"\x80\x02}.", &[]));
    let pipe = std::ffi::CString::new(case.path("c").to_str().unwrap()).unwrap();
    // SAFETY: the path is a text that ends with NUL and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    case
}

/// Names that begin with a dot.
fn hidden(case: &Case) -> Vec<String> {
    let names = std::fs::read_dir(case.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

/// Starts the conversion and waits until its directory is begun.
fn converting(case: &Case) -> Child {
    let child = case.command().stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while hidden(case).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_signal_stops_a_conversion_at_once_and_leaves_nothing() {
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143)] {
        let case = waiting_conversion();
        let mut child = converting(&case);
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(start.elapsed() < Duration::from_secs(2));
        assert_eq!(hidden(&case), Vec::<String>::new());
        assert!(!case.path("new").exists());
    }
}

#[test]
fn what_a_killed_conversion_left_is_removed_by_the_next_but_not_what_another_is_at() {
    let mut case = waiting_conversion();
    let mut child = converting(&case);
    child.kill().unwrap();
    child.wait().unwrap();
    let left = hidden(&case);
    assert_eq!(left.len(), 1);
    let mut other = converting(&case);
    while hidden(&case) == left || hidden(&case).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let theirs = hidden(&case);
    assert_eq!(theirs.len(), 1);
    // Whoever comes while another is at it is refused at once, and changes nothing.
    case = case.args("models new --preset hyenadna-tiny-1k -o new");
    let refused = case.command().stderr(Stdio::null()).status().unwrap();
    assert_eq!(refused.code(), Some(2));
    assert_eq!(hidden(&case), theirs);
    other.kill().unwrap();
    other.wait().unwrap();
    let made = case.command().stderr(Stdio::null()).status().unwrap();
    assert!(made.success());
    assert_eq!(hidden(&case), Vec::<String>::new());
}

#[test]
fn a_bug_in_any_thread_ends_the_run_with_one_line_and_no_output() {
    for thread in ["reader", "encoder", "writer"] {
        for strand in ["forward", "both"] {
            let text = record("a", &bases(1, 20_000), 60);
            let args = format!("--quiet --chunk 512 --strand {strand}");
            let case = Case::embed(&text, &args);
            let before = listing(&case.path(""));
            let start = Instant::now();
            let mut command = case.command();
            let out = command.env("CROCUTA_PANIC", thread).output().unwrap();
            assert!(start.elapsed() < Duration::from_secs(10), "{thread}");
            let said = String::from_utf8(out.stderr).unwrap();
            assert_eq!(out.status.code(), Some(1), "{thread}\n{said}");
            assert_eq!(said.lines().count(), 1, "{thread}\n{said}");
            assert!(
                said.starts_with("crocuta: error: internal error (a bug) at src/"),
                "{said}"
            );
            assert!(before == listing(&case.path("")), "{thread}");
        }
    }
}

/// A pipe that nobody reads.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
fn a_reader_that_has_left_is_no_error() {
    for args in [
        "embed a.fa -m model --quiet",
        "models list",
        "--help",
        "check embed a.fa -m model",
    ] {
        let text = record("a", &bases(1, 20_000), 60);
        let out = Case::new(args)
            .file("a.fa", text)
            .stdout(closed_pipe())
            .run()
            .succeeds(&[]);
        assert_eq!(out.stderr, "", "{args}");
    }
}

#[test]
fn closed_standard_streams_are_no_panic() {
    let case = Case::embed(">a\nACGT\n", "");
    let run = |redirection: &str, args: &str| {
        let status = case.command();
        let script = format!("exec \"$0\" {args} {redirection}");
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", &script])
            .arg(status.get_program())
            .current_dir(case.path(""));
        let out = shell.output().unwrap();
        assert!(out.status.signal().is_none());
        out.status.code().unwrap()
    };
    assert_eq!(run("2>&-", "embed a.fa -m model -o 1.parquet"), 0);
    assert_eq!(run("2>&-", "embed none.fa -m model -o 2.parquet"), 5);
    assert_eq!(run("<&-", "embed a.fa -m model -o 3.parquet"), 0);
    let code = run(">&-", "embed a.fa -m model");
    assert!(code == 0 || code == 5, "{code}");
}

#[test]
fn too_little_memory_is_said_before_the_run_with_an_estimate() {
    let text = record("a", &bases(1, 50), 60);
    // Of a pipe nobody knows the length, which may be less than a step.
    let case = |chunk: u32| {
        let line = format!("embed - -m model -o out.parquet -t 1 --chunk {chunk}");
        Case::new(&line).stdin(&text).memory(1 << 30)
    };
    case(512).run().succeeds(&["out.parquet"]);
    let out = case(1 << 24).run();
    out.fails(137, &["the run needs about", "GB", "--chunk"]);
}

#[test]
fn whatever_the_address_space_it_is_enough_or_refused() {
    let text = record("a", &bases(1, 600), 60);
    // With less than this the system does not start it.
    let program = std::fs::metadata(crate::harness::PROGRAM).unwrap().len();
    for more in (24..=192).step_by(24) {
        let mut case = Case::embed(&text, "-t 2").memory(program + (more << 20));
        let out = case.run();
        if out.code == Some(0) {
            out.succeeds(&["out.parquet"]);
        } else {
            assert!(more < 150, "{more} MB: {}", out.stderr);
            out.fails(137, &["memory"]);
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_ends_no_run() {
    for args in ["", "--log-format json"] {
        let full = || {
            std::fs::File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
        };
        for stderr in [full().into(), closed_pipe()] {
            let case = Case::embed(record("a", &bases(1, 600), 60), args);
            let mut command = case.command();
            let status = command.stderr::<Stdio>(stderr).status().unwrap();
            assert_eq!(status.code(), Some(0), "{args}");
            assert!(case.path("out.parquet").exists());
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    Case::embed(">a\nA\n", "--device cuda:7")
        .run()
        .fails(2, &["--device cpu"]);
}

#[test]
fn few_file_descriptors_and_a_bare_environment_suffice() {
    let case = Case::embed(">a\nACGT\n", "");
    let mut shell = std::process::Command::new("sh");
    let script = "ulimit -n 24; exec \"$0\" embed a.fa -m model -o out.parquet --strand both";
    shell
        .args(["-c", script])
        .arg(case.command().get_program())
        .current_dir(case.path(""));
    shell
        .env_clear()
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("TZ", "Asia/Tokyo");
    assert!(shell.output().unwrap().status.success());
    let bytes = std::fs::read(case.path("out.parquet")).unwrap();
    let plain = Case::embed(">a\nACGT\n", "--strand both").run();
    assert!(plain.file("out.parquet") == bytes);
}
