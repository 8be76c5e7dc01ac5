use super::*;
use crate::error::Kind;
use crate::io::source::beside;
use crate::io::testing::{bgzf, gzi, gzip, logged, zstd};
use crate::sequence::base;
use proptest::prelude::*;
use std::path::PathBuf;

/// Contigs a (20 bases), empty, b (9) and c:d (4), in lines of 6.
const FASTA: &str = ">a\nACGTAC\nGGTTNN\nCATGCA\nTC\n>empty\n>b x\nTTTACG\nGGA\n>c:d\nACGT\n";
const FAI: &str = "a\t20\t3\t6\t7\nempty\t0\t34\t0\t0\nb\t9\t39\t6\t7\nc:d\t4\t55\t4\t5\n";
const A: &str = "ACGTACGGTTNNCATGCATC";

/// The same text plain and bgzipped with indexes, and plain, gzipped and zstd without.
fn forms() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let text = FASTA.as_bytes();
    let blocks = bgzf(text, 13);
    put(&dir, "i.fa.fai", FAI);
    put(&dir, "b.fa.gz.fai", FAI);
    put(&dir, "b.fa.gz.gzi", gzi(text.len(), 13, &blocks));
    let paths = vec![
        put(&dir, "i.fa", text),
        put(&dir, "b.fa.gz", blocks),
        put(&dir, "p.fa", text),
        put(&dir, "g.fa.gz", gzip(text)),
        put(&dir, "z.fa.zst", zstd(text)),
    ];
    (dir, paths)
}

