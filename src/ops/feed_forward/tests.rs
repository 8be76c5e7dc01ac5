use super::*;
use crate::ops::testing::close;
use crate::ops::{RmsNorm, gate_to_product, rounds_on_cpu};

fn tensor(shape: &[usize], seed: usize) -> Tensor {
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 31 + seed) as f32).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Within a part of the largest magnitude.
fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.dims(), expected.dims());
    let [found, expected] = [found, expected].map(|x| x.flatten_all().unwrap().to_vec1().unwrap());
    close::<f32, f32>("block", &found, &expected, 1e-6);
}

#[test]
fn a_feed_forward_block_equals_its_parts_one_after_the_other() {
    let (width, inner) = (24, 40);
    let norm = LayerNorm::new(tensor(&[width], 1), tensor(&[width], 2), 1e-5);
    let up = Linear::new(tensor(&[inner, width], 3), Some(tensor(&[inner], 4)));
    for down in [
        Linear::new(tensor(&[width, inner], 5), Some(tensor(&[width], 6))),
        Linear::new(tensor(&[width, inner], 5), None),
    ] {
        let block = FeedForward::new(norm.clone(), up.clone(), Activation::GeluTanh, down.clone());
        for rows in [1, 7, 300, 1100] {
            let x = tensor(&[rows, width], 7);
            let y = norm.forward(&x).unwrap();
            let y = up.forward_activated(&y, Activation::GeluTanh).unwrap();
            let expected = down.forward_residual(&y, &x).unwrap();
            assert_close(&block.forward(&x).unwrap(), &expected);
        }
    }
    let wrong = FeedForward::new(norm, up.clone(), Activation::None, up);
    assert!(wrong.forward(&tensor(&[3, width], 7)).is_err());
}

/// A block of width 24 and inner width 40, and its parts.
fn gated(rounded: bool, activation: Activation) -> (GatedFeedForward, RmsNorm, [Linear; 3]) {
    let norm = RmsNorm::with_eps_outside(tensor(&[24], 1), 1e-6);
    let layers = [([40, 24], 3), ([40, 24], 4), ([24, 40], 5)]
        .map(|(shape, seed)| Linear::new(tensor(&shape, seed), None).rounding(rounded));
    let block = GatedFeedForward::new(norm.clone(), layers.clone(), activation);
    (block, norm, layers)
}

#[test]
fn a_gated_feed_forward_block_equals_its_parts_one_after_the_other() {
    for rounded in [false, true] {
        for activation in [Activation::GeluErf, Activation::None] {
            let (block, norm, [one, two, three]) = gated(rounded, activation);
            for rows in [1, 7, 300, 1100] {
                let x = tensor(&[rows, 24], 7);
                let y = norm.forward(&x).unwrap();
                let (a, b) = (one.forward(&y).unwrap(), two.forward(&y).unwrap());
                let y = gate_to_product((&a, 0), (&b, 0), 40, activation).unwrap();
                assert_close(&block.alone(&x).unwrap(), &three.forward(&y).unwrap());
                let expected = three.forward_residual(&y, &x).unwrap();
                assert_close(&block.forward(&x).unwrap(), &expected);
                if !rounded {
                    let found = block.forward(&x.parameter()).unwrap().detach();
                    assert_close(&found, &expected);
                }
            }
        }
    }
    let (_, norm, [one, two, _]) = gated(false, Activation::None);
    let wrong = GatedFeedForward::new(norm, [one.clone(), two, one], Activation::None);
    assert!(wrong.forward(&tensor(&[3, 24], 7)).is_err());
}

#[test]
fn a_row_of_a_gated_block_has_the_same_bits_in_any_company() {
    if !rounds_on_cpu() {
        return;
    }
    let (block, ..) = gated(true, Activation::GeluErf);
    let x = tensor(&[700, 24], 7);
    let all = block.forward(&x).unwrap().to_vec2::<f32>().unwrap();
    for (from, len) in [(0, 1), (5, 1), (17, 6), (90, 7), (300, 330), (699, 1)] {
        let some = block.forward(&x.narrow(0, from, len).unwrap()).unwrap();
        let some = some.to_vec2::<f32>().unwrap();
        assert!(some == all[from..from + len], "{from}");
    }
}
