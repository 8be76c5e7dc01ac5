use super::*;
use crate::sequence::{A, C, G, SOFT_MASKED, T};
use proptest::prelude::*;

fn at(reference: &[u8]) -> impl Fn(u64) -> Option<u8> {
    |position| reference.get(position as usize).copied()
}

/// The sequence with the change made.
fn apply(variant: &Variant, reference: &[u8]) -> Vec<u8> {
    let (start, end) = (variant.start as usize, variant.end() as usize);
    assert_eq!(reference[start..end], variant.reference);
    [&reference[..start], &variant.alternate, &reference[end..]].concat()
}

#[test]
fn every_kind_of_allele_has_its_type_and_status() {
    use Type::*;
    for (reference, alternate, kind, status) in [
        ("A", "G", Snv, None),
        ("a", "G", Snv, None),
        ("CAT", "CGT", Snv, None),
        ("AC", "GT", Mnv, None),
        ("ACA", "GCG", Mnv, None),
        ("A", "AT", Insertion, None),
        ("TA", "A", Deletion, None),
        ("AC", "G", Delins, None),
        ("A", "N", Snv, None),
        ("A", "a", Same, Some("same_allele")),
        ("A", ".", Missing, Some("missing_allele")),
        ("A", "*", Star, Some("star_allele")),
        ("A", "<DEL>", Symbolic, Some("symbolic")),
        ("A", "<*>", Symbolic, Some("symbolic")),
        ("A", "C<ctg1>", Symbolic, Some("symbolic")),
        ("G", "G]17:198982]", Breakend, Some("breakend")),
        ("G", "]<ctg>:1]G", Breakend, Some("breakend")),
        ("G", "G.", Breakend, Some("breakend")),
        ("G", ".G", Breakend, Some("breakend")),
        ("A", "R", Other, Some("unsupported_allele")),
        ("R", "A", Other, Some("unsupported_allele")),
        ("A", "é", Other, Some("unsupported_allele")),
        (".", "A", Other, Some("unsupported_allele")),
        ("", "", Same, Some("same_allele")),
    ] {
        let found = Type::of(reference, alternate);
        assert_eq!(found, kind, "{reference}>{alternate}");
        assert_eq!(found.refusal().map(Status::name), status);
        let read = Variant::new(7, reference, alternate);
        assert_eq!(read.err().map(Status::name), status);
    }
    assert_eq!(Variant::new(0, "A", "G"), Err(Status::OutOfRange));
    assert_eq!(Variant::new(0, "A", "*"), Err(Status::StarAllele));
}

#[test]
fn a_ref_that_the_reference_does_not_have_gets_a_status() {
    let reference = [A, C | SOFT_MASKED, G, N, T];
    let check = |pos, ref_allele: &str, alternate: &str| {
        Variant::new(pos, ref_allele, alternate).and_then(|variant| variant.check(at(&reference)))
    };
    assert_eq!(check(1, "ACG", "T"), Ok(()));
    assert_eq!(check(2, "c", "T"), Ok(()));
    assert_eq!(check(1, "AG", "T"), Err(Status::RefMismatch));
    assert_eq!(check(3, "GN", "G"), Err(Status::NInWindow));
    assert_eq!(check(3, "GA", "G"), Err(Status::NInWindow));
    assert_eq!(check(4, "AA", "G"), Err(Status::RefMismatch));
    assert_eq!(check(1, "A", "AN"), Err(Status::NInWindow));
    assert_eq!(check(5, "T", "G"), Ok(()));
    assert_eq!(check(5, "TT", "G"), Err(Status::OutOfRange));
    assert_eq!(check(6, "T", "G"), Err(Status::OutOfRange));
    assert_eq!(check(u64::MAX, "TT", "G"), Err(Status::OutOfRange));
}

#[test]
fn indels_move_to_the_left_end_of_their_repeat_and_no_farther() {
    //               0  1  2  3  4  5  6
    let reference = [G, C, A, C, A, C, T];
    let normal = |pos, ref_allele: &str, alternate: &str| {
        let variant = Variant::new(pos, ref_allele, alternate).unwrap();
        variant
            .normalise(at(&reference))
            .spell(at(&reference))
            .unwrap()
    };
    let spelled = |pos, r: &str, a: &str| (pos, r.to_string(), a.to_string());
    // Both give G CAC T, however they are written.
    assert_eq!(normal(4, "CAC", "C"), spelled(1, "GCA", "G"));
    assert_eq!(normal(2, "CACAC", "CAC"), spelled(1, "GCA", "G"));
    assert_eq!(normal(6, "C", "CAC"), spelled(1, "G", "GCA"));
    assert_eq!(normal(6, "CT", "CACT"), spelled(1, "G", "GCA"));
    // At a contig's start the base after serves as anchor.
    assert_eq!(normal(1, "GC", "C"), spelled(1, "GC", "C"));
    assert_eq!(normal(1, "G", "TG"), spelled(1, "G", "TG"));
    assert_eq!(normal(3, "ACA", "TCG"), spelled(3, "ACA", "TCG"));
}

