use super::*;
use crate::ops::check::{check, random};
use crate::ops::cuda::Floats;
use crate::ops::cuda::testing::{self, flat, gpu, tensor};
use crate::ops::tensor::cuda::convert;
use crate::ops::{Device, gelu_erf};
use half::bf16;

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    let inputs = [random(&[70, 10], 1), random(&[70, 5], 2)];
    let op = |x: &[Tensor]| glu_residual(&x[0], &x[1]);
    check(&inputs, 1e-5, op, |x| {
        let rows = x[0].chunks(10).zip(x[1].chunks(5));
        let glu = |x: &[f64], i: usize| x[i] / (1.0 + (-x[5 + i]).exp());
        rows.flat_map(|(x, r)| (0..5).map(move |i| r[i] + glu(x, i)))
            .collect()
    });
}

#[test]
fn values_equal_candle_s() {
    let values: Vec<f32> = (0..150 * 14)
        .map(|i| (i as f32 * 0.7).sin() * 4.0)
        .collect();
    let x = Tensor::from_vec(values, (150, 14), &Device::Cpu).unwrap();
    let (a, b) = (x.narrow(1, 0, 7).unwrap(), x.narrow(1, 7, 7).unwrap());
    let residual = a.affine(0.3, 0.0).unwrap();
    let candle = |x: &Tensor| x.stored().unwrap();
    let sigmoid = (candle(&b).neg().unwrap().exp().unwrap() + 1.0).unwrap();
    let glu = (candle(&residual) + (candle(&a) / sigmoid).unwrap()).unwrap();
    for (found, expected) in [
        (gelu_erf(&x).unwrap(), candle(&x).gelu_erf().unwrap()),
        (glu_residual(&x, &residual).unwrap(), glu),
    ] {
        let error = (candle(&found) - expected)
            .unwrap()
            .abs()
            .unwrap()
            .max_all()
            .unwrap();
        assert!(error.to_scalar::<f32>().unwrap() < 2e-6);
    }
    assert!(glu_residual(&x, &x).is_err());
}

#[test]
#[ignore = "needs a CUDA device"]
fn rows_on_a_device_equal_the_cpu_s() {
    let gpu = gpu();
    for (rows, width) in [(5, 3), (300, 64)] {
        let (x, y) = (
            testing::rounded(&testing::random(rows * 2 * width, 1)),
            testing::random(rows * width, 2),
        );
        let expected = glu_residual(&tensor(&x, &[rows, 2 * width]), &tensor(&y, &[rows, width]));
        let expected = flat(&expected.unwrap());
        let (x, y) = (gpu.upload(&x).unwrap(), gpu.upload(&y).unwrap());
        // What was rounded is read as it is.
        let narrow = convert::<bf16>(gpu, &x).unwrap();
        for x in [Floats::from(&x), Floats::from(&narrow)] {
            let found = cuda::glu_residual(gpu, x, &y, width).unwrap();
            testing::close("glu", &gpu.download(&found).unwrap(), &expected, 1e-6);
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_on_a_device_equal_the_cpu_s() {
    for width in [3, 8] {
        let inputs = [
            testing::values(&[90, width], 2),
            testing::values(&[90, 2 * width], 3),
        ];
        testing::same("gated linear unit", (&inputs, 2), |x| {
            glu_residual(&x[1], &x[0])
        });
    }
}
