use super::*;

/// A record on contig 0 at `start` with this flag, CIGAR and sequence.
fn aligned(flag: u16, start: i32, cigar: &[(u8, u32)], codes: &[u8]) -> Record {
    let plain = unaligned(b"r", codes, &vec![30; codes.len()]).unwrap();
    let mut bytes = plain.bytes().to_vec();
    bytes[0..4].copy_from_slice(&0i32.to_le_bytes());
    bytes[4..8].copy_from_slice(&start.to_le_bytes());
    bytes[12..14].copy_from_slice(&(cigar.len() as u16).to_le_bytes());
    bytes[14..16].copy_from_slice(&flag.to_le_bytes());
    let words = cigar.iter().flat_map(|(letter, n)| {
        let at = b"MIDNSHP=X".iter().position(|l| l == letter).unwrap() as u32;
        (n << 4 | at).to_le_bytes()
    });
    let words: Vec<u8> = words.collect();
    bytes.splice(34..34, words);
    Record::new(bytes).unwrap()
}

fn contigs() -> [Contig; 1] {
    [Contig {
        name: "c".to_string(),
        length: 100,
    }]
}

#[test]
fn bases_come_as_stored_or_as_sequenced() {
    let codes = [A, C, G, T, N, A, A];
    assert_eq!(aligned(0, 5, &[(b'M', 7)], &codes).codes(true), codes);
    let reverse = aligned(flag::REVERSE, 5, &[(b'M', 7)], &codes);
    assert_eq!(reverse.codes(false), codes);
    assert_eq!(reverse.codes(true), [T, T, N, A, C, G, T]);
}

#[test]
fn positions_follow_the_cigar() {
    let cigar = [
        (b'S', 2),
        (b'M', 2),
        (b'I', 1),
        (b'D', 3),
        (b'N', 4),
        (b'=', 1),
        (b'H', 9),
    ];
    let record = aligned(0, 10, &cigar, &[A; 6]);
    let expected = [None, None, Some(10), Some(11), None, Some(19)];
    assert_eq!(record.reference_positions(), expected);
    let at = Placed::At {
        contig: 0,
        start: 10,
        end: 20,
    };
    assert_eq!(record.placed(&contigs()), at);
}

#[test]
fn an_alignment_that_cannot_be_is_told() {
    let codes = [A; 6];
    for record in [
        aligned(0, 98, &[(b'M', 6)], &codes),
        aligned(0, 10, &[(b'M', 5)], &codes),
        aligned(0, -7, &[(b'M', 6)], &codes),
        aligned(0, i32::MAX, &[(b'N', u32::MAX >> 4); 9], &codes),
    ] {
        assert_eq!(record.placed(&contigs()), Placed::Wrong);
        assert_eq!(record.reference_positions().len(), 6);
    }
    assert_eq!(
        aligned(0, 10, &[(b'M', 6)], &codes).placed(&[]),
        Placed::Wrong
    );
    let unmapped = aligned(flag::UNMAPPED, 10, &[], &codes);
    assert_eq!(unmapped.placed(&contigs()), Placed::Nowhere);
}

#[test]
fn a_cigar_too_long_for_its_field_is_found_in_its_tag() {
    let short = aligned(0, 10, &[(b'S', 6), (b'N', 6)], &[A; 6]);
    let mut bytes = short.bytes().to_vec();
    bytes.extend(b"XYi\x01\0\0\0CGBI\x02\0\0\0");
    bytes.extend(
        [4u32 << 4, 2 << 4 | 1]
            .iter()
            .flat_map(|word| word.to_le_bytes()),
    );
    let long = Record::new(bytes).unwrap();
    assert_eq!(long.cigar().collect::<Vec<_>>(), [(b'M', 4), (b'I', 2)]);
    assert_eq!(short.cigar().next(), Some((b'S', 6)));
}

#[test]
fn tags_are_replaced_and_damaged_ones_left_alone() {
    let record = unaligned(b"r", &[A, C, G], &[1, 2, 3]).unwrap();
    let once = Record::new(record.with_tags(&[(*b"ll", 1.5)])).unwrap();
    let twice = Record::new(once.with_tags(&[(*b"ll", -2.0), (*b"pp", 7.0)])).unwrap();
    let tags: Vec<_> = twice
        .tags()
        .map(|(name, range)| (name, twice.bytes()[range].to_vec()))
        .collect();
    let value = |x: f32| [&b"f"[..], &x.to_le_bytes()].concat();
    assert_eq!(tags, [(*b"ll", value(-2.0)), (*b"pp", value(7.0))]);
    let damaged = Record::new([record.bytes(), b"XZZno end"].concat()).unwrap();
    assert_eq!(damaged.with_tags(&[(*b"ll", 1.5)]), damaged.bytes());
}

#[test]
fn sizes_that_do_not_agree_are_refused() {
    let good = unaligned(b"read", &[A, C, G], &[1, 2, 3])
        .unwrap()
        .bytes()
        .to_vec();
    for cut in 0..good.len() {
        assert!(Record::new(good[..cut].to_vec()).is_err(), "{cut}");
    }
    for (at, value) in [
        (8, 0),
        (8, 200),
        (12, 99),
        (13, 255),
        (16, 4),
        (19, 0x7f),
        (19, 0xff),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert!(Record::new(bad).is_err(), "byte {at} = {value}");
    }
}
