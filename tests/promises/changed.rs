//! Inputs that change while they are read, or that do not fit their index, are errors.

use crate::given;
use crate::harness::bytes::{bgzf, gzip};
use crate::harness::{Case, bases, fai, record};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

const LENGTH: usize = 400_000;

/// Half of what it was.
fn truncate(path: &std::path::Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

/// The same length, other bytes.
fn rewrite(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    for byte in bytes.iter_mut().filter(|byte| **byte == b'A') {
        *byte = b'C';
    }
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(&bytes).unwrap();
}

/// More bytes at the end.
fn append(path: &std::path::Path) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(b">more\nACGT\n").unwrap();
}

/// Starts the command, changes the file while the process stands still, and lets it go on.
fn fails(case: &Case, name: &str, change: fn(&std::path::Path)) {
    let mut command = case.command();
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("on the CPU") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "{name}: {said}");
    }
    // SAFETY: our own child, which was not waited for yet.
    let send = |signal| assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    send(libc::SIGSTOP);
    change(&case.path(name));
    send(libc::SIGCONT);
    for line in stderr.lines() {
        said += &(line.unwrap() + "\n");
    }
    let code = child.wait().unwrap().code();
    assert!(code == Some(3), "{name} code {code:?}\n{said}");
    assert!(said.contains(name), "{said}");
}

const CHANGES: [fn(&std::path::Path); 3] = [truncate, rewrite, append];

#[test]
fn a_sequence_that_changes_while_it_is_read_is_an_error() {
    let text = record("c", &bases(1, LENGTH), 60);
    for change in CHANGES {
        for line in [
            "embed a.fa -m model --chunk 512 --bin 100",
            "predict a.fa -m model --chunk 512",
        ] {
            let case = Case::new(&format!("{line} -o out.parquet")).file("a.fa", &text);
            fails(&case, "a.fa", change);
        }
        let line = "embed a.fa -m model --chunk 512 --bin 100 --region c:1-300000 -o out.parquet";
        let case = Case::new(line)
            .file("a.fa", &text)
            .file("a.fa.fai", fai(&text));
        fails(&case, "a.fa", change);
    }
    for file in [gzip(text.as_bytes()), bgzf(text.as_bytes(), 60_000)] {
        let line = "embed a.fa.gz -m model --chunk 512 --bin 100 -o out.parquet";
        let case = Case::new(line).file("a.fa.gz", file);
        fails(&case, "a.fa.gz", truncate);
    }
}

#[test]
fn reads_that_change_while_they_are_read_are_an_error() {
    for change in [truncate, rewrite] {
        let line = "reads a.fq -m model --chunk 512 -o out.parquet";
        let case = Case::new(line).file("a.fq", given::fastq(8000));
        fails(&case, "a.fq", change);
    }
}

#[test]
fn a_reference_or_variants_that_change_during_the_run_are_an_error() {
    // The second sequence is read after the first one's variants are scored.
    let genome = [bases(1, LENGTH / 2), bases(2, LENGTH / 2)];
    let mut variants = given::vcf(0).replace("300", &(LENGTH / 2).to_string());
    for (name, genome) in ["c", "d"].iter().zip(&genome) {
        for at in (1000..LENGTH / 2 - 1000).step_by(499) {
            let letter = &genome[at..=at];
            let other = if letter == "A" { "C" } else { "A" };
            variants += &format!("{name}\t{}\t.\t{letter}\t{other}\t.\t.\t.\n", at + 1);
        }
    }
    let text = record("c", &genome[0], 60) + &record("d", &genome[1], 60);
    for (name, more) in [("a.fa", ""), ("v.vcf", "--vcf-out s.vcf.gz")] {
        for change in [truncate, rewrite] {
            let line = "score v.vcf -r a.fa -m model --chunk 512 --after 50 -o out.parquet";
            let case = Case::new(&format!("{line} {more}"))
                .file("a.fa", &text)
                .file("a.fa.fai", fai(&text))
                .file("v.vcf", &variants);
            fails(&case, name, change);
        }
    }
}

#[test]
fn a_file_that_does_not_fit_its_index_is_an_error() {
    let text = record("c", &bases(1, 600), 60) + &record("d", &bases(2, 120), 60);
    let index = fai(&text);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let without = |n: usize| lines[..lines.len() - n].concat();
    for (what, file) in [
        ("its last line", without(1)),
        ("its last sequence", without(3)),
        ("half of its first sequence", without(8)),
        (
            "its last byte of a base",
            text[..text.len() - 2].to_string(),
        ),
    ] {
        for line in [
            "embed a.fa -m model -o out.parquet",
            "embed a.fa -m model -o out.parquet --strand both --bin 50",
            "predict a.fa -m model -o out.parquet",
            "check embed a.fa -m model",
            "score v.vcf -r a.fa -m model --after 20 -o out.parquet",
        ] {
            let case = Case::new(line)
                .file("a.fa", &file)
                .file("a.fa.fai", &index)
                .file(
                    "v.vcf",
                    "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n",
                );
            let said = { case }.run().fails(3, &["a.fa"]).stderr;
            assert!(said.contains(".fai"), "{what}, {line}: {said}");
        }
    }
    // One more sequence than the index has.
    let more = text.clone() + ">e\nACGT\n";
    let case = Case::new("embed a.fa -m model -o out.parquet").file("a.fa", more);
    { case.file("a.fa.fai", index) }
        .run()
        .fails(3, &["a.fa", ".fai"]);
}
