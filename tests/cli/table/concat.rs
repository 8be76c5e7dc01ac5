//! `table concat` on tables of runs.

use crate::harness::{Case, bases, record};
use serde_json::json;

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
        ("rest", "embed a.fa --region a:451-900 --context 9"),
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
        (
            "half rest b",
            "params.context is 9, but 128 in half.parquet",
        ),
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

/// Tables that `crocuta` writes, each as the lines of its command and its name.
fn made(case: Case, lines: &[(&str, &str)]) -> Case {
    lines.iter().fold(case, |case, (name, line)| {
        let mut case = case.args(&format!("{line} -m model -o {name}"));
        case.run().succeeds(&[name]);
        case
    })
}

#[test]
fn regions_of_files_join_as_those_of_the_command_line_do() {
    let case = case().file(
        "rest.bed",
        "c0\t0\t40000\nc2\t0\t300\nc4\t0\t33001\nc3\t0\t32768\n",
    );
    let embed = "embed a.fa --bin 64 --chunk 200000";
    let case = made(
        case,
        &[
            ("whole", embed),
            ("rest", &format!("{embed} --regions-file rest.bed")),
            ("c1", &format!("{embed} --region c1")),
        ],
    );
    let outcome = concat(case, "rest c1 -o out").run().succeeds(&["out"]);
    assert!(outcome.file("out") == outcome.file("whole"));
}

#[test]
fn stretches_of_a_contig_are_not_said_to_be_a_run_over_all_of_it() {
    let text = record("a", &bases(1, 900), 60) + &record("b", &bases(2, 700), 60);
    let case = Case::new("").file("a.fa", &text);
    let part = |region: &str| format!("embed a.fa --context 64 --region {region}");
    let mut case = made(
        case,
        &[
            ("1", &part("a:1-450")),
            ("2", &part("a:451-900")),
            ("b", "embed a.fa --region b"),
        ],
    );
    for (tables, regions) in [
        ("2 1 b -o out.parquet", json!(["a:1-450", "a:451-900", "b"])),
        ("b 1 -o out.parquet --allow-gaps", json!(["a:1-450", "b"])),
    ] {
        let mut case = concat(case.copy(), tables);
        let found = case.run().succeeds(&["out.parquet"]).table().footer;
        assert_eq!(found["selection"], json!({"regions": regions}));
        assert_eq!(found["params"]["context"], 64, "{tables}");
    }
    // What was joined can be joined again.
    case = concat(case, "1 b -o some --allow-gaps");
    case.run().succeeds(&["some"]);
    let mut case = concat(case, "some 2 -o out.parquet");
    let found = case.run().succeeds(&["out.parquet"]).table().footer;
    let regions = json!(["a:1-450", "a:451-900", "b"]);
    assert_eq!(found["selection"], json!({"regions": regions}));
}

#[test]
fn intervals_of_several_files_are_joined_and_named() {
    let text = record("a", &bases(1, 900), 60) + &record("b", &bases(2, 700), 60);
    let case = Case::new("")
        .file("a.fa", &text)
        .file("1.bed", "b\t5\t50\tx\na\t10\t20\ty\n")
        .file("2.bed", "a\t10\t30\tz\na\t10\t15\tv\na\t5\t9\tw\n");
    let part = |file: &str| format!("embed a.fa --intervals {file}");
    let case = made(case, &[("1", &part("1.bed")), ("2", &part("2.bed"))]);
    concat(case.copy(), "1 2 1 -o out")
        .run()
        .fails(3, &["1: it may have rows that 1 has too"]);
    let mut case = concat(case, "2 1 -o out.parquet");
    let found = case.run().succeeds(&["out.parquet"]).table();
    let names: Vec<String> = found.texts("name").into_iter().flatten().collect();
    assert_eq!(names.concat(), "wvzyx");
    let parts = found.footer["parts"].as_array().unwrap();
    let files: Vec<_> = parts
        .iter()
        .map(|part| &part["params"]["intervals"])
        .collect();
    assert_eq!(files, ["2.bed", "1.bed"]);
    assert_eq!(
        (&parts[0]["rows"], &parts[0]["selection"]["count"]),
        (&json!(3), &json!(3))
    );
    assert!(found.footer["selection"].is_null() && found.footer["params"]["intervals"].is_null());
}

