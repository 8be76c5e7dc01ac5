//! Dense layers: a product by cuBLAS, then bias, activation and residual in one pass.

mod backward;
#[cfg(test)]
mod tests;

use crate::error::{Error, Kind, Result};
use crate::ops::Held;
use crate::ops::cuda::{Element, Gpu, Operand, blas, expect_len, matmul, vector};
use crate::ops::math::Activation;
use crate::ops::tensor::cuda::{self as values, convert};
pub use backward::to_weight;
use cudarc::driver::CudaSlice;
use half::bf16;
use std::sync::Arc;

/// `y = activation(x Wᵀ + b) + residual`
#[derive(Debug)]
pub struct Linear {
    gpu: Arc<Gpu>,
    weight: Weight,               // (N, K)
    bias: Option<CudaSlice<f32>>, // (N)
    /// The same for results of bf16, with a bf16 weight.
    rounded_bias: Option<CudaSlice<bf16>>,
    inner: usize,
    width: usize,
}

#[derive(Debug)]
enum Weight {
    F32(CudaSlice<f32>),
    Bf16(CudaSlice<bf16>),
}

impl Linear {
    /// `weight` (N, K), `bias` (N). With `rounded`, weights and inputs are rounded to bf16 for the
    /// product, which sums in f32.
    pub fn new(
        gpu: &Arc<Gpu>,
        weight: Held,
        [width, inner]: [usize; 2],
        bias: Option<&[f32]>,
        rounded: bool,
    ) -> Result<Self> {
        if weight.len() != width * inner || bias.is_some_and(|bias| bias.len() != width) {
            return Err(Error::new(Kind::Internal, "a weight of another shape"));
        }
        let bias = bias.map(|bias| gpu.upload(bias)).transpose()?;
        let rounded_bias = bias.as_ref().filter(|_| rounded);
        Ok(Self {
            gpu: Arc::clone(gpu),
            rounded_bias: rounded_bias.map(|bias| convert(gpu, bias)).transpose()?,
            weight: match (weight, rounded) {
                (Held::F32(weight), true) => Weight::Bf16(convert(gpu, &gpu.upload(weight)?)?),
                (Held::Bf16(weight), true) => Weight::Bf16(gpu.upload(weight)?),
                (weight, false) => Weight::F32(gpu.upload(&weight.wide())?),
            },
            bias,
            inner,
            width,
        })
    }

    /// Whether inputs are rounded to bf16: what computes them may then write bf16 itself.
    pub fn rounds(&self) -> bool {
        matches!(self.weight, Weight::Bf16(_))
    }

    /// `x` (T, K) to (T, N); `residual` is (T, N).
    pub fn forward<E: Element, O: Element>(
        &self,
        x: &CudaSlice<E>,
        residual: Option<&CudaSlice<f32>>,
        activation: Activation,
    ) -> Result<CudaSlice<O>> {
        let gpu = &*self.gpu;
        let count = x.len() / self.inner.max(1);
        expect_len("linear layer", x, count * self.inner)?;
        let len = count * self.width;
        if let Some(residual) = residual {
            expect_len("residual", residual, len)?;
        }
        let sizes = [count, self.inner, self.width];
        let converted;
        let weight = self.operand();
        let mut x = Operand::new(gpu, x, 0, self.inner);
        if weight.bf16 && !x.bf16 {
            converted = values::rounded(gpu, x.address, count * self.inner)?;
            x = Operand::new(gpu, &converted, 0, self.inner);
        }
        let plain = self.bias.is_none() && residual.is_none() && activation == Activation::None;
        if plain && (weight.bf16 || !O::IS_BF16) {
            let out = gpu.unwritten(len)?;
            blas::product(
                gpu,
                Operand::new(gpu, &out, 0, self.width),
                x,
                weight,
                sizes,
            )?;
            return Ok(out);
        }
        if let Some(out) = self.at_once(x, residual, activation, sizes)? {
            return Ok(out);
        }
        let product: CudaSlice<f32> = gpu.unwritten(len)?;
        let into = Operand::new(gpu, &product, 0, self.width);
        blas::product(gpu, into, x, weight, sizes)?;
        let out = gpu.unwritten(len)?;
        let lanes = vector(self.width);
        gpu.kernel(values::KERNELS, &format!("epilogue_{}_{lanes}", O::NAME))?
            .array(&out)
            .array(&product)
            .optional(self.bias.as_ref())
            .optional(residual)
            .long(len)
            .int(self.width)
            .int(activation as usize)
            .over(len / lanes)?;
        Ok(out)
    }

    /// The product and what follows it in one pass, where there is one.
    fn at_once<O: Element>(
        &self,
        x: Operand,
        residual: Option<&CudaSlice<f32>>,
        activation: Activation,
        sizes: [usize; 3],
    ) -> Result<Option<CudaSlice<O>>> {
        let gpu = &*self.gpu;
        let gelu = match activation {
            Activation::None => false,
            Activation::GeluTanh => true,
            Activation::GeluErf | Activation::Silu => return Ok(None),
        };
        if !x.bf16 || (O::IS_BF16 && residual.is_some()) {
            return Ok(None);
        }
        let bias = if O::IS_BF16 {
            self.rounded_bias.as_ref().map(|bias| gpu.address(bias))
        } else {
            self.bias.as_ref().map(|bias| gpu.address(bias))
        };
        let follows = matmul::Epilogue {
            bias,
            gelu,
            residual: residual.map(|residual| gpu.address(residual)),
        };
        let out = gpu.unwritten(sizes[0] * self.width)?;
        let operands = [Operand::new(gpu, &out, 0, self.width), x, self.operand()];
        let done = matmul::product(gpu, operands, sizes, follows)?;
        Ok(done.then_some(out))
    }

    /// The weight, as products take it.
    fn operand(&self) -> Operand {
        match &self.weight {
            Weight::F32(weight) => Operand::new(&self.gpu, weight, 0, self.inner),
            Weight::Bf16(weight) => Operand::new(&self.gpu, weight, 0, self.inner),
        }
    }
}
