//! `check` says what the run then takes: rows exactly, the rest within half as much again.

use crate::given;
use crate::harness::bytes::{bgzf, gzip};
use crate::harness::{Case, bases, fai, record};
use serde_json::Value;

/// What a small file has beside its rows: footers, headers, names.
const FOOTER: f64 = 100e3;

/// Memory of the program itself, whatever it reads: of runs as small as these it is the most.
const PROGRAM: f64 = 100e6;

/// Bases that went through the encoder, as a summary says it.
fn through_encoder(summary: &Value) -> f64 {
    let bases = summary.get("encoder_bases").unwrap_or(&summary["bases"]);
    bases.as_f64().unwrap()
}

/// The value of a line `name: value` that `check` prints.
fn said(text: &str, name: &str) -> String {
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
        .to_string()
}

/// A count, or a size such as `1.5 MB`.
fn number(text: &str) -> f64 {
    let mut words = text.split_whitespace();
    let number: f64 = words
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("{text}"));
    let units = ["B", "kB", "MB", "GB", "TB"];
    let unit = words
        .next()
        .and_then(|word| units.iter().position(|unit| *unit == word));
    number * 1000f64.powi(unit.unwrap_or(0) as i32)
}

fn near(what: &str, found: f64, expected: f64, slack: f64) {
    let most = expected * 1.5 + slack;
    let least = expected / 1.5 - slack;
    assert!(
        found <= most && found >= least,
        "{what}: {found} is said, it was {expected}"
    );
}

