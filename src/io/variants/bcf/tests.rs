use super::super::{Options, Reader};
use crate::error::{Kind as ErrorKind, Result};
use crate::io::input::Input;
use crate::io::testing::bgzf;
use std::io::Cursor;

const HEADER: &str = "##fileformat=VCFv4.2\n\
    ##FILTER=<ID=q10,Description=\"below 10, or \\\"bad\\\"\">\n\
    ##INFO=<ID=DP,Number=1,Type=Integer,Description=\"d\">\n\
    ##INFO=<ID=AF,Number=A,Type=Float,Description=\"d\">\n\
    ##INFO=<ID=DB,Number=0,Type=Flag,Description=\"d\">\n\
    ##FORMAT=<ID=GT,Number=1,Type=String,Description=\"d\">\n\
    ##FORMAT=<ID=PL,Number=G,Type=Integer,Description=\"d\">\n\
    ##FORMAT=<ID=DP,Number=1,Type=Integer,Description=\"d\">\n\
    ##INFO=<ID=NM,Number=1,Type=String,Description=\"d\",IDX=40>\n\
    ##contig=<ID=c1>\n\
    ##contig=<ID=c2,length=99,IDX=7>\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n";

/// CHROM, POS (0-based), rlen, QUAL, INFO and alleles, FORMAT and samples.
fn fixed(chrom: i32, pos: i32, infos: u32, alleles: u32, formats: u32, samples: u32) -> Vec<u8> {
    let words = [
        chrom.cast_unsigned(),
        pos.cast_unsigned(),
        1,
        30.5f32.to_bits(),
    ];
    let counts = [alleles << 16 | infos, formats << 24 | samples];
    let words = words.into_iter().chain(counts);
    words.flat_map(u32::to_le_bytes).collect()
}

fn text(text: &str) -> Vec<u8> {
    [&[(text.len() as u8) << 4 | 7], text.as_bytes()].concat()
}

