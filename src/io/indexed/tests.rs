use super::*;
use crate::io::testing::{bgzf, gzi, logged};
use crate::sequence::{A, C, G, T};

const FASTA: &str = ">a first\nACGT\nACGT\nAC\n>b\nTTTT\n>c\n>d\nGGGGG\nC";
const FAI: &str = "a\t10\t9\t4\t5\nb\t4\t25\t4\t5\nc\t0\t33\t0\t0\nd\t6\t36\t5\t6\n";

fn open(dir: &Path, fasta: &[u8], fai: &str) -> Result<Indexed> {
    let path = dir.join("ref.fa");
    std::fs::write(&path, fasta).unwrap();
    std::fs::write(dir.join("ref.fa.fai"), fai).unwrap();
    let input = Input::open(&path, false)?;
    match Indexed::open(&path, &input, false)? {
        Access::Indexed(indexed) => Ok(*indexed),
        Access::Stream(why) => panic!("{why}"),
    }
}

fn read(indexed: &mut Indexed, span: (usize, u64, u64), max: usize) -> Result<Vec<u8>> {
    let (contig, start, end) = span;
    indexed.seek(Span { contig, start, end })?;
    let mut codes = vec![];
    while indexed.read_bases(&mut codes, max)? > 0 {}
    Ok(codes)
}

