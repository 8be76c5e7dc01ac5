//! Scores of variants: every allele has a row, however it is spelled and wherever it stands.

mod background;
mod check;
mod context;
mod outputs;
mod protocols;

use crate::harness::table::Table;
use crate::harness::{Case, Outcome, bases, record};
use std::fmt::Write;

const LENGTH: usize = 900;

/// 900 bases, with a run of A after the base at 401 and an N at 700 (counted from 1).
fn genome() -> String {
    let mut codes = bases(1, LENGTH).into_bytes();
    codes[400] = b'C';
    codes[401..408].fill(b'A');
    codes[408] = b'G';
    codes[699] = b'N';
    String::from_utf8(codes).unwrap()
}

fn fasta() -> String {
    record("chr1", &genome(), 60) + &record("chr2", &bases(2, 300), 60)
}

fn vcf(records: &[String]) -> String {
    let mut text = "##fileformat=VCFv4.2\n".to_string();
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    for record in records {
        writeln!(text, "{record}\t.\tPASS\tAC=1").unwrap();
    }
    text
}

/// The letter at a position (from 1), and another one.
fn letters(genome: &str, pos: usize) -> (char, char) {
    let letter = genome.as_bytes()[pos - 1] as char;
    (letter, if letter == 'A' { 'C' } else { 'A' })
}

fn snv(contig: &str, genome: &str, pos: usize) -> String {
    let (letter, other) = letters(genome, pos);
    format!("{contig}\t{pos}\ts{pos}\t{letter}\t{other}")
}

fn case(records: &[String], args: &str) -> Case {
    Case::new(&format!(
        "score v.vcf -r a.fa -m model -o out.parquet --after 50 {args}"
    ))
    .file("a.fa", fasta())
    .file("v.vcf", vcf(records))
}

fn run(records: &[String], args: &str) -> Outcome {
    case(records, args).run().succeeds(&["out.parquet"])
}

fn table(records: &[String], args: &str) -> Table {
    run(records, args).table()
}

/// All kinds of alleles, in no order.
fn mixed() -> Vec<String> {
    let (genome, other) = (genome(), bases(2, 300));
    let (letter, wrong) = letters(&genome, 30);
    let after = &genome[199..203];
    vec![
        snv("chr2", &other, 100),
        snv("chr1", &genome, 500),
        format!("chr1\t30\twrong\t{wrong}\tG"),
        format!("chr1\t30\t.\t{letter}\t<DEL>,*,{letter}"),
        snv("chr1", &genome, 1),
        snv("chr1", &genome, 880),
        format!("chr1\t200\t.\t{after}\t{},{}TT", &after[..1], &after[..1]),
        "chr3\t5\t.\tA\tC".to_string(),
        "chr1\t2000\t.\tA\tC".to_string(),
        "chr1\t700\t.\tN\tC".to_string(),
        snv("chr1", &genome, 680),
        snv("chr1", &genome, 500),
        format!("chr1\t40\t.\t{}\t.", letters(&genome, 40).0),
    ]
}

#[test]
fn every_allele_has_a_row_with_a_status_in_the_order_of_the_input() {
    let table = table(&mixed(), "");
    let expected = [
        (0, 0, "ok"),
        (1, 0, "ok"),
        (2, 0, "ref_mismatch"),
        (3, 0, "symbolic"),
        (3, 1, "star_allele"),
        (3, 2, "same_allele"),
        (4, 0, "ok"),
        (5, 0, "edge_truncated"),
        (6, 0, "ok"),
        (6, 1, "ok"),
        (7, 0, "contig_missing"),
        (8, 0, "out_of_range"),
        (9, 0, "n_in_window"),
        (10, 0, "n_in_window"),
        (11, 0, "duplicate"),
        (12, 0, "missing_allele"),
    ];
    let statuses = table.words("status");
    let found = table.integers("record_index").into_iter();
    let found = found.zip(table.integers("alt_index")).zip(&statuses);
    let found: Vec<_> = found.map(|((r, a), s)| (r, a, s.as_str())).collect();
    assert_eq!(found, expected);
    // Without scores: those that cannot have any. A change of nothing changes nothing.
    let scores = table.numbers("delta_ll");
    for (i, status) in statuses.iter().enumerate() {
        let (_, _, known) = expected[i];
        let scored =
            ["ok", "edge_truncated", "duplicate", "same_allele"].contains(&known) || i == 13;
        assert_eq!(scores[i].is_some(), scored, "{i}: {status}");
    }
    assert_eq!(scores[5], Some(0.0));
    assert_eq!(scores[14], scores[1], "the same change, the same score");
    let types = table.words("type");
    assert_eq!(&types[8..10], ["del", "delins"]);
}

