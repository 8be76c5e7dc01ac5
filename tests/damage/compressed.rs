//! Gzip and BGZF.

use crate::harness::bytes::{bgzf, bgzf_without_eof, cut, gzi, gzip, words};
use crate::harness::{Case, bases, record};

fn text() -> Vec<u8> {
    (record("a", &bases(1, 2000), 60) + &record("b", &bases(2, 300), 60)).into_bytes()
}

/// `embed a.fa.gz` to `out.parquet`.
fn embed(bytes: &[u8], args: &str) -> Case {
    Case::new(&format!("embed a.fa.gz -m model -o out.parquet {args}")).file("a.fa.gz", bytes)
}

#[test]
fn gzip_of_one_or_more_members_is_read_to_its_end() {
    let text = text();
    let whole = embed(&gzip(&text), "").run().succeeds(&["out.parquet"]);
    assert_eq!(whole.table().rows(), 2300);
    let two = [gzip(&text[..700]), gzip(&text[700..])].concat();
    let two = embed(&two, "").run().succeeds(&["out.parquet"]);
    assert!(two.file("out.parquet") == whole.file("out.parquet"));
    // A region of a file that cannot be read at random is found by reading it all.
    let region = embed(&gzip(&text), "--region b:1-10")
        .run()
        .succeeds(&["out.parquet"]);
    assert_eq!(region.table().rows(), 10);
}

#[test]
fn truncated_gzip_is_an_error() {
    let good = gzip(&text());
    for n in [1, 4, 8, good.len() / 2, good.len() - 5, good.len() - 15] {
        embed(cut(&good, n), "")
            .run()
            .fails(3, &["truncated", "byte"]);
    }
}

#[test]
fn bgzf_without_its_end_marker_is_an_error_unless_allowed() {
    let bytes = bgzf_without_eof(&text(), 500);
    embed(&bytes, "")
        .run()
        .fails(3, &["missing BGZF EOF block"]);
    let allowed = embed(&bytes, "--allow-missing-eof").run();
    let allowed = allowed.ends(0, &["warning", "EOF block"], &["out.parquet"]);
    assert_eq!(allowed.table().rows(), 2300);
}

#[test]
fn bgzf_cut_anywhere_is_an_error() {
    let text = text();
    let good = bgzf(&text, 500);
    let block = bgzf_without_eof(&text[..500], 500).len();
    let around = (0..=18).map(|k| block + k);
    let far = (1..12).map(|k| k * good.len() / 12);
    for n in around.chain(far).chain([good.len() - 1, good.len() - 28]) {
        let messages: &[&str] = if n == block {
            &["missing BGZF EOF block"]
        } else {
            &[]
        };
        embed(&good[..n], "").run().fails(3, messages);
    }
}

#[test]
fn a_flipped_bit_never_changes_rows() {
    let good = bgzf(&text(), 900);
    let rows = embed(&good, "").run().succeeds(&["out.parquet"]);
    for i in (0..good.len()).step_by(41) {
        let mut bytes = good.clone();
        bytes[i] ^= 1 << (i % 8);
        let out = embed(&bytes, "").run();
        match out.code {
            // A field that means nothing, such as the time in a header.
            Some(0) => assert!(
                out.file("out.parquet") == rows.file("out.parquet"),
                "byte {i}"
            ),
            _ => drop(out.fails(3, &["a.fa.gz"])),
        }
    }
}

#[test]
fn garbage_after_the_end_is_an_error() {
    let text = text();
    for good in [gzip(&text), bgzf(&text, 500)] {
        for garbage in [&b"garbage"[..], &[0; 64]] {
            let bytes = [&good, garbage].concat();
            embed(&bytes, "").run().fails(3, &["after end of data"]);
        }
    }
}

#[test]
fn an_end_marker_in_the_middle_is_not_the_end() {
    let text = text();
    let bytes = [bgzf(&text[..1000], 300), bgzf(&text[1000..], 300)].concat();
    let out = embed(&bytes, "").run().succeeds(&["out.parquet"]);
    assert_eq!(out.table().rows(), 2300);
}

#[test]
fn the_content_decides_not_the_extension() {
    let text = text();
    embed(&text, "")
        .run()
        .ends(0, &["warning"], &["out.parquet"]);
    Case::embed(bgzf(&text, 500), "")
        .run()
        .ends(0, &["warning"], &["out.parquet"]);
}

#[test]
fn a_damaged_gzi_is_an_error_at_once() {
    let text = text();
    let file = bgzf(&text, 500);
    let good = gzi(text.len(), 500, &file);
    let fai = "a\t2000\t3\t60\t61\nb\t300\t2040\t60\t61\n";
    let region = |gzi: &[u8]| {
        embed(&file, "--region b:5-100 -t 1")
            .file("a.fa.gz.fai", fai)
            .file("a.fa.gz.gzi", gzi)
            .memory(1 << 30)
            .run()
    };
    let rows = region(&words(&good)).succeeds(&["out.parquet"]);
    assert_eq!(rows.table().rows(), 96);
    let with = |at: usize, word: u64| {
        let mut bad = good.clone();
        bad[at] = word;
        words(&bad)
    };
    let mut unsorted = good.clone();
    unsorted.swap(1, 3);
    for bad in [
        with(0, 1 << 60),
        with(0, good[0] + 5),
        words(&unsorted),
        with(good.len() - 2, good[good.len() - 2] + 1),
        with(good.len() - 2, 1 << 40),
        words(&good)[..20].to_vec(),
        vec![],
    ] {
        let out = region(&bad).fails(3, &["a.fa.gz"]);
        assert!(out.seconds < 5.0);
    }
}

#[test]
fn a_gzip_bomb_needs_no_more_memory() {
    let mut text = b">a\n".to_vec();
    text.resize(64 << 20, b'A');
    text.extend(b"\n>b\nACGTACGTACGT\n");
    let mut case = embed(&gzip(&text), "--region b -t 1").memory(700 << 20);
    let out = case.run().succeeds(&["out.parquet"]);
    assert_eq!(out.table().rows(), 12);
}
