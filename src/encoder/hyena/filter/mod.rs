//! HyenaDNA's implicit filter: `k[j] = g(z_j) · (exp(−t_j |delta|) + shift)`.

mod backward;

use super::Hyperparameters;
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::ops::cuda::Gpu;
use crate::ops::{self, Device, FilterNetwork, FilterTaps, Matrix, Tensor, multiply, unwritten};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The implicit filter: a small sine network of the position, times an exponential decay.
pub struct ImplicitFilter {
    length: usize,
    features: usize,
    z: Vec<f32>, // (L, E)
    t: Vec<f32>, // (L)
    /// Weight (F, E or F) and bias (F) of each hidden layer.
    hidden: Vec<(Vec<f32>, Vec<f32>)>,
    freq: Vec<f32>,  // (F), shared by all hidden layers
    out: Vec<f32>,   // (D, F)
    decay: Vec<f32>, // (D), |deltas|
    shift: f32,
    /// Each hidden layer's weight and bias, the frequencies and `out`.
    parameters: Vec<Tensor>,
}

/// Positions evaluated together.
const TAPS: usize = 512;
/// Channels of a task; of so many the taps of one tile stay in the L1 cache.
const CHANNELS: usize = 16;

impl ImplicitFilter {
    /// Takes the weights below `filter_fn`.
    pub fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let (l, e, f, d) = (
            sizes.length,
            sizes.features,
            sizes.filter_width,
            sizes.width,
        );
        let network = weights.at("implicit_filter");
        let mut parameters = Vec::new();
        for i in 0..=sizes.filter_layers {
            let layer = network.at(2 * i);
            let from = if i == 0 { e } else { f };
            parameters.push(layer.tensor("weight", &[f, from])?);
            parameters.push(layer.tensor("bias", &[f])?);
        }
        let hidden = parameters
            .chunks(2)
            .map(|layer| Ok((values(&layer[0])?, values(&layer[1])?)))
            .collect::<Result<_>>()?;
        // One sine module three times: the other two names hold the same values, if they are there.
        let freq = network.at(1).tensor("freq", &[1, f])?;
        for i in 1..=sizes.filter_layers {
            network.at(2 * i + 1).optional("freq", &[1, f])?;
        }
        let last = network.at(2 * (sizes.filter_layers + 1));
        let out = last.tensor("weight", &[d, f])?;
        parameters.extend([freq.clone(), out.clone()]);
        let position = weights.at("pos_emb");
        let z = position.optional("z", &[1, l, e])?;
        let t = position.optional("t", &[1, l, 1])?;
        let deltas = weights.at("modulation").optional("deltas", &[1, 1, d])?;
        Ok(Self {
            length: l,
            features: e,
            z: z.map_or_else(|| Ok(positions(l, e)), |z| values(&z))?,
            t: t.map_or_else(|| Ok(times(l)), |t| values(&t))?,
            hidden,
            freq: values(&freq)?,
            out: values(&out)?,
            decay: deltas
                .map_or_else(|| Ok(decays(d)), |deltas| values(&deltas))?
                .iter()
                .map(|x| x.abs())
                .collect(),
            shift: sizes.shift as f32,
            parameters,
        })
    }

    /// Whether gradients pass to the network.
    pub fn is_tracked(&self) -> bool {
        self.parameters.iter().any(Tensor::is_tracked)
    }

    /// Taps `0..n` of all channels, (D, n), as a function of the network's parameters: computed on
    /// this device, as their gradients are.
    pub fn tensor(filter: &Arc<Self>, n: usize, device: &Device) -> Result<Tensor> {
        let channels = filter.decay.len();
        if let Device::Cuda(gpu) = device {
            let network = filter.network(gpu)?;
            let taps = Tensor::on_gpu(gpu, network.first(gpu, n)?, &[channels, n]);
            let (gpu, own) = (Arc::clone(gpu), Arc::clone(filter));
            return Ok(taps.derived_from(&filter.parameters, move |grad| {
                let slopes = network.backward(&gpu, grad.gpu_values(&gpu)?)?;
                let hidden = slopes.hidden.into_iter().flatten();
                let all = hidden.chain([slopes.freq, slopes.out]).zip(&own.parameters);
                Ok(all
                    .map(|(slope, parameter)| Some(Tensor::on_gpu(&gpu, slope, parameter.dims())))
                    .collect())
            }));
        }
        let taps = Tensor::from_vec(filter.taps(0..channels, n)?, (channels, n), &Device::Cpu)?;
        let own = Arc::clone(filter);
        Ok(taps.derived_from(&filter.parameters, move |grad| own.backward(grad)))
    }

    /// `k[c, j] = g(z_j)_c · (exp(−t_j |delta_c|) + shift)`: (channels, n), zeros beyond L.
    ///
    /// Memory: n · F numbers besides the result.
    pub fn taps(&self, channels: Range<usize>, n: usize) -> Result<Vec<f32>> {
        Ok(self.channels(&self.hidden(n), channels, n))
    }

    /// The network in a GPU's memory.
    pub fn to_gpu(&self, gpu: &Gpu) -> Result<FilterTaps> {
        Ok(FilterTaps::Network(Box::new(self.network(gpu)?)))
    }

    fn network(&self, gpu: &Gpu) -> Result<FilterNetwork> {
        FilterNetwork::new(
            gpu,
            (&self.z, &self.t),
            &self.hidden,
            &self.freq,
            &self.out,
            (&self.decay, self.shift),
        )
    }

    /// The network's last hidden layer at the first n positions, which all channels share: tiles
    /// of (F, positions).
    pub(super) fn hidden(&self, n: usize) -> Vec<Vec<f32>> {
        let rows = n.min(self.length);
        (0..rows)
            .into_par_iter()
            .step_by(TAPS)
            .map(|from| self.tile(from..rows.min(from + TAPS)))
            .collect()
    }

    /// [`ImplicitFilter::taps`] from the hidden layer.
    pub(super) fn channels(
        &self,
        hidden: &[Vec<f32>],
        channels: Range<usize>,
        n: usize,
    ) -> Vec<f32> {
        let f = self.freq.len();
        let mut taps = unwritten(channels.len() * n);
        let tasks = taps
            .par_chunks_mut(CHANNELS * n)
            .zip(self.out[channels.start * f..channels.end * f].par_chunks(CHANNELS * f))
            .zip(self.decay[channels].par_chunks(CHANNELS));
        tasks.for_each(|((taps, weight), decay)| {
            let mut g = [0.0; CHANNELS * TAPS];
            let mut from = 0;
            for hidden in hidden {
                let width = hidden.len() / f;
                let g = &mut g[..decay.len() * width];
                let weight = Matrix::new(weight, [decay.len(), f], f);
                multiply(g, 0.0, weight, Matrix::new(hidden, [f, width], width));
                let t = &self.t[from..from + width];
                for (i, (g, decay)) in g.chunks_exact(width).zip(decay).enumerate() {
                    let taps = &mut taps[i * n + from..][..width];
                    ops::math::decay(taps, g, t, *decay, self.shift);
                }
                from += width;
            }
            for taps in taps.chunks_exact_mut(n) {
                taps[from..].fill(0.0);
            }
        });
        taps
    }

    /// (F, positions): position after position in a row, so that products need not turn it.
    fn tile(&self, rows: Range<usize>) -> Vec<f32> {
        let (e, n) = (self.features, rows.len());
        let z = Matrix::new(&self.z[rows.start * e..rows.end * e], [n, e], e).transposed();
        let mut x = Vec::new();
        for (i, (weight, bias)) in self.hidden.iter().enumerate() {
            let f = bias.len();
            let mut y = unwritten(f * n);
            let weight = Matrix::new(weight, [f, weight.len() / f], weight.len() / f);
            let below = match i {
                0 => z,
                _ => Matrix::new(&x, [f, n], n),
            };
            multiply(&mut y, 0.0, weight, below);
            for ((y, bias), freq) in y.chunks_exact_mut(n).zip(bias).zip(&self.freq) {
                ops::math::sine_layer(y, *bias, *freq);
            }
            x = y;
        }
        x
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_vec1()
}

