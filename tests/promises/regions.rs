//! Regions whose contexts are more than their contig are read together, in one pass.

use crate::harness::table::Table;
use crate::harness::{Case, bases, fai, record};

const LENGTH: u64 = 6_000;

fn case(args: &str) -> Case {
    let text = record("c", &bases(1, LENGTH as usize), 60) + &record("d", &bases(2, 900), 60);
    // Touching, apart within a bin and within a step, at both ends; and one alone on its contig.
    let regions =
        "c\t0\t40\nc\t40\t55\nc\t58\t59\nc\t300\t2500\nc\t2504\t2520\nc\t5990\t6000\nd\t100\t200\n";
    Case::new(args)
        .file("a.fa.fai", fai(&text))
        .file("a.fa", text)
        .file("r.bed", regions)
        .seconds(60)
}

fn wanted(chrom: &str, start: i64) -> bool {
    let regions = [(0, 55), (58, 59), (300, 2500), (2504, 2520), (5990, 6000)];
    match chrom {
        "c" => regions
            .iter()
            .any(|(from, to)| (*from..*to).contains(&start)),
        _ => (100..200).contains(&start),
    }
}

/// Chromosome, start, strand and the numbers of the rows that regions ask for.
fn rows(table: &Table, column: &str) -> Vec<(String, i64, String, Option<f32>)> {
    let (chroms, strands) = (table.words("chrom"), table.words("strand"));
    let (starts, numbers) = (table.integers("start"), table.numbers(column));
    (0..table.rows())
        .filter(|&i| wanted(&chroms[i], starts[i]))
        .map(|i| (chroms[i].clone(), starts[i], strands[i].clone(), numbers[i]))
        .collect()
}

#[test]
fn regions_that_are_read_together_have_the_rows_of_their_contig() {
    for options in [
        "",
        "--strand reverse",
        "--strand both",
        "--chunk 700",
        "--strand mean --chunk 64",
    ] {
        // With so much context each region knows all of its contig.
        let line = format!("predict a.fa -m model -o out.parquet --context 6000 {options}");
        let whole = case(&line).run().succeeds(&["out.parquet"]).table();
        let line = format!("{line} --regions-file r.bed --summary s.json");
        let outcome = case(&line).run().succeeds(&["out.parquet", "s.json"]);
        let found = outcome.table();
        for column in ["logp_base", "p_A", "entropy"] {
            let (found, expected) = (rows(&found, column), rows(&whole, column));
            assert_eq!(found.len(), expected.len(), "{options}");
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(
                    (&found.0, found.1, &found.2),
                    (&expected.0, expected.1, &expected.2)
                );
                match (found.3, expected.3) {
                    (Some(x), Some(y)) => {
                        assert!((x - y).abs() <= 1e-5, "{options}: {found:?} {y}")
                    }
                    (x, y) => assert_eq!(x, y, "{options}: {found:?}"),
                }
            }
        }
        assert_eq!(
            found.rows(),
            rows(&found, "p_A").len(),
            "{options}: other rows"
        );
        let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
        let passes = if options.contains("both") || options.contains("mean") {
            2
        } else {
            1
        };
        let read = summary["encoder_bases"].as_u64().unwrap();
        assert!(read <= passes * (LENGTH + 900), "{options}: {read}");
    }
}

#[test]
fn bins_end_where_a_region_does() {
    for options in ["", "--strand both", "--strand reverse --chunk 64"] {
        let line = format!(
            "embed a.fa -m model -o out.parquet --context 6000 --regions-file r.bed --bin 50 {options}"
        );
        let table = case(&line).run().succeeds(&["out.parquet"]).table();
        let (starts, ends, chroms) = (
            table.integers("start"),
            table.integers("end"),
            table.words("chrom"),
        );
        for i in 0..table.rows() {
            let inside = (starts[i]..ends[i]).all(|at| wanted(&chroms[i], at));
            assert!(inside, "{options}: {}-{}", starts[i], ends[i]);
        }
        let rows = if options.contains("both") { 2 } else { 1 };
        // 0-50, 50-55; 58-59; 300-2500 in 44; 2504-2520; 5990-6000; and 100-200 of d in 2.
        assert_eq!(table.rows(), rows * (2 + 1 + 44 + 1 + 1 + 2), "{options}");
    }
}

#[test]
fn a_region_that_cannot_be_is_said_before_any_work() {
    let text = record("c", &bases(1, 900), 60);
    for region in ["x:1-5", "c:901-950"] {
        let line = format!("embed a.fa -m model -o out.parquet --region {region}");
        let mut case = Case::new(&line).file("a.fa", &text);
        let outcome = case.run().fails(2, &[region]);
        let lines: Vec<_> = outcome.stderr.lines().collect();
        let error = lines
            .iter()
            .position(|line| line.contains("error:"))
            .unwrap();
        let begun = lines.iter().position(|line| line.contains("start"));
        assert!(begun.is_none() && error == lines.len() - 1, "{lines:?}");
    }
}
