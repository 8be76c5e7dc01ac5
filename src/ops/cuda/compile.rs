//! Kernels: CUDA C++ in the program, compiled by NVRTC for the device that is there.

use crate::error::{Error, Kind, Result};
use cudarc::nvrtc::{result, sys};
use std::ffi::{CStr, CString};

/// In front of each source.
const PRELUDE: &str = include_str!("prelude.cu");

/// A file of kernels, compiled when the first of them is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ops) struct Source {
    pub name: &'static str,
    text: &'static str,
}

impl Source {
    /// `name` is the file's, for messages; no other file has it.
    pub(in crate::ops) const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text }
    }
}

/// Machine code (a cubin) for compute capability `major.minor`; for one that this NVRTC does not
/// know yet, PTX for the newest that it does, which the driver translates.
/// `defines` are sizes that the kernels of this file are made for.
pub(in crate::ops) fn compile(
    source: Source,
    defines: &[String],
    capability: i32,
) -> Result<Vec<u8>> {
    let known = architectures()?;
    let (exact, architecture) = if known.contains(&capability) {
        (true, Some(capability))
    } else {
        (
            false,
            known.into_iter().filter(|&known| known < capability).max(),
        )
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
    let text = CString::new([PRELUDE, source.text].concat()).map_err(internal)?;
    let name = CString::new(source.name).map_err(internal)?;
    let program = Program(result::create_program(&text, Some(&name)).map_err(internal)?);
    // SAFETY: the program was just created and is destroyed when `program` goes out of scope.
    if unsafe { result::compile_program(program.0, &options) }.is_err() {
        return Err(refused(format!("{}: {}", source.name, program.log())));
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

fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    refused(&error).caused_by(error)
}

fn refused(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("compiling GPU kernels: {what}"))
}
