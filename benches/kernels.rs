//! Times of single kernels and of whole encoders, as bases a second: `cargo bench --bench kernels`.
//! The number of threads is rayon's: `RAYON_NUM_THREADS=1` for one.

#![allow(clippy::unwrap_used)]

use crocuta::checkpoint::{Config, Weights, preset};
use crocuta::encoder::{Encoder, Segment, caduceus, mamba};
use crocuta::head::{LocalAttention, LocalSizes};
use crocuta::ops::{Activation, Linear, SelectiveScan, ShortConv};
use crocuta::ops::{Device, Tensor};
use divan::{Bencher, counter::ItemsCount};

fn main() {
    divan::main();
}

/// Bases of a step.
const BASES: usize = 4096;
/// The sizes of mamba-d256-l16 and the published Caduceus: D, I, N, R.
const WIDTH: usize = 256;
const INNER: usize = 512;
const STATES: usize = 16;
const RANK: usize = 16;

const WHOLE: Segment = Segment {
    lane: 0,
    len: BASES,
    starts: true,
    ends: true,
};

/// Values between −scale and scale that do not repeat.
fn tensor(shape: &[usize], scale: f32) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values = (0..n).map(|i| (i as f32 * 0.7).sin() * scale).collect();
    Tensor::from_vec::<f32>(values, shape, &Device::Cpu).unwrap()
}

#[divan::bench]
fn selective_scan(bencher: Bencher) {
    let scan = SelectiveScan::new(
        &tensor(&[INNER, STATES], 1.0),
        &tensor(&[INNER], 1.0),
        &tensor(&[INNER, RANK], 0.2),
        &tensor(&[INNER], 2.0),
    )
    .unwrap();
    let u = tensor(&[BASES, INNER], 1.0);
    let projected = tensor(&[BASES, RANK + 2 * STATES], 1.0);
    let mut hidden = scan.start(1);
    bencher.counter(ItemsCount::new(BASES)).bench_local(|| {
        scan.forward(&u, &projected, None, Some(&u), &mut hidden, &[WHOLE])
            .unwrap()
    });
}

#[divan::bench]
fn short_conv(bencher: Bencher) {
    let taps = tensor(&[INNER, 1, 4], 1.0);
    let conv = ShortConv::new(&taps, None, Activation::Silu).unwrap();
    let x = tensor(&[BASES, INNER], 1.0);
    let mut tail = conv.start(1);
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| conv.forward(&x, &mut tail, &[WHOLE]).unwrap());
}

#[divan::bench(args = [[WIDTH, INNER], [INNER, RANK + 2 * STATES], [INNER, WIDTH]])]
fn linear(bencher: Bencher, [from, to]: [usize; 2]) {
    let linear = Linear::new(tensor(&[to, from], 0.1), None);
    let x = tensor(&[BASES, from], 1.0);
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| linear.forward(&x).unwrap());
}

/// The motif head on the vectors of one encoder, by its window.
#[divan::bench(args = [8, 16, 64])]
fn local_attention(bencher: Bencher, window: usize) {
    let sizes = LocalSizes {
        width: WIDTH,
        heads: 4,
        window,
        classes: 4,
        causal: false,
    };
    let weights = Weights::new("bench", LocalAttention::create(sizes, 0).unwrap());
    let head = LocalAttention::load(sizes, &weights).unwrap();
    let x = tensor(&[BASES, WIDTH], 1.0);
    let mut state = head.start(1);
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| head.forward(&x, &[WHOLE], &mut state).unwrap());
}

#[divan::bench(sample_count = 10)]
fn mamba_d256_l16(bencher: Bencher) {
    let config = Config::new("preset", preset("mamba-d256-l16").unwrap());
    let sizes = mamba::Hyperparameters::read(&config).unwrap();
    let mut tensors = vec![(
        "backbone.embeddings.weight".into(),
        tensor(&[16, WIDTH], 1.0),
    )];
    tensors.push(("backbone.norm_f.weight".into(), tensor(&[WIDTH], 1.0)));
    for layer in 0..sizes.layers {
        let at = format!("backbone.layers.{layer}");
        tensors.push((format!("{at}.norm.weight"), tensor(&[WIDTH], 1.0)));
        tensors.extend(mixer(&format!("{at}.mixer")));
    }
    let weights = Weights::new(
        "bench",
        tensors
            .into_iter()
            .map(|(name, x)| (name, x.stored().unwrap()))
            .collect(),
    );
    encode(bencher, mamba::Model::load(&sizes, &weights).unwrap());
}

#[divan::bench(sample_count = 10, args = ["caduceus-ph-131k", "caduceus-ps-131k"])]
fn caduceus(bencher: Bencher, name: &str) {
    let config = Config::new("preset", preset(name).unwrap());
    let sizes = caduceus::Hyperparameters::read(&config).unwrap();
    let (words, below) = match sizes.complement {
        Some(_) => ("word_embeddings.embedding", "mixer.submodule"),
        None => ("word_embeddings", "mixer"),
    };
    let root = "caduceus.backbone";
    let words = format!("{root}.embeddings.{words}.weight");
    let mut tensors = vec![(words, tensor(&[16, WIDTH], 1.0))];
    tensors.push((format!("{root}.norm_f.weight"), tensor(&[WIDTH], 1.0)));
    for layer in 0..sizes.layers {
        let at = format!("{root}.layers.{layer}");
        tensors.push((format!("{at}.norm.weight"), tensor(&[WIDTH], 1.0)));
        tensors.extend(mixer(&format!("{at}.{below}.mamba_fwd")));
        tensors.extend(mixer(&format!("{at}.{below}.mamba_rev")));
    }
    let weights = Weights::new(
        "bench",
        tensors
            .into_iter()
            .map(|(name, x)| (name, x.stored().unwrap()))
            .collect(),
    );
    encode(bencher, caduceus::Model::load(&sizes, &weights).unwrap());
}

fn mixer(at: &str) -> Vec<(String, Tensor)> {
    let shapes: [(&str, &[usize], f32); 9] = [
        ("in_proj.weight", &[2 * INNER, WIDTH], 0.05),
        ("conv1d.weight", &[INNER, 1, 4], 0.5),
        ("conv1d.bias", &[INNER], 0.5),
        ("x_proj.weight", &[RANK + 2 * STATES, INNER], 0.05),
        ("dt_proj.weight", &[INNER, RANK], 0.2),
        ("dt_proj.bias", &[INNER], 2.0),
        ("A_log", &[INNER, STATES], 1.0),
        ("D", &[INNER], 1.0),
        ("out_proj.weight", &[WIDTH, INNER], 0.05),
    ];
    let tensors = shapes.map(|(name, shape, scale)| (format!("{at}.{name}"), tensor(shape, scale)));
    tensors.into()
}

fn encode<E: Encoder>(bencher: Bencher, model: E) {
    let tokens: Vec<u32> = (0..BASES as u32).map(|i| 7 + (i * i / 3) % 4).collect();
    let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
    let mut state = model.start(1).unwrap();
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| model.forward(&tokens, &[WHOLE], &mut state).unwrap());
}
