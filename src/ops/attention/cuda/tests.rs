//! Attention and its gradients.

use super::*;
use crate::ops::cuda::testing::*;
use crate::ops::{self, Reach, Rotary};
use crate::ops::{Device, Tensor};

fn attention(
    heads: usize,
    width: usize,
    reach: Reach,
    window: Option<usize>,
    turned: bool,
) -> ops::Attention {
    let rotary = turned.then(|| Rotary::new(width, 10_000.0, 4.0));
    let mut attention = ops::Attention::new(heads, width, reach, rotary);
    attention.set_window(window);
    attention
}

/// Queries and keys of a few units, so that some weights are close to one.
fn input(rows: usize, d: usize, seed: u64) -> Tensor {
    let values: Vec<f32> = random(rows * 3 * d, seed).iter().map(|x| 2.0 * x).collect();
    tensor(&values, &[rows, 3 * d])
}

fn check(heads: usize, width: usize, window: Option<usize>, turned: bool, most: usize) {
    let attention = attention(heads, width, Reach::Causal, window, turned);
    let name = format!("attention {heads} {width} {window:?}");
    check_steps(&name, &attention, gpu(), heads * width, most, 1e-5);
}

/// Of sequences in pieces of at most `most`, beside others.
fn check_steps(
    name: &str,
    attention: &ops::Attention,
    gpu: &Arc<Gpu>,
    d: usize,
    most: usize,
    bound: f32,
) {
    let device = Device::Cuda(Arc::clone(gpu));
    let (mut cache, mut cpu_cache) = (attention.start(3), attention.start(3));
    for (i, segments) in steps(most, 5).into_iter().enumerate() {
        let x = input(total(&segments), d, i as u64);
        let expected = attention.forward(&x, &mut cpu_cache, &segments).unwrap();
        let x = x.to_device(&device).unwrap();
        // A clone that runs on with something else leaves ours as it was.
        let mut fork = cache.clone();
        attention.forward(&x, &mut fork, &segments).unwrap();
        let found = attention.forward(&x, &mut cache, &segments).unwrap();
        close(name, &flat(&found), &flat(&expected), bound);
    }
}

/// What rounding leaves of attention, relative to the largest magnitude: bfloat16 has 8 bits.
const ROUNDED: f32 = 1.5e-2;

