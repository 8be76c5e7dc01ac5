//! `--adapt`: the model of a run, brought closer to what it reads.

use crate::harness::{Case, record};

/// The bits a base that the log of such a run tells, before and after.
fn bits(said: &str) -> [f64; 2] {
    let (_, rest) = said.split_once("adapted to a.fa: ").unwrap();
    let mut words = rest.split_whitespace();
    let numbers = words.by_ref().filter_map(|word| word.parse().ok());
    let numbers: Vec<f64> = numbers.take(2).collect();
    numbers.try_into().unwrap()
}

#[test]
fn an_adapted_model_knows_its_genome_better_and_a_run_repeats_to_the_byte() {
    // A word of 17 bases again and again: soon learned.
    let genome = record("c1", &"ACGTTGCAATCCGATTA".repeat(400), 60);
    for command in ["predict", "embed"] {
        let run = |args: &str| {
            let case = Case::new(&format!("{command} a.fa -m model -o out.parquet{args}"));
            let case = case.file("a.fa", genome.clone());
            { case }.run().succeeds(&["out.parquet"])
        };
        let [plain, first, again] = ["", " --adapt", " --adapt"].map(run);
        let [before, after] = bits(&first.stderr);
        assert!(after < before - 0.1, "{}", first.stderr);
        assert!(first.file("out.parquet") == again.file("out.parquet"));
        assert!(first.file("out.parquet") != plain.file("out.parquet"));
    }
}

#[test]
fn no_model_is_adapted_under_a_head_that_does_not_learn_along() {
    for args in [
        "-m model --genes out.gff3",
        "-m model --bed out.bed",
        "-m model --head classes",
    ] {
        let mut case = Case::new(&format!("predict a.fa {args} --adapt"));
        case = case.file("a.fa", record("c1", "ACGTACGT", 60));
        case.run().fails(2, &["--adapt trains the encoder"]);
    }
}
