use super::*;

/// `h[0] = 0.3`, then the modes' sum.
fn filter(modes: &[(f64, f64, f64, f64)], length: usize) -> Vec<f32> {
    (0..length)
        .map(|t| match t {
            0 => 0.3,
            _ => modes
                .iter()
                .map(|(size, angle, re, im)| {
                    // A pole that can be stored: others are rounded, below.
                    let pole = complex(rounded(Complex64::from_polar(*size, *angle)));
                    (Complex64::new(*re, *im) * pole.powi(t as i32 - 1)).re
                })
                .sum::<f64>() as f32,
        })
        .collect()
}

/// The best fit of so many modes at most.
fn best(h: &[f32], modes: usize) -> Modes {
    fit(h, modes).pop().unwrap()
}

#[test]
fn a_filter_that_is_a_sum_of_modes_is_recovered() {
    let modes = [
        (0.995, 0.3, 1.0, 0.5),
        (0.9, 1.7, -0.4, 0.8),
        (0.98, 0.0, 0.7, 0.0),
        (0.97, PI, 0.2, 0.0),
    ];
    for (length, count) in [(1000, 4), (1000, 7), (3000, 4)] {
        let h = filter(&modes, length);
        let errors = best(&h, count).errors(&h);
        assert!(
            errors.l1 < 1e-6 && errors.l2 < 1e-6,
            "{length} {count} {errors:?}"
        );
        assert!(errors.beyond < 0.1, "{errors:?}");
    }
}

#[test]
fn a_long_smooth_filter_is_followed_from_few_samples() {
    let length = 40_000;
    let modes = [(0.9999, 0.001, 1.0, 0.0), (0.9997, 0.0, 0.5, 0.0)];
    let h = filter(&modes, length);
    assert!(stride(&h[1..].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()) > 4);
    let errors = best(&h, 2).errors(&h);
    assert!(errors.l2 < 1e-3, "{errors:?}");
}

#[test]
fn more_modes_are_never_worse_and_nothing_is_larger_beyond_the_end_than_before_it() {
    let decay = |t: usize, l: usize, d: f64| (-(t as f64) / l as f64 * d).exp();
    let noise = |t: usize| ((t * t * 31 + t * 7) as f64).sin();
    let tone = |t: usize, n: usize| (t as f64 * (n as f64 + 0.3) / 40.0).sin();
    for (length, last) in [(258, 3.07), (258, 15.0), (514, 1.0)] {
        let filters: [&dyn Fn(usize) -> f64; 3] = [
            &|t| decay(t, length, last) * (1..9).map(|n| tone(t, n) / n as f64).sum::<f64>(),
            &|t| decay(t, length, last) * (tone(t, 3) + 0.1 * noise(t)),
            &|t| decay(t, length, last) * (1.0 + tone(t, 1)).powi(5),
        ];
        for (i, filter) in filters.iter().enumerate() {
            let h: Vec<f32> = (0..length).map(|t| filter(t) as f32).collect();
            let mut before = f64::INFINITY;
            for modes in [1, 2, 3, 5, 8, 16, 33, 64] {
                let errors = best(&h, modes).errors(&h);
                let place = format!("filter {i}, {length} taps, {last}, {modes}: {errors:?}");
                assert!(errors.l1 <= before, "{place}, before {before}");
                assert!(errors.is_bounded(), "{place}");
                before = errors.l1;
            }
            assert!(before < 0.2, "filter {i}, {length} taps: {before}");
        }
    }
}

#[test]
fn counts_that_are_tried_are_nested() {
    let first: Vec<usize> = counts(47).collect();
    assert_eq!(first, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]);
    let h = filter(&[(0.9, 0.3, 1.0, 0.5)], 100);
    let fits = fit(&h, 7);
    let sizes = fits.iter().map(|modes| modes.poles.len());
    assert_eq!(sizes.collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
}

#[test]
fn any_taps_give_stable_modes_and_true_errors() {
    let noise = |t: usize| ((t * t * 31 + t * 7) as f32).sin();
    let filters = [
        (0..300).map(noise).collect::<Vec<_>>(),
        vec![0.0; 50],
        vec![1.0; 50],
        vec![1.0, 2.0],
        vec![1.0, 2.0, -3.0],
        (0..40).map(|t| if t == 3 { 1.0 } else { 0.0 }).collect(),
        vec![f32::NAN; 20],
    ];
    for h in filters {
        let modes = best(&h, 5);
        let size = |pole: &[f32; 2]| complex(*pole).norm();
        assert!(modes.poles.iter().all(|pole| size(pole) < 1.0), "{modes:?}");
        let finite = modes.residues.iter().flatten().all(|x| x.is_finite());
        assert!(finite, "{modes:?}");
        // The errors by their definition.
        let value = |t: usize| {
            let terms = modes.poles.iter().zip(&modes.residues);
            terms
                .map(|(p, r)| (complex(*r) * complex(*p).powi(t as i32 - 1)).re)
                .sum::<f64>()
        };
        let absolute: f64 = h.iter().map(|&x| f64::from(x).abs()).sum();
        let differences = (1..h.len()).map(|t| (value(t) - f64::from(h[t])).abs());
        let expected = differences.sum::<f64>() / absolute.max(f64::MIN_POSITIVE);
        let found = modes.errors(&h).l1;
        assert!(
            (found - expected).abs() < 1e-9 || h[0].is_nan(),
            "{found} {expected}"
        );
    }
}
