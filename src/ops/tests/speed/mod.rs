//! Where time goes: each op at the sizes of the models it serves.
//!
//! `cargo test --lib --release -- --ignored ops::tests::speed --nocapture`

mod gradients;
mod mixers;
mod rows;

use crate::ops::cuda::testing::{gpu, whole};
use crate::sequence::Segment;
use cudarc::driver::CudaSlice;
use std::time::Instant;

const ROWS: usize = 1 << 20;

/// Runs `f` until it is warm, then prints the mean time a token and what moves in it.
fn time(name: &str, rows: usize, bytes: usize, flops: usize, mut f: impl FnMut()) {
    let gpu = gpu();
    f();
    f();
    gpu.synchronize().unwrap();
    let start = Instant::now();
    const RUNS: usize = 5;
    for _ in 0..RUNS {
        f();
    }
    gpu.synchronize().unwrap();
    let seconds = start.elapsed().as_secs_f64() / RUNS as f64;
    println!(
        "{name:<44} {:8.3} ms {:8.3} ns/token {:7.0} GB/s {:8.0} GFLOP/s",
        seconds * 1e3,
        seconds * 1e9 / rows as f64,
        (rows * bytes) as f64 / seconds / 1e9,
        (rows * flops) as f64 / seconds / 1e9,
    );
}

fn zeros(len: usize) -> CudaSlice<f32> {
    gpu().zeros(len).unwrap()
}

/// Steps of one sequence, and of pieces in 64 lanes.
fn shapes(rows: usize) -> [(&'static str, Vec<Segment>); 2] {
    let lanes = (0..64).map(|lane| Segment {
        lane,
        ..whole(rows / 64)
    });
    [
        ("one lane", vec![whole(rows)]),
        ("64 lanes", lanes.collect()),
    ]
}
