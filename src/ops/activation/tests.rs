use super::*;
use crate::ops::check::{close, random, wide};
use crate::ops::cuda::testing::{self, flat, gpu, tensor};

#[test]
fn gradients_equal_differences_in_f64() {
    let x = random(&[300, 70], 1).affine(9.0, 0.0).unwrap().parameter();
    let ones = x.affine(0.0, 1.0).unwrap().detach();
    // Φ by summing its density: trapezoids of 2e-4 err by 1e-9.
    let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let gelu_tanh = |x: f64| {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
        0.5 * x * (1.0 + inner.tanh())
    };
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let difference = |f: &dyn Fn(f64) -> f64, x: f64| (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
    let slopes = |activation| {
        let out = activate(&x, activation).unwrap();
        wide(out.backward(ones.clone()).unwrap().of(&x).unwrap())
    };
    let expected = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
        wide(&x).into_iter().map(|x| difference(f, x)).collect()
    };
    close("silu", &slopes(Activation::Silu), &expected(&silu), 2e-6);
    close(
        "tanh",
        &slopes(Activation::GeluTanh),
        &expected(&gelu_tanh),
        2e-6,
    );
    // (x Φ)′ = Φ + x φ, and (x Φ)″ = (2 − x²) φ: two differences of the first are the second.
    let step = 1e-2;
    for x in (-600..600).map(|i| f64::from(i) * step) {
        let [low, high] = [x, x + step].map(|x| f64::from(gelu_erf_slope::<true>(x as f32)));
        let middle = x + step / 2.0;
        let curvature = (2.0 - middle * middle) * density(middle);
        assert!(((high - low) / step - curvature).abs() < 2e-4, "{x}");
    }
    assert!((gelu_erf_slope::<true>(0.0) - 0.5).abs() < 1e-6);
    assert!(
        gelu_erf_slope::<true>(-20.0).abs() < 1e-30
            && (gelu_erf_slope::<true>(20.0) - 1.0).abs() < 1e-6
    );
}

#[test]
#[ignore = "needs a CUDA device"]
fn values_on_a_device_equal_the_cpu_s() {
    let gpu = gpu();
    for (rows, width) in [(5, 3), (300, 64)] {
        let x = testing::random(rows * width, 2);
        let expected = gelu_erf(&tensor(&x, &[rows, width])).unwrap();
        let x = gpu.upload(&x).unwrap();
        let found = cuda::activate::<f32>(gpu, &x, Activation::GeluErf).unwrap();
        let found = gpu.download(&found).unwrap();
        testing::close("gelu", &found, &flat(&expected), 1e-6);
    }
}
