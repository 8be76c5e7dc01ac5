//! Shards: each row of a single run is in one of them, and is the same there.

use crate::harness::bytes::{bgzf, gzip};
use crate::harness::table::{Table, difference};
use crate::harness::{Case, bases, fai, record};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::Path;

/// Longer and shorter than a step; one has no bases.
const LENGTHS: [usize; 18] = [
    700, 1, 90, 512, 1024, 13, 2, 300, 0, 513, 60, 1, 250, 77, 5, 61, 120, 33,
];

fn fasta() -> String {
    let contig =
        |(i, &length): (usize, &usize)| record(&format!("c{i}"), &bases(i as u64, length), 60);
    LENGTHS.iter().enumerate().map(contig).collect()
}

fn case(line: &str) -> Case {
    Case::new(&format!("{line} -t 1 -o out.parquet"))
        .file("a.fa", fasta())
        .file("a.fa.fai", fai(&fasta()))
        .file("plain.fa", fasta())
        .file("a.fa.gz", gzip(fasta().as_bytes()))
        .file(
            "r.bed",
            "c3\t10\t200\nc0\t0\t50\nc0\t40\t90\nc9\t500\t513\n",
        )
        .file(
            "i.bed",
            "c7\t10\t200\ta\t0\t-\nc0\t0\t50\tb\t0\t+\nc0\t30\t90\tc\t0\t.\n",
        )
        .seconds(60)
}

/// A file of tests/data/reads.
fn data(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(dir.join("tests/data/reads").join(name)).unwrap()
}

fn table(line: &str) -> Table {
    case(line).run().succeeds(&["out.parquet"]).table()
}

/// Each with the one at its place, of as many.
fn paired<A, B>(one: Vec<A>, other: Vec<B>) -> impl Iterator<Item = (A, B)> {
    assert_eq!(one.len(), other.len());
    one.into_iter().zip(other)
}

/// The rows of each contig, in order.
fn of_contigs(tables: &[Table]) -> BTreeMap<String, Vec<String>> {
    let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for table in tables {
        for (contig, line) in paired(table.words("chrom"), table.lines()) {
            rows.entry(contig).or_default().push(line);
        }
    }
    rows
}

/// The tables of all shards of a command, whose footers say so, and nothing else that the single
/// run's does not.
fn shards(line: &str, of: usize, by: &str, whole: &Table) -> Vec<Table> {
    let shard = |index: usize| {
        let sign = if index.is_multiple_of(2) { "/" } else { "-of-" };
        let mut table = table(&format!("{line} --shard {index}{sign}{of}"));
        let said = table
            .footer
            .as_object_mut()
            .unwrap()
            .shift_remove("shard")
            .unwrap();
        assert_eq!((&said["index"], &said["of"]), (&index.into(), &of.into()));
        assert_eq!(said["by"], by);
        assert_eq!(table.footer, whole.footer, "{line}");
        table
    };
    (1..=of).map(shard).collect()
}

#[test]
fn shards_of_contigs_hold_the_rows_of_one_run_to_the_last_bit() {
    let embed = "embed a.fa -m model --dtype f32 --chunk 256";
    let predict = "predict a.fa -m model --chunk 256";
    for (line, counts) in [
        (embed.to_string(), &[1, 3, 17][..]),
        (format!("{embed} --strand both"), &[3]),
        (format!("{embed} --bin 64 --strand mean"), &[3]),
        (format!("{embed} --window 100 --overlap 50"), &[3]),
        (format!("{embed} --regions-file r.bed --context 30"), &[3]),
        (format!("{embed} --intervals i.bed --context 30"), &[3]),
        (predict.replace("a.fa", "plain.fa"), &[3]),
        (predict.replace("a.fa", "a.fa.gz"), &[3]),
        (
            format!("{predict} --region c0:20-600 --region c4").replace("a.fa", "a.fa.gz"),
            &[2],
        ),
    ] {
        let whole = table(&line);
        for &of in counts {
            let parts = shards(&line, of, "contig", &whole);
            let rows: usize = parts.iter().map(Table::rows).sum();
            assert_eq!(rows, whole.rows(), "{line}, {of}");
            assert!(
                of_contigs(&parts) == of_contigs(&[table(&line)]),
                "{line}, {of}"
            );
            // No contig is in two shards, and they come in the reference's order.
            for part in parts {
                let mut names = part.words("chrom");
                names.dedup();
                let places: Vec<usize> = names
                    .iter()
                    .map(|name| name[1..].parse().unwrap())
                    .collect();
                assert!(places.is_sorted(), "{line}, {of}: {names:?}");
            }
        }
    }
}

