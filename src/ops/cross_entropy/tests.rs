use super::*;
use crate::ops::check::{close, random, wide};
use crate::ops::cuda::testing;
use std::sync::Arc;

#[test]
fn loss_and_gradient_equal_a_plain_f64_loop() {
    for (rows, width) in [(1, 2), (7, 16), (2100, 5), (40, 70)] {
        let logits = random(&[rows, width], 1).affine(8.0, 0.0).unwrap();
        let targets: Vec<u32> = (0..rows).map(|i| ((i * 7) % width) as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32 * 0.4).collect();
        let (loss, gradient) = cross_entropy(&logits, &targets, &weights).unwrap();
        let (mut expected, mut slopes) = (0.0, Vec::new());
        for (i, row) in wide(&logits).chunks(width).enumerate() {
            let (weight, target) = (f64::from(weights[i]), targets[i] as usize);
            let sum: f64 = row.iter().map(|x| x.exp()).sum();
            expected -= weight * (row[target].exp() / sum).ln();
            slopes.extend(
                (0..width)
                    .map(|j| weight * (row[j].exp() / sum - f64::from(u8::from(j == target)))),
            );
        }
        assert!((loss - expected).abs() <= 1e-6 * expected.abs());
        close("gradient", &wide(&gradient), &slopes, 1e-6);
    }
}

#[test]
fn only_targets_of_rows_that_count_must_be_classes() {
    let logits = random(&[2, 3], 1);
    assert!(cross_entropy(&logits, &[0, 9], &[1.0, 0.0]).is_ok());
    assert!(cross_entropy(&logits, &[0, 3], &[1.0, 0.1]).is_err());
    assert!(cross_entropy(&logits, &[0], &[1.0, 0.1]).is_err());
    assert!(cross_entropy(&logits, &[0, 0], &[1.0]).is_err());
}

#[test]
#[ignore = "needs a CUDA device"]
fn losses_and_their_gradients_equal_the_cpu_s() {
    let device = Device::Cuda(Arc::clone(testing::gpu()));
    for (rows, width) in [(1, 2), (70, 16), (300, 130)] {
        let logits: Vec<f32> = testing::random(rows * width, 1)
            .iter()
            .map(|x| 9.0 * x)
            .collect();
        let targets: Vec<u32> = (0..rows).map(|i| ((i * 7) % width) as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32 * 0.4).collect();
        let some = targets.iter().zip(&weights);
        let some: Vec<_> = some.map(|(t, w)| (*w > 0.0).then_some(*t)).collect();
        let run = |device: &Device| {
            let logits = Tensor::from_slice(&logits, (rows, width), device).unwrap();
            let (loss, gradient) = cross_entropy(&logits, &targets, &weights).unwrap();
            let surprisals = surprisals(&logits, &some).unwrap();
            (loss, testing::flat(&gradient), surprisals)
        };
        let (cpu, found) = (run(&Device::Cpu), run(&device));
        assert!((cpu.0 - found.0).abs() <= 1e-6 * cpu.0.abs());
        testing::close("gradient", &found.1, &cpu.1, 2e-6);
        let single = |x: &[Option<f64>]| -> Vec<f32> {
            x.iter().map(|x| x.map_or(-1.0, |x| x as f32)).collect()
        };
        testing::close("surprisals", &single(&found.2), &single(&cpu.2), 2e-6);
        assert_eq!(found, run(&device));
    }
}