fn expect_every_span(indexed: &mut Indexed) {
    let contigs = [
        &[A, C, G, T, A, C, G, T, A, C][..],
        &[T, T, T, T],
        &[],
        &[G, G, G, G, G, C],
    ];
    for (contig, codes) in contigs.iter().enumerate() {
        for end in 0..=codes.len() {
            for start in 0..=end {
                let span = (contig, start as u64, end as u64);
                for max in [1, 3, 100] {
                    assert_eq!(
                        read(indexed, span, max).unwrap(),
                        codes[start..end],
                        "{span:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_span_of_a_plain_file_is_read() {
    let dir = tempfile::tempdir().unwrap();
    expect_every_span(&mut open(dir.path(), FASTA.as_bytes(), FAI).unwrap());
    let crlf = FASTA.replace('\n', "\r\n");
    let fai = "a\t10\t10\t4\t6\nb\t4\t30\t4\t6\nc\t0\t40\t0\t0\nd\t6\t44\t5\t7\n";
    expect_every_span(&mut open(dir.path(), crlf.as_bytes(), fai).unwrap());
}

#[test]
fn every_span_of_a_bgzf_file_is_read() {
    for block in [1, 5, 7, 100] {
        let dir = tempfile::tempdir().unwrap();
        let file = bgzf(FASTA.as_bytes(), block);
        std::fs::write(
            dir.path().join("ref.fa.gzi"),
            gzi(FASTA.len(), block, &file),
        )
        .unwrap();
        expect_every_span(&mut open(dir.path(), &file, FAI).unwrap());
    }
}

#[test]
fn a_stale_index_never_yields_bases() {
    let stale = [
        ">a first\nACGT\nAC\n>b\nTTTT\n>c\n>d\nGGGGG\nC",
        ">a first\nACGT\nACGT\nACGT\nAC\n>b\nTTTT\n>c\n>d\nGGGGG\nC",
        ">a fir\nACGT\nACGT\nACT\n>b\nTTTT\n>c\n>d\nGGGGG\nC",
        ">x first\nACGT\nACGT\nAC\n>b\nTTTT\n>c\n>d\nGGGGG\nC",
        ">a first\nACGT\nACGTAC\n>bb\nTTTTTTTTTTTTTTTTTTTTTTTT",
    ];
    let dir = tempfile::tempdir().unwrap();
    for text in stale {
        let error = open(dir.path(), text.as_bytes(), FAI)
            .and_then(|mut indexed| read(&mut indexed, (0, 0, 2), 9))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Input);
        let error = error.to_string();
        let beyond = error.contains("ref.fa.fai: line");
        assert!(beyond || error.contains("index does not match"), "{error}");
        assert!(beyond || error.contains("samtools faidx"), "{error}");
    }
}

#[test]
fn a_stale_block_index_never_yields_bases() {
    let dir = tempfile::tempdir().unwrap();
    let file = bgzf(FASTA.as_bytes(), 7);
    let other = bgzf(FASTA.as_bytes(), 11);
    let mut shifted = gzi(FASTA.len(), 7, &file);
    shifted
        .iter_mut()
        .skip(8)
        .step_by(16)
        .for_each(|low| *low += 1);
    for index in [gzi(FASTA.len(), 11, &other), shifted] {
        std::fs::write(dir.path().join("ref.fa.gzi"), index).unwrap();
        let mut indexed = open(dir.path(), &file, FAI).unwrap();
        let error = read(&mut indexed, (1, 0, 4), 9).unwrap_err();
        assert!(
            error.to_string().contains("index does not match"),
            "{error}"
        );
    }
}

#[test]
fn ragged_lines_in_a_span_are_an_error_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    // The lengths of the lines change, the place of the end does not.
    let text = ">a first\nACGT\nAC\nACGT\n>b\nTTTT\n>c\n>d\nGGGGG\nC";
    let mut indexed = open(dir.path(), text.as_bytes(), FAI).unwrap();
    assert_eq!(read(&mut indexed, (0, 0, 6), 9).unwrap().len(), 6);
    for span in [(0, 4, 8), (0, 7, 8), (0, 0, 10)] {
        let error = read(&mut indexed, span, 9).unwrap_err().to_string();
        assert!(error.contains("line length"), "{error}");
        assert!(error.contains("line 3: "), "{error}");
    }
    let longer = ">a first\nACGTGACGT\nAC\n>b\nTTTT\n>c\n>d\nGGGGG\nC";
    let mut indexed = open(dir.path(), longer.as_bytes(), FAI).unwrap();
    for span in [(0, 3, 5), (0, 4, 5), (0, 6, 7)] {
        let error = read(&mut indexed, span, 9).unwrap_err().to_string();
        assert!(error.contains("line length"), "{error}");
    }
    let mixed = ">a first\nACGT\nACG\r\nAC\n>b\nTTTT\n>c\n>d\nGGGGG\nC";
    let mut indexed = open(dir.path(), mixed.as_bytes(), FAI).unwrap();
    let error = read(&mut indexed, (0, 0, 10), 9).unwrap_err().to_string();
    assert!(error.contains("line length"), "{error}");
}

#[test]
fn an_older_index_that_fits_is_one_warning() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), FASTA.as_bytes(), FAI).unwrap();
    let path = dir.path().join("ref.fa");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(later)
        .unwrap();
    let (codes, log) = logged(|| {
        let input = Input::open(&path, false).unwrap();
        let Access::Indexed(mut indexed) = Indexed::open(&path, &input, false).unwrap() else {
            panic!("not indexed");
        };
        read(&mut indexed, (0, 2, 5), 9).unwrap()
    });
    assert_eq!(codes, [G, T, A]);
    assert_eq!(log.matches("is older than").count(), 1);
}

#[test]
fn what_has_no_usable_index_is_said_to_stream() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ref.fa");
    let text = FASTA.as_bytes();
    let files = [text.to_vec(), crate::io::testing::gzip(text), bgzf(text, 9)];
    for (file, fai) in files.iter().zip([false, true, true]) {
        std::fs::write(&path, file).unwrap();
        if fai {
            std::fs::write(dir.path().join("ref.fa.fai"), FAI).unwrap();
        }
        let input = Input::open(&path, false).unwrap();
        let access = Indexed::open(&path, &input, false).unwrap();
        assert!(matches!(access, Access::Stream(_)));
    }
}

#[test]
fn a_missing_eof_block_is_found_by_random_access_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = bgzf(FASTA.as_bytes(), 7);
    std::fs::write(dir.path().join("ref.fa.gzi"), gzi(FASTA.len(), 7, &file)).unwrap();
    let cut = &file[..file.len() - 28];
    let error = open(dir.path(), cut, FAI).err().unwrap().to_string();
    assert!(error.contains("missing BGZF EOF block"), "{error}");
}
