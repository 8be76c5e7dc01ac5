//! `table concat` on parts of every shape, of every kind of table.

use crate::harness::table::Table;
use crate::harness::{Case, bases, record};
use crocuta::io::atomic::AtomicFile;
use crocuta::io::compression::Compression;
use crocuta::io::table_writer::{ColumnKind, ColumnSpec, TableWriter, Values};
use crocuta::io::vector::Element;
use crocuta::table::Groups;
use serde_json::{Value, json};
use std::path::Path;

/// The contigs of the reference.
const CONTIGS: [(&str, i64); 6] = [
    ("long", 100_000),
    ("short", 400),
    ("shorter", 30),
    ("group", 32_768),
    ("last", 40_000),
    ("end", 7),
];

/// Where a row stands: its contig, start and end; of a record, contig 0 and its number. A row of a
/// haplotype stands after all records.
#[derive(Clone, Copy)]
struct Row {
    contig: usize,
    start: i64,
    end: i64,
    haplotype: bool,
}

fn row(contig: usize, start: i64) -> Row {
    Row {
        contig,
        start,
        end: start + 1,
        haplotype: false,
    }
}

fn columns(kind: &str) -> Vec<ColumnSpec> {
    let record = match kind {
        "reads" | "read_bases" => Some("read_index"),
        "variants" => Some("record_index"),
        _ => None,
    };
    let vector = (Element::F16, 3);
    let mut columns = vec![
        ColumnSpec::new("chrom", ColumnKind::Words),
        ColumnSpec::new(record.unwrap_or("start"), ColumnKind::I64),
        ColumnSpec::new("end", ColumnKind::I64),
        ColumnSpec::new("read_name", ColumnKind::Text),
        ColumnSpec::new("value", ColumnKind::OptionalF64),
    ];
    let (element, dim) = vector;
    columns.push(match kind {
        "variants" => ColumnSpec::new("haplotype", ColumnKind::OptionalI64),
        "reads" => ColumnSpec::new("embedding", ColumnKind::OptionalVector { element, dim }),
        _ => ColumnSpec::new("embedding", ColumnKind::Vector { element, dim }),
    });
    columns
}

fn values(kind: &str, rows: &[Row]) -> Vec<Values> {
    let words = CONTIGS.map(|(name, _)| name.to_string()).to_vec();
    let number = |row: &Row| half::f16::from_f32((row.start as f32 * 0.37).sin());
    let numbers = rows.iter().flat_map(|row| [number(row); 3]).collect();
    vec![
        Values::Words {
            codes: rows.iter().map(|row| row.contig as i32).collect(),
            words,
        },
        Values::I64(rows.iter().map(|row| row.start).collect()),
        Values::I64(rows.iter().map(|row| row.end).collect()),
        Values::Text(
            rows.iter()
                .map(|row| Some(format!("r{}", row.start)))
                .collect(),
        ),
        Values::OptionalF64(
            rows.iter()
                .map(|row| (row.start % 7 != 0).then_some(row.start as f64))
                .collect(),
        ),
        match kind {
            "variants" => {
                Values::OptionalI64(rows.iter().map(|row| row.haplotype.then_some(1)).collect())
            }
            "reads" => Values::OptionalF16Vectors {
                values: numbers,
                present: rows.iter().map(|row| row.start % 5 != 0).collect(),
            },
            _ => Values::F16Vectors(numbers),
        },
    ]
}

/// Writes a table as commands do, in batches of `size` rows.
fn write(path: &Path, kind: &str, rows: &[Row], shard: Option<Value>, size: usize) {
    let contigs = CONTIGS.map(|(name, length)| json!({"name": name, "length": length}));
    let mut footer = json!({"version": "1.0.0", "table": kind, "reference": {"contigs": contigs},
        "selection": {"regions": []}});
    if let Some(shard) = shard {
        let several = shard["index"].is_array();
        footer[if several { "shards" } else { "shard" }] = shard;
    }
    footer["complete"] = json!(true);
    let file = AtomicFile::create(path, false).unwrap();
    let mut writer = TableWriter::create(file, &columns(kind), Compression::default()).unwrap();
    let mut groups = Groups::of_table(kind, 1).unwrap();
    for batch in rows.chunks(size) {
        for same in batch.chunk_by(|a, b| a.contig == b.contig) {
            let by_contig = ["embeddings", "interval_embeddings"].contains(&kind);
            let name = if by_contig {
                CONTIGS[same[0].contig].0
            } else {
                ""
            };
            let mut left = same;
            while !left.is_empty() {
                let taken = groups.fit(name, left.iter().map(|row| (row.start, row.end)));
                if taken == 0 {
                    writer.close_group().unwrap();
                    groups.end();
                }
                writer.write(values(kind, &left[..taken])).unwrap();
                left = &left[taken..];
            }
        }
    }
    writer.finish(&footer).unwrap();
}

