use super::*;
use crate::error::Kind;
use crate::io::testing::{bgzf, bgzf_without_eof, gzip, logged};
use proptest::prelude::*;

const HEADER: &str = "##fileformat=VCFv4.2\n##contig=<ID=chr1,length=1000>\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n";
const RECORDS: &str = "chr1\t7\trs1\tA\tG\t.\tPASS\tAC=1;T=x y\tGT:PS\t0|1:7\t./.\n\
    chr1\t9\t.\tCT\tC,<DEL>,*\t5\t.\t.\tGT\t1/2\t0|3\n\
    2\t0\ta;b\tN\t.\t.\t.\t.\tDP\t1\t2\n";

fn open(bytes: &[u8], options: &Options) -> Result<Reader> {
    let bytes = Cursor::new(bytes.to_vec());
    let input = Input::new("x", Box::new(bytes), options.allow_missing_eof)?;
    Reader::new(input, options)
}

fn read_with(bytes: &[u8], options: &Options) -> Result<Vec<Record>> {
    let mut reader = open(bytes, options)?;
    let mut records = vec![];
    while let Some(record) = reader.next_record().inspect_err(|_| {
        records.clear();
    })? {
        records.push(record);
    }
    Ok(records)
}

fn read(bytes: impl AsRef<[u8]>) -> Result<Vec<Record>> {
    read_with(bytes.as_ref(), &Options::default())
}

fn failure(bytes: impl AsRef<[u8]>) -> String {
    let error = read(bytes).unwrap_err();
    assert_eq!(error.kind(), Kind::Input, "{error}");
    error.to_string()
}

fn vcf() -> String {
    format!("{HEADER}{RECORDS}")
}

#[test]
fn records_hold_what_the_columns_say() {
    let sample = |name: &str| Options {
        sample: Some(name.to_string()),
        ..Options::default()
    };
    let records = read_with(vcf().as_bytes(), &sample("b")).unwrap();
    let places: Vec<_> = records
        .iter()
        .map(|r| (r.index, r.chrom.as_str(), r.pos))
        .collect();
    assert_eq!(places, [(0, "chr1", 7), (1, "chr1", 9), (2, "2", 0)]);
    assert_eq!(records[0].id.as_deref(), Some("rs1"));
    assert_eq!(records[1].id, None);
    assert_eq!(records[1].reference, "CT");
    assert_eq!(records[1].alternates, ["C", "<DEL>", "*"]);
    assert_eq!(records[2].alternates, ["."]);
    let second = records[1].genotype.clone().unwrap();
    assert_eq!(
        (second.alleles, second.phased),
        (vec![Some(0), Some(3)], true)
    );
    assert_eq!(records[2].genotype, None);
    let first = read_with(vcf().as_bytes(), &sample("a")).unwrap();
    assert_eq!(
        first[0].genotype.clone().unwrap().phase_set.as_deref(),
        Some("7")
    );
    let plain = read(vcf()).unwrap();
    assert!(plain.iter().all(|record| record.genotype.is_none()));
    let missing = open(vcf().as_bytes(), &sample("c")).err().unwrap();
    assert_eq!(missing.kind(), Kind::Usage);
    assert!(missing.to_string().contains("it has 2: a, b"), "{missing}");
}

#[test]
fn a_sample_is_found_by_its_name_in_latin_1() {
    let text = vcf().replace("\ta\tb\n", "\tJos\u{e9}\tb\n");
    let latin1: Vec<u8> = text.chars().map(|c| c as u8).collect();
    let sample = Options {
        sample: Some("Jos\u{e9}".to_string()),
        ..Options::default()
    };
    for bytes in [latin1, text.into_bytes()] {
        let records = read_with(&bytes, &sample).unwrap();
        assert!(records[0].genotype.is_some());
        let other = Options {
            sample: Some("Jos\u{fffd}".to_string()),
            ..Options::default()
        };
        let missing = open(&bytes, &other).err().unwrap().to_string();
        assert!(missing.contains("it has 2: Jos\u{e9}, b"), "{missing}");
    }
    assert_eq!(decoded(b"Jos\xe9"), decoded("Jos\u{e9}".as_bytes()));
}

#[test]
fn lines_come_back_byte_for_byte() {
    for text in [vcf(), vcf().replace('\n', "\r\n")] {
        for bytes in [
            text.as_bytes().to_vec(),
            gzip(text.as_bytes()),
            bgzf(text.as_bytes(), 40),
        ] {
            let mut reader = open(&bytes, &Options::default()).unwrap();
            assert_eq!(reader.line(), b"");
            let header = reader.header();
            assert_eq!(header.contigs, [("chr1".to_string(), Some(1000))]);
            assert_eq!(header.samples, ["a", "b"]);
            let mut found = [&header.text[..], &header.columns].concat();
            while reader.next_record().unwrap().is_some() {
                found.extend_from_slice(reader.line());
            }
            assert_eq!(found, text.as_bytes());
        }
    }
}

