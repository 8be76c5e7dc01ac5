use super::*;
use crate::checkpoint::{Checkpoint, create, preset};
use crate::ops::testing::close;
use serde_json::json;

const WIDTH: usize = 18;
const MODES: usize = 5;

/// The preset made small: two layers.
fn open() -> (Hyperparameters, Checkpoint, Model) {
    let mut config = preset("s4d-d256-l8").unwrap();
    for (key, value) in [
        ("d_model", json!(WIDTH)),
        ("d_state", json!(2 * MODES)),
        ("n_layer", json!(2)),
        ("initializer_range", json!(1.0)),
    ] {
        config.insert(key.into(), value);
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    create(&Config::new("s4d", config), 5, &out, 1 << 20).unwrap();
    let checkpoint = Checkpoint::open(&out).unwrap();
    let sizes = Hyperparameters::read(&checkpoint.config).unwrap();
    let model = Model::load(&sizes, &checkpoint.weights).unwrap();
    assert_eq!(checkpoint.weights.unused(), Vec::<String>::new());
    (sizes, checkpoint, model)
}

fn tokens(rows: usize) -> Vec<u32> {
    (0..rows)
        .map(|i| 7 + ((i * i + i / 5) % 5) as u32)
        .collect()
}

fn whole(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let segment = Segment {
        lane: 0,
        len: tokens.len(),
        starts: true,
        ends: true,
    };
    let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
    let mut state = model.start(1).unwrap();
    let hidden = model.forward(&tokens, &[segment], &mut state).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

/// Rows normalised, with the weight 1 and bias 0 of a new model.
fn normalised(x: &[f64]) -> Vec<f64> {
    let rows = x.chunks(WIDTH).flat_map(|row| {
        let mean = row.iter().sum::<f64>() / WIDTH as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / WIDTH as f64;
        row.iter()
            .map(move |x| (x - mean) / (variance + 1e-5).sqrt())
    });
    rows.collect()
}

/// x · Φ(x), Φ by its series.
fn gelu(x: f64) -> f64 {
    let terms = (0..200).scan(x, |term, n| {
        let now = *term;
        *term *= x * x / f64::from(2 * n + 3);
        Some(now)
    });
    x * (0.5 + (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * terms.sum::<f64>())
}

#[test]
fn outputs_equal_a_plain_f64_convolution() {
    let (sizes, checkpoint, model) = open();
    let weights = checkpoint.weights.at("backbone");
    let values = |weights: &Weights, name: &str, shape: &[usize]| -> Vec<f64> {
        let tensor = weights.tensor(name, shape).unwrap().flatten_all().unwrap();
        let values = tensor.to_vec1::<f32>().unwrap();
        values.into_iter().map(f64::from).collect()
    };
    let ids = tokens(200);
    let words = values(&weights.at("embeddings"), "weight", &[16, WIDTH]);
    let mut x: Vec<f64> = ids
        .iter()
        .flat_map(|&id| words[id as usize * WIDTH..][..WIDTH].to_vec())
        .collect();
    for layer in 0..sizes.layers {
        let mixer = weights.at("layers").at(layer).at("mixer");
        let kernel = mixer.at("kernel");
        let c = values(&kernel, "C", &[WIDTH, MODES, 2]);
        let steps = values(&kernel, "log_dt", &[WIDTH]);
        let decays = values(&kernel, "log_A_real", &[WIDTH, MODES]);
        let frequencies = values(&kernel, "A_imag", &[WIDTH, MODES]);
        let skip = values(&mixer, "D", &[WIDTH]);
        let u = normalised(&x);
        let mut y = vec![0.0; u.len()];
        for h in 0..WIDTH {
            let filter: Vec<f64> = (0..ids.len())
                .map(|l| {
                    let term = |n: usize| {
                        let i = h * MODES + n;
                        let a = Complex64::new(-decays[i].exp(), frequencies[i]);
                        let step = steps[h].exp();
                        let c = Complex64::new(c[2 * i], c[2 * i + 1]);
                        (c * ((step * a).exp() - 1.0) / a * (step * a * l as f64).exp()).re
                    };
                    2.0 * (0..MODES).map(term).sum::<f64>()
                })
                .collect();
            for t in 0..ids.len() {
                let past = (0..=t).map(|s| filter[s] * u[(t - s) * WIDTH + h]);
                let sum = past.sum::<f64>() + skip[h] * u[t * WIDTH + h];
                y[t * WIDTH + h] = gelu(sum);
            }
        }
        let output = mixer.at("output_linear").at(0);
        let weight = values(&output, "weight", &[2 * WIDTH, WIDTH, 1]);
        let bias = values(&output, "bias", &[2 * WIDTH]);
        for (x, y) in x.chunks_mut(WIDTH).zip(y.chunks(WIDTH)) {
            let row = |i: usize| {
                let weight = &weight[i * WIDTH..][..WIDTH];
                bias[i] + weight.iter().zip(y).map(|(w, y)| w * y).sum::<f64>()
            };
            for (i, x) in x.iter_mut().enumerate() {
                *x += row(i) / (1.0 + (-row(WIDTH + i)).exp());
            }
        }
    }
    let expected = normalised(&x);
    let found = whole(&model, &ids);
    close("hidden", &found, &expected, 1e-5);
}
