//! Training: it learns, its bytes follow from the seed, and a stopped run goes on as if it had not
//! been stopped.

use crate::harness::table::Table;
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
    let args = "fit lambda.fa.gz -m model -o out --validate-file held.bed --steps 300 --batch 8 \
                --chunk 512 --learning-rate 1e-2 --license mit";
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
        card.contains("license: \"mit\"") && card.contains("--steps 300"),
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
fn what_tests_the_weights_is_not_trained_on_and_chooses_nothing() {
    let args = "--steps 6 --validate b:1-1000 --evaluate-every 3 --device cpu";
    let outcome = small(&format!("{args} --test b:1001-2000"))
        .run()
        .succeeds(&MADE);
    let found = metrics(&outcome);
    assert_eq!(found["held_out"], serde_json::json!(["b:1-1000"]));
    assert_eq!(found["tested"], serde_json::json!(["b:1001-2000"]));
    assert_eq!(
        (&found["test"]["bases"], &found["device"]),
        (&999.into(), &"CPU".into())
    );
    assert_eq!(found["precision"], "f32");
    let card = String::from_utf8(outcome.file("out/README.md").to_vec()).unwrap();
    assert!(
        card.contains("## Test") && card.contains("- `b:1001-2000`"),
        "{card}"
    );
    assert!(card.contains(" on CPU, in f32"), "{card}");
    // Held out alike, but as one region that chooses: the training is the same.
    let other = small("--steps 6 --validate b --evaluate-every 9 --device cpu").run();
    let same = small("--steps 6 --test b --evaluate-every 9").run();
    let [other, same] = [other, same].map(|run| {
        let run = run.succeeds(&MADE);
        run.file("out/model.safetensors").to_vec()
    });
    assert!(other == same);
    let error = small(&format!("{args} --test b:1000")).run();
    error.fails(2, &["--test"]);
    small("--steps 6 --device cuda")
        .run()
        .fails(2, &["--device cpu"]);
    small("--steps 6 --corrupt 1.5")
        .run()
        .fails(2, &["--corrupt"]);
}

#[test]
fn corrupted_bases_follow_from_the_seed() {
    let args = "--steps 4 --corrupt 0.3";
    let first = weights(args);
    assert!(weights(args) == first);
    assert!(weights("--steps 4") != first);
}

#[test]
fn only_a_run_that_holds_nothing_out_is_warned_and_once() {
    // Where a model is trained on, its last bases are held out unless others are.
    for (start, args, warnings) in [
        ("--config model/config.json", "", 1),
        ("--config model/config.json", "--validate a:1-500", 0),
        ("-m model", "", 0),
        ("-m model", "--test a:1-500", 0),
    ] {
        let text = record("a", &bases(1, 6000), 60);
        let fixed = "fit a.fa -o out --chunk 256 --batch 4 --length 1000 --steps 1";
        let mut case = Case::new(&format!("{fixed} {start} {args}")).file("a.fa", text);
        let outcome = case.run().succeeds(&MADE);
        let found = outcome.stderr.matches("nothing is held out").count();
        assert_eq!(found, warnings, "{args}: {}", outcome.stderr);
    }
}

