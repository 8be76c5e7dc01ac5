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

/// The values as bf16 holds them.
fn rounded(x: &Tensor) -> Tensor {
    let values = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let values = values.into_iter();
    let values = values.map(|x| half::bf16::from_f32(x).to_f32()).collect();
    Tensor::from_vec::<f32>(values, x.dims2().unwrap(), &Device::Cpu).unwrap()
}

#[test]
fn rounded_products_equal_a_plain_f64_loop_over_rounded_factors() {
    if !rounds_on_cpu() {
        return;
    }
    // Odd and even K, vectors of columns that are full and not, blocks of rows that are full and not.
    for (rows, inner, width) in [
        (1, 3, 2),
        (7, 16, 5),
        (100, 33, 70),
        (13, 130, 64),
        (49, 64, 176),
        (1100, 32, 48),
    ] {
        let (x, w) = (tensor(rows, inner, 1), tensor(width, inner, 2));
        let r = tensor(rows, width, 3);
        let bias = tensor(1, width, 4).flatten_all().unwrap();
        let layer = Linear::new(w.clone(), Some(bias.clone())).rounding(true);
        let outs = [
            layer.forward_residual(&x, &r).unwrap(),
            layer.forward_activated(&x, Activation::Silu).unwrap(),
        ];
        let outs = outs.map(|out| out.to_vec2::<f32>().unwrap());
        let [x, w] = [x, w].map(|x| rounded(&x).to_vec2::<f32>().unwrap());
        let (r, bias) = (r.to_vec2::<f32>().unwrap(), bias.to_vec1::<f32>().unwrap());
        for i in 0..rows {
            for j in 0..width {
                let products = x[i].iter().zip(&w[j]);
                let y: f64 = products.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let b = y + f64::from(bias[j]);
                let expected = [b + f64::from(r[i][j]), b / (1.0 + (-b).exp())];
                for (out, expected) in outs.iter().zip(expected) {
                    let found = f64::from(out[i][j]);
                    assert!((found - expected).abs() < 2e-5, "{found} {expected}");
                }
            }
        }
    }
}

#[test]
fn a_row_of_a_rounded_product_has_the_same_bits_in_any_company() {
    if !rounds_on_cpu() {
        return;
    }
    let (inner, width) = (70, 100);
    let x = tensor(1000, inner, 1);
    let layer = Linear::new(tensor(width, inner, 2), None).rounding(true);
    let all = layer.forward(&x).unwrap().to_vec2::<f32>().unwrap();
    for (from, len) in [(0, 1), (5, 1), (17, 6), (90, 7), (300, 530), (999, 1)] {
        let some = layer.forward(&x.narrow(0, from, len).unwrap()).unwrap();
        assert!(
            some.to_vec2::<f32>().unwrap() == all[from..from + len],
            "{from}"
        );
    }
}

#[test]
fn a_layer_that_is_trained_does_not_round() {
    let (x, w) = (tensor(20, 30, 1), tensor(9, 30, 2));
    let exact = Linear::new(w.clone(), None).forward(&x).unwrap();
    let trained = Linear::new(w.parameter(), None).rounding(true);
    let trained = trained.forward(&x).unwrap().detach();
    assert_eq!(
        exact.to_vec2::<f32>().unwrap(),
        trained.to_vec2::<f32>().unwrap()
    );
}

#[test]
fn a_weight_held_in_bf16_gives_the_bits_of_its_f32_values() {
    // Few rows and many: weights are read as they are stored, and turned.
    for (rows, inner, width) in [(1, 3, 2), (7, 16, 5), (1100, 33, 48)] {
        let (x, w) = (tensor(rows, inner, 1), tensor(width, inner, 2));
        let bias = tensor(1, width, 4).flatten_all().unwrap();
        let held = w
            .stored()
            .unwrap()
            .to_dtype(candle_core::DType::BF16)
            .unwrap();
        for bias in [None, Some(bias)] {
            let [wide, narrow] = [rounded(&w), Tensor::from(held.clone())].map(|w| {
                let layer = Linear::new(w, bias.clone());
                let rounds = layer.clone().rounding(true).forward(&x).unwrap();
                let x = x.clone().parameter();
                let y = layer.forward(&x).unwrap();
                let gradients = y.backward(tensor(rows, width, 5)).unwrap();
                let gradient = gradients.of(&x).unwrap();
                [&y, gradient, &rounds].map(|out| out.to_vec2::<f32>().unwrap())
            });
            assert_eq!(wide, narrow);
        }
    }
}
