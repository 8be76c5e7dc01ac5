//! `--exact`: whole sequences through models that are bidirectional, over scratch files.

#![allow(clippy::unwrap_used)] // helpers outside the test functions

#[path = "../src/ops/testing/compare.rs"]
mod compare;

use assert_cmd::Command;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Lengths of the sequences; the chunk of 64 divides one of them.
const LENGTHS: [usize; 4] = [500, 1, 128, 77];

fn model(name: &str) -> PathBuf {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    goldens.join(name)
}

fn fasta(directory: &Path) -> PathBuf {
    let mut text = String::new();
    for (s, length) in LENGTHS.into_iter().enumerate() {
        let base = |i: usize| b"ACGTNacgt"[(i * i + s * i + i / 7) % 9] as char;
        let bases: String = (0..length).map(base).collect();
        text += &format!(">s{s}\n{bases}\n");
    }
    let path = directory.join("genome.fa");
    fs::write(&path, text).unwrap();
    path
}

fn crocuta(directory: &Path, command: &[&str], model_name: &str, options: &[&str]) -> Command {
    let mut crocuta = Command::cargo_bin("crocuta").unwrap();
    crocuta.args(command).arg(fasta(directory));
    crocuta.arg("-m").arg(model(model_name)).args(options);
    crocuta
}

/// The rows of the table that the options give, and its metadata.
fn table(command: &str, model_name: &str, options: &[&str]) -> (Vec<Row>, serde_json::Value) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.parquet");
    let mut crocuta = crocuta(directory.path(), &[command], model_name, options);
    crocuta.arg("-o").arg(&path).assert().success();
    // The input and the output: scratch files have no names.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata();
    let about = pairs.unwrap().iter().find(|pair| pair.key == "crocuta");
    let about = serde_json::from_str(about.unwrap().value.as_deref().unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    (rows.map(Result::unwrap).collect(), about)
}

/// A column as numbers; NULL is NaN.
fn numbers(row: &Row, name: &str) -> Vec<f32> {
    let field = row.get_column_iter().find(|column| column.0 == name);
    match field.unwrap().1 {
        Field::ListInternal(list) => list.elements().iter().map(number).collect(),
        field => vec![number(field)],
    }
}

fn number(field: &Field) -> f32 {
    match field {
        Field::Float(x) => *x,
        Field::Long(x) => *x as f32,
        Field::Int(x) => *x as f32,
        Field::Null => f32::NAN,
        other => panic!("{other}"),
    }
}

fn chromosome(row: &Row) -> Vec<u8> {
    let field = row.get_column_iter().find(|column| column.0 == "chrom");
    match field.unwrap().1 {
        Field::Str(text) => text.as_bytes().to_vec(),
        other => panic!("{other}"),
    }
}

fn close(found: &[Row], expected: &[Row], column: &str) {
    assert_eq!(found.len(), expected.len());
    let values = expected.iter().flat_map(|row| numbers(row, column));
    let values: Vec<f32> = values.collect();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(chromosome(found), chromosome(expected));
        for key in ["start", "end"] {
            assert_eq!(numbers(found, key), numbers(expected, key));
        }
    }
    let found: Vec<f32> = (found.iter())
        .flat_map(|row| numbers(row, column))
        .collect();
    assert!(compare::largest(&values) > 0.0);
    compare::close(column, &found, &values, 1e-5);
}

#[test]
fn exact_embeddings_are_those_of_a_window_over_the_whole_sequence() {
    for name in ["caduceus-ph", "caduceus-ps", "caduceus-ps-mamba2"] {
        let window = ["--dtype", "f32", "--window", "1000"];
        let (expected, _) = table("embed", name, &window);
        assert_eq!(expected.len(), LENGTHS.iter().sum::<usize>());
        for chunk in ["64", "7", "1000"] {
            let exact = ["--dtype", "f32", "--exact", "--chunk", chunk];
            let (found, about) = table("embed", name, &exact);
            close(&found, &expected, "embedding");
            assert_eq!(about["inference"]["mode"], "exact");
            for (found, expected) in found.iter().zip(&expected) {
                let key = "context_left";
                assert_eq!(numbers(found, key), numbers(expected, key));
            }
        }
    }
}

#[test]
fn exact_bins_and_regions_see_the_context_that_they_are_given() {
    let rest = ["--dtype", "f32", "--bin", "50", "--region", "s0:101-333"];
    let run = |mode: &[&str]| {
        let options = [&rest[..], &["--context", "90"], mode].concat();
        table("embed", "caduceus-ps", &options).0
    };
    let expected = run(&["--window", "1000"]);
    assert_eq!(expected.len(), 5);
    close(&run(&["--exact", "--chunk", "64"]), &expected, "embedding");
}

#[test]
fn exact_logits_are_those_of_a_window_and_no_base_is_predicted() {
    let (expected, _) = table("predict", "caduceus-ps", &["--logits", "--window", "1000"]);
    let exact = ["--logits", "--exact", "--chunk", "64"];
    let (found, about) = table("predict", "caduceus-ps", &exact);
    close(&found, &expected, "logits");
    for row in &found {
        for column in ["logp_base", "p_A", "p_other", "entropy"] {
            assert!(numbers(row, column)[0].is_nan());
        }
    }
    assert!(about["params"].get("mask-every").is_none());
}