#[test]
fn a_variant_stops_at_an_n_and_at_the_end_of_what_is_known() {
    let reference = [N, N, A, A, A, A];
    let deletion = Variant::new(6, "A", "").unwrap();
    assert_eq!(deletion.clone().normalise(at(&reference)).start, 2);
    let window = |position: u64| (position >= 4).then_some(A);
    assert_eq!(deletion.normalise(window).start, 4);
    let of_n = Variant::new(2, "N", "").unwrap();
    assert_eq!(of_n.normalise(at(&reference)).start, 1);
}

/// A reference with many repeats, and a change of it.
fn change() -> impl Strategy<Value = (Vec<u8>, Variant)> {
    let unit = prop::collection::vec(0u8..4, 1..4);
    let repeat = (unit, 1usize..6).prop_map(|(unit, times)| unit.repeat(times));
    let reference = prop::collection::vec(repeat, 1..6).prop_map(|parts| parts.concat());
    reference.prop_flat_map(|reference| {
        let length = reference.len();
        let alternate = prop::collection::vec(0u8..4, 0..6);
        (Just(reference), 0..length, 0usize..6, alternate).prop_filter_map(
            "nothing changes",
            |(reference, start, removed, alternate)| {
                let end = (start + removed).min(reference.len());
                let variant = Variant {
                    start: start as u64,
                    reference: reference[start..end].to_vec(),
                    alternate,
                };
                let changes = variant.reference != variant.alternate;
                changes.then_some((reference, variant))
            },
        )
    })
}

proptest! {
    #[test]
    fn every_spelling_of_a_variant_normalises_equally(
        (reference, variant) in change(),
        left in 0usize..12,
        right in 0usize..12,
        shift in 0usize..12,
    ) {
        let haplotype = apply(&variant, &reference);
        let normal = variant.clone().normalise(at(&reference));
        prop_assert_eq!(&apply(&normal, &reference), &haplotype);
        prop_assert_eq!(&normal.clone().normalise(at(&reference)), &normal);

        // Moved right within its repeat.
        let mut moved = normal.clone();
        for _ in 0..shift {
            let (end, allele) = match (moved.reference.len(), moved.alternate.len()) {
                (0, _) => (moved.end(), &mut moved.alternate),
                (_, 0) => (moved.end(), &mut moved.reference),
                _ => break,
            };
            if reference.get(end as usize) != Some(&allele[0]) {
                break;
            }
            allele.rotate_left(1);
            moved.start += 1;
        }
        prop_assert_eq!(&apply(&moved, &reference), &haplotype);

        // Written with bases of the reference around it.
        for spelling in [variant, normal.clone(), moved] {
            let (start, end) = (spelling.start as usize, spelling.end() as usize);
            let before = &reference[start.saturating_sub(left)..start];
            let after = &reference[end..(end + right).min(reference.len())];
            let padded = Variant {
                start: (start - before.len()) as u64,
                reference: [before, &spelling.reference, after].concat(),
                alternate: [before, &spelling.alternate, after].concat(),
            };
            prop_assert_eq!(&apply(&padded, &reference), &haplotype);
            prop_assert_eq!(&padded.normalise(at(&reference)), &normal);
        }
        if let Some((pos, r, a)) = normal.spell(at(&reference)) {
            let read = Variant::new(pos, &r, &a).unwrap();
            prop_assert_eq!(read.check(at(&reference)), Ok(()));
            prop_assert_eq!(&read.normalise(at(&reference)), &normal);
            prop_assert_eq!(Type::of(&r, &a).refusal(), None);
        }
    }

    #[test]
    fn any_text_has_a_type(pos: u64, reference in ".{0,6}", alternate in ".{0,6}") {
        if let Ok(variant) = Variant::new(pos, &reference, &alternate) {
            let _ = variant.check(at(&[A, C, G, T]));
            let normal = variant.normalise(at(&[A, C, G, T]));
            let _ = normal.spell(at(&[A, C, G, T]));
        }
    }
}
