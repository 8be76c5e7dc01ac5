//! The scan of Mamba-2.

use super::*;
use crate::ops::{self, SsdSizes};

fn check(sizes: SsdSizes, most: usize) {
    let device = Device::Cuda(Arc::clone(gpu()));
    let heads = sizes.heads;
    let parameter = |seed| tensor(&random(heads, seed), &[heads]);
    let (a_log, bias, skip) = (parameter(1), parameter(2), parameter(3));
    let scan = ops::Ssd::new(sizes, &a_log, &bias, &skip, (1e-3, 2.0)).unwrap();
    let (mut state, mut cpu_state) = (scan.start(3), scan.start(3));
    for (i, segments) in steps(most, 5).into_iter().enumerate() {
        let rows = total(&segments);
        let input = |width: usize, seed: usize| {
            let values = random(rows * width, (10 * i + seed) as u64);
            tensor(&values, &[rows, width])
        };
        let (xbc, steps) = (input(sizes.columns(), 0), input(heads, 1));
        let expected = scan
            .forward(&xbc, &steps, &mut cpu_state, &segments)
            .unwrap();
        let [xbc, steps] = [xbc, steps].map(|x| x.to_device(&device).unwrap());
        // A clone that runs on with something else leaves ours as it was.
        let mut fork = state.clone();
        scan.forward(&xbc, &steps, &mut fork, &segments).unwrap();
        let found = scan.forward(&xbc, &steps, &mut state, &segments).unwrap();
        close(&format!("{sizes:?}"), &flat(&found), &flat(&expected), 1e-5);
    }
}

fn sizes(heads: usize, channels: usize, groups: usize, states: usize) -> SsdSizes {
    SsdSizes {
        heads,
        channels,
        groups,
        states,
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2_equal_the_cpu_s() {
    check(sizes(2, 64, 1, 128), 300);
    check(sizes(4, 8, 2, 20), 200);
    check(sizes(1, 70, 1, 16), 100);
    check(sizes(2, 5, 1, 150), 100);
}

#[test]
#[ignore = "needs a CUDA device"]
fn scans_of_mamba_2_over_many_tiles_equal_the_cpu_s() {
    check(sizes(2, 4, 1, 16), 20_000);
}
