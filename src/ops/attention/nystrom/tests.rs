use super::*;
use crate::ops::Device;
use crate::ops::check::{check, close, random, wide};

const HEADS: usize = 2;
const WIDTH: usize = 4;
const D: usize = HEADS * WIDTH;
const TAPS: usize = 3;

type Dense = Vec<Vec<f64>>;

fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * i % 1013) as f32 * 0.7 + seed).sin() * 1.5)
        .collect()
}

fn dense_product(x: &Dense, y: &Dense) -> Dense {
    let row = |x: &Vec<f64>| {
        (0..y[0].len())
            .map(|j| x.iter().zip(y).map(|(x, y)| x * y[j]).sum())
            .collect()
    };
    x.iter().map(row).collect()
}

fn transposed(x: &Dense) -> Dense {
    (0..x[0].len())
        .map(|j| x.iter().map(|row| row[j]).collect())
        .collect()
}

fn attention(q: &Dense, k: &Dense) -> Dense {
    let scores = dense_product(q, &transposed(k));
    let row = |row: &Vec<f64>| {
        let weights: Vec<f64> = row
            .iter()
            .map(|x| (x / (WIDTH as f64).sqrt()).exp())
            .collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    };
    scores.iter().map(row).collect()
}

/// `c I − x`
fn less(c: f64, x: &Dense) -> Dense {
    let value = |i, j| f64::from(u8::from(i == j)) * c;
    let row = |(i, row): (usize, &Vec<f64>)| {
        row.iter()
            .enumerate()
            .map(|(j, x)| value(i, j) - x)
            .collect()
    };
    x.iter().enumerate().map(row).collect()
}

fn inverse(a: &Dense) -> Dense {
    let norm = |x: &Dense| {
        x.iter()
            .map(|row| row.iter().map(|x| x.abs()).sum::<f64>())
            .fold(0.0, f64::max)
    };
    let scale = norm(a) * norm(&transposed(a));
    let scaled = |x: &Dense, by: f64| -> Dense {
        x.iter()
            .map(|row| row.iter().map(|x| x * by).collect())
            .collect()
    };
    let mut z = scaled(&transposed(a), 1.0 / scale);
    for _ in 0..6 {
        let az = dense_product(a, &z);
        let inner = less(15.0, &dense_product(&az, &less(7.0, &az)));
        z = scaled(
            &dense_product(&z, &less(13.0, &dense_product(&az, &inner))),
            0.25,
        );
    }
    z
}

#[test]
fn whole_sequences_equal_the_formula_in_f64() {
    let conv = values(HEADS * TAPS, 0.4);
    let tensor = Tensor::from_slice(&conv, (HEADS, 1, TAPS), &Device::Cpu).unwrap();
    for (rows, landmarks) in [(5, 8), (1, 2), (3 * ROWS + 5, 8), (70, 7)] {
        let nystrom = Nystrom::new(WIDTH, landmarks, &tensor, None).unwrap();
        // Another sequence goes before.
        let x = values((rows + 3) * 3 * D, 0.1);
        let step = Tensor::from_slice(&x, (rows + 3, 3 * D), &Device::Cpu).unwrap();
        let found = nystrom
            .forward(&step, &[3, rows].map(whole_segment))
            .unwrap();
        let found = found.narrow(0, 3, rows).unwrap().to_vec2::<f32>().unwrap();
        let x: Vec<f64> = x[3 * 3 * D..].iter().map(|&x| f64::from(x)).collect();
        let conv: Vec<f64> = conv.iter().map(|&x| f64::from(x)).collect();
        let expected = plain(&x, &conv, landmarks);
        for (found, expected) in found.concat().into_iter().zip(expected) {
            assert!(
                (f64::from(found) - expected).abs() < 1e-4,
                "{rows}: {found} {expected}"
            );
        }
    }
}

