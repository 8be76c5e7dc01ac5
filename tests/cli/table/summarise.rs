//! `table summarise`.

use crate::harness::compare::close;
use crate::harness::table::Table;
use crate::harness::{Case, bases, record, skipped};
use std::process::Command;

fn predicted() -> Case {
    let text = record("c", &bases(1, 900), 60) + &record("d", &bases(2, 300), 60);
    let mut case = Case::new("predict a.fa -m model -o table --strand both").file("a.fa", text);
    case.run().succeeds(&["table"]);
    case.file(
        "i.bed",
        "d\t10\t40\tx\t3.5\t-\nc\t0\t900\tall\nc\t5\t6\tone\nc\t899\t950\tend\ne\t1\t9\tnone\n",
    )
}

fn read(case: &Case, name: &str) -> Table {
    Table::read(&std::fs::read(case.path(name)).unwrap())
}

/// n, mean, sd and quantiles, as they are defined; NULL is not a number here.
fn expected(numbers: &[f64]) -> Vec<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / n;
    let squares: f64 = sorted.iter().map(|x| (x - mean).powi(2)).sum();
    let quantile = |part: f64| {
        let place = part * (n - 1.0);
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        match sorted.get(low) {
            None => f64::NAN,
            Some(at) => at + (sorted[high] - at) * place.fract(),
        }
    };
    let sd = if n > 1.0 {
        (squares / (n - 1.0)).sqrt()
    } else {
        f64::NAN
    };
    let mut all = vec![n, mean, sd];
    all.extend([0.05, 0.25, 0.5, 0.75, 0.95].map(quantile));
    all
}

const NAMES: [&str; 8] = ["n", "mean", "sd", "q05", "q25", "q50", "q75", "q95"];

/// The row of a group in a table of summaries.
fn found(table: &Table, column: &str, row: usize) -> Vec<f64> {
    let value = |name: &&str| {
        let name = format!("{column}_{name}");
        if name.ends_with("_n") {
            table.integers(&name)[row] as f64
        } else {
            table.doubles(&name)[row].unwrap_or(f64::NAN)
        }
    };
    NAMES.iter().map(value).collect()
}

fn same(what: &str, found: &[f64], expected: &[f64]) {
    let plain = |all: &[f64]| {
        all.iter()
            .map(|x| if x.is_nan() { -1e9 } else { *x })
            .collect::<Vec<_>>()
    };
    close(what, &plain(found), &plain(expected), 1e-12);
}

#[test]
fn intervals_have_the_statistics_of_the_rows_that_they_overlap() {
    let line =
        "table summarise table --by i.bed --columns entropy,logp_base,context_left -o out.parquet";
    let mut case = predicted().args(line);
    let summary = case.run().succeeds(&["out.parquet"]).table();
    let table = read(&case, "table");
    let names: Vec<String> = summary.texts("name").into_iter().flatten().collect();
    assert_eq!(names, ["x", "all", "one", "end", "none"]);
    assert_eq!(summary.integers("rows"), [60, 1800, 2, 2, 0]);
    assert_eq!(summary.words("strand")[..2], ["-", "."]);
    let (chroms, starts) = (table.words("chrom"), table.integers("start"));
    let places = [
        ("d", 10, 40),
        ("c", 0, 900),
        ("c", 5, 6),
        ("c", 899, 950),
        ("e", 1, 9),
    ];
    let left: Vec<Option<f64>> = table
        .integers("context_left")
        .iter()
        .map(|x| Some(*x as f64))
        .collect();
    let real = |name: &str| -> Vec<Option<f64>> {
        table
            .numbers(name)
            .into_iter()
            .map(|x| x.map(f64::from))
            .collect()
    };
    for (column, numbers) in [
        ("entropy", real("entropy")),
        ("logp_base", real("logp_base")),
        ("context_left", left),
    ] {
        for (row, (chrom, start, end)) in places.into_iter().enumerate() {
            let here = |at: &usize| chroms[*at] == chrom && (start..end).contains(&starts[*at]);
            let rows = (0..table.rows()).filter(here);
            let own: Vec<f64> = rows.filter_map(|at| numbers[at]).collect();
            same(column, &found(&summary, column, row), &expected(&own));
        }
    }
    assert_eq!(summary.footer["summary"]["by"], "i.bed");
    // What it is can be shown, and as text it says the same.
    let mut case = case.args("table show out.parquet");
    let text = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
    assert!(text.contains("table: summary\n"), "{text}");
    let line = "table summarise table --by i.bed --columns entropy -o out.tsv";
    let mut case = case.args(line);
    let outcome = case.run().succeeds(&["out.tsv"]);
    let text = String::from_utf8(outcome.file("out.tsv").to_vec()).unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(
        lines[0][..8].join(" "),
        "chrom start end name score strand rows entropy_n"
    );
    assert_eq!(lines[1][..8].join(" "), "d 10 40 x 3.5 - 60 60");
    assert_eq!(
        lines[1][8].parse::<f64>().unwrap(),
        found(&summary, "entropy", 0)[1]
    );
    assert_eq!(
        lines[5][..].join(" "),
        "e 1 9 none NA . 0 0 NA NA NA NA NA NA NA"
    );
}

