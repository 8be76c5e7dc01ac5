use super::*;
use crate::io::atomic;
use crate::io::input::Input;
use crate::io::testing::logged;
use crate::io::variants::{Options, Reader};
use noodles::bgzf;
use noodles::core::Region;
use noodles::csi::{self, BinningIndex};
use noodles::tabix;
use std::io::{BufRead, Cursor, Read};
use std::path::Path;

const HEADER: &str = "##fileformat=VCFv4.2\n##INFO=<ID=AC,Number=A,Type=Integer,Description=\"c\">\n\
    #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\n";
const ADDED: &str = "##crocuta=0.1 model=m\n\
    ##INFO=<ID=CRO_DLL,Number=A,Type=Float,Description=\"a \\\"b\\\" \\\\\">\n\
    ##INFO=<ID=CRO_STATUS,Number=A,Type=String,Description=\"s\">\n";

fn fields() -> Vec<Field> {
    let field = |id, kind, description: &str| Field {
        id,
        kind,
        description: description.to_string(),
    };
    vec![
        field("CRO_DLL", FieldKind::Float, "a \"b\" \\"),
        field("CRO_STATUS", FieldKind::Text, "s"),
    ]
}

fn reader(text: &str) -> Reader {
    let input = Input::new("x", Box::new(Cursor::new(text.as_bytes().to_vec())), false);
    Reader::new(input.unwrap(), &Options::default()).unwrap()
}

/// Annotates `text` with the numbers 0.5, 1.5, … for the alleles of each record.
fn annotate(text: &str, path: &Path, force: bool) -> Result<Written> {
    let header = if is_bcf(path) {
        declared(&mut reader(text))?
    } else {
        reader(text).header().clone()
    };
    let mut reader = reader(text);
    let source = "0.1 model=m";
    let outputs = OutputSet::default();
    let mut out = Annotator::create(
        &outputs,
        (outputs.create(path, force)?, force),
        &header,
        fields(),
        source,
    )?;
    while let Some(record) = reader.next_record().unwrap() {
        let scores = (0..record.alternates.len()).map(|i| i as f32 + 0.5);
        let alleles: Vec<_> = scores
            .map(|x| vec![Value::Float(x), Value::Text("ok")])
            .collect();
        out.annotate(reader.line(), &alleles)?;
    }
    let written = out.finish()?;
    outputs.commit()?;
    Ok(written)
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    Input::open(path, false)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text
}

fn listing(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn every_byte_stays_and_the_fields_are_added() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.vcf.gz");
    let (before, columns) = HEADER.split_at(HEADER.find("#CHROM").unwrap());
    let input = "1\t5\t.\tA\tG\t.\tPASS\tAC=1;X\tGT:y\t0|1:  z\n\
        1\t6\trs\tA\tG,<DEL>\t3.20\t.\t.\tGT\t0/1\n\
        1\t7\t.\tA\t.\t.\t.\t.\tGT\t0\n\
        1\t7\t.\tA\t.\t.\t.\tAC=1;\tGT\t0\n\
        1\t8\t.\tA\tT\t.\t.\tAC=1;;B;\tGT\t0\n";
    let output = "1\t5\t.\tA\tG\t.\tPASS\tAC=1;X;CRO_DLL=0.5;CRO_STATUS=ok\tGT:y\t0|1:  z\n\
        1\t6\trs\tA\tG,<DEL>\t3.20\t.\tCRO_DLL=0.5,1.5;CRO_STATUS=ok,ok\tGT\t0/1\n\
        1\t7\t.\tA\t.\t.\t.\t.\tGT\t0\n\
        1\t7\t.\tA\t.\t.\t.\tAC=1;\tGT\t0\n\
        1\t8\t.\tA\tT\t.\t.\tAC=1;;B;CRO_DLL=0.5;CRO_STATUS=ok\tGT\t0\n";
    let expected = [before, ADDED, columns, output].concat();
    annotate(&[HEADER, input].concat(), &path, false).unwrap();
    assert_eq!(read(&path), expected);
    // Once more over the result: the fields are replaced.
    annotate(&expected, &path, true).unwrap();
    assert_eq!(read(&path), expected);
    // Line ends are those of the input.
    let dos = |text: &str| text.replace('\n', "\r\n");
    annotate(&dos(&[HEADER, input].concat()), &path, true).unwrap();
    assert_eq!(read(&path), dos(&expected));
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.ends_with(&crate::io::bgzf::EOF_BLOCK));
    assert_eq!(listing(dir.path()), ["a.vcf.gz", "a.vcf.gz.tbi"]);
}

