//! Training: it learns, its bytes follow from the seed, and a stopped run goes on as if it had not
//! been stopped.

use crate::harness::{Case, Outcome, bases, model_file, record};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The first 48,502 bases of the lambda phage.
const LAMBDA: &[u8] = include_bytes!("../../data/lambda.fa.gz");

/// `fit a.fa` to `out` from the small model, some steps of 4 lanes of 256 bases.
fn small(args: &str) -> Case {
    let text = record("a", &bases(1, 6000), 60) + &record("b", &bases(2, 2000), 60);
    let fixed = "fit a.fa -m model -o out --chunk 256 --batch 4 --length 1000";
    Case::new(&format!("{fixed} {args}"))
        .file("a.fa", text)
        .seconds(120)
}

const MADE: [&str; 6] = [
    "out",
    "out/README.md",
    "out/config.json",
    "out/loss.svg",
    "out/metrics.json",
    "out/model.safetensors",
];

fn weights(args: &str) -> Vec<u8> {
    let outcome = small(args).run().succeeds(&MADE);
    outcome.file("out/model.safetensors").to_vec()
}

fn metrics(outcome: &Outcome) -> serde_json::Value {
    serde_json::from_slice(outcome.file("out/metrics.json")).unwrap()
}

#[test]
fn a_trained_model_knows_more_than_how_often_each_base_occurs() {
    let args = "fit lambda.fa.gz -m model -o out --validate-file held.bed --steps 120 --batch 4 \
                --chunk 512 --learning-rate 5e-3 --license mit";
    let mut case = Case::new(args)
        .file("lambda.fa.gz", LAMBDA)
        .file("held.bed", "NC_001416.1\t40000\t48502\n")
        .seconds(300);
    let outcome = case.run().succeeds(&MADE);
    let found = metrics(&outcome);
    let bits = found["evaluation"]["bits_per_base"].as_f64().unwrap();
    let text = decompressed(LAMBDA);
    let held = &text[text.iter().position(|b| *b == b'\n').unwrap()..];
    let held: Vec<u8> = held
        .iter()
        .filter(|b| b.is_ascii_alphabetic())
        .copied()
        .collect();
    let entropy = entropy(&held[40_000..48_502]);
    assert!(bits < entropy, "{bits} bits a base, order 0 has {entropy}");
    assert_eq!(
        found["held_out"],
        serde_json::json!(["NC_001416.1:40001-48502"])
    );
    assert_eq!(found["evaluation"]["bases"], 8501);
    let card = String::from_utf8(outcome.file("out/README.md").to_vec()).unwrap();
    assert!(
        card.contains("license: \"mit\"") && card.contains("--steps 120"),
        "{card}"
    );
    assert!(card.contains(found["data"][0]["sha256"].as_str().unwrap()));
    // Every command opens it.
    let mut case = case.args("models verify out");
    case.run().succeeds(&[]);
    let mut case = case.args("predict lambda.fa.gz -m out -o out.parquet");
    case.run().succeeds(&["out.parquet"]);
}

fn decompressed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .read_to_end(&mut text)
        .unwrap();
    text
}

fn entropy(bases: &[u8]) -> f64 {
    let share = |letter: u8| {
        bases
            .iter()
            .filter(|b| b.to_ascii_uppercase() == letter)
            .count() as f64
            / bases.len() as f64
    };
    b"ACGT"
        .map(|letter| -share(letter) * share(letter).log2())
        .iter()
        .sum()
}

#[test]
fn the_seed_decides_every_byte_and_threads_none() {
    let args = "--steps 6 --validate b --evaluate-every 3";
    let first = weights(args);
    assert!(first != model_file("model.safetensors"));
    assert!(weights(&format!("{args} -t 1")) == first);
    assert!(weights(&format!("{args} -t 2 --save-every 0")) == first);
    assert!(weights(&format!("{args} --seed 1")) != first);
}

