//! The runtime.

use super::testing::gpu;
use super::*;

#[test]
fn a_machine_without_a_gpu_is_told_what_to_do() {
    if let Err(error) = Gpu::open(0, false) {
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.to_string().contains("--device cpu"), "{error}");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_device_says_what_it_is_and_refuses_what_does_not_fit() {
    let gpu = gpu();
    let (free, total) = gpu.memory().unwrap();
    println!("{gpu:?}: {free} bytes free of {total}");
    assert!(free <= total && devices().unwrap()[gpu.ordinal()] == gpu.name());
    assert_eq!(Gpu::open(99, false).unwrap_err().kind(), Kind::Usage);
    let error = gpu.zeros::<f32>(total).unwrap_err();
    assert_eq!(error.kind(), Kind::Memory);
    gpu.trim().unwrap();
    assert_eq!(
        gpu.download(&gpu.upload(&[1u32, 2]).unwrap()).unwrap(),
        [1, 2]
    );
}
