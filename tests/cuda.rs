//! Encoders on a GPU: what they promise there is what they promise on the CPU.
//!
//! On a machine with a GPU: `cargo test --test cuda -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)] // helpers outside the test functions

#[path = "../src/ops/testing/compare.rs"]
mod compare;

use compare::difference;
use crocuta::checkpoint::{self, Checkpoint, Config};
use crocuta::encoder::{Branch, Encoder, Facts, Layer, Model, Segment};
use crocuta::ops::cuda::Gpu;
use crocuta::ops::{Device, Tensor};
use serde_json::{Map, Value};

/// A preset, what its configuration has instead, and bases to run: beyond the filters' length, or
/// the window, or where pieces of any length begin.
const MODELS: [(&str, &str, usize); 15] = [
    ("hyenadna-tiny-1k", "{}", 5_000),
    ("hyenadna-tiny-1k-d256", "{}", 3_000),
    ("hyenadna-small-32k", "{}", 70_000),
    ("mamba-d256-l16", "{}", 20_000),
    ("mamba2-d256-l16", "{}", 10_000),
    ("caduceus-ph-1k", "{}", 1_024),
    ("caduceus-ps-1k", "{}", 1_024),
    (
        "plantcad2-small",
        r#"{"d_model": 256, "n_layer": 4}"#,
        1_024,
    ),
    ("s4d-d256-l8", "{}", 20_000),
    ("transformer-d256-l8", "{}", 3_000),
    (
        "transformer-d256-l8",
        r#"{"attention": "sliding", "window": 500}"#,
        5_000,
    ),
    (
        "transformer-d256-l8",
        r#"{"attention": "bidirectional"}"#,
        1_500,
    ),
    // The published models are too large to check: their blocks at a smaller width.
    (
        "evo-1-131k",
        r#"{"hidden_size": 256, "num_filters": 256, "num_attention_heads": 2, "num_layers": 4,
            "inner_mlp_size": 688, "attn_layer_idxs": [2], "hyena_layer_idxs": [0, 1, 3]}"#,
        3_000,
    ),
    (
        "evo2-7b",
        r#"{"hidden_size": 256, "num_filters": 256, "num_attention_heads": 2, "num_layers": 7,
            "inner_mlp_size": 688, "hcl_filter_groups": 256, "hcm_filter_groups": 16,
            "hcs_filter_groups": 16, "attn_layer_idxs": [3], "hcl_layer_idxs": [2, 6],
            "hcm_layer_idxs": [1, 5], "hcs_layer_idxs": [0, 4]}"#,
        3_000,
    ),
    ("crocuta-bacteria", "{}", 20_000),
];

/// How far pieces may differ, relative to the largest magnitude. A long convolution is one FFT over
/// all of the filter, 2¹⁷ points for small-32k, which in f32 leaves 2e-5; on the CPU, tiles of
/// growing size leave 1e-5.
const CHUNKS: f64 = 5e-5;

/// Random weights of a preset with some changes.
fn load(preset: &str, changes: &str) -> (Model, Facts) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    let mut sizes = checkpoint::preset(preset).unwrap();
    sizes.extend(serde_json::from_str::<Map<String, Value>>(changes).unwrap());
    let config = Config::new(preset, sizes);
    checkpoint::create(&config, 1, &out, 1 << 30).unwrap();
    Model::load(&Checkpoint::open(&out).unwrap()).unwrap()
}

fn gpu(rounded: bool) -> Device {
    Device::Cuda(Gpu::open(0, rounded).unwrap())
}

fn tokens(facts: &Facts, length: usize) -> Vec<u32> {
    (0..length)
        .map(|i| facts.vocabulary.token(((i * i + i / 5) % 5) as u8))
        .collect()
}

/// The hidden vectors of one sequence, run in pieces of at most `chunk`.
fn run(model: &Model, tokens: &[u32], chunk: usize, device: &Device) -> Vec<f32> {
    let found = run_layers(model, tokens, chunk, device, &[Layer::Norm]);
    found.into_iter().next().unwrap()
}

/// The same at each of some layers.
fn run_layers(
    model: &Model,
    tokens: &[u32],
    chunk: usize,
    device: &Device,
    layers: &[Layer],
) -> Vec<Vec<f32>> {
    let mut state = model.start(1).unwrap();
    let mut out = vec![Vec::new(); layers.len()];
    for (i, piece) in tokens.chunks(chunk).enumerate() {
        let segment = Segment {
            lane: 0,
            len: piece.len(),
            starts: i == 0,
            ends: i * chunk + piece.len() == tokens.len(),
        };
        let ids = Tensor::new(piece, device).unwrap();
        let found = model.forward_layers(&ids, &[segment], &mut state, layers);
        for (out, found) in out.iter_mut().zip(found.unwrap()) {
            out.extend(found.to_vec1::<f32>().unwrap());
        }
    }
    out
}

