//! What tests of numbers share.

mod compare;

pub(crate) use compare::{apart, close, difference, largest, within};

use std::panic::catch_unwind;

fn refuses(found: &[f32], expected: &[f32]) -> bool {
    let (found, expected) = (found.to_vec(), expected.to_vec());
    catch_unwind(move || {
        let allowed = f64::MAX;
        (
            difference(&found, &expected),
            close("x", &found, &expected, allowed),
        )
    })
    .is_err()
}

#[test]
fn differences_are_parts_of_the_largest_expected_magnitude() {
    let (found, expected) = ([1.0f32, -3.0, 4.5], [1.0f64, -5.0, 4.0]);
    assert_eq!(apart(&found, &expected), 2.0);
    assert_eq!(difference(&found, &expected), 0.4);
    assert_eq!(largest(&expected), 5.0);
    close("x", &found, &expected, 0.4);
    within("x", &found, &expected, 2.0);
    assert_eq!(difference(&[0f32; 3], &[0f32; 3]), 0.0);
    assert_eq!(difference::<f32, f32>(&[], &[]), 0.0);
    assert!(catch_unwind(move || close("x", &found, &expected, 0.39)).is_err());
    assert!(catch_unwind(move || within("x", &found, &expected, 1.99)).is_err());
    // Nothing is near what is 0 but 0.
    assert_eq!(difference(&[1f32], &[0f32]), f64::INFINITY);
}

#[test]
fn what_is_not_finite_equals_nothing_not_even_itself() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in 0..3 {
            let good = [1.0, 2.0, 3.0];
            let mut other = good;
            other[at] = bad;
            assert!(refuses(&other, &good), "{bad} at {at} found");
            assert!(refuses(&good, &other), "{bad} at {at} expected");
            assert!(refuses(&other, &other), "{bad} at {at} in both");
            assert!(catch_unwind(move || largest(&other)).is_err());
        }
    }
}

#[test]
fn lists_of_different_lengths_differ() {
    assert!(refuses(&[1.0, 2.0], &[1.0]));
    assert!(refuses(&[1.0], &[1.0, 2.0]));
    assert!(refuses(&[], &[1.0]));
    assert!(refuses(&[1.0], &[]));
}