#[test]
fn values_are_written_as_vcf_allows_them() {
    for (value, text) in [
        (Value::Missing, "."),
        (Value::Float(f32::NAN), "."),
        (Value::Float(f32::INFINITY), "."),
        (Value::Float(-0.1), "-0.1"),
        (Value::Float(0.0), "0"),
        (Value::Float(1234.5), "1234.5"),
        (Value::Float(1e-20), "1e-20"),
        (Value::Float(-2.5e30), "-2.5e30"),
        (Value::Text(""), "."),
        (Value::Text("ref_mismatch"), "ref_mismatch"),
        (Value::Text("a b;c,d=e%:é"), "a%20b%3Bc%2Cd%3De%25%3A%C3%A9"),
    ] {
        let mut line = Vec::new();
        push_value(&mut line, value);
        assert_eq!(String::from_utf8(line).unwrap(), text);
    }
}

#[test]
fn a_line_with_other_alleles_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = reader(&[HEADER, "1\t5\t.\tA\tG,T\t.\t.\t.\tGT\t0\n"].concat());
    let path = dir.path().join("a.vcf.gz");
    let outputs = OutputSet::default();
    let mut out = Annotator::create(
        &outputs,
        (outputs.create(&path, false).unwrap(), false),
        reader.header(),
        fields(),
        "",
    )
    .unwrap();
    reader.next_record().unwrap();
    let one = vec![Value::Missing, Value::Missing];
    for alleles in [vec![one.clone()], vec![one, vec![Value::Missing]]] {
        let error = out.annotate(reader.line(), &alleles).unwrap_err();
        assert_eq!(error.kind(), Kind::Internal);
    }
    drop(out);
    assert!(listing(dir.path()).is_empty());
}

/// Lines that an index finds for a region, as tools do: those of the chunks that overlap it.
fn query<I: BinningIndex>(index: &I, path: &Path, region: &str) -> Vec<String> {
    let region: Region = region.parse().unwrap();
    let names = index.header().unwrap().reference_sequence_names();
    let id = names.get_index_of(region.name()).unwrap();
    let mut reader = bgzf::io::Reader::new(std::fs::File::open(path).unwrap());
    let mut found = vec![];
    for chunk in index.query(id, region.interval()).unwrap() {
        reader.seek(chunk.start()).unwrap();
        while reader.virtual_position() < chunk.end() {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let columns: Vec<&str> = line.split('\t').collect();
            let pos: usize = columns[1].parse().unwrap();
            let interval = region.interval();
            let inside = usize::from(interval.start().unwrap()) <= pos
                && pos <= usize::from(interval.end().unwrap());
            if columns[0].as_bytes() == region.name() && inside {
                found.push(format!("{}:{pos}", columns[0]));
            }
        }
    }
    found
}

/// 3 contigs of 3,000 records, `step` bases apart.
fn many(step: u64) -> String {
    let mut text = HEADER.to_string();
    for chrom in ["1", "chr2", "3:1-5"] {
        for i in 0..3000u64 {
            text += &format!("{chrom}\t{}\t.\tACGT\tA\t.\t.\tAC={i}\tGT\t0|1\n", i * step);
        }
    }
    text
}

#[test]
fn a_sorted_file_gets_an_index_that_finds_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.vcf.gz");
    annotate(&many(7919), &path, false).unwrap();
    let index = tabix::fs::read(dir.path().join("a.vcf.gz.tbi")).unwrap();
    for i in [1u64, 2, 1000, 2068, 2069, 2999] {
        let pos = i * 7919;
        let region = format!("chr2:{}-{}", pos - 3, pos + 3);
        assert_eq!(query(&index, &path, &region), [format!("chr2:{pos}")]);
    }
    assert_eq!(query(&index, &path, "1:1-1000000").len(), 126);
    assert_eq!(query(&index, &path, "1:300000000-300000001").len(), 0);
}

#[test]
fn positions_beyond_those_of_tabix_get_a_csi() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.vcf.gz");
    annotate(&many(791_900), &path, false).unwrap();
    assert_eq!(listing(dir.path()), ["a.vcf.gz", "a.vcf.gz.csi"]);
    let index = csi::fs::read(dir.path().join("a.vcf.gz.csi")).unwrap();
    for i in [1u64, 677, 678, 679, 2999] {
        let pos = i * 791_900;
        let region = format!("chr2:{}-{}", pos - 3, pos + 3);
        assert_eq!(query(&index, &path, &region), [format!("chr2:{pos}")]);
    }
    let error = annotate(&many(1), &path, false).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    annotate(&many(1), &path, true).unwrap();
    assert_eq!(listing(dir.path()), ["a.vcf.gz", "a.vcf.gz.tbi"]);
}

