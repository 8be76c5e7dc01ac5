//! The one check that a model's numbers are numbers: NaN would pass for a missing value, and
//! infinity for a certainty.

use crate::error::{Error, Result};
use rayon::prelude::*;

/// Numbers that are looked at together.
const TOGETHER: usize = 1 << 14;

/// An error if one of these numbers (rows, `width`) is NaN or infinite; `place` names a row.
///
/// # Errors
/// Model.
pub fn check_finite(values: &[f32], width: usize, place: impl Fn(usize) -> String) -> Result<()> {
    // Without a way out, so that the compiler makes vectors of it.
    let bad = |values: &[f32]| values.iter().fold(false, |bad, x| bad | !x.is_finite());
    let found = values.par_chunks(TOGETHER).position_first(bad);
    let Some(part) = found else {
        return Ok(());
    };
    let from = part * TOGETHER;
    let at = values[from..].iter().position(|x| !x.is_finite());
    let at = from + at.unwrap_or(0);
    let what = if values[at].is_nan() {
        "the model's output is not a number"
    } else {
        "the model's output is infinite"
    };
    Err(Error::model(what)
        .place(place(at / width.max(1)))
        .todo("check the weights with crocuta models verify"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_that_is_none_is_named_wherever_it_lies() {
        let mut values = vec![0.5; 3 * TOGETHER];
        check_finite(&values, 4, |row| row.to_string()).unwrap();
        for (bad, word) in [
            (f32::NAN, "not a number"),
            (f32::INFINITY, "infinite"),
            (f32::NEG_INFINITY, "infinite"),
        ] {
            for at in [0, 5, TOGETHER - 1, TOGETHER, 3 * TOGETHER - 1] {
                values[at] = bad;
                let error = check_finite(&values, 4, |row| format!("row {row}")).unwrap_err();
                assert_eq!(error.exit_code(), 4);
                let text = error.to_string();
                assert!(text.starts_with(&format!("row {}:", at / 4)), "{text}");
                assert!(text.contains(word), "{text}");
                values[at] = 0.5;
            }
        }
    }
}