#[test]
fn shards_of_a_samples_own_sequence_hold_the_rows_of_one_run() {
    let run = |args: &str| {
        let line = format!("embed small.bam -r ref.fa -m model --bin 16 {args}");
        let files = ["small.bam", "small.bam.bai", "ref.fa", "ref.fa.fai"];
        let case = files
            .iter()
            .fold(case(&line), |case, name| case.file(name, data(name)));
        { case }.run().succeeds(&["out.parquet"]).table()
    };
    let whole = run("");
    for args in ["", "--shard-by bases --context 4000"] {
        let parts = [1, 2].map(|index| run(&format!("--shard {index}/2 {args}")));
        let keys: Vec<_> = parts.iter().flat_map(Table::keys).collect();
        assert!(keys == whole.keys(), "{args}");
        if args.is_empty() {
            assert!(of_contigs(&parts) == of_contigs(&[run("")]));
        }
    }
}

#[test]
fn a_shard_without_contigs_is_an_empty_table() {
    let last = table("embed a.fa -m model --shard 40/40");
    assert_eq!(last.rows(), 0);
    assert_eq!(last.footer["complete"], true);
    assert_eq!(
        last.footer["reference"]["contigs"]
            .as_array()
            .unwrap()
            .len(),
        18
    );
}

#[test]
fn stretches_of_bases_tile_the_genome_and_equal_it_where_context_suffices() {
    let line = "embed a.fa -m model --dtype f32 --chunk 256 --bin 8";
    let whole = table(line);
    let mut keys = Vec::new();
    for index in 1..=4 {
        let part = table(&format!(
            "{line} --shard {index}/4 --shard-by bases --context 600"
        ));
        assert_eq!(part.footer["shard"]["by"], "bases");
        assert_eq!(part.footer["params"]["context"], 600);
        let first = keys.len();
        keys.extend(part.keys());
        let rows = first..keys.len();
        let own = &whole.vectors("embedding")[rows];
        assert!(
            difference(&part.vectors("embedding"), own) < 1e-5,
            "{index}"
        );
    }
    assert_eq!(keys, whole.keys());
}

#[test]
fn shards_of_reads_hold_each_read_once_and_the_same() {
    let reads = |name: &str, args: &str| {
        let fastq: String = (0..9000)
            .map(|i| format!("@r{i}\n{}\n+\nIIIII\n", bases(i, 5)))
            .collect();
        let case = case(&format!(
            "reads {name} -m model --dtype f32 --chunk 256 {args}"
        ));
        let mut case = case
            .file("small.bam", data("small.bam"))
            .file("small.bam.bai", data("small.bam.bai"))
            .file("unindexed.bam", data("small.bam"))
            .file("a.fq", fastq);
        case.run().succeeds(&["out.parquet"]).table()
    };
    for (name, of) in [
        ("small.bam", 1),
        ("small.bam", 3),
        ("small.bam", 17),
        ("unindexed.bam", 3),
        ("a.fq", 2),
    ] {
        let whole = reads(name, "");
        let mut rows = BTreeMap::new();
        for index in 1..=of {
            let part = reads(name, &format!("--shard {index}/{of}"));
            assert_eq!(part.footer["shard"]["by"], "read");
            let places = part.integers("read_index");
            assert!(places.is_sorted());
            if name == "small.bam" {
                // The index says that there are 60.
                let size = 60i64.div_euclid(of) + i64::from(60 % of > 0);
                assert!(places.iter().all(|place| place / size == index - 1));
            }
            for (place, line) in paired(places, part.lines()) {
                assert!(rows.insert(place, line).is_none());
            }
        }
        let whole: BTreeMap<_, _> = paired(whole.integers("read_index"), whole.lines()).collect();
        assert!(rows == whole, "{name}, {of}");
    }
}

