//! `--layer`: vectors of the layers within, in tables of bases, reads and variants.

use crate::harness::table::{Table, difference};
use crate::harness::{Case, bases, model_file, record};
use candle_core::Device;
use crocuta::checkpoint::Checkpoint;
use crocuta::encoder::{Encoder, Facts, Model, Segment};
use crocuta::ops::{Device as Place, Tensor};
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "goldens", name]
        .iter()
        .collect()
}

fn loaded(name: &str) -> (Model, Facts) {
    Model::load(&Checkpoint::open(&folder(name)).unwrap()).unwrap()
}

/// `embed` of one sequence by a model of the goldens.
fn golden(name: &str, sequence: &str, args: &str) -> Case {
    let line = format!("embed a.fa -m golden -o out.parquet --dtype f32 {args}");
    let case = Case::new(&line).file("a.fa", record("a", sequence, 60));
    let entries = folder(name).read_dir().unwrap().map(|entry| entry.unwrap());
    entries.fold(case, |case, entry| {
        let file = entry.file_name().into_string().unwrap();
        case.file(
            &format!("golden/{file}"),
            std::fs::read(entry.path()).unwrap(),
        )
    })
}

fn text() -> String {
    record("a", &bases(1, 700), 60) + &record("b", &bases(2, 300), 60)
}

fn table(args: &str) -> Table {
    let mut case = Case::embed(text(), &format!("--dtype f32 {args}"));
    case.run().succeeds(&["out.parquet"]).table()
}

/// Those whose published inputs are bases alone.
#[test]
fn inner_layers_equal_the_published_model_s() {
    for name in [
        "caduceus-ph",
        "caduceus-ps",
        "caduceus-ps-mamba2",
        "mamba1-untied",
        "mamba2-groups",
    ] {
        let read = |file: &str| {
            let path = folder(name).join(file);
            candle_core::safetensors::load(path, &Device::Cpu).unwrap()
        };
        let (published, expected) = (read("layers.safetensors"), read("expected.safetensors"));
        let ids: Vec<i64> = expected["input_ids"].get(0).unwrap().to_vec1().unwrap();
        let letter = |id: i64| char::from(b"ACGTN"[id as usize - 7]);
        let sequence: String = ids.into_iter().map(letter).collect();
        let numbers: Vec<&str> = published
            .keys()
            .map(|key| key.strip_prefix("after.").unwrap())
            .collect();
        let args: String = numbers.iter().map(|n| format!("--layer {n} ")).collect();
        let found = golden(name, &sequence, &args).run();
        let found = found.succeeds(&["out.parquet"]).table();
        for number in numbers {
            let rows = found.vectors(&format!("embedding_{number}"));
            let published = published[&format!("after.{number}")].to_vec2::<f32>();
            let apart = difference(&rows, &published.unwrap());
            assert!(apart < 1e-5, "{name}, {number}: {apart:e}");
        }
    }
}

/// Whose layers equal the published ones by tests of their own.
#[test]
fn every_layer_by_its_name_is_the_encoder_s() {
    for name in ["hyenadna", "mamba1", "mamba2", "evo1", "evo2"] {
        let (model, facts) = loaded(name);
        let layers: Vec<_> = facts.all_layers().collect();
        let names = layers.iter().map(|layer| facts.layer_name(*layer));
        let args: String = names.map(|name| format!("--layer {name} ")).collect();
        let sequence = bases(3, 200);
        let codes = sequence.chars().map(|c| "ACGT".find(c).unwrap() as u8);
        let tokens: Vec<u32> = codes.map(|code| facts.vocabulary.token(code)).collect();
        let whole = Segment {
            lane: 0,
            len: tokens.len(),
            starts: true,
            ends: true,
        };
        let tokens = Tensor::new(&tokens[..], &Place::Cpu).unwrap();
        let mut state = model.start(1).unwrap();
        let expected = model.forward_layers(&tokens, &[whole], &mut state, &layers);
        let found = golden(name, &sequence, &args).run();
        let found = found.succeeds(&["out.parquet"]).table();
        let columns: Vec<_> = found.columns.clone().into_iter().skip(7).collect();
        assert_eq!(columns.len(), layers.len());
        for (column, expected) in columns.iter().zip(expected.unwrap()) {
            let values: Vec<f32> = expected.flatten_all().unwrap().to_vec1().unwrap();
            let rows: Vec<_> = values.chunks(facts.width).map(<[f32]>::to_vec).collect();
            let apart = difference(&found.vectors(column), &rows);
            assert!(apart < 1e-5, "{name}, {column}: {apart:e}");
        }
    }
}

