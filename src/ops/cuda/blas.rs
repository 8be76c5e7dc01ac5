//! Matrix products by cuBLAS.

use super::Gpu;
use super::element::Operand;
use crate::error::{Error, Kind, Result};
use cudarc::cublas::{result, sys};

/// How the two matrices of a product lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Form {
    /// `x (M, K) · weight (N, K)ᵀ`: a dense layer.
    Layer,
    /// `x (M, K) · weight (K, N)`: a layer's gradient to its input.
    Plain,
    /// `x (K, M)ᵀ · weight (K, N)`: a layer's gradient to its weight.
    Turned,
}

/// `out (M, N) = x (M, K) · weight (N, K)ᵀ`, rows of each matrix strided, summed in f32.
pub(in crate::ops) fn product(
    gpu: &Gpu,
    out: Operand,
    x: Operand,
    weight: Operand,
    sizes: [usize; 3],
) -> Result<()> {
    batched(gpu, Form::Layer, (out, 0), (x, 0), (weight, 0), sizes, 1)
}

/// `batch` products of sizes M, K and N, each operand with the distance, in values, from one to
/// the next.
pub(in crate::ops) fn batched(
    gpu: &Gpu,
    form: Form,
    (out, out_step): (Operand, usize),
    (x, x_step): (Operand, usize),
    (weight, weight_step): (Operand, usize),
    [rows, inner, width]: [usize; 3],
    batch: usize,
) -> Result<()> {
    if x.bf16 != weight.bf16 || (out.bf16 && !x.bf16) {
        return Err(Error::new(Kind::Internal, "a product of different types"));
    }
    let int = |n: usize| {
        i32::try_from(n).map_err(|_| {
            Error::memory(format!("a matrix of {n} rows for the GPU"))
                .todo("give a smaller --chunk or --batch")
        })
    };
    let kind = |operand: Operand| {
        if operand.bf16 {
            sys::cudaDataType::CUDA_R_16BF
        } else {
            sys::cudaDataType::CUDA_R_32F
        }
    };
    // Plain f32 arithmetic, never TF32, where the inputs are f32.
    let compute = if x.bf16 {
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
    } else {
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_PEDANTIC
    };
    let (as_it_lies, turned) = (
        sys::cublasOperation_t::CUBLAS_OP_N,
        sys::cublasOperation_t::CUBLAS_OP_T,
    );
    let (of_weight, of_x) = match form {
        Form::Layer => (turned, as_it_lies),
        Form::Plain => (as_it_lies, as_it_lies),
        Form::Turned => (as_it_lies, turned),
    };
    let (one, zero) = (1f32, 0f32);
    gpu.bind()?;
    // cuBLAS counts columns first: it computes outᵀ = weight · xᵀ, where a matrix as it lies is the
    // transposed one.
    // SAFETY: the callers check that the matrices hold what the sizes and strides address; they
    // live until this returns, and what is freed later is freed on the same stream.
    unsafe {
        result::gemm_strided_batched_ex(
            *gpu.blas.handle(),
            of_weight,
            of_x,
            int(width)?,
            int(rows)?,
            int(inner)?,
            (&raw const one).cast(),
            weight.address as *const _,
            kind(weight),
            int(weight.stride)?,
            weight_step as i64,
            x.address as *const _,
            kind(x),
            int(x.stride)?,
            x_step as i64,
            (&raw const zero).cast(),
            out.address as *mut _,
            kind(out),
            int(out.stride)?,
            out_step as i64,
            int(batch)?,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    }?;
    Ok(())
}
