//! NVIDIA's libraries of the environment in which crocuta itself is installed: wheels of
//! `pip install 'crocuta[cuda]'`, or packages of conda. The loader does not look there by itself.

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

/// How the names of the files begin, those first that others need.
const NAMES: [&str; 6] = [
    "libnvrtc-builtins.so.13",
    "libnvrtc.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libnvJitLink.so.13",
    "libcufft.so.12",
];

/// Opens what the environment of this program has of CUDA's libraries, once, where there is a
/// driver: without one they are of no use, and take half a gigabyte.
pub fn open_with_driver() {
    // SAFETY: the driver has no side effects when it is opened.
    if unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW) }.is_ok() {
        open();
    }
}

/// The same, driver or not. Whoever asks the loader for one of them by its name is then given
/// this one.
pub fn open() {
    static OPENED: Once = Once::new();
    OPENED.call_once(|| {
        let program = std::env::current_exe().and_then(fs::canonicalize);
        for path in program.iter().flat_map(|program| found(program)) {
            // SAFETY: CUDA's libraries have no side effects when they are opened.
            match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
                Ok(library) => {
                    tracing::debug!(file = %path.display(), "opened");
                    // To the end of the process.
                    std::mem::forget(library);
                }
                Err(error) => tracing::debug!(file = %path.display(), %error, "not opened"),
            }
        }
    });
}

/// The libraries that are there for the program at this path, in the order of [`NAMES`].
fn found(program: &Path) -> Vec<PathBuf> {
    let folders = folders(program);
    let find = |name: &&str| {
        let mut files = folders.iter().flat_map(|folder| entries(folder));
        files.find(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            file.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    };
    NAMES.iter().filter_map(find).collect()
}

/// Where pip and conda put libraries for what they put into `bin`.
fn folders(program: &Path) -> Vec<PathBuf> {
    let Some(root) = program.parent().and_then(Path::parent) else {
        return Vec::new();
    };
    let lib = root.join("lib");
    let pythons = entries(&lib).into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with("python3")
    });
    let packages =
        pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)));
    let wheels = packages.flat_map(|packages| entries(&packages.join("nvidia")));
    let mut folders: Vec<PathBuf> = wheels.map(|wheel| wheel.join("lib")).collect();
    folders.push(lib);
    folders
}

/// What is in the folder, by name; nothing if there is none.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An environment with these files, and the path of its program.
    fn environment(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for file in files.iter().chain(&["bin/crocuta"]) {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let program = dir.path().join("bin/crocuta");
        (dir, program)
    }

    #[test]
    fn wheels_and_packages_beside_the_program_are_found_and_other_versions_are_not() {
        let wheels = "lib/python3.12/site-packages/nvidia";
        let files = [
            format!("{wheels}/cu13/lib/libnvrtc.so.13"),
            format!("{wheels}/cu13/lib/libnvrtc-builtins.so.13.0"),
            format!("{wheels}/cu13/lib/libnvrtc.alt.so.13"),
            format!("{wheels}/cublas/lib/libcublas.so.12"),
            format!("{wheels}/cufft/lib/libcufft.so.11"),
            "lib/python3/dist-packages/nvidia/cu13/lib/libcublasLt.so.13".into(),
            "lib/libcufft.so.12".into(),
            "lib/libcufft.so.120".into(),
            "lib/libcublas.so.13.1.0.3".into(),
        ];
        let (dir, program) = environment(&files.each_ref().map(String::as_str));
        let found = found(&program);
        let found = found
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap());
        let expected = [1, 0, 5, 8, 6].map(|i: usize| Path::new(&files[i]));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_program_without_an_environment_has_none() {
        let (_dir, program) = environment(&[]);
        assert!(found(&program).is_empty());
        assert!(found(Path::new("crocuta")).is_empty());
        assert!(found(Path::new("/")).is_empty());
    }
}
