//! Damaged reads, alignments and their indexes.

use crate::harness::bytes::{EOF_BLOCK, bgzf, cut};
use crate::harness::{Case, record};
use std::path::Path;

/// A file of tests/data/reads.
fn data(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(dir.join("tests/data/reads").join(name)).unwrap()
}

/// `reads` of a file to `out.parquet`, in little memory.
fn reads(name: &str, bytes: impl AsRef<[u8]>, args: &str) -> Case {
    let case = Case::new(&format!("reads {name} -m model -o out.parquet -t 1 {args}"));
    case.file(name, bytes).memory(1 << 30)
}

/// A BAM header with these contigs.
fn header(contigs: &[(&str, u32)]) -> Vec<u8> {
    let mut out = b"BAM\x01\0\0\0\0".to_vec();
    out.extend((contigs.len() as u32).to_le_bytes());
    for (name, length) in contigs {
        out.extend((name.len() as u32 + 1).to_le_bytes());
        out.extend(name.as_bytes());
        out.push(0);
        out.extend(length.to_le_bytes());
    }
    out
}

/// A record of four bases, `ACGT`, aligned by `4M`.
fn aligned(contig: i32, start: i32, mate: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let words = [contig, start, 0x1248_0a02, 1, 4, mate, mate, -5];
    words.iter().for_each(|word| out.extend(word.to_le_bytes()));
    out.extend(b"r\0");
    out.extend((4u32 << 4).to_le_bytes());
    out.extend([0x12, 0x48, 30, 30, 30, 30]);
    [&(out.len() as u32).to_le_bytes()[..], &out].concat()
}

fn bam(parts: &[Vec<u8>]) -> Vec<u8> {
    bgzf(&parts.concat(), 60_000)
}

#[test]
fn a_bam_without_its_end_marker_is_an_error() {
    reads("a.bam", data("badeof.bam"), "")
        .run()
        .fails(3, &["missing BGZF EOF block"]);
    let allowed = reads("a.bam", data("badeof.bam"), "--allow-missing-eof").run();
    allowed.ends(0, &["warning", "EOF block"], &["out.parquet"]);
    let joined = [
        cut(&data("small.bam"), 28),
        &data("small.bam")[..0],
        &EOF_BLOCK,
    ]
    .concat();
    reads("a.bam", joined, "").run().succeeds(&["out.parquet"]);
}

#[test]
fn what_is_no_file_of_reads_is_told_by_its_content() {
    let fasta = record("a", "ACGT", 60);
    for (bytes, message) in [
        (bgzf(b"BAX\x01\0\0\0\0", 50), "neither BAM"),
        (b"some text\nthat is none\n".to_vec(), "neither BAM"),
        (b"\x1b[31m\n".to_vec(), "neither BAM"),
        (fasta.into_bytes(), "crocuta embed"),
        (Vec::new(), "no reads"),
        (bgzf(b"", 50), "no reads"),
        (bgzf(&header(&[("c", 100)]), 50), "no reads"),
    ] {
        reads("a.bam", bytes, "")
            .run()
            .fails(3, &["a.bam", message]);
    }
    let empty = reads("a.bam", bgzf(&header(&[("c", 100)]), 50), "--allow-empty").run();
    assert_eq!(empty.succeeds(&["out.parquet"]).table().rows(), 0);
}

#[test]
fn a_bam_cut_anywhere_is_an_error() {
    let good = data("small.bam");
    for n in (1..good.len()).step_by(509).chain([28, 29, 46]) {
        reads("a.bam", cut(&good, n), "").run().fails(3, &["a.bam"]);
    }
}