#[test]
fn a_status_is_that_of_every_strand_that_is_read() {
    let genome = genome();
    // The contig's ends, an N at 700, and --after 50: 650 bases are left of it on the reverse strand.
    let records = [1, 50, 51, 660, 749, 751, 850, 851].map(|pos| snv("chr1", &genome, pos));
    let (edge, n) = ("edge_truncated", "n_in_window");
    let forward = ["ok", "ok", "ok", n, "ok", "ok", "ok", edge];
    let both = [edge, edge, "ok", n, n, "ok", "ok", edge];
    for (args, expected) in [
        ("", forward),
        ("--strand both", both),
        ("--strand mean", both),
    ] {
        assert_eq!(table(&records, args).words("status"), expected, "{args}");
    }
    // Windows are the same bases on both strands, of an insertion but for one.
    let inserted = |pos: usize| {
        let letter = &genome[pos - 1..pos];
        // Another than both neighbours, so that it cannot be moved.
        let mut others = ["A", "C", "G"].into_iter();
        let other = others.find(|other| !genome[pos - 1..=pos].contains(other));
        format!("chr1\t{pos}\t.\t{letter}\t{letter}{}", other.unwrap())
    };
    let records = [snv("chr1", &genome, 51), inserted(50), inserted(51)];
    for (args, expected) in [
        ("--window 100", ["ok", "ok", "ok"]),
        ("--window 100 --strand both", ["ok", edge, "ok"]),
    ] {
        assert_eq!(table(&records, args).words("status"), expected, "{args}");
    }
}

#[test]
fn the_order_of_the_input_changes_no_number() {
    let genome = genome();
    let records: Vec<String> = [10, 450, 20, 21, 800, 300, 301, 302]
        .map(|pos| snv("chr1", &genome, pos))
        .to_vec();
    let mut sorted = records.clone();
    sorted.sort_by_key(|record| record.split('\t').nth(1).unwrap().parse::<u64>().unwrap());
    let (mixed, sorted) = (table(&records, ""), table(&sorted, ""));
    let by_place = |table: &Table| {
        let mut rows: Vec<_> = table
            .integers("pos")
            .into_iter()
            .zip(table.numbers("delta_ll"))
            .collect();
        rows.sort_by_key(|row| row.0);
        rows
    };
    assert_eq!(by_place(&mixed), by_place(&sorted));
}

#[test]
fn every_spelling_of_a_change_has_the_same_scores() {
    let genome = genome();
    let text = |from: usize, to: usize| genome[from - 1..to].to_string();
    // One A less in the run at 402 to 408; then two bases more.
    let records = [
        "chr1\t401\t.\tCA\tC".to_string(),
        "chr1\t407\t.\tAA\tA".to_string(),
        format!(
            "chr1\t400\t.\t{}\t{}",
            text(400, 409),
            text(400, 400) + "CAAAAAAG"
        ),
        "chr1\t401\t.\tC\tCAA".to_string(),
        "chr1\t408\t.\tA\tAAA".to_string(),
    ];
    for args in ["", "--strand both", "--window 100"] {
        let table = table(&records, args);
        let columns: Vec<&String> = table.columns.iter().collect();
        let columns = columns.into_iter().filter(|name| {
            ["ll_", "delta", "jsd_m", "cos", "l2", "dot"]
                .iter()
                .any(|start| name.starts_with(start))
                && !name.starts_with("ll_")
        });
        for name in columns {
            let values = table.numbers(name);
            assert_eq!(values[0], values[1], "{args}: {name}");
            assert_eq!(values[0], values[2], "{args}: {name}");
            assert_eq!(values[3], values[4], "{args}: {name}");
        }
        assert_eq!(table.integers("norm_pos")[..4], [401; 4]);
    }
}

