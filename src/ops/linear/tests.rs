use super::*;
use crate::ops::Device;

fn tensor(rows: usize, width: usize, seed: usize) -> Tensor {
    let values: Vec<f32> = (0..rows * width)
        .map(|i| ((i * 31 + seed) as f32).sin())
        .collect();
    Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
}

#[test]
fn products_with_bias_activation_and_residual_equal_a_plain_f64_loop() {
    for (rows, inner, width) in [(1, 3, 2), (7, 16, 5), (1100, 32, 48)] {
        let (x, w, r) = (
            tensor(rows, inner, 1),
            tensor(width, inner, 2),
            tensor(rows, width, 3),
        );
        let bias = tensor(1, width, 4).flatten_all().unwrap();
        let plain = Linear::new(w.clone(), None);
        let biased = Linear::new(w.clone(), Some(bias.clone()));
        let outs = [
            plain.forward(&x).unwrap(),
            biased.forward_activated(&x, Activation::Silu).unwrap(),
            biased.forward_activated(&x, Activation::GeluTanh).unwrap(),
            biased.forward_residual(&x, &r).unwrap(),
        ]
        .map(|out| out.to_vec2::<f32>().unwrap());
        let (x, w, r) = (
            x.to_vec2::<f32>().unwrap(),
            w.to_vec2::<f32>().unwrap(),
            r.to_vec2::<f32>().unwrap(),
        );
        let bias = bias.to_vec1::<f32>().unwrap();
        for i in 0..rows {
            for j in 0..width {
                let y: f64 = x[i]
                    .iter()
                    .zip(&w[j])
                    .map(|(x, w)| f64::from(*x) * f64::from(*w))
                    .sum();
                let b = y + f64::from(bias[j]);
                let gelu = 0.5 * b * (1.0 + (0.797_884_560_8 * (b + 0.044715 * b.powi(3))).tanh());
                let expected = [y, b / (1.0 + (-b).exp()), gelu, b + f64::from(r[i][j])];
                for (out, expected) in outs.iter().zip(expected) {
                    assert!((f64::from(out[i][j]) - expected).abs() < 2e-5);
                }
            }
        }
    }
}
