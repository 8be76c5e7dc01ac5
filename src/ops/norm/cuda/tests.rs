//! Dense layers, norms, gates, and the short convolution.

use super::*;
use crate::ops::{self, Activation, Reduction};
use half::bf16;

const ACTIVATIONS: [Activation; 4] = [
    Activation::None,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::Silu,
];

/// As the device rounds.
fn rounded(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()
}

fn wide(values: Vec<bf16>) -> Vec<f32> {
    values.into_iter().map(bf16::to_f32).collect()
}

#[test]
#[ignore = "needs a CUDA device"]
fn dense_layers_equal_the_cpu_s() {
    let gpu = gpu();
    for (rows, inner, width) in [(1, 3, 2), (7, 16, 5), (1100, 256, 768)] {
        let (x, w) = (random(rows * inner, 1), random(width * inner, 2));
        let (b, r) = (random(width, 3), random(rows * width, 4));
        let residual = gpu.upload(&r).unwrap();
        for (bias, added) in [(false, false), (true, false), (true, true)] {
            let bias = bias.then_some(&b[..]);
            for activation in ACTIVATIONS {
                for round in [false, true] {
                    let layer = Linear::new(gpu, &w, [width, inner], bias, round).unwrap();
                    let (x, w) = match round {
                        true => (rounded(&x), rounded(&w)),
                        false => (x.clone(), w.clone()),
                    };
                    let cpu = ops::Linear::new(
                        tensor(&w, &[width, inner]),
                        bias.map(|bias| tensor(bias, &[width])),
                    );
                    let mut expected = flat(
                        &cpu.forward_activated(&tensor(&x, &[rows, inner]), activation)
                            .unwrap(),
                    );
                    if added {
                        expected.iter_mut().zip(&r).for_each(|(y, r)| *y += r);
                    }
                    let x = gpu.upload(&x).unwrap();
                    let added = added.then_some(&residual);
                    let name = format!("linear {rows} {inner} {width} {activation:?} {round}");
                    let found = layer.forward::<f32, f32>(&x, added, activation).unwrap();
                    // GELU after a product of bf16 is by the GPU's own, rough tanh.
                    let bound = if round { 1e-4 } else { 3e-6 };
                    close(&name, &gpu.download(&found).unwrap(), &expected, bound);
                    if round {
                        let x = rows::convert::<bf16>(gpu, &x).unwrap();
                        let found = layer.forward::<bf16, bf16>(&x, added, activation).unwrap();
                        // GELU then adds a bias that is rounded too.
                        let gelu = activation == Activation::GeluTanh;
                        let bound = if gelu { 1e-2 } else { 4e-3 };
                        close(
                            &name,
                            &wide(gpu.download(&found).unwrap()),
                            &expected,
                            bound,
                        );
                    }
                }
            }
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn norms_equal_the_cpu_s() {
    let gpu = gpu();
    for (rows, width, groups) in [(3, 5, 1), (130, 256, 2), (77, 1536, 3)] {
        let (x, z) = (random(rows * width, 1), random(rows * width, 2));
        let (w, b) = (random(width, 3), random(width, 4));
        let cpu = [
            ops::LayerNorm::new(tensor(&w, &[width]), tensor(&b, &[width]), 1e-5)
                .forward(&tensor(&x, &[rows, width])),
            ops::RmsNorm::new(tensor(&w, &[width]), 1e-5).forward(&tensor(&x, &[rows, width])),
            ops::RmsNorm::with_eps_outside(tensor(&w, &[width]), 1e-6)
                .forward(&tensor(&x, &[rows, width])),
            ops::GatedRmsNorm::new(tensor(&w, &[width]), groups, 1e-5)
                .forward(&tensor(&x, &[rows, width]), &tensor(&z, &[rows, width])),
        ]
        .map(|x| flat(&x.unwrap()));
        let [x, z, w, b] = [&x, &z, &w, &b].map(|x| gpu.upload(x).unwrap());
        let found = [
            layer_norm::<f32>(gpu, &x, &w, &b, 1e-5),
            rms_norm(gpu, &x, &w, 1e-5, 0.0),
            rms_norm(gpu, &x, &w, 0.0, 1e-6),
            gated_rms_norm(gpu, &x, &z, &w, groups, 1e-5),
        ]
        .map(|x| gpu.download(&x.unwrap()).unwrap());
        let half = [
            layer_norm::<bf16>(gpu, &x, &w, &b, 1e-5),
            rms_norm(gpu, &x, &w, 1e-5, 0.0),
            rms_norm(gpu, &x, &w, 0.0, 1e-6),
            gated_rms_norm(gpu, &x, &z, &w, groups, 1e-5),
        ]
        .map(|x| wide(gpu.download(&x.unwrap()).unwrap()));
        let names = [
            "layer norm",
            "rms norm",
            "rms norm, eps outside",
            "gated rms norm",
        ];
        for i in 0..4 {
            let name = format!("{} {rows} {width}", names[i]);
            close(&name, &found[i], &cpu[i], 2e-6);
            close(&format!("{name} bf16"), &half[i], &cpu[i], 4e-3);
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gates_and_gathers_equal_the_cpu_s() {
    let gpu = gpu();
    for (rows, width) in [(5, 3), (300, 64)] {
        let x = random(rows * 3 * width, 1);
        let y = random(rows * width, 2);
        let cpu = ops::gate(
            (&tensor(&x, &[rows, 3 * width]), 1),
            (&tensor(&y, &[rows, width]), 0),
            width,
        );
        let (on_x, on_y) = (gpu.upload(&x).unwrap(), gpu.upload(&y).unwrap());
        let found = gate::<f32>(gpu, rows, (&on_x, 1), (&on_y, 0), width).unwrap();
        close(
            "gate",
            &gpu.download(&found).unwrap(),
            &flat(&cpu.unwrap()),
            0.0,
        );

        let cpu = ops::glu_residual(
            &tensor(&x[..2 * rows * width], &[rows, 2 * width]),
            &tensor(&y, &[rows, width]),
        );
        let halves = gpu.upload(&x[..2 * rows * width]).unwrap();
        let found = glu_residual::<f32>(gpu, &halves, &on_y, width).unwrap();
        close(
            "glu",
            &gpu.download(&found).unwrap(),
            &flat(&cpu.unwrap()),
            1e-6,
        );

        let cpu = ops::gelu_erf(&tensor(&y, &[rows, width]));
        let found = activate::<f32>(gpu, &on_y, Activation::GeluErf).unwrap();
        close(
            "gelu",
            &gpu.download(&found).unwrap(),
            &flat(&cpu.unwrap()),
            1e-6,
        );

        let indices: Vec<u32> = (0..40).map(|i| i * 7 % rows as u32).collect();
        let found = gather(gpu, &on_y, &gpu.upload(&indices).unwrap(), width).unwrap();
        let expected: Vec<f32> = indices
            .iter()
            .flat_map(|&i| y[i as usize * width..][..width].to_vec())
            .collect();
        close("gather", &gpu.download(&found).unwrap(), &expected, 0.0);

        let runs: Vec<_> = (0..rows).step_by(3).map(|i| i..rows.min(i + 3)).collect();
        for how in [Reduction::Sum, Reduction::Max, Reduction::Last] {
            let cpu = ops::pool(&tensor(&y, &[rows, width]), &runs, how).unwrap();
            let found = pool(gpu, &on_y, &runs, width, how).unwrap();
            close("pool", &gpu.download(&found).unwrap(), &flat(&cpu), 0.0);
        }

        let found = gpu.download(&half(gpu, &on_y).unwrap()).unwrap();
        assert!(
            found
                .iter()
                .zip(&y)
                .all(|(a, b)| *a == half::f16::from_f32(*b))
        );
        let doubled: Vec<f32> = y.iter().map(|y| y + y).collect();
        let found = add::<f32>(gpu, &on_y, &on_y).unwrap();
        close("sum", &gpu.download(&found).unwrap(), &doubled, 0.0);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn short_convolutions_equal_the_cpu_s() {
    let gpu = gpu();
    for (channels, taps, reversed) in [
        (5, 3, false),
        (300, 4, true),
        (70, 7, false),
        (9, 1, true),
        (40, 128, false),
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
            let found = conv.forward::<f32>(&x, &mut tail, &segments).unwrap();
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
