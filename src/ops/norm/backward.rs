//! Gradients of norms. Rows' statistics are computed again: cheaper than to keep and read them.

use super::{ROWS, cuda, dot, sum};
use crate::error::Result;
use crate::ops::activation::silu_slope;
use crate::ops::sums::total;
use crate::ops::{Device, Tensor, math, math::simd, unwritten, with_slices};
use rayon::prelude::*;

/// Rows of a task, which has sums of its own for the weights' gradients.
const BLOCK: usize = 8 * ROWS;

/// To `x`, the weight and the bias.
pub(super) fn layer_norm(
    [x, weight]: [&Tensor; 2],
    eps: f32,
) -> impl Fn(&Tensor) -> Result<[Option<Tensor>; 3]> + use<> {
    let (x, weight) = (x.detach(), weight.detach());
    move |grad| {
        let width = weight.elem_count();
        if let Device::Cuda(gpu) = grad.device() {
            let [grad, weight, values] = [grad, &weight, &x].map(|x| x.gpu_values(gpu));
            let [to_x, to_weight, to_bias] =
                cuda::layer_norm_backward(gpu, grad?, values?, weight?, eps)?;
            return Ok([
                Some(Tensor::on_gpu(gpu, to_x, x.dims())),
                Some(Tensor::on_gpu(gpu, to_weight, &[width])),
                Some(Tensor::on_gpu(gpu, to_bias, &[width])),
            ]);
        }
        let (out, sums) = with_slices([grad, &x, &weight], |[grad, x, weight]| {
            let mut out = unwritten(x.len());
            let parts = out.par_chunks_mut(BLOCK * width).zip(
                grad.par_chunks(BLOCK * width)
                    .zip(x.par_chunks(BLOCK * width)),
            );
            let parts = parts.map(|(out, (grad, x))| {
                let mut sums = vec![0.0; 2 * width];
                layer(out, &mut sums, grad, x, weight, eps);
                sums
            });
            let sums = total(parts.collect());
            Ok((out, sums))
        })?;
        let device = x.device();
        Ok([
            Some(Tensor::from_vec(out, x.dims(), device)?),
            Some(Tensor::from_slice(&sums[..width], width, device)?),
            Some(Tensor::from_slice(&sums[width..], width, device)?),
        ])
    }
}

simd! {
/// With x̂ the normalised row and g = grad · weight: `scale · (g − mean(g) − x̂ · mean(g x̂))`.
fn layer(out: &mut [f32], sums: &mut [f32], grad: &[f32], x: &[f32], weight: &[f32], eps: f32) {
    let width = weight.len();
    let n = width as f32;
    let (to_weight, to_bias) = sums.split_at_mut(width);
    let rows = out.chunks_exact_mut(width).zip(grad.chunks_exact(width));
    let mut g = vec![0.0; width];
    for ((out, grad), x) in rows.zip(x.chunks_exact(width)) {
        let mean = sum(x, |x| x) / n;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / n;
        let scale = 1.0 / (variance + eps).sqrt();
        for (out, x) in out.iter_mut().zip(x) {
            *out = (x - mean) * scale;
        }
        for ((g, grad), weight) in g.iter_mut().zip(grad).zip(weight) {
            *g = grad * weight;
        }
        let (level, tilt) = (sum(&g, |x| x) / n, dot(&g, out) / n);
        let sums = to_weight.iter_mut().zip(to_bias.iter_mut());
        for ((out, g), (grad, (to_weight, to_bias))) in out.iter_mut().zip(&g).zip(grad.iter().zip(sums)) {
            *to_weight += grad * *out;
            *to_bias += grad;
            *out = scale * (g - level - *out * tilt);
        }
    }
}
}

/// To `x` and the weight.
pub(super) fn rms_norm(
    [x, weight]: [&Tensor; 2],
    inside: f32,
    outside: f32,
) -> impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + use<> {
    let (x, weight) = (x.detach(), weight.detach());
    move |grad| {
        let width = weight.elem_count();
        if let Device::Cuda(gpu) = grad.device() {
            let [grad, weight, values] = [grad, &weight, &x].map(|x| x.gpu_values(gpu));
            let [to_x, to_weight] =
                cuda::rms_norm_backward(gpu, grad?, values?, weight?, inside, outside)?;
            return Ok([
                Some(Tensor::on_gpu(gpu, to_x, x.dims())),
                Some(Tensor::on_gpu(gpu, to_weight, &[width])),
            ]);
        }
        let (out, sums) = with_slices([grad, &x, &weight], |[grad, x, weight]| {
            let mut out = unwritten(x.len());
            let parts = out.par_chunks_mut(BLOCK * width).zip(
                grad.par_chunks(BLOCK * width)
                    .zip(x.par_chunks(BLOCK * width)),
            );
            let parts = parts.map(|(out, (grad, x))| {
                let mut sums = vec![0.0; width];
                rms(out, &mut sums, grad, x, weight, inside, outside);
                sums
            });
            let sums = total(parts.collect());
            Ok((out, sums))
        })?;
        Ok([
            Some(Tensor::from_vec(out, x.dims(), x.device())?),
            Some(Tensor::from_vec(sums, width, x.device())?),
        ])
    }
}