#[test]
#[ignore = "needs a CUDA device"]
fn gpus_give_what_the_cpu_gives() {
    for (name, changes, length) in MODELS {
        let (model, facts) = load(name, changes);
        let tokens = tokens(&facts, length);
        let expected = run(&model, &tokens, length, &Device::Cpu);
        let single = difference(&run(&model, &tokens, length, &gpu(false)), &expected);
        // The products' weights are kept as they were first needed: rounded ones are another's.
        let (rounded, _) = load(name, changes);
        let half = difference(&run(&rounded, &tokens, length, &gpu(true)), &expected);
        println!("{name} {changes}: f32 {single:.1e}, bf16 {half:.1e} of the largest magnitude");
        assert!(single <= 1e-4, "{name}: {single}");
        assert!(half <= 0.1, "{name}: {half}");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn layers_within_are_on_gpus_what_they_are_on_the_cpu() {
    for (name, changes, length) in MODELS {
        let (model, facts) = load(name, changes);
        let mut layers = vec![Layer::After(0), Layer::After(1), Layer::After(2)];
        layers.extend(facts.parts.iter().map(|part| Layer::Within(1, part)));
        let tokens = tokens(&facts, length);
        let expected = run_layers(&model, &tokens, length, &Device::Cpu, &layers);
        let chunk = if facts.causal { length / 3 } else { length };
        let found = run_layers(&model, &tokens, chunk, &gpu(false), &layers);
        let (rounded, _) = load(name, changes);
        let half = run_layers(&rounded, &tokens, chunk, &gpu(true), &layers);
        for (i, layer) in layers.iter().enumerate() {
            let (single, half) = (
                difference(&found[i], &expected[i]),
                difference(&half[i], &expected[i]),
            );
            println!("{name} {changes}, {layer:?}: f32 {single:.1e}, bf16 {half:.1e}");
            assert!(single <= 1e-4, "{name}, {layer:?}: {single}");
            assert!(half <= 0.1, "{name}, {layer:?}: {half}");
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn chunks_of_any_size_give_the_same_on_a_gpu() {
    for (name, changes, length) in MODELS {
        let (model, facts) = load(name, changes);
        if !facts.causal {
            continue;
        }
        let device = gpu(false);
        let tokens = tokens(&facts, length);
        let expected = run(&model, &tokens, length, &device);
        for chunk in [97, 1000, length / 3] {
            let found = difference(&run(&model, &tokens, chunk, &device), &expected);
            println!("{name}, chunk {chunk}: {found:.1e}");
            assert!(found <= CHUNKS, "{name}, chunk {chunk}: {found}");
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn neighbours_and_forks_change_nothing_on_a_gpu() {
    for (name, changes, length) in MODELS {
        let (model, facts) = load(name, changes);
        if !facts.causal {
            continue;
        }
        let device = gpu(false);
        let tokens = tokens(&facts, length);
        let expected = run(&model, &tokens, length, &device);
        let (first, second) = tokens.split_at(length / 2);
        let mut state = model.start(2).unwrap();
        let piece = |lane, len, starts, ends| Segment {
            lane,
            len,
            starts,
            ends,
        };
        let step = |parts: &[&[u32]], segments: &[Segment], state: &mut _| {
            let ids = Tensor::new(parts.concat(), &device).unwrap();
            let hidden = model.forward(&ids, segments, state).unwrap();
            hidden.to_vec1::<f32>().unwrap()
        };
        let neighbour = &tokens[5..305];
        let segments = [
            piece(0, 300, true, true),
            piece(1, first.len(), true, false),
        ];
        let a = step(&[neighbour, first], &segments, &mut state);
        let mut fork = state.clone();
        step(&[&tokens[..77]], &[piece(1, 77, false, false)], &mut fork);
        let b = step(
            &[second],
            &[piece(1, second.len(), false, true)],
            &mut state,
        );
        let found = [&a[300 * facts.width..], &b].concat();
        let found = difference(&found, &expected);
        println!("{name}: {found:.1e}");
        assert!(found <= CHUNKS, "{name}: {found}");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn branches_give_what_whole_sequences_give_on_a_gpu() {
    for (name, changes, length) in MODELS {
        let (model, facts) = load(name, changes);
        if !facts.branches_on_gpu {
            continue;
        }
        let device = gpu(false);
        let tokens = tokens(&facts, length);
        let (first, second) = tokens.split_at(length / 2);
        let mut state = model.start(1).unwrap();
        let piece = |len, starts| Segment {
            lane: 0,
            len,
            starts,
            ends: false,
        };
        let ids = Tensor::new(first, &device).unwrap();
        model
            .forward(&ids, &[piece(first.len(), true)], &mut state)
            .unwrap();
        let last = second.len() - 1;
        let branch = |after, len| Branch { after, len };
        let branches = [
            branch(0, 300),
            branch(1, 1),
            branch(last / 2, 1100),
            branch(last, 700),
        ];
        let alternate = |branch: &Branch| &tokens[7..7 + branch.len];
        let mut all = second.to_vec();
        all.extend(branches.iter().flat_map(alternate));
        let ids = Tensor::new(&all[..], &device).unwrap();
        let segments = [piece(second.len(), false)];
        let rows = (&segments[..], &branches[..]);
        let hidden = model.forward_branched(&ids, rows, &mut state, &[Layer::Norm]);
        let hidden = hidden.unwrap()[0].to_vec1::<f32>().unwrap();
        let mut row = second.len();
        for branch in &branches {
            let before = &tokens[..first.len() + branch.after + 1];
            let whole = [before, alternate(branch)].concat();
            let expected = run(&model, &whole, whole.len(), &device);
            let expected = &expected[before.len() * facts.width..];
            let found = &hidden[row * facts.width..(row + branch.len) * facts.width];
            let found = difference(found, expected);
            println!("{name}, {branch:?}: {found:.1e}");
            assert!(found <= CHUNKS, "{name}, {branch:?}: {found}");
            row += branch.len;
        }
    }
}