#[test]
fn check_says_how_much_disk_exact_takes() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--exact"];
    let mut check = crocuta(
        directory.path(),
        &["check", "embed"],
        "caduceus-ph",
        &options,
    );
    let output = check.assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    let config = fs::read_to_string(model("caduceus-ph").join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let bytes = 8 * config["d_model"].as_u64().unwrap() + 1;
    let line = text.lines().find(|line| line.starts_with("scratch files:"));
    assert!(
        line.unwrap().contains(&format!(" {bytes} B for a base")),
        "{text}"
    );
}

/// The number on the line of `check` that begins so.
fn checked(text: &str, start: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(start));
    let number = line.unwrap().trim().split(' ').next();
    number.unwrap().parse().unwrap()
}

#[test]
fn check_counts_what_windows_share_and_masks_repeat() {
    let directory = tempfile::tempdir().unwrap();
    let run = |options: &[&str]| {
        let (command, options) = options.split_at(2);
        let mut check = crocuta(directory.path(), command, "caduceus-ph", options);
        let output = check.assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    };
    // Without an index the sequences are counted; a window goes on by 96.
    let text = run(&["check", "embed", "--window", "128", "--overlap", "32"]);
    let records = fs::read_to_string(fasta(directory.path())).unwrap();
    let lengths = records.split('>').skip(1).map(|record| {
        let bases = record.split_once('\n').unwrap().1;
        bases.bytes().filter(|byte| *byte != b'\n').count() as u64
    });
    let windows = |length: u64| length + length.saturating_sub(128).div_ceil(96) * 32;
    let read: u64 = lengths.map(windows).sum();
    assert_eq!(checked(&text, "bases through the encoder:"), read as f64);
    // The best of three: other work on the machine slows a measurement, nothing speeds it up.
    let speed = |options: &[&str]| {
        let speeds = (0..3).map(|_| checked(&run(options), "speed:"));
        speeds.fold(0.0, f64::max)
    };
    let plain = speed(&["check", "embed", "--window", "1000"]);
    // Each base runs with 40 masks. Wide of what is measured.
    let masked = speed(&["check", "predict", "--window", "1000", "--mask-every", "40"]);
    assert!(masked < plain / 4.0, "{plain} {masked}");
}

#[test]
fn tables_of_bidirectional_models_say_so() {
    let window = ["--logits", "--window", "1000"];
    let (_, about) = table("predict", "caduceus-ps", &window);
    let (_, causal) = table("predict", "mamba1", &["--logits"]);
    let meaning = |about: &serde_json::Value, column: &str| {
        about["columns"][column]["semantics"]
            .as_str()
            .unwrap()
            .to_string()
    };
    for (column, around, before) in [
        ("logp_base", "around it", "before it"),
        ("p_A", "around it", "before it"),
        ("logits", "of that base", "of the base that follows"),
    ] {
        assert!(meaning(&about, column).contains(around), "{about}");
        assert!(!meaning(&about, column).contains(before), "{about}");
        assert!(meaning(&causal, column).contains(before), "{causal}");
    }
    let (_, about) = table("embed", "caduceus-ph", &window[1..]);
    assert!(
        meaning(&about, "embedding").contains("around it"),
        "{about}"
    );
}

#[test]
fn a_trained_length_that_no_file_states_is_said_and_that_of_the_tokenizer_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        let golden = model("caduceus-ph").join(name);
        fs::copy(golden, directory.path().join(name)).unwrap();
    }
    let run = || {
        let out = directory.path().join("out.parquet");
        let mut crocuta = Command::cargo_bin("crocuta").unwrap();
        crocuta.arg("embed").arg(fasta(directory.path()));
        crocuta
            .arg("-m")
            .arg(directory.path())
            .arg("-o")
            .arg(&out)
            .arg("--force");
        let said = crocuta.assert().success().get_output().stderr.clone();
        let reader = SerializedFileReader::new(File::open(out).unwrap()).unwrap();
        let pairs = reader
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .unwrap();
        let about = pairs.iter().find(|pair| pair.key == "crocuta").unwrap();
        let about: serde_json::Value =
            serde_json::from_str(about.value.as_deref().unwrap()).unwrap();
        let window = about["inference"]["window"].as_u64().unwrap();
        (String::from_utf8(said).unwrap(), window)
    };
    let (said, window) = run();
    assert!(said.contains("do not state its trained length"), "{said}");
    assert_eq!(window, 65536);
    let tokenizer = r#"{"model_max_length": 131072, "tokenizer_class": "CaduceusTokenizer"}"#;
    fs::write(directory.path().join("tokenizer_config.json"), tokenizer).unwrap();
    let (said, window) = run();
    assert!(!said.contains("warning"), "{said}");
    assert_eq!(window, 131_072);
}

#[test]
fn exact_where_it_means_nothing_is_a_usage_error() {
    for (command, name, options) in [
        ("embed", "mamba1", &["--exact"][..]),
        ("embed", "caduceus-ph", &["--exact", "--window", "100"]),
        ("embed", "caduceus-ph", &["--exact", "--overlap", "10"]),
        ("embed", "caduceus-ph", &["--exact", "--strand", "both"]),
        ("predict", "caduceus-ph", &["--exact"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut crocuta = crocuta(directory.path(), &[command], name, options);
        crocuta.arg("-o").arg(directory.path().join("out.parquet"));
        let error = crocuta.assert().code(2).get_output().stderr.clone();
        let error = String::from_utf8(error).unwrap();
        assert!(error.contains("--exact"), "{error}");
    }
}
