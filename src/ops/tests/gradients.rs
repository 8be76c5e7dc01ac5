//! Gradients on the device against those on the CPU.

use super::*;
use crate::ops::{self, Activation};

/// Values and their shape.
type Input = (Vec<f32>, Vec<usize>);

/// Outputs and gradients of an op on the CPU and on a device. The first `rows` inputs lie there; the
/// others are weights, which stay in memory.
fn same_on(
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

fn same(name: &str, inputs: (&[Input], usize), op: impl Fn(&[Tensor]) -> Result<Tensor>) {
    same_on(gpu(), name, inputs, 5e-6, op);
}

/// Random values of a shape.
fn values(shape: &[usize], seed: u64) -> Input {
    (random(shape.iter().product(), seed), shape.to_vec())
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_dense_layers_equal_the_cpu_s() {
    let rounding = Gpu::open(0, true).unwrap();
    for (rows, inner, width) in [(1, 3, 2), (300, 16, 5), (2500, 12, 8)] {
        let inputs = [
            values(&[rows, inner], 1),
            values(&[rows, width], 2),
            values(&[width, inner], 3),
            values(&[width], 4),
        ];
        for activation in [
            Activation::None,
            Activation::GeluTanh,
            Activation::GeluErf,
            Activation::Silu,
        ] {
            let op = |x: &[Tensor]| {
                let layer = ops::Linear::new(x[2].clone(), Some(x[3].clone()));
                let y = layer.forward_residual(&x[0], &x[1])?;
                y.add(&layer.forward_activated(&x[0], activation)?)
            };
            let name = format!("linear {rows} {inner} {width} {activation:?}");
            same(&name, (&inputs, 2), op);
            same_on(
                &rounding,
                &format!("{name}, rounded"),
                (&inputs, 2),
                2e-2,
                op,
            );
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_norms_equal_the_cpu_s() {
    for (rows, width) in [(3, 5), (700, 36), (40, 256)] {
        let inputs = [
            values(&[rows, width], 1),
            values(&[width], 2),
            values(&[width], 3),
        ];
        same("layer norm", (&inputs, 1), |x| {
            ops::LayerNorm::new(x[1].clone(), x[2].clone(), 1e-5).forward(&x[0])
        });
        same("rms norm", (&inputs[..2], 1), |x| {
            ops::RmsNorm::new(x[1].clone(), 1e-2).forward(&x[0])
        });
        same("rms norm, eps outside", (&inputs[..2], 1), |x| {
            ops::RmsNorm::with_eps_outside(x[1].clone(), 1e-2).forward(&x[0])
        });
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_gates_equal_the_cpu_s() {
    for width in [3, 8] {
        let inputs = [
            values(&[90, 3 * width], 1),
            values(&[90, width], 2),
            values(&[90, 2 * width], 3),
        ];
        same("gates", (&inputs[..2], 2), |x| {
            let g = ops::gate((&x[0], 1), (&x[0], 2), width)?;
            let y = ops::gate((&x[0], 0), (&g, 0), width)?;
            ops::gate((&y, 0), (&x[1], 0), width)
        });
        same("gated linear unit", (&inputs[1..], 2), |x| {
            ops::glu_residual(&x[1], &x[0])
        });
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_short_convolutions_equal_the_cpu_s() {
    for (channels, taps, reversed, activation) in [
        (5, 1, false, Activation::None),
        (40, 3, false, Activation::None),
        (33, 4, true, Activation::Silu),
        (5, 7, false, Activation::GeluErf),
        (9, 7, true, Activation::None),
        (3, 20, true, Activation::None),
        (34, 128, false, Activation::None),
    ] {
        let lanes = if taps == 1 { 1 } else { 3 };
        let steps: Vec<_> = steps(150, 7)
            .into_iter()
            .map(|mut step| {
                step.iter_mut().for_each(|s| s.lane = s.lane.min(lanes - 1));
                step
            })
            .take(3)
            .collect();
        let mut inputs: Vec<_> = steps
            .iter()
            .map(|s| values(&[total(s), channels], 1))
            .collect();
        inputs.push(values(&[channels, 1, taps], 2));
        inputs.push(values(&[channels], 3));
        let op = |x: &[Tensor]| {
            let conv = ops::ShortConv::new(&x[3], Some(&x[4]), activation)?;
            let conv = if reversed { conv.reversed() } else { conv };
            let mut tail = conv.start(lanes);
            let mut parts = Vec::new();
            for (x, segments) in x.iter().zip(&steps) {
                // A saved state goes on as if it had not been saved.
                let saved = postcard::to_stdvec(&tail).unwrap();
                tail = postcard::from_bytes(&saved).unwrap();
                parts.push(conv.forward(x, &mut tail, segments)?);
            }
            Tensor::cat(&parts, 0)
        };
        let name = format!("short conv {channels} {taps} {reversed}");
        same(&name, (&inputs, 3), op);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_selective_scans_equal_the_cpu_s() {
    // Channels, states, rank, pieces of up to so many rows; read backwards; with gate and added.
    for (channels, states, rank, most, reversed, all) in [
        (37, 5, 3, 100, false, true),
        (130, 4, 4, 300, true, true),
        (3, 17, 2, 40, false, false),
        (5, 4, 8, 1, true, false),
        (2, 1, 1, 700, false, true),
    ] {
        let steps: Vec<_> = steps(most, 3).into_iter().take(2).collect();
        let mut inputs = Vec::new();
        for rows in steps.iter().map(|s| total(s)) {
            inputs.push(values(&[rows, channels], 1));
            inputs.push(values(&[rows, rank + 2 * states], 2));
            inputs.extend(
                all.then(|| [3, 4].map(|seed| values(&[rows, channels], seed)))
                    .into_iter()
                    .flatten(),
            );
        }
        let rows = inputs.len();
        inputs.push(values(&[channels, states], 5));
        inputs.push(values(&[channels], 6));
        inputs.push(values(&[channels, rank], 7));
        inputs.push(values(&[channels], 8));
        let op = |x: &[Tensor]| {
            let (x, weights) = x.split_at(rows);
            let [a_log, skip, weight, bias] = weights else {
                unreachable!("four weights")
            };
            let scan = ops::SelectiveScan::new(a_log, skip, weight, bias)?;
            let scan = if reversed { scan.reversed() } else { scan };
            let mut hidden = scan.start(3);
            let mut parts = Vec::new();
            for (x, segments) in x.chunks(rows / steps.len()).zip(&steps) {
                let saved = postcard::to_stdvec(&hidden).unwrap();
                hidden = postcard::from_bytes(&saved).unwrap();
                let (added, gate) = (x.get(2), x.get(3));
                parts.push(scan.forward(&x[0], &x[1], added, gate, &mut hidden, segments)?);
            }
            Tensor::cat(&parts, 0)
        };
        let name = format!("scan {channels} {states} {rank} {reversed} {all}");
        same_on(gpu(), &name, (&inputs, rows), 1e-5, op);
    }
}

/// A convolution with the filters `taps` (C, L) themselves; they are not differentiated if they are
/// a constant.
fn long_conv(taps: &Tensor, bias: &Tensor) -> ops::LongConv {
    let (_, length) = taps.dims2().unwrap();
    let stored = flat(taps);
    let plain = move |n: usize| {
        let stored = stored.clone();
        let tap = move |c: usize, j: usize| {
            if j < length {
                stored[c * length + j]
            } else {
                0.0
            }
        };
        let rows = move |channels: std::ops::Range<usize>| {
            let pairs = channels.flat_map(|c| (0..n).map(move |j| (c, j)));
            pairs.map(|(c, j)| tap(c, j)).collect()
        };
        Box::new(rows) as Box<ops::TapRows>
    };
    let taps = taps.clone();
    let conv = ops::LongConv::new(length, bias, Arc::new(plain), 1 << 30).unwrap();
    match taps.is_tracked() {
        true => conv.differentiable(Arc::new(move |n, _| taps.narrow(1, 0, n))),
        false => conv,
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_long_convolutions_equal_the_cpu_s() {
    // Channels, taps, pieces of up to so many rows. One filter is shorter than what is carried, one
    // segment longer than an FFT.
    for (channels, length, most) in [(5, 40, 90), (33, 300, 60), (2, 1, 20), (1, 70, 5000)] {
        let steps: Vec<_> = steps(most, 3).into_iter().take(3).collect();
        let mut inputs: Vec<_> = steps
            .iter()
            .map(|s| values(&[total(s), 3 * channels], 1))
            .collect();
        inputs.push(values(&[channels], 2));
        inputs.push(values(&[channels, length], 3));
        let fixed = tensor(&inputs[4].0, &[channels, length]);
        let op = |x: &[Tensor]| {
            let conv = long_conv(x.get(4).unwrap_or(&fixed), &x[3]);
            let mut past = conv.start(3);
            let mut parts = Vec::new();
            for (x, segments) in x.iter().zip(&steps) {
                let saved = postcard::to_stdvec(&past).unwrap();
                past = postcard::from_bytes(&saved).unwrap();
                parts.push(conv.forward(x, &mut past, segments)?);
            }
            Tensor::cat(&parts, 0)
        };
        let name = format!("long conv {channels} {length} {most}");
        same(&name, (&inputs, 3), op);
        same(&format!("{name}, fixed"), (&inputs[..4], 3), op);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_pass_through_what_moves_rows_on_a_device() {
    let picked: Vec<u32> = (0..3000).map(|i| (i * i + i / 7) % 5).collect();
    for width in [3, 8] {
        let inputs = [values(&[3000, width], 1), values(&[7, width], 2)];
        same("rows", (&inputs, 1), |x| {
            let tokens = Tensor::from_slice(&picked, picked.len(), x[0].device())?;
            let rows = x[1].index_select(&tokens, 0)?;
            let both = Tensor::cat(&[rows.mul(&x[0])?, x[0].affine(0.5, 1.0)?], 1)?;
            let rows = both.narrow(1, 1, 2 * width - 2)?.narrow(0, 5, 2000)?;
            let flat = rows.reshape((2 * width - 2, 2000))?;
            Tensor::cat(&[flat.clone(), flat.flip(0)?], 0)
        });
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn losses_and_their_gradients_equal_the_cpu_s() {
    let device = Device::Cuda(Arc::clone(gpu()));
    for (rows, width) in [(1, 2), (70, 16), (300, 130)] {
        let logits: Vec<f32> = random(rows * width, 1).iter().map(|x| 9.0 * x).collect();
        let targets: Vec<u32> = (0..rows).map(|i| ((i * 7) % width) as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32 * 0.4).collect();
        let some = targets.iter().zip(&weights);
        let some: Vec<_> = some.map(|(t, w)| (*w > 0.0).then_some(*t)).collect();
        let run = |device: &Device| {
            let logits = Tensor::from_slice(&logits, (rows, width), device).unwrap();
            let (loss, gradient) = ops::cross_entropy(&logits, &targets, &weights).unwrap();
            let surprisals = ops::surprisals(&logits, &some).unwrap();
            (loss, flat(&gradient), surprisals)
        };
        let (cpu, found) = (run(&Device::Cpu), run(&device));
        assert!((cpu.0 - found.0).abs() <= 1e-6 * cpu.0.abs());
        close("gradient", &found.1, &cpu.1, 2e-6);
        let single = |x: &[Option<f64>]| -> Vec<f32> {
            x.iter().map(|x| x.map_or(-1.0, |x| x as f32)).collect()
        };
        close("surprisals", &single(&found.2), &single(&cpu.2), 2e-6);
        assert_eq!(found, run(&device));
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn means_of_segments_and_their_gradients_equal_the_cpu_s() {
    let segments = [3, 1, 6].map(|len| Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    });
    let seed = tensor(&random(3 * 5, 2), &[3, 5]);
    let run = |device: &Device| {
        let x = tensor(&random(10 * 5, 1), &[10, 5]).to_device(device);
        let x = x.unwrap().parameter();
        let mean = ops::segment_mean(&x, &segments).unwrap();
        let gradients = mean.backward(seed.clone()).unwrap();
        (flat(&mean), flat(gradients.of(&x).unwrap()))
    };
    let (found, expected) = (run(&Device::Cuda(Arc::clone(gpu()))), run(&Device::Cpu));
    close("means", &found.0, &expected.0, 1e-6);
    close("their gradients", &found.1, &expected.1, 1e-6);
}

#[test]
#[ignore = "needs a CUDA device"]
fn what_has_no_gradient_on_a_device_says_so() {
    let device = Device::Cuda(Arc::clone(gpu()));
    let x = tensor(&random(40, 1), &[10, 4]).to_device(&device).unwrap();
    let norm = ops::GatedRmsNorm::new(tensor(&random(4, 2), &[4]), 1, 1e-5);
    assert!(norm.forward(&x, &x).is_ok());
    let error = norm.forward(&x.parameter(), &x).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("--device cpu"), "{error}");
}
