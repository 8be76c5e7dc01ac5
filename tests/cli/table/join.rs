//! `table join`.

use crate::harness::compare::close;
use crate::harness::{Case, bases, record};
use serde_json::{Value, json};

const VCF: &str = "##fileformat=VCFv4.2\n\
    ##INFO=<ID=SIG,Number=1,Type=String,Description=\"x\">\n\
    ##INFO=<ID=AF,Number=A,Type=Float,Description=\"x\">\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";

/// The base of the contig at a place that is counted from 1.
fn base(at: usize) -> String {
    bases(1, 900)[at - 1..at].to_string()
}

fn other(base: &str) -> &'static str {
    if base == "A" { "C" } else { "A" }
}

/// Scores of single bases at 30, 40, …, and of insertions at 35, 45, …, as `scores`.
fn scored() -> Case {
    let mut text = VCF.to_string();
    for at in (30..330).step_by(5) {
        let reference = base(at);
        let alternate = if at % 10 == 0 {
            other(&reference).to_string()
        } else {
            format!("{reference}{}", other(&reference))
        };
        text += &format!("c\t{at}\t.\t{reference}\t{alternate}\t.\t.\t.\n");
    }
    let mut case = Case::new("score v.vcf -r a.fa -m model --after 20 -o scores")
        .file("a.fa", record("c", &bases(1, 900), 60))
        .file("v.vcf", text);
    case.run().succeeds(&["scores"]);
    case
}

/// Whether the variant at a place is positive, by a rule that the score knows nothing of; some have
/// no label.
fn label(at: usize) -> Option<bool> {
    (!at.is_multiple_of(3)).then_some(at * at % 7 < 3)
}

fn labels() -> String {
    let mut text = "chrom\tpos\tref\talt\tdelta_ll\tharmful\n".to_string();
    for at in (30..330).step_by(5) {
        if let Some(label) = label(at) {
            let reference = base(at);
            let alternate = other(&reference);
            let alternate = if at % 10 == 0 {
                alternate.to_string()
            } else {
                format!("{reference}{alternate}")
            };
            // Spelled with another base behind.
            let next = base(at + 1);
            let harmful = u8::from(label);
            text += &format!("c\t{at}\t{reference}{next}\t{alternate}{next}\tx{at}\t{harmful}\n");
        }
    }
    text
}

#[test]
fn rows_have_the_labels_of_their_variants_and_columns_that_clash_get_a_prefix() {
    let case = scored().file("l.tsv", labels());
    let mut case = case.args("table join scores l.tsv -o out.parquet");
    let found = case.run().succeeds(&["out.parquet"]).table();
    let places = found.integers("pos").into_iter();
    let read = found.words_or_null("label_delta_ll").into_iter();
    let harmful = found.integers_or_null("harmful");
    for ((at, word), harmful) in places.zip(read).zip(harmful) {
        let label = label(at as usize);
        assert_eq!(harmful, label.map(i64::from), "{at}");
        assert_eq!(word, label.map(|_| format!("x{at}")));
    }
    assert_eq!(found.rows(), 60);
    let said =
        json!([{"file": "l.tsv", "by": "variant", "columns": ["label_delta_ll", "harmful"]}]);
    assert_eq!(found.footer["labels"], said);
    let mut case = case.args("table join scores l.tsv --matched --columns harmful -o m.parquet");
    let outcome = case.run().succeeds(&["m.parquet"]);
    let found = crate::harness::table::Table::read(outcome.file("m.parquet"));
    assert!(found.rows() < 60 && found.known("harmful").iter().all(|known| *known));
    assert!(!found.columns.contains(&"label_delta_ll".to_string()));
}

/// The area under the ROC curve and DeLong's variance, and the average precision, as they are
/// defined: over all pairs, and over all thresholds.
fn judged(rows: &[(f64, bool)]) -> [f64; 3] {
    let of = |positive: bool| -> Vec<f64> {
        let rows = rows.iter().filter(|row| row.1 == positive);
        rows.map(|row| row.0).collect()
    };
    let (positive, negative) = (of(true), of(false));
    let wins = |a: f64, b: f64| {
        if a > b {
            1.0
        } else {
            f64::from(u8::from(a == b)) / 2.0
        }
    };
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let variance = |all: &[f64]| {
        let squares = all.iter().map(|x| (x - mean(all)).powi(2));
        squares.sum::<f64>() / (all.len() - 1) as f64
    };
    let each = |a: &f64| mean(&negative.iter().map(|b| wins(*a, *b)).collect::<Vec<_>>());
    let of_positives: Vec<f64> = positive.iter().map(each).collect();
    let each = |b: &f64| mean(&positive.iter().map(|a| wins(*a, *b)).collect::<Vec<_>>());
    let of_negatives: Vec<f64> = negative.iter().map(each).collect();
    let spread = variance(&of_positives) / positive.len() as f64
        + variance(&of_negatives) / negative.len() as f64;
    let precision = |at: &f64| {
        let taken = rows.iter().filter(|row| row.0 >= *at);
        let labels: Vec<f64> = taken.map(|row| f64::from(u8::from(row.1))).collect();
        mean(&labels)
    };
    let precisions: Vec<f64> = positive.iter().map(precision).collect();
    [mean(&of_positives), spread, mean(&precisions)]
}

