use super::*;
use crate::ops::check::{close, random, wide};

#[test]
fn loss_and_gradient_equal_a_plain_f64_loop() {
    for (rows, width) in [(1, 1), (7, 3), (9000, 5)] {
        let logits = random(&[rows, width], 1).affine(20.0, 0.0).unwrap();
        let truths: Vec<f32> = (0..rows * width).map(|i| (i % 4) as f32 - 1.5).collect();
        let (loss, gradient) = binary_cross_entropy(&logits, &truths).unwrap();
        let (mut expected, mut slopes) = (0.0, Vec::new());
        for (x, truth) in wide(&logits).into_iter().zip(&truths) {
            let truth = f64::from(*truth);
            let p = 1.0 / (1.0 + (-x).exp());
            let (right, target) = if truth > 0.0 {
                (p, 1.0)
            } else {
                (1.0 / (1.0 + x.exp()), 0.0)
            };
            expected -= truth.abs() * right.ln();
            slopes.push(truth.abs() * (p - target));
        }
        assert!((loss - expected).abs() <= 1e-5 * expected.abs());
        close("gradient", &wide(&gradient), &slopes, 1e-5);
    }
    assert!(binary_cross_entropy(&random(&[2, 2], 1), &[1.0; 3]).is_err());
}