#[test]
fn a_header_without_records_is_good_and_nothing_at_all_is_not() {
    assert_eq!(read(HEADER).unwrap(), []);
    let bare = "##fileformat=VCFv4.0\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
    assert_eq!(read(bare).unwrap(), []);
    assert!(failure("").contains("empty"));
    assert!(failure("##fileformat=VCFv4.2\n").contains("no #CHROM line"));
}

#[test]
fn blank_lines_at_the_end_do_not_matter() {
    for end in ["\n", "\r\n", "\n\n\n"] {
        assert_eq!(read(vcf() + end).unwrap().len(), 3);
        assert_eq!(read(HEADER.to_string() + end).unwrap(), []);
    }
}

#[test]
fn a_wrong_header_is_an_error_that_names_the_line() {
    let columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO";
    for (text, message) in [
        (format!("{columns}\n"), "line 1: neither VCF nor BCF"),
        (
            format!("##fileformat=VCFv3.3\n{columns}\n"),
            "line 1: version \"VCFv3.3\"",
        ),
        (
            format!("##fileformat=VCFv4.\n{columns}\n"),
            "line 1: version",
        ),
        (
            "##fileformat=VCFv4.2\nchr1\t1\n".to_string(),
            "line 2: expected a header line",
        ),
        (
            "##fileformat=VCFv4.2\n\n".to_string(),
            "line 2: expected a header line",
        ),
        (
            format!("##fileformat=VCFv4.2\n{}\n", columns.replace('\t', " ")),
            "line 2: the column line",
        ),
        (
            format!("##fileformat=VCFv4.2\n{columns}\tGT\ta\n"),
            "column 9 is \"GT\"",
        ),
        (">a\nACGT\n".to_string(), "this is FASTA, not VCF"),
        ("a\tb\n".to_string(), "neither VCF nor BCF"),
        (
            "##fileformat=VCFv4.2\n##a=b".to_string(),
            "no #CHROM line: the header does not end",
        ),
    ] {
        let found = failure(text);
        assert!(
            found.starts_with("x: ") && found.contains(message),
            "{found}"
        );
    }
    let twice = vcf().replace("\ta\tb\n", "\ta\ta\n");
    assert_eq!(read(&twice).unwrap().len(), 3);
    let sample = Some("a".to_string());
    let error = read_with(
        twice.as_bytes(),
        &Options {
            sample,
            ..Options::default()
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("two samples"), "{error}");
}

#[test]
fn a_wrong_line_is_an_error_with_its_number() {
    let good = "chr1\t7\t.\tA\tG\t.\t.\t.\tGT\t0|1\t0|1";
    for (line, message) in [
        (good.replace('\t', " "), "expected 11 columns, found 1"),
        (String::new(), "blank line"),
        ("\r\n\n".to_string(), "blank line"),
        (good.replace("\t0|1\t0|1", "\t0|1"), "found 10"),
        (format!("{good}\t0|1"), "found 12"),
        (good.replace("\t7", "\t-7"), "POS \"-7\""),
        (good.replace("\t7", "\t+7"), "POS \"+7\""),
        (good.replace("\t7", "\t."), "POS \".\""),
        (good.replace("\t7", "\t1e3"), "POS \"1e3\""),
        (good.replace("\t7", "\t99999999999999999999"), "POS"),
        (good.replace("chr1", ""), "CHROM is empty"),
        (good.replace("chr1", "chr 1"), "CHROM holds a blank"),
        (
            good.replace("chr1", "\x1b[31m"),
            "CHROM holds a blank or a control",
        ),
        (good.replace("chr1", &"c".repeat(5000)), "CHROM is longer"),
        (good.replace("\tA\t", "\t\t"), "REF is empty"),
        (
            good.replace("\tG\t", "\tG,,T\t"),
            "ALT holds an empty allele",
        ),
        (
            good.replace("\tG\t", "\tG\x07\t"),
            "ALT holds a blank or a control",
        ),
        (good.replace(".\t.\t.\tGT", ".\t.\t\tGT"), "INFO is empty"),
        (
            HEADER.lines().last().unwrap().to_string(),
            "a header line among the records",
        ),
    ] {
        let found = failure(format!("{HEADER}{good}\n{line}\n{good}\n"));
        assert!(
            found.starts_with("x: line 5: ") && found.contains(message),
            "{line}: {found}"
        );
    }
    let latin = [
        vcf().as_bytes(),
        b"chr\xe9\t7\t.\tA\tG\t.\t.\t.\tGT\t0|1\t0|1\n",
    ]
    .concat();
    assert!(failure(latin).contains("CHROM is not UTF-8"));
    // Only the sample that is asked for is read.
    let bad = good.replacen("0|1", "0|9", 1);
    let text = format!("{HEADER}{bad}\n");
    assert_eq!(read(&text).unwrap().len(), 1);
    let options = Options {
        sample: Some("a".to_string()),
        ..Options::default()
    };
    let error = read_with(text.as_bytes(), &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 4: genotype \"0|9\""), "{error}");
}

