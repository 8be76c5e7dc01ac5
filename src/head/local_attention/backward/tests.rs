use crate::checkpoint::Weights;
use crate::head::local_attention::tests::{D, plain, sizes, weights};
use crate::head::local_attention::{LocalAttention, LocalSizes, LocalState};
use crate::ops::Tensor;
use crate::ops::check::{check, close, random, wide};
use crate::sequence::Segment;
use std::collections::BTreeMap;

fn segment(len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane: 0,
        len,
        starts,
        ends,
    }
}

/// The names of a head's tensors, and a head with those given.
fn names(sizes: LocalSizes) -> Vec<String> {
    weights(sizes).into_keys().collect()
}

fn head(sizes: LocalSizes, tensors: &[Tensor]) -> LocalAttention {
    let replaced: BTreeMap<_, _> = names(sizes)
        .into_iter()
        .zip(tensors.iter().cloned())
        .collect();
    let weights = Weights::new("head", weights(sizes)).replacing(replaced);
    LocalAttention::load(sizes, &weights).unwrap()
}

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    for (rows, window, causal) in [(9, 3, false), (7, 9, true), (70, 2, false)] {
        let sizes = sizes(window, causal);
        let stored = weights(sizes);
        let mut inputs = vec![random(&[rows, D], 1)];
        inputs.extend(stored.values().map(|x| Tensor::from(x.clone())));
        let whole = [segment(rows, true, true)];
        let op = |x: &[Tensor]| {
            let head = head(sizes, &x[1..]);
            Ok(head.forward(&x[0], &whole, &mut head.start(1))?.logits)
        };
        check(&inputs, 5e-5, op, |x| {
            let tensors = names(sizes)
                .into_iter()
                .zip(x[1..].iter().cloned())
                .collect();
            plain(sizes, &tensors, &x[0])
        });
    }
}

/// Gradients of the rows of `x` from the logits of those that come out.
fn step(
    head: &LocalAttention,
    x: &Tensor,
    segment: Segment,
    state: &mut LocalState,
    seed: &Tensor,
) -> (Vec<f64>, usize) {
    let x = x.parameter();
    let rows = head.forward(&x, &[segment], state).unwrap();
    let seed = seed
        .narrow(0, rows.pieces[0].offset, rows.pieces[0].len)
        .unwrap();
    let gradients = rows.logits.backward(seed).unwrap();
    (wide(gradients.of(&x).unwrap()), rows.pieces[0].len)
}

#[test]
fn rows_that_wait_for_their_context_have_no_gradient_but_through_keys() {
    let (rows, window) = (40, 4);
    let sizes = sizes(window, false);
    let tensors: Vec<_> = weights(sizes).into_values().map(Tensor::from).collect();
    let head = head(sizes, &tensors);
    let (x, seed) = (random(&[rows, D], 1), random(&[rows, 3], 2));
    // The last rows of a sequence that goes on do not come out: as if their seed were zero.
    let (found, out) = step(
        &head,
        &x,
        segment(rows, true, false),
        &mut head.start(1),
        &seed,
    );
    assert_eq!(out, rows - window);
    let zeros = seed.narrow(0, 0, window).unwrap().affine(0.0, 0.0).unwrap();
    let quiet = Tensor::cat(&[seed.narrow(0, 0, rows - window).unwrap(), zeros], 0).unwrap();
    let whole = segment(rows, true, true);
    let (expected, _) = step(&head, &x, whole, &mut head.start(1), &quiet);
    close("before", &found, &expected, 1e-5);
    // The rows of a sequence's second part have the gradients they have in the whole, where the
    // rows of the first part get none: those near the cut lack nothing, their keys are carried.
    let mut state = head.start(1);
    let (first, rest) = (x.narrow(0, 0, 30).unwrap(), x.narrow(0, 30, 10).unwrap());
    step(&head, &first, segment(30, true, false), &mut state, &seed);
    let (found, out) = step(&head, &rest, segment(10, false, true), &mut state, &seed);
    assert_eq!(out, 14);
    let zeros = seed.narrow(0, 0, 26).unwrap().affine(0.0, 0.0).unwrap();
    let late = Tensor::cat(&[zeros, seed.narrow(0, 26, 14).unwrap()], 0).unwrap();
    let (expected, _) = step(&head, &x, whole, &mut head.start(1), &late);
    close("after", &found, &expected[30 * D..], 1e-5);
}