#[test]
fn a_score_is_judged_as_it_is_defined_overall_and_by_type() {
    let case = scored().file("l.tsv", labels());
    let line = "table join scores l.tsv --label harmful -o out.parquet --summary s.json";
    let mut case = case.args(line);
    let outcome = case.run().succeeds(&["out.parquet", "s.json"]);
    let found = outcome.table();
    let said: Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
    assert_eq!(said["by_score"], "-delta_ll");
    let rows: Vec<(String, f64, bool)> = found
        .words("type")
        .into_iter()
        .zip(found.numbers("delta_ll"))
        .zip(found.integers_or_null("harmful"))
        .filter_map(|((kind, score), label)| Some((kind, -f64::from(score?), label? == 1)))
        .collect();
    let types = said["types"].as_array().unwrap();
    let names: Vec<_> = types
        .iter()
        .map(|kind| kind["type"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["all", "ins", "snv"]);
    for kind in types {
        let own = rows
            .iter()
            .filter(|row| kind["type"] == "all" || kind["type"] == *row.0);
        let own: Vec<(f64, bool)> = own.map(|row| (row.1, row.2)).collect();
        let [area, spread, precision] = judged(&own);
        assert_eq!(kind["rows"], own.len());
        let half = 1.959_964 * spread.sqrt();
        let logit = (precision / (1.0 - precision)).ln();
        let positive = own.iter().filter(|row| row.1).count() as f64;
        let reach = 1.959_964 / (positive * precision * (1.0 - precision)).sqrt();
        let back = |x: f64| 1.0 / (1.0 + (-x).exp());
        let expected = [
            area,
            (area - half).max(0.0),
            (area + half).min(1.0),
            precision,
            back(logit - reach),
            back(logit + reach),
        ];
        let of = |key: &str| {
            let value = &kind[key];
            let [low, high] = [0usize, 1].map(|end| value["interval"][end].as_f64().unwrap());
            [value["value"].as_f64().unwrap(), low, high]
        };
        let found = [of("auroc"), of("average_precision")].concat();
        close(kind["type"].as_str().unwrap(), &found, &expected, 1e-6);
    }
    // What is printed says the same; the other sign gives the other area.
    let text = String::from_utf8(outcome.stdout.clone()).unwrap();
    let cells = |text: &str| -> Vec<String> {
        text.lines()
            .nth(1)
            .unwrap()
            .split('\t')
            .map(str::to_string)
            .collect()
    };
    let area = |text: &str| cells(text)[3].parse::<f64>().unwrap();
    assert_eq!(
        cells(&text)[..2],
        ["all".to_string(), rows.len().to_string()]
    );
    let line = "table join scores l.tsv --label harmful --by-score delta_ll -o 2";
    let mut case = case.args(line);
    let outcome = case.run().succeeds(&["2"]);
    let turned = String::from_utf8(outcome.stdout.clone()).unwrap();
    close("turned", &[area(&turned)], &[1.0 - area(&text)], 1e-3);
}

#[test]
fn fields_of_a_vcf_come_along_and_words_are_judged_by_those_that_are_positive() {
    let mut text = VCF.to_string();
    for at in (30..330).step_by(10) {
        let (reference, sig) = (base(at), ["bad", "worse", "fine"][at / 10 % 3]);
        let af = at as f64 / 1000.0;
        let alternate = other(&reference);
        text += &format!(
            "c\t{at}\t.\t{reference}\tT{alternate},{alternate}\t.\t.\tSIG={sig};AF=0.5,{af}\n"
        );
    }
    let case = scored().file("l.vcf", text);
    let line = "table join scores l.vcf --label SIG --positive bad,worse --json -o out.parquet";
    let mut case = case.args(line);
    let outcome = case.run().succeeds(&["out.parquet"]);
    let said: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(
        (&said["types"][0]["rows"], &said["types"][0]["positive"]),
        (&json!(30), &json!(20))
    );
    let found = outcome.table();
    for (at, af) in found.integers("pos").into_iter().zip(found.doubles("AF")) {
        assert_eq!(af, (at % 10 == 0).then_some(at as f64 / 1000.0));
    }
    for (args, why) in [
        ("--label SIG", "the label \"bad\" is neither 1 nor 0"),
        ("--label no", "the labels have no column no"),
        (
            "--label SIG --by-score -no",
            "there is no column no to judge by",
        ),
        ("--columns AC", "the labels have no column AC"),
    ] {
        let mut case = case
            .copy()
            .args(&format!("table join scores l.vcf {args} -o no.parquet"));
        case.run().fails(2, &[why]);
    }
}

#[test]
fn rows_come_once_for_each_interval_that_they_overlap() {
    let bed = "c\t30\t50\tx\nc\t40\t41\ty\nd\t0\t900\tz\nc\t0\t5\tw\n";
    let mut case = Case::new("embed a.fa -m model --bin 10 -o bins")
        .file("a.fa", record("c", &bases(1, 95), 60))
        .file("i.bed", bed);
    case.run().succeeds(&["bins"]);
    let mut case = case.args("table join bins i.bed --columns name,interval_start -o out.parquet");
    let found = case.run().succeeds(&["out.parquet"]).table();
    let names = found.words_or_null("name").into_iter();
    let names: Vec<String> = names.map(|name| name.unwrap_or("-".to_string())).collect();
    let starts: Vec<i64> = found
        .integers("start")
        .iter()
        .map(|start| start / 10)
        .collect();
    assert_eq!(starts, [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9]);
    assert_eq!(names.concat(), "w--xxy-----");
    let bins = crate::harness::table::Table::read(&std::fs::read(case.path("bins")).unwrap());
    let mut vectors = bins.vectors("embedding");
    vectors.insert(4, vectors[4].clone());
    assert_eq!(found.vectors("embedding"), vectors);
    // Labels of variants are for rows of variants.
    let mut case = case.file("l.tsv", "chrom\tpos\tref\talt\nc\t1\tA\tC\n");
    case = case.args("table join bins l.tsv -o no.parquet");
    case.run().fails(2, &["the labels are of variants"]);
}
