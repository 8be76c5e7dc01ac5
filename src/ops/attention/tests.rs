use super::*;
use crate::ops::testing::apart;
use proptest::prelude::*;

const HEADS: usize = 2;
const WIDTH: usize = 6;
const D: usize = HEADS * WIDTH;

fn attention(reach: Reach, window: Option<usize>) -> Attention {
    let rotary = Rotary::new(WIDTH, 10_000.0, 4.0);
    let mut attention = Attention::new(HEADS, WIDTH, reach, Some(rotary));
    attention.set_window(window);
    attention
}

fn input(rows: usize) -> Vec<f32> {
    (0..rows * 3 * D)
        .map(|i| ((i * i % 1009) as f32 * 0.7).sin() * 2.0)
        .collect()
}

fn run(attention: &Attention, x: &[f32], cache: &mut Cache, segments: &[Segment]) -> Vec<f32> {
    let x = Tensor::from_slice(x, (x.len() / (3 * D), 3 * D), &Device::Cpu).unwrap();
    let out = attention.forward(&x, cache, segments).unwrap();
    out.flatten_all().unwrap().to_vec1().unwrap()
}

fn whole(len: usize) -> Segment {
    Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    }
}

/// Softmax attention of one sequence by its definition.
fn plain(x: &[f32], reach: Reach, window: Option<usize>) -> Vec<f64> {
    let rows = x.len() / (3 * D);
    let value = |row: usize, column: usize| f64::from(x[row * 3 * D + column]);
    // Column `part · D + head · WIDTH + i` after rotation.
    let turned = |row: usize, first: usize, i: usize| {
        let pair = i % (WIDTH / 2);
        let angle = row as f64 / 4.0 * 10_000f64.powf(-2.0 * pair as f64 / WIDTH as f64);
        let (low, high) = (
            value(row, first + pair),
            value(row, first + pair + WIDTH / 2),
        );
        if i == pair {
            low * angle.cos() - high * angle.sin()
        } else {
            low * angle.sin() + high * angle.cos()
        }
    };
    let mut out = vec![0.0; rows * D];
    for head in 0..HEADS {
        let all = |first: usize| -> Vec<Vec<f64>> {
            let row = |row| (0..WIDTH).map(|i| turned(row, first, i)).collect();
            (0..rows).map(row).collect()
        };
        let (queries, keys) = (all(head * WIDTH), all(D + head * WIDTH));
        for p in 0..rows {
            let seen = |key: &usize| {
                (reach == Reach::Bidirectional || *key <= p)
                    && window.is_none_or(|window| key.abs_diff(p) < window)
            };
            let seen: Vec<usize> = (0..rows).filter(seen).collect();
            let score = |key: &usize| {
                let dot: f64 = queries[p].iter().zip(&keys[*key]).map(|(q, k)| q * k).sum();
                (dot / (WIDTH as f64).sqrt()).exp()
            };
            let weights: Vec<f64> = seen.iter().map(score).collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..WIDTH {
                let column = 2 * D + head * WIDTH + i;
                let terms = seen
                    .iter()
                    .zip(&weights)
                    .map(|(key, w)| w * value(*key, column));
                out[p * D + head * WIDTH + i] = terms.sum::<f64>() / sum;
            }
        }
    }
    out
}

#[test]
fn whole_sequences_equal_a_plain_f64_loop() {
    for reach in [Reach::Causal, Reach::Bidirectional] {
        for window in [None, Some(1), Some(7), Some(300)] {
            for rows in [1, 5, PAGE + QUERIES + 3] {
                let (attention, x) = (attention(reach, window), input(rows));
                let out = run(&attention, &x, &mut attention.start(1), &[whole(rows)]);
                assert!(
                    apart(&out, &plain(&x, reach, window)) < 1e-5,
                    "{reach:?} {window:?} {rows}"
                );
            }
        }
    }
}

#[test]
fn a_window_bounds_the_cache() {
    let attention = attention(Reach::Causal, Some(100));
    let mut cache = attention.start(1);
    let x = input(64);
    for i in 0..100 {
        let segment = Segment {
            lane: 0,
            len: 64,
            starts: i == 0,
            ends: false,
        };
        run(&attention, &x, &mut cache, &[segment]);
        let lane = &cache.lanes[0];
        let held: usize = lane
            .pages(0..lane.next)
            .map(|(_, page)| page.keys.len() + page.values.len())
            .sum();
        assert!(held * size_of::<f32>() <= Attention::window_bytes(D, 100));
    }
}

#[test]
fn bidirectional_attention_refuses_a_piece_of_a_sequence() {
    let attention = attention(Reach::Bidirectional, None);
    let piece = Segment {
        ends: false,
        ..whole(5)
    };
    let x = Tensor::from_vec(input(5), (5, 3 * D), &Device::Cpu).unwrap();
    assert!(
        attention
            .forward(&x, &mut attention.start(1), &[piece])
            .is_err()
    );
}

#[test]
fn positions_beyond_the_published_context_turn_by_their_distance_alone() {
    let rotary = Rotary::new(WIDTH, 10_000.0, 1.0);
    // cos(a − b) of the fastest pair, a and b one position apart.
    let far = 3_000_000_000;
    let ((c, s), (c2, s2)) = (rotary.turn(far)[0], rotary.turn(far + 1)[0]);
    assert!((c * c2 + s * s2 - 1f32.cos()).abs() < 1e-6);
}

proptest! {
    #[test]
    fn any_split_among_any_neighbours_and_any_fork_gives_the_same_rows(
        cuts in prop::collection::vec(1usize..120, 1..9),
        window in prop::option::of(1usize..200),
    ) {
        let attention = attention(Reach::Causal, window);
        let rows = cuts.iter().sum();
        let (x, other) = (input(rows), input(3));
        let expected = run(&attention, &x, &mut attention.start(1), &[whole(rows)]);
        let mut cache = attention.start(2);
        let (mut out, mut from) = (Vec::new(), 0);
        for (i, &len) in cuts.iter().enumerate() {
            let ours = Segment { lane: 1, len, starts: i == 0, ends: i + 1 == cuts.len() };
            let step = [&other[..], &x[from * 3 * D..][..len * 3 * D]].concat();
            // A clone that runs on with something else leaves ours as it was.
            let fork = Segment { lane: 1, len: 3, starts: false, ends: false };
            run(&attention, &other, &mut cache.clone(), &[fork]);
            let rows = run(&attention, &step, &mut cache, &[whole(3), ours]);
            out.extend_from_slice(&rows[3 * D..]);
            from += len;
        }
        for (found, expected) in out.iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-5);
        }
    }
}
