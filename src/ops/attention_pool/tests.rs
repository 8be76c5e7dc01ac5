use super::*;
use crate::ops::check::{check, close, random, values, wide};

const SIZES: PoolSizes = PoolSizes {
    queries: 3,
    width: 2,
    places: 5,
};

fn segments(lengths: &[usize]) -> Vec<Segment> {
    let segment = |len: &usize| Segment {
        lane: 0,
        len: *len,
        starts: true,
        ends: true,
    };
    lengths.iter().map(segment).collect()
}

/// The formula, in f64.
fn plain(lengths: &[usize], inputs: &[Vec<f64>]) -> Vec<f64> {
    let PoolSizes {
        queries,
        width,
        places,
    } = SIZES;
    let (x, r) = (&inputs[0], &inputs[1]);
    let (mut out, mut first) = (Vec::new(), 0);
    for &n in lengths {
        for q in 0..queries {
            let score = |i: usize| {
                let place =
                    (i as i64 - (n / 2) as i64 + (places / 2) as i64).clamp(0, places as i64 - 1);
                x[(first + i) * SIZES.row() + q] + r[q * places + place as usize]
            };
            let sum: f64 = (0..n).map(|i| score(i).exp()).sum();
            for e in 0..width {
                let value = |i: usize| x[(first + i) * SIZES.row() + queries + q * width + e];
                out.push((0..n).map(|i| score(i).exp() / sum * value(i)).sum());
            }
        }
        first += n;
    }
    out
}

#[test]
fn sequences_are_pooled_and_differentiated_as_the_formula_says() {
    let lengths = [4, 1, 9];
    let inputs = [random(&[14, SIZES.row()], 1), random(&[3, 5], 2)];
    check(
        &inputs,
        1e-4,
        |inputs| attention_pool(&inputs[0], &inputs[1], SIZES, &segments(&lengths)),
        |inputs| plain(&lengths, inputs),
    );
}

#[test]
fn a_sequence_read_in_pieces_is_pooled_as_a_whole_one() {
    let (rows, places) = (random(&[11, SIZES.row()], 3), random(&[3, 5], 4));
    let expected = plain(&[11], &[wide(&rows), wide(&places)]);
    let (rows, places) = (values(&rows), values(&places));
    for cut in 0..=11 {
        let mut state = PoolState::default();
        for (from, to) in [(0, cut), (cut, 11)] {
            let rows = &rows[from * SIZES.row()..to * SIZES.row()];
            state.add(rows, SIZES, &places, (from, 11));
        }
        close("pooled", &state.finish(SIZES.width), &expected, 1e-6);
    }
}
