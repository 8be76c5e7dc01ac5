use super::*;
use crate::ops::Device;
use crate::ops::testing::difference;
use proptest::prelude::*;

const CHANNELS: usize = 18;

fn tap(channel: usize, j: usize, length: usize) -> f32 {
    let decay = (-3.0 * j as f32 / length as f32).exp() + 0.05;
    ((channel * 7 + j * 3) as f32 * 0.61).sin() * decay
}

fn conv(length: usize, budget: usize) -> LongConv {
    let taps = move |n: usize| {
        let tap = move |c, j| if j < length { tap(c, j, length) } else { 0.0 };
        let rows = move |channels: Range<usize>| {
            let row = |c| (0..n).map(move |j| tap(c, j));
            channels.flat_map(row).collect()
        };
        Box::new(rows) as Box<TapRows>
    };
    let bias: Vec<f32> = (0..CHANNELS).map(|c| (c as f32).cos()).collect();
    let bias = Tensor::new(bias, &Device::Cpu).unwrap();
    LongConv::new(length, &bias, Arc::new(taps), budget).unwrap()
}

fn input(rows: usize) -> Vec<f32> {
    (0..rows * 3 * CHANNELS)
        .map(|i| ((i * i % 1009) as f32 * 0.37).sin())
        .collect()
}

