//! Gradients of the implicit filter: to the sine network's weights, biases and frequencies.
//!
//! The network is evaluated again, a tile of positions at a time: nothing is kept of it.

use super::{ImplicitFilter, TAPS};
use crate::error::Result;
use crate::ops::math::{self, simd};
use crate::ops::{Device, Matrix, Tensor, multiply, total, with_slices};
use rayon::prelude::*;
use std::ops::Range;

/// Positions of a task, which has sums of its own.
const BLOCK: usize = 16 * TAPS;

/// What gradients are summed up in.
struct Sums {
    /// Of each hidden layer's weight and bias.
    hidden: Vec<(Vec<f32>, Vec<f32>)>,
    freq: Vec<f32>,
    out: Vec<f32>,
}

impl ImplicitFilter {
    /// To the parameters, in their order, from that of taps `0..n`: (D, n).
    pub(super) fn backward(&self, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (channels, n) = grad.dims2()?;
        let sums = with_slices([grad], |[grad]| {
            let blocks = (0..n).into_par_iter().step_by(BLOCK);
            let parts = blocks.map(|from| self.block(grad, channels, from..n.min(from + BLOCK)));
            Ok(total(parts.collect()))
        })?;
        let mut rest = &sums[..];
        let gradients = self.parameters.iter().map(|parameter| {
            let (here, later) = rest.split_at(parameter.elem_count());
            rest = later;
            Tensor::from_slice(here, parameter.dims(), &Device::Cpu).map(Some)
        });
        gradients.collect()
    }

    /// What some positions contribute to all parameters, one after the other.
    fn block(&self, grad: &[f32], channels: usize, rows: Range<usize>) -> Vec<f32> {
        let zeros = |x: &Vec<f32>| vec![0.0; x.len()];
        let hidden = self.hidden.iter();
        let mut sums = Sums {
            hidden: hidden
                .map(|(weight, bias)| (zeros(weight), zeros(bias)))
                .collect(),
            freq: zeros(&self.freq),
            out: zeros(&self.out),
        };
        for from in rows.clone().step_by(TAPS) {
            self.add_tile(&mut sums, grad, channels, from..rows.end.min(from + TAPS));
        }
        let hidden = sums.hidden.into_iter();
        let hidden = hidden.flat_map(|(weight, bias)| [weight, bias]);
        hidden.chain([sums.freq, sums.out]).flatten().collect()
    }

    fn add_tile(&self, sums: &mut Sums, grad: &[f32], channels: usize, rows: Range<usize>) {
        let (f, taps, n) = (self.freq.len(), rows.len(), grad.len() / channels);
        // Through the decay: (D, taps).
        let mut g = vec![0.0; channels * taps];
        let inputs = grad.chunks_exact(n).zip(&self.decay);
        for (g, (grad, decay)) in g.chunks_exact_mut(taps).zip(inputs) {
            let (grad, t) = (&grad[rows.clone()], &self.t[rows.clone()]);
            math::decay(g, grad, t, *decay, self.shift);
        }
        let layers = self.layers(rows);
        let g = Matrix::new(&g, [channels, taps], taps);
        if let Some((_, last)) = layers.last() {
            multiply(&mut sums.out, 1.0, g, Matrix::new(last, [taps, f], f));
        }
        let mut slopes = vec![0.0; taps * f]; // (taps, F)
        let out = Matrix::new(&self.out, [channels, f], f);
        multiply(&mut slopes, 0.0, g.transposed(), out);
        let layers = layers
            .windows(2)
            .zip(&self.hidden)
            .zip(&mut sums.hidden)
            .rev();
        for ((pair, (weight, _)), (to_weight, to_bias)) in layers {
            let ((_, inputs), (inner, _)) = (&pair[0], &pair[1]);
            sine_slopes(&mut slopes, inner, &self.freq, &mut sums.freq, to_bias);
            let width = weight.len() / f;
            let above = Matrix::new(&slopes, [taps, f], f);
            let inputs = Matrix::new(inputs, [taps, width], width);
            multiply(to_weight, 1.0, above.transposed(), inputs);
            let mut below = vec![0.0; taps * width];
            multiply(
                &mut below,
                0.0,
                above,
                Matrix::new(weight, [f, width], width),
            );
            slopes = below;
        }
    }

