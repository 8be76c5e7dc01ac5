//! Runs the target that `CROCUTA_FUZZ` names.
#![no_main]

#[path = "../targets.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("CROCUTA_FUZZ").unwrap_or_default();
    let found = targets::TARGETS.iter().find(|(name, ..)| *name == wanted);
    found.unwrap_or_else(|| panic!("CROCUTA_FUZZ names no target: {wanted}")).1
});

fuzz_target!(
    init: {
        // What libFuzzer sets up ends the process at every panic, those of decoders too that are
        // contained.
        std::panic::set_hook(Box::new(|panic| {
            if !crocuta::io::panics::is_contained() {
                eprintln!("{panic}");
                std::process::abort();
            }
        }));
    },
    |data: &[u8]| TARGET(data)
);
