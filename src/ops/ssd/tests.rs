use super::*;
use crate::ops::Device;
use crate::ops::testing::close;
use proptest::prelude::*;

fn tensor(shape: &[usize], f: impl Fn(usize) -> f32) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(f).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn sizes(groups: usize) -> SsdSizes {
    SsdSizes {
        heads: 4,
        channels: 5,
        groups,
        states: 7,
    }
}

fn scan(groups: usize) -> Ssd {
    Ssd::new(
        sizes(groups),
        // A from −0.01, almost no decay, to −16.
        &tensor(&[4], |i| [-4.6, -1.0, 1.0, 2.8][i]),
        &tensor(&[4], |i| [-4.0, -6.0, 0.5, -2.0][i]),
        &tensor(&[4], |i| i as f32 * 0.3),
        (0.002, 1.5),
    )
    .unwrap()
}

fn inputs(rows: usize, groups: usize, seed: usize) -> (Tensor, Tensor) {
    let wave = |i: usize| ((i * 31 + seed * 977) as f32 * 0.37).sin();
    (
        tensor(&[rows, sizes(groups).columns()], wave),
        tensor(&[rows, 4], |i| 3.0 * wave(i * 7)),
    )
}

fn piece(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

fn whole(scan: &Ssd, (xbc, steps): &(Tensor, Tensor)) -> Vec<f32> {
    let segment = piece(0, xbc.dim(0).unwrap(), true, true);
    let mut state = scan.start(1);
    values(&scan.forward(xbc, steps, &mut state, &[segment]).unwrap())
}

/// `S_t = exp(d A) S_{t−1} + d x_t B_tᵀ`, `y_t = S_t C_t + D x_t` in f64, row by row.
fn plain(scan: &Ssd, (xbc, steps): &(Tensor, Tensor)) -> Vec<f64> {
    let SsdSizes {
        heads,
        channels,
        groups,
        states,
    } = scan.sizes;
    let (xbc, steps) = (values(xbc), values(steps));
    let mut s = vec![0f64; heads * channels * states];
    let mut out = Vec::new();
    for (row, raw) in xbc.chunks(scan.sizes.columns()).zip(steps.chunks(heads)) {
        for i in 0..heads * channels {
            let head = i / channels;
            let raw = f64::from(raw[head]) + f64::from(scan.bias[head]);
            let softplus = raw.max(0.0) + (-raw.abs()).exp().ln_1p();
            let (least, most) = scan.limit;
            let d = softplus.clamp(f64::from(least), f64::from(most));
            let decay = (d * scan.rate[head] / std::f64::consts::LOG2_E).exp();
            let b = heads * channels + head * groups / heads * states;
            let c = b + groups * states;
            let x = f64::from(row[i]);
            let mut y = f64::from(scan.skip[head]) * x;
            for n in 0..states {
                let s = &mut s[i * states + n];
                *s = decay * *s + d * x * f64::from(row[b + n]);
                y += *s * f64::from(row[c + n]);
            }
            out.push(y);
        }
    }
    out
}

#[test]
fn whole_sequences_equal_a_plain_f64_recurrence() {
    for groups in [1, 2, 4] {
        let scan = scan(groups);
        // The last is longer than a band.
        for rows in [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, BAND * CHUNK + 77] {
            let inputs = inputs(rows, groups, rows);
            close(
                "whole",
                &whole(&scan, &inputs),
                &plain(&scan, &inputs),
                1e-5,
            );
        }
    }
}

#[test]
fn one_huge_step_does_not_blur_the_steps_after_it() {
    let scan = Ssd {
        limit: (0.0, f32::INFINITY),
        ..scan(1)
    };
    let (xbc, steps) = inputs(60, 1, 3);
    let (mut xbc, mut steps) = (values(&xbc), values(&steps));
    let width = scan.sizes.columns();
    // It reads nothing, but its decay is in every sum of the chunk.
    xbc[..width].fill(0.0);
    steps[..4].fill(1e4);
    let inputs = (
        Tensor::from_vec(xbc, (60, width), &Device::Cpu).unwrap(),
        Tensor::from_vec(steps, (60, 4), &Device::Cpu).unwrap(),
    );
    close(
        "whole",
        &whole(&scan, &inputs),
        &plain(&scan, &inputs),
        1e-5,
    );
}

/// Pieces come from the right end on.
#[test]
fn reversed_scans_equal_a_plain_recurrence_over_the_mirrored_rows() {
    let (scan, rows) = (scan(2), 200);
    let ours = inputs(rows, 2, 1);
    let mirror = |x: &Tensor| x.flip(0).unwrap();
    let expected = plain(&scan, &(mirror(&ours.0), mirror(&ours.1)));
    let scan = scan.reversed();
    let mut state = scan.start(1);
    let (mut found, mut to) = (Vec::new(), rows);
    for (i, len) in [70, 1, 129].into_iter().enumerate() {
        let part = |x: &Tensor| x.narrow(0, to - len, len).unwrap();
        let (xbc, steps) = (part(&ours.0), part(&ours.1));
        let segment = piece(0, len, i == 0, i == 2);
        let out = scan.forward(&xbc, &steps, &mut state, &[segment]);
        found.extend(values(&mirror(&out.unwrap())));
        to -= len;
    }
    close("reversed", &found, &expected, 1e-5);
}

proptest! {
    #[test]
    fn any_split_among_any_neighbours_changes_rounding_only(
        cuts in prop::collection::vec(1usize..150, 1..8),
        groups in 1usize..=2,
    ) {
        let scan = scan(groups);
        let rows = cuts.iter().sum();
        let ours = inputs(rows, groups, 1);
        let read = inputs(70, groups, 2);
        let expected = plain(&scan, &ours);
        let read_alone = plain(&scan, &read);
        let width = scan.sizes.inner();
        // Lane 1 held another sequence before.
        let mut state = scan.start(2);
        scan.forward(&read.0, &read.1, &mut state, &[piece(1, 70, true, false)]).unwrap();
        let (mut found, mut from) = (Vec::new(), 0);
        for (i, &len) in cuts.iter().enumerate() {
            let segment = piece(1, len, i == 0, i + 1 == cuts.len());
            let step = |read: &Tensor, ours: &Tensor| {
                Tensor::cat(&[read, &ours.narrow(0, from, len).unwrap()], 0).unwrap()
            };
            let (xbc, steps) = (step(&read.0, &ours.0), step(&read.1, &ours.1));
            let segments = [piece(1, 70, true, true), segment];
            let out = values(&scan.forward(&xbc, &steps, &mut state, &segments).unwrap());
            close("alone", &out[..70 * width], &read_alone, 1e-5);
            found.extend_from_slice(&out[70 * width..]);
            from += len;
        }
        close("pieces", &found, &expected, 1e-5);
    }
}
