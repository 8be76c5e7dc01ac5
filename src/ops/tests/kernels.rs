//! Each file of kernels, through NVIDIA's compiler.

use crate::ops::attention::cuda::TensorCores;
use crate::ops::cuda::{Source, compile};
use crate::ops::*;
use std::collections::BTreeSet;
use std::path::Path;

const ALL: [Source; 21] = [
    activation::cuda::KERNELS,
    attention::cuda::KERNELS,
    attention::cuda::KERNELS_BF16,
    cross_entropy::cuda::KERNELS,
    gate::cuda::KERNELS,
    gather::cuda::KERNELS,
    glu::cuda::KERNELS,
    long_conv::cuda::KERNELS,
    long_conv::cuda::FFT_KERNELS,
    modal::cuda::KERNELS,
    norm::cuda::KERNELS,
    pool::cuda::KERNELS,
    prediction::cuda::KERNELS,
    selective_scan::cuda::KERNELS,
    beside::KERNELS,
    short_conv::cuda::KERNELS,
    ssd::cuda::KERNELS,
    sums::cuda::KERNELS,
    tensor::cuda::KERNELS,
    ssd::cuda::CHUNK_KERNELS,
    ssd::cuda::SLOPE_KERNELS,
];

#[test]
fn every_file_of_kernels_is_compiled_by_these_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
    // What stands in front of others.
    let parts = [
        "cuda/prelude.cu",
        "attention/kernel_rows.cu",
        "long_conv/tiles.cu",
        "long_conv/convolved.cu",
    ];
    let mut found = BTreeSet::from(parts.map(String::from));
    for source in ALL {
        assert!(root.join(source.name).is_file(), "{}", source.name);
        assert!(found.insert(source.name.to_string()), "{}", source.name);
    }
    let folders = root.read_dir().unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        for file in folder.read_dir().unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
            assert!(!name.ends_with(".cu") || found.contains(name), "{name}");
        }
    }
}

/// Compiling needs no GPU, only NVRTC.
#[test]
fn kernels_compile_for_each_architecture() {
    // SAFETY: opens the library if it is there.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        eprintln!("no libnvrtc here: nothing was compiled");
        assert!(std::env::var_os("CROCUTA_NVRTC").is_none());
        return;
    }
    let sizes = [
        "STATES=16",
        "RANK=16",
        "GRADIENTS=0",
        "PARTS=2",
        "MODES=8",
        "GROUPS=4",
        "HEAD=32",
        "PAST_BF16=0",
        "SLICE=64",
        "COLUMN=1024",
        "ROW=2048",
    ];
    let sizes = sizes.map(String::from);
    for source in ALL {
        for capability in [80, 90]
            .into_iter()
            .filter(|_| source != attention::cuda::KERNELS_BF16)
        {
            let code = compile(source, &sizes, capability).unwrap();
            assert_eq!(&code[..4], b"\x7fELF", "{}", source.name);
        }
    }
    for other in ["GRADIENTS=1", "ROUNDED=1"] {
        let sizes = ["STATES=16", "RANK=16", other].map(String::from);
        compile(selective_scan::cuda::KERNELS, &sizes, 90).unwrap();
    }
    // Tiles of the sizes that each GPU takes, which have to fit shared memory as well.
    for width in [8, 64, 128, 256] {
        let head = format!("HEAD={width}");
        let sizes = [head, "PAST_BF16=1".to_string()];
        compile(attention::cuda::KERNELS, &sizes, 90).unwrap();
        for capability in [80, 90, 100] {
            let sizes = TensorCores::new(width, capability).unwrap().defines(width);
            compile(attention::cuda::KERNELS_BF16, &sizes, capability).unwrap();
        }
    }
}
