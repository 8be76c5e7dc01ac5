use super::*;
use crate::ops::Device;
use crate::ops::check::{check, close, random, wide};
use crate::ops::{Attention, Reach};
use rand::{SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, StandardNormal};

const HEADS: usize = 2;
const WIDTH: usize = 4;
const D: usize = HEADS * WIDTH;
const ROWS_USED: usize = 2 * ROWS + 9;

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let rng = StdRng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(count).collect()
}

fn performer(features: usize) -> (Vec<f32>, Performer) {
    let values = normal(features * WIDTH, 1);
    let tensor = Tensor::from_slice(&values, (features, WIDTH), &Device::Cpu).unwrap();
    (values, Performer::new(HEADS, &tensor, None).unwrap())
}

fn input() -> (Vec<f32>, Tensor) {
    let x = normal(ROWS_USED * 3 * D, 2);
    let tensor = Tensor::from_slice(&x, (ROWS_USED, 3 * D), &Device::Cpu).unwrap();
    (x, tensor)
}

fn piece(len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane: 0,
        len,
        starts,
        ends,
    }
}

fn whole(performer: &Performer, x: &Tensor) -> Vec<Vec<f32>> {
    let mut sums = performer.start(1);
    let out = performer.forward(x, &mut sums, &[piece(ROWS_USED, true, true)]);
    out.unwrap().to_vec2().unwrap()
}

#[test]
fn whole_sequences_equal_a_plain_f64_loop() {
    let (w, performer) = performer(10);
    let (x, tensor) = input();
    let found = whole(&performer, &tensor);
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    for (found, expected) in found.concat().into_iter().zip(plain(&x, &w, 0)) {
        assert!((f64::from(found) - expected).abs() < 1e-5);
    }
}

#[test]
fn many_features_come_close_to_softmax_attention() {
    let tensor = input().1.affine(0.5, 0.0).unwrap();
    let attention = Attention::new(HEADS, WIDTH, Reach::Causal, None);
    let segments = [piece(ROWS_USED, true, true)];
    let exact = attention
        .forward(&tensor, &mut attention.start(1), &segments)
        .unwrap();
    let exact = exact.to_vec2::<f32>().unwrap();
    let error = |features| {
        let found = whole(&performer(features).1, &tensor);
        let pairs = found.iter().flatten().zip(exact.iter().flatten());
        (pairs.map(|(a, b)| (a - b).powi(2)).sum::<f32>() / (ROWS_USED * D) as f32).sqrt()
    };
    let errors = [16, 256, 4096].map(error);
    assert!(
        errors[2] < 0.01 && errors[2] < errors[1] / 2.0 && errors[1] < errors[0] / 2.0,
        "{errors:?}"
    );
}

#[test]
fn a_lane_continues_where_it_was_and_a_clone_leaves_the_original() {
    let (_, performer) = performer(10);
    let (_, x) = input();
    let expected = whole(&performer, &x);
    let mut sums = performer.start(1);
    let mut found = Vec::new();
    for (from, len) in [(0, 1), (1, 150), (151, ROWS_USED - 151)] {
        let segment = piece(len, from == 0, from + len == ROWS_USED);
        let step = x.narrow(0, from, len).unwrap();
        performer
            .forward(&x, &mut sums.clone(), &[piece(ROWS_USED, false, false)])
            .unwrap();
        let out = performer.forward(&step, &mut sums, &[segment]).unwrap();
        found.extend(out.to_vec2::<f32>().unwrap());
    }
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < 1e-5);
    }
}