#[test]
fn a_size_in_the_file_never_asks_for_memory() {
    let contigs = header(&[("c", 100)]);
    let sized = |size: u32| [contigs.clone(), size.to_le_bytes().to_vec()].concat();
    let record = aligned(0, 3, -1);
    let mut long = record.clone();
    long[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let text = |size: u32| [&b"BAM\x01"[..], &size.to_le_bytes(), b"@HD"].concat();
    let references = [&b"BAM\x01\0\0\0\0"[..], &u32::MAX.to_le_bytes()].concat();
    let many = [&b"BAM\x01\0\0\0\0"[..], &0x7fff_ffffu32.to_le_bytes()].concat();
    for (what, bytes) in [
        ("record 1", sized(0)),
        ("record 1", sized(3 << 30)),
        ("record 1", sized(u32::MAX)),
        ("record 1", sized(1 << 27)),
        (
            "record 2",
            [contigs.clone(), record.clone(), vec![0; 4], record.clone()].concat(),
        ),
        ("record 1", [contigs.clone(), long].concat()),
        ("header", text(u32::MAX)),
        ("header", text(0x7fff_ffff)),
        ("header", references),
        ("header", many),
    ] {
        let out = reads("a.bam", bgzf(&bytes, 60_000), "")
            .memory(700 << 20)
            .run();
        assert!(out.seconds < 10.0);
        out.fails(3, &["a.bam", what]);
    }
}

#[test]
fn an_alignment_that_cannot_be_is_a_row_with_a_status() {
    let records = [
        header(&[("c", 100)]),
        aligned(0, 3, -1),
        aligned(7, 3, -1),
        aligned(0, 98, -1),
        aligned(0, -9, -1),
        aligned(0, 90, i32::MAX),
        aligned(i32::MAX, i32::MAX, i32::MIN),
    ];
    let out = reads("a.bam", bam(&records), "--bam-out b.bam").run();
    let out = out.ends(
        0,
        &["warning", "5 reads have an invalid alignment"],
        &["out.parquet", "b.bam"],
    );
    let table = out.table();
    let status: Vec<_> = table.words("status").iter().map(|s| s == "ok").collect();
    assert_eq!(status, [true, false, false, false, false, false]);
    assert_eq!(
        table.integers_or_null("start"),
        [Some(3), None, None, None, None, None]
    );
    assert!(table.doubles("sum_logp").iter().all(Option::is_some));
    let strict = reads("a.bam", bam(&records), "--strict").run();
    strict.ends(6, &["5 reads"], &["out.parquet"]);
}

#[test]
fn a_region_needs_an_index_that_fits() {
    let good = data("small.bam.bai");
    let region = |index: Option<&[u8]>| {
        let case = reads("a.bam", data("small.bam"), "--region 17:300-400").memory(700 << 20);
        match index {
            Some(bytes) => case.file("a.bam.bai", bytes),
            None => case,
        }
        .run()
    };
    region(None).fails(2, &["samtools index"]);
    assert!(
        region(Some(&good))
            .succeeds(&["out.parquet"])
            .table()
            .rows()
            > 5
    );
    let with = |at: usize, word: u32| {
        let mut bad = good.clone();
        bad[at..at + 4].copy_from_slice(&word.to_le_bytes());
        bad
    };
    for bad in [
        [&b"BAI\x01"[..], &0x7fff_ffffu32.to_le_bytes()].concat(),
        [
            &b"BAI\x01"[..],
            &1u32.to_le_bytes(),
            &0x7fff_ffffu32.to_le_bytes(),
        ]
        .concat(),
        with(4, 2),
        with(8, 0x7fff_ffff),
        with(16, 0x7fff_ffff),
        with(0, 0),
        good[..40].to_vec(),
        [&good[..], b"more than that"].concat(),
        Vec::new(),
    ] {
        let out = region(Some(&bad)).fails(3, &["a.bam.bai"]);
        assert!(out.seconds < 5.0);
    }
    // Of another file with as many contigs: it points to where no record of the contig is.
    let other = bam(&[header(&[("17", 4200)]), aligned(-1, -1, -1)]);
    let mut case = reads("a.bam", other, "--region 17:300-400").file("a.bam.bai", &good);
    case.run().fails(3, &["index does not match"]);
    let sam = reads("a.sam", data("small.sam"), "--region 17:300-400").run();
    sam.fails(2, &["indexed BAM or CRAM"]);
    for text in ["17:400-300", "18", "17:5000-6000"] {
        let case = reads("a.bam", data("small.bam"), &format!("--region {text}"));
        case.file("a.bam.bai", &good)
            .run()
            .fails(2, &[text.split(':').next().unwrap()]);
    }
}

#[test]
fn a_cram_needs_the_reference_that_it_was_written_with() {
    let cram = data("small.cram");
    let with = |fasta: &[u8], fai: &[u8]| {
        let case = reads("a.cram", &cram, "-r r.fa").file("r.fa", fasta);
        case.file("r.fa.fai", fai).run()
    };
    let (fasta, fai) = (data("ref.fa"), data("ref.fa.fai"));
    assert_eq!(
        with(&fasta, &fai).succeeds(&["out.parquet"]).table().rows(),
        58
    );
    reads("a.cram", &cram, "")
        .run()
        .fails(3, &["\"17\"", "--reference"]);
    let mut other = fasta.clone();
    other[2000] = if other[2000] == b'A' { b'C' } else { b'A' };
    with(&other, &fai).fails(3, &["\"17\" has MD5", "f8c08a4411f07717451464d546b3706d"]);
    let renamed = [b">18 18:1-4200", &fasta[13..]].concat();
    let index = String::from_utf8(fai.clone())
        .unwrap()
        .replace("17\t", "18\t");
    with(&renamed, index.as_bytes()).fails(3, &["no \"17\""]);
    let no_index = reads("a.cram", &cram, "-r r.fa").file("r.fa", &fasta).run();
    no_index.fails(2, &["samtools faidx"]);
    // The file ends with two end containers, as samtools left it: both must go for the end to lack.
    for n in [1, 39, 76, 500, 3000, cram.len() - 30, cram.len() - 3] {
        let case = reads("a.cram", cut(&cram, n), "-r r.fa").file("r.fa", &fasta);
        case.file("r.fa.fai", &fai).run().fails(3, &["a.cram"]);
    }
    let mut old = cram.clone();
    old[4] = 2;
    reads("a.cram", old, "").run().fails(3, &["CRAM 2"]);
}

#[test]
fn sam_and_fastq_errors_name_their_line() {
    let sam = String::from_utf8(data("small.sam")).unwrap();
    let lines: Vec<&str> = sam.lines().collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n") + "\n"
    };
    for (bytes, message) in [
        (with(10, "r\t0\t17\tx\t1\t*\t*\t0\t0\t*\t*"), "line 11"),
        (with(10, "r\t0"), "line 11"),
        (with(10, ""), "line 11"),
        (with(1, "@SQ\tSN:17"), "line 2"),
        ("@r\nAC\n+\nI\n".to_string(), "line 5"),
    ] {
        reads("a.sam", bytes, "")
            .run()
            .fails(3, &["a.sam", message]);
    }
    // As in BAM, a contig that the header lacks is the read's fault, not the file's.
    let unknown = with(10, "r\t0\t99\t5\t1\t4M\t*\t0\t0\tACGT\t*");
    let out = reads("a.sam", unknown, "").run();
    out.ends(0, &["1 reads have an invalid alignment"], &["out.parquet"]);
}

#[test]
fn outputs_are_claimed_before_any_work() {
    let bam = data("small.bam");
    for args in [
        "--bam-out small.bam",
        "--per-base out.parquet",
        "--bam-out there.bam",
        "--strand both",
        "--resume --bam-out b.bam",
    ] {
        let mut case = reads("small.bam", &bam, args).file("there.bam", "x");
        case.run().fails(2, &[]);
    }
}
