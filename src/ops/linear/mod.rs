//! Dense layers: one matrix product with bias, activation and residual fused behind it.

mod backward;
pub(super) mod cuda;
mod epilogue;
mod rounded;

use super::cuda::OnGpu;
use super::{
    Activation, Device, Held, Matrix, activation, expect_shape, multiply, unwritten, with_held,
    with_slices,
};
use crate::error::Result;
use crate::ops::Tensor;
use crate::ops::timing;
pub(super) use backward::{to_input, to_weight};
use epilogue::follow;
pub(super) use epilogue::{Epilogue, Then};
use rayon::prelude::*;
use rounded::Packed;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

pub use rounded::available as rounds_on_cpu;

/// Rows of a tile at most.
const ROWS: usize = 512;
/// Rows of a block of a product, which stays in the L2 cache until its epilogue reads it.
const BLOCK: usize = 96;
/// Rows of a tile at least: for fewer, packing the weight takes longer than the product.
const LEAST: usize = 16;
/// The values of a product up to which the library sums in another order.
const SMALL: usize = 256;

/// `y = x Wᵀ + b`
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,       // (N, K)
    bias: Option<Tensor>, // (N)
    on_gpu: OnGpu<cuda::Linear>,
    /// On the CPU, what the product rounds to bf16, once it was needed.
    packed: Option<Arc<OnceLock<Packed>>>,
}

impl Linear {
    /// `weight` is (N, K) as PyTorch stores it, in f32 or bf16; `bias` (N).
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight,
            bias,
            on_gpu: OnGpu::default(),
            packed: None,
        }
    }

    /// Whether the product rounds what it multiplies to bf16 on the CPU, where no gradients are
    /// wanted and [the processor can](rounds_on_cpu); on a GPU that is the device's own property.
    #[must_use]
    pub fn rounding(self, rounded: bool) -> Self {
        let packed = (rounded && rounds_on_cpu()).then(Arc::default);
        Self { packed, ..self }
    }

    /// Whether it does.
    pub(super) fn rounds(&self) -> bool {
        self.packed.is_some()
    }

    /// The weight (N, K).
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (T, K) to (T, N).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None, Activation::None, false)
    }

    /// The same for what reads each value once: where products round on a GPU and no gradient
    /// passes, the result is rounded to bf16, which takes half as long to write and to read.
    pub fn forward_rounded(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None, Activation::None, true)
    }

    /// (T, K) to (T, N), through an activation; a product reads it next.
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        if x.is_tracked() || self.is_tracked() {
            // The activation's gradient needs what went into it.
            return activation::activate(&self.forward(x)?, activation);
        }
        self.run(x, None, activation, true)
    }

    /// `residual (T, N) + x Wᵀ + b`
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.run(x, Some(residual), Activation::None, false)
    }

    /// The weight and the bias; the weight again where there is no bias.
    pub(super) fn tensors(&self) -> [&Tensor; 2] {
        [&self.weight, self.bias.as_ref().unwrap_or(&self.weight)]
    }

    /// The width N, if K is `inner`.
    pub(super) fn expect(&self, inner: usize) -> Result<usize> {
        let (width, _) = self.weight.dims2()?;
        expect_shape("weight", &self.weight, &[width, inner])?;
        Ok(width)
    }

    /// The layer for so many rows, from the values of its [tensors](Linear::tensors).
    pub(super) fn rows<'a>(&'a self, [weight, bias]: [Held<'a>; 2], rows: usize) -> Rows<'a> {
        let width = self.weight.dims()[0];
        let inner = weight.len() / width.max(1);
        let packed = self.packed.as_ref().filter(|_| !self.is_tracked());
        let weight = match packed {
            Some(packed) => Weight::Rounded(packed.get_or_init(|| match weight {
                Held::F32(weight) => Packed::new(weight, inner),
                Held::Bf16(weight) => Packed::new(weight, inner),
            })),
            None if rows > ROWS => Weight::Turned(match weight {
                Held::F32(weight) => turned(weight, inner, width),
                Held::Bf16(weight) => turned(weight, inner, width),
            }),
            None => Weight::Stored(weight.wide()),
        };
        Rows {
            inner,
            width,
            weight,
            bias: match self.bias {
                Some(_) => bias.wide(),
                None => vec![0.0; width].into(),
            },
        }
    }

    fn is_tracked(&self) -> bool {
        self.tensors().into_iter().any(Tensor::is_tracked)
    }

    /// With `narrow` the result is rounded if what is multiplied is.
    fn run(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
        narrow: bool,
    ) -> Result<Tensor> {
        let _span = timing::span("linear");
        let (rows, inner) = x.dims2()?;
        let width = self.expect(inner)?;
        if let Some(residual) = residual {
            expect_shape("residual", residual, &[rows, width])?;
        }
        let constant = x.detach(); // in the place of what is not there
        let parents = [
            x,
            &self.weight,
            self.bias.as_ref().unwrap_or(&constant),
            residual.unwrap_or(&constant),
        ];
        if let Device::Cuda(gpu) = x.device() {
            let layer = self.on_gpu.get(|| {
                let bias = self.bias.as_ref().map(Tensor::to_vec1).transpose()?;
                let (weight, shape) = (self.weight.to_device(&Device::Cpu)?, [width, inner]);
                with_held([&weight], |[weight]| {
                    cuda::Linear::new(gpu, weight, shape, bias.as_deref(), gpu.rounded())
                })
            })?;
            let added = residual.map(|x| x.gpu_values(gpu)).transpose()?;
            let shape = [rows, width];
            let tracked = parents.iter().any(|x| x.is_tracked());
            let rounded = if tracked && layer.rounds() {
                // Its gradient to the weight needs it again.
                Some(x.round_on_gpu(gpu)?)
            } else {
                x.gpu_rounded()
            };
            let out = match (rounded, narrow && !tracked && layer.rounds()) {
                (Some(x), true) => {
                    let out = layer.forward(x, added, activation)?;
                    Tensor::rounded_on_gpu(gpu, out, &shape)
                }
                (Some(x), false) => {
                    let out = layer.forward(x, added, activation)?;
                    Tensor::on_gpu(gpu, out, &shape)
                }
                (None, true) => {
                    let out = layer.forward(x.gpu_values(gpu)?, added, activation)?;
                    Tensor::rounded_on_gpu(gpu, out, &shape)
                }
                (None, false) => {
                    let out = layer.forward(x.gpu_values(gpu)?, added, activation)?;
                    Tensor::on_gpu(gpu, out, &shape)
                }
            };
            let on_gpu = self.on_gpu.clone();
            return Ok(out.derived(parents, backward::linear(parents, on_gpu)));
        }
        let out = with_slices([x, residual.unwrap_or(x)], |[x, added]| {
            let mut out = unwritten(rows * width);
            let tile = tile(rows, ROWS);
            with_held(self.tensors(), |held| {
                let layer = self.rows(held, rows);
                out.par_chunks_mut(tile * width).enumerate().for_each_init(
                    Work::default,
                    |work, (i, out)| {
                        let x = &x[i * tile * inner..][..out.len() / width * inner];
                        let then = match residual {
                            Some(_) => Then::Plus(&added[i * tile * width..][..out.len()]),
                            None => Then::Nothing,
                        };
                        layer.forward(out, x, Epilogue { activation, then }, work);
                    },
                );
                Ok(())
            })?;
            Ok(out)
        })?;
        let out = Tensor::from_vec(out, (rows, width), x.device())?;
        let on_gpu = self.on_gpu.clone();
        Ok(out.derived(parents, backward::linear(parents, on_gpu)))
    }
}