fn turned(text: &str) -> String {
    let other = |letter: char| match letter {
        'A' => 'T',
        'C' => 'G',
        'G' => 'C',
        'T' => 'A',
        other => other,
    };
    text.chars().rev().map(other).collect()
}

#[test]
fn the_reverse_strand_s_columns_are_the_scores_on_the_reverse_complement() {
    let genome = genome();
    let records = [
        snv("chr1", &genome, 300),
        "chr1\t401\t.\tCA\tC".to_string(),
        snv("chr1", &genome, 860),
    ];
    let both = table(&records, "--strand both");
    let mirror = |pos: usize, reference: &str, alternate: &str| {
        let pos = LENGTH - (pos + reference.len() - 1) + 1;
        format!(
            "chr1\t{pos}\t.\t{}\t{}",
            turned(reference),
            turned(alternate)
        )
    };
    let records = records.iter().map(|record| {
        let columns: Vec<&str> = record.split('\t').collect();
        mirror(columns[1].parse().unwrap(), columns[3], columns[4])
    });
    let alone = case(&records.collect::<Vec<_>>(), "")
        .file("a.fa", record("chr1", &turned(&genome), 60))
        .run()
        .succeeds(&["out.parquet"])
        .table();
    for name in [
        "delta_ll",
        "delta_ll_mean",
        "llr",
        "jsd_mean",
        "cos_dist",
        "l2_dist_win",
        "jsd_max_offset",
    ] {
        let forward = both.numbers(name);
        let reverse = both.numbers(&format!("{name}_rc"));
        assert_eq!(reverse, alone.numbers(name), "{name}");
        if name != "jsd_max_offset" {
            let mean = both.numbers(&format!("{name}_avg"));
            for i in 0..3 {
                let expected = forward[i].zip(reverse[i]).map(|(a, b)| (a + b) / 2.0);
                let close = |(a, b): (f32, f32)| (a - b).abs() < 1e-5;
                assert_eq!(mean[i].is_some(), expected.is_some());
                assert!(mean[i].zip(expected).is_none_or(close), "{name}");
            }
        }
    }
}

#[test]
fn threads_change_no_bit_and_the_chunk_no_number() {
    let records = mixed();
    let one = run(&records, "--threads 1");
    let two = run(&records, "--threads 2");
    assert!(one.file("out.parquet") == two.file("out.parquet"));
    let (one, small) = (one.table(), table(&records, "--chunk 13"));
    for name in ["delta_ll", "llr", "jsd_mean"] {
        for (a, b) in one.numbers(name).into_iter().zip(small.numbers(name)) {
            assert_eq!(a.is_some(), b.is_some());
            assert!(
                (a.unwrap_or_default() - b.unwrap_or_default()).abs() < 1e-4,
                "{name}"
            );
        }
    }
}

#[test]
fn another_assembly_is_refused_before_anything_is_computed() {
    let genome = genome();
    let records: Vec<String> = (0..10)
        .map(|i| {
            if i < 4 {
                format!("chr1\t{}\t.\t{}\tG", 50 + i, letters(&genome, 50 + i).1)
            } else {
                snv("chr1", &genome, 50 + i)
            }
        })
        .collect();
    case(&records, "")
        .run()
        .fails(3, &["v.vcf", "in 4 of 10 records", "wrong assembly?"]);
    run(&records[2..], "");
}

