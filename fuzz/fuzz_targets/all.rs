//! Runs the target that `CROCUTA_FUZZ` names; or writes the seeds of all to the directory that
//! `CROCUTA_SEEDS` names.
#![no_main]

#[path = "../targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let wanted = std::env::var("CROCUTA_FUZZ").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(name, ..)| *name == wanted);
    found.unwrap_or_else(|| panic!("CROCUTA_FUZZ names no target: {wanted}")).1
});

/// A directory for each target.
fn write_seeds(dir: &Path) {
    for target in &targets::TARGETS {
        let dir = dir.join(target.0);
        std::fs::create_dir_all(&dir).unwrap();
        for (i, seed) in targets::seeds(target).iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{i}")), seed).unwrap();
        }
    }
}

fuzz_target!(
    init: {
        if let Some(dir) = std::env::var_os("CROCUTA_SEEDS") {
            write_seeds(Path::new(&dir));
            std::process::exit(0);
        }
        // What libFuzzer sets up ends the process at every panic, those of decoders too that are
        // contained.
        std::panic::set_hook(Box::new(|panic| {
            if !crocuta::io::panics::is_contained() {
                eprintln!("{panic}");
                std::process::abort();
            }
        }));
    },
    |data: &[u8]| {
        TARGET(data);
    }
);
