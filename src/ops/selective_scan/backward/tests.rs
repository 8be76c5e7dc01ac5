use crate::ops::check::{check, close, random, wide};
use crate::ops::{SelectiveScan, Tensor};
use crate::sequence::Segment;

fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

/// Inputs u, projections, added, gate; parameters a_log, D, step weight and bias.
fn inputs(rows: usize, channels: usize, states: usize, rank: usize) -> Vec<Tensor> {
    let shapes: [&[usize]; 8] = [
        &[rows, channels],
        &[rows, rank + 2 * states],
        &[rows, channels],
        &[rows, channels],
        &[channels, states],
        &[channels],
        &[channels, rank],
        &[channels],
    ];
    (0..8).map(|i| random(shapes[i], i as u64 + 1)).collect()
}

fn scan(x: &[Tensor], reversed: bool) -> SelectiveScan {
    let scan = SelectiveScan::new(&x[4], &x[5], &x[6], &x[7]).unwrap();
    if reversed { scan.reversed() } else { scan }
}

/// One segment by the definition: rows `from..from + len`, from the states h (I, N) on, which it
/// leaves behind.
fn plain(x: &[Vec<f64>], h: &mut [f64], from: usize, len: usize, reversed: bool) -> Vec<f64> {
    let channels = x[7].len();
    let (states, rank) = (h.len() / channels, x[6].len() / channels);
    let mut out = vec![0.0; len * channels];
    for k in 0..len {
        let row = if reversed { len - 1 - k } else { k };
        let t = from + row;
        let projected = &x[1][t * (rank + 2 * states)..][..rank + 2 * states];
        let (low, bc) = projected.split_at(rank);
        let (b, c) = bc.split_at(states);
        for i in 0..channels {
            let low: f64 = (0..rank).map(|r| x[6][i * rank + r] * low[r]).sum();
            let step = (low + x[7][i]).exp().ln_1p();
            let u = x[0][t * channels + i];
            let mut y = x[2][t * channels + i] + x[5][i] * u;
            for n in 0..states {
                let h = &mut h[i * states + n];
                *h = (-step * x[4][i * states + n].exp()).exp() * *h + step * u * b[n];
                y += *h * c[n];
            }
            let gate = x[3][t * channels + i];
            out[row * channels + i] = y * gate / (1.0 + (-gate).exp());
        }
    }
    out
}

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    let cases = [
        (3, 4, 2, false),
        (3, 4, 2, true),
        (2, 3, 1, false),
        (35, 5, 2, true),
    ];
    for (channels, states, rank, reversed) in cases {
        // Lane 0 was left by a segment of 10 rows; then three segments share a step.
        let lens = if channels > 30 { [2, 3, 2] } else { [2, 70, 6] };
        let segments = [
            segment(1, lens[0], true, true),
            segment(0, lens[1], false, false),
            segment(1, lens[2], true, false),
        ];
        let carried = inputs(10, channels, states, rank);
        let rows = lens.iter().sum();
        let inputs = inputs(rows, channels, states, rank);
        // States left by the sequence's beginning are a constant: its parameters are not
        // differentiated there.
        let frozen: Vec<_> = inputs.iter().map(Tensor::detach).collect();
        let before = {
            let mut x: Vec<_> = carried[..4].iter().map(wide).collect();
            x.extend(inputs[4..].iter().map(wide));
            let mut h = vec![0.0; channels * states];
            plain(&x, &mut h, 0, 10, reversed);
            h
        };
        let op = |x: &[Tensor]| {
            let mut hidden = scan(&frozen, reversed).start(2);
            let [u, projected] = [&carried[0], &carried[1]];
            let first = [segment(0, 10, true, false)];
            let (added, gate) = (Some(&carried[2]), Some(&carried[3]));
            scan(&frozen, reversed).forward(u, projected, added, gate, &mut hidden, &first)?;
            let (added, gate) = (Some(&x[2]), Some(&x[3]));
            scan(x, reversed).forward(&x[0], &x[1], added, gate, &mut hidden, &segments)
        };
        check(&inputs, 5e-5, op, |x| {
            let mut from = 0;
            let parts = lens.map(|len| {
                let mut h = vec![0.0; channels * states];
                if len == lens[1] {
                    h.copy_from_slice(&before);
                }
                from += len;
                plain(x, &mut h, from - len, len, reversed)
            });
            parts.concat()
        });
    }
}

#[test]
fn without_gate_and_added_the_others_gradients_remain() {
    let (rows, channels, states) = (80, 3, 4);
    let all = inputs(rows, channels, states, 2);
    let inputs = [0, 1, 4, 5, 6, 7].map(|i| all[i].clone());
    let op = |x: &[Tensor]| {
        let scan = SelectiveScan::new(&x[2], &x[3], &x[4], &x[5])?;
        let whole = [segment(0, rows, true, true)];
        scan.forward(&x[0], &x[1], None, None, &mut scan.start(1), &whole)
    };
    check(&inputs, 5e-5, op, |x| {
        let zeros = vec![0.0; rows * channels];
        let ones = vec![40.0; rows * channels]; // silu(40) = 40
        let all = [
            x[0].clone(),
            x[1].clone(),
            zeros,
            ones,
            x[2].clone(),
            x[3].clone(),
            x[4].clone(),
            x[5].clone(),
        ];
        let y = plain(&all, &mut vec![0.0; channels * states], 0, rows, false);
        y.into_iter().map(|y| y / 40.0).collect()
    });
}

#[test]
fn many_channels_equal_each_channel_alone() {
    let (rows, channels, states, rank) = (200, 150, 6, 3);
    let inputs = inputs(rows, channels, states, rank);
    let seed = random(&[rows, channels], 20);
    let whole = [segment(0, rows, true, true)];
    let run = |x: &[Tensor], seed: &Tensor| {
        let x: Vec<_> = x.iter().map(Tensor::parameter).collect();
        let scan = scan(&x, false);
        let mut hidden = scan.start(1);
        let out = scan.forward(&x[0], &x[1], Some(&x[2]), Some(&x[3]), &mut hidden, &whole);
        let gradients = out.unwrap().backward(seed.clone()).unwrap();
        x.iter()
            .map(|x| wide(gradients.of(x).unwrap()))
            .collect::<Vec<_>>()
    };
    let found = run(&inputs, &seed);
    let mut projected = vec![0.0; rows * (rank + 2 * states)];
    for c in 0..channels {
        let alone: Vec<_> = (0..8)
            .map(|i| match i {
                1 => inputs[1].clone(),
                0 | 2 | 3 => inputs[i].narrow(1, c, 1).unwrap(),
                _ => inputs[i].narrow(0, c, 1).unwrap(),
            })
            .collect();
        let expected = run(&alone, &seed.narrow(1, c, 1).unwrap());
        projected
            .iter_mut()
            .zip(&expected[1])
            .for_each(|(sum, x)| *sum += x);
        for i in [0, 2, 3] {
            let column: Vec<_> = found[i].iter().skip(c).step_by(channels).copied().collect();
            close("rows", &column, &expected[i], 1e-5);
        }
        for i in 4..8 {
            let width = expected[i].len();
            close(
                "parameters",
                &found[i][c * width..][..width],
                &expected[i],
                1e-5,
            );
        }
    }
    close("projections", &found[1], &projected, 1e-5);
}
