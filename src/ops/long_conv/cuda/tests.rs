//! The gated long convolution, with filters from both sources.

use super::*;
use crate::ops;
use crate::ops::Tensor;
use crate::ops::cuda::testing::*;
use crate::ops::tensor::cuda::convert;
use half::bf16;
use std::ops::Range;

const CHANNELS: usize = 68;
const SHIFT: f32 = 0.05;

/// A filter network of the shape of HyenaDNA's.
struct Network {
    length: usize,
    z: Vec<f32>,
    t: Vec<f32>,
    hidden: Vec<(Vec<f32>, Vec<f32>)>,
    freq: Vec<f32>,
    out: Vec<f32>,
    decay: Vec<f32>,
}

impl Network {
    fn new(length: usize, channels: usize) -> Self {
        const WIDTH: usize = 16;
        let t: Vec<f32> = (0..length)
            .map(|j| j as f32 / length.max(2) as f32)
            .collect();
        let z = t
            .iter()
            .flat_map(|t| [*t, (6.0 * t).cos(), -(6.0 * t).sin()])
            .collect();
        Self {
            length,
            z,
            t,
            hidden: vec![
                (random(WIDTH * 3, 1), random(WIDTH, 2)),
                (random(WIDTH * WIDTH, 3), random(WIDTH, 4)),
            ],
            freq: random(WIDTH, 5).iter().map(|x| 5.0 + 4.0 * x).collect(),
            out: random(channels * WIDTH, 6),
            decay: random(channels, 7).iter().map(|x| 3.0 + x).collect(),
        }
    }

    /// The definition, in f64.
    fn taps(&self, channels: Range<usize>, n: usize) -> Vec<f32> {
        let width = self.freq.len();
        let features = self.z.len() / self.length;
        let mut taps = vec![0.0; channels.len() * n];
        for j in 0..n.min(self.length) {
            let z = &self.z[j * features..][..features];
            let mut x: Vec<f64> = z.iter().map(|&z| f64::from(z)).collect();
            for (weight, bias) in &self.hidden {
                x = weight
                    .chunks(x.len())
                    .zip(bias.iter().zip(&self.freq))
                    .map(|(row, (&bias, &freq))| {
                        let sum: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
                        (f64::from(freq) * (sum + f64::from(bias))).sin()
                    })
                    .collect();
            }
            for (c, channel) in channels.clone().enumerate() {
                let row = &self.out[channel * width..][..width];
                let g: f64 = row.iter().zip(&x).map(|(w, x)| f64::from(*w) * x).sum();
                let decay = (-f64::from(self.t[j]) * f64::from(self.decay[channel])).exp();
                taps[c * n + j] = (g * (decay + f64::from(SHIFT))) as f32;
            }
        }
        taps
    }

    fn on_device(&self) -> FilterTaps {
        self.on_device_of(gpu())
    }

    fn on_device_of(&self, gpu: &Gpu) -> FilterTaps {
        let network = FilterNetwork::new(
            gpu,
            (&self.z, &self.t),
            &self.hidden,
            &self.freq,
            &self.out,
            (&self.decay, SHIFT),
        );
        FilterTaps::Network(Box::new(network.unwrap()))
    }
}

/// The convolution with a network's filters, on the CPU and on the device.
fn both(
    length: usize,
    network: bool,
    (budget, workspace): (isize, usize),
    form: Form,
) -> (ops::LongConv, LongConv) {
    let bias = random(CHANNELS, 9);
    let filter = Arc::new(Network::new(length, CHANNELS));
    let closure = {
        let filter = Arc::clone(&filter);
        Arc::new(move |n| {
            let filter = Arc::clone(&filter);
            Box::new(move |channels| filter.taps(channels, n)) as Box<ops::TapRows>
        })
    };
    let cpu = ops::LongConv::new(
        length,
        &tensor(&bias, &[CHANNELS]),
        Arc::clone(&closure) as Arc<ops::Taps>,
        1 << 30,
    )
    .unwrap();
    let taps = if network {
        filter.on_device()
    } else {
        FilterTaps::Host(closure)
    };
    let room = Arc::new(budget.into());
    let conv = LongConv::new(gpu(), length, &bias, taps, room, workspace, form);
    (cpu, conv.unwrap())
}

fn check(length: usize, most: usize, network: bool, budget: isize, workspace: usize) {
    check_form(length, most, network, (budget, workspace), Form::Exact);
}

