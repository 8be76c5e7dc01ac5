//! Products of columns: the gates between the convolutions of Hyena and in gated MLPs.

use super::{Device, cuda, expect_shape, math::simd, unwritten, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use rayon::prelude::*;

/// Rows of a tile.
const ROWS: usize = 64;

/// `a[:, i·C..] · b[:, j·C..]`, element by element: (T, C).
///
/// `a` is a tensor of any number of column blocks, each of `width` C, and the block i of it to
/// take; `b` likewise.
pub fn gate(a: (&Tensor, usize), b: (&Tensor, usize), width: usize) -> Result<Tensor> {
    let (rows, a_width) = a.0.dims2()?;
    let (_, b_width) = b.0.dims2()?;
    expect_shape("gate", b.0, &[rows, b_width])?;
    expect_shape("gate", a.0, &[rows, (a_width / width).max(a.1 + 1) * width])?;
    expect_shape("gate", b.0, &[rows, (b_width / width).max(b.1 + 1) * width])?;
    if let Device::Cuda(gpu) = a.0.device() {
        let (a, b) = ((a.0.gpu_values(gpu)?, a.1), (b.0.gpu_values(gpu)?, b.1));
        let out = cuda::gate(gpu, rows, a, b, width)?;
        return Ok(Tensor::on_gpu(gpu, out, &[rows, width]));
    }
    let out = with_slices([a.0, b.0], |[x, y]| {
        let mut out = unwritten(rows * width);
        out.par_chunks_mut(ROWS * width)
            .zip(x.par_chunks(ROWS * a_width))
            .zip(y.par_chunks(ROWS * b_width))
            .for_each(|((out, x), y)| {
                let rows = out
                    .chunks_exact_mut(width)
                    .zip(x.chunks_exact(a_width).zip(y.chunks_exact(b_width)));
                for (out, (x, y)) in rows {
                    multiply(out, &x[a.1 * width..], &y[b.1 * width..]);
                }
            });
        Ok(out)
    })?;
    Tensor::from_vec(out, (rows, width), a.0.device())
}

simd! {
fn multiply(out: &mut [f32], x: &[f32], y: &[f32]) {
    for ((out, x), y) in out.iter_mut().zip(x).zip(y) {
        *out = x * y;
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Device;

    #[test]
    fn the_named_columns_are_multiplied() {
        let x = Tensor::new(
            &[[1f32, 2., 3., 4., 5., 6.], [7., 8., 9., 10., 11., 12.]],
            &Device::Cpu,
        )
        .unwrap();
        let y = Tensor::new(&[[2f32, 3.], [4., 5.]], &Device::Cpu).unwrap();
        let out = gate((&x, 2), (&y, 0), 2).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(out, [[10., 18.], [44., 60.]]);
        let out = gate((&x, 0), (&x, 1), 2).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(out, [[3., 8.], [63., 80.]]);
        assert!(gate((&x, 3), (&y, 0), 2).is_err());
        assert!(gate((&x, 0), (&y.t().unwrap().narrow(0, 0, 1).unwrap(), 0), 2).is_err());
    }
}
