use super::*;

fn tensor(shape: &[usize], seed: usize) -> Tensor {
    let n = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 31 + seed) as f32).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
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
            let found = block.forward(&x).unwrap().to_vec2::<f32>().unwrap();
            for (found, expected) in found.iter().zip(expected.to_vec2::<f32>().unwrap()) {
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 2e-5, "{found} {expected}");
                }
            }
        }
    }
    let wrong = FeedForward::new(norm, up.clone(), Activation::None, up);
    assert!(wrong.forward(&tensor(&[3, width], 7)).is_err());
}
