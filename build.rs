//! Says which commit a release was built of, for `crocuta version`: `CROCUTA_COMMIT`, or what a
//! published crate or a clone knows. Not knowing it is no error.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CROCUTA_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("CROCUTA_COMMIT").ok();
    // In other profiles every commit would compile the program again.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| release.then(|| published().or_else(cloned))?);
    if let Some(commit) = commit.filter(|commit| commit.bytes().all(|b| b.is_ascii_alphanumeric()))
    {
        println!("cargo::rustc-env=CROCUTA_COMMIT={commit}");
    }
}

/// What `cargo package` wrote.
fn published() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    Some(rest.split('"').nth(1)?.to_string())
}

/// The commit of the clone that this is the root of.
fn cloned() -> Option<String> {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        out.status.success().then(|| text.trim().to_string())
    };
    // Not that of a repository around it, into which the sources were unpacked.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    println!("cargo::rerun-if-changed={log}");
    git(&["rev-parse", "HEAD"])
}
