//! Whether two lists of numbers are the same: the one place that says so, for test programs and for
//! tests of modules. A fold over `max` would skip what is not a number.
#![allow(dead_code, reason = "each takes its part")]

/// The largest magnitude.
///
/// # Panics
/// If a value is not finite.
pub fn largest<X: Copy + Into<f64>>(values: &[X]) -> f64 {
    let mut largest = 0.0;
    for (i, value) in values.iter().enumerate() {
        let size: f64 = (*value).into().abs();
        assert!(size.is_finite(), "value {i} is {size}");
        if size > largest {
            largest = size;
        }
    }
    largest
}

/// The largest difference.
///
/// # Panics
/// If one list is longer than the other, or a value is not finite.
pub fn apart<X, Y>(found: &[X], expected: &[Y]) -> f64
where
    X: Copy + Into<f64>,
    Y: Copy + Into<f64>,
{
    let (most, _) = farthest(found, expected);
    most
}

/// The largest difference, as a part of the largest expected magnitude.
///
/// # Panics
/// If one list is longer than the other, or a value is not finite.
pub fn difference<X, Y>(found: &[X], expected: &[Y]) -> f64
where
    X: Copy + Into<f64>,
    Y: Copy + Into<f64>,
{
    match apart(found, expected) {
        0.0 => 0.0,
        most => most / largest(expected),
    }
}

/// Panics unless every value is within `tolerance` of the largest expected magnitude; names the
/// value that is farthest.
pub fn close<X, Y>(what: &str, found: &[X], expected: &[Y], tolerance: f64)
where
    X: Copy + Into<f64>,
    Y: Copy + Into<f64>,
{
    within(what, found, expected, tolerance * largest(expected));
}

/// Panics unless every value is within `bound` of what is expected; names the one that is farthest.
pub fn within<X, Y>(what: &str, found: &[X], expected: &[Y], bound: f64)
where
    X: Copy + Into<f64>,
    Y: Copy + Into<f64>,
{
    let (most, at) = farthest(found, expected);
    assert!(
        most <= bound,
        "{what}: value {at} of {} is {}, expected {}: {most:e} apart, {bound:e} allowed",
        found.len(),
        found[at].into(),
        expected[at].into(),
    );
}

/// The largest difference, and where it is.
fn farthest<X, Y>(found: &[X], expected: &[Y]) -> (f64, usize)
where
    X: Copy + Into<f64>,
    Y: Copy + Into<f64>,
{
    assert_eq!(found.len(), expected.len(), "values found and expected");
    let (mut most, mut at) = (0.0, 0);
    for (i, (x, y)) in found.iter().zip(expected).enumerate() {
        let (x, y): (f64, f64) = ((*x).into(), (*y).into());
        assert!(
            x.is_finite() && y.is_finite(),
            "value {i} is {x}, expected {y}"
        );
        let apart = (x - y).abs();
        if apart > most {
            (most, at) = (apart, i);
        }
    }
    (most, at)
}
