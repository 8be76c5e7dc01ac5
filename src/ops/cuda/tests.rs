//! Each op on the device against its form on the CPU, over packed segments and carried state.
//!
//! On a machine with a GPU: `cargo test --lib -- --ignored cuda --nocapture`.

mod attention;
mod gradients;
mod long_conv;
mod modal;
mod rows;
mod selective_scan;
mod speed;
mod ssd;

use super::*;
use crate::ops::{Device, Tensor};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::OnceLock;

/// Compiling needs no GPU, only NVRTC.
#[test]
fn kernels_compile_for_each_architecture() {
    // SAFETY: opens the library if it is there.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        eprintln!("no libnvrtc here: nothing was compiled");
        assert!(std::env::var_os("CROCUTA_NVRTC").is_none());
        return;
    }
    let sizes = [
        "STATES=16",
        "RANK=16",
        "GRADIENTS=0",
        "PARTS=2",
        "MODES=8",
        "GROUPS=4",
        "HEAD=32",
        "PAST_BF16=0",
        "KEYS=32",
        "WARPGROUP=0",
        "SLICE=64",
    ];
    let sizes = sizes.map(String::from);
    for &source in compile::ALL {
        for capability in [80, 90] {
            let code = compile::compile(source, &sizes, capability).unwrap();
            assert_eq!(&code[..4], b"\x7fELF", "{}", source.name);
        }
    }
    let sizes = ["STATES=16", "RANK=16", "GRADIENTS=1"].map(String::from);
    compile::compile(compile::SCAN, &sizes, 90).unwrap();
    // Tiles of other sizes, which have to fit shared memory as well.
    for (width, keys, warpgroup) in [(64, 64, 1), (128, 128, 1), (256, 16, 0)] {
        let sizes = [
            format!("HEAD={width}"),
            "PAST_BF16=1".to_string(),
            format!("KEYS={keys}"),
            format!("WARPGROUP={warpgroup}"),
        ];
        compile::compile(compile::ATTENTION, &sizes, 90).unwrap();
        compile::compile(compile::ATTENTION_BF16, &sizes, 90).unwrap();
    }
}

#[test]
fn a_machine_without_a_gpu_is_told_what_to_do() {
    if let Err(error) = Gpu::open(0, false) {
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.to_string().contains("--device cpu"), "{error}");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_device_says_what_it_is_and_refuses_what_does_not_fit() {
    let gpu = gpu();
    let (free, total) = gpu.memory().unwrap();
    println!("{gpu:?}: {free} bytes free of {total}");
    assert!(free <= total && devices().unwrap()[gpu.ordinal()] == gpu.name());
    assert_eq!(Gpu::open(99, false).unwrap_err().kind(), Kind::Usage);
    let error = gpu.zeros::<f32>(total).unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    gpu.trim().unwrap();
    assert_eq!(
        gpu.download(&gpu.upload(&[1u32, 2]).unwrap()).unwrap(),
        [1, 2]
    );
}

/// The one GPU of all tests.
fn gpu() -> &'static Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(0, false).unwrap())
}

/// The same, with products of bf16.
fn rounded_gpu() -> &'static Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(0, true).unwrap())
}

/// Values between −1 and 1.
fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.to_vec1().unwrap()
}

/// Largest difference, relative to the largest magnitude; printed and bounded.
fn close(name: &str, found: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(1e-30, |a: f32, b| a.max(b.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| {
            if a.is_nan() {
                f32::INFINITY
            } else {
                (a - b).abs()
            }
        })
        .fold(0.0, f32::max);
    println!("{name}: max error {:.1e} of {largest:.3}", worst / largest);
    let at = found
        .iter()
        .zip(expected)
        .position(|(a, b)| a.is_nan() || (a - b).abs() > bound * largest);
    assert_eq!(at, None, "{name}: first of {} values", found.len());
}

/// Steps of a few lanes: sequences of up to three pieces among short whole ones. A piece is at
/// most `most` long.
fn steps(most: usize, seed: u64) -> Vec<Vec<Segment>> {
    const LANES: usize = 3;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut running = [false; LANES];
    (0..6)
        .map(|_| {
            let mut segments = Vec::new();
            for (lane, running) in running.iter_mut().enumerate() {
                if rng.random_range(0..4) == 0 {
                    segments.push(Segment {
                        lane: 0,
                        len: rng.random_range(1..50),
                        starts: true,
                        ends: true,
                    });
                }
                let ends = rng.random_range(0..3) == 0;
                segments.push(Segment {
                    lane,
                    len: rng.random_range(1..=most),
                    starts: !*running,
                    ends,
                });
                *running = !ends;
                // The next sequence of the lane, in the same step.
                if ends && rng.random_range(0..2) == 0 {
                    segments.push(Segment {
                        lane,
                        len: rng.random_range(1..=most),
                        starts: true,
                        ends: false,
                    });
                    *running = true;
                }
            }
            segments
        })
        .collect()
}

fn total(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| segment.len).sum()
}