fn run(conv: &LongConv, x: &[f32], past: &mut Past, segments: &[Segment]) -> Vec<f32> {
    let rows = x.len() / (3 * CHANNELS);
    let x = Tensor::from_slice(x, (rows, 3 * CHANNELS), &Device::Cpu).unwrap();
    conv.forward(&x, past, segments)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The definition, in f64.
fn plain(x: &[f32], length: usize) -> Vec<f64> {
    let rows = x.len() / (3 * CHANNELS);
    let at = |t: usize, part: usize, c: usize| f64::from(x[(t * 3 + part) * CHANNELS + c]);
    let mut out = vec![0.0; rows * CHANNELS];
    for t in 0..rows {
        for c in 0..CHANNELS {
            let v = |t: usize| at(t, 1, c) * at(t, 2, c);
            let sum: f64 = (0..=t.min(length - 1))
                .map(|s| f64::from(tap(c, s, length)) * v(t - s))
                .sum();
            out[t * CHANNELS + c] = at(t, 0, c) * (sum + f64::from((c as f32).cos()) * v(t));
        }
    }
    out
}

const WHOLE: Segment = Segment {
    lane: 0,
    len: 0,
    starts: true,
    ends: true,
};

#[test]
fn whole_sequences_equal_a_plain_f64_loop() {
    for (length, rows) in [(1, 5), (40, 33), (300, 700), (1026, 1500), (2050, 900)] {
        let (conv, x) = (conv(length, 1 << 30), input(rows));
        let out = run(
            &conv,
            &x,
            &mut conv.start(0),
            &[Segment { len: rows, ..WHOLE }],
        );
        assert!(
            difference(&out, &plain(&x, length)) < 2e-6,
            "length {length}, rows {rows}"
        );
    }
}

#[test]
fn sequences_stream_past_the_filter_s_length() {
    for (length, rows, step) in [(7, 60, 1), (66, 900, 7), (300, 2000, 64), (1026, 6000, 777)] {
        for budget in [0, 1 << 30] {
            let (conv, x) = (conv(length, budget), input(rows));
            let mut past = conv.start(1);
            let mut out = Vec::new();
            for (i, x) in x.chunks(step * 3 * CHANNELS).enumerate() {
                let len = x.len() / (3 * CHANNELS);
                let segment = Segment {
                    lane: 0,
                    len,
                    starts: i == 0,
                    ends: false,
                };
                out.extend(run(&conv, x, &mut past, &[segment]));
            }
            assert!(
                difference(&out, &plain(&x, length)) < 2e-6,
                "length {length}, step {step}"
            );
        }
    }
}

#[test]
fn what_was_read_before_changes_no_bit() {
    let (length, x) = (130, input(1000));
    let segment = |len, starts, ends| Segment {
        lane: 0,
        len,
        starts,
        ends,
    };
    let streamed = |conv: &LongConv| {
        let (mut past, mut out) = (conv.start(1), Vec::new());
        for (i, x) in x.chunks(100 * 3 * CHANNELS).enumerate() {
            out.extend(run(conv, x, &mut past, &[segment(100, i == 0, false)]));
        }
        let mut fork = conv.fork(&[(&past, 0)], 40).unwrap();
        out.extend(run(
            conv,
            &input(30),
            &mut fork,
            &[segment(30, false, true)],
        ));
        out
    };
    // Room for none, for some and for all.
    let most = 6 * LongConv::past_bytes(length, CHANNELS);
    for budget in [0, most / 4, most / 2, most, 1 << 30] {
        let expected = streamed(&conv(length, budget));
        for before in [1, 64, 65, 128, 129, 300, 1000] {
            for ends in [true, false] {
                let conv = conv(length, budget);
                let first = segment(before, true, ends);
                run(&conv, &input(before), &mut conv.start(1), &[first]);
                let same = streamed(&conv) == expected;
                assert!(same, "budget {budget}, {before} bases before, {ends}");
            }
        }
    }
}

#[test]
fn the_ring_holds_every_lag_of_the_filter() {
    for length in (1..3000).chain([32_770, 160_002, 450_002, 1_000_002]) {
        let ring = ring(length);
        assert!(
            ring + 1 >= length && ring < length.max(64) + length / 4 + 16,
            "{length}: {ring}"
        );
    }
    assert_eq!((ring(32_770), ring(160_002)), (40_960, 163_840));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_split_among_any_neighbours_gives_the_same_rows(
        cuts in prop::collection::vec(1usize..300, 1..12),
        length in 2usize..400,
        before in 1usize..90,
    ) {
        let conv = conv(length, 1 << 16);
        let rows = cuts.iter().sum();
        let (x, other) = (input(rows), input(before));
        let expected = plain(&x, length);
        let mut past = conv.start(2);
        let (mut out, mut from) = (Vec::new(), 0);
        for (i, &len) in cuts.iter().enumerate() {
            let neighbour = Segment { len: before, ..WHOLE };
            let ours = Segment { lane: 1, len, starts: i == 0, ends: i + 1 == cuts.len() };
            let step = [&other[..], &x[from * 3 * CHANNELS..][..len * 3 * CHANNELS]].concat();
            out.extend_from_slice(&run(&conv, &step, &mut past, &[neighbour, ours])[before * CHANNELS..]);
            from += len;
        }
        prop_assert!(difference(&out, &expected) < 2e-6);
    }

    #[test]
    fn a_lane_forgets_its_last_sequence_and_a_clone_leaves_the_original(first in 1usize..500, second in 1usize..500) {
        let conv = conv(200, 1 << 30);
        let (a, b) = (input(first), input(second));
        let open = Segment { lane: 0, len: first, starts: true, ends: false };
        let mut past = conv.start(1);
        run(&conv, &a, &mut past, &[open]);
        let mut fork = past.clone();
        let more = Segment { lane: 0, len: second, starts: false, ends: false };
        let forked = run(&conv, &b, &mut fork, &[more]);
        prop_assert_eq!(&forked, &run(&conv, &b, &mut past, &[more]));
        let again = run(&conv, &b, &mut past, &[Segment { lane: 0, len: second, starts: true, ends: false }]);
        prop_assert!(difference(&again, &plain(&b, 200)) < 2e-6);
    }
}

#[test]
fn a_fork_runs_on_as_the_sequence_would_from_any_position() {
    for (length, budget) in [(40, 1 << 30), (300, 1 << 30), (300, 0), (1026, 1 << 30)] {
        let conv = conv(length, budget);
        let step = |x: &[f32], past: &mut Past, lane, starts, ends| {
            let segment = Segment {
                lane,
                len: x.len() / (3 * CHANNELS),
                starts,
                ends,
            };
            run(&conv, x, past, &[segment])
        };
        let x = input(2900);
        let split = |from: usize, to: usize| &x[from * 3 * CHANNELS..to * 3 * CHANNELS];
        for (at, room) in [
            (1, 5),
            (37, 100),
            (255, 64),
            (256, 256),
            (conv.ring - 1, conv.ring),
            (conv.ring, 40),
            (conv.ring + 77, 129),
            (1499, 2 * conv.ring),
        ] {
            let room = room.min(1400);
            let mut past = conv.start(1);
            step(split(0, at), &mut past, 0, true, false);
            let mut clone = past.clone();
            let expected: Vec<f64> = step(split(at, at + room), &mut clone, 0, false, true)
                .into_iter()
                .map(f64::from)
                .collect();
            let fork = conv.fork(&[(&past, 0)], room).unwrap();
            let both = || conv.fork(&[(&past, 0), (&fork, 0)], room).unwrap();
            for lane in [0, 1] {
                let once = step(split(at, at + room), &mut both(), lane, false, true);
                assert!(
                    difference(&once, &expected) < 1e-5,
                    "{length}: {at} + {room}"
                );
                let mut fork = both();
                let half = at + room / 3 + 1;
                let mut parts = step(split(at, half), &mut fork, lane, false, false);
                if half < at + room {
                    parts.extend(step(split(half, at + room), &mut fork, lane, false, true));
                }
                assert!(
                    difference(&parts, &expected) < 1e-5,
                    "{length}: {at} + {room}"
                );
            }
            // The original runs on as if there had been no fork.
            let on = step(split(at, at + room), &mut past, 0, false, true);
            assert_eq!(difference(&on, &expected), 0.0);
        }
    }
}

#[test]
fn a_fork_holds_no_more_than_it_has_room_for_and_refuses_to_run_further() {
    let conv = conv(1026, 1 << 30);
    let x = input(600);
    let segment = |len, starts| Segment {
        lane: 0,
        len,
        starts,
        ends: false,
    };
    let mut past = conv.start(1);
    run(&conv, &x, &mut past, &[segment(600, true)]);
    let mut fork = conv.fork(&[(&past, 0)], 16).unwrap();
    assert!(fork.lanes[0].slots.iter().all(|slots| slots.len() == 16));
    let tensor = Tensor::from_slice(&x[..17 * 3 * CHANNELS], (17, 3 * CHANNELS), &Device::Cpu);
    let error = conv.forward(&tensor.unwrap(), &mut fork, &[segment(17, false)]);
    assert!(error.is_err());
    // A lane that starts anew is an ordinary one again.
    run(&conv, &x, &mut fork, &[segment(600, true)]);
    assert_eq!(fork.lanes[0].ring(), conv.ring);
}
