//! Kernels: CUDA C++ in the program, compiled by NVRTC for the device that is there.

use crate::error::{Error, Kind, Result};
use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString};

/// In front of each source.
const PRELUDE: &str = include_str!("kernels/prelude.cu");

/// A file of kernels, compiled when the first of them is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Source {
    pub name: &'static str,
    /// In front of the text: what several files share.
    shared: &'static str,
    text: &'static str,
}

macro_rules! sources {
    ($($constant:ident = $name:literal $(behind $shared:literal)?),* $(,)?) => {
        $(pub(super) const $constant: Source = Source {
            name: $name,
            shared: concat!($(include_str!(concat!("kernels/", $shared)))?),
            text: include_str!(concat!("kernels/", $name)),
        };)*
        #[cfg(test)]
        pub(super) const ALL: &[Source] = &[$($constant),*];
    };
}

sources! {
    ROWS = "rows.cu",
    SHORT_CONV = "short_conv.cu",
    SCAN = "scan.cu",
    LONG_CONV = "long_conv.cu",
    MODAL = "modal.cu",
    ATTENTION = "attention.cu" behind "attention_rows.cu",
    ATTENTION_BF16 = "attention_bf16.cu" behind "attention_rows.cu",
    SSD = "ssd.cu",
    SSD_CHUNKS = "ssd_chunks.cu",
    GRADIENT = "gradient.cu",
}

/// Machine code (a cubin) for compute capability `major.minor`; for one that this NVRTC does not
/// know yet, PTX for the newest that it does, which the driver translates.
/// `defines` are sizes that the kernels of this file are made for.
pub(super) fn compile(source: Source, defines: &[String], capability: i32) -> Result<Vec<u8>> {
    let known = architectures()?;
    let (exact, architecture) = match known.contains(&capability) {
        true => (true, Some(capability)),
        false => (
            false,
            known.into_iter().filter(|&known| known < capability).max(),
        ),
    };
    let architecture = architecture.ok_or_else(|| {
        Error::usage(format!(
            "this GPU's compute capability is {}.{}, too old for the CUDA libraries",
            capability / 10,
            capability % 10
        ))
        .todo("run with --device cpu")
    })?;
    let kind = if exact { "sm" } else { "compute" };
    // With the instructions that only Hopper has.
    let own = if exact && architecture == 90 { "a" } else { "" };
    let mut options = vec![
        format!("--gpu-architecture={kind}_{architecture}{own}"),
        "--std=c++17".to_string(),
    ];
    options.extend(
        defines
            .iter()
            .map(|define| format!("--define-macro={define}")),
    );
    let text = CString::new([PRELUDE, source.shared, source.text].concat()).map_err(internal)?;
    let name = CString::new(source.name).map_err(internal)?;
    let program = Program(result::create_program(&text, Some(&name)).map_err(internal)?);
    // SAFETY: the program was just created and is destroyed when `program` goes out of scope.
    if unsafe { result::compile_program(program.0, &options) }.is_err() {
        return Err(internal(format!("{}: {}", source.name, program.log())));
    }
    program.code(exact)
}

/// Compute capabilities that this NVRTC knows, as `10 · major + minor`.
fn architectures() -> Result<Vec<i32>> {
    let mut count = 0;
    // SAFETY: NVRTC writes one number.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }
        .result()
        .map_err(internal)?;
    let mut known = vec![0; usize::try_from(count).map_err(internal)?];
    // SAFETY: NVRTC writes as many numbers as it just said.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }
        .result()
        .map_err(internal)?;
    Ok(known)
}

struct Program(sys::nvrtcProgram);

impl Program {
    /// The compiler's messages.
    fn log(&self) -> String {
        // SAFETY: the program exists as long as `self`.
        let log = unsafe { result::get_program_log(self.0) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(|c| c as u8).collect();
        let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
        text.to_string_lossy().into_owned()
    }

    /// The cubin or, with a closing zero, the PTX.
    fn code(&self, cubin: bool) -> Result<Vec<u8>> {
        if !cubin {
            // SAFETY: the program exists and is compiled.
            let ptx = unsafe { result::get_ptx(self.0) }.map_err(internal)?;
            return Ok(ptx.into_iter().map(|c| c as u8).collect());
        }
        let mut size = 0;
        // SAFETY: NVRTC writes one number.
        unsafe { sys::nvrtcGetCUBINSize(self.0, &mut size) }
            .result()
            .map_err(internal)?;
        let mut code = vec![0u8; size];
        // SAFETY: NVRTC writes as many bytes as it just said.
        unsafe { sys::nvrtcGetCUBIN(self.0, code.as_mut_ptr().cast()) }
            .result()
            .map_err(internal)?;
        Ok(code)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by `create_program`, destroyed here only. An error would leave memory
        // behind, nothing else.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn internal(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("compiling GPU kernels: {what}"))
}
