use super::*;
use crate::error::Kind;
use crate::io::atomic::AtomicFile;
use crate::io::testing::{bgzf, gzip, logged};
use crate::sequence::Contig;
use std::io::Read;

/// A file of tests/data/reads.
pub(super) fn data(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    dir.join("tests/data/reads").join(name)
}

pub(super) fn options() -> Options {
    Options {
        reference: Some(data("ref.fa")),
        ..Options::default()
    }
}

pub(super) fn collect(mut source: Alignments) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    while let Some(record) = source.next_record()? {
        records.push(record);
    }
    Ok(records)
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<Record>> {
    let input = Input::new("x", Box::new(Cursor::new(bytes.to_vec())), false)?;
    let opened = Alignments::with_input(Path::new("x"), input, &options());
    collect(opened.map_err(|error| error.file("x"))?)
}

/// What all formats keep of a record.
/// Name, flag, place, length, codes and qualities.
type Kept = (Vec<u8>, u16, Option<(usize, u64)>, u64, Vec<u8>, Vec<u8>);

fn kept(record: &Record) -> Kept {
    (
        record.name().to_vec(),
        record.flag(),
        record.position(),
        record.span(),
        record.codes(true),
        record.qualities().to_vec(),
    )
}

/// Uncompressed BAM.
fn bam() -> Vec<u8> {
    let mut text = Vec::new();
    let mut input = Input::open(&data("small.bam"), false).unwrap();
    input.read_to_end(&mut text).unwrap();
    text
}

#[test]
fn every_format_holds_the_same_reads() {
    let open = |name| collect(Alignments::open(&data(name), &options()).unwrap()).unwrap();
    let expected: Vec<_> = open("small.bam").iter().map(kept).collect();
    assert_eq!(expected.len(), 60);
    for name in ["small.sam", "small.cram"] {
        let found: Vec<_> = open(name).iter().map(kept).collect();
        assert!(found == expected, "{name}");
    }
    let sam = std::fs::read(data("small.sam")).unwrap();
    for bytes in [gzip(&sam), bgzf(&sam, 900), bgzf(&bam(), 7), bam()] {
        let found: Vec<_> = read(&bytes).unwrap().iter().map(kept).collect();
        assert!(found == expected);
    }
}

#[test]
fn fastq_of_four_lines_or_wrapped_is_read() {
    let text = b"@a one\nACGT\n+\nIIII\n\n@b/1\r\nAC\r\nNN\r\n+b/1\r\n@+\r\n@@\r\n@c\n\n+\n\n";
    let records = read(text).unwrap();
    let names: Vec<_> = records.iter().map(Record::name).collect();
    assert_eq!(names, [&b"a"[..], b"b/1", b"c"]);
    assert_eq!(records[1].codes(true), [0, 1, 4, 4]);
    assert_eq!(records[1].qualities(), [31, 10, 31, 31]);
    assert!(records[2].is_empty() && records[2].has(flag::UNMAPPED));
    for bad in [
        "@a\nAC GT\n+\nIIIII\n",
        "@a\nACGT\n",
        "@a\nACGT\n+\nIII\n",
        "@a\nAC\n+\nIII\n",
        "@\nA\n+\nI\n",
        "@a\nA\n+b\nI\n",
    ] {
        let error = read(bad.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), Kind::Input, "{bad:?}");
        assert!(error.to_string().contains("line "), "{error}");
    }
}

/// The records of SAM lines, their blanks for tabs.
fn sam(lines: &[&str]) -> Result<Vec<Record>> {
    let text: String = lines
        .iter()
        .map(|line| line.replace(' ', "\t") + "\n")
        .collect();
    read(text.as_bytes())
}

fn contigs(length: u64) -> [Contig; 1] {
    let name = "c1".to_string();
    [Contig { name, length }]
}