fn check_form(length: usize, most: usize, network: bool, room: (isize, usize), form: Form) {
    let gpu = gpu();
    let (cpu, conv) = both(length, network, room, form);
    let size = conv.largest().0;
    let most_error = if form.layout(gpu, size, size).rounded {
        4e-3
    } else {
        5e-6
    };
    let (mut past, mut cpu_past) = (conv.start(3), cpu.start(3));
    for (i, segments) in steps(most, 11).into_iter().enumerate() {
        let rows = total(&segments);
        let x = rounded(&random(rows * 3 * CHANNELS, i as u64));
        let on_cpu = tensor(&x, &[rows, 3 * CHANNELS]);
        let expected = flat(&cpu.forward(&on_cpu, &mut cpu_past, &segments).unwrap());
        let x = gpu.upload(&x).unwrap();
        let name = format!("long conv {length}, pieces of {most}, network {network}");
        if i == 0 {
            let found = conv.forward::<bf16>((&x).into(), &mut past.fork(gpu).unwrap(), &segments);
            let found = gpu.download(&found.unwrap()).unwrap();
            let found: Vec<f32> = found.into_iter().map(bf16::to_f32).collect();
            close(&name, &found, &expected, 4e-3);
        }
        // What was rounded is read as it is.
        let narrow = convert::<bf16>(gpu, &x).unwrap();
        let x = if i % 2 == 0 {
            Floats::from(&x)
        } else {
            Floats::from(&narrow)
        };
        let found = conv.forward::<f32>(x.into(), &mut past, &segments).unwrap();
        close(&name, &gpu.download(&found).unwrap(), &expected, most_error);
        past = past.fork(gpu).unwrap();
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn long_convolutions_equal_the_cpu_s() {
    check(1, 20, false, 1 << 30, 1 << 28);
    check(40, 300, false, 1 << 30, 1 << 28);
    check(300, 2000, false, 0, 1 << 16);
    check(1026, 700, true, 1 << 30, 1 << 20);
    check(1026, 30_000, true, 0, 1 << 28);
    check(30_000, 9_000, true, 1 << 30, 1 << 22);
    check_form(300, 2000, false, (0, 1 << 16), Form::Rounded);
    check_form(30_000, 9_000, true, (1 << 30, 1 << 22), Form::Rounded);
}

#[test]
#[ignore = "needs a CUDA device"]
fn long_signals_are_convolved_as_they_are_defined() {
    const CHANNELS: usize = 2;
    const PIECES: usize = 2;
    let gpu = gpu();
    // The emulator takes minutes for the largest.
    let most = if std::env::var_os("CUDA_EMULATOR").is_some() {
        18
    } else {
        23
    };
    for bits in 17..=most {
        let size = 1 << bits;
        let large = Large::new(gpu, size).unwrap();
        let places = [0, 1, size / 3, size / 2 + 5, size - 1];
        let mut taps = vec![0.0; CHANNELS * stride(size)];
        for (i, tap) in random(CHANNELS * places.len(), bits)
            .into_iter()
            .enumerate()
        {
            taps[i / places.len() * stride(size) + places[i % places.len()]] = tap;
        }
        let filters = gpu.upload(&taps).unwrap();
        large.filters(gpu, &filters, CHANNELS).unwrap();
        // All values, those before zeros, and those of which some are wanted.
        let cases = [
            (size, 0..size),
            (size / 2 - 7, 0..size),
            (size - 70, 331..size - 9),
        ];
        for ((used, wanted), form) in cases
            .iter()
            .flat_map(|c| [(c, Form::Exact), (c, Form::Rounded)])
        {
            let layout = form.layout(gpu, size, *used);
            let wanted = wanted.start..wanted.end.min(layout.span);
            let mut signals = rounded(&random(PIECES * CHANNELS * layout.stride, bits + 1));
            for signal in signals.chunks_mut(layout.stride) {
                signal[*used..layout.span].fill(0.0);
            }
            let there = gpu.upload(&in_words(&signals, layout.rounded)).unwrap();
            let counts = [PIECES, CHANNELS];
            let signals_there = (&there, layout);
            large
                .convolve(gpu, signals_there, &filters, counts, wanted.clone())
                .unwrap();
            let found = of_words(gpu.download(&there).unwrap(), layout.rounded);
            for (i, signal) in signals.chunks(layout.stride).enumerate() {
                let taps = &taps[i % CHANNELS * stride(size)..];
                let value = |t| if t < *used { signal[t] } else { 0.0 };
                let expected = wanted.clone().map(|t| {
                    let values = places.map(|s| taps[s] * value((t + size - s) % size));
                    values.iter().sum()
                });
                let expected: Vec<f32> = expected.collect();
                let found = &found[i * layout.stride..][wanted.clone()];
                let name = format!("signal {i} of {used} in {size}, {}", layout.name());
                close(
                    &name,
                    found,
                    &expected,
                    if layout.rounded { 4e-3 } else { 2e-6 },
                );
            }
        }
    }
    assert!(
        [1 << 16, 1 << 24, 3 << 17]
            .iter()
            .all(|size| Large::new(gpu, *size).is_none())
    );
}

/// Two bf16 in each word, if values are rounded.
fn in_words(values: &[f32], rounded: bool) -> Vec<f32> {
    let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
    let words = values
        .chunks(2)
        .map(|x| f32::from_bits(bits(x[0]) | bits(x[1]) << 16));
    if rounded {
        words.collect()
    } else {
        values.to_vec()
    }
}

fn of_words(words: Vec<f32>, rounded: bool) -> Vec<f32> {
    let halves = words
        .iter()
        .flat_map(|word| [word.to_bits() << 16, word.to_bits() & 0xffff_0000]);
    if rounded {
        halves.map(f32::from_bits).collect()
    } else {
        words
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_first_rows_of_a_long_sequence_are_as_near_as_their_own_magnitude_asks() {
    // With a mean and a slow filter sums grow along a piece by orders of magnitude, while what is
    // rounded within its FFT falls on all rows alike.
    const CHANNELS: usize = 4;
    const LENGTH: usize = 40_000;
    const ROWS: usize = 230_000;
    const FIRST: usize = 100;
    let tap = |c: usize, j: usize| {
        let decay = (-(j as f32) / LENGTH as f32).exp();
        (0.01 + 0.02 * ((j * (c + 3)) as f32).sin()) * decay
    };
    let taps = Arc::new(move |n: usize| {
        let rows = move |channels: Range<usize>| {
            let taps = channels.flat_map(|c| (0..n).map(move |j| (c, j)));
            let inside = taps.map(|(c, j)| if j < LENGTH { tap(c, j) } else { 0.0 });
            inside.collect()
        };
        Box::new(rows) as Box<ops::TapRows>
    });
    let bias = random(CHANNELS, 9);
    let x: Vec<f32> = random(ROWS * 3 * CHANNELS, 1)
        .iter()
        .map(|x| x + 0.5)
        .collect();
    let x = rounded(&x);
    let at = |row: usize, part: usize, c: usize| f64::from(x[(row * 3 + part) * CHANNELS + c]);
    let v = |row, c| at(row, 1, c) * at(row, 2, c);
    let expected = (0..FIRST * CHANNELS).map(|i| {
        let (row, c) = (i / CHANNELS, i % CHANNELS);
        let sum: f64 = (0..=row)
            .map(|j| f64::from(tap(c, j)) * v(row - j, c))
            .sum();
        (at(row, 0, c) * (f64::from(bias[c]) * v(row, c) + sum)) as f32
    });
    let expected: Vec<f32> = expected.collect();
    let segment = Segment {
        lane: 0,
        len: ROWS,
        starts: true,
        ends: true,
    };
    // Where products round, too.
    for (gpu, most) in [(gpu(), 1e-4), (rounded_gpu(), 4e-3)] {
        let taps = FilterTaps::Host(taps.clone());
        let room = Arc::new((1 << 30).into());
        let form = Form::of(gpu);
        let conv = LongConv::new(gpu, LENGTH, &bias, taps, room, 1 << 28, form).unwrap();
        let there = convert::<bf16>(gpu, &gpu.upload(&x).unwrap()).unwrap();
        let found =
            conv.forward::<f32>(Floats::from(&there).into(), &mut conv.start(1), &[segment]);
        let found = gpu.download(&found.unwrap()).unwrap();
        close("first rows", &found[..FIRST * CHANNELS], &expected, most);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn branches_of_long_convolutions_are_what_their_sequences_would_be() {
    let gpu = gpu();
    // Branches beyond the filter, segments beyond one FFT, and what does not fit the workspace.
    for (length, most, workspace, form) in [
        (1, 20, 1 << 28, Form::Exact),
        (40, 300, 1 << 28, Form::Rounded),
        (300, 2000, 1 << 16, Form::Exact),
        (70, 9000, 1 << 22, Form::Rounded),
        (3000, 500, 1 << 20, Form::Exact),
    ] {
        let (cpu, conv) = both(length, length != 40, (1 << 30, workspace), form);
        let (mut past, mut cpu_past) = (conv.start(3), cpu.start(3));
        for (i, segments) in steps(most, 11).into_iter().take(4).enumerate() {
            let branches = branches(&segments, 400, i as u64);
            let rows = total(&segments);
            let more: usize = branches.iter().map(|branch| branch.len).sum();
            let x = rounded(&random((rows + more) * 3 * CHANNELS, i as u64));
            let before = cpu_past.clone();
            let run = |x: &[f32], past: &mut ops::Past, segments: &[Segment]| {
                let x = tensor(x, &[x.len() / 3 / CHANNELS, 3 * CHANNELS]);
                flat(&cpu.forward(&x, past, segments).unwrap())
            };
            let mut expected = run(&x[..rows * 3 * CHANNELS], &mut cpu_past, &segments);
            expected.extend(as_sequences(&x, &segments, &branches, |x, segment| {
                run(x, &mut before.clone(), &[segment])
            }));
            let x = gpu.upload(&x).unwrap();
            let narrow = convert::<bf16>(gpu, &x).unwrap();
            let x = if i % 2 == 0 {
                Floats::from(&x)
            } else {
                Floats::from(&narrow)
            };
            let found = conv.forward_branched::<f32>(x, &mut past, &segments, &branches);
            let name = format!("long conv {length}, pieces of {most}, branches");
            close(
                &name,
                &gpu.download(&found.unwrap()).unwrap(),
                &expected,
                5e-6,
            );
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn short_convolutions_within_long_ones_give_what_both_give() {
    let gpu = rounded_gpu();
    for (channels, length, most, workspace) in [
        (68, 40, 300, 1 << 28),
        (67, 300, 2000, 1 << 16),
        (68, 1026, 9000, 1 << 20),
        (66, 30_000, 70_000, 1 << 22),
    ] {
        let width = 3 * channels;
        let (weight, bias) = (random(3 * width, 5), random(width, 6));
        let short = ops::ShortConv::new(
            &tensor(&weight, &[width, 1, 3]),
            Some(&tensor(&bias, &[width])),
            ops::Activation::None,
        );
        let short = short.unwrap();
        let filters = Network::new(length, channels);
        let taps = filters.taps(0..channels, length);
        let conv = long_conv(
            &tensor(&taps, &[channels, length]),
            &tensor(&random(channels, 9), &[channels]),
        );
        let on_gpu = LongConv::new(
            gpu,
            length,
            &random(channels, 9),
            filters.on_device_of(gpu),
            Arc::new((1 << 30).into()),
            workspace,
            Form::Rounded,
        );
        let on_gpu = on_gpu.unwrap();
        let (mut tail, mut past) = (short.start(3), conv.start(3));
        let (mut gpu_tail, mut gpu_past) = (short.start(3), on_gpu.start(3));
        for (i, segments) in steps(most, 11).into_iter().enumerate() {
            let rows = total(&segments);
            let u = rounded(&random(rows * width, i as u64));
            let shape = [rows, width];
            let x = short
                .forward(&tensor(&u, &shape), &mut tail, &segments)
                .unwrap();
            let expected = flat(&conv.forward(&x, &mut past, &segments).unwrap());
            let u = convert::<bf16>(gpu, &gpu.upload(&u).unwrap()).unwrap();
            let (within, gpu_tail) = short.lent(gpu, &mut gpu_tail).unwrap();
            let input = within.within(&u, gpu_tail).unwrap();
            let found = on_gpu
                .forward::<bf16>(input.into(), &mut gpu_past, &segments)
                .unwrap();
            within.pass(&u, gpu_tail, &segments).unwrap();
            let found = wide(gpu.download(&found).unwrap());
            let name = format!("{channels} channels, {length} taps, step {i}");
            // The outputs are rounded to bf16.
            close(&name, &found, &expected, 7e-3);
            gpu_past = gpu_past.fork(gpu).unwrap();
        }
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
    if taps.is_tracked() {
        conv.differentiable(Arc::new(move |n, _| taps.narrow(1, 0, n)))
    } else {
        conv
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
