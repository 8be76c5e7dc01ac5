//! Gradients of a dense layer: two matrix products and a sum over rows.

use super::cuda;
use crate::error::Result;
use crate::ops::cuda::OnGpu;
use crate::ops::sums::{column_sums, total};
use crate::ops::{Device, Matrix, Tensor, multiply, unwritten, with_slices};
use rayon::prelude::*;

/// Rows of a tile of the input's gradient: each packs the weight anew.
const ROWS: usize = 1024;
/// Rows of the weight's gradient that a task computes, from a block of the step's rows: each packs
/// the block of x anew. With 128, packing takes 2 % of a step of HyenaDNA's training.
const OUTPUTS: usize = 512;
/// Blocks that the step's rows are cut into, at most: each has a weight's gradient of its own.
const BLOCKS: usize = 8;

/// How gradients pass back to the input, the weight, the bias and the residual.
pub(super) fn linear(
    parents: [&Tensor; 4],
    on_gpu: OnGpu<cuda::Linear>,
) -> impl Fn(&Tensor) -> Result<[Option<Tensor>; 4]> + use<> {
    let wanted = parents.map(Tensor::is_tracked);
    let [x, weight] = [parents[0], parents[1]].map(Tensor::detach);
    move |grad| {
        let input = || match grad.device() {
            Device::Cpu => to_input(grad, &weight),
            Device::Cuda(gpu) => {
                let layer = on_gpu.made()?;
                let out = if layer.rounds() {
                    layer.to_input(grad.round_on_gpu(gpu)?)?
                } else {
                    layer.to_input(grad.gpu_values(gpu)?)?
                };
                Ok(Tensor::on_gpu(gpu, out, x.dims()))
            }
        };
        Ok([
            wanted[0].then(input).transpose()?,
            wanted[1].then(|| to_weight(grad, &x)).transpose()?,
            wanted[2].then(|| column_sums(grad)).transpose()?,
            wanted[3].then(|| grad.clone()),
        ])
    }
}

/// `grad (T, N) · weight (N, K)`
pub(in crate::ops) fn to_input(grad: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let ((rows, width), (_, inner)) = (grad.dims2()?, weight.dims2()?);
    let out = with_slices([grad, weight], |[grad, weight]| {
        let mut out = unwritten(rows * inner);
        out.par_chunks_mut(ROWS * inner)
            .zip(grad.par_chunks(ROWS * width))
            .for_each(|(out, grad)| {
                let grad = Matrix::new(grad, [grad.len() / width, width], width);
                multiply(out, 0.0, grad, Matrix::new(weight, [width, inner], inner));
            });
        Ok(out)
    })?;
    Tensor::from_vec(out, (rows, inner), grad.device())
}

/// `grad (T, N)ᵀ · x (T, K)`
pub(in crate::ops) fn to_weight(grad: &Tensor, x: &Tensor) -> Result<Tensor> {
    let ((rows, width), (_, inner)) = (grad.dims2()?, x.dims2()?);
    if let Device::Cuda(gpu) = grad.device() {
        let shape = [width, inner];
        // On a GPU that rounds products' inputs, the layer's input was rounded when it was read.
        let out = match x.gpu_rounded() {
            Some(x) => cuda::to_weight(gpu, grad.round_on_gpu(gpu)?, x, shape)?,
            None => cuda::to_weight(gpu, grad.gpu_values(gpu)?, x.gpu_values(gpu)?, shape)?,
        };
        return Ok(Tensor::on_gpu(gpu, out, &shape));
    }
    let block = rows.div_ceil(BLOCKS).max(ROWS);
    let sum = with_slices([grad, x], |[grad, x]| {
        let blocks = grad
            .par_chunks(block * width)
            .zip(x.par_chunks(block * inner));
        let parts = blocks.map(|(grad, x)| {
            let rows = x.len() / inner;
            let x = Matrix::new(x, [rows, inner], inner);
            let mut out = unwritten(width * inner);
            out.par_chunks_mut(OUTPUTS * inner)
                .enumerate()
                .for_each(|(i, out)| {
                    let columns = &grad[i * OUTPUTS..];
                    let columns = Matrix::new(columns, [rows, out.len() / inner], width);
                    multiply(out, 0.0, columns.transposed(), x);
                });
            out
        });
        Ok(total(parts.collect()))
    })?;
    Tensor::from_vec(sum, (width, inner), grad.device())
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check, close, random, wide};
    use crate::ops::{Activation, Linear, Tensor};

    /// `x Wᵀ`
    fn plain(x: &[f64], weight: &[f64], inner: usize) -> Vec<f64> {
        let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum();
        let rows = x.chunks(inner);
        rows.flat_map(|x| weight.chunks(inner).map(move |w| dot(x, w)))
            .collect()
    }

    #[test]
    fn gradients_equal_differences_of_a_plain_f64_loop() {
        let (rows, inner, width) = (9, 5, 4);
        let inputs = [
            random(&[rows, inner], 1),
            random(&[width, inner], 2),
            random(&[width], 3),
            random(&[rows, width], 4),
        ];
        let linear = |x: &[Tensor]| Linear::new(x[1].clone(), Some(x[2].clone()));
        let biased = |x: &[Vec<f64>]| -> Vec<f64> {
            let y = plain(&x[0], &x[1], inner);
            y.iter()
                .zip(x[2].iter().cycle())
                .map(|(y, b)| y + b)
                .collect()
        };
        let residual = |x: &[Tensor]| linear(x).forward_residual(&x[0], &x[3]);
        check(&inputs, 1e-5, residual, |x| {
            biased(x).iter().zip(&x[3]).map(|(y, r)| y + r).collect()
        });
        let gelu = |x: f64| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        };
        let op = |x: &[Tensor]| linear(x).forward_activated(&x[0], Activation::GeluTanh);
        check(&inputs[..3], 1e-5, op, |x| {
            biased(x).into_iter().map(gelu).collect()
        });
        let op = |x: &[Tensor]| Linear::new(x[1].clone(), None).forward(&x[0]);
        check(&inputs[..2], 1e-5, op, |x| plain(&x[0], &x[1], inner));
    }

    #[test]
    fn gradients_of_many_rows_equal_plain_f64_products() {
        let (rows, inner, width) = (5003, 7, 150);
        let (x, weight) = (
            random(&[rows, inner], 1).parameter(),
            random(&[width, inner], 2),
        );
        let (weight, bias) = (weight.parameter(), random(&[width], 3).parameter());
        let linear = Linear::new(weight.clone(), Some(bias.clone()));
        let seed = random(&[rows, width], 4);
        let gradients = linear.forward(&x).unwrap().backward(seed.clone()).unwrap();
        let found = |x: &Tensor| wide(gradients.of(x).unwrap());
        let turned = |x: &Tensor| wide(&x.t().unwrap());
        let expected = plain(&wide(&seed), &turned(&weight.detach()), width);
        close("input", &found(&x), &expected, 1e-5);
        let expected = plain(&turned(&seed), &turned(&x.detach()), rows);
        close("weight", &found(&weight), &expected, 1e-5);
        let expected: Vec<f64> = turned(&seed).chunks(rows).map(|x| x.iter().sum()).collect();
        close("bias", &found(&bias), &expected, 1e-5);
    }
}
