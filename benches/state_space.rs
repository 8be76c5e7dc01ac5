//! Speed of the state-space operators and encoders on one thread, a base.
//!
//! `cargo bench --bench state_space`; items per second are bases per second.

#![allow(clippy::expect_used)] // A benchmark that cannot start has nothing else to do.

use crocuta::checkpoint::{Checkpoint, Config, create, preset};
use crocuta::encoder::{Encoder, Model, Segment};
use crocuta::ops::{Device, Tensor};
use crocuta::ops::{Modal, Ssd, SsdSizes};
use divan::Bencher;
use divan::counter::ItemsCount;

const BASES: usize = 8192;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a thread").install(divan::main);
}

fn wave(shape: &[usize]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|i| (i as f32 * 0.37).sin() * 0.7)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

/// A step in the middle of a sequence.
const MIDDLE: Segment = Segment {
    lane: 0,
    len: BASES,
    starts: false,
    ends: false,
};

/// 256 channels of so many complex modes.
#[divan::bench(args = [8, 16, 32])]
fn modal_complex(bencher: Bencher, modes: usize) {
    let poles = wave(&[256, modes, 2]);
    let modal = Modal::complex(&poles, &poles, None).expect("a filter");
    let (x, mut state) = (wave(&[BASES, 256]), modal.start(1));
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| modal.forward(&x, &mut state, &[MIDDLE]));
}

/// 256 channels of so many real modes.
#[divan::bench(args = [16])]
fn modal_real(bencher: Bencher, modes: usize) {
    let poles = wave(&[256, modes]);
    let modal = Modal::real(&poles, &poles, None).expect("a filter");
    let (x, mut state) = (wave(&[BASES, 256]), modal.start(1));
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| modal.forward(&x, &mut state, &[MIDDLE]));
}

/// The scan of one layer of mamba2-d256-l16.
#[divan::bench]
fn ssd(bencher: Bencher) {
    let sizes = SsdSizes {
        heads: 8,
        channels: 64,
        groups: 1,
        states: 128,
    };
    let each = wave(&[8]);
    let scan = Ssd::new(sizes, &each, &each, &each, (0.0, f64::INFINITY)).expect("a scan");
    let (xbc, steps) = (wave(&[BASES, sizes.columns()]), wave(&[BASES, 8]));
    let mut state = scan.start(1);
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| scan.forward(&xbc, &steps, &mut state, &[MIDDLE]));
}

/// A whole encoder with new weights.
#[divan::bench(args = ["mamba-d256-l16", "mamba2-d256-l16", "s4d-d256-l8"], sample_count = 3)]
fn encoder(bencher: Bencher, name: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config::new(name, preset(name).expect("a preset"));
    create(&config, 1, &dir.path().join("model"), 1 << 30).expect("weights");
    let checkpoint = Checkpoint::open(&dir.path().join("model")).expect("a checkpoint");
    let (model, _) = Model::load(&checkpoint).expect("a model");
    let ids: Vec<u32> = (0..BASES as u32).map(|i| 7 + i * i % 5).collect();
    let tokens = Tensor::new(ids, &Device::Cpu).expect("tokens");
    let mut state = model.start(1).expect("a state");
    bencher
        .counter(ItemsCount::new(BASES))
        .bench_local(|| model.forward(&tokens, &[MIDDLE], &mut state));
}
