//! Heads of whole sequences, applied: a row for each record, whatever the file and the chunk.

use crate::harness::compare::within;
use crate::harness::table::Table;
use crate::harness::{Case, Outcome, bases, record};

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

/// A model, as it is shown, without its name and digest.
fn shown(case: Case, model: &str) -> (Case, String) {
    let (case, outcome) = then(case, &format!("models show {model}"));
    let text = String::from_utf8(outcome.succeeds(&[]).stdout).unwrap();
    let own = text.lines().filter(|line| {
        let key = line.split(':').next().unwrap_or_default();
        !["name", "sha256"].contains(&key)
    });
    let own: Vec<&str> = own.collect();
    (case, own.join("\n"))
}

#[test]
fn nothing_is_left_of_a_head_whose_place_another_takes_and_other_heads_stay() {
    let fit = |start: &str, output: &str, args: &str| {
        format!(
            "fit --objective sequences --table train.csv --validate-table dev.csv -m {start} \
             -o {output} --batch 16 --epochs 1 {args}"
        )
    };
    let case = Case::new("")
        .file("train.csv", labelled(&sequences(1, 40)))
        .file("dev.csv", labelled(&sequences(2, 20)))
        .file("a.fa", record("a", &bases(1, 1500), 60))
        .file("l.bed", "a\t100\t300\na\t600\t900\n")
        .seconds(120);
    let mut case = case;
    let tracks = "fit --objective tracks a.fa --labels l.bed -m model -o tracks --head-only \
                  --length 128 --steps 1";
    for line in [
        tracks,
        &fit("tracks", "whole", "--head-only --head-shape mlp"),
        &fit("whole", "again", "--head-only"),
        &fit("whole", "lora", "--lora 2"),
        "models merge whole lora -o merged",
        "models verify merged",
    ] {
        let (next, outcome) = then(case, line);
        assert_eq!(outcome.code, Some(0), "{line}\n{}", outcome.stderr);
        case = next;
    }
    let (case, whole) = shown(case, "whole");
    assert!(whole.contains("crocuta_heads.label.hidden"), "{whole}");
    let (case, adapted) = shown(case, "whole --adapter lora");
    let (case, merged) = shown(case, "merged");
    let (_, again) = shown(case, "again");
    for text in [&adapted, &merged, &again] {
        assert!(text.contains("crocuta_heads.label.weight"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
        assert!(text.contains("tracks, of bases"), "{text}");
    }
    assert_eq!(merged, adapted);
}

#[test]
fn other_weights_than_an_adapter_was_trained_on_are_warned_of_whatever_directories_are_called() {
    let case = classifier("linear");
    for (from, to) in [("model", "renamed"), ("out", "moved")] {
        std::fs::rename(case.path(from), case.path(to)).unwrap();
    }
    std::fs::create_dir(case.path("other")).unwrap();
    let new = "models new --config renamed/config.json --seed 9 -o other/model";
    let (case, made) = then(case, new);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let predict = "predict test.csv --adapter moved --force -o o.parquet -m";
    let (case, same) = then(case, &format!("{predict} renamed"));
    assert_eq!(same.code, Some(0), "{}", same.stderr);
    assert!(!same.stderr.contains("trained on"), "{}", same.stderr);
    let (case, other) = then(case, &format!("{predict} other/model"));
    let said = "trained on model, and is applied to model, whose files have another digest";
    assert!(other.stderr.contains(said), "{}", other.stderr);
    let (case, none) = then(case, "models show renamed --adapter renamed");
    none.fails(4, &["renamed: no adapter_config.json: give an adapter's"]);
    // PEFT does not write down which weights they were: the names are compared.
    let path = case.path("moved/adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("base_sha256", "_")).unwrap();
    for (model, warns) in [("renamed", true), ("other/model", false)] {
        let outcome = then(case.copy(), &format!("{predict} {model}")).1;
        let warned = outcome.stderr.contains("if these are not the same weights");
        assert_eq!(warned, warns, "{}", outcome.stderr);
    }
}