/// Rows of `kind` go to `parts` as `part_of` says, and come back by `table concat`.
fn check(kind: &str, by: &str, rows: &[Row], parts: usize, part_of: impl Fn(usize, &Row) -> usize) {
    let case = Case::new("").seconds(120);
    // Each stretch of bases begins anew: that is not the single run.
    let all = json!({"index": (1..=parts).collect::<Vec<_>>(), "of": parts, "by": by});
    let all = (by == "bases").then_some(all);
    write(&case.path("whole.parquet"), kind, rows, all, 8192);
    let mut names = String::new();
    for part in 0..parts {
        let mine = rows
            .iter()
            .enumerate()
            .filter(|(i, row)| part_of(*i, row) == part);
        let mine: Vec<Row> = mine.map(|(_, row)| *row).collect();
        let shard = json!({"index": part + 1, "of": parts, "by": by});
        let name = format!("{part}.parquet");
        write(&case.path(&name), kind, &mine, Some(shard), 1000 + part);
        names = format!("{name} {names}");
    }
    let mut case = case.args(&format!("table concat {names} -o out.parquet"));
    let outcome = case.run().succeeds(&["out.parquet"]);
    let same = outcome.file("out.parquet") == outcome.file("whole.parquet");
    assert!(same, "{kind} by {by} in {parts} parts");
}

fn positions(strands: usize) -> Vec<Row> {
    let contigs = CONTIGS.iter().enumerate();
    let all =
        contigs.flat_map(|(contig, (_, length))| (0..*length).map(move |start| row(contig, start)));
    all.flat_map(|row| vec![row; strands]).collect()
}

#[test]
fn shards_of_contigs_and_of_bases_become_the_whole() {
    for strands in [1, 2] {
        let rows = positions(strands);
        check("embeddings", "contig", &rows, 1, |_, _| 0);
        check("embeddings", "contig", &rows, 3, |_, row| row.contig % 3);
        check("embeddings", "contig", &rows, 6, |_, row| row.contig);
        // More shards than contigs.
        check("embeddings", "contig", &rows, 8, |_, row| row.contig);
        let each = rows.len() / strands / 4 + 1;
        check("embeddings", "bases", &rows, 4, |i, _| i / strands / each);
    }
}

#[test]
fn shards_of_intervals_become_the_whole() {
    let rows: Vec<Row> = (0..70_000)
        .map(|i: i64| Row {
            end: i / 20_000 * 10 + 300 + i % 17,
            ..row((i / 20_000) as usize, i % 20_000 / 3)
        })
        .collect();
    check("interval_embeddings", "contig", &rows, 3, |_, row| {
        row.contig % 3
    });
}

#[test]
fn shards_of_reads_become_the_whole() {
    // Some records have no row.
    let records = (0..80_000).filter(|i| i % 13 != 5);
    let rows: Vec<Row> = records.map(|i| row(0, i)).collect();
    check("reads", "read", &rows, 3, |_, row| {
        (row.start / 4096 % 3) as usize
    });
    check("reads", "read", &rows, 2, |_, row| {
        (row.start / 40_001) as usize
    });
    let bases = (0..400).flat_map(|read| vec![row(0, read); 150 + read as usize]);
    let bases: Vec<Row> = bases.collect();
    check("read_bases", "read", &bases, 3, |_, row| {
        (row.start / 50 % 3) as usize
    });
}

#[test]
fn shards_of_variants_become_the_whole_with_the_haplotypes_behind() {
    // In the order of the file, which need not be that of the contigs; several alleles a record.
    let allele = |i: i64| Row {
        contig: (i / 9_000 % 4) as usize,
        ..row(0, i / 2)
    };
    let mut rows: Vec<Row> = (0..90_000).map(allele).collect();
    let carried = (0..4).flat_map(|contig| {
        let starts = [3, 40, 7, 41].into_iter();
        starts.map(move |start| Row {
            haplotype: true,
            ..row(contig, start)
        })
    });
    rows.extend(carried);
    check("variants", "contig", &rows, 3, |_, row| row.contig % 3);
    check("variants", "site", &rows[..90_000], 2, |_, row| {
        (row.start / 20_000 / 2) as usize
    });
}

