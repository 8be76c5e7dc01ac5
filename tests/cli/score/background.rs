//! Quantiles among background variants.

use super::{case, fasta, genome, mixed, snv, table, vcf};
use crate::harness::table::Table;
use crate::harness::{Case, Outcome};
use std::collections::BTreeMap;

/// Thirty single changes and a few deletions.
fn common() -> Vec<String> {
    let genome = genome();
    let mut records: Vec<String> = (0..30).map(|i| snv("chr1", &genome, 50 + 11 * i)).collect();
    for at in [120, 330, 520] {
        let (long, short) = (&genome[at - 1..at + 2], &genome[at - 1..at]);
        records.push(format!("chr1\t{at}\t.\t{long}\t{short}"));
    }
    records
}

fn with_background(records: &[String], args: &str) -> Case {
    let args = format!("--background b.vcf --context all {args}");
    case(records, &args).file("b.vcf", vcf(&common()))
}

fn whole(outcome: Outcome) -> Table {
    outcome.succeeds(&["out.parquet"]).table()
}

/// What the quantiles must be, by the scores of the background.
fn expected(scored: &Table, background: &Table, name: &str) -> Vec<Option<f32>> {
    let mut by_type: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    let kinds = background.words("type").into_iter();
    for (kind, score) in kinds.zip(background.numbers(name)) {
        by_type.entry(kind).or_default().extend(score);
    }
    let rows = scored.words("type").into_iter().zip(scored.numbers(name));
    rows.map(|(kind, score)| {
        let (known, score) = (by_type.get(&kind)?, score?);
        let count = |f: &dyn Fn(f32) -> bool| known.iter().filter(|x| f(**x)).count() as f32;
        let equal = count(&|x| x == score);
        (!known.is_empty()).then(|| (count(&|x| x < score) + equal / 2.0) / known.len() as f32)
    })
    .collect()
}

#[test]
fn quantiles_are_those_among_the_background_of_the_type() {
    let records = mixed();
    for (args, suffix) in [("", ""), ("--strand both", "_avg"), ("--window 80", "")] {
        let found = whole(with_background(&records, args).run());
        let alone = table(&records, &format!("--context all {args}"));
        let background = table(&common(), &format!("--context all {args}"));
        assert_eq!(found.rows(), alone.rows(), "the background has no rows");
        for name in ["delta_ll", "llr", "jsd_mean", "cos_dist_win"] {
            let name = format!("{name}{suffix}");
            for (found, alone) in found.numbers(&name).iter().zip(alone.numbers(&name)) {
                let apart = found.zip(alone).map(|(a, b)| (a - b).abs());
                assert!(found.is_some() == alone.is_some() && apart.unwrap_or(0.0) < 1e-4);
            }
            let quantiles = found.numbers(&format!("{name}_quantile"));
            let expected = expected(&alone, &background, &name);
            assert_eq!(quantiles.len(), expected.len());
            for (i, (found, expected)) in quantiles.iter().zip(&expected).enumerate() {
                let apart = found.zip(*expected).map(|(a, b)| (a - b).abs());
                assert_eq!(found.is_some(), expected.is_some(), "{args} {name} {i}");
                assert!(apart.is_none_or(|apart| apart < 1e-6), "{args} {name} {i}");
            }
            assert!(quantiles.iter().flatten().any(|x| (0.01..0.99).contains(x)));
        }
    }
}

#[test]
fn a_table_of_an_earlier_run_is_a_background_too() {
    let records = mixed();
    let earlier = case(&common(), "--context all").run();
    let earlier = earlier
        .succeeds(&["out.parquet"])
        .file("out.parquet")
        .to_vec();
    let run = |args: &str| {
        let args = format!("--background b.parquet {args}");
        { case(&records, &args).file("b.parquet", &earlier) }.run()
    };
    let by_table = whole(run("--context all"));
    let by_variants = whole(with_background(&records, "").run());
    for name in ["delta_ll_quantile", "llr_quantile", "jsd_max_quantile"] {
        assert_eq!(by_table.numbers(name), by_variants.numbers(name), "{name}");
    }
    for (args, said) in [
        ("", "--context differs"),
        ("--context all --flank 9", "--flank differs"),
        ("--window 80", "inference.mode differs"),
    ] {
        run(args).fails(2, &["b.parquet", "made otherwise", said]);
    }
    // Both strands' mean is not in a table of one.
    run("--context all --strand both").fails(3, &["b.parquet", "delta_ll_avg"]);
    let cut = &earlier[..earlier.len() / 2];
    let args = "--context all --background b.parquet";
    let damaged = case(&records, args).file("b.parquet", cut);
    { damaged }.run().fails(3, &["b.parquet"]);
}

#[test]
fn vcf_and_summary_speak_of_the_background() {
    let files = ["out.parquet", "s.vcf", "s.json"];
    let args = "--vcf-out s.vcf --summary s.json";
    let outcome = with_background(&mixed(), args).run().succeeds(&files);
    let text = String::from_utf8(outcome.file("s.vcf").to_vec()).unwrap();
    let line = text.lines().find(|line| line.starts_with("chr2\t100\t"));
    let value = line.unwrap().split("CRO_DLL_Q=").nth(1).unwrap();
    let value: f32 = value.split(';').next().unwrap().parse().unwrap();
    assert_eq!(outcome.table().numbers("delta_ll_quantile")[0], Some(value));
    let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
    assert_eq!(
        summary["background"],
        serde_json::json!({"del": 3, "snv": 30})
    );
    assert_eq!(outcome.table().footer["params"]["background"], "b.vcf");
}

#[test]
fn a_background_of_another_assembly_or_from_a_pipe_is_refused() {
    let genome = genome();
    let shifted: Vec<String> = (0..9)
        .map(|i| {
            snv("chr1", &genome, 50 + 3 * i).replace(&format!("\t{}\t", 50 + 3 * i), "\t400\t")
        })
        .collect();
    let wrong = case(&mixed(), "--background b.vcf").file("b.vcf", vcf(&shifted));
    { wrong }
        .run()
        .fails(3, &["--background", "wrong assembly?"]);
    let piped = case(&mixed(), "--background -").file("a.fa", fasta());
    { piped }.run().fails(2, &["--background is a file"]);
}
