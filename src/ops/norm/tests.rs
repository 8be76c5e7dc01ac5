use super::*;
use crate::ops::Device;

fn input(rows: usize, width: usize) -> (Vec<f32>, Tensor) {
    let values: Vec<f32> = (0..rows * width)
        .map(|i| ((i * 37 % 101) as f32 / 17.0).sin() * 3.0 + 1.0)
        .collect();
    let tensor = Tensor::from_slice(&values, (rows, width), &Device::Cpu).unwrap();
    (values, tensor)
}

fn row(values: &[f32], width: usize) -> impl Iterator<Item = Vec<f64>> + '_ {
    values
        .chunks(width)
        .map(|row| row.iter().map(|&x| f64::from(x)).collect())
}

#[test]
fn norms_equal_a_plain_f64_loop() {
    for width in [5, 16, 32, 256] {
        let (values, x) = input(130, width);
        let (weights, weight) = input(1, width);
        let (_, bias) = input(1, width);
        let layer = LayerNorm::new(
            weight.flatten_all().unwrap(),
            bias.flatten_all().unwrap(),
            1e-5,
        );
        let inside = RmsNorm::new(weight.flatten_all().unwrap(), 1e-5);
        let outside = RmsNorm::with_eps_outside(weight.flatten_all().unwrap(), 1e-6);
        let layer = layer.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        let inside = inside.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        let outside = outside.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        for (i, row) in row(&values, width).enumerate() {
            let n = width as f64;
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            let square = row.iter().map(|x| x * x).sum::<f64>() / n;
            for (j, x) in row.iter().enumerate() {
                let w = f64::from(weights[j]);
                let expected = (x - mean) / (variance + 1e-5).sqrt() * w + w;
                assert!((f64::from(layer[i][j]) - expected).abs() < 1e-5);
                let expected = x / (square + 1e-5).sqrt() * w;
                assert!((f64::from(inside[i][j]) - expected).abs() < 1e-5);
                let expected = x / (square.sqrt() + 1e-6) * w;
                assert!((f64::from(outside[i][j]) - expected).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn gated_norms_equal_a_plain_f64_loop() {
    for (width, groups) in [(6, 2), (32, 1), (96, 3)] {
        let (y_values, y) = input(70, width);
        let gate = y.affine(-0.7, 0.2).unwrap();
        let gates = gate.to_vec2::<f32>().unwrap();
        let (weights, weight) = input(1, width);
        let norm = GatedRmsNorm::new(weight.flatten_all().unwrap(), groups, 1e-5);
        let found = norm.forward(&y, &gate).unwrap().to_vec2::<f32>().unwrap();
        for (i, row) in row(&y_values, width).enumerate() {
            let silu = |x: f64| x / (1.0 + (-x).exp());
            let gates = gates[i].iter().map(|&x| f64::from(x));
            let gated: Vec<_> = row.iter().zip(gates).map(|(y, g)| y * silu(g)).collect();
            for (j, x) in gated.iter().enumerate() {
                let size = width / groups;
                let group = &gated[j / size * size..][..size];
                let square = group.iter().map(|x| x * x).sum::<f64>() / size as f64;
                let expected = x / (square + 1e-5).sqrt() * f64::from(weights[j]);
                assert!((f64::from(found[i][j]) - expected).abs() < 1e-5);
            }
        }
    }
}