/// A plain loop in f64 over one sequence, rows `from..` of `[q | k | v]` given back.
fn plain(x: &[f64], w: &[f32], from: usize) -> Vec<f64> {
    let rows = x.len() / (3 * D);
    let part = |t: usize, part: usize, head: usize| -> Vec<f64> {
        x[t * 3 * D + part * D + head * WIDTH..][..WIDTH].to_vec()
    };
    let phi = |x: Vec<f64>, key: bool| -> Vec<f64> {
        let x: Vec<f64> = x.iter().map(|x| x / (WIDTH as f64).powf(0.25)).collect();
        let dots = w.chunks(WIDTH);
        let dots = dots.map(|w| w.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum());
        let dots: Vec<f64> = dots.collect();
        let less = if key {
            x.iter().map(|x| x * x).sum::<f64>() / 2.0
        } else {
            dots.iter().copied().fold(f64::MIN, f64::max)
        };
        dots.iter()
            .map(|dot| (dot - less).exp() + f64::from(EPS))
            .collect()
    };
    let mut out = vec![0.0; (rows - from) * D];
    for head in 0..HEADS {
        for t in from..rows {
            let q = phi(part(t, 0, head), false);
            let weight = |s: usize| -> f64 {
                let k = phi(part(s, 1, head), true);
                q.iter().zip(k).map(|(q, k)| q * k).sum()
            };
            let weights: Vec<f64> = (0..=t).map(weight).collect();
            let all: f64 = weights.iter().sum();
            for i in 0..WIDTH {
                let terms = weights.iter().enumerate();
                let sum: f64 = terms.map(|(s, weight)| weight * part(s, 2, head)[i]).sum();
                out[(t - from) * D + head * WIDTH + i] = sum / all;
            }
        }
    }
    out
}

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    let (w, performer) = performer(6);
    let inputs = [random(&[15, 3 * D], 1).affine(1.5, 0.0).unwrap()];
    let segments = [piece(3, true, true), piece(12, true, true)];
    let op = |x: &[Tensor]| performer.forward(&x[0], &mut performer.start(1), &segments);
    check(&inputs, 1e-4, op, |x| {
        let (first, second) = x[0].split_at(3 * 3 * D);
        [plain(first, &w, 0), plain(second, &w, 0)].concat()
    });
}

#[test]
fn what_a_sequence_carried_in_is_a_constant() {
    let (w, performer) = performer(6);
    let carried = random(&[9, 3 * D], 3);
    let inputs = [random(&[8, 3 * D], 1)];
    let op = |x: &[Tensor]| {
        let mut sums = performer.start(1);
        // Even if a gradient could pass to it.
        performer.forward(&carried.parameter(), &mut sums, &[piece(9, true, false)])?;
        performer.forward(&x[0], &mut sums, &[piece(8, false, false)])
    };
    check(&inputs, 1e-4, op, |x| {
        plain(&[&wide(&carried), &x[0][..]].concat(), &w, 9)
    });
}

/// With rotation, and long enough for several tiles: from differences along one random direction.
#[test]
fn tiles_leave_nothing_out() {
    let rows = 2 * ROWS + 40;
    let (w, mut performer) = performer(6);
    let (x, along, seed) = (
        random(&[rows, 3 * D], 1),
        random(&[rows, 3 * D], 2),
        random(&[rows, D], 3),
    );
    let gradient = |performer: &Performer| {
        let parameter = x.parameter();
        let out = performer.forward(
            &parameter,
            &mut performer.start(1),
            &[piece(rows, true, true)],
        );
        let gradients = out.unwrap().backward(seed.clone()).unwrap();
        wide(gradients.of(&parameter).unwrap())
    };
    let found = gradient(&performer);
    let (x64, along) = (wide(&x), wide(&along));
    let loss = |step: f64| -> f64 {
        let x: Vec<f64> = x64.iter().zip(&along).map(|(x, a)| x + step * a).collect();
        let y = plain(&x, &w, 0);
        y.iter().zip(wide(&seed)).map(|(y, seed)| y * seed).sum()
    };
    let expected = (loss(1e-5) - loss(-1e-5)) / 2e-5;
    let found: f64 = found.iter().zip(&along).map(|(g, a)| g * a).sum();
    close("along", &[found], &[expected], 1e-4);
    // Turned by no angle, and back.
    performer.rotary = Some(Rotary::new(WIDTH, 1e4, 1e30));
    let turned: f64 = gradient(&performer)
        .iter()
        .zip(&along)
        .map(|(g, a)| g * a)
        .sum();
    close("turned", &[turned], &[expected], 1e-4);
}
