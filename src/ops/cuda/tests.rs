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

#[test]
#[ignore = "needs a CUDA device"]
fn uploads_arrive_whole_however_many_are_queued() {
    let gpu = gpu();
    // Beside 64 kB, from where they are staged, and of 600 MB together, for which buffers do not
    // suffice.
    let sizes = [1, (1 << 14) - 1, 1 << 14, 3 << 20, 5 << 20];
    let values = |round: usize, len: usize| -> Vec<u32> {
        (0..len as u32).map(|i| i ^ (round as u32) << 24).collect()
    };
    let each = || (0..15).flat_map(|round| sizes.map(|len| (round, len)));
    let uploaded: Vec<_> = each()
        .map(|(round, len)| gpu.upload(&values(round, len)).unwrap())
        .collect();
    for ((round, len), uploaded) in each().zip(&uploaded) {
        assert!(
            gpu.download(uploaded).unwrap() == values(round, len),
            "{round} {len}"
        );
    }
}
