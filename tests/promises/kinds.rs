//! Whether a file is what its name says.

use crate::harness::bytes::EOF_BLOCK;
use crate::harness::table::Table;
use std::io::Read;

/// Panics unless the bytes are a whole file of the kind that the name's end promises.
pub fn check(name: &str, bytes: &[u8]) {
    let text = || String::from_utf8(bytes.to_vec()).unwrap();
    match name {
        _ if name.ends_with(".parquet") => {
            assert!(bytes.ends_with(b"PAR1"), "{name}");
            assert!(Table::read(bytes).rows() > 0, "{name}");
        }
        _ if name.ends_with(".bed") => bed(name, &text()),
        _ if name.ends_with(".gff3") => {
            assert!(text().starts_with("##gff-version 3\n"), "{name}");
            for line in features(&text()) {
                assert_eq!(line.split('\t').count(), 9, "{name}: {line}");
            }
        }
        _ if name.ends_with(".bw") => {
            assert!(bytes.starts_with(&[0x26, 0xfc, 0x8f, 0x88]), "{name}");
            assert!(bytes.ends_with(&[0x26, 0xfc, 0x8f, 0x88]), "{name}");
        }
        _ if name.ends_with(".svg") => {
            assert!(text().starts_with("<svg"), "{name}");
            assert!(text().trim_end().ends_with("</svg>"), "{name}");
        }
        _ if name.ends_with(".json") => {
            let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            assert!(value.is_object(), "{name}");
        }
        _ if name.ends_with(".tsv") => assert!(text().lines().count() > 1, "{name}"),
        _ if name.ends_with(".vcf.gz") => {
            let lines = unpacked(name, bytes);
            assert!(lines.starts_with(b"##fileformat=VCFv4"), "{name}");
        }
        _ if name.ends_with(".bam") => assert!(unpacked(name, bytes).starts_with(b"BAM\x01")),
        _ if name.ends_with(".bai") => assert!(bytes.starts_with(b"BAI\x01"), "{name}"),
        _ if name.ends_with(".tbi") => assert!(unpacked(name, bytes).starts_with(b"TBI\x01")),
        _ => panic!("of what kind is {name}?"),
    }
}

/// Lines that are not comments.
pub fn features(text: &str) -> Vec<&str> {
    let comments = ["#", "track", "browser"];
    let line = |line: &&str| !comments.iter().any(|start| line.starts_with(start));
    text.lines().filter(line).collect()
}

/// The text of a whole BGZF file.
pub fn unpacked(name: &str, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.ends_with(&EOF_BLOCK), "{name}: no end marker");
    let mut text = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(bytes);
    reader.read_to_end(&mut text).unwrap();
    text
}

fn bed(name: &str, text: &str) {
    for line in features(text) {
        let columns: Vec<&str> = line.split('\t').collect();
        assert!(columns.len() >= 3, "{name}: {line}");
        let place = |i: usize| columns[i].parse::<u64>().unwrap();
        assert!(place(1) < place(2), "{name}: {line}");
    }
}