#[test]
fn shards_that_are_missing_or_come_twice_are_named() {
    let case = Case::new("").seconds(120);
    let rows = positions(1);
    for part in 0..3 {
        let mine: Vec<Row> = rows
            .iter()
            .copied()
            .filter(|row| row.contig % 3 == part)
            .collect();
        let shard = json!({"index": part + 1, "of": 3, "by": "contig"});
        write(
            &case.path(&format!("{part}.parquet")),
            "embeddings",
            &mine,
            Some(shard),
            8192,
        );
    }
    write(&case.path("whole.parquet"), "embeddings", &rows, None, 8192);
    for (name, index, of) in [("far", 5, 3), ("many", u64::MAX, u64::MAX)] {
        let shard = json!({"index": index, "of": of, "by": "contig"});
        let path = case.path(&format!("{name}.parquet"));
        write(&path, "embeddings", &rows[..5], Some(shard), 8192);
    }
    let shard = json!({"index": 1, "of": 4, "by": "contig"});
    write(
        &case.path("other.parquet"),
        "embeddings",
        &rows[..5],
        Some(shard),
        8192,
    );
    for (tables, why) in [
        ("0.parquet 2.parquet", "1 of 3 shards are missing: 2"),
        (
            "0.parquet 1.parquet 0.parquet",
            "shard 1 is also in 0.parquet",
        ),
        (
            "0.parquet other.parquet",
            "shard.of is 4, but 3 in 0.parquet",
        ),
        (
            "0.parquet whole.parquet",
            "some tables are shards and some are not",
        ),
        ("far.parquet 0.parquet", "damaged: shard 5 of 3"),
        (
            "many.parquet",
            "18446744073709551614 of 18446744073709551615 shards are missing: 1, 2, 3, 4, 5 and",
        ),
    ] {
        let mut case = case
            .copy()
            .args(&format!("table concat {tables} -o out.parquet"));
        case.run().fails(3, &[why]);
    }
    let mut case = case.args("table concat 2.parquet 0.parquet -o some.parquet --allow-gaps");
    let outcome = case.run().succeeds(&["some.parquet"]);
    let some = Table::read(outcome.file("some.parquet"));
    assert_eq!(
        some.footer["shards"],
        json!({"index": [1, 3], "of": 3, "by": "contig"})
    );
    let mut case = case.args("table concat some.parquet 1.parquet -o all.parquet");
    let outcome = case.run().succeeds(&["all.parquet"]);
    assert!(outcome.file("all.parquet") == outcome.file("whole.parquet"));
}

#[test]
fn real_shards_become_the_bytes_of_the_single_run() {
    let text = record("a", &bases(1, 900), 60)
        + &record("b", &bases(2, 700), 60)
        + &record("c", &bases(3, 1300), 60);
    let reads: String = (0..9000)
        .map(|i| format!("@r{i}\n{}\n+\nIIIII\n", bases(i, 5)))
        .collect();
    let places = [
        (3, 'c', 40),
        (1, 'a', 7),
        (3, 'c', 9),
        (2, 'b', 80),
        (1, 'a', 300),
    ];
    let variant = |(seed, contig, at): (u64, char, usize)| {
        let letter = &bases(seed, at)[at - 1..];
        let other = if letter == "A" { "C,G" } else { "A" };
        format!("{contig}\t{at}\t.\t{letter}\t{other}\t.\t.\t.\n")
    };
    let header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    let variants: String = places.into_iter().map(variant).collect();
    let case = Case::new("")
        .file("a.fa", text)
        .file("r.bed", "a\t10\t300\nc\t5\t800\nc\t900\t1000\n")
        .file("i.bed", "c\t10\t300\tx\na\t5\t80\ty\na\t9\t50\tz\n")
        .file("a.fq", reads)
        .file("v.vcf", header.to_string() + &variants)
        .seconds(60);
    for line in [
        "embed a.fa --chunk 256",
        "embed a.fa --bin 64 --strand both",
        "embed a.fa --regions-file r.bed",
        "embed a.fa --intervals i.bed",
        "predict a.fa --strand both",
        "predict a.fa --region c:1-500 --region a",
        "reads a.fq",
        "score v.vcf -r a.fa --after 20",
        "score v.vcf -r a.fa --mode window --window 100 --shard-by site",
    ] {
        let run = |args: &str, name: &str| {
            let mut case = case
                .copy()
                .args(&format!("{line} -m model {args} -o {name}"));
            case.run().succeeds(&[name]).file(name).to_vec()
        };
        let line_of_whole = line.replace(" --shard-by site", "");
        let mut whole = case
            .copy()
            .args(&format!("{line_of_whole} -m model -o whole"));
        let whole = whole.run().succeeds(&["whole"]).file("whole").to_vec();
        let mut joined = case.copy().args("table concat 3 1 2 -o joined");
        for index in 1..=3 {
            let name = index.to_string();
            let part = run(&format!("--shard {index}/3"), &name);
            joined = joined.file(&name, part);
        }
        let same = joined.run().succeeds(&["joined"]).file("joined") == whole;
        assert!(same, "{line}");
    }
    // Stretches of bases, and sites in a stream, begin anew: the joined table says so.
    for (line, by) in [
        ("embed a.fa --shard-by bases --context 100", "bases"),
        (
            "score v.vcf -r a.fa --after 20 --shard-by site --context 100",
            "site",
        ),
    ] {
        let mut joined = case.copy();
        for index in 1..=2 {
            joined = joined.args(&format!("{line} -m model --shard {index}/2 -o {index}"));
            joined.run().succeeds(&[&index.to_string()]);
        }
        let mut joined = joined.args("table concat 2 1 -o out.parquet");
        let footer = joined.run().succeeds(&["out.parquet"]).table().footer;
        assert_eq!(
            footer["shards"],
            json!({"index": [1, 2], "of": 2, "by": by})
        );
        assert!(footer["shard"].is_null());
    }
}
