//! Tests of backward passes: gradients against central differences of a plain f64 loop.

use crate::error::Result;
pub(crate) use crate::ops::testing::close;
use crate::ops::testing::{largest, within};
use crate::ops::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Numbers from −1 to 1.
pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = StdRng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0..=1.0))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The values in row-major order.
pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The values in row-major order, in f64.
pub(crate) fn wide(tensor: &Tensor) -> Vec<f64> {
    values(tensor).into_iter().map(f64::from).collect()
}

/// Panics unless the op's values equal the plain loop's, and its gradients to every input the
/// loop's central differences, both within `tolerance` of the largest magnitude (for an input whose
/// gradients are all small: of a hundredth of the largest to any input); and unless the op gives
/// the same bits when nothing is differentiated.
pub(crate) fn check(
    inputs: &[Tensor],
    tolerance: f64,
    op: impl Fn(&[Tensor]) -> Result<Tensor>,
    plain: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let parameters: Vec<_> = inputs.iter().map(Tensor::parameter).collect();
    let out = op(&parameters).unwrap();
    assert_eq!(values(&out), values(&op(inputs).unwrap()));
    let seed = random(out.dims(), 99);
    let mut point: Vec<_> = inputs.iter().map(wide).collect();
    close("values", &wide(&out), &plain(&point), tolerance);
    let weights = wide(&seed);
    let loss = |point: &[Vec<f64>]| -> f64 {
        let terms = plain(point).into_iter().zip(&weights);
        terms.map(|(y, weight)| y * weight).sum()
    };
    let differences: Vec<Vec<f64>> = (0..inputs.len())
        .map(|i| {
            let difference = |j: usize| {
                let (here, step) = (point[i][j], 1e-5);
                point[i][j] = here + step;
                let above = loss(&point);
                point[i][j] = here - step;
                let below = loss(&point);
                point[i][j] = here;
                (above - below) / (2.0 * step)
            };
            (0..inputs[i].elem_count()).map(difference).collect()
        })
        .collect();
    let least = 1e-2 * largest(&differences.concat());
    let gradients = out.backward(seed).unwrap();
    for (i, (parameter, expected)) in parameters.iter().zip(&differences).enumerate() {
        let found = gradients.of(parameter).expect("a gradient");
        assert_eq!(found.dims(), parameter.dims());
        let bound = tolerance * largest(expected).max(least);
        within(&format!("input {i}"), &wide(found), expected, bound);
    }
}
