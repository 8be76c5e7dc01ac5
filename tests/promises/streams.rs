//! Standard streams and special files: closed, full, read in part, piped, linked.

use crate::given::{self, Command};
use crate::harness::{Case, PROGRAM, listing};
use crate::kinds;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

/// Runs the program by a shell with a redirection, and gives its code and what it said.
fn shell(case: &Case, args: &str, redirection: &str) -> (Option<i32>, String) {
    let before = listing(&case.path(""));
    let script = format!("exec \"$0\" {args} {redirection}");
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &script, PROGRAM])
        .current_dir(case.path(""));
    let out = shell.stdin(Stdio::null()).output().unwrap();
    assert!(before == listing(&case.path("")), "{args} {redirection}");
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

/// Command lines whose result goes to stdout.
fn to_stdout() -> Vec<String> {
    let mut lines = Vec::new();
    for command in given::commands() {
        lines.extend(["", "-o -", "-o /dev/stdout"].map(|out| format!("{} {out}", command.line)));
    }
    lines.extend(
        [
            "predict a.fa -m genes --bed -",
            "predict a.fa -m genes --genes /dev/stdout",
            "reads small.bam -m model -o /dev/null --bam-out -",
            "reads small.bam -m model -o /dev/null --per-base -",
            "score v.vcf -r a.fa -m model --after 20 --context 64 -o /dev/null --vcf-out -",
            "embed a.fa -m model -o /dev/null --summary -",
        ]
        .map(str::to_string),
    );
    lines
}

#[test]
fn a_closed_stdout_is_an_io_error() {
    let case = given::case("");
    let mut lines = to_stdout();
    lines.extend(
        [
            "models list",
            "models show model",
            "check embed a.fa -m model",
        ]
        .map(str::to_string),
    );
    for line in lines {
        let (code, said) = shell(&case, &line, ">&-");
        assert_eq!(code, Some(5), "{line}\n{said}");
        assert!(said.contains("stdout"), "{line}\n{said}");
    }
}

#[test]
fn a_full_stdout_is_an_io_error() {
    let case = given::case("");
    for line in to_stdout() {
        let (code, said) = shell(&case, &line, ">/dev/full");
        assert_eq!(code, Some(5), "{line}\n{said}");
    }
}

#[test]
fn a_reader_that_leaves_after_the_first_bytes_is_no_error() {
    for line in to_stdout() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut case = given::case(&format!("{line} --quiet")).stdout(writer);
        assert_eq!(case.run().succeeds(&[]).stderr, "", "{line}");
    }
}

#[test]
fn what_is_said_may_be_lost_and_changes_no_exit_code() {
    for redirection in ["2>/dev/full", "2>&-"] {
        for (line, expected) in [
            ("embed a.fa -m model -o /dev/null", 0),
            ("embed a.fa -m model -o /dev/null --log-format json", 0),
            ("predict a.fa -m genes --genes /dev/null", 0),
            ("reads a.fq -m model -o /dev/null", 0),
            ("score v.vcf -r a.fa -m model --after 20 -o /dev/null", 0),
            ("models list >/dev/null", 0),
            ("check embed a.fa -m model >/dev/null", 0),
            ("embed a.fa -m model -o", 2),
            ("embed a.fa -m model -o a.fa --force", 2),
            ("embed v.vcf -m model -o /dev/null", 3),
            ("embed a.fa -m r.bed -o /dev/null", 4),
            ("embed none.fa -m model -o /dev/null", 5),
            ("score none.vcf -r a.fa -m model -o /dev/null", 5),
        ] {
            let case = given::case("");
            let (code, _) = shell(&case, line, redirection);
            assert_eq!(code, Some(expected), "{line} {redirection}");
        }
        let strict = "score v.vcf -r a.fa -m model --after 20 -o /dev/null --strict";
        let case = given::case("").file("v.vcf", given::vcf(0) + "c\t5\t.\tA\t<DEL>\t.\t.\t.\n");
        assert_eq!(
            shell(&case, strict, redirection).0,
            Some(6),
            "{redirection}"
        );
    }
}

