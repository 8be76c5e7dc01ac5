//! After a run that failed no output has changed or appeared, and none of several alone.

use crate::given::{self, Command};
use crate::harness::{Case, listing};
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The command with all its outputs, where something stands already at each of their paths.
fn over_old(command: &Command) -> Case {
    let case = given::case(&format!("{} --force", command.whole()));
    let files = command.files().into_iter();
    files.fold(case, |case, name| case.file(name, "old"))
}

#[test]
fn an_output_that_cannot_be_begun_leaves_all_as_they_were() {
    for command in given::commands() {
        for (i, output) in command.outputs.iter().enumerate() {
            let others = command.outputs.iter().enumerate();
            let others = others.filter(|(j, _)| *j != i);
            let others: String = others.map(|(_, other)| other.args()).collect();
            let (line, option, path) = (command.line, output.option, output.path);
            let missing = format!("{line}{others} {option} none/{path}");
            given::case(&missing).run().fails(5, &["none"]);
            for file in &output.files {
                // Something stands there, and may not be replaced.
                let case = given::case(&command.whole()).file(file, "old");
                { case }.run().fails(2, &[file, "exists", "--force"]);
                let case = given::case(&format!("{} --force", command.whole()));
                std::fs::create_dir(case.path(file)).unwrap();
                { case }.run().fails(2, &[file, "directory"]);
            }
        }
    }
}

#[test]
fn a_full_disk_at_any_output_leaves_all_as_they_were() {
    for command in given::commands() {
        for full in command.files() {
            for force in ["", " --force"] {
                let mut case = given::case(&format!("{}{force}", command.whole()));
                if !force.is_empty() {
                    case = over_old(&command);
                    std::fs::remove_file(case.path(full)).unwrap();
                }
                symlink("/dev/full", case.path(full)).unwrap();
                case.run().fails(5, &[full]);
            }
        }
    }
}

#[test]
fn a_write_that_fails_late_leaves_all_as_they_were() {
    for command in given::commands() {
        let files = command.files();
        let outcome = given::case(&command.whole()).run().succeeds(&files);
        let mut sizes: Vec<u64> = files
            .iter()
            .map(|name| outcome.file(name).len() as u64)
            .collect();
        sizes.sort();
        sizes.dedup();
        // A summary tells times, so that its size may differ by a few bytes.
        let largest = sizes[sizes.len() - 1];
        for limit in sizes.into_iter().filter(|size| size + 16 < largest) {
            over_old(&command)
                .file_size(limit)
                .run()
                .fails(5, &["File too large"]);
        }
        over_old(&command)
            .file_size(largest - 1)
            .run()
            .fails(5, &["File too large"]);
    }
}

#[test]
fn a_refused_fsync_or_rename_leaves_all_as_they_were() {
    for command in given::commands() {
        for call in [libc::SYS_fsync, libc::SYS_renameat2] {
            let mut case = given::case(&command.whole()).refuse(call);
            case.run().fails(5, &["os error 5"]);
        }
        for call in [libc::SYS_fsync, libc::SYS_renameat2] {
            over_old(&command)
                .refuse(call)
                .run()
                .fails(5, &["os error 5"]);
        }
    }
}

/// Waits until the program has begun so many outputs in this directory.
fn begun(case: &Case, outputs: usize) {
    let start = Instant::now();
    let hidden = |name: &&String| name.starts_with('.');
    while listing(&case.path("")).keys().filter(hidden).count() < outputs {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_output_that_appears_during_the_run_stays_and_no_other_is_written() {
    let tracks = "--genes g.gff3 --bed b.bed";
    for (line, input, outputs) in [
        ("embed - -m model", given::fasta(), ""),
        ("predict - -m genes", given::fasta(), tracks),
        (
            "reads - -m model",
            given::fastq(3),
            "--per-base bases.parquet --bam-out t.bam",
        ),
        ("score - -r a.fa -m model --after 20", given::vcf(4), ""),
    ] {
        let args = format!("{outputs} -o out.parquet --summary s.json");
        let files = args.split_whitespace().filter(|word| word.contains('.'));
        for appears in files.clone() {
            let case = given::case(&format!("{line} {args}"));
            let mut command = case.command();
            command.stdin(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            begun(&case, files.clone().count());
            std::fs::write(case.path(appears), "theirs").unwrap();
            let before = listing(&case.path(""));
            let mut stdin = child.stdin.take().unwrap();
            std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{line}: {appears}\n{said}");
            assert!(said.contains(appears), "{said}");
            let shown = |listing: crate::harness::Listing| -> Vec<(String, Option<Vec<u8>>)> {
                let files = listing.into_iter();
                let files = files.filter(|(name, _)| !name.starts_with('.'));
                files
                    .map(|(name, content)| (name, content.map(|x| x.0)))
                    .collect()
            };
            let after = listing(&case.path(""));
            assert!(!after.keys().any(|name| name.starts_with('.')), "{line}");
            assert!(shown(before) == shown(after), "{line}: {appears}");
        }
    }
}
