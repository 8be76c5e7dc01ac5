use super::cuda::add;
use super::*;
use crate::ops::cuda::testing::{close, gpu, random, same, values};

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_pass_through_what_moves_rows_on_a_device() {
    let picked: Vec<u32> = (0..3000).map(|i| (i * i + i / 7) % 5).collect();
    for width in [3, 8] {
        let inputs = [values(&[3000, width], 1), values(&[7, width], 2)];
        same("rows", (&inputs, 1), |x| {
            let tokens = Tensor::from_slice(&picked, picked.len(), x[0].device())?;
            let rows = x[1].index_select(&tokens, 0)?;
            let both = Tensor::cat(&[rows.mul(&x[0])?, x[0].affine(0.5, 1.0)?], 1)?;
            let rows = both.narrow(1, 1, 2 * width - 2)?.narrow(0, 5, 2000)?;
            let flat = rows.reshape((2 * width - 2, 2000))?;
            Tensor::cat(&[flat.clone(), flat.flip(0)?.flip(1)?], 0)
        });
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn sums_on_a_device_equal_the_cpu_s() {
    let gpu = gpu();
    for len in [15, 19_200] {
        let x = random(len, 2);
        let on_gpu = gpu.upload(&x).unwrap();
        let doubled: Vec<f32> = x.iter().map(|x| x + x).collect();
        let found = add::<f32>(gpu, &on_gpu, &on_gpu).unwrap();
        close("sum", &gpu.download(&found).unwrap(), &doubled, 0.0);
    }
}
