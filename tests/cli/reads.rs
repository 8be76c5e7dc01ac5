//! Reads: a row each, whatever the file, and what the same bases give as FASTA.

use crate::harness::bytes::{bgzf, gzip};
use crate::harness::table::{Table, difference};
use crate::harness::{Case, Outcome, bases, record, sha256};
use std::path::Path;

/// A file of tests/data/reads.
fn data(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(dir.join("tests/data/reads").join(name)).unwrap()
}

/// `reads` of a file to `out.parquet`.
fn reads(name: &str, bytes: impl AsRef<[u8]>, args: &str) -> Case {
    Case::new(&format!("reads {name} -m model -o out.parquet {args}")).file(name, bytes)
}

fn small(name: &str, args: &str) -> Case {
    let case = reads(name, data(name), args);
    let case = case
        .file("ref.fa", data("ref.fa"))
        .file("ref.fa.fai", data("ref.fa.fai"));
    let case = case.file("small.bam.bai", data("small.bam.bai"));
    case.file("small.cram.crai", data("small.cram.crai"))
}

/// The fields of each line of the SAM file.
fn sam() -> Vec<Vec<String>> {
    let text = String::from_utf8(data("small.sam")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('@'));
    lines
        .map(|line| line.split('\t').map(str::to_string).collect())
        .collect()
}

fn reverse_complement(bases: &str) -> String {
    let turn = |base| match base {
        'A' => 'T',
        'C' => 'G',
        'G' => 'C',
        'T' => 'A',
        other => other,
    };
    bases.chars().rev().map(turn).collect()
}

/// FASTQ of these reads.
fn fastq(reads: &[(String, String)]) -> String {
    let record = |(name, bases): &(String, String)| {
        format!("@{name}\n{bases}\n+\n{}\n", "I".repeat(bases.len()))
    };
    reads.iter().map(record).collect()
}

#[test]
fn bam_sam_and_cram_give_the_same_file_and_every_read_has_its_row() {
    let bam = small("small.bam", "").run().succeeds(&["out.parquet"]);
    let table = bam.table();
    let lines = sam();
    // One secondary and one supplementary alignment are left out.
    assert_eq!((lines.len(), table.rows()), (60, 58));
    let wanted: Vec<_> = (0..60).filter(|i| ![9, 19].contains(i)).collect();
    assert_eq!(
        table.integers("read_index"),
        wanted.iter().map(|&i| i as i64).collect::<Vec<_>>()
    );
    for (row, &i) in wanted.iter().enumerate() {
        let line = &lines[i];
        assert_eq!(table.texts("read_name")[row].as_ref(), Some(&line[0]));
        assert_eq!(table.integers("flag")[row].to_string(), line[1]);
        let flag: i64 = line[1].parse().unwrap();
        let start: i64 = line[3].parse().unwrap();
        assert_eq!(table.integers_or_null("start")[row], Some(start - 1));
        assert_eq!(table.integers("length")[row] as usize, line[9].len());
        let strand = if flag & 16 == 0 { "+" } else { "-" };
        assert_eq!(table.words_or_null("strand")[row].as_deref(), Some(strand));
        assert_eq!(table.words_or_null("chrom")[row].as_deref(), Some("17"));
        assert_eq!(
            table.integers_or_null("mapq")[row].unwrap().to_string(),
            line[4]
        );
        assert_eq!(table.words("status")[row], "ok");
    }
    let text = data("small.sam");
    let rows = |table: &Table| {
        let keys: Vec<_> = table
            .texts("read_name")
            .into_iter()
            .zip(table.integers_or_null("end"))
            .collect();
        (keys, table.doubles("sum_logp"), table.vectors("embedding"))
    };
    for mut case in [
        small("small.sam", ""),
        small("small.cram", "-r ref.fa"),
        reads("a.sam.gz", gzip(&text), ""),
        reads("a.sam.gz", bgzf(&text, 800), ""),
    ] {
        let other = case.run().succeeds(&["out.parquet"]).table();
        assert!(rows(&other) == rows(&table));
    }
    let all = small("small.bam", "--all-alignments")
        .run()
        .succeeds(&["out.parquet"]);
    assert_eq!(all.table().rows(), 60);
    assert_eq!(table.footer["params"]["orientation"], "sequenced");
}