#[test]
fn an_unsorted_file_gets_a_warning_and_no_index_not_even_an_old_one() {
    let record = |chrom: &str, pos: u64| format!("{chrom}\t{pos}\t.\tA\tG\t.\t.\t.\tGT\t0\n");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.vcf.gz");
    annotate(&[HEADER, &record("1", 5)].concat(), &path, false).unwrap();
    for records in [
        record("1", 5) + &record("1", 4),
        record("1", 5) + &record("2", 4) + &record("1", 6) + &record("1", 2),
        record("1", 1 << 40),
    ] {
        let text = [HEADER, &records].concat();
        let (_, log) = logged(|| annotate(&text, &path, true).unwrap());
        assert_eq!(log.matches("no index is written").count(), 1, "{log}");
        assert_eq!(listing(dir.path()), ["a.vcf.gz"]);
        assert_eq!(read(&path).lines().count(), text.lines().count() + 3);
    }
}

#[test]
fn a_made_up_position_on_each_of_many_contigs_takes_no_memory() {
    let mut text = HEADER.to_string();
    for i in 0..2000 {
        text += &format!("c{i}\t500000000\t.\tA\tG\t.\t.\tEND=536870912\tGT\t0\n");
    }
    let dir = tempfile::tempdir().unwrap();
    annotate(&text, &dir.path().join("a.vcf.gz"), false).unwrap();
    assert_eq!(listing(dir.path()), ["a.vcf.gz", "a.vcf.gz.csi"]);
}

/// The text of a VCF or BCF, as [`Reader`] has it.
fn lines(path: &Path) -> String {
    let mut reader = Reader::open(path, &Options::default()).unwrap();
    let header = reader.header();
    let mut text = String::from_utf8([&header.text[..], &header.columns].concat()).unwrap();
    while reader.next_record().unwrap().is_some() {
        text += std::str::from_utf8(reader.line()).unwrap();
    }
    text
}

#[test]
fn the_name_says_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let text = many(300);
    for name in ["a.vcf.gz", "a.vcf", "a.bcf"] {
        annotate(&text, &at(name), false).unwrap();
    }
    let expected = read(&at("a.vcf.gz"));
    let plain = std::fs::read(at("a.vcf")).unwrap();
    assert_eq!(String::from_utf8(plain).unwrap(), expected);
    let found = lines(&at("a.bcf"));
    let records = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("##"));
        lines.map(str::to_string).collect()
    };
    assert_eq!(records(&found), records(&expected));
    for name in ["AC", "CRO_DLL", "CRO_STATUS"] {
        assert!(found.contains(&format!("##INFO=<ID={name},")), "{found}");
    }
    let files = ["a.bcf", "a.bcf.csi", "a.vcf", "a.vcf.gz", "a.vcf.gz.tbi"];
    assert_eq!(listing(dir.path()), files);
    // The index has a contig's records under its place in the header.
    let index = csi::fs::read(at("a.bcf.csi")).unwrap();
    let sizes = index.reference_sequences().iter();
    assert!(sizes.map(|contig| contig.bins().len()).sum::<usize>() > 0);
}

#[test]
fn outputs_that_stand_there_and_misleading_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["a.vcf.gz", "a.vcf.gz.tbi", "a.vcf.gz.csi"] {
        std::fs::write(at(name), "old").unwrap();
        let error = annotate(HEADER, &at("a.vcf.gz"), false).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("output exists"), "{error}");
        assert_eq!(listing(dir.path()), [name]);
        std::fs::remove_file(at(name)).unwrap();
    }
}

#[test]
fn a_write_that_fails_leaves_no_part_of_a_file() {
    let text = many(100);
    for n in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.vcf.gz");
        let done = atomic::failing_from(n, || annotate(&text, &path, false));
        if path.exists() {
            assert_eq!(read(&path).lines().count(), text.lines().count() + 3);
        }
        let names = listing(dir.path());
        match done {
            Ok(_) => {
                assert_eq!(names.len(), 2);
                assert!(n > 5);
                break;
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Io);
                assert!(names.len() <= 1 + usize::from(path.exists()), "{names:?}");
            }
        }
    }
}
