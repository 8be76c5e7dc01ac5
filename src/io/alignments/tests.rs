use super::*;
use crate::error::Kind;
use crate::io::testing::{bgzf, gzip};
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
    collect(Alignments::with_input(
        Path::new("x"),
        input,
        false,
        &options(),
    )?)
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