#[test]
fn a_read_has_the_numbers_of_its_bases_as_fasta() {
    let lines = sam();
    for orientation in ["sequenced", "reference"] {
        let args = format!("--dtype f32 --all-alignments --orientation {orientation}");
        let found = small("small.bam", &args)
            .run()
            .succeeds(&["out.parquet"])
            .table();
        let sequence = |line: &Vec<String>| {
            let turned = line[1].parse::<u32>().unwrap() & 16 != 0 && orientation == "sequenced";
            if turned {
                reverse_complement(&line[9])
            } else {
                line[9].clone()
            }
        };
        let text = |(i, line)| record(&format!("r{i}"), &sequence(line), 60);
        let fasta: String = lines.iter().enumerate().map(text).collect();
        let embedded = Case::embed(&fasta, "--dtype f32 --bin 100000").run();
        let expected = embedded
            .succeeds(&["out.parquet"])
            .table()
            .vectors("embedding");
        assert!(difference(&found.vectors("embedding"), &expected) < 1e-6);
        let predicted = Case::new("predict a.fa -m model -o out.parquet")
            .file("a.fa", &fasta)
            .run();
        let predicted = predicted.succeeds(&["out.parquet"]).table();
        let (chrom, logp) = (predicted.words("chrom"), predicted.numbers("logp_base"));
        for (i, sum) in found.doubles("sum_logp").into_iter().enumerate() {
            let name = format!("r{i}");
            let own = chrom.iter().zip(&logp).filter(|(chrom, _)| **chrom == name);
            let own: Vec<f64> = own.filter_map(|(_, x)| x.map(f64::from)).collect();
            let expected: f64 = own.iter().sum();
            assert!(
                (sum.unwrap() - expected).abs() < 1e-4 * expected.abs(),
                "{name}"
            );
            assert_eq!(found.integers("n_scored")[i] as usize, own.len());
            let mean = found.numbers("mean_logp")[i].unwrap();
            assert!((f64::from(mean) - expected / own.len() as f64).abs() < 1e-4);
            let perplexity = found.numbers("perplexity")[i].unwrap();
            assert!((perplexity - (-mean).exp()).abs() < 1e-3);
        }
    }
}

