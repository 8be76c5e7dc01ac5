use super::*;
use crate::ops::Device;
use crate::ops::cuda::testing::{close, flat, gpu, random, tensor};
use std::sync::Arc;

#[test]
fn means_and_their_gradients_are_those_of_each_segment() {
    let segment = |len| Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    };
    let x: Vec<f32> = (0..10).map(|i| i as f32).collect();
    let x = Tensor::from_vec(x, (5, 2), &Device::Cpu)
        .unwrap()
        .parameter();
    let mean = segment_mean(&x, &[segment(2), segment(3)]).unwrap();
    assert_eq!(mean.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [6.0, 7.0]]);
    let seed = Tensor::new(&[[2f32, 4.0], [3.0, 6.0]], &Device::Cpu).unwrap();
    let gradient = mean
        .backward(seed)
        .unwrap()
        .of(&x)
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    assert_eq!(
        gradient,
        [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    );
    assert!(segment_mean(&x, &[segment(2)]).is_err());
}

#[test]
#[ignore = "needs a CUDA device"]
fn means_of_segments_and_their_gradients_equal_the_cpu_s() {
    let segments = [3, 1, 6].map(|len| Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    });
    let seed = tensor(&random(3 * 5, 2), &[3, 5]);
    let run = |device: &Device| {
        let x = tensor(&random(10 * 5, 1), &[10, 5]).to_device(device);
        let x = x.unwrap().parameter();
        let mean = segment_mean(&x, &segments).unwrap();
        let gradients = mean.backward(seed.clone()).unwrap();
        (flat(&mean), flat(gradients.of(&x).unwrap()))
    };
    let (found, expected) = (run(&Device::Cuda(Arc::clone(gpu()))), run(&Device::Cpu));
    close("means", &found.0, &expected.0, 1e-6);
    close("their gradients", &found.1, &expected.1, 1e-6);
}