#[test]
fn a_chunk_as_long_as_the_passages_truncates_nothing_and_a_longer_one_changes_nothing() {
    let args = "--steps 4 --length 200 --batch 2";
    let case = |chunk: &str| {
        let text = record("a", &bases(1, 3000), 60);
        let mut case = Case::new(&format!("fit a.fa -m model -o out {args} --chunk {chunk}"));
        case = case.file("a.fa", text).seconds(120);
        case.run()
            .succeeds(&MADE)
            .file("out/model.safetensors")
            .to_vec()
    };
    assert!(case("201") == case("100000"));
    assert!(case("201") != case("50"));
}

#[test]
fn a_step_in_parts_is_the_same_step_but_for_rounding() {
    let bits = |args: &str| {
        let outcome = small(&format!("--steps 8 --validate b {args}"))
            .run()
            .succeeds(&MADE);
        metrics(&outcome)["evaluation"]["bits_per_base"]
            .as_f64()
            .unwrap()
    };
    assert!((bits("") - bits("--accumulate 3")).abs() < 1e-4);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bytes() {
    let args = "--steps 60 --validate b --evaluate-every 20 --save-every 0";
    let whole = weights(args);
    let case = small(args);
    let mut child = case
        .command()
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !case.path(".out.fit").exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !case.path("out").exists(),
        "the run was over before it was killed"
    );
    let again = case.args(&format!(
        "fit a.fa -m model -o out --chunk 256 --batch 4 --length 1000 {args}"
    ));
    let mut again = again;
    again.run().fails(2, &[".out.fit", "--resume"]);
    let mut other = again.args(&format!(
        "fit a.fa -m model -o out --chunk 256 --batch 5 --length 1000 {args} --resume"
    ));
    other.run().fails(2, &["batch was 4 and is 5"]);
    let resumed = other.args(&format!(
        "fit a.fa -m model -o out --chunk 256 --batch 4 --length 1000 {args} --resume"
    ));
    let status = resumed
        .command()
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(std::fs::read(resumed.path("out/model.safetensors")).unwrap() == whole);
    assert!(!resumed.path(".out.fit").exists());
}

#[test]
fn a_model_from_nothing_is_made_by_a_configuration_and_a_seed() {
    let run = |seed: u32| {
        let args = format!("fit a.fa --config c.json -o out --steps 2 --chunk 64 --seed {seed}");
        let mut case = Case::new(&args)
            .file("a.fa", record("a", &bases(1, 900), 60))
            .file("c.json", crate::harness::CONFIG)
            .seconds(120);
        case.run()
            .succeeds(&MADE)
            .file("out/model.safetensors")
            .to_vec()
    };
    let first = run(1);
    assert!(run(1) == first && run(2) != first);
}

#[test]
fn what_cannot_be_trained_is_said_before_any_work() {
    for (args, words) in [
        ("--validate a --validate b", "no bases are left"),
        ("--validate c", "no such contig"),
        ("--learning-rate 0", "--learning-rate must be above 0"),
        ("--last-rate 2", "--last-rate must be from 0 to 1"),
    ] {
        small(args).run().fails(2, &[words]);
    }
    let mut taken = small("--steps 1").file("out/mine", "");
    taken.run().fails(2, &["exists already"]);
    let mut twice = small("--steps 1").arg("a.fa");
    twice.run().fails(3, &["contig a stands in a.fa too"]);
}

#[test]
fn early_stopping_keeps_the_best_parameters() {
    // At such a rate the held-out loss soon rises.
    let args = "--steps 60 --validate b --evaluate-every 4 --patience 2 --learning-rate 0.05";
    let outcome = small(args).run().succeeds(&MADE);
    let found = metrics(&outcome);
    let history = found["history"].as_array().unwrap();
    let scores: Vec<f64> = history
        .iter()
        .map(|p| p["score"].as_f64().unwrap())
        .collect();
    let best = scores.iter().copied().fold(f64::INFINITY, f64::min);
    let place = scores.iter().position(|score| *score == best).unwrap();
    assert_eq!(found["kept_step"], history[place]["step"]);
    assert_eq!(found["evaluation"]["bits_per_base"], best);
    assert!(found["steps"] == 60 || place + 3 == scores.len());
}