/// `t_j = j / (L − 1)`
fn times(length: usize) -> Vec<f32> {
    (0..length)
        .map(|j| (j as f64 / (length - 1) as f64) as f32)
        .collect()
}

/// `z_j = [t_j, cos(f w_j), −sin(f w_j)]`, `w_j = 2π j / L` (L here, L − 1 in t), (E − 1) / 2
/// frequencies f from 1e-4 up.
fn positions(length: usize, features: usize) -> Vec<f32> {
    let bands = (features - 1) / 2;
    let step = match bands {
        0 | 1 => 0.0,
        _ => (bands as f64 - 1.0 - 1e-4) / (bands - 1) as f64,
    };
    let times = times(length);
    let mut z = Vec::with_capacity(length * features);
    for (j, t) in times.into_iter().enumerate() {
        let w = 2.0 * std::f64::consts::PI * j as f64 / length as f64;
        let angles = (0..bands).map(|i| (1e-4 + step * i as f64) * w);
        z.push(t);
        z.extend(angles.clone().map(|a| a.cos() as f32));
        z.extend(angles.map(|a| -a.sin() as f32));
    }
    z
}

/// Decay rates evenly spaced from ln(0.01) / 1.5 to ln(0.01) / 0.3.
fn decays(width: usize) -> Vec<f32> {
    let (slow, fast) = (0.01f64.ln() / 1.5, 0.01f64.ln() / 0.3);
    let step = (fast - slow) / (width.max(2) - 1) as f64;
    (0..width)
        .map(|c| (slow + step * c as f64) as f32)
        .collect()
}
