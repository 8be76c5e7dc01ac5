use crate::ops::check::{check, random};
use crate::ops::cuda::testing::{self, gpu};
use crate::ops::{Device, Tensor};

#[test]
fn a_row_s_gradient_is_the_sum_over_its_uses() {
    let picked = [2u32, 0, 2, 2, 1, 0];
    let rows = Tensor::new(&picked, &Device::Cpu).unwrap();
    for width in [1, 150] {
        let op = |x: &[Tensor]| x[0].index_select(&rows, 0);
        check(&[random(&[4, width], 1)], 1e-6, op, |x| {
            let rows = picked
                .iter()
                .map(|&row| &x[0][row as usize * width..][..width]);
            rows.flatten().copied().collect()
        });
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn rows_picked_on_a_device_are_the_table_s() {
    let gpu = gpu();
    for (rows, width) in [(5, 3), (300, 64)] {
        let table = testing::random(rows * width, 2);
        let indices: Vec<u32> = (0..40).map(|i| i * 7 % rows as u32).collect();
        let expected = indices
            .iter()
            .flat_map(|&i| &table[i as usize * width..][..width]);
        let expected: Vec<f32> = expected.copied().collect();
        let (table, indices) = (gpu.upload(&table).unwrap(), gpu.upload(&indices).unwrap());
        let found = super::cuda::gather(gpu, &table, &indices, width).unwrap();
        testing::close("gather", &gpu.download(&found).unwrap(), &expected, 0.0);
    }
}