    /// The positions' features (taps, E), and each hidden layer before and after its sine
    /// (taps, F).
    fn layers(&self, rows: Range<usize>) -> Vec<(Vec<f32>, Vec<f32>)> {
        let (e, f, taps) = (self.features, self.freq.len(), rows.len());
        let mut layers = vec![(Vec::new(), self.z[rows.start * e..rows.end * e].to_vec())];
        for (weight, bias) in &self.hidden {
            let width = weight.len() / f;
            let mut inner: Vec<f32> = (0..taps).flat_map(|_| bias).copied().collect();
            if let Some((_, x)) = layers.last() {
                let x = Matrix::new(x, [taps, width], width);
                let weight = Matrix::new(weight, [f, width], width);
                multiply(&mut inner, 1.0, x, weight.transposed());
            }
            let mut after = inner.clone();
            for row in after.chunks_exact_mut(f) {
                sine(row, &self.freq);
            }
            layers.push((inner, after));
        }
        layers
    }
}

simd! {
fn sine(x: &mut [f32], freq: &[f32]) {
    for (x, freq) in x.iter_mut().zip(freq) {
        *x = math::sin::<FMA>(freq * *x);
    }
}
}

simd! {
/// From the gradient to `sin(freq · inner)`, rows of F, to that of `inner`; adds those of the
/// frequencies and of a bias in `inner`.
fn sine_slopes(grad: &mut [f32], inner: &[f32], freq: &[f32], to_freq: &mut [f32], to_bias: &mut [f32]) {
    let width = freq.len();
    for (grad, inner) in grad.chunks_exact_mut(width).zip(inner.chunks_exact(width)) {
        let sums = to_freq.iter_mut().zip(to_bias.iter_mut());
        for (((grad, inner), freq), (to_freq, to_bias)) in grad.iter_mut().zip(inner).zip(freq).zip(sums) {
            let slope = *grad * math::sin::<FMA>(freq * inner + std::f32::consts::FRAC_PI_2);
            *to_freq += slope * inner;
            *grad = slope * freq;
            *to_bias += *grad;
        }
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Config, Weights};
    use crate::encoder::hyena::Hyperparameters;
    use crate::ops::check::{check, random, wide};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const SIZES: &str = r#"{"d_model": 3, "n_layer": 1, "max_seq_len": 700, "emb_dim": 5,
        "filter_order": 4, "num_inner_mlps": 1}"#;
    const NAMES: [&str; 6] = [
        "implicit_filter.0.weight",
        "implicit_filter.0.bias",
        "implicit_filter.2.weight",
        "implicit_filter.2.bias",
        "implicit_filter.1.freq",
        "implicit_filter.4.weight",
    ];

    fn filter(parameters: &[Tensor]) -> Arc<ImplicitFilter> {
        let sizes = Hyperparameters::read(&Config::parse("config.json", SIZES).unwrap()).unwrap();
        let names = || NAMES.map(str::to_string).into_iter();
        let stored = parameters.iter().map(|x| x.stored().unwrap());
        let weights = Weights::new("test", names().zip(stored).collect());
        let replaced: BTreeMap<_, _> = names().zip(parameters.iter().cloned()).collect();
        Arc::new(ImplicitFilter::load(&sizes, &weights.replacing(replaced)).unwrap())
    }

    #[test]
    fn gradients_equal_differences_of_a_plain_f64_loop() {
        let shapes: [&[usize]; 6] = [&[4, 5], &[4], &[4, 4], &[4], &[1, 4], &[3, 4]];
        let inputs: Vec<_> = (0..6).map(|i| random(shapes[i], i as u64)).collect();
        let n = 600;
        let buffers = filter(&inputs);
        let (z, decay) = (buffers.z.clone(), buffers.decay.clone());
        let op = |x: &[Tensor]| {
            // Frequencies of a size at which the sines bend.
            let mut x = x.to_vec();
            x[4] = x[4].affine(3.0, 0.0)?;
            ImplicitFilter::tensor(&filter(&x), n, &Device::Cpu)
        };
        check(&inputs, 1e-4, op, |x| {
            let layer = |a: &[f64], weight: &[f64], bias: &[f64]| -> Vec<f64> {
                let rows = weight.chunks(a.len()).zip(bias).zip(&x[4]);
                let dot = |w: &[f64]| w.iter().zip(a).map(|(w, a)| w * a).sum::<f64>();
                rows.map(|((w, b), freq)| (3.0 * freq * (dot(w) + b)).sin())
                    .collect()
            };
            let mut taps = vec![0.0; 3 * n];
            for j in 0..n {
                let z: Vec<f64> = z[j * 5..][..5].iter().map(|&x| f64::from(x)).collect();
                let a = layer(&layer(&z, &x[0], &x[1]), &x[2], &x[3]);
                for (c, w) in x[5].chunks(4).enumerate() {
                    let g: f64 = w.iter().zip(&a).map(|(w, a)| w * a).sum();
                    taps[c * n + j] = g * ((-z[0] * f64::from(decay[c])).exp() + 0.05);
                }
            }
            taps
        });
        assert!(wide(&op(&inputs).unwrap()).iter().any(|x| x.abs() > 0.1));
    }
}