/// A dense layer on slices.
pub(super) struct Rows<'a> {
    inner: usize,
    width: usize,
    weight: Weight<'a>,
    bias: Cow<'a, [f32]>,
}

/// What a thread needs for products, kept from one to the next.
#[derive(Default)]
pub(super) struct Work {
    /// A block of a product.
    product: Vec<f32>,
    /// A block of rounded inputs.
    rounded: Vec<u32>,
}

/// A weight as a product reads it.
enum Weight<'a> {
    /// (N, K), packed by each tile.
    Stored(Cow<'a, [f32]>),
    /// (K, N)
    Turned(Vec<f32>),
    /// In bf16.
    Rounded(&'a Packed),
}

impl Rows<'_> {
    /// `out (M, N)` of `x (M, K) Wᵀ + b` and what follows, on one thread. A block of the product stays in
    /// the L2 cache until `out` is written row by row: the tiles of a product are strided, and of an
    /// `out` in memory the processor waits for each.
    pub(super) fn forward(&self, out: &mut [f32], x: &[f32], epilogue: Epilogue, work: &mut Work) {
        let rows = BLOCK.max(self.least());
        let block = self.width * rows;
        work.product.resize(block.min(out.len()), 0.0);
        let blocks = out.chunks_mut(block).zip(x.chunks(self.inner * rows));
        for (i, (out, x)) in blocks.enumerate() {
            let y = &mut work.product[..out.len()];
            self.multiply(y, x, &mut work.rounded);
            let then = epilogue.then.of(i * block..i * block + out.len());
            follow(out, y, &self.bias, Epilogue { then, ..epilogue });
        }
    }

    /// Rows with which the library sums in the usual order.
    fn least(&self) -> usize {
        (SMALL / self.width + 1).max(2)
    }

    /// `out = x Wᵀ`
    fn multiply(&self, out: &mut [f32], x: &[f32], rounded: &mut Vec<u32>) {
        let (inner, width) = (self.inner, self.width);
        let weight = match &self.weight {
            Weight::Turned(turned) => Matrix::new(turned, [inner, width], width),
            Weight::Stored(weight) => Matrix::new(weight, [width, inner], inner).transposed(),
            Weight::Rounded(packed) => return packed.multiply(out, x, rounded),
        };
        // With fewer rows a row's bits would depend on how many there are.
        let (rows, least) = (out.len() / width, self.least());
        if rows < least {
            let mut padded = vec![0.0; least * inner];
            padded[..x.len()].copy_from_slice(x);
            let mut product = unwritten(least * width);
            multiply(
                &mut product,
                0.0,
                Matrix::new(&padded, [least, inner], inner),
                weight,
            );
            out.copy_from_slice(&product[..out.len()]);
        } else {
            multiply(out, 0.0, Matrix::new(x, [rows, inner], inner), weight);
        }
    }
}

/// Rows of each tile of a step, `most` at most: a small step is for all threads, too.
pub(super) fn tile(rows: usize, most: usize) -> usize {
    let each = rows.div_ceil(rayon::current_num_threads()).max(LEAST);
    each.min(most).min(rows.div_ceil(2)).max(1)
}

/// The weight (N, K) as (K, N), so that products of many tiles read it as it lies: else each tile
/// would pack it anew.
fn turned<T: Copy + Into<f32> + Sync>(weight: &[T], inner: usize, width: usize) -> Vec<f32> {
    const LINE: usize = 16;
    let mut out = unwritten(weight.len());
    out.par_chunks_mut(LINE * width)
        .enumerate()
        .for_each(|(i, out)| {
            for (n, row) in weight.chunks_exact(inner).enumerate() {
                for (out, x) in out.chunks_exact_mut(width).zip(&row[i * LINE..]) {
                    out[n] = (*x).into();
                }
            }
        });
    out
}

#[cfg(test)]
mod tests;
