//! What every causal encoder promises: pieces, neighbours, forks and threads change nothing.

use candle_core::{Device, Tensor};
use crocuta::checkpoint::Checkpoint;
use crocuta::encoder::{Encoder, Model, Segment};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Longer than the HyenaDNA golden's filter of 130 taps.
const LENGTH: usize = 300;

static MODELS: LazyLock<Vec<(&str, Model)>> = LazyLock::new(|| {
    ["hyenadna", "mamba1"]
        .map(|name| (name, open(name)))
        .into_iter()
        .collect()
});

fn open(name: &str) -> Model {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "goldens", name]
        .iter()
        .collect();
    Model::load(&Checkpoint::open(&folder).unwrap()).unwrap().0
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
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= 1e-5 * largest,
            "{what}: value {i}: {found}, {expected}"
        );
    }
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
