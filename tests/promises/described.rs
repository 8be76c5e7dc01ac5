//! What outputs and stderr say of the run: the model, where it is from, and the command.

use crate::given;
use crate::harness::table::Table;
use crate::harness::{Outcome, sha256};
use crate::kinds;
use serde_json::Value;
use std::collections::BTreeSet;

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn summary(outcome: &Outcome) -> Value {
    serde_json::from_slice(outcome.file("s.json")).unwrap()
}

#[test]
fn summaries_of_all_commands_say_the_same_things() {
    for command in given::commands() {
        let files = command.files();
        let outcome = given::case(&command.whole()).run().succeeds(&files);
        let (found, table) = (summary(&outcome), outcome.file("out.parquet"));
        let line = command.line;
        let read = Table::read(table);
        let model = if line.contains("-m genes") {
            "genes"
        } else {
            "model"
        };
        for (key, expected) in [
            ("model", Value::from(model)),
            ("model_sha256", read.footer["model"]["sha256"].clone()),
            ("device", "cpu".into()),
            ("device_peak_memory_bytes", Value::Null),
            ("chunk", read.footer["inference"]["chunk"].clone()),
            ("threads", 1.into()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("rows", read.rows().into()),
            ("output_bytes", table.len().into()),
            ("output_sha256", sha256(table).into()),
        ] {
            let value = found.get(key).unwrap_or_else(|| panic!("{line}: no {key}"));
            match key {
                "device" => assert!(value.is_string(), "{line}: {key}"),
                _ => assert_eq!(*value, expected, "{line}: {key}"),
            }
        }
        for key in ["seconds", "peak_memory_bytes"] {
            assert!(found[key].as_f64().unwrap() > 0.0, "{line}: {key}");
        }
    }
}

#[test]
fn a_summary_without_a_table_says_the_same_things() {
    let mut case = given::case("predict a.fa -m genes --genes g.gff3 --summary s.json -t 1");
    let without = summary(&case.run().succeeds(&["g.gff3", "s.json"]));
    let line = "predict a.fa -m genes -o out.parquet --summary s.json -t 1";
    let with = summary(&given::case(line).run().succeeds(&["out.parquet", "s.json"]));
    assert_eq!(keys(&without), keys(&with));
}

#[test]
fn footers_of_all_tables_say_the_same_things() {
    let mut known: Option<(String, [BTreeSet<String>; 4])> = None;
    for command in given::commands() {
        let files = command.files();
        let outcome = given::case(&command.whole()).run().succeeds(&files);
        for name in files.iter().filter(|name| name.ends_with(".parquet")) {
            let line = format!("{}: {name}", command.line);
            let table = Table::read(outcome.file(name));
            let footer = &table.footer;
            // What is not the same for all are parameters, what was measured, and a window.
            let mut parts = [
                keys(footer),
                keys(&footer["inference"]),
                keys(&footer["model"]),
                keys(&footer["reference"]),
            ];
            parts[0].remove("params");
            parts[0].remove("measured");
            parts[1].remove("window");
            match &known {
                None => known = Some((line.clone(), parts)),
                Some((first, known)) => assert_eq!(parts, *known, "{line}, not as {first}"),
            }
            let columns: BTreeSet<String> = table.columns.iter().cloned().collect();
            let primary = footer["primary_columns"].as_array().unwrap();
            let primary = primary
                .iter()
                .map(|name| name.as_str().unwrap().to_string());
            let primary: BTreeSet<String> = primary.collect();
            assert!(
                !primary.is_empty() && primary.is_subset(&columns),
                "{line}: {primary:?}"
            );
            let described = keys(&footer["columns"]);
            assert!(described.is_subset(&columns), "{line}: {described:?}");
            assert!(
                primary.is_subset(&described),
                "{line}: {primary:?}, {described:?}"
            );
        }
    }
}

#[test]
fn columns_that_are_not_written_are_not_described() {
    let line = "reads a.fq -m model -o out.parquet --no-embedding";
    let table = given::case(line).run().succeeds(&["out.parquet"]).table();
    assert!(!table.columns.contains(&"embedding".to_string()));
    let primary = table.footer["primary_columns"].to_string();
    assert!(!primary.contains("embedding"), "{primary}");
    assert!(!keys(&table.footer["columns"]).contains("embedding"));
}

/// The first line on stderr.
fn first(line: &str) -> String {
    let mut case = given::case(&format!("{line} -o out.parquet -t 1"));
    for name in ["config.json", "model.safetensors"] {
        case = case.file(
            &format!("some/where/{name}"),
            crate::harness::model_file(name),
        );
    }
    let outcome = case.run().succeeds(&["out.parquet"]);
    outcome
        .stderr
        .lines()
        .next()
        .unwrap_or_default()
        .to_string()
}

#[test]
fn the_first_line_names_the_model_and_where_it_is_from() {
    for line in [
        "embed a.fa",
        "predict a.fa",
        "reads a.fq",
        "score v.vcf -r a.fa --after 20",
        "score --saturate c:101-104 -r a.fa --after 20",
    ] {
        let said = first(&format!("{line} -m some/where"));
        assert!(said.contains("some/where"), "{line}: {said}");
        let said = first(line);
        assert!(
            said.contains("crocuta-bacteria") && said.contains("bundled"),
            "{line}: {said}"
        );
        let said = first(&format!("{line} -m model --adapter adapter"));
        assert!(
            said.contains("model") && said.contains("adapter"),
            "{line}: {said}"
        );
    }
}

/// Lines of an output that name what made it.
fn comments(outcome: &Outcome, name: &str) -> String {
    let bytes = outcome.file(name);
    let text = match name {
        "t.bam" => {
            let bytes = kinds::unpacked(name, bytes);
            let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            String::from_utf8(bytes[8..8 + length].to_vec()).unwrap()
        }
        "s.vcf.gz" => String::from_utf8(kinds::unpacked(name, bytes)).unwrap(),
        _ => String::from_utf8(bytes.to_vec()).unwrap(),
    };
    let ours = |line: &&str| line.starts_with('#') || line.starts_with("@PG");
    text.lines().filter(ours).collect::<Vec<_>>().join("\n")
}

#[test]
fn outputs_beside_the_table_name_the_model_its_digest_and_the_command() {
    for command in given::commands() {
        let files = command.files();
        let outcome = given::case(&command.whole()).run().succeeds(&files);
        let digest = &outcome.table().footer["model"]["sha256"];
        let kind = command.line.split(' ').next().unwrap();
        for name in ["g.gff3", "b.bed", "t.bam", "s.vcf.gz"] {
            if !files.contains(&name) {
                continue;
            }
            let said = comments(&outcome, name);
            let model = if name.starts_with(['g', 'b']) {
                "genes"
            } else {
                "model"
            };
            for word in ["crocuta", kind, model, digest.as_str().unwrap()] {
                assert!(said.contains(word), "{name}: no {word} in\n{said}");
            }
            assert!(said.contains(env!("CARGO_PKG_VERSION")), "{name}\n{said}");
        }
    }
}

#[test]
fn other_programs_still_read_headers_with_ours_in_them() {
    let line = "reads small.bam -m model -o out.parquet --bam-out t.bam";
    let mut case = given::case(line);
    let files = ["out.parquet", "t.bam", "t.bam.bai"];
    let rows = case.run().succeeds(&files).table().rows();
    // Ours too: the line is added to those of before, each with a name of its own.
    let line = "reads t.bam -m model -o again.parquet --bam-out u.bam";
    case = case.args(line);
    let outcome = case
        .run()
        .succeeds(&["again.parquet", "u.bam", "u.bam.bai"]);
    assert_eq!(Table::read(outcome.file("again.parquet")).rows(), rows);
    let bytes = kinds::unpacked("u.bam", outcome.file("u.bam"));
    let length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    let programs: Vec<&str> = header
        .lines()
        .filter(|line| line.starts_with("@PG"))
        .collect();
    let names: BTreeSet<&str> = programs
        .iter()
        .map(|line| {
            line.split('\t')
                .find(|field| field.starts_with("ID:"))
                .unwrap()
        })
        .collect();
    assert_eq!((programs.len(), names.len()), (2, 2), "{header}");
    assert!(programs[1].contains("PP:"), "{header}");
}
