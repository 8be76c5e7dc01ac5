//! Times of the kernels of Hyena and StripedHyena, as bases a second:
//! `cargo bench --bench hyena`. The number of threads is rayon's: `RAYON_NUM_THREADS=1` for one.

#![allow(clippy::unwrap_used)] // A benchmark that cannot start has nothing else to do.

use crocuta::ops::{Attention, LayerNorm, LongConv, Reach, Rotary, TapRows};
use crocuta::ops::{Device, Tensor};
use crocuta::sequence::Segment;
use divan::{Bencher, counter::ItemsCount};
use std::ops::Range;
use std::sync::Arc;

fn main() {
    divan::main();
}

/// Bases of a step.
const BASES: usize = 8192;
/// D of the larger published HyenaDNA models.
const WIDTH: usize = 256;
/// Taps of hyenadna-medium-160k.
const TAPS: usize = 160_002;

/// A step of a sequence that goes on; its first if `starts`.
fn segment(starts: bool) -> Segment {
    Segment {
        lane: 0,
        len: BASES,
        starts,
        ends: false,
    }
}

/// Values between −1 and 1 that do not repeat.
fn tensor(shape: &[usize]) -> Tensor {
    let n = shape.iter().product::<usize>();
    let values = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::from_vec::<f32>(values, shape, &Device::Cpu).unwrap()
}

#[divan::bench]
fn layer_norm(bencher: Bencher) {
    let norm = LayerNorm::new(tensor(&[WIDTH]), tensor(&[WIDTH]), 1e-5);
    let x = tensor(&[BASES, WIDTH]);
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| norm.forward(&x).unwrap());
}

/// The step after so many others: what it pays to later sums grows with the powers of two that
/// divide its position.
#[divan::bench(args = [0, 1, 3, 7, 15], sample_count = 10)]
fn long_conv_step_after(bencher: Bencher, steps: usize) {
    let taps = |n: usize| {
        let decay = |j: usize| (-(j as f32) / 1e4).exp() * (j as f32 * 0.3).cos();
        let filter: Vec<f32> = (0..n)
            .map(|j| if j < TAPS { decay(j) } else { 0.0 })
            .collect();
        Box::new(move |channels: Range<usize>| filter.repeat(channels.len())) as Box<TapRows>
    };
    let conv = LongConv::new(TAPS, &tensor(&[WIDTH]), Arc::new(taps), 2 << 30).unwrap();
    let x = tensor(&[BASES, 3 * WIDTH]);
    let mut past = conv.start(1);
    for step in 0..steps {
        conv.forward(&x, &mut past, &[segment(step == 0)]).unwrap();
    }
    let first = segment(steps == 0);
    // The first call computes the spectra that all others find.
    conv.forward(&x, &mut past.clone(), &[first]).unwrap();
    bencher
        .counter(ItemsCount::new(BASES))
        .with_inputs(|| past.clone())
        .bench_local_values(|mut past| {
            conv.forward(&x, &mut past, &[first]).unwrap();
            past
        });
}

/// A step of 1024 bases against so many bases of past, 8 heads of 32.
#[divan::bench(args = [0, 4096, 16384], sample_count = 10)]
fn attention_after(bencher: Bencher, past: usize) {
    const STEP: usize = 1024;
    let rotary = Rotary::new(32, 1e4, 1.0);
    let attention = Attention::new(8, 32, Reach::Causal, Some(rotary));
    let x = tensor(&[STEP, 3 * WIDTH]);
    let step = |starts| Segment {
        len: STEP,
        ..segment(starts)
    };
    let mut cache = attention.start(1);
    for from in (0..past).step_by(STEP) {
        attention
            .forward(&x, &mut cache, &[step(from == 0)])
            .unwrap();
    }
    bencher
        .counter(ItemsCount::new(STEP))
        .with_inputs(|| cache.clone())
        .bench_local_values(|mut cache| {
            attention
                .forward(&x, &mut cache, &[step(past == 0)])
                .unwrap();
            cache
        });
}
