//! Gradients of attention pooling. The weights are computed again: with a[i] those of a query and g
//! the gradient of its y, that of v[i] is a[i] g, and that of the score a[i] (g·v[i] − g·y).

use super::{PoolSizes, sequences};
use crate::error::Result;
use crate::ops::sums::total;
use crate::ops::{Device, Tensor, with_slices};
use rayon::prelude::*;

/// To the rows and to r.
pub(super) fn attention_pool(
    [x, places, out]: [&Tensor; 3],
    sizes: PoolSizes,
    lengths: Vec<usize>,
) -> impl Fn(&Tensor) -> Result<[Option<Tensor>; 2]> + use<> {
    let (x, places, out) = (x.detach(), places.detach(), out.detach());
    move |grad| {
        let tensors = [&x, &places, &out, grad];
        let (to_x, to_places) = with_slices(tensors, |[rows, places, out, grad]| {
            let width = sizes.out();
            let pooled = out
                .par_chunks_exact(width)
                .zip(grad.par_chunks_exact(width));
            let rows = sequences(rows, &lengths, sizes.row());
            let parts = rows.into_par_iter().zip(pooled);
            let parts: Vec<(Vec<f32>, Vec<f32>)> = parts
                .map(|(rows, (out, grad))| of_sequence(rows, sizes, places, [out, grad]))
                .collect();
            let (to_x, to_places): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
            Ok((to_x.concat(), total(to_places)))
        })?;
        Ok([
            Some(Tensor::from_vec(to_x, x.dims(), &Device::Cpu)?),
            Some(Tensor::from_vec(to_places, places.dims(), &Device::Cpu)?),
        ])
    }
}

/// Of one sequence: the gradients of its rows, and what it adds to that of r.
fn of_sequence(
    rows: &[f32],
    sizes: PoolSizes,
    places: &[f32],
    [out, grad]: [&[f32]; 2],
) -> (Vec<f32>, Vec<f32>) {
    let PoolSizes { queries, width, .. } = sizes;
    let (row, length) = (sizes.row(), rows.len() / sizes.row());
    let (mut to_rows, mut to_places) = (vec![0.0; rows.len()], vec![0.0; places.len()]);
    let mut weights = vec![0.0f32; length];
    for q in 0..queries {
        let of_query = q * width..(q + 1) * width;
        let place = |i: usize| q * sizes.places + sizes.place(i, length);
        let scored = weights.iter_mut().zip(rows.chunks_exact(row)).enumerate();
        scored.for_each(|(i, (weight, x))| *weight = x[q] + places[place(i)]);
        softmax(&mut weights);
        let grad = &grad[of_query.clone()];
        let mean = dot(grad, &out[of_query]);
        for (i, (weight, (x, to))) in weights
            .iter()
            .zip(rows.chunks_exact(row).zip(to_rows.chunks_exact_mut(row)))
            .enumerate()
        {
            let values = queries + q * width..queries + (q + 1) * width;
            let to_score = weight * (dot(grad, &x[values.clone()]) - mean);
            to[q] = to_score;
            to_places[place(i)] += to_score;
            for (to, grad) in to[values].iter_mut().zip(grad) {
                *to = weight * grad;
            }
        }
    }
    (to_rows, to_places)
}

fn softmax(scores: &mut [f32]) {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|x| *x = (*x - largest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|x| *x /= sum);
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