/// Changes of single bases along three contigs, in no order, and one on a contig that is missing.
fn variants() -> String {
    let mut text =
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n".to_string();
    for (contig, at) in [
        (4, 900),
        (0, 600),
        (4, 30),
        (7, 200),
        (0, 20),
        (4, 31),
        (0, 640),
    ] {
        let letter = &bases(contig, LENGTHS[contig as usize])[at..=at];
        let other = if letter == "A" { "C,G" } else { "A" };
        writeln!(text, "c{contig}\t{}\t.\t{letter}\t{other}\t.\t.\t.", at + 1).unwrap();
    }
    text + "elsewhere\t5\t.\tA\tC\t.\t.\t.\n"
}

#[test]
fn shards_of_variants_hold_each_record_once_and_the_same() {
    let score = "score v.vcf -r a.fa -m model --chunk 256 --after 20";
    let scores = |args: &str| {
        let mut case = case(&format!("{score} {args}")).file("v.vcf", variants());
        case.run().succeeds(&["out.parquet"]).table()
    };
    let windows = "--mode window --window 100";
    for (args, by, counts) in [
        ("", "contig", &[1, 3, 17][..]),
        ("--strand both", "contig", &[3]),
        (windows, "site", &[1, 3, 17]),
    ] {
        let whole = scores(args);
        for &of in counts {
            let mut rows = BTreeMap::new();
            for index in 1..=of {
                let part = scores(&format!("{args} --shard {index}/{of} --shard-by {by}"));
                assert_eq!(part.footer["shard"]["by"], by);
                let keys = paired(part.integers("record_index"), part.integers("alt_index"));
                for (key, line) in paired(keys.collect(), part.lines()) {
                    assert!(rows.insert(key, line).is_none(), "{key:?} is in two shards");
                }
            }
            assert!(rows.into_values().eq(whole.lines()), "{args}, {of}");
        }
    }
    // In a stream each site's scores are those of the whole, with --context where that is enough.
    for context in ["--context all", "--context 600"] {
        let part = |index| {
            let part = scores(&format!("{context} --shard-by site --shard {index}/3"));
            part.numbers("delta_ll")
        };
        let parts = (1..=3).flat_map(part).collect();
        for (found, expected) in paired(parts, scores("--context all").numbers("delta_ll")) {
            assert!(found.is_some() == expected.is_some());
            let [found, expected] = [found, expected].map(Option::unwrap_or_default);
            assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        }
    }
}

#[test]
fn shards_of_variants_become_the_bytes_of_one_run() {
    let score = "score v.vcf -r a.fa -m model --chunk 256 --after 20 --strand both -t 1";
    let mut case = case("").file("v.vcf", variants());
    case = case.args(&format!("{score} -o whole.parquet"));
    case.run().succeeds(&["whole.parquet"]);
    let names = ["1.parquet", "2.parquet", "3.parquet"];
    for (index, name) in (1..).zip(names) {
        case = case.args(&format!("{score} -o {name} --shard {index}/3"));
        case.run().succeeds(&[name]);
    }
    let mut case = case.args(&format!("table concat {} -o all.parquet", names.join(" ")));
    let outcome = case.run().succeeds(&["all.parquet"]);
    assert!(outcome.file("all.parquet") == outcome.file("whole.parquet"));
}

#[test]
fn another_assembly_is_found_in_the_one_shard_that_is_all() {
    // Each base becomes another one.
    let other = fasta()
        .replace('A', "a")
        .replace('C', "A")
        .replace('a', "C");
    let other = other.replace('G', "g").replace('T', "G").replace('g', "T");
    let run = |args: &str| {
        let line = format!("score v.vcf -r other.fa -m model --after 20 {args}");
        let case = case(&line)
            .file("v.vcf", variants())
            .file("other.fa", &other);
        { case }.run()
    };
    for args in ["", "--shard 1/1"] {
        run(args).fails(3, &["wrong assembly?"]);
    }
    let part = run("--shard 1/3").succeeds(&["out.parquet"]);
    assert!(part.stderr.contains("wrong assembly?"), "{}", part.stderr);
}

#[test]
fn the_annotated_variants_of_shards_are_those_of_the_whole() {
    let annotated = |args: &str| {
        let line = format!("score v.vcf -r a.fa -m model --after 20 --vcf-out s.vcf.gz {args}");
        let mut case = case(&line).file("v.vcf", variants());
        let outcome = case.run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        let bytes = std::fs::read(case.path("s.vcf.gz")).unwrap();
        let mut text = String::new();
        let mut file = flate2::read::MultiGzDecoder::new(&bytes[..]);
        file.read_to_string(&mut text).unwrap();
        let records = text.lines().filter(|line| !line.starts_with('#'));
        records.map(str::to_string).collect::<Vec<_>>()
    };
    let mut parts = [1, 2, 3]
        .map(|index| annotated(&format!("--shard {index}/3")))
        .concat();
    let mut whole = annotated("");
    parts.sort_unstable();
    whole.sort_unstable();
    assert_eq!(parts, whole);
}

