//! The modal filter and its gradients.

use super::*;
use crate::ops;
use crate::ops::cuda::testing::*;
use crate::ops::{Device, Tensor};

/// A filter of `modes` modes a channel, poles of magnitude up to 0.999, and its parameters in f64.
fn filter(channels: usize, modes: usize, parts: usize, skipped: bool) -> [Tensor; 3] {
    let shape = &[channels, modes, 2][..1 + parts];
    let mut poles = random(channels * modes * parts, 1);
    for pole in poles.chunks_exact_mut(parts) {
        let size = pole.iter().map(|x| x * x).sum::<f32>().sqrt();
        let magnitude = 0.999 - 0.5 * size * size.fract();
        pole.iter_mut().for_each(|x| *x *= magnitude / size);
    }
    let residues = random(channels * modes * parts, 2);
    let skip = if skipped {
        random(channels, 3)
    } else {
        vec![0.0; channels]
    };
    [
        tensor(&poles, shape),
        tensor(&residues, shape),
        tensor(&skip, &[channels]),
    ]
}

fn modal(parameters: &[Tensor; 3], parts: usize, skipped: bool) -> ops::Modal {
    let [poles, residues, skip] = parameters;
    let skip = skipped.then_some(skip);
    match parts {
        2 => ops::Modal::complex(poles, residues, skip),
        _ => ops::Modal::real(poles, residues, skip),
    }
    .unwrap()
}

