//! Predictions.

use crate::harness::table::{Table, difference};
use crate::harness::{Case, bases, fai, record};

const FOUR: [&str; 4] = ["p_A", "p_C", "p_G", "p_T"];
/// Tokens of A, C, G and T.
const TOKENS: [usize; 4] = [7, 8, 9, 10];

fn text() -> String {
    record("a", &bases(1, 900), 60) + &record("b", &(bases(2, 40) + "NN" + &bases(3, 20)), 60)
}

fn table(args: &str) -> Table {
    let args = format!("predict a.fa -m model -o out.parquet {args}");
    Case::new(&args)
        .file("a.fa", text())
        .run()
        .succeeds(&["out.parquet"])
        .table()
}

#[test]
fn columns_are_those_of_the_layout() {
    let expected =
        "chrom start end strand base flags context_left logp_base p_A p_C p_G p_T p_other entropy";
    assert_eq!(table("").columns.join(" "), expected);
    assert_eq!(
        table("--logits").columns.join(" "),
        format!("{expected} logits")
    );
}

#[test]
fn probabilities_sum_to_one_and_the_first_base_has_none() {
    let table = table("");
    let p = FOUR.map(|name| table.numbers(name));
    let (entropy, logp) = (table.numbers("entropy"), table.numbers("logp_base"));
    for i in 0..table.rows() {
        if i == 0 || i == 900 {
            assert!(
                p.iter()
                    .chain([&entropy, &logp])
                    .all(|column| column[i].is_none())
            );
            continue;
        }
        let four = p.each_ref().map(|column| f64::from(column[i].unwrap()));
        assert!((four.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        let expected: f64 = four.iter().map(|p| -p * p.ln()).sum();
        assert!((f64::from(entropy[i].unwrap()) - expected).abs() < 1e-5);
    }
    assert!(
        logp[940].is_none() && logp[941].is_none(),
        "N has no probability"
    );
}

#[test]
fn probabilities_are_those_of_the_logits_before() {
    let table = table("--logits");
    let (logits, bases) = (table.vectors("logits"), table.words("base"));
    let (logp, other) = (table.numbers("logp_base"), table.numbers("p_other"));
    let p = FOUR.map(|name| table.numbers(name));
    for i in (1..table.rows()).filter(|&i| i != 900) {
        let before: Vec<f64> = logits[i - 1].iter().map(|&x| f64::from(x)).collect();
        let sum =
            |tokens: &mut dyn Iterator<Item = usize>| tokens.map(|t| before[t].exp()).sum::<f64>();
        let (all, four) = (sum(&mut (0..before.len())), sum(&mut TOKENS.into_iter()));
        for (column, token) in p.iter().zip(TOKENS) {
            let expected = before[token].exp() / four;
            assert!((f64::from(column[i].unwrap()) - expected).abs() < 1e-5);
        }
        assert!((f64::from(other[i].unwrap()) - (1.0 - four / all)).abs() < 1e-5);
        let Some(base) = "ACGT".find(bases[i].as_str()) else {
            continue;
        };
        let expected = before[TOKENS[base]] - all.ln();
        assert!((f64::from(logp[i].unwrap()) - expected).abs() < 1e-5);
    }
}

#[test]
fn chunks_and_strands_agree_with_embed() {
    let whole = table("--logits --strand both --chunk 4096");
    let parts = table("--logits --strand both --chunk 64");
    assert_eq!(whole.keys(), parts.keys());
    assert!(difference(&parts.vectors("logits"), &whole.vectors("logits")) < 1e-5);
    // On the minus strand it is the last base that nothing was read before.
    let strands = whole.words("strand");
    let first: Vec<usize> = (0..whole.rows())
        .filter(|&i| whole.numbers("p_A")[i].is_none())
        .collect();
    let expected = [(0, "+"), (1799, "-"), (1800, "+"), (1800 + 123, "-")];
    assert_eq!(first, expected.map(|(i, _)| i));
    assert!(expected.iter().all(|&(i, strand)| strands[i] == strand));
}

#[test]
fn tracks_have_names() {
    for (option, prefix) in [
        ("--bigwig", "tracks/"),
        ("--bigwig", "-"),
        ("--bedgraph", "tracks/"),
        ("--bedgraph", "."),
    ] {
        let mut case = Case::new(&format!("predict a.fa -m model {option} {prefix}"));
        case = case.file("a.fa", text()).file("tracks/kept", "");
        case.run().fails(2, &[option, "begin with the prefix"]);
    }
}

#[test]
fn what_is_said_of_a_run_counts_the_sequences_that_have_rows() {
    for (options, words) in [
        ("", "962 rows of 2 sequences"),
        (
            "--region a:1-9 --region a:800-808",
            "18 rows of 1 sequences",
        ),
        ("--shard 2/3", "62 rows of 1 sequences"),
        ("--shard 3/3", "0 rows of 0 sequences"),
    ] {
        let line = format!("predict a.fa -m model -o out.parquet {options}");
        for index in [false, true] {
            let mut case = Case::new(&line).file("a.fa", text());
            if index {
                case = case.file("a.fa.fai", fai(&text()));
            }
            let outcome = case.run().succeeds(&["out.parquet"]);
            assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        }
    }
}

#[test]
fn masks_that_change_nothing_are_warned_of() {
    for line in ["predict a.fa", "reads a.fq"] {
        let mut case = Case::new(&format!("{line} -m model -o out.parquet --mask-every 4"))
            .file("a.fa", text())
            .file("a.fq", "@r\nACGT\n+\nIIII\n");
        let outcome = case.run().succeeds(&["out.parquet"]);
        let said = &outcome.stderr;
        assert!(said.contains("--mask-every changes nothing"), "{said}");
    }
}
