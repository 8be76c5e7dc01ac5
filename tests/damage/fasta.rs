//! FASTA and its index.

use crate::harness::{Case, bases, record};
use std::time::{Duration, SystemTime};

/// Two contigs of 100 and 50 bases in lines of 20, and the index.
fn indexed() -> (String, String) {
    let fasta = record("a", &bases(1, 100), 20) + &record("b", &bases(2, 50), 20);
    (fasta, "a\t100\t3\t20\t21\nb\t50\t111\t20\t21\n".to_string())
}

#[test]
fn an_empty_file_is_an_error_or_an_empty_table() {
    Case::embed("", "")
        .run()
        .fails(3, &["a.fa", "no sequences"]);
    let out = Case::embed("", "--allow-empty")
        .run()
        .succeeds(&["out.parquet"]);
    let table = out.table();
    assert_eq!(table.rows(), 0);
    let columns = "chrom start end strand base flags context_left embedding";
    assert_eq!(table.columns.join(" "), columns);
}

#[test]
fn text_that_is_no_fasta_is_an_error() {
    Case::embed("ACGT\n", "")
        .run()
        .fails(3, &["line 1", "expected '>'"]);
    Case::embed("; note\n>a\nACGT\n", "")
        .run()
        .fails(3, &["line 1", "expected '>'"]);
    Case::embed("\u{feff}ACGT\n", "")
        .run()
        .fails(3, &["line 1", "expected '>'"]);
    Case::embed("\n\n>a\nACGT\n", "")
        .run()
        .succeeds(&["out.parquet"]);
}

#[test]
fn a_record_without_a_name_is_an_error() {
    for text in [">\nACGT\n", "> a\nACGT\n"] {
        Case::embed(text, "")
            .run()
            .fails(3, &["record 1", "empty name"]);
    }
}

#[test]
fn a_name_that_comes_twice_is_an_error_that_names_both_lines() {
    let messages = ["lines 1 and 5", "duplicate sequence name \"a\""];
    Case::embed(">a\nACGT\n>b\nA\n>a\nAC\n", "")
        .run()
        .fails(3, &messages);
}

#[test]
fn an_empty_record_is_counted() {
    let text = ">a\nACGT\n>empty\n>b\nAC\n";
    let out = Case::embed(text, "")
        .run()
        .ends(0, &["warning"], &["out.parquet"]);
    assert!(
        out.table()
            .words("chrom")
            .iter()
            .all(|name| name != "empty")
    );
    assert_eq!(out.table().rows(), 6);
    let strict = Case::embed(text, "--strict").run();
    strict.ends(6, &["1 sequences are empty"], &["out.parquet"]);
}

#[test]
fn letters_that_are_no_bases_are_errors_with_their_place() {
    Case::embed(">a\nAC GT12\0*\n", "")
        .run()
        .fails(3, &["a:3", "0x20"]);
    Case::embed(">a\nAC>GT\n", "").run().fails(3, &["a:3"]);
    Case::embed(">a\nacgt\n", "")
        .run()
        .succeeds(&["out.parquet"]);
    let out = Case::embed(">a\nARYKMC\n", "").run();
    out.ends(0, &["4 ambiguous → N"], &["out.parquet"]);
}

#[test]
fn line_ends_of_windows_change_nothing() {
    let text = record("a", &bases(3, 300), 60) + &record("b", &bases(4, 77), 60);
    let unix = Case::embed(&text, "").run().succeeds(&["out.parquet"]);
    let windows = Case::embed(text.replace('\n', "\r\n"), "")
        .run()
        .succeeds(&["out.parquet"]);
    assert!(unix.file("out.parquet") == windows.file("out.parquet"));
    let mixed = text.replacen('\n', "\r\n", 3);
    let mixed = Case::embed(mixed, "").run().succeeds(&["out.parquet"]);
    assert!(unix.file("out.parquet") == mixed.file("out.parquet"));
}

#[test]
fn mixed_line_ends_are_an_error_at_random_access() {
    let (fasta, fai) = indexed();
    let mixed = fasta.replacen("\n", "\r\n", 3);
    let out = Case::embed(mixed, "--region a:30-90")
        .file("a.fa.fai", fai)
        .run();
    out.fails(3, &[]);
}

#[test]
fn line_ends_of_the_old_mac_are_an_error() {
    Case::embed(">a\rACGT\r>b\rAC\r", "")
        .run()
        .fails(3, &["carriage return"]);
}