fn check(channels: usize, modes: usize, parts: usize, skipped: bool, most: usize) {
    let device = Device::Cuda(Arc::clone(gpu()));
    let modal = modal(&filter(channels, modes, parts, skipped), parts, skipped);
    let (mut state, mut cpu_state) = (modal.start(3), modal.start(3));
    for (i, segments) in steps(most, 5).into_iter().enumerate() {
        let rows = total(&segments);
        let g = tensor(&random(rows * channels, i as u64), &[rows, channels]);
        let expected = modal.forward(&g, &mut cpu_state, &segments).unwrap();
        let g = g.to_device(&device).unwrap();
        // A clone that runs on with something else leaves ours as it was.
        modal.forward(&g, &mut state.clone(), &segments).unwrap();
        let found = modal.forward(&g, &mut state, &segments).unwrap();
        let name = format!("modal {channels} {modes} {parts}");
        close(&name, &flat(&found), &flat(&expected), 2e-5);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn branches_of_modal_filters_are_what_their_sequences_would_be() {
    let device = Device::Cuda(Arc::clone(gpu()));
    for (channels, modes, parts, skipped, most) in [
        (40, 16, 1, true, 300),
        (7, 20, 2, false, 100),
        (130, 4, 2, true, 30),
    ] {
        let modal = modal(&filter(channels, modes, parts, skipped), parts, skipped);
        let (mut state, mut cpu_state) = (modal.start(3), modal.start(3));
        for (i, segments) in steps(most, 5).into_iter().enumerate() {
            // They leave sequences that go on after the step.
            let mut branches = branches(&segments, 200, i as u64);
            branches.retain(|branch| !segments[branch.origin(&segments).unwrap().0].ends);
            let rows = total(&segments);
            let more: usize = branches.iter().map(|branch| branch.len).sum();
            let x = random((rows + more) * channels, i as u64);
            let before = cpu_state.clone();
            let run = |x: &[f32], state: &mut ops::ModalState, segments: &[Segment]| {
                let x = tensor(x, &[x.len() / channels, channels]);
                flat(&modal.forward(&x, state, segments).unwrap())
            };
            let mut expected = run(&x[..rows * channels], &mut cpu_state, &segments);
            expected.extend(as_sequences(&x, &segments, &branches, |x, segment| {
                run(x, &mut before.clone(), &[segment])
            }));
            let x = tensor(&x, &[rows + more, channels])
                .to_device(&device)
                .unwrap();
            let found = modal.forward_branched(&x, &mut state, &segments, &branches);
            let name = format!("modal {channels} {modes} {parts}, branches");
            close(&name, &flat(&found.unwrap()), &expected, 2e-5);
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn modal_filters_equal_the_cpu_s() {
    check(256, 16, 1, true, 300);
    check(37, 5, 1, false, 150);
    check(30, 8, 2, true, 500);
    check(19, 33, 2, true, 200);
    check(3, 70, 1, true, 100);
}

#[test]
#[ignore = "needs a CUDA device"]
fn modal_filters_of_many_tiles_equal_the_cpu_s() {
    check(20, 16, 1, true, 40_000);
    check(9, 12, 2, true, 30_000);
}

/// Gradients of the sum of the outputs times random numbers, by a plain f64 loop: to g, poles,
/// residues and skip. `before` holds the state of each lane, (lanes, C, N).
fn plain(
    parameters: &[Vec<f64>; 3],
    parts: usize,
    [g, slope]: [&[f64]; 2],
    before: &[(f64, f64)],
    segments: &[Segment],
) -> [Vec<f64>; 4] {
    let [poles, residues, skip] = parameters;
    let (channels, numbers) = (skip.len(), poles.len() / skip.len());
    let modes = numbers / parts;
    let complex = |x: &[f64], i: usize| match parts {
        2 => (x[2 * i], x[2 * i + 1]),
        _ => (x[i], 0.0),
    };
    let times = |x: (f64, f64), y: (f64, f64)| (x.0 * y.0 - x.1 * y.1, x.0 * y.1 + x.1 * y.0);
    let mut out = [
        vec![0.0; g.len()],
        vec![0.0; poles.len()],
        vec![0.0; poles.len()],
        vec![0.0; channels],
    ];
    let mut from = 0;
    for segment in segments {
        for c in 0..channels {
            for t in from..from + segment.len {
                out[3][c] += slope[t * channels + c] * g[t * channels + c];
                out[0][t * channels + c] += skip[c] * slope[t * channels + c];
            }
            for n in 0..modes {
                let i = c * modes + n;
                let (pole, residue) = (complex(poles, i), complex(residues, i));
                let start = segment.lane * channels * modes + i;
                let mut states = vec![if segment.starts {
                    (0.0, 0.0)
                } else {
                    before[start]
                }];
                for t in from..from + segment.len {
                    let s = times(pole, states[t - from]);
                    states.push((s.0 + g[t * channels + c], s.1));
                }
                // The gradient to s, as ∂/∂re + i ∂/∂im.
                let mut back = (0.0, 0.0);
                for t in (from..from + segment.len).rev() {
                    let y = slope[t * channels + c];
                    back = times((pole.0, -pole.1), back);
                    back = (back.0 + residue.0 * y, back.1 - residue.1 * y);
                    out[0][t * channels + c] += back.0;
                    let (now, earlier) = (states[t - from + 1], states[t - from]);
                    let to_pole = times(back, (earlier.0, -earlier.1));
                    let sums = [to_pole.0, to_pole.1, y * now.0, -y * now.1];
                    for k in 0..parts {
                        out[1][i * parts + k] += sums[k];
                        out[2][i * parts + k] += sums[2 + k];
                    }
                }
            }
        }
        from += segment.len;
    }
    out
}

fn check_gradients(channels: usize, modes: usize, parts: usize, most: usize) {
    let device = Device::Cuda(Arc::clone(gpu()));
    let parameters = filter(channels, modes, parts, true);
    let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let in_f64 = parameters.each_ref().map(|x| wide(&flat(x)));
    let learnt = parameters.each_ref().map(Tensor::parameter);
    let modal = modal(&learnt, parts, true);
    let first = Segment {
        lane: 2,
        len: 90,
        starts: true,
        ends: false,
    };
    let rest = [
        (2, most, false, false),
        (0, 40, true, true),
        (1, most / 2, true, false),
    ];
    let rest = rest.map(|(lane, len, starts, ends)| Segment {
        lane,
        len,
        starts,
        ends,
    });
    let mut state = modal.start(3);
    let g = random(first.len * channels, 5);
    let on_gpu = tensor(&g, &[first.len, channels])
        .to_device(&device)
        .unwrap();
    modal.forward(&on_gpu, &mut state, &[first]).unwrap();
    // Impulse responses of the modes, summed: the state that the first step leaves.
    let mut before = vec![(0.0, 0.0); 3 * channels * modes];
    for (i, s) in before[2 * channels * modes..].iter_mut().enumerate() {
        let pole = match parts {
            2 => (in_f64[0][2 * i], in_f64[0][2 * i + 1]),
            _ => (in_f64[0][i], 0.0),
        };
        for row in g.chunks_exact(channels) {
            let x = f64::from(row[i / modes]);
            *s = (pole.0 * s.0 - pole.1 * s.1 + x, pole.0 * s.1 + pole.1 * s.0);
        }
    }
    let rows = total(&rest);
    let (g, slope) = (random(rows * channels, 6), random(rows * channels, 7));
    let upload = |x: &[f32]| tensor(x, &[rows, channels]).to_device(&device).unwrap();
    let input = upload(&g).parameter();
    let out = modal.forward(&input, &mut state, &rest).unwrap();
    let gradients = out.backward(upload(&slope)).unwrap();
    let expected = plain(&in_f64, parts, [&wide(&g), &wide(&slope)], &before, &rest);
    let [poles, residues, skip] = &learnt;
    let all = [
        (&input, "g"),
        (poles, "poles"),
        (residues, "residues"),
        (skip, "skip"),
    ];
    for ((to, name), expected) in all.into_iter().zip(expected) {
        let found = gradients.of(to).unwrap();
        assert_eq!(found.dims(), to.dims());
        let expected: Vec<f32> = expected.into_iter().map(|x| x as f32).collect();
        let name = format!("gradient of modal {channels} {modes} {parts} to {name}");
        close(&name, &flat(found), &expected, 1e-4);
        let again = out.backward(upload(&slope)).unwrap();
        assert!(
            flat(found) == flat(again.of(to).unwrap()),
            "{name}: other bits"
        );
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_modal_filters_equal_a_plain_f64_loop() {
    check_gradients(40, 16, 1, 700);
    check_gradients(7, 3, 1, 100);
    check_gradients(10, 8, 2, 900);
    check_gradients(5, 20, 2, 300);
}
