//! The pilot: what it writes, that it goes on, and that equal seeds give equal weights.

use crate::harness::table::Table;
use crate::harness::{Case, Outcome, bases, record};
use std::process::Stdio;
use std::time::{Duration, Instant};

const MADE: [&str; 3] = ["out", "out/report.html", "out/results.parquet"];
/// As small as it can be.
const SMALL: &str =
    "--parameters 20000 --length 96 --steps 4 --seeds 2 --distances 16 --budget 4s -t 1";

fn case(args: &str) -> Case {
    let text = record("a", &bases(1, 6000), 60) + &record("b", &bases(2, 700), 60);
    Case::new(args).file("a.fa", text).seconds(120)
}

fn results(outcome: &Outcome) -> Table {
    Table::read(outcome.file("out/results.parquet"))
}

/// Values of an experiment's measure, by candidate and place.
fn values(table: &Table, experiment: &str, measure: &str) -> Vec<(String, Option<i64>, f64)> {
    let (experiments, measures) = (table.words("experiment"), table.words("measure"));
    let (names, places) = (table.words("candidate"), table.integers_or_null("at"));
    let values = table.doubles("value");
    let rows =
        (0..values.len()).filter(|&i| experiments[i] == experiment && measures[i] == measure);
    rows.map(|i| (names[i].clone(), places[i], values[i].unwrap()))
        .collect()
}

#[test]
fn a_pilot_compares_candidates_of_equal_size_and_writes_a_report_that_needs_no_network() {
    let args = format!("pilot a.fa -o out --candidates sliding-window mamba hyena {SMALL}");
    let mut pilot = case(&args);
    let outcome = pilot.run().succeeds(&MADE);
    let mut show = pilot.args("table show out/results.parquet");
    let shown = String::from_utf8(show.run().succeeds(&[]).stdout).unwrap();
    let lines = shown.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| Some(line.split_once(": ")?.0));
    let expected = ["table", "rows", "row groups", "size", "written by"];
    assert_eq!(names.collect::<Vec<_>>(), expected, "{shown}");
    let table = results(&outcome);
    for (name, _, parameters) in values(&table, "candidate", "parameters") {
        assert!(
            (parameters / 20_000.0 - 1.0).abs() <= 0.05,
            "{name}: {parameters}"
        );
    }
    for (experiment, measure, rows) in [
        ("memory", "peak_memory", 3 * 4),
        ("training", "seconds", 3 * 2),
        ("quality", "bits_per_base", 3 * 2 * 2),
        ("recall", "recall", 3),
    ] {
        let found = values(&table, experiment, measure);
        assert_eq!(found.len(), rows, "{experiment} {measure}: {found:?}");
        assert!(found.iter().all(|(.., value)| *value > 0.0), "{found:?}");
    }
    // Longer steps are left out where so little time does not suffice for them.
    let found = values(&table, "latency", "step_p99");
    let of_one = found.iter().filter(|(_, bases, _)| *bases == Some(1));
    assert_eq!(of_one.count(), 3, "{found:?}");
    // Random bases have two bits each.
    for (name, _, bits) in values(&table, "quality", "bits_per_base") {
        assert!((1.9..4.0).contains(&bits), "{name}: {bits}");
    }
    let report = String::from_utf8(outcome.file("out/report.html").to_vec()).unwrap();
    for word in [
        "Memory against length",
        "Pareto",
        "sha",
        "mamba",
        "held out",
        "<svg",
    ] {
        assert!(report.contains(word), "{word}");
    }
    let links = report.matches("http").count();
    let names = report.matches("http://www.w3.org/2000/svg").count();
    assert_eq!(
        (links, report.contains("<script"), report.contains("src=")),
        (names, false, false)
    );
    let said = String::from_utf8(outcome.stdout.clone()).unwrap();
    assert!(
        said.contains("After equal bases") && said.ends_with("out/report.html\n"),
        "{said}"
    );
    assert!(said.lines().count() <= 11, "{said}");
}

#[test]
fn equal_seeds_give_equal_weights_and_what_cannot_be_trained_is_noted() {
    let weights = |threads| {
        let args = format!("pilot a.fa -o out --candidates s4d nystrom {SMALL}");
        let args = args.replace("-t 1", threads);
        let outcome = case(&args).run().succeeds(&MADE);
        let footer = results(&outcome).footer;
        let report = String::from_utf8(outcome.file("out/report.html").to_vec()).unwrap();
        assert!(
            report.contains("nystrom") && report.contains("not trained"),
            "{report}"
        );
        footer["weights_sha256"].clone()
    };
    let first = weights("-t 1");
    assert_eq!(first, weights("-t 2"));
    let of = |seed| first[format!("quality/s4d/{seed}")].as_str().unwrap();
    assert_ne!(of(0), of(1));
}

