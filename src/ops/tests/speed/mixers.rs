//! Ops along the sequence.

use super::{ROWS, shapes, time, zeros};
use crate::ops::attention::cuda::Attention;
use crate::ops::cuda::testing::{gpu, random, whole};
use crate::ops::long_conv::cuda::{FilterNetwork, FilterTaps, Form, LongConv};
use crate::ops::modal::cuda::Modal;
use crate::ops::selective_scan::cuda::{ScanInputs, SelectiveScan};
use crate::ops::short_conv::cuda::ShortConv;
use crate::ops::ssd::cuda::Ssd;
use crate::ops::{Activation, SsdSizes};
use crate::sequence::Segment;
use half::bf16;
use std::sync::Arc;

#[test]
#[ignore = "needs a CUDA device"]
fn scans() {
    let gpu = gpu();
    for (i, n, r) in [(512, 16, 16), (1536, 16, 48)] {
        let conv = ShortConv::new(
            gpu,
            &random(4 * i, 1),
            4,
            &random(i, 2),
            Activation::Silu,
            false,
        )
        .unwrap();
        let rows = ROWS / (i / 512) / 256 * 256;
        let u = zeros(rows * i);
        let mut tail = conv.start(1).unwrap();
        time(&format!("short conv {i}"), rows, 8 * i, 8 * i, || {
            conv.forward::<f32>(&u, &mut tail, &[whole(rows)], &[])
                .unwrap();
        });
        let scan = SelectiveScan::new(
            gpu,
            &random(i * n, 1),
            &random(i, 2),
            &random(i * r, 3),
            &random(i, 4),
            false,
        )
        .unwrap();
        let (projected, gate) = (zeros(rows * (r + 2 * n)), zeros(rows * i));
        let mut hidden = scan.start(1).unwrap();
        for (name, segments) in [
            ("one chromosome", vec![whole(rows)]),
            (
                "reads of 256",
                vec![
                    Segment {
                        starts: true,
                        ends: true,
                        ..whole(256)
                    };
                    rows / 256
                ],
            ),
        ] {
            time(
                &format!("scan {i} {n} {r}, {name}"),
                rows,
                16 * i,
                8 * i * n,
                || {
                    let io = ScanInputs {
                        u: (&u).into(),
                        projected: &projected,
                        added: None,
                        gate: Some((&gate).into()),
                    };
                    scan.forward::<bf16>(&io, &mut hidden, &segments).unwrap();
                },
            );
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn long_convolutions() {
    let gpu = gpu();
    let d = 256;
    // As HyenaDNA's: two hidden layers of 64 after the first, five features.
    let filter = |length: usize| {
        let width = 64;
        let network = FilterNetwork::new(
            gpu,
            (&random(5 * length, 1), &random(length, 2)),
            &[
                (random(width * 5, 3), random(width, 4)),
                (random(width * width, 5), random(width, 6)),
                (random(width * width, 7), random(width, 8)),
            ],
            &random(width, 9),
            &random(d * width, 10),
            (&vec![3.0; d], 0.05),
        );
        FilterTaps::Network(Box::new(network.unwrap()))
    };
    for (length, rows, budget) in [
        (1_000_002, 1 << 20, 0),
        (1_000_002, 1 << 20, 1 << 32),
        (1_000_002, 1 << 18, 1 << 32),
        (1_000_002, 3 << 20, 1 << 33),
        (160_002, 1 << 20, 1 << 32),
        (1026, 1 << 20, 1 << 32),
    ] {
        for workspace in [1 << 27, 1 << 30] {
            let conv = LongConv::new(
                gpu,
                length,
                &random(d, 1),
                filter(length),
                Arc::new(budget.into()),
                workspace,
                Form::of(gpu),
            )
            .unwrap();
            let x = zeros(rows * 3 * d);
            let mut past = conv.start(1);
            let kept = if budget == 0 { "computed" } else { "kept" };
            let name = format!("long conv {length}, {kept}, {} MB", workspace >> 20);
            time(&name, rows, 16 * d, 0, || {
                conv.forward::<bf16>((&x).into(), &mut past, &[whole(rows)])
                    .unwrap();
            });
        }
    }
    let conv = {
        let room = Arc::new((1 << 30).into());
        LongConv::new(
            gpu,
            1026,
            &random(d, 1),
            filter(1026),
            room,
            1 << 30,
            Form::of(gpu),
        )
        .unwrap()
    };
    let x = zeros(ROWS * 3 * d);
    let reads = vec![
        Segment {
            starts: true,
            ends: true,
            ..whole(256)
        };
        ROWS / 256
    ];
    time("long conv 1026, reads of 256", ROWS, 16 * d, 0, || {
        conv.forward::<bf16>((&x).into(), &mut conv.start(0), &reads)
            .unwrap();
    });
}

#[test]
#[ignore = "needs a CUDA device"]
fn modal_filters() {
    let gpu = gpu();
    for (c, n, parts) in [(256, 16, 1), (256, 32, 2)] {
        let poles: Vec<f32> = random(c * n * parts, 1).iter().map(|x| 0.7 * x).collect();
        let [poles, residues] = [poles, random(c * n * parts, 2)].map(|x| gpu.upload(&x).unwrap());
        let modal = Modal {
            poles: &poles,
            residues: &residues,
            skip: None,
            channels: c,
            modes: n,
            parts,
        };
        for rows in [ROWS, ROWS / 16] {
            let (g, slope) = (zeros(rows * c), zeros(rows * c));
            let mut state = modal.start(gpu, 64).unwrap();
            for (name, segments) in shapes(rows) {
                let name = format!("modal {c} {n} {parts}, {rows} rows, {name}");
                let flops = c * n * parts * parts * 6;
                time(&name, rows, 12 * c, flops, || {
                    modal.forward(gpu, &g, &mut state, &segments).unwrap();
                });
                time(
                    &format!("{name}, gradients"),
                    rows,
                    28 * c,
                    3 * flops,
                    || {
                        modal.back(gpu, &slope, &segments).unwrap();
                        modal.slopes(gpu, &g, &slope, &state, &segments).unwrap();
                    },
                );
            }
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn attention() {
    let gpu = gpu();
    let frequencies = |width: usize| vec![0.5; width / 2];
    for (heads, width, window, rows) in [
        (8, 32, Some(256), ROWS),
        (8, 32, Some(256), ROWS / 16),
        (4, 64, Some(256), ROWS / 16),
        (4, 64, None, ROWS / 32),
        (2, 128, None, ROWS / 64),
    ] {
        let d = heads * width;
        let rotary = frequencies(width);
        let rotary = Some((&rotary[..], 1.0));
        let attention = Attention::new(gpu, [heads, width], false, window, rotary).unwrap();
        let x = zeros(rows * 3 * d);
        let slope = zeros(rows * d);
        for (name, segments) in shapes(rows) {
            let starting: Vec<_> = segments
                .iter()
                .map(|&s| Segment { starts: true, ..s })
                .collect();
            let seen = window.unwrap_or(segments[0].len / 2);
            let name = format!("attention {heads} {width} {window:?}, {rows} rows, {name}");
            let mut cache = attention.start(64);
            time(&name, rows, 24 * d, 4 * d * seen, || {
                attention
                    .forward::<f32>(&x, &mut cache, (&starting, &[]), false)
                    .unwrap();
            });
            let (out, kept) = attention
                .forward(&x, &mut cache, (&starting, &[]), true)
                .unwrap();
            let kept = kept.unwrap();
            time(
                &format!("{name}, gradient"),
                rows,
                44 * d,
                14 * d * seen,
                || {
                    attention
                        .slopes(&x, &out, &slope, &kept, &starting)
                        .unwrap();
                },
            );
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2() {
    let gpu = gpu();
    let sizes = SsdSizes {
        heads: 8,
        channels: 64,
        groups: 1,
        states: 128,
    };
    let parameters = [1, 2, 3].map(|seed| random(8, seed));
    let parameters = parameters.each_ref().map(|x| &x[..]);
    let (xbc, steps) = (zeros(ROWS * sizes.columns()), zeros(ROWS * 8));
    for (form, band) in [
        ("f32", None),
        ("bf16", Some(Ssd::BAND)),
        ("bf16, twice the band", Some(2 * Ssd::BAND)),
    ] {
        let scan = Ssd::new(gpu, sizes, parameters, (0.0, f32::INFINITY), band).unwrap();
        let state = scan.start(64).unwrap();
        for (name, segments) in shapes(ROWS) {
            let bytes = 4 * (sizes.columns() + 8 + sizes.inner());
            let name = format!("scan of Mamba-2 {form}, 8 64 128, {name}");
            time(&name, ROWS, bytes, 5 * 512 * 128, || {
                scan.forward((&xbc).into(), &steps, &state, &segments)
                    .unwrap();
            });
        }
    }
}