/// The formula in f64, of a whole sequence of `[q | k | v]` with these taps.
fn plain(x: &[f64], conv: &[f64], landmarks: usize) -> Vec<f64> {
    let rows = x.len() / (3 * D);
    let m = landmarks.min(rows);
    let mut out = vec![0.0; rows * D];
    for head in 0..HEADS {
        let part = |part: usize| -> Dense {
            let at = |t: usize| t * 3 * D + part * D + head * WIDTH;
            (0..rows).map(|t| x[at(t)..][..WIDTH].to_vec()).collect()
        };
        let [q, k, v] = [part(0), part(1), part(2)];
        let marks = |x: &Dense| -> Dense {
            let mean = |j: usize| {
                let run = &x[j * rows / m..(j + 1) * rows / m];
                let column = |i| run.iter().map(|row: &Vec<f64>| row[i]).sum::<f64>();
                (0..WIDTH).map(|i| column(i) / run.len() as f64).collect()
            };
            (0..m).map(mean).collect()
        };
        let (ql, kl) = (marks(&q), marks(&k));
        let seen = dense_product(&attention(&ql, &k), &v);
        let middle = dense_product(&inverse(&attention(&ql, &kl)), &seen);
        let far = dense_product(&attention(&q, &kl), &middle);
        for t in 0..rows {
            for i in 0..WIDTH {
                let near = (0..TAPS).filter(|j| (1..=rows).contains(&(t + j)));
                let near: f64 = near.map(|j| conv[head * TAPS + j] * v[t + j - 1][i]).sum();
                out[t * D + head * WIDTH + i] = far[t][i] + near;
            }
        }
    }
    out
}

fn whole_segment(len: usize) -> Segment {
    Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    }
}

#[test]
fn gradients_equal_differences_of_the_formula_in_f64() {
    for (rows, landmarks) in [(12, 4), (7, 3), (2, 8), (1, 2)] {
        let inputs = [
            random(&[3 + rows, 3 * D], 1).affine(1.5, 0.0).unwrap(),
            random(&[HEADS, 1, TAPS], 2),
        ];
        let segments = [3, rows].map(whole_segment);
        let op = |x: &[Tensor]| {
            let nystrom = Nystrom::new(WIDTH, landmarks, &x[1], None)?;
            nystrom.forward(&x[0], &segments)
        };
        check(&inputs, 2e-4, op, |x| {
            let (first, second) = x[0].split_at(3 * 3 * D);
            let parts = [first, second].map(|part| plain(part, &x[1], landmarks));
            parts.concat()
        });
    }
}

/// Several tiles of rows: along one random direction.
#[test]
fn tiles_leave_nothing_out() {
    let (rows, landmarks) = (ROWS + 50, 5);
    let conv = random(&[HEADS, 1, TAPS], 4);
    let (x, along, seed) = (
        random(&[rows, 3 * D], 1),
        random(&[rows, 3 * D], 2),
        random(&[rows, D], 3),
    );
    let rotary = Rotary::new(WIDTH, 1e4, 1e30); // by no angle, and back
    let nystrom = Nystrom::new(WIDTH, landmarks, &conv, Some(rotary)).unwrap();
    let parameter = x.parameter();
    let out = nystrom.forward(&parameter, &[whole_segment(rows)]).unwrap();
    let gradients = out.backward(seed.clone()).unwrap();
    let (x, along, conv) = (wide(&x), wide(&along), wide(&conv));
    let loss = |step: f64| -> f64 {
        let x: Vec<f64> = x.iter().zip(&along).map(|(x, a)| x + step * a).collect();
        let y = plain(&x, &conv, landmarks);
        y.iter().zip(wide(&seed)).map(|(y, seed)| y * seed).sum()
    };
    let expected = (loss(1e-5) - loss(-1e-5)) / 2e-5;
    let found = wide(gradients.of(&parameter).unwrap());
    let found: f64 = found.iter().zip(&along).map(|(g, a)| g * a).sum();
    close("along", &[found], &[expected], 2e-4);
}