#[test]
fn shards_that_cannot_be_found_are_refused_with_what_to_do() {
    for (line, said) in [
        (
            "embed a.fa -m model --shard 3",
            "--shard 1/3 to --shard 3/3",
        ),
        ("embed a.fa -m model --shard 4/3", "1 <= I <= N"),
        ("embed - -m model --shard 1/3", "give a file"),
        ("embed a.fa -m model --shard-by bases", "--shard"),
        (
            "embed a.fa -m model --intervals i.bed --shard 1/3 --shard-by bases",
            "--shard-by contig",
        ),
        (
            "score v.vcf -r a.fa -m model --context 9 --sample x --shard 1/3 --shard-by site",
            "--shard-by contig",
        ),
        (
            "score - -r a.fa -m model --context 9 --shard 1/3 --shard-by site",
            "not stdin",
        ),
    ] {
        let mut case = case(line).file("v.vcf", variants());
        case.run().fails(2, &[said]);
    }
}

#[test]
fn check_says_what_each_shard_takes() {
    for line in [
        "check embed a.fa -m model",
        "check embed plain.fa -m model --strand both",
        "check predict a.fa.gz -m model --regions-file r.bed --context 0",
        "check embed indexed.fa.gz -m model",
        "check embed a.fa -m model --shard-by bases --context 10",
        "check reads small.fq -m model",
        "check score v.vcf -r a.fa -m model --after 20",
        "check score v.vcf -r a.fa -m model --after 20 --strand both --shard-by site",
        "check score v.vcf -r a.fa -m model --window 30 --shard-by site",
        "check score --saturate c4:20-60 -r a.fa -m model --after 20 --shard-by site",
    ] {
        let said = |args: &str| {
            let case = case("").file("v.vcf", variants());
            let case = case.file("small.fq", "@a\nACGT\n+\nIIII\n".repeat(20));
            let case = case.file("indexed.fa.gz", gzip(fasta().as_bytes()));
            let case = case.file("indexed.fa.gz.fai", fai(&fasta()));
            let outcome = case.args(&format!("{line} {args}")).run().succeeds(&[]);
            String::from_utf8(outcome.stdout).unwrap()
        };
        let shards = said("--shard 3");
        let mut rows = shards
            .lines()
            .skip(1)
            .map(|line| line.split('\t').collect::<Vec<_>>());
        assert_eq!(
            rows.next().unwrap()[..3],
            ["shard", "bases", "rows"],
            "{shards}"
        );
        let rows: Vec<_> = rows.collect();
        let names: Vec<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(names, ["1/3", "2/3", "3/3"], "{shards}");
        // Of each what is said of it alone; together they are the whole.
        let mut sums = [0, 0];
        for row in &rows {
            let [bases, count] = [row[1], row[2]].map(|n| n.parse::<u64>().unwrap());
            let alone = said(&format!("--shard {}", row[0]));
            for expected in [
                format!("bases through the encoder: {bases}\n"),
                format!("rows: {count}\n"),
            ] {
                assert!(alone.contains(&expected), "{line}: {alone}\n{shards}");
            }
            sums = [sums[0] + bases, sums[1] + count];
        }
        assert!(sums[0] > 0);
        if !line.contains("--shard-by") {
            let whole = said("");
            let expected = format!(
                "bases through the encoder: {}\nrows: {}\n",
                sums[0], sums[1]
            );
            for expected in expected.lines() {
                assert!(whole.contains(expected), "{line}: {whole}\n{shards}");
            }
        }
    }
}

#[test]
fn a_block_compressed_genome_has_the_same_shards_with_and_without_its_index() {
    let line = "embed b.fa.gz -m model --dtype f32 --shard 2/3 -t 1 -o out.parquet";
    let mut case = Case::new(line).file("b.fa.gz", bgzf(fasta().as_bytes(), 700));
    let without = case.run().succeeds(&["out.parquet"]).table();
    let with = table("embed a.fa -m model --dtype f32 --shard 2/3");
    assert!(without.lines() == with.lines());
}
