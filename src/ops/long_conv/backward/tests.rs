use crate::ops::TapRows;
use crate::ops::check::{check, close, random, values, wide};
use crate::ops::{LongConv, Tensor};
use crate::sequence::Segment;
use std::sync::Arc;

fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

/// A convolution with the filters `taps` (C, L).
fn conv(taps: &Tensor, bias: &Tensor) -> LongConv {
    let (_, length) = taps.dims2().unwrap();
    let stored = values(taps);
    let plain = move |n: usize| {
        let stored = stored.clone();
        let rows = move |channels: std::ops::Range<usize>| {
            let row = |c: usize| (0..n).map(move |j| (c, j));
            let at = |(c, j): (usize, usize)| {
                if j < length {
                    stored[c * length + j]
                } else {
                    0.0
                }
            };
            channels.flat_map(row).map(at).collect()
        };
        Box::new(rows) as Box<TapRows>
    };
    let conv = LongConv::new(length, bias, Arc::new(plain), 1 << 30).unwrap();
    if !taps.is_tracked() {
        return conv;
    }
    let taps = taps.clone();
    conv.differentiable(Arc::new(move |n, _| taps.narrow(1, 0, n)))
}

/// By the formula, for one segment of `rows`, with v of the rows before it.
fn plain(before: &[f64], x: &[f64], taps: &[f64], bias: &[f64]) -> Vec<f64> {
    let channels = bias.len();
    let length = taps.len() / channels;
    let products = x.chunks(3 * channels);
    let products =
        products.flat_map(|x| (0..channels).map(|c| x[channels + c] * x[2 * channels + c]));
    let v = [before.to_vec(), products.collect()].concat();
    let past = before.len() / channels;
    let mut out = Vec::new();
    for (t, row) in x.chunks(3 * channels).enumerate() {
        let t = past + t;
        for c in 0..channels {
            let terms =
                (0..=t.min(length - 1)).map(|s| taps[c * length + s] * v[(t - s) * channels + c]);
            out.push(row[c] * (terms.sum::<f64>() + bias[c] * v[t * channels + c]));
        }
    }
    out
}

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    // Lane 0 was left by a segment of 50 rows; then four segments share a step.
    for (channels, length) in [(3, 40), (2, 150)] {
        let carried = random(&[50, 3 * channels], 9);
        let segments = [
            segment(1, 3, true, true),
            segment(0, 17, false, false),
            segment(1, 70, true, false),
            segment(2, 9, true, true),
        ];
        let inputs = [
            random(&[99, 3 * channels], 1),
            random(&[channels, length], 2),
            random(&[channels], 3),
        ];
        let op = |x: &[Tensor]| {
            let conv = conv(&x[1], &x[2]);
            let mut past = conv.start(2);
            conv.forward(&carried, &mut past, &[segment(0, 50, true, false)])?;
            conv.forward(&x[0], &mut past, &segments)
        };
        let before: Vec<f64> = wide(&carried)
            .chunks(3 * channels)
            .flat_map(|x| {
                (0..channels)
                    .map(|c| x[channels + c] * x[2 * channels + c])
                    .collect::<Vec<_>>()
            })
            .collect();
        check(&inputs, 2e-5, op, |x| {
            let parts = [(0, 3), (3, 17), (20, 70), (90, 9)].map(|(from, len)| {
                let part = &x[0][from * 3 * channels..][..len * 3 * channels];
                plain(if from == 3 { &before } else { &[] }, part, &x[1], &x[2])
            });
            parts.concat()
        });
    }
}

#[test]
fn frozen_filters_let_gradients_through() {
    let (x, taps, bias) = (random(&[40, 12], 1), random(&[4, 64], 2), random(&[4], 3));
    let whole = [segment(0, 40, true, true)];
    let seed = random(&[40, 4], 4);
    let of_x = |taps: &Tensor| {
        let (x, conv) = (x.parameter(), conv(taps, &bias));
        let out = conv.forward(&x, &mut conv.start(1), &whole).unwrap();
        wide(out.backward(seed.clone()).unwrap().of(&x).unwrap())
    };
    close("x", &of_x(&taps), &of_x(&taps.parameter()), 1e-6);
}

#[test]
fn pieces_of_a_sequence_sum_to_the_filters_gradients_of_the_whole() {
    let (rows, channels, length) = (1500, 5, 1600);
    let x = random(&[rows, 3 * channels], 1);
    let taps = random(&[channels, length], 2).parameter();
    let bias = random(&[channels], 3).parameter();
    let seed = random(&[rows, channels], 4);
    let conv = conv(&taps, &bias);
    let gradients = |cuts: &[usize]| {
        let (mut past, mut from) = (conv.start(1), 0);
        let mut sums = [vec![0.0; channels * length], vec![0.0; channels]];
        for &to in cuts {
            let piece = [segment(0, to - from, from == 0, to == rows)];
            let x = x.narrow(0, from, to - from).unwrap();
            let out = conv.forward(&x, &mut past, &piece).unwrap();
            let seed = seed.narrow(0, from, to - from).unwrap();
            let found = out.backward(seed).unwrap();
            for (sum, parameter) in sums.iter_mut().zip([&taps, &bias]) {
                let part = wide(found.of(parameter).unwrap());
                sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
            from = to;
        }
        sums
    };
    let whole = gradients(&[rows]);
    for (found, expected) in gradients(&[1, 40, 700, 701, rows]).iter().zip(&whole) {
        close("filters", found, expected, 1e-5);
    }
}
