//! `table concat` on tables of runs.

use crate::harness::{Case, bases, record};

/// Contigs: longer than a row group, short, as long as one, longer again.
const LENGTHS: [usize; 5] = [40_000, 500, 300, 32_768, 33_001];

fn genome() -> String {
    let each = LENGTHS.iter().enumerate();
    let each = each.map(|(i, length)| record(&format!("c{i}"), &bases(i as u64 + 1, *length), 60));
    each.collect()
}

/// A directory with the genome, its index, and the table of `regions`, or all, as `name`.
fn add(case: Case, name: &str, args: &str, regions: &[usize]) -> Case {
    let regions: String = regions.iter().map(|i| format!(" --region c{i}")).collect();
    let mut case = case.args(&format!(
        "{args} a.fa -m model -o {name} {regions} --chunk 200000"
    ));
    case.run().succeeds(&[name]);
    case
}

fn case() -> Case {
    Case::new("").file("a.fa", genome()).seconds(120)
}

fn concat(case: Case, args: &str) -> Case {
    case.args(&format!("table concat {args}"))
}

#[test]
fn runs_over_contigs_become_the_bytes_of_one_run() {
    for args in [
        "embed",
        "embed --bin 100 --dtype f32",
        "predict --strand both",
    ] {
        let mut case = add(case(), "whole.parquet", args, &[]);
        for (i, part) in [&[1, 4][..], &[0], &[2, 3]].iter().enumerate() {
            case = add(case, &format!("{i}.parquet"), args, part);
        }
        let mut case = concat(case, "2.parquet 0.parquet 1.parquet -o joined.parquet");
        let outcome = case.run().succeeds(&["joined.parquet"]);
        let same = outcome.file("joined.parquet") == outcome.file("whole.parquet");
        assert!(same, "{args}");
        // What was joined can be joined again.
        let mut case = concat(case, "joined.parquet -o again.parquet");
        let outcome = case.run().succeeds(&["again.parquet"]);
        let same = outcome.file("again.parquet") == outcome.file("whole.parquet");
        assert!(same, "{args}");
    }
}

#[test]
fn gaps_are_named_and_allowed_only_if_asked() {
    let case = add(case(), "a.parquet", "embed --bin 64", &[0, 2]);
    let case = add(case, "b.parquet", "embed --bin 64", &[1]);
    let mut case = concat(case, "a.parquet b.parquet -o out.parquet");
    case.run()
        .fails(3, &["no table holds c3, c4", "--allow-gaps"]);
    let mut case = concat(case, "a.parquet b.parquet -o out.parquet --allow-gaps");
    let table = case.run().succeeds(&["out.parquet"]).table();
    let names = table.words("chrom");
    let counts = ["c0", "c1", "c2"].map(|name| names.iter().filter(|found| *found == name).count());
    assert_eq!(
        counts,
        [
            40_000usize.div_ceil(64),
            500usize.div_ceil(64),
            300usize.div_ceil(64)
        ]
    );
    assert!(names.is_sorted());
    let regions = serde_json::json!(["c0", "c1", "c2"]);
    assert_eq!(table.footer["selection"]["regions"], regions);
}

#[test]
fn only_parts_of_one_table_are_joined() {
    let text = record("a", &bases(1, 900), 60) + &record("b", &bases(2, 700), 60);
    let mut case = Case::new("").file("a.fa", &text).file("b.fa", &text);
    for (name, args) in [
        ("a", "embed a.fa --region a"),
        ("b", "embed a.fa --region b"),
        ("half", "embed a.fa --region a:1-450"),
        ("late", "embed a.fa --region a:400-900"),
        ("both", "embed a.fa --region b --strand both"),
        ("bins", "embed a.fa --region b --bin 10"),
        ("f32", "embed a.fa --region b --dtype f32"),
        ("file", "embed b.fa --region b"),
        ("predicted", "predict a.fa --region b"),
        ("all", "embed a.fa"),
    ] {
        case = case.args(&format!("{args} -m model -o {name}.parquet"));
        case.run().succeeds(&[&format!("{name}.parquet")]);
    }
    for (tables, why) in [
        (
            "a both",
            "inference.strand is \"both\", but \"forward\" in a.parquet",
        ),
        ("a bins", "columns.base is absent, but present in a.parquet"),
        ("a f32", "columns.embedding.dtype is \"float32\""),
        ("a file", "reference.path is \"b.fa\", but \"a.fa\""),
        (
            "a predicted",
            "table is \"predictions\", but \"embeddings\"",
        ),
        ("a b a", "the row at a:1 is also in"),
        ("all b", "the row at b:1 is also in"),
        ("half late b", "the row at a:400 is also in"),
        ("half b", "no table holds a:451-900"),
    ] {
        let tables: String = tables
            .split(' ')
            .map(|name| format!("{name}.parquet "))
            .collect();
        let mut case = case
            .copy()
            .args(&format!("table concat {tables} -o out.parquet"));
        case.run().fails(3, &[why]);
    }
    for (args, code, why) in [
        (
            "a.parquet b.parquet -o b.parquet --force",
            2,
            "also an input",
        ),
        ("a.parquet b.parquet -o out.tsv", 2, "its name says .tsv"),
        (
            "a.parquet a.fa -o out.parquet",
            3,
            "a.fa: not a Parquet file",
        ),
        ("a.parquet none.parquet -o out.parquet", 5, "none.parquet: "),
    ] {
        let mut case = case.copy().args(&format!("table concat {args}"));
        case.run().fails(code, &[why]);
    }
}