fn put(dir: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn regions(texts: &[&str]) -> Options {
    Options {
        regions: texts
            .iter()
            .map(|text| Query::parse(text).unwrap())
            .collect(),
        ..Options::default()
    }
}

/// Name, start, rows and letters of every sequence.
fn read(path: &Path, options: Options, max: usize) -> Result<Vec<(String, u64, u64, String)>> {
    let mut genome = Genome::open(path, options)?;
    let mut all = vec![];
    while let Some(sequence) = genome.next_sequence()? {
        let mut codes = vec![];
        while genome.read_bases(&mut codes, max)? > 0 {}
        let letter = |&code: &u8| crate::sequence::LETTERS[usize::from(base(code))];
        let letters: String = codes.iter().map(letter).collect();
        all.push((sequence.name, sequence.start, sequence.rows.start, letters));
    }
    assert!(genome.next_sequence()?.is_none());
    let lengths: Vec<_> = genome.finished_contigs().iter().map(|c| c.length).collect();
    assert_eq!(lengths, [20, 0, 9, 4]);
    Ok(all)
}

fn row(name: &str, start: u64, rows: u64, letters: &str) -> (String, u64, u64, String) {
    (name.into(), start, rows, letters.into())
}

#[test]
fn a_whole_file_is_read_without_an_index() {
    let (_dir, paths) = forms();
    for path in &paths {
        for max in [1, 4, 1000] {
            let found = read(path, Options::default(), max).unwrap();
            let expected = [
                row("a", 0, 0, A),
                row("b", 0, 0, "TTTACGGGA"),
                row("c:d", 0, 0, "ACGT"),
            ];
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn regions_come_in_order_with_their_context_in_every_form() {
    let (_dir, paths) = forms();
    for path in &paths {
        for max in [1, 3, 1000] {
            let mut options = regions(&["b:8", "a:13-15", "c:d", "a:3-4", "a:1-3", "a:16-18"]);
            options.context = 4;
            let found = read(path, options, max).unwrap();
            let expected = [
                row("a", 0, 0, "ACGT"),
                row("a", 8, 12, "TTNNCATGCA"),
                row("b", 3, 7, "ACGGGA"),
                row("c:d", 0, 0, "ACGT"),
            ];
            assert_eq!(found, expected, "{}", path.display());
        }
    }
}

#[test]
fn a_region_whose_context_reaches_the_contigs_end_does_not_hide_later_regions() {
    let (_dir, paths) = forms();
    for path in &paths {
        for context_after in [4, 13, 1000] {
            let mut options = regions(&["a:2-4", "a:9-10", "a:20", "b:1-2", "b:9"]);
            options.context = 2;
            options.context_after = context_after;
            let found = read(path, options, 3).unwrap();
            let places: Vec<_> = found
                .iter()
                .map(|(name, start, rows, _)| (name.as_str(), *start, *rows))
                .collect();
            let expected = [
                ("a", 0, 1),
                ("a", 6, 8),
                ("a", 17, 19),
                ("b", 0, 0),
                ("b", 6, 8),
            ];
            assert_eq!(places, expected, "{} {context_after}", path.display());
            let last = |i: usize| found[i].3.clone();
            assert_eq!((last(2), last(4)), (A[17..].to_string(), "GGA".to_string()));
        }
    }
}

#[test]
fn what_a_caller_skips_is_still_there_for_the_next_region() {
    let (_dir, paths) = forms();
    for path in &paths {
        let mut options = regions(&["a:5-10", "a:12-13", "b:2-3"]);
        options.context = 6;
        let mut genome = Genome::open(path, options).unwrap();
        let mut codes = vec![];
        genome.next_sequence().unwrap();
        genome.read_bases(&mut codes, 7).unwrap();
        let second = genome.next_sequence().unwrap().unwrap();
        assert_eq!((second.start, second.rows.clone()), (5, 11..13));
        codes.clear();
        assert_eq!(genome.read_bases(&mut codes, 100).unwrap(), 8);
        let letters: String = codes
            .iter()
            .map(|&c| crate::sequence::LETTERS[usize::from(c)])
            .collect();
        assert_eq!(letters, A[5..13]);
        assert_eq!(genome.next_sequence().unwrap().unwrap().name, "b");
        assert!(genome.next_sequence().unwrap().is_none());
    }
}

#[test]
fn regions_that_cannot_be_are_usage_errors_in_every_form() {
    for (text, what) in [
        ("x:1-2", "no such contig"),
        ("a:21-30", "begins at 21 of a contig of 20 bases"),
        ("empty", "begins at 1 of a contig of 0 bases"),
        ("a:8-5", "ends before it begins"),
    ] {
        let (_dir, paths) = forms();
        for path in &paths {
            let mut options = regions(&["b", text]);
            options.context = 30;
            let error = read(path, options, 3).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{error}");
            let error = error.to_string();
            assert!(error.contains(what), "{error}");
            assert!(error.contains(&format!("\"{text}\"")), "{error}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = put(&dir, "x.fa", ">c:1\nA\n>c\nAA\n");
    let error = Genome::open(&path, regions(&["c:1"])).err().unwrap();
    assert!(error.to_string().contains("ambiguous"), "{error}");
}

#[test]
fn an_end_beyond_the_contig_is_clipped_with_a_warning() {
    let (_dir, paths) = forms();
    for path in &paths {
        let (found, log) = logged(|| read(path, regions(&["b:8-100"]), 9).unwrap());
        assert_eq!(found, [row("b", 7, 7, "GA")]);
        assert_eq!(log.matches("clipped").count(), 1, "{log}");
    }
}

#[test]
fn kept_overlaps_come_twice_from_an_index_and_are_refused_in_a_stream() {
    let (_dir, paths) = forms();
    for path in &paths {
        let mut options = regions(&["a:1-6", "a:4-8"]);
        options.keep_overlaps = true;
        let indexed = beside(path, ".fai").exists();
        match read(path, options, 5) {
            Ok(found) => {
                assert!(indexed);
                assert_eq!(found, [row("a", 0, 0, "ACGTAC"), row("a", 3, 3, "TACGG")]);
            }
            Err(error) => {
                assert!(!indexed);
                assert_eq!(error.kind(), Kind::Usage);
            }
        }
    }
}

#[test]
fn damage_after_the_last_region_is_found_when_streaming() {
    let dir = tempfile::tempdir().unwrap();
    let path = put(&dir, "x.fa", ">a\nACGT\n>b\nAC!T\n");
    let error = read(&path, regions(&["a:1-2"]), 5).unwrap_err();
    assert!(
        error.to_string().contains("x.fa: b:3: byte 0x21"),
        "{error}"
    );
}

#[test]
fn an_empty_file_is_an_error_unless_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let path = put(&dir, "x.fa", "");
    let mut genome = Genome::open(&path, Options::default()).unwrap();
    let error = genome.next_sequence().unwrap_err().to_string();
    assert!(error.ends_with("x.fa: no sequences"), "{error}");
    let allow = Options {
        allow_empty: true,
        ..Options::default()
    };
    let mut genome = Genome::open(&path, allow).unwrap();
    assert_eq!(genome.next_sequence().unwrap(), None);
}

#[test]
fn the_hint_is_exact_with_an_index() {
    let (_dir, paths) = forms();
    let hints: Vec<_> = paths
        .iter()
        .map(|path| Genome::open(path, Options::default()).unwrap().bases_hint())
        .collect();
    assert_eq!(
        hints,
        [Some(33), Some(33), Some(FASTA.len() as u64), None, None]
    );
    let mut options = regions(&["a:11-13"]);
    options.context = 5;
    let genome = Genome::open(&paths[0], options).unwrap();
    assert_eq!(genome.bases_hint(), Some(8));
    assert_eq!(genome.contigs().unwrap().len(), 4);
}

proptest! {
    /// Streaming with bases kept for the next region gives what random access gives.
    #[test]
    fn a_stream_gives_what_an_index_gives(
        spans in prop::collection::vec((0u64..20, 1u64..9), 1..6),
        context in 0u64..12,
        context_after in 0u64..25,
        max in 1usize..8,
    ) {
        let texts: Vec<_> = spans.iter().map(|(start, n)| format!("a:{}-{}", start + 1, (start + n).min(20))).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let options = Options { context, context_after, ..regions(&texts) };
        let (_dir, paths) = forms();
        let indexed = read(&paths[0], options.clone(), max).unwrap();
        for (_, start, rows, letters) in &indexed {
            prop_assert_eq!(*start, rows.saturating_sub(context));
            let start = *start as usize;
            prop_assert_eq!(letters, &A[start..start + letters.len()]);
        }
        prop_assert_eq!(read(&paths[2], options, max).unwrap(), indexed);
    }
}

#[test]
fn regions_are_read_from_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || std::fs::write(path, gzip(FASTA.as_bytes())).unwrap()
    });
    let found = read(&path, regions(&["a:3-4", "b:9"]), 5).unwrap();
    assert_eq!(found, [row("a", 2, 2, "GT"), row("b", 8, 8, "A")]);
    writer.join().unwrap();
}

#[test]
fn a_genome_can_move_to_the_reading_thread() {
    fn moves<T: Send>() {}
    moves::<Genome>();
}