#[test]
fn values_of_a_column_are_groups() {
    for (by, words) in [("strand", ["+", "-"]), ("chrom", ["c", "d"])] {
        let line = format!("table summarise table --by {by} -o out.parquet");
        let mut case = predicted().args(&line);
        let summary = case.run().succeeds(&["out.parquet"]).table();
        let table = read(&case, "table");
        let names: Vec<String> = summary.texts(by).into_iter().flatten().collect();
        assert_eq!(names, words);
        let values = table.words(by);
        for (row, word) in words.into_iter().enumerate() {
            let numbers = table.numbers("p_A").into_iter().zip(&values);
            let own = numbers.filter(|(_, value)| *value == word);
            let own: Vec<f64> = own.filter_map(|(x, _)| x.map(f64::from)).collect();
            same(by, &found(&summary, "p_A", row), &expected(&own));
        }
    }
    for (args, why) in [
        (
            "--by nothing",
            "nothing is neither a column of it nor a file",
        ),
        (
            "--by entropy",
            "the column entropy holds no words and no whole numbers",
        ),
        (
            "--by strand --columns base",
            "the column base holds no numbers",
        ),
        ("--by strand --columns x", "there is no column x"),
    ] {
        let mut case = predicted().args(&format!("table summarise table {args} -o out.parquet"));
        case.run().fails(2, &[why]);
    }
}

#[test]
fn duckdb_computes_the_same_summaries_and_joins() {
    let Some(python) = std::env::var_os("CROCUTA_PYTHON") else {
        skipped("set CROCUTA_PYTHON to a Python with pyarrow, polars, pandas and duckdb");
        return;
    };
    let mut case = predicted();
    for line in [
        "table summarise table --by i.bed -o intervals.parquet",
        "table summarise table --by base -o bases.parquet",
        "table join table i.bed -o joined.parquet",
    ] {
        case = case.args(line);
        case.run().succeeds(&[line.rsplit(' ').next().unwrap()]);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/summaries.py");
    let out = Command::new(python)
        .arg(script)
        .arg(case.path(""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
}

#[test]
fn a_gene_over_the_origin_of_a_circle_has_the_rows_at_both_ends_in_summaries_and_in_joins() {
    let gff = "c\tx\tregion\t1\t900\t.\t+\t.\tID=r;Is_circular=true\n\
        c\tx\tgene\t881\t930\t.\t+\t.\tID=over\nd\tx\tgene\t291\t310\t.\t+\t.\tID=line\n";
    let mut case = predicted().file("g.gff3", gff);
    let table = read(&case, "table");
    let (chroms, starts) = (table.words("chrom"), table.integers("start"));
    let inside = |row: &usize| match chroms[*row].as_str() {
        "c" => starts[*row] >= 880 || starts[*row] < 30,
        _ => starts[*row] >= 290,
    };
    case = case.args("table summarise table --by g.gff3 --columns entropy -o sums.parquet");
    case.run().succeeds(&["sums.parquet"]);
    let sums = read(&case, "sums.parquet");
    assert_eq!(sums.integers("rows"), [100, 20]);
    let ends = [sums.integers("start"), sums.integers("end")];
    assert_eq!(ends, [[880, 290], [930, 310]]);
    let entropy = table.numbers("entropy");
    let over = (0..table.rows()).filter(|row| chroms[*row] == "c" && inside(row));
    let over: Vec<f64> = over.filter_map(|row| entropy[row].map(f64::from)).collect();
    same("over", &found(&sums, "entropy", 0), &expected(&over));
    case = case.args("table join table g.gff3 --matched -o joined.parquet");
    case.run().succeeds(&["joined.parquet"]);
    let joined = read(&case, "joined.parquet");
    let kept: Vec<i64> = (0..table.rows())
        .filter(inside)
        .map(|row| starts[row])
        .collect();
    assert_eq!(joined.integers("start"), kept);
    // A circle of another length is one of another assembly.
    let mut case = case.file("g.gff3", gff.replace("\t900\t", "\t899\t"));
    for line in [
        "table summarise table --by g.gff3 --columns entropy -o x.parquet",
        "table join table g.gff3 -o x.parquet",
    ] {
        case = case.args(line);
        let said = "g.gff3: c is a circle of 899 bases here, but the sequence has 900";
        case.run().fails(3, &[said]);
    }
}
