//! Hostile PyTorch files: `models convert` runs nothing that is in them.

use crate::harness::bytes::torch;
use crate::harness::{CONFIG, Case};

/// `models convert` of a file, which must fail for `reason` without leaving anything.
fn refused(reason: &str, bytes: &[u8]) {
    let mut case = Case::new("models convert m.pt --config c.json -o converted")
        .file("m.pt", bytes)
        .file("c.json", CONFIG)
        .seconds(20);
    let out = case.run();
    let code = out.code.unwrap();
    assert!([2, 3, 4, 137].contains(&code), "{code}: {}", out.stderr);
    let out = out.fails(code, &["crocuta: error: m.pt: ", reason]);
    assert!(out.seconds < 10.0);
    assert_eq!(out.stderr.matches("error").count(), 1, "{}", out.stderr);
}

fn pickle(body: &[u8]) -> Vec<u8> {
    torch(&[b"\x80\x02", body].concat(), &[])
}

#[test]
fn calls_are_refused() {
    refused(
        "nothing was run",
        &pickle(b"cposix\nsystem\nX\x0c\x00\x00\x00touch canaryq\x00\x85R."),
    );
    refused(
        "nothing was run",
        &pickle(b"cos\nsystem\n(X\x0c\x00\x00\x00touch canarytR."),
    );
    refused(
        "nothing was run",
        &pickle(b"c__builtin__\neval\nX\x01\x00\x00\x001\x85R."),
    );
    // The right function with too few arguments.
    refused(
        "too few arguments",
        &pickle(b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n)Rs."),
    );
}

#[test]
fn absurd_shapes_are_refused() {
    let tensor = b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(\
        (X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ\
        K\x00J\x00\x94\x35\x77J\x00\x94\x35\x77\x86K\x01K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.";
    let file = torch(
        &[b"\x80\x02", &tensor[..]].concat(),
        &[("archive/data/0", &[0; 16])],
    );
    refused("reaches beyond its storage", &file);
}

#[test]
fn bombs_of_memo_and_nesting_are_refused() {
    // Each level holds the one below it ten times.
    let mut memo = b"]q\x00".to_vec();
    for level in 0..70u8 {
        memo.extend(b"](");
        for _ in 0..10 {
            memo.extend([b'h', level]);
        }
        memo.extend([b'e', b'q', level + 1]);
    }
    memo.push(b'.');
    refused("not a dictionary of tensors", &pickle(&memo));
    let nested = [vec![b')'; 1], vec![0x85; 2 << 20], b".".to_vec()].concat();
    refused("not a dictionary of tensors", &pickle(&nested));
}

#[test]
fn truncated_and_unknown_code_is_refused() {
    refused("truncated", &pickle(b"}X\xff\x00\x00\x00abc"));
    refused("truncated", &pickle(b"}"));
    refused("opcode 0xfe", &pickle(b"\xfe."));
    refused("damaged zip", b"PK\x03\x04");
    refused("not a PyTorch file", b"");
    refused("not a PyTorch file", b"no checkpoint at all");
    let good = pickle(b"}.");
    refused("damaged zip", &good[..good.len() / 2]);
    refused("no tensor", &good);
}

#[test]
fn paths_in_a_file_lead_nowhere() {
    let tensor = b"}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(\
        (X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x13\x00\x00\x00../../../etc/passwdX\x03\x00\x00\x00cpuK\x04tQ\
        K\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.";
    let pickle = [b"\x80\x02", &tensor[..]].concat();
    refused("not in the archive", &torch(&pickle, &[]));
    refused(
        "leads out of the archive",
        &torch(&pickle, &[("archive/data/../../../etc/passwd", &[0; 16])]),
    );
    refused(
        "leads out of the archive",
        &torch(b"\x80\x02}.", &[("../escape", b"x")]),
    );
    refused(
        "two data.pkl",
        &torch(b"\x80\x02}.", &[("other/data.pkl", b"\x80\x02}.")]),
    );
}

#[test]
fn a_compressed_entry_is_refused() {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("archive/data.pkl", zip::write::SimpleFileOptions::default())
        .unwrap();
    zip.write_all(&vec![0; 64 << 20]).unwrap();
    refused("compressed", &zip.finish().unwrap().into_inner());
}
