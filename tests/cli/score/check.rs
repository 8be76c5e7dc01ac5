//! What `check score` says of a run before it is made.

use super::{case, fasta, genome, letters, snv, vcf};
use crate::harness::{Case, bases};

/// What `check` says before a run, and what the run then counted.
fn announced(records: &[String], args: &str) -> (String, serde_json::Value) {
    let outcome = case(records, &format!("{args} --summary s.json")).run();
    let outcome = outcome.succeeds(&["out.parquet", "s.json"]);
    let summary = serde_json::from_slice(outcome.file("s.json")).unwrap();
    let check = format!("check score v.vcf -r a.fa -m model --after 50 {args}");
    let mut case = Case::new(&check)
        .file("a.fa", fasta())
        .file("v.vcf", vcf(records));
    let said = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
    (said, summary)
}

#[test]
fn check_announces_the_work_that_the_run_does() {
    let genome = genome();
    let mut records: Vec<String> = [1, 100, 120, 300, 890]
        .map(|pos| snv("chr1", &genome, pos))
        .to_vec();
    records.push(snv("chr2", &bases(2, 300), 200));
    records.push(format!(
        "chr1\t200\t.\t{}\t{}",
        &genome[199..203],
        &genome[199..200]
    ));
    records.push("chr3\t5\t.\tA\tC".to_string());
    let letter = letters(&genome, 300).0;
    records.push(format!("chr1\t300\t.\t{letter}\t{letter}"));
    for args in [
        "",
        "--context 30",
        "--strand both --context 60",
        "--strand both",
        "--window 64",
    ] {
        let (said, summary) = announced(&records, args);
        let line = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("{name}\n{said}")).to_string()
        };
        let bases = line("bases through the encoder: ").parse::<u64>().unwrap();
        let done = summary["encoder_bases"].as_u64().unwrap();
        if args.contains("window") {
            // The contig's ends make windows shorter.
            assert!(
                bases >= done && bases < done * 3 / 2,
                "{args}: {bases}, {done}"
            );
        } else {
            assert_eq!(bases, done, "{args}\n{said}");
        }
        assert_eq!(line("rows: "), "9");
        assert_eq!(line("to be scored: "), "8");
        let alleles = line("alleles: ");
        // At the contig's start what is scored on the reverse strand is cut off.
        let cut_off = if args.contains("both") { 2 } else { 1 };
        let edge = format!("edge_truncated {cut_off}");
        for status in ["contig_missing 1", &edge, "same_allele 1"] {
            assert!(
                alleles.contains(status) || args.contains("window"),
                "{alleles}"
            );
        }
        for name in [
            "output: ",
            "memory besides the weights: ",
            "time: ",
            "scratch files: ",
        ] {
            line(name);
        }
    }
}

#[test]
fn a_few_bases_after_each_site_take_little_memory() {
    let records = [snv("chr1", &genome(), 450)];
    let memory = |after: u32| {
        let args = format!("check score v.vcf -r a.fa -m model --after {after}");
        let mut case = Case::new(&args)
            .file("a.fa", fasta())
            .file("v.vcf", vcf(&records));
        let said = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("memory besides the weights: "));
        line.unwrap()
            .strip_suffix(" MB")
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    assert!(
        memory(1) < 1.2 * memory(1024),
        "{} {}",
        memory(1),
        memory(1024)
    );
}

#[test]
fn check_score_ends_as_the_run_would() {
    let records = [snv("chr1", &genome(), 450)];
    let check = |args: &str| {
        Case::new(&format!("check score {args}"))
            .file("a.fa", fasta())
            .file("v.vcf", vcf(&records))
            .run()
    };
    check("v.vcf -r a.fa -m model --exact").fails(2, &["--exact"]);
    check("v.vcf -r none.fa -m model").fails(5, &["none.fa"]);
    check("a.fa -r a.fa -m model").fails(3, &["a.fa"]);
    check("v.vcf -r a.fa -m model --max-output 1").fails(2, &["--max-output"]);
    case(&records, "--max-output 1")
        .run()
        .fails(2, &["--max-output"]);
    check("--saturate chr1:1-20 -r a.fa -m model").succeeds(&[]);
}
