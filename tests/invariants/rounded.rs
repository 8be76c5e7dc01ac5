//! What bf16 promises on a CPU. Weights that are stored so give the bits of their f32 values. With
//! `--precision bf16` threads and company change no bit, as in f32; pieces no more than rounding does,
//! which is as far as it is from f32 at most.

use super::*;
use candle_core::DType;
use crocuta::checkpoint::Weights;
use crocuta::ops::rounds_on_cpu;

/// Largest difference to f32, relative to the largest magnitude: bf16 has 8 bits. The Transformer,
/// whose weights are large, is furthest: 3.1e-2.
const ROUNDING: f32 = 5e-2;

/// The same of pieces and of forks to the whole: 1.8e-5 at most was found.
const PIECES: f32 = 1e-3;

/// Every encoder, its golden or a small new model, with these two kinds of its weights.
fn models(kinds: impl Fn(&Weights) -> [Weights; 2]) -> Vec<(&'static str, [Model; 2])> {
    let both = |mut checkpoint: Checkpoint| {
        kinds(&checkpoint.weights).map(|weights| {
            checkpoint.weights = weights;
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

/// For products in f32, and for such that round.
fn precisions(weights: &Weights) -> [Weights; 2] {
    [false, true].map(|rounded| weights.rounding(rounded))
}

/// The weights as they are stored in bf16, of this type in memory.
fn narrowed(weights: &Weights, dtype: DType) -> Weights {
    let floats = weights.names().filter(|name| weights.is_float(name));
    let tensors = floats.map(|name| {
        let tensor = weights.tensor(name, weights.shape(name).unwrap()).unwrap();
        let narrow = tensor.stored().unwrap().to_dtype(DType::BF16).unwrap();
        (name.to_string(), narrow.to_dtype(dtype).unwrap())
    });
    Weights::new("narrowed", tensors.collect())
}

#[test]
fn weights_stored_in_bf16_give_the_bits_of_their_f32_values() {
    for rounded in [false, true] {
        let kinds = |weights: &Weights| {
            [DType::F32, DType::BF16].map(|dtype| narrowed(weights, dtype).rounding(rounded))
        };
        for (name, [wide, narrow]) in models(kinds) {
            // Few rows and many, for which products read weights otherwise.
            for length in [20, 2 * LENGTH] {
                let tokens = sequence(length, 1);
                assert!(
                    whole(&wide, &tokens) == whole(&narrow, &tokens),
                    "{name}, {length}"
                );
            }
        }
    }
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
    for (name, [exact, rounded]) in models(precisions) {
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
    for (name, [_, rounded]) in models(precisions) {
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
