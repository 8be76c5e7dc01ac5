use super::*;
use crate::ops::cuda::testing::{close, flat, gpu, random, tensor};

#[test]
fn runs_become_their_sums_largest_and_last_values() {
    let values = [1f32, 8., 2., -7., 3., 6., -4., 5., f32::NAN, 0., 1., 1.];
    let x = Tensor::from_slice(&values, (6, 2), &Device::Cpu).unwrap();
    let pooled = |how| {
        let pooled = pool(&x, &[0..3, 3..4, 4..6], how).unwrap();
        pooled.to_vec1::<f32>().unwrap()
    };
    assert_eq!(pooled(Reduction::Sum)[..4], [6., 7., -4., 5.]);
    assert_eq!(pooled(Reduction::Max)[..4], [3., 8., -4., 5.]);
    assert_eq!(pooled(Reduction::Last), [3., 6., -4., 5., 1., 1.]);
    assert!(pooled(Reduction::Max)[4].is_nan());
    assert_eq!(pooled(Reduction::Max)[5], 1.);
    assert!(pool(&x, &[0..1, 1..7], Reduction::Sum).is_err());
    assert!(pool(&x, &[0..2, 2..2], Reduction::Sum).is_err());
}

#[test]
#[ignore = "needs a CUDA device"]
fn runs_on_a_device_become_what_they_become_on_the_cpu() {
    let gpu = gpu();
    for (rows, width) in [(5, 3), (300, 64)] {
        let x = random(rows * width, 2);
        let on_gpu = gpu.upload(&x).unwrap();
        let runs: Vec<_> = (0..rows).step_by(3).map(|i| i..rows.min(i + 3)).collect();
        for how in [Reduction::Sum, Reduction::Max, Reduction::Last] {
            let expected = pool(&tensor(&x, &[rows, width]), &runs, how).unwrap();
            let found = cuda::pool(gpu, &on_gpu, &runs, width, how).unwrap();
            close(
                "pool",
                &gpu.download(&found).unwrap(),
                &flat(&expected),
                0.0,
            );
        }
    }
}