/// Checks the command, runs it, and compares.
fn holds(make: &dyn Fn(&str) -> Case, line: &str) {
    let check = make(&format!("check {line}")).run().succeeds(&[]);
    let text = String::from_utf8(check.stdout).unwrap();
    let files = ["out.parquet", "s.json"];
    let run = make(&format!("{line} -o out.parquet --summary s.json")).run();
    let run = run.succeeds(&files);
    let summary: Value = serde_json::from_slice(run.file("s.json")).unwrap();
    let was = |key: &str| {
        summary[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{line}: no {key}"))
    };
    assert_eq!(
        number(&said(&text, "rows")),
        was("rows"),
        "{line}: rows\n{text}"
    );
    let bytes = number(&said(&text, "output"));
    near(
        &format!("{line}: output"),
        bytes,
        was("output_bytes"),
        FOOTER,
    );
    let through = number(&said(&text, "bases through the encoder"));
    near(
        &format!("{line}: bases"),
        through,
        through_encoder(&summary),
        0.0,
    );
    let memory = number(&said(&text, "memory besides the weights"));
    near(
        &format!("{line}: memory"),
        memory,
        was("peak_memory_bytes"),
        PROGRAM,
    );
    // What is allowed decides before the run, and no smaller table is refused.
    let allowed = was("output_bytes") * 1.5 + FOOTER;
    let limit = format!("check {line} --max-output {allowed:.0}");
    make(&limit).run().succeeds(&[]);
    if was("output_bytes") > 4.0 * FOOTER {
        let limit = format!("check {line} --max-output {:.0}", was("output_bytes") / 3.0);
        make(&limit).run().fails(2, &["--max-output"]);
    }
}

/// Sequences of 20,000 and 8,000 bases.
fn text() -> String {
    record("c", &bases(1, 20_000), 60) + &record("d", &bases(2, 8_000), 60)
}

fn plain(args: &str) -> Case {
    Case::new(args).file("a.fa", text()).seconds(60)
}

fn indexed(args: &str) -> Case {
    plain(args).file("a.fa.fai", fai(&text()))
}

#[test]
fn whole_sequences_plain_compressed_and_indexed() {
    let gz = |args: &str| plain(args).file("a.fa.gz", gzip(text().as_bytes()));
    let blocks = |args: &str| plain(args).file("a.fa.gz", bgzf(text().as_bytes(), 60_000));
    holds(&plain, "embed a.fa -m model");
    holds(&indexed, "embed a.fa -m model --strand both");
    holds(&gz, "embed a.fa.gz -m model");
    holds(&blocks, "embed a.fa.gz -m model --bin 100");
    holds(
        &plain,
        "embed a.fa -m model --dtype f32 --window 128 --overlap 32",
    );
    holds(&indexed, "predict a.fa -m model --logits");
    holds(
        &indexed,
        "embed a.fa -m model --layer 1 --layer -1 --layer ln_f",
    );
}

#[test]
fn regions_count_their_own_bases_and_not_their_context() {
    let two = "--region c:5001-6000 --region d:2001-3000";
    holds(
        &indexed,
        &format!("embed a.fa -m model --context 2000 {two}"),
    );
    holds(&plain, &format!("embed a.fa -m model --context 2000 {two}"));
    holds(
        &indexed,
        "predict a.fa -m model --region c:1-900 --region c:500-1500 --context 50",
    );
    let twice = "--region c:1-900 --region c:500-1500 --keep-overlaps";
    holds(
        &indexed,
        &format!("embed a.fa -m model {twice} --context 50"),
    );
    holds(
        &indexed,
        &format!("embed a.fa -m model {two} --bin 300 --context 100"),
    );
}

#[test]
fn genes_of_a_bed_read_no_more_than_their_contigs_hold() {
    let gene = |i: u64| format!("c\t{}\t{}\n", i * 190, i * 190 + 100);
    let genes: String = (0..100).map(gene).collect();
    let make = |args: &str| indexed(args).file("r.bed", &genes);
    for line in [
        "embed a.fa -m model --regions-file r.bed --context 5000",
        "embed a.fa -m model --regions-file r.bed --context 5000 --strand both",
    ] {
        holds(&make, line);
        let mut case = make(&format!("{line} -o out.parquet --summary s.json"));
        let outcome = case.run().succeeds(&["out.parquet", "s.json"]);
        let summary: Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
        let strands = if line.ends_with("both") { 2 } else { 1 };
        let most = 20_000 * strands;
        let read = summary["encoder_bases"].as_u64().unwrap();
        assert!(read <= most, "{line}: {read} bases through the encoder");
    }
}

#[test]
fn intervals_have_a_row_each() {
    let bed = "c\t100\t9000\nc\t200\t300\nd\t10\t7000\n";
    let with = |args: &str| indexed(args).file("r.bed", bed);
    holds(&with, "embed a.fa -m model --intervals r.bed --dtype f32");
    holds(
        &with,
        "predict a.fa -m model --intervals r.bed --strand both",
    );
}

#[test]
fn many_records_have_a_bin_each() {
    let record = |i: u64| record(&format!("r{i}"), &bases(i, 40 + i as usize % 50), 60);
    let text: String = (0..300).map(record).collect();
    let make = |args: &str| Case::new(args).file("a.fa", &text).seconds(60);
    holds(&make, "embed a.fa -m model --bin 1000000");
    holds(&make, "embed a.fa -m model");
    let zipped = |args: &str| {
        Case::new(args)
            .file("a.fa", gzip(text.as_bytes()))
            .seconds(60)
    };
    holds(&zipped, "embed a.fa -m model --bin 50");
}

#[test]
fn reads_and_variants() {
    let fastq = |args: &str| given::case(args).file("a.fq", given::fastq(500));
    holds(&fastq, "reads a.fq -m model");
    holds(&given::case, "reads small.bam -m model --no-embedding");
    holds(
        &given::case,
        "reads small.bam -m model --all-alignments --dtype f32",
    );
    holds(&given::case, "reads small.bam -m model --region 17:1-400");
    let variants = |args: &str| given::case(args).file("v.vcf", given::vcf(150));
    holds(&variants, "score v.vcf -r a.fa -m model --after 20");
    holds(
        &variants,
        "score v.vcf -r a.fa -m model --window 60 --strand both",
    );
    holds(
        &given::case,
        "score --saturate c:101-140 -r a.fa -m model --after 20",
    );
}

#[test]
fn heads_and_a_sample_s_own_sequence() {
    holds(&given::case, "predict a.fa -m genes");
    holds(&given::case, "embed small.bam -r ref.fa -m model --bin 50");
    holds(
        &given::case,
        "predict small.bam -r ref.fa -m model --region 17:1-400",
    );
}

#[test]
fn training_is_checked_too() {
    let line = "fit a.fa -m model -o out --steps 5 --batch 2 --length 100 --chunk 50";
    let outcome = given::case(&format!("check {line}")).run().succeeds(&[]);
    let text = String::from_utf8(outcome.stdout).unwrap();
    for name in ["memory besides the weights", "time"] {
        said(&text, name);
    }
    given::case("check fit none.fa -m model -o out")
        .run()
        .fails(5, &["none.fa"]);
}
