//! Training runs that were stopped go on only as what they were; two runs do not make one output; a
//! check says what a run would take.

use crate::harness::{Case, bases, model_file, record};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Starts the run, and waits until it was saved for the first time.
fn begun(case: &Case) -> Child {
    let mut command = case.command();
    let child = command.stderr(Stdio::null()).stdout(Stdio::null());
    let child = child.spawn().unwrap();
    let start = Instant::now();
    while !case.path(".out.fit").exists() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Starts the run, and kills it after its first steps.
fn stopped(case: &Case) {
    let mut child = begun(case);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !case.path("out").exists(),
        "the run was over before it was killed"
    );
}

/// The run goes on neither with another file of these, nor with other options.
fn resumes_as_it_was(
    mut case: Case,
    args: &str,
    files: &[(&str, Vec<u8>, &str)],
    options: &[(&str, &str)],
) {
    stopped(&case);
    let refused = |case: Case, args: &str, words: &str| -> Case {
        let mut case = case.args(args);
        case.run().fails(2, &["cannot resume", words]);
        case
    };
    for (file, bytes, words) in files {
        let before = std::fs::read(case.path(file)).ok();
        case = refused(case.file(file, bytes), &format!("{args} --resume"), words);
        match before {
            Some(before) => std::fs::write(case.path(file), before).unwrap(),
            None => std::fs::remove_file(case.path(file)).unwrap(),
        }
    }
    for (option, words) in options {
        case = refused(case, &format!("{args} --resume {option}"), words);
    }
    // As it was, it goes on.
    case = case.args(&format!("{args} --resume"));
    let mut child = case.command().stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    for line in lines.map(Result::unwrap) {
        said.push(line);
        if said.last().unwrap().contains("going on after step") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let said = said.join("\n");
    assert!(!said.contains("cannot resume"), "{said}");
    assert!(said.contains("going on after step"), "{said}");
}

/// The model's files, each changed in a way that leaves it a model.
fn other_models() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let config = String::from_utf8(model_file("config.json")).unwrap();
    let config = config.replacen('{', "{\"_note\": 1, ", 1).into_bytes();
    let mut weights = model_file("model.safetensors");
    let last = weights.len() - 4;
    weights[last] ^= 1;
    vec![
        (
            "model/config.json",
            config,
            "config.json of the start differs",
        ),
        (
            "model/model.safetensors",
            weights,
            "weights of the start differs",
        ),
        (
            "model/vocab.json",
            b"{}".to_vec(),
            "vocab.json of the start",
        ),
    ]
}

fn genomes(seed: u64) -> String {
    record("a", &bases(seed, 3000), 60) + &record("b", &bases(seed + 1, 600), 60)
}

const STEPS: &str = "--steps 100000 --evaluate-every 100000 --checkpoint-every 0 --batch 2";

#[test]
fn a_run_on_genomes_goes_on_only_as_what_it_was() {
    let args =
        &format!("fit a.fa -m model -o out --chunk 64 --length 200 --validate-file v.bed {STEPS}");
    let case = Case::new(args)
        .file("a.fa", genomes(1))
        .file("v.bed", "b\t0\t100\n")
        .seconds(120);
    let mut files = vec![
        (
            "a.fa",
            genomes(3).into_bytes(),
            "FASTA a.fa (file 1) differs",
        ),
        (
            "v.bed",
            b"b\t0\t101\n".to_vec(),
            "held_out was [\"b:1-100\"] and is [\"b:1-101\"]",
        ),
    ];
    files.extend(other_models());
    let options = [
        ("--seed 1", "seed was 0 and is 1"),
        (
            "--learning-rate 0.01",
            "learning_rate was 0.001 and is 0.01",
        ),
        ("--warm-up 3", "warm_up"),
        ("--last-rate 0.5", "last_rate"),
        ("--weight-decay 0", "weight_decay"),
        ("--clip 2", "clip"),
        ("--patience 3", "patience"),
        ("--accumulate 2", "accumulate was 1 and is 2"),
        ("--corrupt 0.1", "corrupt"),
        ("--strand forward", "strand was \"both\" and is \"forward\""),
        ("--lora 2", "trained was \"all\""),
        ("--test a:1-100", "tested was []"),
    ];
    resumes_as_it_was(case, args, &files, &options);
}