#[test]
fn alleles_that_cannot_be_scored_are_records() {
    for alternate in [
        "*",
        "<DEL>",
        "G]17:198982]",
        "R",
        "G.",
        "NNN",
        "acgt",
        "A",
        "G,*,<X>",
    ] {
        let text = vcf().replace("\tA\tG\t", &format!("\tA\t{alternate}\t"));
        let records = read(text).unwrap();
        assert_eq!(records[0].alternates.join(","), alternate);
    }
}

#[test]
fn a_record_that_lacks_columns_is_cut_and_a_last_line_without_its_end_is_not() {
    let text = vcf();
    for cut in 0..text.len() {
        let last = text[..cut].rsplit('\n').next().unwrap();
        let whole = last.is_empty() || last.split('\t').filter(|c| !c.is_empty()).count() == 11;
        let (found, log) = logged(|| read(&text[..cut]));
        if cut < HEADER.rfind("#CHROM").unwrap() + 8 {
            assert!(found.is_err(), "cut at {cut}");
        } else if cut >= HEADER.len() {
            assert_eq!(found.is_ok(), whole, "cut at {cut}");
            let warned = !last.is_empty() && !last.ends_with('\t');
            assert_eq!(log.contains("does not end"), warned, "{log}");
        }
    }
    let (records, log) = logged(|| read(text.trim_end()).unwrap());
    assert_eq!(records.len(), 3);
    assert_eq!(
        log.matches("line 6: the last line does not end").count(),
        1,
        "{log}"
    );
}

#[test]
fn samples_may_be_named_in_another_encoding() {
    let mut bytes = vcf().into_bytes();
    let end = HEADER.len();
    assert_eq!(&bytes[end - 4..end], b"a\tb\n");
    bytes[end - 2] = 0xfc;
    let mut reader = open(&bytes, &Options::default()).unwrap();
    assert_eq!(reader.header().samples.len(), 2);
    assert!(bytes[..end].ends_with(&reader.header().columns));
    assert!(reader.header().columns.contains(&0xfc));
    assert!(reader.next_record().unwrap().is_some());
}

#[test]
fn damaged_compression_is_an_error() {
    let text = vcf();
    assert!(failure(bgzf_without_eof(text.as_bytes(), 50)).contains("missing BGZF EOF block"));
    for file in [bgzf(text.as_bytes(), 50), gzip(text.as_bytes())] {
        assert_eq!(read(&file).unwrap().len(), 3);
        for cut in 1..file.len() {
            failure(&file[..cut]);
        }
        assert!(failure([&file[..], b"garbage"].concat()).contains("after end of data"));
    }
}

#[test]
fn a_reader_that_failed_goes_on_failing() {
    let text = format!("{HEADER}chr1\n{RECORDS}");
    let mut reader = open(text.as_bytes(), &Options::default()).unwrap();
    let first = reader.next_record().unwrap_err().to_string();
    assert_eq!(reader.next_record().unwrap_err().to_string(), first);
}

#[test]
fn a_line_or_header_without_end_is_refused_in_bounded_memory() {
    struct Endless(&'static [u8], usize);
    impl Read for Endless {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            for byte in out.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(out.len())
        }
    }
    let open = |start: &str, rest: &'static [u8]| {
        let start = Cursor::new(start.as_bytes().to_vec());
        let input = Input::new("x", Box::new(start.chain(Endless(rest, 0))), false)?;
        Reader::new(input, &Options::default())?.next_record()
    };
    let text = format!("{HEADER}chr1\t7\t.\tA\t");
    for (start, rest, message) in [
        (text.as_str(), &b"ACGTACGT"[..], "line 4: line longer than"),
        (
            "##fileformat=VCFv4.2\n",
            b"##x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n",
            "header longer than",
        ),
    ] {
        let error = open(start, rest).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

proptest! {
    /// Any bytes: records or an error, never a panic.
    #[test]
    fn any_lines_are_read_or_refused(
        lines in prop::collection::vec("[1a]\t[0-9.-]{1,3}\t[.;a]\t[ACN.]{0,2}\t[ACGT,<>*.\\[]{0,4}\t[.]\t[.]\t[.=a]{0,2}(\tGT\t[0-9|/.]{0,3}\t.)?\r?\n", 0..4),
        noise: Vec<u8>,
    ) {
        let sample = Some("a".to_string());
        let options = Options { sample, ..Options::default() };
        let text = format!("{HEADER}{}", lines.concat());
        let _ = read_with(text.as_bytes(), &options);
        let _ = read_with(&[text.as_bytes(), &noise].concat(), &options);
        let _ = read_with(&noise, &options);
    }
}
