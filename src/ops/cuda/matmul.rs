//! Dense layers in one pass, by cuBLASLt: what follows a product is done before it is written.
//!
//! At HyenaDNA's widths a product of bf16 matrices takes less time than its f32 result takes to be
//! written, read and written again: 1.3 ns against 3.7 a row of 256 to 1,024 columns with GELU.

use super::element::Operand;
use super::{Gpu, lock};
use crate::error::Result;
use cudarc::cublas::sys::cublasOperation_t;
use cudarc::cublaslt::sys::cublasLtMatmulDescAttributes_t as Attribute;
use cudarc::cublaslt::{result, sys};
use cudarc::driver::CudaSlice;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Mutex;

/// What NVIDIA recommends for its fastest products on Hopper.
const WORKSPACE: usize = 32 << 20;
/// Plans that are kept: rows differ from step to step where reads are packed.
const PLANS: usize = 256;

/// What follows a product.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::ops) struct Epilogue {
    /// Where the bias (N) lies, of the result's type.
    pub bias: Option<u64>,
    /// By tanh, as [`crate::ops::Activation::GeluTanh`]. Not with a residual.
    pub gelu: bool,
    /// Where values (M, N) to add lie, f32 like the result.
    pub residual: Option<u64>,
}

/// Rows, inner and width; whether the result is bf16; whether there is a bias, GELU, a residual.
type Key = ([usize; 3], bool, [bool; 3]);

/// cuBLASLt on one GPU.
pub(in crate::ops) struct Matmul {
    handle: sys::cublasLtHandle_t,
    /// Locked while one of them is set up and queued. None: there is no way to compute it at once.
    plans: Mutex<HashMap<Key, Option<Plan>>>,
    workspace: CudaSlice<u8>,
}

// SAFETY: cuBLASLt's handles may be used by any thread; descriptions only under the lock.
unsafe impl Send for Matmul {}
// SAFETY: as above.
unsafe impl Sync for Matmul {}

/// A product as cuBLASLt describes it, and how it computes it.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    /// Weight, x and result.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// `out (M, N) = gelu(x (M, K) · weight (N, K)ᵀ + bias) + residual` of bf16 `x` and `weight`, rows
/// one behind the other. False: cuBLASLt cannot compute it at once.
pub(in crate::ops) fn product(
    gpu: &Gpu,
    [out, x, weight]: [Operand; 3],
    sizes: [usize; 3],
    follows: Epilogue,
) -> Result<bool> {
    let Epilogue {
        bias,
        gelu,
        residual,
    } = follows;
    if sizes.contains(&0) || (gelu && residual.is_some()) {
        return Ok(false);
    }
    gpu.bind()?;
    let matmul = match gpu.matmul.get() {
        Some(matmul) => matmul,
        None => {
            let opened = Matmul::new(gpu)?;
            gpu.matmul.get_or_init(|| opened)
        }
    };
    let key = (sizes, out.bf16, [bias.is_some(), gelu, residual.is_some()]);
    let mut plans = lock(&matmul.plans);
    if !plans.contains_key(&key) {
        if plans.len() == PLANS {
            plans.clear();
        }
        plans.insert(key, Plan::new(matmul.handle, key)?);
    }
    let Some(Some(plan)) = plans.get(&key) else {
        return Ok(false);
    };
    if let Some(bias) = bias {
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias)?;
    }
    let (one, added) = (1f32, if residual.is_some() { 1f32 } else { 0f32 });
    let [of_weight, of_x, of_out] = plan.layouts;
    // SAFETY: the callers check that the matrices hold what the sizes address, as the plan's
    // layouts say; they live until this returns, and what is freed later is freed on the same
    // stream, on which one product after the other uses the workspace.
    unsafe {
        result::matmul(
            matmul.handle,
            plan.operation,
            (&raw const one).cast(),
            (&raw const added).cast(),
            weight.address as *const c_void,
            of_weight,
            x.address as *const c_void,
            of_x,
            residual.unwrap_or(out.address) as *const c_void,
            of_out,
            out.address as *mut c_void,
            of_out,
            &raw const plan.algorithm,
            gpu.address(&matmul.workspace) as *mut c_void,
            WORKSPACE,
            gpu.stream.cu_stream() as _,
        )
    }?;
    Ok(true)
}

