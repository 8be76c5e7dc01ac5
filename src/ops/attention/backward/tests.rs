use crate::error::Result;
use crate::ops::check::{check, close, random, wide};
use crate::ops::{Attention, Reach, Rotary, Tensor};
use crate::sequence::Segment;

const HEADS: usize = 2;
const WIDTH: usize = 4;
const D: usize = HEADS * WIDTH;

fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

fn attention(reach: Reach, window: Option<usize>) -> Attention {
    let rotary = Rotary::new(WIDTH, 100.0, 4.0);
    let mut attention = Attention::new(HEADS, WIDTH, reach, Some(rotary));
    attention.set_window(window);
    attention
}

/// Softmax attention of one sequence by its definition, rows `from..` of `[q | k | v]`.
fn plain(x: &[f64], from: usize, reach: Reach, window: Option<usize>) -> Vec<f64> {
    let rows = x.len() / (3 * D);
    let turned = |row: usize, first: usize, i: usize| {
        let pair = i % (WIDTH / 2);
        let angle = row as f64 / 4.0 * 100f64.powf(-2.0 * pair as f64 / WIDTH as f64);
        let low = x[row * 3 * D + first + pair];
        let high = x[row * 3 * D + first + pair + WIDTH / 2];
        if i == pair {
            low * angle.cos() - high * angle.sin()
        } else {
            low * angle.sin() + high * angle.cos()
        }
    };
    let mut out = vec![0.0; (rows - from) * D];
    for head in 0..HEADS {
        let all = |first: usize, from: usize| -> Vec<Vec<f64>> {
            let row = |row| {
                (0..WIDTH)
                    .map(|i| turned(row, first + head * WIDTH, i))
                    .collect()
            };
            (from..rows).map(row).collect()
        };
        let (queries, keys) = (all(0, from), all(D, 0));
        for (q, query) in queries.iter().enumerate() {
            let p = from + q;
            let seen = |key: &usize| {
                (reach == Reach::Bidirectional || *key <= p)
                    && window.is_none_or(|window| key.abs_diff(p) < window)
            };
            let seen: Vec<usize> = (0..rows).filter(seen).collect();
            let score = |key: &usize| {
                let dot: f64 = query.iter().zip(&keys[*key]).map(|(q, k)| q * k).sum();
                (dot / (WIDTH as f64).sqrt()).exp()
            };
            let weights: Vec<f64> = seen.iter().map(score).collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..WIDTH {
                let value = |key: usize| x[key * 3 * D + 2 * D + head * WIDTH + i];
                let terms = seen.iter().zip(&weights).map(|(key, w)| w * value(*key));
                out[q * D + head * WIDTH + i] = terms.sum::<f64>() / sum;
            }
        }
    }
    out
}

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    for reach in [Reach::Causal, Reach::Bidirectional] {
        for window in [None, Some(1), Some(5)] {
            let segments = [segment(0, 3, true, true), segment(0, 12, true, true)];
            let inputs = [random(&[15, 3 * D], 1).affine(2.0, 0.0).unwrap()];
            let op = |x: &[Tensor]| {
                let attention = attention(reach, window);
                attention.forward(&x[0], &mut attention.start(1), &segments)
            };
            check(&inputs, 5e-5, op, |x| {
                let (first, second) = x[0].split_at(3 * 3 * D);
                let parts = [first, second].map(|x| plain(x, 0, reach, window));
                parts.concat()
            });
        }
    }
}

#[test]
fn what_a_sequence_carried_in_is_a_constant() {
    for (window, before) in [(None, 9), (Some(4), 9), (None, 259)] {
        let carried = random(&[before, 3 * D], 3);
        let inputs = [random(&[10, 3 * D], 1)];
        let segments = [segment(0, 2, true, true), segment(1, 8, false, false)];
        let op = |x: &[Tensor]| {
            let attention = attention(Reach::Causal, window);
            let mut cache = attention.start(2);
            // Even if a gradient could pass to it.
            let first = carried.parameter();
            attention.forward(&first, &mut cache, &[segment(1, before, true, false)])?;
            attention.forward(&x[0], &mut cache, &segments)
        };
        check(&inputs, 5e-5, op, |x| {
            let (own, ours) = x[0].split_at(2 * 3 * D);
            let ours = [&wide(&carried), ours].concat();
            let (own, ours) = (
                plain(own, 0, Reach::Causal, window),
                plain(&ours, before, Reach::Causal, window),
            );
            [own, ours].concat()
        });
    }
}

/// Long enough for several tiles and pages: from differences along one random direction.
#[test]
fn tiles_and_pages_leave_nothing_out() {
    for (reach, window) in [
        (Reach::Causal, None),
        (Reach::Causal, Some(200)),
        (Reach::Bidirectional, None),
        (Reach::Bidirectional, Some(150)),
    ] {
        let rows = 700;
        let (x, along, seed) = (
            random(&[rows, 3 * D], 1),
            random(&[rows, 3 * D], 2),
            random(&[rows, D], 3),
        );
        let attention = attention(reach, window);
        let run = |x: &Tensor| -> Result<Tensor> {
            attention.forward(x, &mut attention.start(1), &[segment(0, rows, true, true)])
        };
        let parameter = x.parameter();
        let gradients = run(&parameter).unwrap().backward(seed.clone()).unwrap();
        let (x, along) = (wide(&x), wide(&along));
        let loss = |step: f64| -> f64 {
            let x: Vec<f64> = x.iter().zip(&along).map(|(x, a)| x + step * a).collect();
            let y = plain(&x, 0, reach, window);
            y.iter().zip(wide(&seed)).map(|(y, seed)| y * seed).sum()
        };
        let expected = (loss(1e-5) - loss(-1e-5)) / 2e-5;
        let found = wide(gradients.of(&parameter).unwrap());
        let found: f64 = found.iter().zip(&along).map(|(g, a)| g * a).sum();
        close("along", &[found], &[expected], 1e-4);
    }
}