fn bcf(header: &str, records: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"BCF\x02\x02".to_vec();
    bytes.extend((header.len() as u32 + 1).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.push(0);
    for (site, samples) in records {
        bytes.extend((site.len() as u32).to_le_bytes());
        bytes.extend((samples.len() as u32).to_le_bytes());
        bytes.extend(site);
        bytes.extend(samples);
    }
    bytes
}

fn lines(bytes: &[u8]) -> Result<Vec<String>> {
    let input = Input::new("x", Box::new(Cursor::new(bytes.to_vec())), false)?;
    let mut reader = Reader::new(input, &Options::default())?;
    let mut lines = vec![];
    while reader.next_record()?.is_some() {
        lines.push(
            String::from_utf8_lossy(reader.line())
                .trim_end()
                .to_string(),
        );
    }
    Ok(lines)
}

fn failure(bytes: &[u8]) -> String {
    let error = lines(bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    error.to_string()
}

/// A record with every type, and missing values and vector ends of every width.
fn rich() -> (Vec<u8>, Vec<u8>) {
    let site = [
        fixed(7, 4, 4, 3, 3, 2),
        text("rs1"),
        text("A"),
        text("C"),
        text("<DEL>"),
        // FILTER: q10, and a vector's end.
        vec![0x21, 1, 0x81],
        // DP=.,300 in 16 bits.
        vec![0x11, 2, 0x22, 0x00, 0x80, 0x2c, 0x01],
        // AF=.,0.25 and an end.
        [
            &[0x11, 3, 0x35][..],
            &0x7f80_0001u32.to_le_bytes(),
            &0.25f32.to_le_bytes(),
            &0x7f80_0002u32.to_le_bytes(),
        ]
        .concat(),
        vec![0x11, 4, 0x00],
        // NM by its IDX, longer than 14 bytes, key in 16 bits.
        [&[0x12, 40, 0, 0xf7, 0x11, 16][..], b"sixteen letters\0"].concat(),
    ];
    let samples = [
        // GT: 0|1 and 2/. ; PL: -1,70000 and . ; DP: text "x" and none.
        vec![0x11, 5, 0x21, 2, 5, 6, 0],
        [
            &[0x11, 6, 0x23][..],
            &(-1i32).to_le_bytes(),
            &70_000i32.to_le_bytes(),
            &i32::MIN.to_le_bytes(),
            &(i32::MIN + 1).to_le_bytes(),
        ]
        .concat(),
        vec![0x11, 2, 0x17, b'x', 0],
    ];
    (site.concat(), samples.concat())
}

/// A record without samples' data.
fn plain(chrom: i32, pos: i32) -> (Vec<u8>, Vec<u8>) {
    let site = [
        fixed(chrom, pos, 0, 1, 0, 2),
        vec![0x07],
        text("N"),
        vec![0x00],
    ];
    (site.concat(), vec![])
}

#[test]
fn every_type_becomes_text() {
    let bytes = bcf(HEADER, &[rich(), plain(0, -1)]);
    let expected = [
        "c2\t5\trs1\tA\tC,<DEL>\t30.5\tq10\tDP=.,300;AF=.,0.25;DB;NM=sixteen letters\tGT:PL:DP\t0|1:-1,70000:x\t2/.:.:.",
        "c1\t0\t.\tN\t.\t30.5\t.\t.\t.\t.\t.",
    ];
    assert_eq!(lines(&bytes).unwrap(), expected);
    assert_eq!(lines(&bgzf(&bytes, 60)).unwrap(), expected);
    let reader = Reader::new(
        Input::new("x", Box::new(Cursor::new(bytes)), false).unwrap(),
        &Options::default(),
    )
    .unwrap();
    let text = String::from_utf8(reader.header().text.clone()).unwrap();
    assert!(
        text.contains("Description=\"d\">\n##contig=<ID=c1>\n##contig=<ID=c2,length=99>\n"),
        "{text}"
    );
    assert!(!text.contains("IDX"));
    assert_eq!(reader.header().contigs[1], ("c2".to_string(), Some(99)));
}

#[test]
fn bcf_cut_anywhere_but_between_records_is_an_error() {
    let bytes = bcf(HEADER, &[rich(), plain(0, 3)]);
    let sizes = [(rich().0.len() + rich().1.len()), plain(0, 3).0.len()].map(|size| size + 8);
    let whole = [bytes.len() - sizes[0] - sizes[1], bytes.len() - sizes[1]];
    for cut in 0..bytes.len() {
        let found = lines(&bytes[..cut]);
        assert_eq!(found.is_ok(), whole.contains(&cut), "cut at {cut}");
    }
    assert!(failure(&bytes[..bytes.len() - 1]).contains("record 2: truncated BCF"));
}

#[test]
fn changed_bytes_never_panic() {
    let bytes = bcf(HEADER, &[rich(), plain(0, 3)]);
    for at in 0..bytes.len() {
        for byte in (0..8)
            .map(|bit| bytes[at] ^ (1 << bit))
            .chain([0, 0x7f, 0x80, 0xf1, 0xff])
        {
            let mut damaged = bytes.clone();
            damaged[at] = byte;
            let _ = lines(&damaged);
        }
    }
}

#[test]
fn what_a_record_may_not_say_is_an_error() {
    let with = |site: Vec<Vec<u8>>| bcf(HEADER, &[plain(0, 3), (site.concat(), vec![])]);
    let cases = [
        (
            vec![fixed(3, 1, 0, 1, 0, 2), vec![7], text("N"), vec![0]],
            "CHROM is not in the header",
        ),
        (
            vec![fixed(-1, 1, 0, 1, 0, 2), vec![7], text("N"), vec![0]],
            "CHROM is not in the header",
        ),
        (
            vec![fixed(0, -2, 0, 1, 0, 2), vec![7], text("N"), vec![0]],
            "POS is negative",
        ),
        (
            vec![fixed(0, 1, 0, 1, 0, 0xff_ffff), vec![7], text("N"), vec![0]],
            "16777215 samples, the header has 2",
        ),
        (
            vec![fixed(0, 1, 0, 0, 0, 2), vec![7], vec![0]],
            "a record without REF",
        ),
        (
            vec![fixed(0, 1, 0, 0xffff, 0, 2), vec![7], text("N"), vec![0]],
            "not text",
        ),
        (
            vec![
                fixed(0, 1, 0, 2, 0, 2),
                vec![7],
                text("A"),
                text("C,G"),
                vec![0],
            ],
            "not text",
        ),
        (
            vec![fixed(0, 1, 0, 1, 0, 2), vec![7], text("A\tC"), vec![0]],
            "a control character",
        ),
        (
            vec![fixed(0, 1, 0, 1, 0, 2), vec![7], text("A"), vec![0x11, 9]],
            "key 9 is not in the header",
        ),
        (
            vec![
                fixed(0, 1, 0, 1, 0, 2),
                vec![7],
                text("A"),
                vec![0x11, 0x80],
            ],
            "a key is missing",
        ),
        (
            vec![fixed(0, 1, 0, 1, 0, 2), vec![7], text("A"), vec![0x14]],
            "unknown type 4",
        ),
        (
            vec![fixed(0, 1, 0xffff, 1, 0, 2), vec![7], text("A"), vec![0]],
            "goes beyond its record",
        ),
        (
            vec![
                fixed(0, 1, 0, 1, 0, 2),
                vec![0xf7, 0x13, 255, 255, 255, 127],
            ],
            "goes beyond its record",
        ),
        (
            vec![fixed(0, 1, 0, 1, 0, 2), vec![0xf7, 0x11, 0xff]],
            "negative length",
        ),
        (
            vec![fixed(0, 1, 0, 1, 0, 2), vec![0xf7, 0xf1, 0xf1]],
            "length is not one integer",
        ),
        (
            vec![fixed(0, 1, 0, 1, 0, 2), vec![7], text("A"), vec![0, 0]],
            "longer than its values",
        ),
        (vec![vec![0; 23]], "a record of 23 bytes"),
        (
            vec![fixed(0, 1, 0, 1, 1, 2), vec![7], text("A"), vec![0]],
            "goes beyond its record",
        ),
    ];
    for (site, message) in cases {
        let found = failure(&with(site));
        assert!(found.contains(message), "{message}: {found}");
        assert!(found.starts_with("x: record 2: "), "{found}");
    }
}

#[test]
fn sizes_that_a_file_makes_up_take_no_memory() {
    let mut bytes = bcf(HEADER, &[]);
    bytes.extend([0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f]);
    assert!(failure(&bytes).contains("record longer than"));
    let mut header = b"BCF\x02\x02".to_vec();
    header.extend([0xff; 4]);
    assert!(failure(&header).contains("header longer than"));
    assert!(failure(b"BCF\x02\x09\0\0\0\0").contains("version 2.9"));
    assert!(failure(b"BCF\x04").contains("neither VCF nor BCF"));
    // A few bytes that stand for a long name, many times.
    let long = "x".repeat(1 << 20);
    let text_header = HEADER.replace("ID=NM", &format!("ID={long}"));
    let infos = [0x12, 40, 0, 0x00].repeat(1000);
    let site = [
        fixed(0, 1, 1000, 1, 0, 2),
        vec![7],
        text("A"),
        vec![0],
        infos,
    ]
    .concat();
    assert!(failure(&bcf(&text_header, &[(site, vec![])])).contains("record longer than"));
}