impl Matmul {
    fn new(gpu: &Gpu) -> Result<Self> {
        Ok(Self {
            handle: result::create_handle()?,
            plans: Mutex::default(),
            workspace: gpu.unwritten(WORKSPACE)?,
        })
    }
}

impl Drop for Matmul {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed here only. An error would leave memory behind.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Plan {
    /// None: cuBLASLt has no such product.
    fn new(handle: sys::cublasLtHandle_t, key: Key) -> Result<Option<Self>> {
        use sys::cublasLtEpilogue_t::*;
        use sys::cudaDataType::{CUDA_R_16BF, CUDA_R_32F};
        let ([rows, inner, width], rounded, [bias, gelu, _]) = key;
        let mut plan = Self {
            operation: null_mut(),
            layouts: [null_mut(); 3],
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        plan.operation = result::create_matmul_desc(sums, CUDA_R_32F)?;
        // Columns first: outᵀ = weight · xᵀ, where the weight as it lies is the transposed one.
        let turned = cublasOperation_t::CUBLAS_OP_T;
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, turned)?;
        let follows = match (gelu, bias) {
            (false, false) => CUBLASLT_EPILOGUE_DEFAULT,
            (false, true) => CUBLASLT_EPILOGUE_BIAS,
            (true, false) => CUBLASLT_EPILOGUE_GELU,
            (true, true) => CUBLASLT_EPILOGUE_GELU_BIAS,
        };
        plan.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, follows)?;
        let out = if rounded { CUDA_R_16BF } else { CUDA_R_32F };
        let matrices = [
            (CUDA_R_16BF, inner, width),
            (CUDA_R_16BF, inner, rows),
            (out, width, rows),
        ];
        for (layout, (kind, columns, rows)) in plan.layouts.iter_mut().zip(matrices) {
            let (columns, rows) = (columns as u64, rows as u64);
            *layout = result::create_matrix_layout(kind, columns, rows, columns as i64)?;
        }
        match plan.choose(handle) {
            Ok(algorithm) => {
                plan.algorithm = algorithm;
                Ok(Some(plan))
            }
            Err(result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What cuBLASLt takes for the fastest algorithm.
    fn choose(
        &self,
        handle: sys::cublasLtHandle_t,
    ) -> Result<sys::cublasLtMatmulAlgo_t, result::CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        let preference = result::create_matmul_pref()?;
        let [of_weight, of_x, of_out] = self.layouts;
        let workspace = WORKSPACE;
        // SAFETY: what is handed over was created in `new`; the preference lives until it is
        // destroyed, and the workspace's size until it was copied.
        unsafe {
            let found = result::set_matmul_pref_attribute(
                preference,
                CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const workspace).cast(),
                size_of::<usize>(),
            )
            .and_then(|()| {
                let operation = self.operation;
                result::get_matmul_algo_heuristic(
                    handle, operation, of_weight, of_x, of_out, of_out, preference,
                )
            });
            result::destroy_matmul_pref(preference)?;
            found.map(|found| found.algo)
        }
    }

    fn set<T>(&self, attribute: Attribute, value: T) -> Result<()> {
        // SAFETY: the operation was created in `new`; the value is copied.
        unsafe {
            result::set_matmul_desc_attribute(
                self.operation,
                attribute,
                (&raw const value).cast(),
                size_of::<T>(),
            )
        }?;
        Ok(())
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed here only. Errors would leave memory behind.
        unsafe {
            for layout in self.layouts.into_iter().filter(|layout| !layout.is_null()) {
                let _ = result::destroy_matrix_layout(layout);
            }
            if !self.operation.is_null() {
                let _ = result::destroy_matmul_desc(self.operation);
            }
        }
    }
}