#[test]
fn contigs_of_another_name_are_refused_with_the_name_that_was_meant() {
    let records = ["1\t5\t.\tA\tC".to_string(), "2\t5\t.\tA\tC".to_string()];
    case(&records, "").run().fails(3, &["\"1\" (\"chr1\"?)"]);
}

#[test]
fn the_vcf_keeps_its_records_and_gains_the_scores() {
    let records = mixed();
    // Not sorted, so without an index.
    let files = ["out.parquet", "s.vcf.gz"];
    let outcome = case(&records, "--vcf-out s.vcf.gz").run().succeeds(&files);
    let mut text = String::new();
    let mut reader = flate2::read::MultiGzDecoder::new(outcome.file("s.vcf.gz"));
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert!(text.contains("##INFO=<ID=CRO_DLL,Number=A,Type=Float"));
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines.len(), records.len());
    for (line, record) in lines.iter().zip(&records) {
        assert!(
            line.starts_with(&format!("{record}\t.\tPASS\tAC=1")),
            "{line}"
        );
    }
    assert!(
        lines[3].contains("CRO_STATUS=symbolic,star_allele,same_allele"),
        "{}",
        lines[3]
    );
    let score = outcome.table().numbers("delta_ll")[0].unwrap();
    let written = lines[0]
        .split("CRO_DLL=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    assert_eq!(written.parse::<f32>().unwrap(), score);
}

#[test]
fn a_saturated_region_has_three_rows_a_base_and_a_picture() {
    let args =
        "score --saturate chr1:690-709 -r a.fa -m model -o out.parquet --after 50 --plot p.svg";
    let outcome = Case::new(args).file("a.fa", fasta()).run();
    let outcome = outcome.succeeds(&["out.parquet", "p.svg"]);
    let table = outcome.table();
    assert_eq!(table.rows(), 19 * 3, "the N has none");
    assert_eq!(table.integers("pos")[0], 690);
    let picture = String::from_utf8(outcome.file("p.svg").to_vec()).unwrap();
    assert!(picture.starts_with("<svg") && picture.matches("<rect").count() > 19 * 3);
    for name in ["p.png", "p.PNG"] {
        let mut case = Case::new(&args.replace("p.svg", name)).file("a.fa", fasta());
        let outcome = case.run();
        let outcome = outcome.succeeds(&["out.parquet", name]);
        assert!(
            outcome.file(name).starts_with(b"\x89PNG\r\n\x1a\n"),
            "{name}"
        );
    }
    let mut case = Case::new(&args.replace("p.svg", "p.pdf")).file("a.fa", fasta());
    case.run().fails(2, &["SVG or PNG", ".pdf"]);
    let genome = genome();
    let (_, other) = letters(&genome, 695);
    let alone = self::table(&[snv("chr1", &genome, 695)], "");
    let row = (15..18).find(|&i| table.texts("alt")[i].as_deref() == Some(&other.to_string()));
    let (found, expected) = (
        table.numbers("delta_ll")[row.unwrap()],
        alone.numbers("delta_ll")[0],
    );
    assert!((found.unwrap() - expected.unwrap()).abs() < 1e-4);
}

