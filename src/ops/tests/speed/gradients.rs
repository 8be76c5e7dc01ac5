//! Gradients.

use super::{ROWS, time, zeros};
use crate::ops::Held;
use crate::ops::cuda::testing::{gpu, random, whole};
use crate::ops::gate::cuda::gate_slopes;
use crate::ops::linear::cuda::{Linear, to_weight};
use crate::ops::long_conv::cuda::{Convolved, FilterTaps, Form, LongConv};
use crate::ops::norm::cuda::rms_norm_backward;
use crate::ops::selective_scan::cuda::{ScanInputs, SelectiveScan};
use crate::ops::short_conv::cuda::ShortConv;
use crate::ops::sums::cuda::column_sums;
use crate::ops::tensor::cuda::convert;
use crate::ops::{Activation, TapRows};
use crate::sequence::Segment;
use half::bf16;
use std::sync::Arc;

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_rows() {
    let gpu = gpu();
    let (rows, d) = (ROWS / 8, 128);
    let (x, grad, w) = (zeros(rows * d), zeros(rows * d), zeros(d));
    time("rms norm backward 128", rows, 20 * d, 0, || {
        rms_norm_backward(gpu, &grad, &x, &w, 0.0, 1e-6).unwrap();
    });
    time("column sums 128", rows, 4 * d, 0, || {
        column_sums(gpu, &x, d).unwrap();
    });
    let wide = zeros(rows * 3 * d);
    time(
        "gate backward, two of three blocks",
        rows,
        24 * d,
        0,
        || {
            let factors = ((1, (&wide, 2)), Some((2, (&wide, 1))));
            gate_slopes(gpu, &grad, factors, d, 3).unwrap();
        },
    );
    let rounded = convert::<bf16>(gpu, &grad).unwrap();
    let rounded_wide = convert::<bf16>(gpu, &wide).unwrap();
    for half in [false, true] {
        let flops = 6 * d * d;
        let layer = Linear::new(
            gpu,
            Held::F32(&random(3 * d * d, 1)),
            [3 * d, d],
            None,
            half,
        )
        .unwrap();
        let bytes = if half { 10 } else { 16 };
        time(
            &format!("to input 384 128, rounded {half}"),
            rows,
            bytes * d,
            flops,
            || {
                if half {
                    layer.to_input(&rounded_wide).unwrap()
                } else {
                    layer.to_input(&wide).unwrap()
                };
            },
        );
        let bytes = if half { 8 } else { 16 };
        time(
            &format!("to weight 384 128, rounded {half}"),
            rows,
            bytes * d,
            flops,
            || {
                if half {
                    to_weight(gpu, &rounded_wide, &rounded, [3 * d, d]).unwrap()
                } else {
                    to_weight(gpu, &wide, &x, [3 * d, d]).unwrap()
                };
            },
        );
    }
    for (channels, taps) in [(3 * d, 3), (d, 7), (d, 128)] {
        let (x, grad) = (zeros(rows * channels), zeros(rows * channels));
        let weight = random(channels * taps, 1);
        let bias = vec![0.0; channels];
        let none = Activation::None;
        let conv = ShortConv::new(gpu, &weight, taps, &bias, none, false).unwrap();
        let mut tail = conv.start(1).unwrap();
        let segments = [whole(rows)];
        let flops = 2 * channels * taps;
        time(
            &format!("short conv {channels} x {taps}"),
            rows,
            8 * channels,
            flops,
            || {
                conv.forward::<f32>(&x, &mut tail, &segments, &[]).unwrap();
            },
        );
        time(
            &format!("short conv {channels} x {taps}, to input"),
            rows,
            8 * channels,
            flops,
            || {
                let wanted = [false; 2];
                conv.backward(&grad, &x, &tail, &segments, wanted).unwrap();
            },
        );
        time(
            &format!("short conv {channels} x {taps}, to input and taps"),
            rows,
            16 * channels,
            2 * flops,
            || {
                let wanted = [true, false];
                conv.backward(&grad, &x, &tail, &segments, wanted).unwrap();
            },
        );
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_sequence_mixers() {
    let gpu = gpu();
    let rows = ROWS / 16;
    let sequences = |len: usize| {
        vec![
            Segment {
                starts: true,
                ..whole(len)
            };
            rows / len
        ]
    };
    let (i, n, r) = (512, 16, 16);
    let weights = [i * n, i, i * r, i].map(|len| random(len, 1));
    let [a_log, skip, weight, bias] = weights.each_ref().map(Vec::as_slice);
    let scan = SelectiveScan::new(gpu, a_log, skip, weight, bias, false).unwrap();
    let (u, projected, gate) = (zeros(rows * i), zeros(rows * (r + 2 * n)), zeros(rows * i));
    let io = ScanInputs {
        u: (&u).into(),
        projected: &projected,
        added: None,
        gate: Some((&gate).into()),
    };
    for len in [1 << 10, rows] {
        let segments = sequences(len);
        let mut hidden = scan.start(1).unwrap();
        time(
            &format!("scan {i} {n} {r}, {len}"),
            rows,
            16 * i,
            8 * i * n,
            || {
                scan.forward::<f32>(&io, &mut hidden, &segments).unwrap();
            },
        );
        let (_, starts) = scan.forward::<f32>(&io, &mut hidden, &segments).unwrap();
        time(
            &format!("scan {i} {n} {r}, {len}, backward"),
            rows,
            32 * i,
            28 * i * n,
            || {
                scan.backward(&u, &io, &starts, &segments).unwrap();
            },
        );
    }
    let d = 256;
    let (x, grad) = (zeros(rows * 3 * d), zeros(rows * d));
    for length in [1 << 10, 1 << 15] {
        let segments = sequences(length);
        let taps = random(d * length, 1);
        let stored = taps.clone();
        let host = Arc::new(move |n: usize| {
            let stored = stored.clone();
            let rows = move |channels: std::ops::Range<usize>| {
                let rows = channels.map(|c| &stored[c * length..][..n]);
                rows.flatten().copied().collect::<Vec<f32>>()
            };
            Box::new(rows) as Box<TapRows>
        });
        let (bias, host) = (random(d, 2), FilterTaps::Host(host));
        let room = Arc::new((1 << 30).into());
        let conv = LongConv::new(gpu, length, &bias, host, room, 1 << 30, Form::of(gpu)).unwrap();
        let (mut past, before) = (conv.start(1), conv.start(1));
        time(&format!("long conv {length}"), rows, 16 * d, 0, || {
            conv.forward::<f32>((&x).into(), &mut past, &segments)
                .unwrap();
        });
        let taps = gpu.upload(&taps).unwrap();
        let io = Convolved {
            x: &x,
            sums: &grad,
            taps: &taps,
            before: Some(&before),
            turn: length,
        };
        time(
            &format!("long conv {length}, backward"),
            rows,
            32 * d,
            0,
            || {
                conv.backward(&grad, &io, &segments).unwrap();
            },
        );
    }
}
