//! Gradients of the filter network: to its weights, biases and frequencies.

use super::{FilterNetwork, KERNELS, mismatch};
use crate::error::Result;
use crate::ops::cuda::blas::{self, Form};
use crate::ops::cuda::{Gpu, Operand, expect_len};
use crate::ops::linear::cuda::to_weight;
use crate::ops::sums::cuda::column_sums;
use crate::ops::tensor::cuda::{Columns, add, copy_columns};
use cudarc::driver::CudaSlice;

/// Gradients to a [`FilterNetwork`].
pub struct FilterSlopes {
    /// Weight (F, E or F) and bias (F) of each hidden layer.
    pub hidden: Vec<[CudaSlice<f32>; 2]>,
    /// (F).
    pub freq: CudaSlice<f32>,
    /// (D, F).
    pub out: CudaSlice<f32>,
}

impl FilterNetwork {
    /// From the gradient to [`FilterNetwork::first`], (D, n). The network is evaluated again.
    pub fn backward(&self, gpu: &Gpu, grad: &CudaSlice<f32>) -> Result<FilterSlopes> {
        let (channels, width) = (self.decay.len(), self.width);
        let n = grad.len() / channels.max(1);
        expect_len("gradient of taps", grad, n * channels)?;
        if n > self.length {
            return Err(mismatch("more taps than the filter has"));
        }
        let mut outputs = Vec::with_capacity(self.hidden.len());
        for layer in 0..self.hidden.len() {
            let y = self.layer(gpu, layer, outputs.last(), n)?;
            self.sine(gpu, layer, &y)?;
            outputs.push(y);
        }
        let last = outputs.last();
        let last = last.ok_or_else(|| mismatch("a filter without layers"))?;
        let g = gpu.copy(grad)?; // (D, n)
        self.modulate(gpu, &g, 0..channels, n, n)?;
        let out = gpu.unwritten(channels * width)?;
        let mut slopes = gpu.unwritten(n * width)?;
        let operand = |x: &CudaSlice<f32>, stride| (Operand::new(gpu, x, 0, stride), 0);
        blas::batched(
            gpu,
            Form::Plain,
            operand(&out, width),
            operand(&g, n),
            operand(last, width),
            [channels, n, width],
            1,
        )?;
        blas::batched(
            gpu,
            Form::Turned,
            operand(&slopes, width),
            operand(&g, n),
            operand(&self.out, width),
            [n, channels, width],
            1,
        )?;
        drop(g);
        let mut hidden = Vec::with_capacity(self.hidden.len());
        let mut freq: Option<CudaSlice<f32>> = None;
        for (layer, (weight, bias)) in self.hidden.iter().enumerate().rev() {
            let (x, inner) = (layer.checked_sub(1).map(|i| &outputs[i]), self.inner(layer));
            let y = self.layer(gpu, layer, x, n)?;
            gpu.kernel(KERNELS, "sine_slopes")?
                .array(&slopes)
                .array(&y)
                .array(bias)
                .array(&self.freq)
                .long(n * width)
                .int(width)
                .over(n * width)?;
            let here = column_sums(gpu, &y, width)?;
            freq = Some(match freq {
                Some(sum) => add(gpu, &sum, &here)?,
                None => here,
            });
            let to_bias = column_sums(gpu, &slopes, width)?;
            let sizes = [width, inner];
            let to_weight = match x {
                Some(x) => to_weight(gpu, &slopes, x, sizes)?,
                None => to_weight(gpu, &slopes, &self.features(gpu, n)?, sizes)?,
            };
            hidden.push([to_weight, to_bias]);
            if layer > 0 {
                let below = gpu.unwritten(n * inner)?;
                blas::batched(
                    gpu,
                    Form::Plain,
                    operand(&below, inner),
                    operand(&slopes, width),
                    operand(weight, inner),
                    [n, width, inner],
                    1,
                )?;
                slopes = below;
            }
        }
        hidden.reverse();
        let freq = freq.ok_or_else(|| mismatch("a filter without layers"))?;
        Ok(FilterSlopes { hidden, freq, out })
    }
    /// What the first layer reads at the first `n` positions: (n, E).
    fn features(&self, gpu: &Gpu, n: usize) -> Result<CudaSlice<f32>> {
        let width = n * self.features;
        let out = gpu.unwritten(width)?;
        let columns = |stride| Columns { from: 0, stride };
        let from = (&self.z, columns(self.z.len()));
        copy_columns(gpu, (&out, columns(width)), from, [1, width])?;
        Ok(out)
    }
}
