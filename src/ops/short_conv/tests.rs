use super::*;
use crate::ops::Device;
use proptest::prelude::*;

/// A block of channels, and some more.
const CHANNELS: usize = 21;

fn conv(kernel: usize) -> ShortConv {
    let weight: Vec<f32> = (0..CHANNELS * kernel).map(|i| (i as f32).cos()).collect();
    let weight = Tensor::from_vec(weight, (CHANNELS, 1, kernel), &Device::Cpu).unwrap();
    let bias = (0..CHANNELS).map(|i| i as f32 / 10.0).collect();
    let bias = Tensor::from_vec::<f32>(bias, CHANNELS, &Device::Cpu).unwrap();
    ShortConv::new(&weight, Some(&bias), Activation::None).unwrap()
}

fn input(rows: usize) -> Vec<f32> {
    (0..rows * CHANNELS)
        .map(|i| (i as f32 * 0.7).sin())
        .collect()
}

fn run(conv: &ShortConv, x: &[f32], tail: &mut Tail, segments: &[Segment]) -> Vec<f32> {
    let x = Tensor::from_slice(x, (x.len() / CHANNELS, CHANNELS), &Device::Cpu).unwrap();
    conv.forward(&x, tail, segments)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn whole_sequences_equal_a_plain_f64_loop() {
    for kernel in [1, 3, 4, 7, 128] {
        let (conv, x) = (conv(kernel), input(150));
        let whole = Segment {
            lane: 0,
            len: 150,
            starts: true,
            ends: true,
        };
        let out = run(&conv, &x, &mut conv.start(1), &[whole]);
        for t in 0..150 {
            for c in 0..CHANNELS {
                let mut y = f64::from(conv.bias[c]);
                for j in 0..kernel {
                    if t + j + 1 >= kernel {
                        let x = x[(t + j + 1 - kernel) * CHANNELS + c];
                        y += f64::from(((c * kernel + j) as f32).cos()) * f64::from(x);
                    }
                }
                let far = (f64::from(out[t * CHANNELS + c]) - y).abs();
                assert!(far < 1e-6 * (9 + kernel) as f64, "{kernel} taps: {far}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_split_among_any_neighbours_gives_the_same_rows(cuts in prop::collection::vec(1usize..9, 1..12)) {
        let conv = conv(4);
        let rows = cuts.iter().sum();
        let x = input(rows);
        let other = input(3);
        let whole = Segment { lane: 0, len: rows, starts: true, ends: true };
        let expected = run(&conv, &x, &mut conv.start(1), &[whole]);
        let mut tail = conv.start(2);
        let (mut out, mut from) = (Vec::new(), 0);
        for (i, &len) in cuts.iter().enumerate() {
            // Another whole sequence shares each step, before ours.
            let neighbour = Segment { lane: 0, len: 3, starts: true, ends: true };
            let ours = Segment { lane: 1, len, starts: i == 0, ends: i + 1 == cuts.len() };
            let step = [&other[..], &x[from * CHANNELS..][..len * CHANNELS]].concat();
            out.extend_from_slice(&run(&conv, &step, &mut tail, &[neighbour, ours])[3 * CHANNELS..]);
            from += len;
        }
        prop_assert_eq!(out, expected);
    }

    #[test]
    fn reversed_pieces_from_the_right_equal_the_reversed_whole(cuts in prop::collection::vec(1usize..90, 1..6)) {
        let (conv, backwards) = (conv(4), conv(4).reversed());
        let rows: usize = cuts.iter().sum();
        let x = input(rows);
        let flip = |x: &[f32]| x.chunks(CHANNELS).rev().flatten().copied().collect::<Vec<_>>();
        let whole = Segment { lane: 0, len: rows, starts: true, ends: true };
        let expected = flip(&run(&conv, &flip(&x), &mut conv.start(1), &[whole]));
        prop_assert_eq!(&run(&backwards, &x, &mut conv.start(1), &[whole]), &expected);
        let (mut tail, mut to) = (conv.start(1), rows);
        for (i, &len) in cuts.iter().enumerate() {
            let piece = Segment { lane: 0, len, starts: i == 0, ends: i + 1 == cuts.len() };
            let range = (to - len) * CHANNELS..to * CHANNELS;
            let out = run(&backwards, &x[range.clone()], &mut tail, &[piece]);
            prop_assert_eq!(&out[..], &expected[range]);
            to -= len;
        }
    }
}
