use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn overlaps_are_those_of_a_plain_search(
        intervals in prop::collection::vec((0i64..200, 1i64..60), 0..40),
        asked in (0i64..200, 1i64..60),
    ) {
        let mut all = Overlaps::default();
        for ((start, length), number) in intervals.iter().zip(0..) {
            all.push((*start, start + length), None, number);
        }
        all.sort();
        let (start, end) = (asked.0, asked.0 + asked.1);
        let mut found = Vec::new();
        all.each(start, end, &mut |number| found.push(number));
        let overlaps = |at: &u32| {
            let (from, length) = intervals[*at as usize];
            from < end && from + length > start
        };
        let mut expected: Vec<u32> = (0..intervals.len() as u32).filter(overlaps).collect();
        expected.sort_unstable_by_key(|&at| {
            let (from, length) = intervals[at as usize];
            (from, from + length, at)
        });
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn on_a_circle_both_parts_of_an_interval_are_found_and_each_once(
        intervals in prop::collection::vec((0i64..100, 1i64..101), 0..20),
        asked in (0i64..100, 1i64..101),
    ) {
        const CIRCLE: i64 = 100;
        let mut all = Overlaps::default();
        for ((start, length), number) in intervals.iter().zip(0..) {
            all.push((*start, start + length), Some(CIRCLE), number);
        }
        all.sort();
        let (start, end) = (asked.0, (asked.0 + asked.1).min(CIRCLE));
        let mut found = Vec::new();
        all.each(start, end, &mut |number| found.push(number));
        found.sort_unstable();
        let overlaps = |at: &u32| {
            let (from, length) = intervals[*at as usize];
            (from..from + length).any(|base| (start..end).contains(&(base % CIRCLE)))
        };
        let expected: Vec<u32> = (0..intervals.len() as u32).filter(overlaps).collect();
        prop_assert_eq!(found, expected);
    }
}

fn read(text: &str, wanted: &[&str]) -> Result<Labels> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels");
    std::fs::write(&path, text).unwrap();
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_string()).collect();
    Labels::read(&path, &wanted)
}

#[test]
fn a_variant_has_its_label_however_it_is_spelled() {
    let text = "chrom,pos,ref,alt,what\nc,10,CAA,CA,\"a, \"\"b\"\"\"\nc,7,A,<DEL>,x\n";
    let labels = read(text, &[]).unwrap();
    let label = |pos, reference, alternate| {
        let label = labels.of_variant("c", (pos, reference, alternate))?;
        labels.columns[0].text(label)
    };
    for (pos, reference, alternate) in [(10, "CAA", "CA"), (10, "CA", "C"), (9, "GCA", "GC")] {
        assert_eq!(label(pos, reference, alternate), Some("a, \"b\""));
    }
    assert_eq!(label(7, "A", "<DEL>"), Some("x"));
    assert_eq!(label(7, "A", "C"), None);
    assert_eq!(labels.of_variant("d", (10, "CA", "C")), None);
}

#[test]
fn fields_of_info_are_those_of_the_allele() {
    let text = "##fileformat=VCFv4.2\n##INFO=<ID=AF,Number=A,Type=Float,Description=\"x\">\n\
        ##INFO=<ID=DP,Number=R,Type=Integer,Description=\"x\">\n\
        ##INFO=<ID=DB,Number=0,Type=Flag,Description=\"x\">\n\
        #CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n\
        c\t5\t.\tA\tC,G\t.\t.\tDB;AF=0.5,0.25;DP=1,2,3\nc\t6\t.\tA\tC\t.\t.\tAF=.\n";
    let labels = read(text, &["AF", "DB", "DP"]).unwrap();
    let values = |pos, alternate| {
        let label = labels.of_variant("c", (pos, "A", alternate)).unwrap();
        let columns = labels.columns.iter();
        columns
            .map(|column| column.text(label).unwrap_or("-"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(values(5, "C"), "0.5 1 2");
    assert_eq!(values(5, "G"), "0.25 1 3");
    assert_eq!(values(6, "C"), "- 0 -");
    let error = read(text, &["CLNSIG"]).err().unwrap().to_string();
    assert!(
        error.contains("no column CLNSIG") && error.contains("AF, DP, DB"),
        "{error}"
    );
}

#[test]
fn what_labels_nothing_is_refused() {
    for (text, why) in [
        (
            "chrom\tpos\tref\talt\nc\tx\tA\tC\n",
            "line 2: \"x\" is not a position",
        ),
        (
            "chrom\tpos\tref\talt\nc\t1\tA\n",
            "line 2: 3 columns, expected 4",
        ),
        (
            "chrom\tstart\tend\nc\t5\t5\n",
            "line 2: the interval 5 to 5 has no base",
        ),
        ("chrom\tpos\tref\talt\n", "no labels"),
        ("a\tb\n", ""),
    ] {
        let error = read(text, &[]).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
    }
}