simd! {
fn rms(out: &mut [f32], sums: &mut [f32], grad: &[f32], x: &[f32], weight: &[f32], inside: f32, outside: f32) {
    let width = weight.len();
    let rows = out.chunks_exact_mut(width).zip(grad.chunks_exact(width));
    for ((out, grad), x) in rows.zip(x.chunks_exact(width)) {
        for ((out, grad), weight) in out.iter_mut().zip(grad).zip(weight) {
            *out = grad * weight;
        }
        let scale = rescale(out, x, inside, outside);
        for ((sum, grad), x) in sums.iter_mut().zip(grad).zip(x) {
            *sum += grad * x * scale;
        }
    }
}
}

/// Turns `g`, the gradient to `x · scale` with `scale = 1 / (√(mean(x²) + inside) + outside)`, into
/// the gradient to x; gives the scale.
#[inline(always)]
fn rescale(g: &mut [f32], x: &[f32], inside: f32, outside: f32) -> f32 {
    let n = x.len() as f32;
    let root = (sum(x, |x| x * x) / n + inside).sqrt();
    let scale = 1.0 / (root + outside);
    // A row of zeros without eps inside has a kink; its gradient is taken as g · scale.
    let tilt = dot(g, x) * scale * scale / (n * root.max(f32::MIN_POSITIVE));
    for (g, x) in g.iter_mut().zip(x) {
        *g = scale * *g - tilt * x;
    }
    scale
}

/// To `y`, the gate and the weight.
pub(super) fn gated_rms_norm(
    [y, gate, weight]: [&Tensor; 3],
    groups: usize,
    eps: f32,
) -> impl Fn(&Tensor) -> Result<[Option<Tensor>; 3]> + use<> {
    let (y, gate, weight) = (y.detach(), gate.detach(), weight.detach());
    move |grad| {
        let width = weight.elem_count();
        if let Device::Cuda(gpu) = grad.device() {
            let [grad, values, gates, scale] =
                [grad, &y, &gate, &weight].map(|x| x.gpu_values(gpu));
            let inputs = [values?, gates?, scale?];
            let [to_y, to_gate, to_weight] =
                cuda::gated_rms_norm_backward(gpu, grad?, inputs, groups, eps)?;
            return Ok([
                Some(Tensor::on_gpu(gpu, to_y, y.dims())),
                Some(Tensor::on_gpu(gpu, to_gate, y.dims())),
                Some(Tensor::on_gpu(gpu, to_weight, &[width])),
            ]);
        }
        let (outs, sums) = with_slices([grad, &y, &gate, &weight], |[grad, y, gate, weight]| {
            let mut outs = [unwritten(y.len()), unwritten(y.len())];
            let [to_y, to_gate] = &mut outs;
            let block = BLOCK * width;
            let parts = to_y
                .par_chunks_mut(block)
                .zip(to_gate.par_chunks_mut(block))
                .zip(
                    grad.par_chunks(block)
                        .zip(y.par_chunks(block))
                        .zip(gate.par_chunks(block)),
                );
            let parts = parts.map(|((to_y, to_gate), ((grad, y), gate))| {
                let mut sums = vec![0.0; width];
                let (outs, ins) = ([to_y, to_gate], [grad, y, gate]);
                gated(outs, &mut sums, ins, weight, width / groups, eps);
                sums
            });
            let sums = total(parts.collect());
            Ok((outs, sums))
        })?;
        let [to_y, to_gate] = outs.map(|out| Tensor::from_vec(out, y.dims(), y.device()));
        let to_weight = Tensor::from_vec(sums, width, y.device())?;
        Ok([Some(to_y?), Some(to_gate?), Some(to_weight)])
    }
}