#[test]
fn variants_of_one_haplotype_are_scored_together_too() {
    let genome = genome();
    let mut text = "##fileformat=VCFv4.2\n##FORMAT=<ID=GT,Number=1,Type=String,Description=\"\">\n"
        .to_string();
    text += "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\n";
    for (pos, genotype) in [
        (100, "0|1"),
        (110, "1|0"),
        (120, "0|1"),
        (300, "0|1"),
        (310, "0/1"),
    ] {
        let record = snv("chr1", &genome, pos);
        writeln!(text, "{record}\t.\t.\t.\tGT\t{genotype}").unwrap();
    }
    let args = "score v.vcf -r a.fa -m model -o out.parquet --after 50 --sample S1";
    let case = Case::new(args).file("a.fa", fasta()).file("v.vcf", text);
    let table = { case }.run().succeeds(&["out.parquet"]).table();
    assert_eq!(table.rows(), 6);
    assert_eq!(table.words("type")[5], "haplotype");
    assert_eq!(
        table.texts("haplotype_alleles")[5].as_deref(),
        Some("0:0,2:0")
    );
    assert_eq!(table.integers("haplotype")[5], 2);
    // The same as a record of both changes.
    let mut both = genome[99..120].to_string();
    both.replace_range(0..1, &letters(&genome, 100).1.to_string());
    both.replace_range(20..21, &letters(&genome, 120).1.to_string());
    let alone = self::table(&[format!("chr1\t100\t.\t{}\t{both}", &genome[99..120])], "");
    let (found, expected) = (table.numbers("delta_ll")[5], alone.numbers("delta_ll")[0]);
    assert!((found.unwrap() - expected.unwrap()).abs() < 1e-4);
}

#[test]
fn the_summary_counts_the_encoder_s_work() {
    let genome = genome();
    let records: Vec<String> = [100, 200, 300]
        .map(|pos| snv("chr1", &genome, pos))
        .to_vec();
    let outcome = case(&records, "--summary s.json").run();
    let outcome = outcome.succeeds(&["out.parquet", "s.json"]);
    let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
    assert_eq!(summary["encoder_bases"], 300 + 50 + 3 * 50);
    assert_eq!(summary["statuses"]["ok"], 3);
}

#[test]
fn strict_runs_end_with_6_when_alleles_have_no_scores() {
    let outcome = case(&mixed(), "--strict").run();
    outcome.ends(6, &["alleles have no scores"], &["out.parquet"]);
}

#[test]
fn vectors_of_both_alleles_are_kept_if_asked_for() {
    let genome = genome();
    let table = table(&[snv("chr1", &genome, 100)], "--embeddings site");
    let (a, b) = (table.vectors("ref_emb"), table.vectors("alt_emb"));
    assert_eq!((a[0].len(), b[0].len()), (16, 16));
    let l2 = a[0]
        .iter()
        .zip(&b[0])
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f32>()
        .sqrt();
    assert!((l2 - table.numbers("l2_dist")[0].unwrap()).abs() < 1e-5);
}

#[test]
fn protocols_say_in_the_footer_what_they_did() {
    let genome = genome();
    let records = [snv("chr1", &genome, 450)];
    for (protocol, window, column) in [
        ("evo2-brca1", 8192, "delta_ll_mean"),
        ("hyenadna-llr", 128, "delta_ll_mean_avg"),
        ("bend", 512, "cos_dist"),
        ("lrb-embed", 131_072, "ref_emb_rc"),
    ] {
        let table = table(&records, &format!("--protocol {protocol}"));
        assert_eq!(table.footer["inference"]["mode"], "window", "{protocol}");
        assert_eq!(table.footer["inference"]["window"], window, "{protocol}");
        assert!(
            table.columns.iter().any(|name| name == column),
            "{protocol}"
        );
    }
    case(&records, "--protocol gpn")
        .run()
        .fails(2, &["bidirectional"]);
}

#[test]
fn options_that_contradict_each_other_are_usage_errors() {
    let records = [snv("chr1", &genome(), 450)];
    for (args, message) in [
        (
            "--mode stream --window 100",
            "--window is for --mode window",
        ),
        ("--strand reverse", "--strand both"),
        ("--exact", "--exact"),
        ("--saturate chr1:1-5", "cannot be used with"),
        ("--vcf-out v.vcf", "input"),
        ("--vcf-out out.parquet", "two outputs have the same name"),
        ("--summary out.parquet", "two outputs have the same name"),
    ] {
        case(&records, args).run().fails(2, &[message]);
    }
    let stdin = Case::new("score - -r a.fa -m model -o out.parquet --vcf-out o.vcf.gz");
    stdin
        .file("a.fa", fasta())
        .run()
        .fails(2, &["reads the variants twice"]);
}