#[test]
fn the_chunk_changes_no_inner_layer() {
    let whole = table("--layer 0 --layer 1 --layer -1");
    for chunk in [1, 7, 64] {
        let parts = table(&format!("--layer 0 --layer 1 --layer -1 --chunk {chunk}"));
        for column in ["embedding_0", "embedding_1", "embedding_2"] {
            let apart = difference(&parts.vectors(column), &whole.vectors(column));
            assert!(apart < 1e-5, "{chunk}, {column}");
        }
    }
}

#[test]
fn several_layers_in_one_table_equal_single_runs() {
    for args in [
        "",
        "--strand both",
        "--strand mean --bin 10 --pool max",
        "--bin 64",
        "--region a:100-300 --context 50",
        "--window 100",
    ] {
        let all = table(&format!("--layer ln_f --layer 1 --layer embeddings {args}"));
        assert_eq!(
            all.columns[all.columns.len() - 3..],
            ["embedding_ln_f", "embedding_1", "embedding_0"]
        );
        for (layer, column) in [
            ("", "embedding_ln_f"),
            ("--layer 1", "embedding_1"),
            ("--layer layers.0", "embedding_1"),
            ("--layer -3", "embedding_0"),
        ] {
            let single = table(&format!("{layer} {args}"));
            assert_eq!(single.keys(), all.keys());
            assert!(
                single.vectors("embedding") == all.vectors(column),
                "{args}: {layer}"
            );
        }
    }
}

#[test]
fn the_last_layer_becomes_the_default_by_the_last_norm() {
    let (last, default) = (table("--layer -1"), table(""));
    let weights = model_file("model.safetensors");
    let weights = candle_core::safetensors::load_buffer(&weights, &Device::Cpu).unwrap();
    let of = |name: &str| -> Vec<f32> {
        let mut found = weights.iter().filter(|(key, _)| key.ends_with(name));
        found.next().unwrap().1.to_vec1().unwrap()
    };
    let (scale, shift) = (of("ln_f.weight"), of("ln_f.bias"));
    let normed = |row: Vec<f32>| -> Vec<f32> {
        let n = row.len() as f32;
        let mean = row.iter().sum::<f32>() / n;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
        let rows = row.iter().zip(scale.iter().zip(&shift));
        rows.map(|(x, (a, b))| (x - mean) / (variance + 1e-5).sqrt() * a + b)
            .collect()
    };
    let rows: Vec<_> = last.vectors("embedding").into_iter().map(normed).collect();
    assert!(difference(&rows, &default.vectors("embedding")) < 1e-5);
}

#[test]
fn a_layer_that_the_model_does_not_have_is_refused_with_what_there_is() {
    for layer in ["3", "-4", "layers.2", "middle", "0.5"] {
        let outcome = Case::embed(text(), &format!("--layer {layer}")).run();
        outcome.fails(2, &[&format!("no layer {layer}"), "0 to 2", "models show"]);
    }
    for twice in ["--layer 2 --layer -1", "--layer 1 --layer layers.0"] {
        let outcome = Case::embed(text(), twice).run();
        outcome.fails(2, &["asked for before", "once"]);
    }
}

#[test]
fn the_footer_and_the_summary_name_the_layers() {
    let args = "--layer layers.0 --layer ln_f --summary s.json";
    let outcome = Case::embed(text(), args).run();
    let outcome = outcome.succeeds(&["out.parquet", "s.json"]);
    let footer = outcome.table().footer;
    assert_eq!(footer["columns"]["embedding_1"]["layer"], "layers.0");
    assert_eq!(footer["columns"]["embedding_ln_f"]["layer"], "ln_f");
    let primary = serde_json::json!(["embedding_1", "embedding_ln_f"]);
    assert_eq!(footer["primary_columns"], primary);
    let given = serde_json::json!(["layers.0", "ln_f"]);
    assert_eq!(footer["params"]["layer"], given);
    let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
    assert_eq!(summary["layers"], given);
    assert_eq!(table("").footer["columns"]["embedding"]["layer"], "ln_f");
}

#[test]
fn bidirectional_models_give_the_same_layers_in_windows_and_whole() {
    let sequence = bases(4, 300);
    for name in ["caduceus-ph", "caduceus-ps"] {
        for layer in ["0", "3", "layers.3"] {
            let run = |args: &str| {
                let mut case = golden(name, &sequence, &format!("--layer {layer} {args}"));
                let table = case.run().succeeds(&["out.parquet"]).table();
                table.vectors("embedding")
            };
            let (window, exact) = (run("--window 300"), run("--exact --chunk 64"));
            assert!(difference(&exact, &window) < 1e-5, "{name}, {layer}");
        }
    }
    let outcome = golden("caduceus-ph", &sequence, "--exact --layer 0 --layer 1").run();
    outcome.fails(2, &["--exact", "one layer"]);
}

