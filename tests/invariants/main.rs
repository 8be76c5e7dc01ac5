//! What every encoder promises: pieces, neighbours, forks and threads change nothing; and what
//! bidirectional ones promise instead.

#![allow(clippy::unwrap_used)] // helpers outside the test functions

#[path = "../../src/ops/testing/compare.rs"]
mod compare;
mod exact;
mod layers;
mod rounded;
mod score;

use crocuta::checkpoint::{Checkpoint, Config, create, preset};
use crocuta::encoder::{Encoder, Facts, Model, Segment};
use crocuta::head::LanguageModel;
use crocuta::ops::{Device, Tensor};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::LazyLock;

/// Longer than the HyenaDNA golden's filter of 130 taps.
const LENGTH: usize = 300;

/// Every causal encoder: the goldens, and small new models of what has none.
static MODELS: LazyLock<Vec<(&str, Model)>> = LazyLock::new(|| {
    let mut models = Vec::from(
        [
            "hyenadna",
            "mamba1",
            "mamba1-untied",
            "mamba2",
            "mamba2-groups",
            "evo1",
            "evo2",
        ]
        .map(|name| (name, open(name))),
    );
    for name in ["evo1", "evo2"] {
        let (mut model, mut facts) = load(name);
        model.set_attention_window(Some(40), &mut facts).unwrap();
        models.push((
            if name == "evo1" {
                "evo1, window"
            } else {
                "evo2, window"
            },
            model,
        ));
    }
    let transformer = |attention: &str| {
        let preset = json!({
            "attention": attention, "window": 30, "features": 20, "hidden_size": 24,
            "num_heads": 3, "num_layers": 2, "inner_size": 40, "initializer_range": 0.5
        });
        new("transformer-d256-l8", preset)
    };
    let s4d = json!({"d_model": 18, "d_state": 10, "n_layer": 2, "initializer_range": 1.0});
    models.extend([
        ("s4d", new("s4d-d256-l8", s4d)),
        ("transformer", transformer("causal")),
        ("transformer, window", transformer("sliding")),
        ("transformer, performer", transformer("performer")),
    ]);
    models
});

/// Every bidirectional encoder's goldens.
const BIDIRECTIONAL: [&str; 4] = [
    "caduceus-ph",
    "caduceus-ps",
    "caduceus-ph-mamba2",
    "caduceus-ps-mamba2",
];

/// A new model: the preset with some keys changed.
fn new(name: &str, changes: Value) -> Model {
    Model::load(&created(name, changes)).unwrap().0
}

fn created(name: &str, changes: Value) -> Checkpoint {
    let mut config = preset(name).unwrap();
    config.extend(changes.as_object().unwrap().clone());
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model");
    create(&Config::new(name, config), 5, &out, 1 << 20).unwrap();
    Checkpoint::open(&out).unwrap()
}

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "goldens", name]
        .iter()
        .collect()
}

fn load(name: &str) -> (Model, Facts) {
    Model::load(&Checkpoint::open(&folder(name)).unwrap()).unwrap()
}

fn open(name: &str) -> Model {
    load(name).0
}

/// Bases as the goldens' token ids.
fn sequence(length: usize, seed: usize) -> Vec<u32> {
    (0..length)
        .map(|i| 7 + ((i * i + seed * i * 7 + i / 5 + seed) % 5) as u32)
        .collect()
}

