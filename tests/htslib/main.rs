//! htslib as the judge: every alignment and variant file of the tests, and of the directory that
//! CROCUTA_CONFORMANCE names, is read by both, and what they read is compared. Each SAM that
//! htslib reads is also read as what htslib writes it to: BAM, CRAM 3.0 and 3.1, and CRAM without
//! a reference.
//!
//! Where the two differ, `differences.tsv` has a line with the reason. A difference without one
//! fails, and a line whose difference is gone.
//!
//! And what htslib reads for the program: remote inputs, CRAM 2, references by their MD5.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod alignments;
mod judge;
mod remote;
mod server;
mod variants;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What came of a file.
pub enum Outcome {
    /// Both read the same.
    Equal,
    /// The first difference.
    Differs(String),
    /// Neither reads it whole.
    RefusedByBoth,
    /// Our message.
    RefusedByOurs(String),
    /// At which record htslib gave up.
    ReadByOurs(String),
}

impl Outcome {
    /// Of the lines of both; `columns` names those in which two lines differ.
    fn of(ours: &[String], theirs: &[String], columns: impl Fn(&str, &str) -> String) -> Self {
        let end = String::new();
        let lines = ours.len().max(theirs.len());
        let line = |lines: &[String], i: usize| lines.get(i).unwrap_or(&end).clone();
        let mut pairs = (0..lines).map(|i| (i + 1, line(ours, i), line(theirs, i)));
        match pairs.find(|(_, ours, theirs)| ours != theirs) {
            None => Self::Equal,
            Some((number, ours, theirs)) => {
                let columns = columns(&ours, &theirs);
                Self::Differs(format!("{columns}: line {number}:\n  {ours}\n  {theirs}"))
            }
        }
    }

    /// Its name in the table of differences, and what is said of it.
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::Equal => ("equal", ""),
            Self::Differs(what) => ("differs", what),
            Self::RefusedByBoth => ("refused by both", ""),
            Self::RefusedByOurs(what) => ("refused here", what),
            Self::ReadByOurs(what) => ("read here alone", what),
        }
    }
}

/// The kind of a file, by its name.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Alignments,
    Variants,
}

fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let mut ends = name.rsplit('.');
    let last = ends.next()?;
    let packed = ["gz", "bgz", "bgzf", "bz2", "xz", "zst", "Z", "z", "zip"];
    let end = if packed.contains(&last) {
        ends.next()?
    } else {
        last
    };
    match end {
        "sam" | "bam" | "cram" => Some(Kind::Alignments),
        "vcf" | "bcf" => Some(Kind::Variants),
        _ => None,
    }
}

/// All files below a directory, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if kind(&path).is_some() {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What came of the files below a directory, by their names there.
fn judge(directory: &Path) -> BTreeMap<String, Outcome> {
    let scratch = tempfile::tempdir().unwrap();
    let mut outcomes = BTreeMap::new();
    for path in files(directory) {
        let name = path.strip_prefix(directory).unwrap().to_str().unwrap();
        if kind(&path) == Some(Kind::Variants) {
            outcomes.insert(name.to_string(), variants::compare(&path, scratch.path()));
            continue;
        }
        let reference = alignments::reference(&path).map(|from| indexed(&from, scratch.path()));
        let reference = reference.as_deref();
        let outcome = alignments::compare(&path, reference, scratch.path());
        outcomes.insert(name.to_string(), outcome);
        if !name.ends_with(".sam") {
            continue;
        }
        for (end, mode, options) in alignments::WRITTEN {
            let written = scratch.path().join(format!("written.{end}"));
            if judge::copy_alignments(&path, reference, &written, mode, options).is_ok() {
                let outcome = alignments::compare(&written, reference, scratch.path());
                outcomes.insert(format!("{name} as {end}"), outcome);
            }
        }
    }
    outcomes
}

/// A copy of a FASTA file, with an index.
fn indexed(fasta: &Path, scratch: &Path) -> PathBuf {
    let copy = scratch.join(fasta.file_name().unwrap());
    fs::write(&copy, fs::read(fasta).unwrap()).unwrap();
    judge::index_fasta(&copy);
    copy
}

/// A line of the table: which files (a name; `*` stands for any part of it), how many, what came of
/// them, what is said of it, and the reason.
struct Known {
    files: String,
    count: usize,
    outcome: String,
    says: String,
}

impl Known {
    fn is_of(&self, name: &str, outcome: &Outcome) -> bool {
        let named = is_like(name, &self.files);
        let (kind, says) = outcome.parts();
        named && kind == self.outcome && says.contains(&self.says)
    }
}

/// Whether a name has the parts of a pattern, in their order: `*` stands for anything between them.
fn is_like(name: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return name == pattern;
    };
    let Some(left) = name.strip_prefix(start) else {
        return false;
    };
    (0..=left.len()).any(|i| left.is_char_boundary(i) && is_like(&left[i..], rest))
}

fn known(root: &str) -> Vec<Known> {
    let text = include_str!("differences.tsv");
    let mut lines = Vec::new();
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [place, files, count, outcome, says, reason] = columns[..] else {
            panic!("not six columns: {line}");
        };
        assert!(!reason.is_empty(), "no reason: {line}");
        if place == root {
            lines.push(Known {
                files: files.to_string(),
                count: count.parse().unwrap(),
                outcome: outcome.to_string(),
                says: says.to_string(),
            });
        }
    }
    lines
}

/// Compares the files below a directory, and the differences with those that are known of `root`:
/// what is not.
fn unknown_differences(root: &str, directory: &Path) -> Vec<String> {
    let outcomes = judge(directory);
    assert!(!outcomes.is_empty(), "no files in {}", directory.display());
    for kind in ["alignments", "variants"] {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, outcome) in &outcomes {
            let of = if name.contains(".vcf") || name.contains(".bcf") {
                "variants"
            } else {
                "alignments"
            };
            if of == kind {
                *counts.entry(outcome.parts().0).or_default() += 1;
            }
        }
        let all: usize = counts.values().sum();
        println!("{root}: {kind}: {all} files: {counts:?}");
    }
    let known = known(root);
    let mut found = vec![0; known.len()];
    let mut wrong = Vec::new();
    for (name, outcome) in &outcomes {
        let (kind, says) = outcome.parts();
        if ["equal", "refused by both"].contains(&kind) {
            continue;
        }
        match known.iter().position(|known| known.is_of(name, outcome)) {
            Some(line) => found[line] += 1,
            None => wrong.push(format!("{root}\t{name}\t1\t{kind}\t{says}")),
        }
    }
    for (line, found) in known.iter().zip(found) {
        if line.count != found {
            let Known {
                files, count, says, ..
            } = line;
            wrong.push(format!(
                "{root}: {files}: {says}: {found} files, not {count}"
            ));
        }
    }
    wrong
}

#[test]
fn the_files_of_the_tests_are_read_as_htslib_reads_them() {
    let mut wrong = unknown_differences("tests", Path::new("tests/data"));
    wrong.extend(unknown_differences("data", Path::new("data")));
    match std::env::var_os("CROCUTA_CONFORMANCE") {
        Some(directory) => {
            wrong.extend(unknown_differences("conformance", Path::new(&directory)));
        }
        None => eprintln!("CROCUTA_CONFORMANCE names no directory of other files"),
    }
    assert!(
        wrong.is_empty(),
        "not in differences.tsv:\n{}",
        wrong.join("\n")
    );
}