#[test]
fn the_seed_decides_every_byte_and_threads_none() {
    let args = "--steps 6 --validate b --evaluate-every 3";
    let first = weights(args);
    assert!(first != model_file("model.safetensors"));
    assert!(weights(&format!("{args} -t 1")) == first);
    assert!(weights(&format!("{args} -t 2 --checkpoint-every 0")) == first);
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
fn a_run_that_is_stopped_says_where_it_stands() {
    let words = ".out.fit: the same command with --resume";
    let mut case = small("--steps 1000000 --validate b --evaluate-every 1000000 --time-limit 1s");
    case.run().ends(143, &[words], &[".out.fit"]);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bytes() {
    let args = "--steps 60 --validate b --evaluate-every 20 --checkpoint-every 0";
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
    assert_eq!(history[0]["step"], 0);
    assert!(found["steps"] == 60 || place + 3 == scores.len());
}

#[test]
fn a_model_is_adapted_to_a_genome_without_further_options() {
    let mut case = Case::new("fit lambda.fa.gz -m model")
        .file("lambda.fa.gz", LAMBDA)
        .seconds(300);
    let made = MADE.map(|name| name.replace("out", "lambda-model"));
    let outcome = case.run().succeeds(&made.each_ref().map(String::as_str));
    let found: serde_json::Value =
        serde_json::from_slice(outcome.file("lambda-model/metrics.json")).unwrap();
    assert_eq!(
        found["held_out"],
        serde_json::json!(["NC_001416.1:46078-48502"])
    );
    let history = found["history"].as_array().unwrap();
    assert_eq!(history[0]["step"], 0);
    let before = history[0]["score"].as_f64().unwrap();
    let after = found["evaluation"]["bits_per_base"].as_f64().unwrap();
    assert!(after < before, "{before} {after}");
    assert!(found["evaluation"]["temperature"].as_f64().unwrap() > 0.0);
    let card = String::from_utf8(outcome.file("lambda-model/README.md").to_vec()).unwrap();
    assert!(
        card.contains("# lambda-model: a language model of DNA"),
        "{card}"
    );
    // The same again takes the directory only by force.
    case.run().fails(2, &["exists already"]);
    let mut case = case.args("fit lambda.fa.gz -m model --steps 1 --force");
    // A file of the user's own would go with it.
    let own = case.path("lambda-model/notes.txt");
    std::fs::write(&own, "mine").unwrap();
    let said = ["holds notes.txt, which no training run made"];
    case.run().fails(2, &said);
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "mine");
    std::fs::remove_file(&own).unwrap();
    let outcome = case.run();
    let found: serde_json::Value =
        serde_json::from_slice(outcome.file("lambda-model/metrics.json")).unwrap();
    assert_eq!(found["steps"], 1);
}

#[test]
fn force_replaces_nothing_but_what_fit_has_made() {
    let mut other = small("--steps 1 --force").file("out/mine", "");
    other.run().fails(2, &["exists already"]);
    // Nor the model that training starts from.
    let mut first = small("--steps 1");
    first.run().succeeds(&MADE);
    for start in ["-m out", "--config out/config.json"] {
        first = first.args(&format!("fit a.fa {start} -o ./out --force --steps 1"));
        first.run().fails(2, &["out: output is also an input"]);
    }
}

#[test]
fn evaluations_take_a_fifth_of_the_time_unless_it_is_said_otherwise() {
    // A step reads 1,024 bases three times, an evaluation 2,000 once: four fifths are three steps.
    let outcome = small("--steps 30 --validate b").run().succeeds(&MADE);
    let found = metrics(&outcome);
    assert_eq!(found["settings"]["evaluate_every"], 3);
}

/// Sequences of which those with the label `yes` hold more of one base.
fn table(seed: u64, rows: usize) -> String {
    let mut text = String::from("sequence,label\n");
    for i in 0..rows {
        let sequence = bases(seed * 1000 + i as u64, 40);
        match i % 2 {
            0 => text.push_str(&format!("{},yes\n", sequence.replace('A', "G"))),
            _ => text.push_str(&format!("{sequence},no\n")),
        }
    }
    text
}

fn labels(args: &str) -> Case {
    let fixed = "fit --objective sequences --table train.csv --validate-table dev.csv \
                 --test-table test.csv -m model -o out --batch 16 --epochs 4";
    Case::new(&format!("{fixed} {args}"))
        .file(
            "train.csv",
            table(1, 200) + table(2, 1).lines().nth(1).unwrap(),
        )
        .file("dev.csv", table(2, 60))
        .file("test.csv", table(3, 60))
        .seconds(120)
}

#[test]
fn labels_of_sequences_are_learned_by_the_head_by_an_adapter_and_by_all() {
    for args in ["--head-only --learning-rate 0.05", "--learning-rate 3e-3"] {
        let outcome = labels(args).run().succeeds(&MADE);
        let found = metrics(&outcome);
        let words = [
            "step 0 of",
            "held-out loss",
            "training loss",
            "test: mcc",
            "linear model",
        ];
        for words in words {
            assert!(
                outcome.stderr.contains(words),
                "{words}: {}",
                outcome.stderr
            );
        }
        // The classes differ by how often bases occur.
        let simple = &found["baselines"][0]["test"]["mcc"];
        assert!(simple.as_f64().unwrap() > 0.7, "{simple}");
        assert!(
            found["evaluation"]["auroc"].as_f64().unwrap() > 0.95,
            "{found}"
        );
        assert!(found["test"]["mcc"].as_f64().unwrap() > 0.7, "{found}");
        assert_eq!(found["settings"]["copies_left_out"], 1);
        assert_eq!(
            found["settings"]["outputs"],
            serde_json::json!(["no", "yes"])
        );
    }
}

#[test]
fn a_model_that_predicts_one_class_is_warned_of_and_one_that_calibrates_says_so() {
    let args = "--head-only --learning-rate 1e-30 --select loss";
    let outcome = labels(args).run().succeeds(&MADE);
    let said = "the model that was kept predicts one class, no";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    // One base has none before it that would predict it.
    let outcome = small("--steps 1 --calibrate --validate a:1-1")
        .run()
        .succeeds(&MADE);
    let said = "--calibrate changed nothing";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    // What was held out is tested again: it has the loss that was promised.
    for shape in ["linear", "mlp", "attention"] {
        let args = format!("--head-only --learning-rate 0.05 --calibrate --head-shape {shape}");
        let found = metrics(
            &labels(&args)
                .file("test.csv", table(2, 60))
                .run()
                .succeeds(&MADE),
        );
        let number = |part: &str, name: &str| found[part][name].as_f64().unwrap();
        let temperature = found["temperature"].as_f64().unwrap();
        assert_eq!(number("evaluation", "temperature"), temperature);
        let [promised, got] = [
            number("evaluation", "bits_at_temperature"),
            number("test", "cross_entropy_bits"),
        ];
        assert!((promised - got).abs() < 5e-3, "{shape}: {promised}, {got}");
    }
    labels("--values --select mcc")
        .run()
        .fails(2, &["--select"]);
}

#[test]
fn an_adapter_merges_into_a_model_with_its_head() {
    let adapter = [
        "out",
        "out/README.md",
        "out/adapter_config.json",
        "out/adapter_model.safetensors",
        "out/loss.svg",
        "out/metrics.json",
    ];
    let mut case = labels("--lora 2 --learning-rate 1e-2");
    let outcome = case.run().succeeds(&adapter);
    let learned = metrics(&outcome)["test"].clone();
    assert!(learned["auroc"].as_f64().unwrap() > 0.95, "{learned}");
    let mut case = case.args("models merge model out -o merged");
    let files = ["merged", "merged/config.json", "merged/model.safetensors"];
    case.run().succeeds(&files);
    let mut case = case.args("models verify merged");
    case.run().succeeds(&[]);
    // The merged model's head says the same: a step at a rate of all but zero changes nothing.
    let mut case = case.args(
        "fit --objective sequences --table train.csv --test-table test.csv -m merged -o again \
         --steps 1 --learning-rate 1e-30",
    );
    let outcome = case.run();
    let found: serde_json::Value =
        serde_json::from_slice(outcome.file("again/metrics.json")).unwrap();
    for name in ["auroc", "cross_entropy_bits"] {
        let (a, b) = (
            found["test"][name].as_f64().unwrap(),
            learned[name].as_f64().unwrap(),
        );
        assert!((a - b).abs() < 1e-4, "{name}: {a} {b}");
    }
}

/// The embeddings of `a.fa`, and the case for the next command.
fn embedded(case: Case, model: &str, out: &str) -> (Case, Table) {
    let mut case = case.args(&format!("embed a.fa {model} --dtype f32 -o {out}"));
    let table = Table::read(case.run().file(out));
    (case, table)
}

#[test]
fn an_adapter_given_to_a_command_is_the_merged_model() {
    let text = record("a", &bases(9, 300), 60);
    let mut case = labels("--lora 2 --learning-rate 1e-2").file("a.fa", text);
    case.run();
    let mut case = case.args("models merge model out -o merged");
    case.run();
    let (case, merged) = embedded(case, "-m merged", "1.parquet");
    let (case, adapted) = embedded(case, "-m model --adapter out", "2.parquet");
    assert!(adapted.vectors("embedding") == merged.vectors("embedding"));
    assert_eq!(adapted.footer["model"]["name"], "model+out");
    let (case, alone) = embedded(case, "-m model", "3.parquet");
    assert!(alone.vectors("embedding") != merged.vectors("embedding"));
    // Twice the same adapter counts twice; its second head goes by the directory's name.
    let (case, twice) = embedded(case, "-m model --adapter out --adapter out", "4.parquet");
    assert!(twice.vectors("embedding") != merged.vectors("embedding"));
    let thrice = "embed a.fa -m model --adapter out --adapter out --adapter out -o x.parquet";
    case.args(thrice).run().fails(2, &["a head named out"]);
}

#[test]
fn values_of_sequences_are_learned() {
    let mut text = String::from("sequence\tlabel\n");
    for i in 0..200 {
        let sequence = bases(i, 40);
        let value = sequence.matches('G').count() as f64 / 10.0;
        text.push_str(&format!("{sequence}\t{value}\n"));
    }
    let args = "fit --objective sequences --table t.tsv --validate-table d.tsv --values -m model \
                -o out --batch 16 --epochs 8 --learning-rate 5e-3";
    let (train, dev) = text.split_at(text.find('\n').unwrap() + 1 + text.len() / 2);
    let cut = train.rfind('\n').unwrap() + 1;
    let dev = format!("sequence\tlabel\n{}{dev}", &train[cut..]);
    let mut case = Case::new(args)
        .file("t.tsv", &train[..cut])
        .file("d.tsv", dev)
        .seconds(120);
    let outcome = case.run().succeeds(&MADE);
    let found = metrics(&outcome);
    assert!(
        found["evaluation"]["spearman"].as_f64().unwrap() > 0.8,
        "{found}"
    );
}
