use super::{CudaSlice, ShortConv};
use crate::ops::cuda::testing::*;
use crate::ops::tensor::cuda::convert;
use crate::ops::{self, Activation, Tensor};
use crate::sequence::Segment;
use half::bf16;

#[test]
#[ignore = "needs a CUDA device"]
fn short_convolutions_equal_the_cpu_s() {
    let gpu = gpu();
    for (channels, taps, reversed) in [
        (5, 3, false),
        (300, 4, true),
        (70, 7, false),
        (9, 1, true),
        (40, 3, true),
        (68, 7, false),
        (40, 128, false),
        (40, 20, true),
    ] {
        let (w, b) = (random(channels * taps, 1), random(channels, 2));
        let activation = if taps == 4 {
            Activation::Silu
        } else {
            Activation::None
        };
        let conv = ShortConv::new(gpu, &w, taps, &b, activation, reversed).unwrap();
        let weight = tensor(&w, &[channels, 1, taps]);
        let bias = tensor(&b, &[channels]);
        let mut cpu = ops::ShortConv::new(&weight, Some(&bias), activation).unwrap();
        if reversed {
            cpu = cpu.reversed();
        }
        let (mut tail, mut cpu_tail) = (conv.start(3).unwrap(), cpu.start(3));
        for (i, segments) in steps(150, 7).into_iter().enumerate() {
            let rows = total(&segments);
            let x = random(rows * channels, i as u64);
            let expected = cpu
                .forward(&tensor(&x, &[rows, channels]), &mut cpu_tail, &segments)
                .unwrap();
            let x = gpu.upload(&x).unwrap();
            let found = conv.forward::<f32>(&x, &mut tail, &segments, &[]).unwrap();
            let name = format!("short conv {channels} {taps}");
            close(
                &name,
                &gpu.download(&found).unwrap(),
                &flat(&expected),
                1e-6,
            );
            tail = tail.fork(gpu).unwrap();
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn what_was_rounded_is_convolved_as_it_is_and_rounded_again() {
    let gpu = gpu();
    for (channels, taps, reversed) in [
        (5, 3, false),
        (8, 3, true),
        (300, 4, false),
        (12, 7, true),
        (40, 128, false),
    ] {
        let (w, b) = (random(channels * taps, 1), random(channels, 2));
        let conv = ShortConv::new(gpu, &w, taps, &b, Activation::Silu, reversed).unwrap();
        let (mut tail, mut narrow_tail) = (conv.start(3).unwrap(), conv.start(3).unwrap());
        for (i, segments) in steps(150, 7).into_iter().enumerate() {
            let branches = if reversed {
                Vec::new()
            } else {
                branches(&segments, 40, i as u64)
            };
            let more: usize = branches.iter().map(|branch| branch.len).sum();
            let x = random((total(&segments) + more) * channels, i as u64);
            let x = gpu.upload(&rounded(&x)).unwrap();
            let narrow: CudaSlice<bf16> = convert(gpu, &x).unwrap();
            let expected = conv.forward(&x, &mut tail, &segments, &branches).unwrap();
            let found = conv.forward(&narrow, &mut narrow_tail, &segments, &branches);
            let found = wide(gpu.download(&found.unwrap()).unwrap());
            assert_eq!(found, rounded(&gpu.download(&expected).unwrap()));
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn branches_of_short_convolutions_are_what_their_sequences_would_be() {
    let gpu = gpu();
    for (channels, taps) in [(5, 1), (40, 3), (33, 4), (9, 7), (8, 7), (34, 20)] {
        let (w, b) = (random(channels * taps, 1), random(channels, 2));
        let conv = ShortConv::new(gpu, &w, taps, &b, Activation::None, false).unwrap();
        let weight = tensor(&w, &[channels, 1, taps]);
        let cpu = ops::ShortConv::new(&weight, Some(&tensor(&b, &[channels])), Activation::None);
        let cpu = cpu.unwrap();
        let (mut tail, mut cpu_tail) = (conv.start(3).unwrap(), cpu.start(3));
        for (i, segments) in steps(30, 7).into_iter().enumerate() {
            let branches = branches(&segments, 40, i as u64);
            let rows = total(&segments);
            let more: usize = branches.iter().map(|branch| branch.len).sum();
            let x = random((rows + more) * channels, i as u64);
            let before = cpu_tail.clone();
            let run = |x: &[f32], tail: &mut ops::Tail, segments: &[Segment]| {
                let x = tensor(x, &[x.len() / channels, channels]);
                flat(&cpu.forward(&x, tail, segments).unwrap())
            };
            let mut expected = run(&x[..rows * channels], &mut cpu_tail, &segments);
            expected.extend(as_sequences(&x, &segments, &branches, |x, segment| {
                run(x, &mut before.clone(), &[segment])
            }));
            let x = gpu.upload(&x).unwrap();
            let found = conv.forward::<f32>(&x, &mut tail, &segments, &branches);
            let name = format!("short conv {channels} {taps}, branches");
            close(
                &name,
                &gpu.download(&found.unwrap()).unwrap(),
                &expected,
                1e-6,
            );
        }
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