#[test]
fn header_lines_that_samtools_writes_or_passes_on_are_read() {
    let header = [
        "@HD VN:1 SO:coordinate",
        "@SQ SN:c1 LN:100 M5:",
        "@RG ID:a SM:",
        "@RG ID:a",
        "@PG ID:samtools VN: CL:samtools view in.bam",
        "@PG ID:samtools",
        "@CO a comment",
        "@XY what is this",
    ];
    let record = "r 0 c1 5 60 4M * 0 0 ACGT * RG:Z:a";
    let lines = [&header[..], &[record]].concat();
    assert_eq!(sam(&lines).unwrap().len(), 1);
    for (bad, what) in [
        ("@SQ LN:100", "without SN"),
        ("@SQ SN:c1", "without LN"),
        ("@SQ SN:c1 LN:x", "the length \"x\""),
        ("@SQ SN:c1 LN:-1", "the length \"-1\""),
        ("@SQ SN:c1 LN:4294967296", "the length"),
        ("@SQSN:c1 LN:5", "invalid header"),
    ] {
        let error = sam(&["@HD VN:1.6", bad, record]).unwrap_err();
        assert_eq!(error.kind(), Kind::Input);
        let error = error.to_string();
        assert!(
            error.starts_with("x: line 2: ") && error.contains(what),
            "{error}"
        );
    }
    let error = sam(&["@SQ SN:c1 LN:9", "@SQ SN:c1 LN:9", record]).unwrap_err();
    assert!(error.to_string().contains("duplicate reference"), "{error}");
}

#[test]
fn a_long_first_line_without_a_header_is_known_for_sam() {
    for bases in [10, 4000, 4070, 4080, 4090, 5000, 20_000] {
        let line = format!(
            "r 4 * 0 0 * * 0 0 {} {}",
            "A".repeat(bases),
            "I".repeat(bases)
        );
        assert_eq!(sam(&[&line]).unwrap()[0].len(), bases);
    }
    let cigar = "1M1I".repeat(2000);
    let line = format!("r 0 c1 1 60 {cigar} * 0 0 {} *", "A".repeat(4000));
    assert_eq!(sam(&[&line]).unwrap()[0].cigar().count(), 4000);
    let bed = format!("c1\t1\t2\t{}\t1\t+\n", "n".repeat(5000));
    let error = read(bed.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("neither BAM, SAM"), "{error}");
}

#[test]
fn an_unknown_contig_or_a_cigar_that_does_not_fit_is_a_wrong_alignment_not_the_files_end() {
    let records = sam(&[
        "@SQ SN:c1 LN:100",
        "a 0 zz 5 60 4M * 0 0 ACGT *",
        "b 1 c1 5 60 4M zz 9 0 ACGT *",
        "c 0 c1 5 60 3M2S * 0 0 ACGT *",
        "d 0 c1 98 60 4M * 0 0 ACGT *",
        "e 4 zz 0 0 * * 0 0 ACGT *",
        "f 1 c1 5 60 4M = 9 8 ACGT IIII",
    ]);
    let records = records.unwrap();
    let placed: Vec<_> = records.iter().map(|r| r.placed(&contigs(100))).collect();
    assert_eq!(placed[..4], [Placed::Wrong; 4]);
    assert_eq!(placed[4], Placed::Nowhere);
    let (contig, start, end) = (0, 4, 8);
    assert_eq!(placed[5], Placed::At { contig, start, end });
    // A BAM's record whose mate lies on a contig that does not exist.
    let mut bytes = records[5].bytes().to_vec();
    bytes[20] = 7;
    let bad = Record::new(bytes).unwrap();
    assert_eq!(bad.placed(&contigs(100)), Placed::Wrong);
}