#[test]
fn any_output_may_be_dev_null() {
    for command in given::commands() {
        for output in &command.outputs {
            // Tracks have a name each.
            if output.option == "--bigwig" {
                continue;
            }
            let line = format!("{} {} /dev/null", command.line, output.option);
            let table = (output.option != "-o").then_some("out.parquet");
            let line = table.map_or(line.clone(), |name| format!("{line} -o {name}"));
            let files: Vec<&str> = table.into_iter().collect();
            given::case(&line).run().succeeds(&files);
        }
    }
    for index in ["/dev/null.bai", "/dev/null.tbi"] {
        assert!(!Path::new(index).exists(), "{index}");
    }
}

#[test]
fn without_a_table_s_path_a_run_writes_another_output_that_is_asked_for_alone() {
    for command in given::commands() {
        let more = ["-o", "--summary"];
        let others = command.outputs.iter();
        for output in others.filter(|output| !more.contains(&output.option)) {
            let line = command.line.to_string() + &output.args();
            let files: Vec<&str> = output.files.iter().map(String::as_str).collect();
            let outcome = given::case(&line).run().succeeds(&files);
            assert!(outcome.stdout.is_empty(), "{line}");
            // What was written is said, not how long the table is that there is not.
            let said = outcome.stderr.lines().last().unwrap();
            let bytes = outcome.file(files[0]).len();
            assert!(said.contains(&format!(", {} ", files[0])), "{said}");
            assert!(!said.contains(" 0 B") && bytes > 0, "{said}");
            // Where stdout is asked for, it has the table.
            let outcome = given::case(&format!("{line} -o -")).run().succeeds(&files);
            assert!(outcome.stdout.starts_with(b"PAR1"), "{line}");
        }
    }
}

/// The command with all its outputs, each of which is a link to `real/` of its name.
fn linked(command: &Command) -> Case {
    let case = given::case(&format!("{} --force", command.whole()));
    let files = command.files();
    let case = files
        .iter()
        .fold(case, |case, name| case.file(&format!("real/{name}"), "old"));
    for name in files {
        symlink(Path::new("real").join(name), case.path(name)).unwrap();
    }
    case
}

#[test]
fn links_are_followed_and_what_they_name_is_replaced() {
    for command in given::commands() {
        let mut case = linked(&command);
        let real: Vec<String> = command
            .files()
            .iter()
            .map(|name| format!("real/{name}"))
            .collect();
        let real: Vec<&str> = real.iter().map(String::as_str).collect();
        let outcome = case.run().succeeds(&real);
        for name in real {
            kinds::check(name, outcome.file(name));
        }
        for name in command.files() {
            assert!(case.path(name).is_symlink(), "{name}");
        }
    }
}

fn pipe(case: &Case, name: &str) {
    let path = std::ffi::CString::new(case.path(name).to_str().unwrap()).unwrap();
    // SAFETY: the path is a text that ends with NUL and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

#[test]
fn named_pipes_carry_the_table_and_the_inputs() {
    for command in given::commands() {
        let plain = given::case(&format!("{} -o out.parquet", command.line)).run();
        let case = given::case(&format!("{} -o out", command.line));
        pipe(&case, "out");
        let path = case.path("out");
        let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
        let status = case.command().stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{}", command.line);
        assert!(
            reader.join().unwrap() == plain.file("out.parquet"),
            "{}",
            command.line
        );
    }
    for (line, bytes) in [
        ("embed in -m model", given::fasta()),
        ("predict in -m genes", given::fasta()),
        ("reads in -m model", given::fastq(3)),
        ("score in -r a.fa -m model --after 20", given::vcf(4)),
    ] {
        let case = given::case(&format!("{line} -o out.parquet"));
        pipe(&case, "in");
        let path = case.path("in");
        let writer = std::thread::spawn(move || std::fs::write(path, bytes).unwrap());
        let status = case.command().stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{line}");
        writer.join().unwrap();
        kinds::check(
            "out.parquet",
            &std::fs::read(case.path("out.parquet")).unwrap(),
        );
    }
}