#[test]
fn a_stopped_pilot_goes_on_with_the_same_command_and_refuses_another() {
    let args = format!("pilot a.fa -o out --candidates sliding-window s4d {SMALL}");
    let mut case = case(&args);
    let mut child = case
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let kept = case.path(".out.pilot");
    let lines = || {
        std::fs::read_to_string(&kept)
            .unwrap_or_default()
            .lines()
            .count()
    };
    let begun = Instant::now();
    while lines() < 6 && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // SAFETY: a signal to a child that was not waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let before = lines();
    assert!(before >= 6 && !case.path("out").exists());
    let mut other = case.copy();
    other = other.args(&args.replace("--seeds 2", "--seeds 1"));
    other.run().fails(2, &["cannot go on: seeds"]);
    let outcome = case.run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(
        outcome
            .stderr
            .contains(&format!("after {} measurements", before - 1))
    );
    assert!(!kept.exists());
}

#[test]
fn memory_of_full_attention_grows_with_the_sequence_and_of_a_state_space_it_does_not() {
    let args = "pilot long.fa -o out --candidates transformer s4d sliding-window --parameters 20000 \
                --length 64 --steps 1 --seeds 1 --distances 4 --budget 60s -t 1";
    let outcome = case(args)
        .file("long.fa", record("a", &bases(3, 1 << 16), 60))
        .run()
        .succeeds(&MADE);
    let found = values(&results(&outcome), "memory", "peak_memory");
    let peak = |name: &str, at: i64| {
        let row = found.iter().find(|row| row.0 == name && row.1 == Some(at));
        row.map(|row| row.2).unwrap()
    };
    let growth = |name| peak(name, 1 << 16) - peak(name, 16_384);
    // Keys and values of each base, of all blocks.
    assert!(growth("transformer") > 16e6, "{found:?}");
    for name in ["s4d", "sliding-window"] {
        assert!(growth(name).abs() < 8e6, "{name}: {found:?}");
    }
}

#[test]
fn labels_of_sequences_are_learned_from_a_table_of_which_a_part_is_held_out() {
    let row = |i: u64| {
        let word = if i.is_multiple_of(2) {
            "GGGGGGGG"
        } else {
            "TTTTTTTT"
        };
        format!("{}{word}{},{}\n", bases(i, 20), bases(i + 900, 20), i % 2)
    };
    let table = "sequence,label\n".to_string() + &(0..200).map(row).collect::<String>();
    let args = format!("pilot --table t.csv -o out --candidates sliding-window s4d {SMALL}");
    let args = args.replace("--steps 4", "--steps 30");
    let outcome = Case::new(&args)
        .file("t.csv", table)
        .seconds(120)
        .run()
        .succeeds(&MADE);
    let found = values(&results(&outcome), "quality", "mcc");
    assert!(found.iter().any(|(.., mcc)| *mcc > 0.5), "{found:?}");
}

#[test]
fn rare_labels_are_learned_from_what_is_near_them_and_a_published_transformer_says_why_not() {
    // A word of eight bases whose last one is of a class.
    let word = "GATTACAG";
    let text = (0..60u64).map(|i| bases(i, 152) + word + &bases(60 + i, 40));
    let text: String = text.collect();
    let mark = |i: usize| format!("a\t{}\t{}\tend\n", 200 * i + 159, 200 * i + 160);
    let marks: String = (0..60).map(mark).collect();
    let published = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/goldens/pretrained/llama"
    );
    let args =
        format!("pilot a.fa --labels a.bed -o out --candidates s4d hyena {published} {SMALL}");
    let outcome = Case::new(&args)
        .file("a.fa", record("a", &text, 60))
        .file("a.bed", marks)
        .seconds(120)
        .run()
        .succeeds(&MADE);
    let table = results(&outcome);
    let found = values(&table, "quality", "auroc");
    for name in ["s4d", "hyena"] {
        assert!(found.iter().any(|row| row.0 == name), "{found:?}");
    }
    let report = String::from_utf8(outcome.file("out/report.html").to_vec()).unwrap();
    for words in [
        "windows of 96 bases that have labels",
        "not trained: a published Transformer",
    ] {
        assert!(report.contains(words), "{words}");
    }
}

#[test]
fn what_a_pilot_cannot_measure_is_said_before_it_begins() {
    for (args, code, words) in [
        ("pilot -o out", 2, "a FASTA file, or a --table"),
        (
            "pilot a.fa -o out --candidates hyaena",
            2,
            "transformer, sliding-window",
        ),
        ("pilot none.fa -o out", 5, "none.fa"),
        ("pilot a.fa -o model", 2, "exists already"),
        (
            "pilot a.fa -o out --candidates s4d hyena --parameters 20000 --budget 1s",
            2,
            "too short for 2 candidates",
        ),
    ] {
        case(args).run().fails(code, &[words]);
    }
}
