//! Regions, as they are written and read.

use super::*;
use crate::error::Kind;
use proptest::prelude::*;

fn contigs(names: &[&str]) -> Vec<Contig> {
    names
        .iter()
        .map(|name| Contig {
            name: name.to_string(),
            length: 5000,
        })
        .collect()
}

fn resolve(text: &str, names: &[&str]) -> Result<(usize, u64, u64)> {
    let span = Query::parse(text)?.resolve(&contigs(names))?;
    Ok((span.contig, span.start, span.end))
}

fn failure(text: &str, names: &[&str]) -> String {
    let error = resolve(text, names).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    error.to_string()
}

#[test]
fn spans_are_those_of_samtools() {
    let names = ["chr2", "chr1"];
    for (text, span) in [
        ("chr1", (1, 0, 5000)),
        ("chr1:5", (1, 4, 5000)),
        ("chr1:5-8", (1, 4, 8)),
        ("chr2:1,000-2,000", (0, 999, 2000)),
        ("{chr1}", (1, 0, 5000)),
        ("{chr1}:5-5", (1, 4, 5)),
        ("chr1:4000-6000", (1, 3999, 5000)),
    ] {
        assert_eq!(resolve(text, &names).unwrap(), span, "{text}");
    }
}

#[test]
fn wrong_regions_are_errors_that_repeat_the_text_and_the_rule() {
    for text in [
        "chr1:8-5",
        "chr1:0-5",
        "chr1:-8",
        "chr1:1-",
        ":1-5",
        "",
        "{}",
        "{}:1-5",
        "chr1:5-8-9",
        "chr1:1e3-2e3",
        "chr1:12345678901234567890",
        "chr1:9223372036854775808",
        "{chr1}:8-5",
        "{chr1}:",
        "chr1:",
        "chr1:-",
        "chr1:,",
        " chr1:1-2",
    ] {
        let found = failure(text, &["chr1"]);
        assert!(found.contains(&format!("\"{text}\"")), "{found}");
        assert!(found.contains("NAME:BEG-END"), "{found}");
    }
    assert!(Query::parse("chr1:8-5").unwrap().check().is_err());
    assert!(Query::parse("chr1:5-8").unwrap().check().is_ok());
}

#[test]
fn names_that_hold_colons_resolve_or_are_ambiguous() {
    let hla = "HLA-A*01:01:01:01";
    assert_eq!(resolve(hla, &[hla]).unwrap(), (0, 0, 5000));
    let text = "HLA-A*01:01:01:01:7-9";
    assert_eq!(resolve(text, &[hla]).unwrap(), (0, 6, 9));
    assert_eq!(resolve("a:8-5", &["a:8-5"]).unwrap(), (0, 0, 5000));
    let both = ["HLA:A", "HLA:A:1-5"];
    let found = failure("HLA:A:1-5", &both);
    assert!(found.contains("ambiguous"), "{found}");
    assert!(found.contains("{HLA:A}:1-5 or") || found.contains("or {HLA:A}:1-5"));
    assert!(found.contains("{HLA:A:1-5}"), "{found}");
    assert_eq!(resolve("{HLA:A}:1-5", &both).unwrap(), (0, 0, 5));
    assert_eq!(resolve("{HLA:A:1-5}", &both).unwrap(), (1, 0, 5000));
}

#[test]
fn an_unknown_contig_gets_the_nearest_name() {
    let found = failure("1:5-8", &["chr2", "chr1"]);
    assert!(found.contains("no such contig: did you mean \"chr1\"?"));
    assert!(!failure("xyz", &["1", "2"]).contains("did you mean"));
    let found = failure("xyz:1-2", &["1", "2"]);
    assert!(
        found.contains("There are \"1\", \"2\"; a region is NAME"),
        "{found}"
    );
    let found = failure("chr1:5001", &["chr1"]);
    assert!(found.contains("begins at 5001 of a contig of 5000"));
}

#[test]
fn merged_spans_cover_the_same_bases_once() {
    let span = |contig, start, end| Span { contig, start, end };
    let mut spans = vec![
        span(1, 0, 5),
        span(0, 10, 20),
        span(0, 0, 3),
        span(0, 12, 14),
        span(0, 20, 21),
        span(0, 30, 31),
        span(0, 10, 20),
    ];
    merge(&mut spans);
    let expected = [
        span(0, 0, 3),
        span(0, 10, 21),
        span(0, 30, 31),
        span(1, 0, 5),
    ];
    assert_eq!(spans, expected);
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        contig in "[a:,{}*1-]{1,8}",
        start in 0u64..4000,
        length in 1u64..1000,
        to_end: bool,
    ) {
        let end = if to_end { TO_END } else { start + length };
        let region = Region { contig: contig.clone(), start, end };
        let query = Query::parse(&region.to_string()).unwrap();
        prop_assert_eq!(query.on(&contig), Some(&region));
        prop_assert_eq!(resolve(&region.to_string(), &[&contig]).unwrap(), (0, start, end.min(5000)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,12}") {
        if let Ok(query) = Query::parse(&text) {
            let _ = query.resolve(&contigs(&["a"]));
        }
    }
}