#[test]
fn a_crams_tags_mates_and_qualities_are_those_that_samtools_reads() {
    // The order of tags is not that of the file from which a CRAM was made.
    let whole = |record: &Record| {
        let tags = record.tags();
        let mut tags: Vec<_> = tags
            .map(|(name, range)| (name, record.bytes()[range].to_vec()))
            .collect();
        tags.sort();
        (record.bytes()[..record.tag_start()].to_vec(), tags)
    };
    for (name, reference, count) in [
        ("small", Some("ref.fa"), 60),
        ("pairs", Some("ref.fa"), 20),
        ("bounds", Some("bounds.fa"), 3),
        ("values", Some("values.fa"), 2),
        ("ties", None, 4),
        ("nameless", None, 1),
        ("whole", None, 6),
    ] {
        let options = Options {
            reference: reference.map(data),
            ..Options::default()
        };
        let open = |kind| Alignments::open(&data(&format!("{name}.{kind}")), &options).unwrap();
        let (cram, sam) = (open("cram"), open("sam"));
        assert_eq!(cram.header(), sam.header());
        let (cram, sam) = (collect(cram).unwrap(), collect(sam).unwrap());
        assert_eq!((cram.len(), sam.len()), (count, count));
        for (cram, sam) in cram.iter().zip(&sam) {
            let name = String::from_utf8_lossy(sam.name());
            assert_eq!(whole(cram), whole(sam), "{name} {:#x}", sam.flag());
        }
    }
}

#[test]
fn sam_becomes_the_bytes_that_bam_has() {
    let header = Header::read(&mut &bam()[..]).unwrap();
    let text = std::fs::read_to_string(data("small.sam")).unwrap();
    assert_eq!(Header::of_text(header.text.clone()).unwrap(), header);
    let (_, ours) = sam::Reader::open(text.as_bytes()).unwrap();
    assert_eq!(ours.contigs, header.contigs);
    let records = (read(&bam()).unwrap(), read(text.as_bytes()).unwrap());
    for (bam, sam) in records.0.iter().zip(&records.1) {
        assert_eq!(
            bam.bytes(),
            sam.bytes(),
            "{}",
            String::from_utf8_lossy(bam.name())
        );
    }
    let tags = "A:A:x I:i:-129 J:i:70000 F:f:1.5 Z:Z:a_b Y:Z: H:H:1F B:B:s,-1,300 C:B:f";
    let names = ["XA", "XI", "XJ", "XF", "XZ", "XY", "XH", "XB", "XC"];
    let tags: String = tags.split(' ').map(|tag| format!(" X{tag}")).collect();
    let record = &sam(&[&format!("r 4 * 0 0 * * 0 0 =U.x !!!~{tags}")]).unwrap()[0];
    let expected = [
        &b"XAAxXIs\x7f\xffXJI\x70\x11\x01\0XFf\0\0\xc0\x3fXZZa_b\0XYZ\0XHH1F\0"[..],
        b"XBBs\x02\0\0\0\xff\xff\x2c\x01XCBf\0\0\0\0",
    ];
    assert!(record.bytes().ends_with(&expected.concat()), "{names:?}");
    assert_eq!(record.qualities(), [0, 0, 0, 93]);
    let many = "1M1D".repeat(40_000);
    let line = format!("r 0 c1 2 60 {many} * 0 0 {} *", "A".repeat(40_000));
    let record = &sam(&["@SQ SN:c1 LN:90000", &line]).unwrap()[0];
    assert_eq!((record.cigar().count(), record.span()), (80_000, 80_000));
}

#[test]
fn what_sam_does_not_allow_is_an_error_that_names_the_line_and_the_field() {
    let good = "r 0 c1 5 60 4M * 0 0 ACGT IIII";
    for (field, bad) in [
        (0, ""),
        (1, "x"),
        (1, "65536"),
        (3, "-1"),
        (3, "2147483648"),
        (4, "256"),
        (5, "4"),
        (5, "M"),
        (5, "4Z"),
        (5, "268435456M"),
        (7, "-5"),
        (8, "3000000000"),
        (9, "AC1T"),
        (9, "AC-T"),
        (10, "III"),
        (10, "III\u{7f}"),
    ] {
        let mut fields: Vec<_> = good.split(' ').collect();
        fields[field] = bad;
        let error = sam(&["@SQ SN:c1 LN:100", good, &fields.join(" ")]).unwrap_err();
        let error = error.to_string();
        let names = "QNAME FLAG RNAME POS MAPQ CIGAR RNEXT PNEXT TLEN SEQ QUAL";
        let name = names.split(' ').nth(field).unwrap();
        assert!(
            error.starts_with("x: line 3: ") && error.contains(name),
            "{error}"
        );
    }
    for bad in [
        "X:i:1",
        "XX:i:1.5",
        "XX:q:1",
        "1X:i:1",
        "XX:B:c,300",
        "XX:H:1",
        "XX:A:ab",
    ] {
        let error = sam(&["@SQ SN:c1 LN:100", &format!("{good} {bad}")]).unwrap_err();
        assert!(error.to_string().contains("tag"), "{bad}: {error}");
    }
    assert!(sam(&["@SQ SN:c1 LN:100", good, ""]).is_err());
    assert!(sam(&["@SQ SN:c1 LN:100", &good[..20]]).is_err());
}

