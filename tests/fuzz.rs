//! The fuzzing targets over their seeds, over what fuzzing found once, and over damaged seeds: without
//! a sanitizer, so that no second build of everything is needed.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../src/io/testing/bytes.rs"]
mod bytes;
#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;
use std::time::{Duration, Instant};
use targets::{TARGETS, TEXTS, Target, own, zip};

/// What a target begins with.
fn seeds((name, _, files): &Target) -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = files.iter().map(|file| own(file)).collect();
    let texts = TEXTS.iter().filter(|(of, _)| of == name);
    seeds.extend(texts.map(|(_, text)| text.to_vec()));
    if ["fasta", "vcf", "fastq"].contains(name) {
        let packed = seeds.iter().flat_map(|text| {
            [
                bytes::gzip(text),
                bytes::bgzf(text, 3000),
                zstd::encode_all(&text[..], 1).unwrap(),
            ]
        });
        let packed: Vec<_> = packed.collect();
        seeds.extend(packed);
    }
    if *name == "torch" {
        let pickle = b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\0K\x06\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.";
        seeds.extend([pickle.to_vec(), zip(pickle)]);
    }
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fuzz");
    let kept = std::fs::read_dir(kept.join(name)).into_iter().flatten();
    seeds.extend(kept.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()));
    seeds
}

/// Seeds as they are, cut, and with bytes that are changed; each within the bounds of fuzzing.
fn replay(target: &Target) -> usize {
    let (name, run, _) = target;
    let mut runs = 0;
    let mut timed = |bytes: &[u8]| {
        let begun = Instant::now();
        run(bytes);
        assert!(begun.elapsed() < Duration::from_secs(10), "{name} hangs");
        runs += 1;
    };
    for seed in seeds(target) {
        timed(&seed);
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
