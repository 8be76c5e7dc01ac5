//! The fuzzing targets over their seeds, over what fuzzing found once, and over damaged seeds: without
//! a sanitizer, so that no second build of everything is needed.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::time::{Duration, Instant};
use targets::{TARGETS, Target, seeds};

/// Of these every input is refused, late: nothing has the tensors of a whole model.
const REFUSED: [&str; 2] = ["torch", "adapter"];

/// Seeds as they are, cut, and with bytes that are changed; each within the bounds of fuzzing.
fn replay(target: &Target) -> usize {
    let (name, run, _) = target;
    let mut runs = 0;
    let mut timed = |bytes: &[u8]| {
        let begun = Instant::now();
        let accepted = run(bytes);
        assert!(begun.elapsed() < Duration::from_secs(10), "{name} hangs");
        runs += 1;
        accepted
    };
    let mut accepted = false;
    for seed in seeds(target) {
        accepted |= timed(&seed);
        for i in 0..12 {
            timed(&seed[..seed.len() * i / 12]);
            let mut other = seed.clone();
            // Numbers at the beginning matter most.
            let at = (i * i * i * 7 + i) % seed.len().max(1);
            if let Some(byte) = other.get_mut(at) {
                *byte ^= [0xff, 1, 0x80][i % 3];
            }
            timed(&other);
        }
    }
    // A target that refuses all of its seeds looks at little of them.
    assert!(accepted || REFUSED.contains(name), "{name} accepts nothing");
    runs
}

#[test]
fn no_target_fails_on_its_seeds_or_what_is_near_them() {
    let mut all = 0;
    std::panic::set_hook(Box::new(|panic| {
        if !crocuta::io::panics::is_contained() {
            eprintln!("{panic}");
        }
    }));
    for target in &TARGETS {
        let runs = replay(target);
        assert!(runs > 20, "{}: {runs} runs", target.0);
        all += runs;
    }
    assert!(all > 600, "{all}");
}
