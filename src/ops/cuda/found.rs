//! Which of CUDA's libraries are there.

/// The libraries that a GPU needs: the name of each, and whether it can be opened. Those that can
/// stay open, so that the system says where they lie.
pub fn libraries_found() -> Vec<(&'static str, bool)> {
    macro_rules! found {
        ($($name:literal $library:ident),*) => {
            vec![$({
                // SAFETY: these only open the library by its names; CUDA's have no side effects
                // when they are opened.
                let present = unsafe { cudarc::$library::sys::is_culib_present() };
                if present {
                    // SAFETY: as above.
                    unsafe { cudarc::$library::sys::culib() };
                }
                ($name, present)
            }),*]
        };
    }
    found!(
        "libcuda" driver,
        "libnvrtc" nvrtc,
        "libcublas" cublas,
        "libcublasLt" cublaslt,
        "libcufft" cufft
    )
}
