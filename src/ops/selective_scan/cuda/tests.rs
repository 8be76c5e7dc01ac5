//! The selective scan.

use super::*;
use crate::ops;
use crate::ops::Tensor;
use crate::ops::cuda::testing::*;
use crate::ops::tensor::cuda::convert;
use half::bf16;

/// Sizes, and the longest piece.
fn check(channels: usize, states: usize, rank: usize, reversed: bool, most: usize) {
    let gpu = gpu();
    let a_log: Vec<f32> = random(channels * states, 1)
        .iter()
        .map(|x| 2.0 * x)
        .collect();
    let (skip, weight, bias) = (
        random(channels, 2),
        random(channels * rank, 3),
        random(channels, 4),
    );
    let scan = SelectiveScan::new(gpu, &a_log, &skip, &weight, &bias, reversed).unwrap();
    let mut cpu = ops::SelectiveScan::new(
        &tensor(&a_log, &[channels, states]),
        &tensor(&skip, &[channels]),
        &tensor(&weight, &[channels, rank]),
        &tensor(&bias, &[channels]),
    )
    .unwrap();
    if reversed {
        cpu = cpu.reversed();
    }
    let (mut hidden, mut cpu_hidden) = (scan.start(3).unwrap(), cpu.start(3));
    let mut of_rounded = scan.start(3).unwrap();
    let width = rank + 2 * states;
    for (i, segments) in steps(most, 5).into_iter().enumerate() {
        let rows = total(&segments);
        let seed = 10 * i as u64;
        let (u, projected) = (
            rounded(&random(rows * channels, seed)),
            random(rows * width, seed + 1),
        );
        let (added, gate) = (
            random(rows * channels, seed + 2),
            rounded(&random(rows * channels, seed + 3)),
        );
        let all = i % 2 == 0;
        let (shape, projections) = ([rows, channels], [rows, width]);
        let (on_added, on_gate) = (tensor(&added, &shape), tensor(&gate, &shape));
        let expected = cpu
            .forward(
                &tensor(&u, &shape),
                &tensor(&projected, &projections),
                all.then_some(&on_added),
                all.then_some(&on_gate),
                &mut cpu_hidden,
                &segments,
            )
            .unwrap();
        let [u, projected, added, gate] =
            [&u, &projected, &added, &gate].map(|x| gpu.upload(x).unwrap());
        let io = ScanInputs {
            u: (&u).into(),
            projected: &projected,
            added: all.then_some(&added),
            gate: all.then_some((&gate).into()),
        };
        let (found, _) = scan.forward::<f32>(&io, &mut hidden, &segments).unwrap();
        let name = format!("scan {channels} {states} {rank} {reversed}");
        close(
            &name,
            &gpu.download(&found).unwrap(),
            &flat(&expected),
            5e-6,
        );
        hidden = hidden.fork(gpu).unwrap();
        // What was rounded is read as it is, with decays of the hardware.
        let [u, gate] = [&u, &gate].map(|x| convert::<bf16>(gpu, x).unwrap());
        let io = ScanInputs {
            u: (&u).into(),
            gate: all.then_some((&gate).into()),
            ..io
        };
        let (found, _) = scan
            .forward::<f32>(&io, &mut of_rounded, &segments)
            .unwrap();
        let found = gpu.download(&found).unwrap();
        close(&format!("{name}, rounded"), &found, &flat(&expected), 1e-4);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn selective_scans_equal_the_cpu_s() {
    check(512, 16, 16, false, 300);
    check(512, 16, 16, true, 300);
    check(37, 5, 3, false, 150);
    check(130, 16, 8, true, 500);
    check(64, 30, 16, false, 100);
}

#[test]
#[ignore = "needs a CUDA device"]
fn selective_scans_of_many_tiles_equal_the_cpu_s() {
    check(20, 16, 16, false, 40_000);
    check(20, 16, 40, true, 40_000);
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