#[test]
fn variants_of_several_files_come_one_after_another() {
    let text = record("a", &bases(1, 900), 60) + &record("b", &bases(2, 700), 60);
    let vcf = |places: &[(&str, usize, &str)]| {
        let line = |(contig, at, id): &(&str, usize, &str)| {
            let letter = &bases(if *contig == "a" { 1 } else { 2 }, 700)[at - 1..*at];
            let other = if letter == "A" { "C,G" } else { "A,N" };
            format!("{contig}\t{at}\t{id}\t{letter}\t{other}\t.\t.\t.\n")
        };
        let lines: String = places.iter().map(line).collect();
        format!("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{lines}")
    };
    let case = Case::new("")
        .file("a.fa", &text)
        .file("1.vcf", vcf(&[("b", 5, "x")]))
        .file("2.vcf", vcf(&[("a", 9, "y"), ("b", 8, "z")]))
        .file("copy.vcf", vcf(&[("b", 5, "x")]));
    let score = |vcf: &str| format!("score {vcf} -r a.fa --after 20");
    let lines =
        ["1.vcf", "2.vcf", "copy.vcf"].map(|vcf| (vcf.split_once('.').unwrap().0, score(vcf)));
    let lines: Vec<(&str, &str)> = lines
        .iter()
        .map(|(name, line)| (*name, line.as_str()))
        .collect();
    let case = made(case, &lines);
    let case = made(
        case,
        &[
            ("other", "score 2.vcf -r a.fa --after 21"),
            ("near", "score 2.vcf -r a.fa --after 20 --context 30"),
            ("begin", "score 2.vcf -r a.fa --after 20 --region a:1-400"),
            ("rest", "score 2.vcf -r a.fa --after 20 --region a:401-900"),
            ("b", "score 2.vcf -r a.fa --after 20 --region b"),
            ("sat1", "score --saturate b:11-20 -r a.fa --after 20"),
            ("sat2", "score --saturate b:21-30 -r a.fa --after 20"),
            ("sat3", "score --saturate b:30-31 -r a.fa --after 20"),
        ],
    );
    for (tables, why) in [
        ("1 2 copy", "copy: it may have rows that 1 has too"),
        ("1 other", "params.after is 21, but 20 in 1"),
        ("1 near", "params.context is 30, but 128 in 1"),
        ("b begin rest", "rest: it may have rows that begin has too"),
        ("sat1 sat2 sat3", "sat3: it may have rows that sat2 has too"),
    ] {
        concat(case.copy(), &format!("{tables} -o out"))
            .run()
            .fails(3, &[why]);
    }
    let mut case = concat(case, "1 2 -o joined");
    case.run().succeeds(&["joined"]);
    let mut case = concat(case, "joined sat2 sat1 -o out.parquet");
    let found = case.run().succeeds(&["out.parquet"]).table();
    let ids: Vec<String> = found.texts("id").into_iter().flatten().collect();
    assert_eq!(ids.concat(), "xxyyzz");
    assert_eq!(found.rows(), 6 + 60);
    let parts = found.footer["parts"].as_array().unwrap();
    let rows: Vec<_> = parts
        .iter()
        .map(|part| part["rows"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [2, 4, 30, 30]);
    assert_eq!(parts[1]["params"]["input"], "2.vcf");
    assert_eq!(parts[2]["selection"]["regions"], json!(["b:21-30"]));
}

#[test]
fn reads_of_several_files_and_of_regions_that_share_no_contig_are_joined() {
    let read = |names: &str| {
        let each = names
            .chars()
            .map(|name| format!("@{name}\n{}\n+\nIIIII\n", bases(7, 5)));
        each.collect::<String>()
    };
    let sam = "@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:c1\tLN:900\n@SQ\tSN:c2\tLN:900\n".to_string()
        + "p\t0\tc1\t5\t60\t5M\t*\t0\t0\tACGTA\tIIIII\nq\t0\tc2\t9\t60\t5M\t*\t0\t0\tAAGTA\tIIIII\n";
    let mut case = Case::new("reads a.sam -m model -o whole --bam-out a.bam")
        .file("1.fq", read("ab"))
        .file("2.fq", read("cde"))
        .file("a.sam", sam);
    case.run().succeeds(&["whole", "a.bam", "a.bam.bai"]);
    let case = made(case, &[("1", "reads 1.fq"), ("2", "reads 2.fq")]);
    concat(case.copy(), "1 1 -o out")
        .run()
        .fails(3, &["give each part once"]);
    let mut joined = concat(case.copy(), "2 1 -o out.parquet");
    let found = joined.run().succeeds(&["out.parquet"]).table();
    let names: Vec<String> = found.texts("read_name").into_iter().flatten().collect();
    assert_eq!(names.concat(), "cdeab");
    let region = |region: &str| format!("reads a.bam --region {region}");
    let case = made(
        case,
        &[
            ("c1", &region("c1")),
            ("c2", &region("c2")),
            ("begin", &region("c1:1-9")),
        ],
    );
    concat(case.copy(), "c1 c2 begin -o out")
        .run()
        .fails(3, &["begin: it may have rows that c1 has too"]);
    let mut case = concat(case, "c2 c1 -o out.parquet");
    let found = case.run().succeeds(&["out.parquet"]).table();
    let names: Vec<String> = found.texts("read_name").into_iter().flatten().collect();
    assert_eq!(names.concat(), "qp");
}