fn step<E: Encoder>(
    model: &E,
    tokens: &[u32],
    segments: &[Segment],
    state: &mut E::State,
) -> Vec<f32> {
    let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
    let hidden = model.forward(&tokens, segments, state).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

fn whole<E: Encoder>(model: &E, tokens: &[u32]) -> Vec<f32> {
    pieces(model, tokens, &[tokens.len()])
}

/// The hidden vectors of one sequence, run in pieces of these lengths.
fn pieces<E: Encoder>(model: &E, tokens: &[u32], lengths: &[usize]) -> Vec<f32> {
    let mut state = model.start(1).unwrap();
    let (mut out, mut from) = (Vec::new(), 0);
    for &len in lengths {
        let segment = Segment {
            lane: 0,
            len,
            starts: from == 0,
            ends: from + len == tokens.len(),
        };
        out.extend(step(
            model,
            &tokens[from..from + len],
            &[segment],
            &mut state,
        ));
        from += len;
    }
    assert_eq!(from, tokens.len());
    out
}

/// Lengths of at most `chunk` that sum to `length`.
fn even(length: usize, chunk: usize) -> Vec<usize> {
    (0..length)
        .step_by(chunk)
        .map(|from| chunk.min(length - from))
        .collect()
}

/// Equal within 1e-5 of the largest magnitude.
fn close(found: &[f32], expected: &[f32], what: &str) {
    compare::close(what, found, expected, 1e-5);
}

#[test]
fn chunks_of_any_size_give_the_same() {
    for (name, model) in MODELS.iter() {
        let tokens = sequence(LENGTH, 1);
        let expected = whole(model, &tokens);
        for chunk in [1, 7, 64] {
            let found = pieces(model, &tokens, &even(LENGTH, chunk));
            close(&found, &expected, &format!("{name}, chunk {chunk}"));
        }
    }
}

#[test]
fn a_cloned_state_runs_on_without_touching_the_original() {
    for (name, model) in MODELS.iter() {
        let (tokens, other) = (sequence(LENGTH, 1), sequence(90, 2));
        let expected = whole(model, &tokens);
        let piece = |len, starts, ends| Segment {
            lane: 0,
            len,
            starts,
            ends,
        };
        let mut state = model.start(1).unwrap();
        let mut found = step(
            model,
            &tokens[..150],
            &[piece(150, true, false)],
            &mut state,
        );
        let mut fork = state.clone();
        let forked = step(model, &other, &[piece(90, false, true)], &mut fork);
        found.extend(step(
            model,
            &tokens[150..],
            &[piece(150, false, true)],
            &mut state,
        ));
        close(&found, &expected, name);
        let joined = whole(model, &[&tokens[..150], &other].concat());
        let width = expected.len() / LENGTH;
        close(&forked, &joined[150 * width..], name);
    }
}

/// From one state, before and after it was forked once, for several haplotypes at a time.
#[test]
fn forks_run_on_as_clones_do_beside_each_other() {
    for (name, model) in MODELS.iter() {
        let tokens = sequence(LENGTH, 1);
        let piece = |lane, len, starts, ends| Segment {
            lane,
            len,
            starts,
            ends,
        };
        for at in [1, 37, 129, 260] {
            let mut state = model.start(2).unwrap();
            let (before, others) = (&tokens[..at], sequence(at + 5, 9));
            let both = [before, &others].concat();
            let segments = [piece(1, at, true, false), piece(0, at + 5, true, false)];
            step(model, &both, &segments, &mut state);
            let room = 40;
            let light = model.fork(&[(&state, 1)], room).unwrap();
            let mut fork = model
                .fork(&[(&light, 0), (&state, 0), (&light, 0)], room)
                .unwrap();
            let ours = [sequence(room, 2), sequence(11, 3), sequence(23, 4)];
            let segments = [
                piece(2, 23, false, true),
                piece(0, room, false, true),
                piece(1, 11, false, true),
            ];
            let packed = [&ours[2][..], &ours[0], &ours[1]].concat();
            let found = step(model, &packed, &segments, &mut fork);
            let width = found.len() / packed.len();
            let mut rows = found.chunks(width);
            for (own, before) in [(&ours[2], before), (&ours[0], before), (&ours[1], &others)] {
                let found: Vec<f32> = rows.by_ref().take(own.len()).flatten().copied().collect();
                let joined = whole(model, &[before, own].concat());
                close(&found, &joined[before.len() * width..], name);
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (name, model) in MODELS.iter() {
        let tokens = sequence(LENGTH, 3);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let lengths = even(LENGTH, 128);
            pool.unwrap().install(|| pieces(model, &tokens, &lengths))
        };
        assert_eq!(on(1), on(2), "{name}");
    }
}

#[test]
fn a_sequence_gives_the_same_bits_in_any_company() {
    let bidirectional = BIDIRECTIONAL.map(|name| (name, open(name)));
    for (name, model) in MODELS.iter().chain(&bidirectional) {
        let lengths = [1, 130, 2, 61, 3, 64, 16, 300, 5];
        let segments = lengths.map(|len| Segment {
            lane: 0,
            len,
            starts: true,
            ends: true,
        });
        let tokens = sequence(lengths.iter().sum(), 7);
        let mut state = model.start(1).unwrap();
        let together = step(model, &tokens, &segments, &mut state);
        let width = together.len() / tokens.len();
        let mut rows = &together[..];
        for own in split(&tokens, &lengths) {
            let (found, rest) = rows.split_at(own.len() * width);
            assert!(
                found == whole(model, own),
                "{name}, {} bases of {}",
                own.len(),
                tokens.len()
            );
            rows = rest;
        }
    }
}

#[test]
fn both_strands_give_the_same_bits_whichever_is_given() {
    for name in ["caduceus-ps", "caduceus-ps-mamba2"] {
        both_strands_give_the_same_bits(name);
    }
}

fn both_strands_give_the_same_bits(name: &str) {
    let checkpoint = Checkpoint::open(&folder(name)).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let head = LanguageModel::load(&checkpoint, &model, &facts).unwrap();
    let complement = model.complement().unwrap();
    // Several lengths in a step; more rows than a tile of the matrix products.
    let lengths = [1, 130, 2, 1301, 61];
    let segments = lengths.map(|len| Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    });
    let tokens = sequence(lengths.iter().sum(), 7);
    let reverse_complement = |tokens: &[u32]| -> Vec<u32> {
        let mirror = |piece: &[u32]| {
            let other = piece.iter().rev().map(|&id| complement[id as usize]);
            other.collect::<Vec<_>>()
        };
        split(tokens, &lengths).flat_map(mirror).collect()
    };
    let run = |tokens: &[u32]| {
        let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
        let mut state = model.start(1).unwrap();
        let hidden = model.forward(&tokens, &segments, &mut state).unwrap();
        let logits = head.forward(&hidden).unwrap();
        (
            hidden.to_vec2::<f32>().unwrap(),
            logits.to_vec2::<f32>().unwrap(),
        )
    };
    let (hidden, logits) = run(&tokens);
    let (other_hidden, other_logits) = run(&reverse_complement(&tokens));
    let mirrored = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
        let mirror = |piece: &[Vec<f32>]| piece.iter().rev().cloned().collect::<Vec<_>>();
        split(&rows, &lengths).flat_map(mirror).collect()
    };
    for (row, other) in hidden.iter().zip(mirrored(other_hidden)) {
        assert!(row.iter().eq(other.iter().rev()));
    }
    for (row, other) in logits.iter().zip(mirrored(other_logits)) {
        for (logit, &token) in row.iter().zip(complement) {
            assert_eq!(*logit, other[token as usize]);
        }
    }
}

/// The consecutive pieces of these lengths.
fn split<'a, T>(all: &'a [T], lengths: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    lengths.iter().scan(0, move |from, len| {
        *from += len;
        Some(&all[*from - len..*from])
    })
}