fn check_rounded(heads: usize, width: usize, window: Option<usize>, most: usize) {
    for portable in [false, true] {
        let attention = attention(heads, width, Reach::Causal, window, true);
        if portable {
            attention.make_portable(rounded_gpu()).unwrap();
        }
        let name = format!("rounded attention {heads} {width} {window:?}, portable: {portable}");
        check_steps(
            &name,
            &attention,
            rounded_gpu(),
            heads * width,
            most,
            ROUNDED,
        );
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn causal_attention_equals_the_cpu_s() {
    check(4, 32, Some(256), true, 400);
    check(2, 32, None, true, 300);
    check(1, 16, Some(70), true, 200);
    check(2, 64, Some(100), true, 200);
    check(1, 128, Some(90), true, 150);
    check(2, 6, Some(1), true, 100);
    check(3, 20, Some(7), false, 100);
    check(1, 96, None, true, 80);
    check(1, 256, Some(300), true, 150);
    // Beyond a page, and a window over several.
    check(1, 16, None, true, 700);
    check(1, 16, Some(1100), true, 700);
}

#[test]
#[ignore = "needs a CUDA device"]
fn rounded_attention_equals_the_cpu_s_up_to_rounding() {
    check_rounded(2, 32, None, 300);
    check_rounded(1, 128, None, 150);
    check_rounded(2, 128, Some(90), 150);
    check_rounded(3, 64, Some(1), 100);
    check_rounded(1, 16, Some(1100), 700);
    check_rounded(2, 24, Some(70), 200);
    check_rounded(1, 96, Some(256), 300);
    check_rounded(1, 256, Some(100), 150);
    // Heads that tensor cores do not take.
    check_rounded(2, 6, Some(40), 100);
}

#[test]
#[ignore = "needs a CUDA device"]
fn attention_of_numbers_that_bf16_has_is_rounded_only_in_weights_and_output() {
    let device = Device::Cuda(Arc::clone(rounded_gpu()));
    for (heads, width) in [(2, 32), (1, 64), (2, 128), (1, 256)] {
        for reach in [Reach::Causal, Reach::Bidirectional] {
            let attention = attention(heads, width, reach, None, false);
            let segments = [70, 1, 300, 128].map(|len| Segment {
                lane: 0,
                len,
                starts: true,
                ends: true,
            });
            let x = flat(&input(total(&segments), heads * width, 3));
            let x: Vec<f32> = x
                .iter()
                .map(|&x| half::bf16::from_f32(x).to_f32())
                .collect();
            let x = tensor(&x, &[total(&segments), 3 * heads * width]);
            let mut cache = attention.start(1);
            let expected = attention.forward(&x, &mut cache, &segments).unwrap();
            let x = x.to_device(&device).unwrap();
            let found = attention.forward(&x, &mut cache, &segments).unwrap();
            let name = format!("attention of bf16 {heads} {width} {reach:?}");
            close(&name, &flat(&found), &flat(&expected), 6e-3);
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_gradient_follows_steps_that_were_rounded() {
    let device = Device::Cuda(Arc::clone(rounded_gpu()));
    let attention = attention(2, 32, Reach::Causal, Some(100), true);
    let (mut cache, mut cpu_cache) = (attention.start(1), attention.start(1));
    let piece = |starts| Segment {
        lane: 0,
        len: 130,
        starts,
        ends: false,
    };
    let first = input(130, 64, 1);
    attention
        .forward(&first, &mut cpu_cache, &[piece(true)])
        .unwrap();
    let first = first.to_device(&device).unwrap();
    attention
        .forward(&first, &mut cache, &[piece(true)])
        .unwrap();
    let (x, slope) = (input(130, 64, 2), tensor(&random(130 * 64, 3), &[130, 64]));
    let gradient = |x: Tensor, cache: &mut ops::Cache, slope: Tensor| {
        let x = x.parameter();
        let out = attention.forward(&x, cache, &[piece(false)]).unwrap();
        flat(out.backward(slope).unwrap().of(&x).unwrap())
    };
    let expected = gradient(x.clone(), &mut cpu_cache, slope.clone());
    let on_gpu = [x, slope].map(|x| x.to_device(&device).unwrap());
    let [x, slope] = on_gpu;
    let found = gradient(x, &mut cache, slope);
    close("gradient behind rounded keys", &found, &expected, ROUNDED);
}

#[test]
#[ignore = "needs a CUDA device"]
fn keys_and_values_are_stored_and_restored() {
    for gpu in [gpu(), rounded_gpu()] {
        let device = Device::Cuda(Arc::clone(gpu));
        let attention = attention(2, 32, Reach::Causal, Some(600), true);
        let mut cache = attention.start(2);
        let piece = |lane, starts| Segment {
            lane,
            len: 700,
            starts,
            ends: false,
        };
        let step = |segment, seed, cache: &mut ops::Cache| {
            let x = input(700, 64, seed).to_device(&device).unwrap();
            flat(&attention.forward(&x, cache, &[segment]).unwrap())
        };
        step(piece(1, true), 1, &mut cache);
        let stored = postcard::to_allocvec(&cache).unwrap();
        let expected = step(piece(1, false), 2, &mut cache);
        let mut restored: ops::Cache = postcard::from_bytes(&stored).unwrap();
        assert!(expected == step(piece(1, false), 2, &mut restored));
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn branches_of_attention_are_what_their_sequences_would_be() {
    for (heads, width, window, most) in [
        (2, 32, Some(50), 120),
        (1, 16, Some(1), 40),
        (2, 20, None, 90),
        (1, 128, Some(300), 60),
    ] {
        check_branches([heads, width], window, most, (gpu(), 1e-5));
        check_branches([heads, width], window, most, (rounded_gpu(), ROUNDED));
    }
}

/// Every other step is one without branches, which reads the keys that the one before kept.
fn check_branches(
    [heads, width]: [usize; 2],
    window: Option<usize>,
    most: usize,
    (gpu, bound): (&Arc<Gpu>, f32),
) {
    let (device, d) = (Device::Cuda(Arc::clone(gpu)), heads * width);
    let attention = attention(heads, width, Reach::Causal, window, true);
    let (mut cache, mut cpu_cache) = (attention.start(3), attention.start(3));
    for (i, segments) in steps(most, 5).into_iter().enumerate() {
        let mut branches = branches(&segments, 70, i as u64);
        branches.retain(|_| i % 2 == 0);
        let rows = total(&segments);
        let more: usize = branches.iter().map(|branch| branch.len).sum();
        let x = flat(&input(rows + more, d, i as u64));
        let before = cpu_cache.clone();
        let run = |x: &[f32], cache: &mut ops::Cache, segments: &[Segment]| {
            let x = tensor(x, &[x.len() / 3 / d, 3 * d]);
            flat(&attention.forward(&x, cache, segments).unwrap())
        };
        let mut expected = run(&x[..rows * 3 * d], &mut cpu_cache, &segments);
        expected.extend(as_sequences(&x, &segments, &branches, |x, segment| {
            run(x, &mut before.clone(), &[segment])
        }));
        let x = tensor(&x, &[rows + more, 3 * d])
            .to_device(&device)
            .unwrap();
        let found = attention.forward_branched(&x, &mut cache, &segments, &branches);
        let rounded = gpu.rounded();
        let name = format!("attention {heads} {width} {window:?}, branches, rounded: {rounded}");
        close(&name, &flat(&found.unwrap()), &expected, bound);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn bidirectional_attention_equals_the_cpu_s() {
    let device = Device::Cuda(Arc::clone(gpu()));
    for window in [None, Some(1), Some(50)] {
        let attention = attention(2, 32, Reach::Bidirectional, window, true);
        let segments = [200, 1, 67].map(|len| Segment {
            lane: 0,
            len,
            starts: true,
            ends: true,
        });
        let x = input(total(&segments), 64, 3);
        let mut cache = attention.start(1);
        let expected = attention.forward(&x, &mut cache, &segments).unwrap();
        let x = x.to_device(&device).unwrap();
        let found = attention.forward(&x, &mut cache, &segments).unwrap();
        let name = format!("bidirectional attention, {window:?}");
        close(&name, &flat(&found), &flat(&expected), 1e-5);
    }
}

/// The gradient of `Σ attention(x) · slope` to the rows of the last segment of one sequence, whose
/// `known` rows before it are constants: differences of a plain f64 loop would be of little use
/// here, so the chain rule in f64.
fn plain(
    [heads, width]: [usize; 2],
    reach: Reach,
    window: usize,
    (x, known): (&[f64], usize),
    slope: &[f64],
) -> Vec<f64> {
    let d = heads * width;
    let rows = x.len() / (3 * d);
    let angle = |row: usize, pair: usize| {
        row as f64 / 4.0 * 10_000f64.powf(-2.0 * pair as f64 / width as f64)
    };
    // Turned by ±angle, in place.
    let turn = |x: &mut [f64], sign: f64| {
        for (row, x) in x.chunks_exact_mut(3 * d).enumerate() {
            for head in x[..2 * d].chunks_exact_mut(width) {
                for i in 0..width / 2 {
                    let (low, high) = (head[i], head[i + width / 2]);
                    let (s, c) = (sign * angle(row, i)).sin_cos();
                    head[i] = low * c - high * s;
                    head[i + width / 2] = low * s + high * c;
                }
            }
        }
    };
    let mut x = x.to_vec();
    turn(&mut x, 1.0);
    let mut back = vec![0.0; x.len()];
    let scale = 1.0 / (width as f64).sqrt();
    for head in 0..heads {
        let at = |part: usize, row: usize| row * 3 * d + part * d + head * width;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for p in known..rows {
            let seen: Vec<usize> = (0..rows)
                .filter(|key| reach == Reach::Bidirectional || *key <= p)
                .filter(|key| key.abs_diff(p) < window)
                .collect();
            let part = |part: usize, row: usize| &x[at(part, row)..][..width];
            let scores = seen
                .iter()
                .map(|&key| (scale * dot(part(0, p), part(1, key))).exp());
            let scores: Vec<f64> = scores.collect();
            let sum: f64 = scores.iter().sum();
            let slope = &slope[(p - known) * d + head * width..][..width];
            let weights: Vec<f64> = scores.iter().map(|score| score / sum).collect();
            let to_weights: Vec<f64> = seen.iter().map(|&key| dot(slope, part(2, key))).collect();
            let mean = dot(&weights, &to_weights);
            for ((&key, weight), to) in seen.iter().zip(&weights).zip(&to_weights) {
                let to_score = scale * weight * (to - mean);
                for i in 0..width {
                    back[at(0, p) + i] += to_score * x[at(1, key) + i];
                    back[at(1, key) + i] += to_score * x[at(0, p) + i];
                    back[at(2, key) + i] += weight * slope[i];
                }
            }
        }
    }
    turn(&mut back, -1.0);
    back.split_off(known * 3 * d)
}

fn check_gradient(heads: usize, width: usize, reach: Reach, window: Option<usize>, known: usize) {
    let (device, d) = (Device::Cuda(Arc::clone(gpu())), heads * width);
    let attention = attention(heads, width, reach, window, true);
    let segment = |lane: usize, len: usize, starts: bool, ends: bool| Segment {
        lane,
        len,
        starts,
        ends,
    };
    let mut cache = attention.start(2);
    let before = input(known, d, 1);
    if known > 0 {
        let on_gpu = before.to_device(&device).unwrap();
        let first = segment(1, known, true, false);
        attention.forward(&on_gpu, &mut cache, &[first]).unwrap();
    }
    // Another sequence, and ours to its end: then the lane is another's.
    let lens = [35, 150];
    let segments = [
        segment(0, lens[0], true, true),
        segment(1, lens[1], known == 0, true),
    ];
    let x = input(lens[0] + lens[1], d, 2);
    let slope = random((lens[0] + lens[1]) * d, 3);
    let leaf = x.to_device(&device).unwrap().parameter();
    let out = attention.forward(&leaf, &mut cache, &segments).unwrap();
    if reach == Reach::Causal {
        let after = segment(1, 80, true, false);
        let other = input(80, d, 4).to_device(&device).unwrap();
        attention.forward(&other, &mut cache, &[after]).unwrap();
    }
    let seed = || {
        tensor(&slope, &[lens[0] + lens[1], d])
            .to_device(&device)
            .unwrap()
    };
    let gradients = out.backward(seed()).unwrap();
    let found = flat(gradients.of(&leaf).unwrap());

    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let (x, before, slope) = (wide(&flat(&x)), wide(&flat(&before)), wide(&slope));
    let window = window.unwrap_or(usize::MAX);
    let (neighbour, ours) = x.split_at(lens[0] * 3 * d);
    let (above, below) = slope.split_at(lens[0] * d);
    let mut expected = plain([heads, width], reach, window, (neighbour, 0), above);
    let whole = [&before, ours].concat();
    expected.extend(plain([heads, width], reach, window, (&whole, known), below));
    let expected: Vec<f32> = expected.into_iter().map(|x| x as f32).collect();
    let name = format!("gradient of attention {heads} {width} {reach:?} {window} {known}");
    close(&name, &found, &expected, 2e-5);
    let again = out.backward(seed()).unwrap();
    assert!(
        found == flat(again.of(&leaf).unwrap()),
        "{name}: other bits"
    );
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_attention_equal_a_plain_f64_loop() {
    check_gradient(4, 32, Reach::Causal, Some(64), 100);
    check_gradient(2, 32, Reach::Causal, None, 70);
    check_gradient(1, 64, Reach::Causal, Some(30), 0);
    check_gradient(1, 128, Reach::Causal, Some(40), 50);
    check_gradient(2, 6, Reach::Causal, Some(5), 9);
    check_gradient(2, 16, Reach::Bidirectional, None, 0);
    check_gradient(2, 32, Reach::Bidirectional, Some(20), 0);
}
