//! CUDA's errors as ours, and what must be there before CUDA is called at all.

use crate::error::{Error, Kind, Result};
use cudarc::cublas::result::CublasError;
use cudarc::cublas::sys::cublasStatus_t;
use cudarc::cublaslt;
use cudarc::cufft::result::CufftError;
use cudarc::cufft::sys::cufftResult;
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

const SMALLER: &str = "give a smaller --chunk or --batch";

/// Opening a library that is not there panics later on: asked for first, once.
pub(super) fn libraries() -> Result<()> {
    // SAFETY: these only try to open the library by its names; CUDA's have no side effects
    // when they are opened.
    let found = unsafe {
        [
            ("libcuda", cudarc::driver::sys::is_culib_present()),
            ("libnvrtc", cudarc::nvrtc::sys::is_culib_present()),
            ("libcublas", cudarc::cublas::sys::is_culib_present()),
            ("libcublasLt", cudarc::cublaslt::sys::is_culib_present()),
            ("libcufft", cudarc::cufft::sys::is_culib_present()),
        ]
    };
    match found.into_iter().find(|(_, present)| !present) {
        None => Ok(()),
        Some(("libcuda", _)) => Err(Error::usage("no NVIDIA driver on this machine")
            .todo("install the driver, or run with --device cpu")),
        Some((name, _)) => Err(
            Error::usage(format!("the CUDA library {name} is not found")).todo(
                "pip install 'crocuta[cuda]' brings it; or install the CUDA 13 runtime libraries \
                 and name their folder in LD_LIBRARY_PATH, or run with --device cpu",
            ),
        ),
    }
}

impl From<DriverError> for Error {
    fn from(error: DriverError) -> Self {
        let code = error.0;
        match code {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                Self::memory("the GPU's memory does not suffice").todo(SMALLER)
            }
            CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_STUB_LIBRARY => {
                Self::usage("no NVIDIA GPU on this machine").todo("run with --device cpu")
            }
            CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
            | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
            | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU
            | CUresult::CUDA_ERROR_INVALID_IMAGE => Self::usage(format!(
                "the NVIDIA driver is older than the CUDA libraries ({code:?})"
            ))
            .todo("update the driver to 580 or later, or run with --device cpu"),
            _ => Self::new(Kind::Internal, format!("CUDA: {error} ({code:?})")),
        }
        .caused_by(error)
    }
}

impl From<CublasError> for Error {
    fn from(error: CublasError) -> Self {
        match error.0 {
            cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
                Self::memory("the GPU's memory does not suffice for cuBLAS").todo(SMALLER)
            }
            code => Self::new(Kind::Internal, format!("cuBLAS: {code:?}")),
        }
        .caused_by(error)
    }
}

impl From<cublaslt::result::CublasError> for Error {
    fn from(error: cublaslt::result::CublasError) -> Self {
        match error.0 {
            cublaslt::sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
                Self::memory("the GPU's memory does not suffice for cuBLAS").todo(SMALLER)
            }
            code => Self::new(Kind::Internal, format!("cuBLASLt: {code:?}")),
        }
        .caused_by(error)
    }
}

impl From<CufftError> for Error {
    fn from(error: CufftError) -> Self {
        match error.0 {
            cufftResult::CUFFT_ALLOC_FAILED => {
                Self::memory("the GPU's memory does not suffice for cuFFT").todo(SMALLER)
            }
            code => Self::new(Kind::Internal, format!("cuFFT: {code:?}")),
        }
        .caused_by(error)
    }
}
