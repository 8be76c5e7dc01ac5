//! What `--precision bf16` promises on a CPU: threads and company change no bit, as in f32; pieces no
//! more than rounding does, which is as far as it is from f32 at most.

use super::*;
use crocuta::ops::rounds_on_cpu;

/// Largest difference to f32, relative to the largest magnitude: bf16 has 8 bits. The Transformer,
/// whose weights are large, is furthest: 3.1e-2.
const ROUNDING: f32 = 5e-2;

/// The same of pieces and of forks to the whole: 1.8e-5 at most was found.
const PIECES: f32 = 1e-3;

/// Every encoder: its golden, or a small new model; in f32 and rounded.
fn models() -> Vec<(&'static str, [Model; 2])> {
    let both = |mut checkpoint: Checkpoint| {
        [false, true].map(|rounded| {
            checkpoint.weights = checkpoint.weights.rounding(rounded);
            Model::load(&checkpoint).unwrap().0
        })
    };
    let goldens = ["hyenadna", "mamba1", "mamba2", "evo1", "evo2"];
    let goldens = goldens.into_iter().chain(BIDIRECTIONAL);
    let mut models: Vec<_> = goldens
        .map(|name| (name, both(Checkpoint::open(&folder(name)).unwrap())))
        .collect();
    let s4d = json!({"d_model": 18, "d_state": 10, "n_layer": 2, "initializer_range": 1.0});
    let transformer = json!({
        "attention": "causal", "hidden_size": 24, "num_heads": 3, "num_layers": 2,
        "inner_size": 40, "initializer_range": 0.5
    });
    for (name, changes) in [("s4d-d256-l8", s4d), ("transformer-d256-l8", transformer)] {
        models.push((name, both(created(name, changes))));
    }
    models
}

fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = |of: &mut dyn Iterator<Item = f32>| {
        of.fold(0.0, |largest: f32, x| {
            assert!(x.is_finite());
            largest.max(x.abs())
        })
    };
    let differences = &mut found.iter().zip(expected).map(|(a, b)| a - b);
    largest(differences) / largest(&mut expected.iter().copied())
}

#[test]
fn bf16_is_near_f32_and_threads_and_company_change_no_bit_of_it() {
    if !rounds_on_cpu() {
        return;
    }
    for (name, [exact, rounded]) in models() {
        let tokens = sequence(LENGTH, 1);
        let expected = whole(&exact, &tokens);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| whole(&rounded, &tokens))
        };
        let found = on(1);
        assert!(found == on(3), "{name}: threads");
        let far = distance(&found, &expected);
        println!("{name}: {far:.1e} from f32");
        assert!(far > 1e-6, "{name}: nothing is rounded");
        assert!(far < ROUNDING, "{name}: {far}");

        let other = sequence(90, 2);
        let segments = [other.len(), LENGTH].map(|len| Segment {
            lane: 0,
            len,
            starts: true,
            ends: true,
        });
        let mut state = rounded.start(1).unwrap();
        let together = [&other[..], &tokens].concat();
        let together = step(&rounded, &together, &segments, &mut state);
        let width = found.len() / LENGTH;
        assert!(together[other.len() * width..] == found, "{name}: company");
    }
}

#[test]
fn pieces_and_forks_change_bf16_no_more_than_its_rounding() {
    if !rounds_on_cpu() {
        return;
    }
    for (name, [_, rounded]) in models() {
        if BIDIRECTIONAL.contains(&name) {
            continue;
        }
        let tokens = sequence(LENGTH, 1);
        let expected = whole(&rounded, &tokens);
        for chunk in [1, 7, 64] {
            let found = pieces(&rounded, &tokens, &even(LENGTH, chunk));
            let far = distance(&found, &expected);
            println!("{name}, chunk {chunk}: {far:.1e}");
            assert!(far < PIECES, "{name}, chunk {chunk}: {far}");
        }
        let piece = |len, starts, ends| Segment {
            lane: 0,
            len,
            starts,
            ends,
        };
        let mut state = rounded.start(1).unwrap();
        step(
            &rounded,
            &tokens[..100],
            &[piece(100, true, false)],
            &mut state,
        );
        let mut clone = state.clone();
        let mut fork = rounded.fork(&[(&state, 0)], LENGTH - 100).unwrap();
        let rest = [piece(LENGTH - 100, false, true)];
        let [cloned, forked, went_on] = [&mut clone, &mut fork, &mut state]
            .map(|state| step(&rounded, &tokens[100..], &rest, state));
        assert!(cloned == went_on, "{name}: a clone");
        assert!(distance(&forked, &went_on) < PIECES, "{name}: a fork");
    }
}