#[test]
fn reads_have_the_layers_of_their_bases_and_their_own_likelihoods() {
    let line = |args: &str| format!("reads a.fa.fq -m model -o out.parquet --dtype f32 {args}");
    let fastq: String = (0..5)
        .map(|i| {
            let read = bases(i, 50 + 40 * i as usize);
            format!("@r{i}\n{read}\n+\n{}\n", "I".repeat(read.len()))
        })
        .collect();
    let fasta: String = (0..5)
        .map(|i| record(&format!("r{i}"), &bases(i, 50 + 40 * i as usize), 60))
        .collect();
    let run = |args: &str| {
        let mut case = Case::new(&line(args)).file("a.fa.fq", &fastq);
        case.run().succeeds(&["out.parquet"]).table()
    };
    let (found, default) = (run("--layer 0 --layer 1"), run(""));
    assert_eq!(found.doubles("sum_logp"), default.doubles("sum_logp"));
    assert!(run("--layer ln_f").vectors("embedding") == default.vectors("embedding"));
    for (layer, column) in [("0", "embedding_0"), ("1", "embedding_1")] {
        let args = format!("--dtype f32 --bin 100000 --layer {layer}");
        let mut expected = Case::embed(&fasta, &args);
        let expected = expected.run().succeeds(&["out.parquet"]).table();
        let apart = difference(&found.vectors(column), &expected.vectors("embedding"));
        assert!(apart < 1e-6, "{layer}: {apart:e}");
    }
    let both = line("--no-embedding --layer 1");
    let outcome = Case::new(&both).file("a.fa.fq", &fastq).run();
    outcome.fails(2, &["--no-embedding", "--layer"]);
}

#[test]
fn scores_compare_and_keep_the_vectors_of_the_layer() {
    let sequence = bases(5, 400);
    let letter = &sequence[199..200];
    let other = if letter == "A" { "C" } else { "A" };
    let vcf = format!(
        "##fileformat=VCFv4.2\n##contig=<ID=a>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n\
         a\t200\t.\t{letter}\t{other}\t.\t.\t.\n"
    );
    let fasta = record("a", &sequence, 60);
    let run = |args: &str| {
        let line = format!(
            "score v.vcf -r a.fa -m model -o out.parquet --context all --embeddings site {args}"
        );
        let mut case = Case::new(&line).file("a.fa", &fasta).file("v.vcf", &vcf);
        case.run().succeeds(&["out.parquet"]).table()
    };
    let default = run("");
    for args in ["--layer 1", "--layer 1 --mode window --window 300"] {
        let found = run(args);
        let layer = &found.footer["columns"]["ref_emb"]["layer"];
        assert_eq!(*layer, "layers.0", "{args}");
        let l2: f32 = found.vectors("ref_emb")[0]
            .iter()
            .zip(&found.vectors("alt_emb")[0])
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        assert!((l2.sqrt() - found.numbers("l2_dist")[0].unwrap()).abs() < 1e-5);
    }
    let found = run("--layer 1");
    assert_eq!(found.numbers("delta_ll"), default.numbers("delta_ll"));
    let mut rows = Case::embed(
        &fasta,
        "--dtype f32 --layer 1 --region a:200-200 --context 400",
    );
    let rows = rows.run().succeeds(&["out.parquet"]).table();
    let apart = difference(&found.vectors("ref_emb"), &rows.vectors("embedding"));
    assert!(apart < 1e-5, "{apart:e}");
}

#[test]
fn show_lists_the_layers_that_can_be_asked_for() {
    for name in ["hyenadna", "evo2", "caduceus-ps"] {
        let (_, facts) = loaded(name);
        let mut case = golden(name, "A", "").args("models show golden");
        let text = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
        let (_, list) = text.split_once("layers for --layer").unwrap();
        for (layer, line) in facts.all_layers().zip(list.lines().skip(1)) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(facts.find_layer(words[0]).unwrap(), layer, "{line}");
            assert!(words[1] == "-" || facts.find_layer(words[1]).unwrap() == layer);
            assert_eq!(words[2], facts.width.to_string());
        }
        assert!(list.contains("default"));
    }
}