#[test]
fn names_are_text_and_never_paths_or_commands() {
    let out = Case::embed(">../../etc/passwd\nACGT\n", "")
        .run()
        .succeeds(&["out.parquet"]);
    assert_eq!(out.table().words("chrom")[0], "../../etc/passwd");
    let escape = Case::embed(">\x1b[31m\nAC!GT\n", "").run();
    assert!(escape.stderr.contains("\\x1b"), "{}", escape.stderr);
    escape.fails(3, &[]);
    Case::embed(b">a\xe9\nACGT\n", "")
        .run()
        .fails(3, &["UTF-8"]);
    Case::embed(format!(">{}\nACGT\n", "n".repeat(10_000)), "")
        .run()
        .fails(3, &["name"]);
}

#[test]
fn a_stale_index_is_an_error() {
    let (fasta, fai) = indexed();
    let mut lines: Vec<_> = fasta.lines().collect();
    lines.remove(1);
    let stale = lines.join("\n") + "\n";
    let out = Case::embed(stale, "--region b:1-20")
        .file("a.fa.fai", fai)
        .run();
    out.fails(3, &["index does not match", "samtools faidx"]);
}

#[test]
fn an_older_index_that_fits_is_a_warning() {
    let (fasta, fai) = indexed();
    let mut case = Case::embed(fasta, "--region a:5-90").file("a.fa.fai", fai);
    let old = SystemTime::now() - Duration::from_secs(3600);
    let index = std::fs::File::options()
        .write(true)
        .open(case.path("a.fa.fai"))
        .unwrap();
    index.set_modified(old).unwrap();
    let out = case.run().ends(0, &["older than"], &["out.parquet"]);
    assert_eq!(out.stderr.matches("warning").count(), 1);
    assert_eq!(out.table().rows(), 86);
}

#[test]
fn a_damaged_index_is_an_error_that_names_the_line() {
    let (fasta, _) = indexed();
    for line in [
        "a\t100\t3\t20\t19",
        "a\t100\t3\t0\t21",
        "a\t18446744073709551615\t3\t20\t21",
        "a\t100\t300\t20\t21",
        "a\t100\t3\t20",
        "b\t50\t111\t20\t21",
    ] {
        let fai = format!("b\t50\t111\t20\t21\n{line}\n");
        let out = Case::embed(&fasta, "--region b:1-20")
            .file("a.fa.fai", fai)
            .run();
        out.fails(3, &["a.fa.fai: line 2"]);
    }
}

#[test]
fn ragged_lines_are_an_error_only_where_an_index_is_used() {
    let text = ">a\nACGT\nAC\nACGT\n";
    Case::embed(text, "").run().succeeds(&["out.parquet"]);
    let out = Case::embed(text, "--region a:2-9")
        .file("a.fa.fai", "a\t10\t3\t4\t5\n")
        .run();
    out.fails(3, &[]);
}

#[test]
fn what_is_no_readable_file_is_an_io_error() {
    let io = |mut case: Case, message: &str| case.run().fails(5, &["a.fa", message]);
    io(
        Case::new("embed a.fa -m model -o out.parquet"),
        "No such file",
    );
    io(
        Case::new("embed a.fa -m model -o out.parquet").file("a.fa/x", ""),
        "directory",
    );
    // SAFETY: has no preconditions.
    if unsafe { libc::geteuid() } == 0 {
        crate::harness::skipped("an unreadable file, because root reads every file");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let case = Case::embed(">a\nACGT\n", "");
    std::fs::set_permissions(case.path("a.fa"), PermissionsExt::from_mode(0o000)).unwrap();
    io(case, "Permission denied");
}

#[test]
fn pipes_are_read_once_with_and_without_regions() {
    let text = record("a", &bases(5, 500), 60);
    for (args, rows) in [("", 500), ("--region a:200-299", 100)] {
        for name in ["-", "/dev/stdin", "fifo"] {
            let mut case = Case::new(&format!("embed {name} -m model -o out.parquet {args}"));
            let path = std::ffi::CString::new(case.path("fifo").to_str().unwrap()).unwrap();
            // SAFETY: the path ends with a NUL.
            assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
            let fifo = (name == "fifo").then(|| (case.path("fifo"), text.clone()));
            let writer =
                fifo.map(|(path, text)| std::thread::spawn(move || std::fs::write(path, text)));
            case = case.stdin(&text);
            let out = case.run().succeeds(&["out.parquet"]);
            assert_eq!(out.table().rows(), rows, "{name}");
            if let Some(writer) = writer {
                writer.join().unwrap().unwrap();
            }
        }
    }
}