#[test]
fn whole_sequences_do_not_see_each_other_in_either_direction() {
    for name in BIDIRECTIONAL {
        let model = open(name);
        let lengths = [70, 1, 200, 3];
        let segments = lengths.map(|len| Segment {
            lane: 0,
            len,
            starts: true,
            ends: true,
        });
        let tokens = sequence(lengths.iter().sum(), 8);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let mut state = model.start(1).unwrap();
            pool.unwrap()
                .install(|| step(&model, &tokens, &segments, &mut state))
        };
        let together = on(2);
        assert_eq!(on(1), together, "{name}");
        let alone: Vec<f32> = split(&tokens, &lengths)
            .flat_map(|tokens| whole(&model, tokens))
            .collect();
        close(&together, &alone, name);
    }
}

#[test]
fn a_bidirectional_encoder_refuses_pieces() {
    for name in BIDIRECTIONAL {
        let model = open(name);
        for (starts, ends) in [(true, false), (false, true)] {
            let piece = Segment {
                lane: 0,
                len: 2,
                starts,
                ends,
            };
            let tokens = Tensor::new(&[7u32, 8], &Device::Cpu).unwrap();
            let mut state = model.start(1).unwrap();
            assert!(model.forward(&tokens, &[piece], &mut state).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two sequences stream through one state in random pieces, beside a read that starts and
    /// ends within the step; each gives what it gives alone.
    #[test]
    fn neighbours_and_random_pieces_change_nothing(
        cuts in prop::collection::vec((1usize..60, 1usize..60), 1..8),
    ) {
        for (name, model) in MODELS.iter() {
            let totals = cuts.iter().fold((0, 0), |sum, cut| (sum.0 + cut.0, sum.1 + cut.1));
            let ours = [sequence(totals.0, 4), sequence(totals.1, 5)];
            let read = sequence(20, 6);
            let read_alone = whole(model, &read);
            let width = read_alone.len() / read.len();
            let mut state = model.start(2).unwrap();
            let mut found = [Vec::new(), Vec::new()];
            let mut from = [0, 0];
            for (i, &(first, second)) in cuts.iter().enumerate() {
                let (starts, ends) = (i == 0, i + 1 == cuts.len());
                let segments = [
                    Segment { lane: 1, len: first, starts, ends },
                    Segment { lane: 0, len: read.len(), starts: true, ends: true },
                    Segment { lane: 0, len: second, starts, ends },
                ];
                let tokens = [
                    &ours[0][from[0]..from[0] + first],
                    &read,
                    &ours[1][from[1]..from[1] + second],
                ].concat();
                let hidden = step(model, &tokens, &segments, &mut state);
                let (a, rest) = hidden.split_at(first * width);
                let (b, c) = rest.split_at(read.len() * width);
                found[0].extend_from_slice(a);
                close(b, &read_alone, name);
                found[1].extend_from_slice(c);
                from = [from[0] + first, from[1] + second];
            }
            for (found, tokens) in found.iter().zip(&ours) {
                close(found, &whole(model, tokens), name);
            }
        }
    }
}
