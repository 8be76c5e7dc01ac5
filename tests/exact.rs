//! `--exact`: whole sequences through models that look both ways, over scratch files.

#![allow(clippy::unwrap_used)] // helpers outside the test functions

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
    let largest = values.fold(0f32, |largest, x| largest.max(x.abs()));
    assert!(largest > 0.0);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(chromosome(found), chromosome(expected));
        for key in ["start", "end"] {
            assert_eq!(numbers(found, key), numbers(expected, key));
        }
        let (found, expected) = (numbers(found, column), numbers(expected, column));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-5 * largest);
        }
    }
}

#[test]
fn exact_embeddings_are_those_of_a_window_over_the_whole_sequence() {
    for name in ["caduceus-ph", "caduceus-ps"] {
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
