//! Regions on the command line and in BED files.

use crate::harness::{Case, bases, record};

/// Contigs chr1 (3000 bases), chr2 (200), HLA:A (100), HLA:A:1-5 (50) and HLA-A*01:01:01:01 (40).
fn case(args: &str) -> Case {
    let lengths = [
        ("chr1", 3000),
        ("chr2", 200),
        ("HLA:A", 100),
        ("HLA:A:1-5", 50),
        ("HLA-A*01:01:01:01", 40),
    ];
    let text = lengths
        .map(|(name, n)| record(name, &bases(n, n as usize), 60))
        .concat();
    Case::embed(text, args)
}

/// The first and last start of the rows, and how many there are.
fn rows(mut case: Case) -> (i64, i64, usize) {
    let starts = case
        .run()
        .succeeds(&["out.parquet"])
        .table()
        .integers("start");
    (starts[0], *starts.last().unwrap(), starts.len())
}

#[test]
fn what_is_no_region_is_a_usage_error_that_repeats_it() {
    for text in [
        "chr1:8-5",
        "chr1:0-5",
        "chr1:-8",
        "chr1:1-",
        ":1-5",
        "",
        "chr1:5-8-9",
        "chr1:1e3-2e3",
        "chr1:12345678901234567890",
    ] {
        let out = case("--region").arg(text).run();
        out.fails(2, &[&format!("\"{text}\""), "NAME:BEG-END"]);
    }
}

#[test]
fn spans_are_those_of_samtools() {
    for (text, expected) in [
        ("chr1:1,000-2,000", (999, 1999, 1001)),
        ("chr2", (0, 199, 200)),
        ("chr2:195", (194, 199, 6)),
        ("chr2:5-8", (4, 7, 4)),
    ] {
        assert_eq!(rows(case("--region").arg(text)), expected, "{text}");
    }
}

#[test]
fn names_with_colons_are_found_or_ambiguous() {
    let out = case("--region HLA:A:1-5").run();
    out.fails(2, &["ambiguous", "{HLA:A}:1-5"]);
    assert_eq!(rows(case("--region {HLA:A}:1-5")).2, 5);
    assert_eq!(rows(case("--region {HLA:A:1-5}")).2, 50);
    assert_eq!(rows(case("--region HLA-A*01:01:01:01")).2, 40);
}

#[test]
fn a_region_beyond_its_contig_is_cut_or_refused() {
    let cut = case("--region chr2:150-1000").run();
    let cut = cut.ends(0, &["warning", "chr2"], &["out.parquet"]);
    assert_eq!(cut.table().rows(), 51);
    case("--region chr2:201-300")
        .run()
        .fails(2, &["201", "200"]);
    case("--region chr3:1-5")
        .run()
        .fails(2, &["no such contig", "did you mean"]);
    // The same where an index is used.
    let fai = "chr1\t3000\t6\t60\t61\nchr2\t200\t3062\t60\t61\n";
    let indexed = |args| {
        let text = record("chr1", &bases(1, 3000), 60) + &record("chr2", &bases(2, 200), 60);
        Case::embed(text, args).file("a.fa.fai", fai).run()
    };
    indexed("--region chr2:150-1000").ends(0, &["warning", "chr2"], &["out.parquet"]);
    indexed("--region chr2:201-300").fails(2, &["201", "200"]);
    indexed("--region chr3:1-5").fails(2, &["no such contig", "did you mean"]);
}

#[test]
fn bed_files_are_read_as_documented() {
    let bed =
        |text: &str, args: &str| case(&format!("--regions-file r.bed {args}")).file("r.bed", text);
    let starts = |mut case: Case| {
        case.run()
            .succeeds(&["out.parquet"])
            .table()
            .integers("start")
    };
    let joined: Vec<i64> = (10..40).collect();
    // Overlapping and unsorted: each base once.
    assert_eq!(starts(bed("chr2\t20\t40\nchr2\t10\t30\n", "")), joined);
    let twelve = "track name=x\nchr2\t10\t40\tn\t0\t+\t10\t40\t0\t1\t30\t0\n";
    assert_eq!(starts(bed(twelve, "")), joined);
    assert_eq!(starts(bed("#c\r\nchr2\t10\t40\r\n", "")), joined);
    let empty = bed("chr2\t10\t40\nchr2\t5\t5\n", "").run();
    let said = ["warning", "1 regions have no base, and no row"];
    let empty = empty.ends(0, &said, &["out.parquet"]);
    assert_eq!(empty.table().integers("start"), joined);
    let strict = bed("chr2\t10\t40\nchr2\t5\t5\n", "--strict --summary s.json").run();
    let strict = strict.ends(6, &said, &["out.parquet", "s.json"]);
    let summary: serde_json::Value = serde_json::from_slice(strict.file("s.json")).unwrap();
    assert_eq!(summary["left_out"], 1);
    // Not all of the input.
    for text in ["", "#c\n", "chr2\t5\t5\n"] {
        bed(text, "").run().fails(3, &["r.bed", "no regions"]);
    }
    for (text, message) in [
        ("chr2\t40\t10\n", "before the start"),
        ("chr2\t-4\t10\n", "negative"),
        ("chr2\tx\t10\n", "not a position"),
        ("chr2\t4\n", "columns"),
    ] {
        let line = format!("chr2\t1\t2\n{text}");
        bed(&line, "").run().fails(3, &["r.bed", "line 2", message]);
    }
    // Overlaps are kept on request, where the file can be read at random.
    let text = record("chr2", &bases(2, 200), 60);
    let out = Case::embed(text, "--regions-file r.bed --keep-overlaps")
        .file("r.bed", "chr2\t20\t40\nchr2\t10\t30\n")
        .file("a.fa.fai", "chr2\t200\t6\t60\t61\n")
        .run()
        .succeeds(&["out.parquet"]);
    assert_eq!(out.table().rows(), 40);
    bed("chr2\t20\t40\nchr2\t10\t30\n", "--keep-overlaps")
        .run()
        .fails(2, &["overlap"]);
}
