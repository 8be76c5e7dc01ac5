use super::*;
use crate::ops::cuda::testing::{close, flat, gpu, random, tensor};

const LETTERS: [u32; 4] = [7, 8, 9, 10];

/// Rows in an order of their own, some of them twice, with and without a token.
fn asked(rows: usize, width: usize) -> Vec<Asked> {
    (0..2 * rows)
        .map(|i| {
            let token = (i * 5 % width) as u32;
            (i * 7 % rows, (i % 3 > 0).then_some(token))
        })
        .collect()
}

#[test]
fn predictions_are_a_softmax_of_each_row_that_is_asked_for() {
    let (rows, width) = (6, 16);
    let logits = random(rows * width, 3);
    let asked = asked(rows, width);
    let found = predictions(&tensor(&logits, &[rows, width]), &asked, LETTERS).unwrap();
    let found = flat(&found);
    for (found, (row, token)) in found.chunks_exact(PREDICTIONS).zip(&asked) {
        let row: Vec<f64> = logits[row * width..][..width]
            .iter()
            .map(|&x| f64::from(x).exp())
            .collect();
        let (all, four): (f64, f64) = (row.iter().sum(), row[7..11].iter().sum());
        match token {
            Some(token) => {
                let expected = (row[*token as usize] / all).ln() as f32;
                assert!((found[0] - expected).abs() < 1e-6);
            }
            None => assert!(found[0].is_nan()),
        }
        for (p, weight) in found[1..5].iter().zip(&row[7..11]) {
            assert!((f64::from(*p) - weight / four).abs() < 1e-6);
        }
        assert!((f64::from(found[5]) - (1.0 - four / all)).abs() < 1e-6);
    }
}

#[test]
fn letters_that_another_token_leaves_nothing_still_share_it() {
    let mut logits = random(16, 3);
    logits[2] = 1000.0;
    let mut out = [f32::NAN; PREDICTIONS];
    predict(&logits, Some(7), LETTERS, &mut out);
    assert!((out[0] - (logits[7] - 1000.0)).abs() < 1e-3);
    assert!((out[1..5].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert!(out[5] == 1.0 && out[6] > 0.0, "{out:?}");
}

#[test]
fn a_logit_that_is_not_finite_leaves_no_number_of_its_row() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut logits = random(3 * 16, 3);
        logits[16 + 2] = bad;
        let logits = tensor(&logits, &[3, 16]);
        let found = flat(&predictions(&logits, &[(0, None), (1, Some(7))], LETTERS).unwrap());
        assert!(found[1..PREDICTIONS].iter().all(|x| x.is_finite()));
        assert!(found[PREDICTIONS..].iter().all(|x| x.is_nan()));
    }
}

#[test]
fn rows_and_tokens_that_are_not_there_are_refused() {
    let logits = tensor(&random(32, 1), &[2, 16]);
    assert!(predictions(&logits, &[(2, None)], LETTERS).is_err());
    assert!(predictions(&logits, &[(1, Some(16))], LETTERS).is_err());
    assert!(predictions(&logits, &[], [1, 2, 3, 16]).is_err());
    assert!(flat(&predictions(&logits, &[], LETTERS).unwrap()).is_empty());
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_device_predicts_what_the_cpu_predicts() {
    let gpu = gpu();
    for (rows, width) in [(5, 12), (40, 16), (33, 128), (9, 512)] {
        let mut logits = random(rows * width, 2);
        logits[width + 3] = f32::NAN;
        logits[2 * width + 1] = f32::INFINITY;
        logits[3 * width + 2] = f32::NEG_INFINITY;
        logits[4 * width + 2] = 1000.0;
        let asked = asked(rows, width);
        let on_cpu = predictions(&tensor(&logits, &[rows, width]), &asked, LETTERS).unwrap();
        let on_gpu = gpu.upload(&logits).unwrap();
        let found = cuda::predictions(gpu, &on_gpu, width, &asked, LETTERS).unwrap();
        let (found, expected) = (gpu.download(&found).unwrap(), flat(&on_cpu));
        let known = |values: &[f32]| values.iter().map(|x| !x.is_nan()).collect::<Vec<_>>();
        assert_eq!(known(&found), known(&expected));
        let numbers = |values: Vec<f32>| values.into_iter().filter(|x| !x.is_nan());
        let (found, expected) = (numbers(found), numbers(expected));
        close(
            "predictions",
            &found.collect::<Vec<_>>(),
            &expected.collect::<Vec<_>>(),
            1e-6,
        );
    }
}