#[test]
fn a_run_on_labels_goes_on_only_as_what_it_was() {
    let args = &format!(
        "fit --objective tracks a.fa --labels l.gff3 -m model -o out --length 200 --head-only {STEPS}"
    );
    let gene = |end: u64| {
        format!("a\ts\tgene\t10\t{end}\t.\t+\t.\tID=g\na\ts\texon\t20\t30\t.\t+\t.\tID=e\n")
    };
    let case = Case::new(args)
        .file("a.fa", genomes(1))
        .file("l.gff3", gene(500))
        .seconds(120);
    let mut files = vec![
        (
            "a.fa",
            genomes(3).into_bytes(),
            "FASTA a.fa (file 1) differs",
        ),
        (
            "l.gff3",
            gene(501).into_bytes(),
            "labels l.gff3 (file 2) differs",
        ),
    ];
    files.extend(other_models());
    let options = [
        ("--feature gene", "head differs"),
        ("--head-shape mlp", "head differs"),
        ("--both-strands", "head differs"),
        (
            "--class-weights balanced",
            "class_weights was \"none\" and is \"balanced\"",
        ),
        ("--strand both", "strand"),
    ];
    resumes_as_it_was(case, args, &files, &options);
}

#[test]
fn a_run_on_tables_goes_on_only_as_what_it_was() {
    let args = &format!(
        "fit --objective sequences --table t.csv --validate-table v.csv --test-table x.csv -m model -o out {STEPS}"
    );
    let table = |seed: u64| {
        let rows = (0..20).map(|i| format!("{},{}\n", bases(seed + i, 30), i % 2));
        format!("sequence,label\n{}", rows.collect::<String>())
    };
    let case = Case::new(args)
        .file("t.csv", table(1))
        .file("v.csv", table(100))
        .file("x.csv", table(200))
        .seconds(120);
    let mut files = vec![
        (
            "t.csv",
            table(2).into_bytes(),
            "table t.csv (file 1) differs",
        ),
        (
            "v.csv",
            table(101).into_bytes(),
            "table to validate v.csv (file 2) differs",
        ),
        (
            "x.csv",
            table(201).into_bytes(),
            "table to test x.csv (file 3) differs",
        ),
    ];
    files.extend(other_models());
    resumes_as_it_was(
        case,
        args,
        &files,
        &[
            ("--values", "outputs was [\"0\",\"1\"] and is [\"value\"]"),
            ("--seed 2", "seed"),
        ],
    );
}

#[test]
fn an_output_that_another_run_makes_is_in_use() {
    let args = format!("fit a.fa -m model -o out --chunk 64 --length 200 {STEPS}");
    let mut case = Case::new(&args).file("a.fa", genomes(1)).seconds(20);
    let mut first = begun(&case);
    for second in [
        args.as_str(),
        "models new --preset hyenadna-tiny-1k -o out",
        "models convert crocuta-bacteria --dtype f32 -o out",
    ] {
        case = case.args(second);
        // The first one writes meanwhile.
        let outcome = case.run();
        assert_eq!(outcome.code, Some(2), "{second}: {}", outcome.stderr);
        let said = &outcome.stderr;
        assert!(said.contains("out: in use"), "{second}: {said}");
    }
    first.kill().unwrap();
    first.wait().unwrap();
    case = case.args("models new --preset hyenadna-tiny-1k -o out");
    assert_eq!(case.run().code, Some(0));
}

#[test]
fn a_check_says_what_a_run_would_take_and_writes_nothing() {
    let args = "check fit a.fa -m model -o out --chunk 256 --batch 4 --length 1000 --steps 10 --validate b";
    let outcome = Case::new(args).file("a.fa", genomes(1)).run().succeeds(&[]);
    let said = String::from_utf8(outcome.stdout).unwrap();
    for line in [
        "steps: 10",
        "bases in training: 10240",
        "bases in evaluations: 6600",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
    for words in [
        "parameters: ",
        "memory besides the weights: ",
        "bases a second",
        "time: ",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let tracks =
        "check fit --objective tracks a.fa --labels l.bed -m model -o out --batch 1 --epochs 1";
    let case = Case::new(tracks)
        .file("a.fa", genomes(1))
        .file("l.bed", "a\t5\t9\n");
    let outcome = { case }.run().succeeds(&[]);
    assert!(
        String::from_utf8(outcome.stdout)
            .unwrap()
            .contains("time: ")
    );
}
