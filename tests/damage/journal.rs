//! Damaged journals of runs that were stopped: never another table.

use crate::harness::{Case, bases, listing, record};
use std::process::Stdio;
use std::time::{Duration, Instant};

const LINE: &str =
    "embed a.fa -m model -o out.parquet -t 1 --chunk 512 --resume --checkpoint-every 0";
const JOURNAL: &str = ".out.parquet.journal";

/// A run that was killed after its first checkpoint.
fn killed() -> Case {
    let case = Case::new(LINE).file("a.fa", record("a", &bases(1, 20_000), 60));
    let mut child = case.command().stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !case.path(JOURNAL).join("journal.json").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !case.path("out.parquet").exists(),
        "over before it was killed"
    );
    case
}

#[test]
fn a_damaged_journal_starts_the_run_anew_and_never_gives_another_table() {
    let case = killed();
    let mut whole =
        Case::embed(record("a", &bases(1, 20_000), 60), "-t 1 --chunk 512").seconds(120);
    let whole = whole.run();
    let entry = std::fs::read_to_string(case.path(JOURNAL).join("journal.json")).unwrap();
    let (mut needed, mut damages) = (0, 0);
    for name in listing(&case.path(JOURNAL)).into_keys() {
        let is_needed = name == "journal.json" || entry.contains(&format!("\"{name}\""));
        needed += usize::from(is_needed);
        for damage in ["flip", "cut", "delete", "directory"] {
            let other = case.copy();
            let path = other.path(JOURNAL).join(&name);
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            std::fs::remove_file(&path).unwrap();
            match damage {
                "flip" if !bytes.is_empty() => {
                    bytes[middle] ^= 4;
                    std::fs::write(&path, bytes).unwrap();
                }
                "cut" => std::fs::write(&path, &bytes[..middle]).unwrap(),
                "directory" => std::fs::create_dir(&path).unwrap(),
                _ => {}
            }
            let output = other.command().output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let what = format!("{name}: {damage}");
            assert_eq!(output.status.code(), Some(0), "{what}\n{said}");
            let table = std::fs::read(other.path("out.parquet")).unwrap();
            assert!(table == whole.file("out.parquet"), "{what}: another table");
            // Without its entry a journal is none.
            let is_damage = is_needed && (name.as_str(), damage) != ("journal.json", "delete");
            assert_eq!(said.contains("damaged: "), is_damage, "{what}\n{said}");
            assert!(!other.path(JOURNAL).exists(), "{what}");
            damages += 1;
        }
    }
    assert!(
        needed >= 5 && damages >= 20,
        "{needed} files, {damages} damages"
    );
}
