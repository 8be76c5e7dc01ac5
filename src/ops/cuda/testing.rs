//! What tests of ops on a GPU share.

use super::Gpu;
use crate::error::Result;
use crate::ops::{Device, Tensor, testing};
use crate::sequence::{Branch, Segment};
use half::bf16;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::{Arc, OnceLock};

/// The one GPU of all tests.
pub(crate) fn gpu() -> &'static Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(0, false).unwrap())
}

/// The same, with products of bf16.
pub(crate) fn rounded_gpu() -> &'static Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(0, true).unwrap())
}

/// Values between −1 and 1.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = StdRng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

pub(crate) fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

pub(crate) fn flat(x: &Tensor) -> Vec<f32> {
    x.to_vec1().unwrap()
}

/// Largest difference, relative to the largest magnitude; printed and bounded.
pub(crate) fn close(name: &str, found: &[f32], expected: &[f32], bound: f32) {
    let error = testing::difference(found, expected);
    println!("{name}: max error {error:.1e} of the largest magnitude");
    testing::close(name, found, expected, f64::from(bound));
}

/// Steps of a few lanes: sequences of up to three pieces among short whole ones. A piece is at
/// most `most` long.
pub(crate) fn steps(most: usize, seed: u64) -> Vec<Vec<Segment>> {
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

pub(crate) fn total(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| segment.len).sum()
}

/// Branches off both ends of each segment and a row between: shorter than what is left of it, and
/// longer.
pub(crate) fn branches(segments: &[Segment], most: usize, seed: u64) -> Vec<Branch> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut first = 0;
    let mut all = Vec::new();
    for segment in segments {
        let last = first + segment.len - 1;
        for after in [first, rng.random_range(first..=last), last] {
            for len in [1, rng.random_range(1..=most), last - after + 7] {
                all.push(Branch { after, len });
            }
        }
        first = last + 1;
    }
    all
}

/// What `run` gives for the rows of branches among those of `x`, each as the end of the sequence
/// that it makes of its segment.
pub(crate) fn as_sequences(
    x: &[f32],
    segments: &[Segment],
    branches: &[Branch],
    mut run: impl FnMut(&[f32], Segment) -> Vec<f32>,
) -> Vec<f32> {
    let rows = total(segments) + branches.iter().map(|branch| branch.len).sum::<usize>();
    let width = x.len() / rows;
    let mut from = total(segments);
    let mut all = Vec::new();
    for branch in branches {
        let (index, first) = branch.origin(segments).unwrap();
        let mut sequence = x[first * width..(branch.after + 1) * width].to_vec();
        sequence.extend(&x[from * width..(from + branch.len) * width]);
        let segment = Segment {
            len: sequence.len() / width,
            ends: true,
            ..segments[index]
        };
        let found = run(&sequence, segment);
        let own = found.len() / segment.len * branch.len;
        all.extend(&found[found.len() - own..]);
        from += branch.len;
    }
    all
}

/// A piece of a sequence, neither its first nor its last.
pub(crate) fn whole(rows: usize) -> Segment {
    Segment {
        lane: 0,
        len: rows,
        starts: false,
        ends: false,
    }
}

/// Values and their shape.
pub(crate) type Input = (Vec<f32>, Vec<usize>);

/// Outputs and gradients of an op on the CPU and on a device. The first `rows` inputs lie there; the
/// others are weights, which stay in memory.
pub(crate) fn same_on(
    gpu: &Arc<Gpu>,
    name: &str,
    (inputs, rows): (&[Input], usize),
    bound: f32,
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let run = |device: &Device| -> Vec<Vec<f32>> {
        let place = |i: usize| if i < rows { device } else { &Device::Cpu };
        let parameters = inputs.iter().enumerate().map(|(i, (values, shape))| {
            let values = Tensor::from_slice(values, &shape[..], place(i)).unwrap();
            values.parameter()
        });
        let parameters: Vec<Tensor> = parameters.collect();
        let out = op(&parameters).unwrap();
        let seed = random(out.elem_count(), 99);
        let seed = Tensor::from_slice(&seed, out.dims(), device).unwrap();
        let gradients = out.backward(seed).unwrap();
        let found = parameters.iter().map(|x| {
            let found = gradients.of(x).expect("a gradient");
            assert_eq!(found.dims(), x.dims(), "{name}");
            assert_eq!(
                matches!(found.device(), Device::Cpu),
                matches!(x.device(), Device::Cpu)
            );
            flat(found)
        });
        [flat(&out)].into_iter().chain(found).collect()
    };
    let device = Device::Cuda(Arc::clone(gpu));
    let (expected, found) = (run(&Device::Cpu), run(&device));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        close(&format!("{name}, {i}"), found, expected, bound);
    }
    assert_eq!(found, run(&device), "{name}: other bits");
}

pub(crate) fn same(
    name: &str,
    inputs: (&[Input], usize),
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    same_on(gpu(), name, inputs, 5e-6, op);
}

/// Random values of a shape.
pub(crate) fn values(shape: &[usize], seed: u64) -> Input {
    (random(shape.iter().product(), seed), shape.to_vec())
}

/// As the device rounds.
pub(crate) fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()
}

pub(crate) fn wide(values: Vec<bf16>) -> Vec<f32> {
    values.into_iter().map(bf16::to_f32).collect()
}