#[test]
fn reads_of_any_length_are_whole_at_any_chunk() {
    let lengths = [1, 2, 50, 150, 3, 20_000, 151, 0, 63, 64, 65, 4097, 150, 150];
    let sequences: Vec<_> = (lengths.iter().enumerate())
        .map(|(i, &n)| (format!("r{i}"), bases(i as u64 + 1, n)))
        .collect();
    let text = fastq(&sequences);
    for pool in ["mean", "max", "last"] {
        let run = |chunk: u32| {
            let args = format!("--dtype f32 --pool {pool} --chunk {chunk}");
            reads("a.fastq", &text, &args)
                .run()
                .succeeds(&["out.parquet"])
                .table()
        };
        let expected = run(100_000);
        let found: Vec<i64> = expected.integers("length");
        assert_eq!(found, lengths.map(|n| n as i64));
        let known: Vec<bool> = lengths.iter().map(|&n| n > 0).collect();
        assert_eq!(expected.known("embedding"), known);
        assert_eq!(expected.words("status")[7], "no_sequence");
        // A read's first base has nothing before it.
        assert_eq!(expected.doubles("sum_logp")[0], None);
        for chunk in [64, 1000, 8192] {
            let other = run(chunk);
            assert!(difference(&other.vectors("embedding"), &expected.vectors("embedding")) < 1e-5);
            for (a, b) in other
                .doubles("sum_logp")
                .iter()
                .zip(expected.doubles("sum_logp"))
            {
                assert!(
                    (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() <= 1e-5 * b.unwrap_or(0.0).abs()
                );
            }
        }
    }
    let none = reads("a.fastq", &text, "--no-embedding")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    assert!(!none.columns.contains(&"embedding".to_string()));
}

#[test]
fn predictions_of_bases_lie_where_the_cigar_puts_them() {
    let mut case = small("small.bam", "--per-base bases.parquet");
    let out = case.run().succeeds(&["out.parquet", "bases.parquet"]);
    let (table, per_base) = (out.table(), Table::read(out.file("bases.parquet")));
    let reference: String = String::from_utf8(data("ref.fa"))
        .unwrap()
        .lines()
        .skip(1)
        .collect();
    let (index, positions) = (
        per_base.integers("read_index"),
        per_base.integers_or_null("ref_pos"),
    );
    let (letters, logp) = (per_base.words("base"), per_base.numbers("logp_base"));
    let lines = sam();
    let (mut same, mut aligned) = (0, 0);
    for i in 0..per_base.rows() {
        let Some(at) = positions[i] else { continue };
        let turned = lines[index[i] as usize][1].parse::<u32>().unwrap() & 16 != 0;
        let expected = reference[at as usize..=at as usize].to_string();
        let expected = if turned {
            reverse_complement(&expected)
        } else {
            expected
        };
        aligned += 1;
        same += usize::from(letters[i] == expected);
    }
    assert!(
        aligned > 5000 && same * 100 > aligned * 97,
        "{same} of {aligned}"
    );
    for (row, &read) in table.integers("read_index").iter().enumerate() {
        let own = (0..per_base.rows()).filter(|&i| index[i] == read);
        let own: Vec<usize> = own.collect();
        assert_eq!(own.len() as i64, table.integers("length")[row]);
        let offsets: Vec<i64> = own
            .iter()
            .map(|&i| per_base.integers("offset")[i])
            .collect();
        assert_eq!(offsets, (0..own.len() as i64).collect::<Vec<_>>());
        let sum: f64 = own.iter().filter_map(|&i| logp[i].map(f64::from)).sum();
        assert!((sum - table.doubles("sum_logp")[row].unwrap()).abs() < 1e-3);
        if row > 4 {
            break;
        }
    }
}

#[test]
fn the_tagged_bam_holds_all_records_in_order_and_can_be_read_at_random() {
    let mut case = small("small.bam", "--bam-out tagged.bam");
    let files = ["out.parquet", "tagged.bam", "tagged.bam.bai"];
    let out = case.run().succeeds(&files);
    let (table, tagged) = (out.table(), out.file("tagged.bam").to_vec());
    let again = reads("tagged.bam", &tagged, "--all-alignments")
        .run()
        .succeeds(&["out.parquet"]);
    let names: Vec<_> = sam()
        .into_iter()
        .map(|line| Some(line[0].clone()))
        .collect();
    assert_eq!(again.table().texts("read_name"), names);
    // The tags, in the uncompressed records.
    let mut text = Vec::new();
    let mut bgzf = flate2::read::MultiGzDecoder::new(&tagged[..]);
    std::io::Read::read_to_end(&mut bgzf, &mut text).unwrap();
    for mean in table.numbers("mean_logp") {
        let tag = [&b"llf"[..], &mean.unwrap().to_le_bytes(), b"ppf"].concat();
        assert!(text.windows(tag.len()).any(|window| window == tag));
    }
    let program = b"\n@PG\tID:crocuta";
    assert!(text.windows(program.len()).any(|window| window == program));
    let region = |name: &str, bytes: &[u8], index: &[u8]| {
        let case = reads(name, bytes, "--region 17:300-400");
        let mut case = case.file(&format!("{name}.bai"), index);
        case.run()
            .succeeds(&["out.parquet"])
            .table()
            .texts("read_name")
    };
    let own = region("tagged.bam", &tagged, out.file("tagged.bam.bai"));
    assert_eq!(
        own,
        region("small.bam", &data("small.bam"), &data("small.bam.bai"))
    );
    assert!(!own.is_empty() && own.len() < 58);
}

#[test]
fn without_an_output_the_tagged_bam_is_all_that_is_written() {
    let rows = |outcome: &Outcome| {
        let summary: serde_json::Value = serde_json::from_slice(outcome.file("s.json")).unwrap();
        summary["rows"].as_u64().unwrap()
    };
    let files = ["tagged.bam", "tagged.bam.bai", "s.json"];
    let line = "reads small.bam -m model --summary s.json --bam-out";
    let mut case = small("small.bam", "").args(&format!("{line} tagged.bam"));
    let alone = case.run().succeeds(&files);
    assert!(alone.stdout.is_empty());
    let more = "--bam-out tagged.bam --per-base bases.parquet --summary s.json";
    let beside = small("small.bam", more).run();
    assert_eq!(rows(&alone), rows(&beside));
    let summary: serde_json::Value = serde_json::from_slice(beside.file("s.json")).unwrap();
    for (key, name) in [
        ("bam_out_sha256", "tagged.bam"),
        ("per_base_sha256", "bases.parquet"),
    ] {
        assert_eq!(summary[key], sha256(beside.file(name)));
    }
    let streamed = small("small.bam", "").args(&format!("{line} -")).run();
    assert!(
        streamed
            .succeeds(&["s.json"])
            .stdout
            .starts_with(&[0x1f, 0x8b])
    );
}

#[test]
fn the_tagged_bam_of_a_cram_is_that_of_its_sam() {
    let tagged = |name: &str| {
        // The same name, as the command stands in the header.
        let case = reads(
            "in",
            data(name),
            "-r ref.fa --all-alignments --bam-out tagged.bam",
        );
        let case = case.file("ref.fa", data("ref.fa"));
        let mut case = case.file("ref.fa.fai", data("ref.fa.fai"));
        let files = ["out.parquet", "tagged.bam", "tagged.bam.bai"];
        let out = case.run().succeeds(&files);
        let mut text = Vec::new();
        let mut bgzf = flate2::read::MultiGzDecoder::new(out.file("tagged.bam"));
        std::io::Read::read_to_end(&mut bgzf, &mut text).unwrap();
        (text, out.table().words("status"))
    };
    let (cram, sam) = (tagged("pairs.cram"), tagged("pairs.sam"));
    assert_eq!(cram.1.len(), 20);
    assert_eq!(cram.1, sam.1);
    assert!(cram.0 == sam.0);
}

#[test]
fn an_alignment_that_cannot_be_is_a_row_with_its_status_from_sam_as_from_bam() {
    let sam = "@SQ\tSN:c1\tLN:100\n\
        good\t0\tc1\t5\t60\t10M\t*\t0\t0\tACGTACGTAC\t*\n\
        contig\t0\tzz\t5\t60\t10M\t*\t0\t0\tACGTACGTAC\t*\n\
        mate\t1\tc1\t5\t60\t10M\tzz\t9\t0\tACGTACGTAC\t*\n\
        cigar\t0\tc1\t5\t60\t9M\t*\t0\t0\tACGTACGTAC\t*\n\
        end\t0\tc1\t99\t60\t10M\t*\t0\t0\tACGTACGTAC\t*\n";
    let table = reads("r.sam", sam, "").run().succeeds(&["out.parquet"]);
    let table = table.table();
    let expected = [
        "ok",
        "bad_alignment",
        "bad_alignment",
        "bad_alignment",
        "bad_alignment",
    ];
    assert_eq!(table.words("status"), expected);
    let placed = [true, false, false, false, false];
    for column in ["chrom", "start", "mapq"] {
        assert_eq!(table.known(column), placed, "{column}");
    }
    assert_eq!(table.known("mean_logp"), [true; 5]);
}

#[test]
fn bases_written_as_equals_signs_are_the_references() {
    let header = "@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:17\tLN:4200\n";
    let reference = String::from_utf8(data("ref.fa")).unwrap();
    let reference: String = reference.lines().skip(1).collect();
    let text = |bases: &str| {
        let line = |start: usize| {
            let quality = "I".repeat(bases.len().max(40));
            let own = if bases.is_empty() {
                &reference[start - 1..start + 39]
            } else {
                bases
            };
            format!("r{start}\t0\t17\t{start}\t60\t40M\t*\t0\t0\t{own}\t{quality}\n")
        };
        [101, 120].map(line).concat()
    };
    let (equal, full) = ("=".repeat(40), String::new());
    let run = |bases: &str, args: &str| {
        let case = small("small.sam", "").file("r.sam", format!("{header}{}", text(bases)));
        case.args(&format!("{args} -m model -o out.parquet"))
    };
    for args in [
        "reads r.sam -r ref.fa",
        "predict r.sam -r ref.fa --min-depth 1",
    ] {
        let column = if args.starts_with("reads") {
            "mean_logp"
        } else {
            "logp_base"
        };
        let table = |bases: &str| run(bases, args).run().succeeds(&["out.parquet"]).table();
        let (equal, full) = (table(&equal), table(&full));
        assert_eq!(equal.numbers(column), full.numbers(column), "{args}");
    }
    run(&equal, "reads r.sam")
        .run()
        .fails(3, &["record 1", "--reference"]);
}

#[test]
fn a_sample_is_read_along_its_reference() {
    let with = |command: &str, args: &str| {
        let text = format!("{command} small.bam -r ref.fa -m model -o out.parquet {args}");
        small("small.bam", "").args(&text)
    };
    let plain = Case::embed(data("ref.fa"), "--dtype f32")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    // Reads that decide nothing leave the reference.
    let none = with("embed", "--dtype f32 --min-depth 1000")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    assert_eq!(none.keys(), plain.keys());
    assert!(difference(&none.vectors("embedding"), &plain.vectors("embedding")) < 1e-6);
    let depth = none.integers("depth");
    let covered = |line: &Vec<String>| {
        let start = line[3].parse::<usize>().unwrap() - 1;
        let aligned = line[5] == "101M" && line[1].parse::<u32>().unwrap() & 0x504 == 0;
        aligned.then_some(start..start + 101)
    };
    let spans: Vec<_> = sam().iter().filter_map(covered).collect();
    assert!(
        spans
            .iter()
            .all(|span| depth[span.clone()].iter().any(|&n| n > 0))
    );
    assert!(depth[900..].iter().all(|&n| n == 0));
    // With other bases the sequence is another, from there on.
    let own = with("predict", "--min-depth 1 --summary s.json").run();
    let own = own.succeeds(&["out.parquet", "s.json"]);
    let summary: serde_json::Value = serde_json::from_slice(own.file("s.json")).unwrap();
    let changed = summary["consensus"]["changed"].as_u64().unwrap();
    let bases = (own.table().words("base"), plain.words("base"));
    let apart = bases.0.iter().zip(&bases.1).filter(|(a, b)| a != b).count() as u64;
    let deleted = summary["consensus"]["deleted"].as_u64().unwrap();
    assert!(apart > 0 && apart == changed + deleted, "{apart} {summary}");
    // A region is the same rows, through the index.
    let region = with(
        "embed",
        "--dtype f32 --min-depth 1 --region 17:301-500 --context 5000",
    )
    .run();
    let region = region.succeeds(&["out.parquet"]).table();
    let whole = with("embed", "--dtype f32 --min-depth 1")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    assert_eq!(region.integers("depth"), whole.integers("depth")[300..500]);
    assert_eq!(region.words("base"), whole.words("base")[300..500]);
    assert!(
        difference(
            &region.vectors("embedding"),
            &whole.vectors("embedding")[300..500]
        ) < 1e-5
    );
    let bins = with("embed", "--min-depth 1 --bin 100")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    let mean = whole.integers("depth")[300..400].iter().sum::<i64>() as f32 / 100.0;
    assert!((bins.numbers("depth")[3].unwrap() - mean).abs() < 1e-4);
    // Without the reference, or with a strand that it does not have.
    small("small.bam", "")
        .args("embed small.bam -m model -o x")
        .run()
        .fails(2, &["-r"]);
    with("embed", "--strand both")
        .run()
        .fails(2, &["forward strand"]);
    let mut other = with("embed", "")
        .file("ref.fa", ">18\nACGT\n")
        .file("ref.fa.fai", "18\t4\t4\t4\t5\n");
    other.run().fails(3, &["17", "18"]);
}

#[test]
fn check_counts_the_reads_and_bases_of_the_run() {
    for (args, reads) in [("", 58), ("--all-alignments", 60), ("--window 40", 58)] {
        let run = small("small.bam", &format!("{args} --summary s.json")).run();
        let run = run.succeeds(&["out.parquet", "s.json"]);
        let summary: serde_json::Value = serde_json::from_slice(run.file("s.json")).unwrap();
        let mut check =
            small("small.bam", "").args(&format!("check reads small.bam -m model {args}"));
        let said = String::from_utf8(check.run().succeeds(&[]).stdout).unwrap();
        let longest = &summary["longest"];
        let counts = format!("all 60 records: {reads} reads of ");
        assert!(said.contains(&counts), "{said}");
        assert!(said.contains(&format!("the longest {longest}\n")), "{said}");
        assert!(said.contains(&format!("\nrows: {reads}\n")), "{said}");
        let bases = format!("bases through the encoder: {}\n", summary["bases"]);
        assert_eq!(said.contains(&bases), !args.contains("window"), "{said}");
    }
    let cut = small("small.bam", "").file("cut.bam", &data("small.bam")[..2000]);
    cut.args("check reads cut.bam -m model")
        .run()
        .fails(3, &["cut.bam"]);
    let refused = small("small.bam", "")
        .args("check reads small.bam -m model --exact")
        .run();
    refused.fails(2, &["--exact"]);
}