simd! {
/// Writes the gradients to y and the gate, and adds those to the weight, of rows of the gradient, y
/// and the gate.
fn gated(outs: [&mut [f32]; 2], sums: &mut [f32], ins: [&[f32]; 3], weight: &[f32], group: usize, eps: f32) {
    let ([to_y, to_gate], [grad, y, gate]) = (outs, ins);
    let width = weight.len();
    let outs = to_y.chunks_exact_mut(width).zip(to_gate.chunks_exact_mut(width));
    let ins = grad.chunks_exact(width).zip(y.chunks_exact(width)).zip(gate.chunks_exact(width));
    let mut gated = vec![0.0; width];
    for ((to_y, to_gate), ((grad, y), gate)) in outs.zip(ins) {
        for ((gated, y), gate) in gated.iter_mut().zip(y).zip(gate) {
            *gated = y * math::silu::<FMA>(*gate);
        }
        for ((out, grad), weight) in to_y.iter_mut().zip(grad).zip(weight) {
            *out = grad * weight;
        }
        for (from, g) in to_y.chunks_exact_mut(group).enumerate() {
            let here = from * group..(from + 1) * group;
            let scale = rescale(g, &gated[here.clone()], eps, 0.0);
            let terms = sums[here.clone()].iter_mut().zip(&grad[here.clone()]).zip(&gated[here]);
            for ((sum, grad), gated) in terms {
                *sum += grad * gated * scale;
            }
        }
        for ((to_y, to_gate), (y, gate)) in to_y.iter_mut().zip(to_gate).zip(y.iter().zip(gate)) {
            *to_gate = *to_y * y * silu_slope::<FMA>(*gate);
            *to_y *= math::silu::<FMA>(*gate);
        }
    }
}
}

#[cfg(test)]
mod tests {
    use crate::ops::check::{check, random};
    use crate::ops::{GatedRmsNorm, LayerNorm, RmsNorm, Tensor};

    fn mean(x: &[f64], f: impl Fn(f64) -> f64) -> f64 {
        x.iter().map(|&x| f(x)).sum::<f64>() / x.len() as f64
    }

    #[test]
    fn gradients_equal_differences_of_plain_f64_loops() {
        for (rows, width) in [(5, 6), (3, 37)] {
            let inputs = [
                random(&[rows, width], 1),
                random(&[width], 2),
                random(&[width], 3),
            ];
            let op = |x: &[Tensor]| LayerNorm::new(x[1].clone(), x[2].clone(), 1e-3).forward(&x[0]);
            check(&inputs, 2e-5, op, |x| {
                let rows = x[0].chunks(width);
                let norm = |row: &[f64]| -> Vec<f64> {
                    let level = mean(row, |x| x);
                    let scale = 1.0 / (mean(row, |x| (x - level).powi(2)) + 1e-3).sqrt();
                    (0..width)
                        .map(|i| (row[i] - level) * scale * x[1][i] + x[2][i])
                        .collect()
                };
                rows.flat_map(norm).collect()
            });
            let rms = |x: &[Vec<f64>], inside: f64, outside: f64| -> Vec<f64> {
                let norm = |row: &[f64]| -> Vec<f64> {
                    let root = (mean(row, |x| x * x) + inside).sqrt() + outside;
                    (0..width).map(|i| row[i] / root * x[1][i]).collect()
                };
                x[0].chunks(width).flat_map(norm).collect()
            };
            let op = |x: &[Tensor]| RmsNorm::new(x[1].clone(), 1e-2).forward(&x[0]);
            check(&inputs[..2], 2e-5, op, |x| rms(x, 1e-2, 0.0));
            let op = |x: &[Tensor]| RmsNorm::with_eps_outside(x[1].clone(), 1e-2).forward(&x[0]);
            check(&inputs[..2], 2e-5, op, |x| rms(x, 0.0, 1e-2));
        }
    }

    #[test]
    fn gated_gradients_equal_differences_of_a_plain_f64_loop() {
        for (rows, width, groups) in [(5, 6, 2), (3, 35, 1)] {
            let inputs = [
                random(&[rows, width], 1),
                random(&[rows, width], 2),
                random(&[width], 3),
            ];
            let op =
                |x: &[Tensor]| GatedRmsNorm::new(x[2].clone(), groups, 1e-2).forward(&x[0], &x[1]);
            check(&inputs, 2e-5, op, |x| {
                let gated = x[0]
                    .iter()
                    .zip(&x[1])
                    .map(|(y, g)| y * g / (1.0 + (-g).exp()));
                let gated: Vec<_> = gated.collect();
                let normed = gated.chunks(width / groups).flat_map(|group| {
                    let root = (mean(group, |x| x * x) + 1e-2).sqrt();
                    group.iter().map(move |x| x / root)
                });
                normed
                    .zip(x[2].iter().cycle())
                    .map(|(x, w)| x * w)
                    .collect()
            });
        }
    }

    #[test]
    fn a_row_of_zeros_has_a_finite_gradient() {
        let x = random(&[1, 4], 1).affine(0.0, 0.0).unwrap().parameter();
        let norm = RmsNorm::with_eps_outside(random(&[4], 2), 1e-6);
        let gradients = norm
            .forward(&x)
            .unwrap()
            .backward(random(&[1, 4], 3))
            .unwrap();
        let found = gradients.of(&x).unwrap().to_vec2::<f32>().unwrap();
        assert!(found[0].iter().all(|x| x.is_finite()));
    }
}
