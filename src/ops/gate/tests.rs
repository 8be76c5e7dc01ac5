use super::*;
use crate::ops::Device;
use crate::ops::check::{check, random};
use crate::ops::cuda::Floats;
use crate::ops::cuda::testing::{self, flat, gpu, tensor};
use crate::ops::tensor::cuda::convert;
use half::bf16;

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    let inputs = [random(&[70, 6], 1), random(&[70, 4], 2)];
    let op = |x: &[Tensor]| gate((&x[0], 2), (&x[1], 1), 2);
    check(&inputs, 1e-5, op, |x| {
        let rows = x[0].chunks(6).zip(x[1].chunks(4));
        rows.flat_map(|(a, b)| [a[4] * b[2], a[5] * b[3]]).collect()
    });
    // Both blocks of one tensor.
    let op = |x: &[Tensor]| gate((&x[0], 0), (&x[0], 1), 3);
    check(&inputs[..1], 1e-5, op, |x| {
        let rows = x[0].chunks(6);
        rows.flat_map(|x| (0..3).map(|i| x[i] * x[3 + i])).collect()
    });
}

#[test]
fn the_named_columns_are_multiplied() {
    let x = Tensor::new(
        &[[1f32, 2., 3., 4., 5., 6.], [7., 8., 9., 10., 11., 12.]],
        &Device::Cpu,
    )
    .unwrap();
    let y = Tensor::new(&[[2f32, 3.], [4., 5.]], &Device::Cpu).unwrap();
    let out = gate((&x, 2), (&y, 0), 2).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(out, [[10., 18.], [44., 60.]]);
    let out = gate((&x, 0), (&x, 1), 2).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(out, [[3., 8.], [63., 80.]]);
    assert!(gate((&x, 3), (&y, 0), 2).is_err());
    assert!(gate((&x, 0), (&y.t().unwrap().narrow(0, 0, 1).unwrap(), 0), 2).is_err());
}

#[test]
fn a_factor_may_be_activated() {
    let (x, y) = (testing::random(150 * 6, 1), testing::random(150 * 2, 2));
    let (x, y) = (tensor(&x, &[150, 6]), tensor(&y, &[150, 2]));
    for activation in [Activation::None, Activation::GeluErf, Activation::Silu] {
        let found = gate_to_product((&x, 1), (&y, 0), 2, activation).unwrap();
        let activated = activation::activate(&x, activation).unwrap();
        let expected = gate((&activated, 1), (&y, 0), 2).unwrap();
        assert!(flat(&found) == flat(&expected), "{activation:?}");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn products_on_a_device_equal_the_cpu_s() {
    let gpu = gpu();
    for (rows, width) in [(5, 3), (300, 64)] {
        let x = testing::random(rows * 3 * width, 1);
        let y = testing::random(rows * width, 2);
        let factors = [(&x, 3 * width), (&y, width)].map(|(x, width)| tensor(x, &[rows, width]));
        let expected = gate((&factors[0], 1), (&factors[1], 0), width).unwrap();
        let (x, y) = (gpu.upload(&x).unwrap(), gpu.upload(&y).unwrap());
        let found = cuda::gate::<f32>(
            gpu,
            rows,
            ((&x).into(), 1),
            ((&y).into(), 0),
            width,
            Activation::None,
        )
        .unwrap();
        let found = gpu.download(&found).unwrap();
        testing::close("gate", &found, &flat(&expected), 0.0);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn factors_that_were_rounded_are_read_as_they_are() {
    let gpu = gpu();
    for (rows, width) in [(5, 3), (300, 64)] {
        let wide = [(3 * width, 1), (width, 2)]
            .map(|(width, seed)| testing::rounded(&testing::random(rows * width, seed)))
            .map(|x| gpu.upload(&x).unwrap());
        let narrow = wide.each_ref().map(|x| convert::<bf16>(gpu, x).unwrap());
        let (wide, narrow) = (
            wide.each_ref().map(Floats::from),
            narrow.each_ref().map(Floats::from),
        );
        let silu = Activation::Silu;
        let gate = |a, b| cuda::gate::<f32>(gpu, rows, (a, 2), (b, 0), width, silu).unwrap();
        let expected = gpu.download(&gate(wide[0], wide[1])).unwrap();
        for (a, b) in [
            (narrow[0], narrow[1]),
            (narrow[0], wide[1]),
            (wide[0], narrow[1]),
        ] {
            assert_eq!(gpu.download(&gate(a, b)).unwrap(), expected);
            let both = cuda::gate::<bf16>(gpu, rows, (a, 2), (b, 0), width, silu).unwrap();
            let found = testing::wide(gpu.download(&both).unwrap());
            assert_eq!(found, testing::rounded(&expected));
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_on_a_device_equal_the_cpu_s() {
    for width in [3, 8] {
        let inputs = [
            testing::values(&[90, 3 * width], 1),
            testing::values(&[90, width], 2),
        ];
        testing::same("gates", (&inputs, 2), |x| {
            let g = gate((&x[0], 1), (&x[0], 2), width)?;
            let y = gate((&x[0], 0), (&g, 0), width)?;
            gate((&y, 0), (&x[1], 0), width)
        });
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn what_a_product_reads_is_rounded_once() {
    let device = Device::Cuda(std::sync::Arc::clone(testing::rounded_gpu()));
    for activation in [Activation::None, Activation::GeluErf, Activation::Silu] {
        let (x, y) = (testing::random(300 * 64, 1), testing::random(300 * 64, 2));
        let factors = [&x, &y].map(|x| tensor(x, &[300, 64]));
        let [a, b] = &factors;
        let expected = flat(&gate_to_product((a, 0), (b, 0), 64, activation).unwrap());
        let [a, b] = factors.map(|x| x.to_device(&device).unwrap());
        let found = gate_to_product((&a, 0), (&b, 0), 64, activation).unwrap();
        assert!(found.gpu_rounded().is_some());
        testing::close("gate", &flat(&found), &expected, 4e-3);
    }
}
