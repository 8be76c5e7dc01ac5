//! What the model has read before a variant, and how well it knows what it read.

use super::{case, fasta, genome, run, snv, table, vcf};
use crate::harness::{Case, bases, record};
use std::path::Path;

/// Bits a base of what `predict` says of the same bases.
fn predicted(fasta: &str, region: &str) -> f64 {
    let line = format!("predict a.fa -m model -o out.parquet --region {region}");
    let outcome = Case::new(&line).file("a.fa", fasta).run();
    let logp = outcome
        .succeeds(&["out.parquet"])
        .table()
        .numbers("logp_base");
    let known: Vec<f64> = logp.into_iter().flatten().map(f64::from).collect();
    -known.iter().sum::<f64>() / known.len() as f64 / std::f64::consts::LN_2
}

#[test]
fn footer_and_summary_say_how_well_the_model_knows_what_it_read() {
    let records = [snv("chr2", &bases(2, 300), 100)];
    let outcome = case(&records, "--summary s.json").run();
    let outcome = outcome.ends(
        0,
        &["bits a base; the model predicts this sequence hardly better than chance: its scores say little"],
        &["out.parquet", "s.json"],
    );
    let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
    let expected = predicted(&fasta(), "chr2:1-150");
    for found in [&summary, &outcome.table().footer["measured"]] {
        assert_eq!(found["bits_per_base_of"], 149, "but for the first base");
        let bits = found["bits_per_base"].as_f64().unwrap();
        assert!((bits - expected).abs() < 1e-3, "{bits}, {expected}");
    }
    // A window has the same bases, and nothing before them either.
    let windows = table(&records, "--window 300");
    let bits = &windows.footer["measured"]["bits_per_base"];
    let expected = predicted(&fasta(), "chr2:1-249");
    assert!((bits.as_f64().unwrap() - expected).abs() < 1e-3, "{bits}");
}

#[test]
fn a_model_that_knows_the_sequence_is_not_warned_of() {
    let packed = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/lambda.fa.gz"));
    let mut text = String::new();
    let mut reader = flate2::read::MultiGzDecoder::new(&*packed.unwrap().leak());
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    let genome: String = text.lines().skip(1).take(11).collect();
    let line = "score v.vcf -r a.fa -o out.parquet --after 50";
    let case = Case::new(line)
        .file("a.fa", record("chr1", &genome, 60))
        .file("v.vcf", vcf(&[snv("chr1", &genome, 600)]));
    let outcome = { case }.run().succeeds(&["out.parquet"]);
    assert!(outcome.stderr.contains("bits a base"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("chance"), "{}", outcome.stderr);
}

/// A bidirectional model is asked for bases that it does not see.
#[test]
fn a_masked_model_is_judged_by_the_bases_that_were_masked() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/caduceus-ph");
    let read = |name: &str| std::fs::read(goldens.join(name)).unwrap();
    let genome = bases(2, 300);
    let deletion = format!("chr2\t150\t.\t{}\t{}", &genome[149..152], &genome[149..150]);
    let judged = |records: &[String]| {
        let line = "score v.vcf -r a.fa -m cph -o out.parquet --window 60";
        let case = Case::new(line)
            .file("a.fa", fasta())
            .file("v.vcf", vcf(records))
            .file("cph/config.json", read("config.json"))
            .file("cph/model.safetensors", read("model.safetensors"));
        let table = { case }.run().succeeds(&["out.parquet"]).table();
        table.footer["measured"].clone()
    };
    let found = judged(&[snv("chr2", &genome, 100), deletion.clone()]);
    assert_eq!(found["bits_per_base_of"], 1);
    assert!(found["bits_per_base"].as_f64().unwrap() > 0.0);
    assert!(judged(&[deletion])["bits_per_base"].is_null());
}

#[test]
fn the_trained_length_is_read_before_a_variant_unless_told_otherwise() {
    let genome = genome();
    // The model was trained on 128 bases.
    let records = [600, 640, 880].map(|pos| snv("chr1", &genome, pos));
    let work = |args: &str| {
        let outcome = case(&records, &format!("{args} --summary s.json")).run();
        let outcome = outcome.succeeds(&["out.parquet", "s.json"]);
        let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
        let context = outcome.table().footer["params"]["context"].clone();
        let bases = summary["encoder_bases"].as_u64().unwrap();
        (bases - 50 - 50 - 20, context, outcome.stderr.clone())
    };
    let (bases, context, said) = work("");
    assert_eq!(bases, (690 - 471) + (900 - 751));
    assert_eq!(context, 128);
    assert!(said.contains("at least 128 bases before each variant, the length on which"));
    let (same, context, said) = work("--context 128");
    assert_eq!((same, context), (bases, 128.into()));
    assert!(!said.contains("trained"), "{said}");
    let (all, context, said) = work("--context all");
    assert_eq!((all, context), (900, "all".into()));
    assert!(said.contains("trained on 128 bases"), "{said}");
    assert!(work("--context 200").2.contains("trained on 128 bases"));
    case(&records, "--context some").run().fails(2, &["or all"]);
}

#[test]
fn a_model_without_a_known_length_reads_a_stated_number_of_bases() {
    let config = r#"{"model_type": "s4d", "d_model": 16, "n_layer": 2, "d_state": 8,
        "vocab_size": 12}"#;
    let made = Case::new("models new --config c.json --seed 1 -o s4d").file("c.json", config);
    let mut made = made;
    let outcome = made.run();
    let files = ["s4d", "s4d/config.json", "s4d/model.safetensors"];
    let outcome = outcome.succeeds(&files);
    let line = "score v.vcf -r a.fa -m s4d -o out.parquet --after 50";
    let mut case = Case::new(line)
        .file("a.fa", fasta())
        .file("v.vcf", vcf(&[snv("chr1", &genome(), 450)]));
    for name in &files[1..] {
        case = case.file(name, outcome.file(name));
    }
    let said = ["do not state its trained length", "at least 65536 bases"];
    let table = case.run().ends(0, &said, &["out.parquet"]).table();
    assert_eq!(table.footer["params"]["context"], 65_536);
}

#[test]
fn check_tells_the_cost_of_either_context() {
    let records = [snv("chr1", &genome(), 600)];
    let said = |args: &str| {
        let line = format!("check score v.vcf -r a.fa -m model --after 50 {args}");
        let case = Case::new(&line)
            .file("a.fa", fasta())
            .file("v.vcf", vcf(&records));
        String::from_utf8({ case }.run().succeeds(&[]).stdout).unwrap()
    };
    for (args, here, there) in [
        ("", "179", "with --context all: 650 bases of the reference"),
        (
            "--context all",
            "650",
            "with --context 128: 179 bases of the reference",
        ),
    ] {
        let said = said(args);
        let line = format!("bases of the reference: {here}\n");
        assert!(said.contains(&line) && said.contains(there), "{said}");
    }
    assert!(!said("--window 100").contains("--context"));
    assert!(run(&records, "--window 100").table().footer["params"]["context"].is_null());
}
