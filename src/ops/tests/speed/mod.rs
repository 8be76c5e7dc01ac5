//! Where time goes: each op at the sizes of the models it serves.
//!
//! `cargo test --lib --release -- --ignored cuda::tests::speed --nocapture`

use super::*;
use crate::ops::Activation;
use half::bf16;
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

#[test]
#[ignore = "needs a CUDA device"]
fn rows_and_products() {
    let gpu = gpu();
    let d = 256;
    let x = zeros(ROWS * d);
    let (w, b) = (zeros(d), zeros(d));
    time("layer norm f32 256", ROWS, 8 * d, 0, || {
        layer_norm::<f32>(gpu, &x, &w, &b, 1e-5).unwrap();
    });
    time("layer norm bf16 256", ROWS, 6 * d, 0, || {
        layer_norm::<bf16>(gpu, &x, &w, &b, 1e-5).unwrap();
    });
    time("rms norm f32 256", ROWS, 8 * d, 0, || {
        rms_norm::<f32>(gpu, &x, &w, 1e-5, 0.0).unwrap();
    });
    let rounded = convert::<bf16>(gpu, &x).unwrap();
    for (inner, width) in [(256, 768), (256, 256), (256, 1024), (1024, 256), (512, 48)] {
        let weight = random(width * inner, 1);
        let bias = random(width, 2);
        let wide = zeros(ROWS * inner);
        let rounded_wide;
        let rounded = match inner {
            256 => &rounded,
            _ => {
                rounded_wide = convert::<bf16>(gpu, &wide).unwrap();
                &rounded_wide
            }
        };
        let flops = 2 * inner * width;
        let plain = Linear::new(gpu, &weight, [width, inner], None, false).unwrap();
        let half = Linear::new(gpu, &weight, [width, inner], None, true).unwrap();
        let biased = Linear::new(gpu, &weight, [width, inner], Some(&bias), true).unwrap();
        time(
            &format!("product f32 {inner} {width}"),
            ROWS,
            4 * (inner + width),
            flops,
            || {
                plain
                    .forward::<f32, f32>(&wide, None, Activation::None)
                    .unwrap();
            },
        );
        let bytes = 2 * inner + 4 * width;
        time(
            &format!("product bf16 to f32 {inner} {width}"),
            ROWS,
            bytes,
            flops,
            || {
                half.forward::<bf16, f32>(rounded, None, Activation::None)
                    .unwrap();
            },
        );
        let bytes = 2 * inner + 10 * width;
        time(
            &format!("product bf16 gelu {inner} {width}"),
            ROWS,
            bytes,
            flops,
            || {
                biased
                    .forward::<bf16, bf16>(rounded, None, Activation::GeluTanh)
                    .unwrap();
            },
        );
        let residual = zeros(ROWS * width);
        let bytes = 2 * inner + 16 * width;
        time(
            &format!("product bf16 residual {inner} {width}"),
            ROWS,
            bytes,
            flops,
            || {
                biased
                    .forward::<bf16, f32>(rounded, Some(&residual), Activation::None)
                    .unwrap();
            },
        );
    }
}

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
            conv.forward::<f32>(&u, &mut tail, &[whole(rows)]).unwrap();
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
                        u: &u,
                        projected: &projected,
                        added: None,
                        gate: Some(&gate),
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
            )
            .unwrap();
            let x = zeros(rows * 3 * d);
            let mut past = conv.start(1);
            let kept = if budget == 0 { "computed" } else { "kept" };
            let name = format!("long conv {length}, {kept}, {} MB", workspace >> 20);
            time(&name, rows, 16 * d, 0, || {
                conv.forward::<bf16>(&x, &mut past, &[whole(rows)]).unwrap();
            });
        }
    }
    let conv = {
        let room = Arc::new((1 << 30).into());
        LongConv::new(gpu, 1026, &random(d, 1), filter(1026), room, 1 << 30).unwrap()
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
        conv.forward::<bf16>(&x, &mut conv.start(0), &reads)
            .unwrap();
    });
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
                    .forward::<f32>(&x, &mut cache, &starting, false)
                    .unwrap();
            });
            let (out, kept) = attention.forward(&x, &mut cache, &starting, true).unwrap();
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
    let sizes = crate::ops::SsdSizes {
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
                scan.forward(&xbc, &steps, &state, &segments).unwrap();
            });
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients() {
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
        let layer = Linear::new(gpu, &random(3 * d * d, 1), [3 * d, d], None, half).unwrap();
        let bytes = if half { 10 } else { 16 };
        time(
            &format!("to input 384 128, rounded {half}"),
            rows,
            bytes * d,
            flops,
            || {
                match half {
                    true => layer.to_input(&rounded_wide).unwrap(),
                    false => layer.to_input(&wide).unwrap(),
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
                match half {
                    true => to_weight(gpu, &rounded_wide, &rounded, [3 * d, d]).unwrap(),
                    false => to_weight(gpu, &wide, &x, [3 * d, d]).unwrap(),
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
                conv.forward::<f32>(&x, &mut tail, &segments).unwrap();
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
        u: &u,
        projected: &projected,
        added: None,
        gate: Some(&gate),
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
            Box::new(rows) as Box<crate::ops::TapRows>
        });
        let (bias, host) = (random(d, 2), FilterTaps::Host(host));
        let room = Arc::new((1 << 30).into());
        let conv = LongConv::new(gpu, length, &bias, host, room, 1 << 30).unwrap();
        let (mut past, before) = (conv.start(1), conv.start(1));
        time(&format!("long conv {length}"), rows, 16 * d, 0, || {
            conv.forward::<f32>(&x, &mut past, &segments).unwrap();
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
