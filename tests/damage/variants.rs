//! VCF and BCF.

use crocuta::io::input::Input;
use crocuta::io::variants::{Options, Reader, Record};
use crocuta::{Error, Result};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/variants")
}

/// All records, with the genotypes of the first sample.
fn read(bytes: &[u8]) -> Result<Vec<Record>> {
    let open = |options: &Options| {
        let input = Input::new("x", Box::new(Cursor::new(bytes.to_vec())), false)?;
        Reader::new(input, options)
    };
    let sample = open(&Options::default())?.header().samples.first().cloned();
    let mut reader = open(&Options {
        sample,
        ..Options::default()
    })?;
    let mut records = vec![];
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(records)
}

/// The name, the exit code, and the number of records or a part of the message.
fn expected() -> Vec<(String, u8, String)> {
    let text = fs::read_to_string(directory().join("expected.tsv")).unwrap();
    let row = |line: &str| {
        let mut columns = line.split('\t').map(str::to_string);
        let mut next = || columns.next().unwrap();
        (next(), next().parse().unwrap(), next())
    };
    text.lines().map(row).collect()
}

fn file(name: &str) -> Vec<u8> {
    fs::read(directory().join(name)).unwrap()
}

#[test]
fn every_file_of_the_corpus_is_read_or_refused_as_expected() {
    for (name, code, what) in expected() {
        let found = read(&file(&name));
        assert_eq!(
            found.as_ref().map_or_else(Error::exit_code, |_| 0),
            code,
            "{name}"
        );
        match found {
            Ok(records) => assert_eq!(records.len().to_string(), what, "{name}"),
            Err(error) => assert!(error.to_string().contains(&what), "{name}: {error}"),
        }
    }
}

#[test]
fn no_file_of_the_corpus_is_without_an_expectation() {
    let listed: BTreeSet<_> = expected().into_iter().map(|(name, ..)| name).collect();
    let found = fs::read_dir(directory()).unwrap();
    let found = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<_> = found
        .filter(|name| name != "README.md" && name != "expected.tsv")
        .collect();
    assert_eq!(listed, found);
}

#[test]
fn a_bcf_holds_what_its_vcf_holds() {
    let (bcf, vcf) = (
        read(&file("htslib_vcf_file.bcf")),
        read(&file("htslib_vcf_file.vcf")),
    );
    let (bcf, vcf) = (bcf.unwrap(), vcf.unwrap());
    assert!(vcf.iter().any(|record| record.genotype.is_some()));
    assert_eq!(bcf, vcf);
}

#[test]
fn the_corpus_cut_or_changed_anywhere_never_panics() {
    for (name, ..) in expected() {
        let file = file(&name);
        let mut text = Vec::new();
        Input::new("x", Box::new(Cursor::new(file)), false)
            .unwrap()
            .read_to_end(&mut text)
            .unwrap();
        let whole = read(&text).map_or(usize::MAX, |records| records.len());
        for at in (0..text.len()).step_by(1 + text.len() / 150) {
            if let Ok(records) = read(&text[..at]) {
                assert!(records.len() <= whole, "{name} cut at {at}");
            }
            for byte in [0, b'\t', b'\n', b',', b'/', 0x7f, 0x80, 0xff] {
                let mut damaged = text.clone();
                damaged[at] = byte;
                let _ = read(&damaged);
            }
        }
    }
}