#[test]
fn letters_that_are_no_bases_are_counted_and_said() {
    let lines = ["r 4 * 0 0 * * 0 0 ACXZ.TN *", "s 4 * 0 0 * * 0 0 EURY *"];
    let (records, log) = logged(|| sam(&lines).unwrap());
    assert_eq!(records[0].codes(true), [0, 1, 4, 4, 4, 3, 4]);
    assert_eq!(records[1].codes(true), [4, 3, 4, 4]);
    assert_eq!(
        log.matches("4 letters of sequences are not bases").count(),
        1,
        "{log}"
    );
}

#[test]
fn equals_signs_are_the_references_bases_or_an_error_but_never_n() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("r.fa"), ">c1\nACGTTGCAAC\nGTNACGTACG\n>c2\nACGT\n").unwrap();
    std::fs::write(path("r.fa.fai"), "c1\t20\t4\t10\t11\nc2\t4\t30\t4\t5\n").unwrap();
    let header = ["@SQ SN:c1 LN:20", "@SQ SN:c2 LN:9", "@SQ SN:c3 LN:9"];
    let lines = |lines: &[&str]| {
        let text = [&header[..], lines].concat().join("\n").replace(' ', "\t") + "\n";
        std::fs::write(path("a.sam"), text).unwrap();
    };
    let open = |reference: Option<&str>| {
        let options = Options {
            reference: reference.map(path),
            ..Options::default()
        };
        collect(Alignments::open(&path("a.sam"), &options)?)
    };
    lines(&[
        "a 0 c1 3 60 4M2D3M * 0 0 ==G==C= *",
        "b 16 c1 9 60 1S2M * 0 0 T== *",
        "c 0 c1 9 60 1S2M * 0 0 =AC *",
        "d 4 * 0 0 * * 0 0 A=C *",
        "e 0 c1 1 60 3M * 0 0 ACG *",
    ]);
    let records = open(Some("r.fa")).unwrap();
    let letters = |record: &Record| {
        let codes = record.codes(false);
        let letter = |&code: &u8| crate::sequence::LETTERS[usize::from(code)];
        codes.iter().map(letter).collect::<String>()
    };
    assert_eq!(letters(&records[0]), "GTGGACG");
    assert_eq!(letters(&records[1]), "TAC");
    assert_eq!(records[1].codes(true), [2, 3, 0]);
    for wrong in &records[2..4] {
        assert_eq!(letters(wrong), "");
        assert!(wrong.is_unresolved());
    }
    assert!(!records[0].is_unresolved() && !records[4].is_unresolved());
    assert_eq!(records[2].placed(&contigs(20)), Placed::Wrong);
    assert_eq!(letters(&records[4]), "ACG");
    let error = open(None).unwrap_err().to_string();
    assert!(
        error.contains("record 1") && error.contains("--reference"),
        "{error}"
    );
    for (line, what) in [
        ("a 0 c2 1 60 2M * 0 0 == *", "c2 has 4 bases, not 9"),
        ("a 0 c3 1 60 2M * 0 0 == *", "has no \"c3\""),
    ] {
        lines(&[line]);
        let error = open(Some("r.fa")).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_name_too_long_for_bam_is_kept_whole_but_not_written() {
    let name = "n".repeat(300);
    let records = read(format!("@{name}\nAC\n+\nII\n").as_bytes()).unwrap();
    assert_eq!(records[0].name(), name.as_bytes());
    assert_eq!(
        (records[0].codes(true), records[0].qualities()),
        (vec![0, 1], &[40, 40][..])
    );
    let dir = tempfile::tempdir().unwrap();
    let target = AtomicFile::create(&dir.path().join("o.bam"), false).unwrap();
    let mut writer = Writer::create(target, None, &Header::default(), "").unwrap();
    let error = writer.write(&records[0], records[0].bytes()).unwrap_err();
    assert!(error.to_string().contains("300 bytes"), "{error}");
    let line = format!("{name} 4 * 0 0 * * 0 0 AC *");
    assert!(sam(&[&line]).unwrap_err().to_string().contains("QNAME"));
}

#[test]
fn a_bam_cut_or_changed_anywhere_is_an_error_or_other_records() {
    let good = bam();
    let records = read(&good).unwrap().len();
    for cut in (0..good.len()).step_by(97) {
        // Between two records nothing shows: the end marker of BGZF does.
        if let Ok(found) = read(&good[..cut]) {
            assert!(found.len() < records);
        }
        let error = read(&bgzf(&good, 500)[..cut / 3]);
        assert!(error.is_err(), "{cut}");
    }
    for at in 0..good.len() {
        for value in [0, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            match read(&bad) {
                Ok(found) => found.iter().for_each(|record| {
                    record.placed(&[]);
                    record.reference_positions();
                    record.with_tags(&[]);
                }),
                Err(error) => assert_eq!(error.kind(), Kind::Input, "{error}"),
            }
        }
    }
}

#[test]
fn regions_give_the_records_that_overlap_them_once() {
    let all = collect(Alignments::open(&data("small.bam"), &options()).unwrap()).unwrap();
    for texts in [
        &["17:300-400"][..],
        &["17:700", "17:100-120", "17:119-130"],
        &["17"],
        &["17:101-110", "17:115-116"],
        &["17:4000-4200"],
    ] {
        let queries: Vec<_> = texts
            .iter()
            .map(|text| Query::parse(text).unwrap())
            .collect();
        let options = Options {
            regions: queries,
            ..options()
        };
        for name in ["small.bam", "small.cram"] {
            let source = Alignments::open(&data(name), &options).unwrap();
            let spans = source.spans().to_vec();
            let found: Vec<_> = collect(source).unwrap().iter().map(kept).collect();
            let overlaps = |record: &&Record| {
                let (_, start) = record.position().unwrap();
                let end = start + record.span();
                spans
                    .iter()
                    .any(|span| start < span.end && span.start < end)
            };
            let expected: Vec<_> = all.iter().filter(overlaps).map(kept).collect();
            assert!(
                found == expected,
                "{name} {texts:?}: {} of {}",
                found.len(),
                expected.len()
            );
        }
    }
}

#[test]
fn an_index_changed_anywhere_is_an_error_or_finds_records_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.bam");
    std::fs::copy(data("small.bam"), &path).unwrap();
    let good = std::fs::read(data("small.bam.bai")).unwrap();
    let options = Options {
        regions: vec![Query::parse("17:300-400").unwrap()],
        ..Options::default()
    };
    let all = read(&bam()).unwrap();
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            std::fs::write(dir.path().join("a.bam.bai"), &bad).unwrap();
            match Alignments::open(&path, &options).and_then(collect) {
                Ok(found) => assert!(found.iter().all(|record| all.contains(record))),
                Err(error) => assert_eq!(error.kind(), Kind::Input, "{error}"),
            }
        }
    }
    for cut in 0..good.len() - 8 {
        std::fs::write(dir.path().join("a.bam.bai"), &good[..cut]).unwrap();
        assert!(
            Alignments::open(&path, &options).and_then(collect).is_err(),
            "{cut}"
        );
    }
}
