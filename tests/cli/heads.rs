//! Heads of whole sequences, applied: a row for each record, whatever the file and the chunk.

use crate::harness::compare::within;
use crate::harness::table::Table;
use crate::harness::{Case, Outcome, bases};

/// Sequences by name, those with an even number richer in G.
fn sequences(seed: u64, rows: usize) -> Vec<(String, String)> {
    let sequence = |i: usize| {
        let bases = bases(seed * 1000 + i as u64, 40 + i % 7);
        let rich = i.is_multiple_of(2);
        let bases = if rich { bases.replace('A', "G") } else { bases };
        (format!("s{i}"), bases)
    };
    (0..rows).map(sequence).collect()
}

fn labelled(sequences: &[(String, String)]) -> String {
    let rows = sequences.iter().enumerate();
    let rows = rows.map(|(i, (name, bases))| {
        let label = if i.is_multiple_of(2) { "rich" } else { "poor" };
        format!("{name},{bases},{label}\n")
    });
    format!("name,sequence,label\n{}", rows.collect::<String>())
}

/// A case in which the adapter `out` tells the classes apart, by a head of this shape.
fn classifier(shape: &str) -> Case {
    let all = sequences(3, 30);
    let fasta = all
        .iter()
        .map(|(name, bases)| format!(">{name}\n{bases}\n"));
    let fastq = all
        .iter()
        .map(|(name, bases)| format!("@{name}\n{bases}\n+\n{}\n", "I".repeat(bases.len())));
    let mut case = Case::new(&format!(
        "fit --objective sequences --table train.csv --validate-table dev.csv -m model -o out \
         --lora 2 --batch 16 --epochs 4 --learning-rate 1e-2 --head-shape {shape}"
    ))
    .file("train.csv", labelled(&sequences(1, 120)))
    .file("dev.csv", labelled(&sequences(2, 30)))
    .file("test.csv", labelled(&all))
    .file("test.fa", fasta.collect::<String>())
    .file("test.fastq", fastq.collect::<String>())
    .seconds(120);
    case.run();
    case
}

/// Runs a command, and the case for the next one.
fn then(case: Case, args: &str) -> (Case, Outcome) {
    let mut case = case.args(args);
    let outcome = case.run();
    (case, outcome)
}

fn probabilities(outcome: &Outcome) -> Vec<f32> {
    let found = Table::read(outcome.file("o.parquet")).numbers("prob_rich");
    found.into_iter().map(Option::unwrap).collect()
}

#[test]
fn a_head_of_sequences_says_the_same_of_a_record_in_any_file_and_chunk() {
    for shape in ["linear", "attention"] {
        let predict = "predict --adapter out -m model -o o.parquet --force";
        let (case, csv) = then(classifier(shape), &format!("{predict} test.csv"));
        let table = Table::read(csv.file("o.parquet"));
        assert_eq!(table.footer["table"], "sequences");
        let expected = probabilities(&csv);
        assert_eq!(expected.len(), 30);
        let right = |(i, p): (usize, &f32)| (*p > 0.5) == i.is_multiple_of(2);
        let right = expected.iter().enumerate().filter(|&found| right(found));
        assert!(right.count() > 24, "{expected:?}");
        let class = table.words_or_null("class");
        for (class, p) in class.iter().zip(&expected) {
            assert_eq!(class.as_deref() == Some("rich"), *p > 0.5);
        }
        let mut case = case;
        for args in ["test.fa", "test.fastq", "test.csv --chunk 7"] {
            let (next, outcome) = then(case, &format!("{predict} {args}"));
            let found = probabilities(&outcome);
            within(args, &found, &expected, 1e-5);
            case = next;
        }
        let reads = "reads test.fastq --adapter out -m model -o o.parquet --force";
        let (_, outcome) = then(case, reads);
        within("reads", &probabilities(&outcome), &expected, 1e-5);
    }
}

#[test]
fn heads_are_listed_and_what_is_absent_or_left_aside_is_said() {
    let (case, shown) = then(classifier("linear"), "models show model --adapter out");
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("label, of sequences, classes poor, rich"),
        "{shown}"
    );
    let base = "predict --adapter out -m model -o o.parquet";
    let (case, outcome) = then(case, &format!("{base} test.csv --head genes"));
    outcome.fails(2, &["the model has no head \"genes\"", "\"label\", lm"]);
    let (case, outcome) = then(case, &format!("{base} test.csv --bin 10"));
    outcome.fails(2, &["\"label\" describes whole sequences: no --bin"]);
    let (case, outcome) = then(case, &format!("{base} test.fa --head lm"));
    assert!(
        outcome
            .stderr
            .contains("heads that this run does not use: label")
    );
    let (_, outcome) = then(case, "reads test.fa --adapter out -m model -o r.parquet");
    outcome.fails(3, &["this is FASTA, not a file of reads"]);
}

#[test]
fn nothing_is_left_of_a_head_whose_place_an_adapter_s_head_takes() {
    let fit = |start: &str, output: &str, args: &str| {
        format!(
            "fit --objective sequences --table train.csv --validate-table dev.csv -m {start} \
             -o {output} --batch 16 --epochs 1 {args}"
        )
    };
    let mut case = Case::new(&fit("model", "whole", "--head-only --head-shape mlp"))
        .file("train.csv", labelled(&sequences(1, 40)))
        .file("dev.csv", labelled(&sequences(2, 20)))
        .seconds(120);
    assert_eq!(case.run().code, Some(0));
    let (case, shown) = then(case, "models show whole");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("crocuta_heads.label.hidden"));
    let (case, made) = then(case, &fit("whole", "lora", "--lora 2"));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let (_, shown) = then(case, "models show whole --adapter lora");
    let shown = String::from_utf8(shown.succeeds(&[]).stdout).unwrap();
    assert!(shown.contains("crocuta_heads.label"), "{shown}");
    assert!(!shown.contains("hidden"), "{shown}");
}
