use super::Linear;
use crate::ops::Held;
use crate::ops::cuda::Gpu;
use crate::ops::cuda::testing::{
    close, flat, gpu, random, rounded, rounded_gpu, same, same_on, tensor, values, wide,
};
use crate::ops::tensor::cuda::convert;
use crate::ops::{self, Activation, Device, Tensor};
use half::bf16;
use std::sync::Arc;

const ACTIVATIONS: [Activation; 4] = [
    Activation::None,
    Activation::GeluTanh,
    Activation::GeluErf,
    Activation::Silu,
];

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
                    let layer =
                        Linear::new(gpu, Held::F32(&w), [width, inner], bias, round).unwrap();
                    let (x, w) = if round {
                        (rounded(&x), rounded(&w))
                    } else {
                        (x.clone(), w.clone())
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
                        let x = convert::<bf16>(gpu, &x).unwrap();
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
fn a_weight_held_in_bf16_gives_the_bits_of_its_f32_values() {
    let (rows, inner, width) = (300, 64, 96);
    let wide = rounded(&random(width * inner, 2));
    let narrow: Vec<_> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
    let x = random(rows * inner, 1);
    for gpu in [gpu(), rounded_gpu()] {
        let device = Device::Cuda(Arc::clone(gpu));
        let found = [
            Tensor::from_slice(&wide, (width, inner), &Device::Cpu),
            Tensor::from_slice(&narrow, (width, inner), &Device::Cpu),
        ]
        .map(|weight| {
            let layer = ops::Linear::new(weight.unwrap(), None);
            let x = tensor(&x, &[rows, inner]).to_device(&device).unwrap();
            flat(&layer.forward(&x).unwrap())
        });
        assert!(found[0].iter().all(|y| y.is_finite()));
        assert_eq!(found[0], found[1]);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn results_are_rounded_where_products_are_and_no_gradient_passes() {
    let (rows, inner, width) = (50, 16, 8);
    let layer = || {
        let weight = tensor(&random(width * inner, 2), &[width, inner]);
        ops::Linear::new(weight, Some(tensor(&random(width, 3), &[width])))
    };
    let on = |gpu: &Arc<Gpu>| {
        let x = tensor(&random(rows * inner, 1), &[rows, inner]);
        x.to_device(&Device::Cuda(Arc::clone(gpu))).unwrap()
    };
    let x = on(gpu());
    let exact = layer().forward_rounded(&x).unwrap();
    assert!(exact.gpu_rounded().is_none());
    assert_eq!(flat(&exact), flat(&layer().forward(&x).unwrap()));
    let x = on(rounded_gpu());
    let found = layer().forward_rounded(&x).unwrap();
    assert!(found.gpu_rounded().is_some());
    // The bias is rounded, too.
    let expected = flat(&layer().forward(&x).unwrap());
    close("rounded", &flat(&found), &expected, 8e-3);
    let tracked = layer().forward_rounded(&x.parameter()).unwrap();
    assert!(tracked.gpu_rounded().is_none());
    assert_eq!(flat(&tracked), expected);
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
