use super::*;
use crate::ops::check::{check, random, wide};

fn segment(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

/// x, B and C; time steps; a_log, bias and D.
fn inputs(sizes: SsdSizes, rows: usize, seed: u64) -> [Tensor; 5] {
    let heads = sizes.heads;
    [
        random(&[rows, sizes.columns()], seed),
        random(&[rows, heads], seed + 1),
        random(&[heads], seed + 2),
        random(&[heads], seed + 3),
        random(&[heads], seed + 4),
    ]
}

fn scan(sizes: SsdSizes, x: &[Tensor], limit: (f64, f64)) -> Ssd {
    Ssd::new(sizes, &x[2], &x[3], &x[4], limit).unwrap()
}

/// One segment by the definition, from the states s (I, N) on, which it leaves behind.
fn plain(
    sizes: SsdSizes,
    x: &[Vec<f64>],
    rows: Range<usize>,
    limit: (f64, f64),
    s: &mut [f64],
) -> Vec<f64> {
    let SsdSizes {
        heads,
        channels,
        groups,
        states,
    } = sizes;
    let mut out = Vec::new();
    for t in rows {
        let row = &x[0][t * sizes.columns()..][..sizes.columns()];
        for i in 0..sizes.inner() {
            let head = i / channels;
            let step = (x[1][t * heads + head] + x[3][head]).exp().ln_1p();
            let step = step.clamp(limit.0, limit.1);
            let kept = (-step * x[2][head].exp()).exp();
            let b = sizes.inner() + head * groups / heads * states;
            let c = b + groups * states;
            let mut y = x[4][head] * row[i];
            for n in 0..states {
                let s = &mut s[i * states + n];
                *s = kept * *s + step * row[i] * row[b + n];
                y += *s * row[c + n];
            }
            out.push(y);
        }
    }
    out
}

#[test]
fn gradients_equal_differences_of_a_plain_f64_loop() {
    let sizes = |heads, channels, groups, states| SsdSizes {
        heads,
        channels,
        groups,
        states,
    };
    let open = (0.0, f64::INFINITY);
    for (sizes, lens, limit) in [
        (sizes(2, 2, 1, 3), [3, 2 * CHUNK + 5, 4], open),
        (sizes(4, 1, 2, 2), [2, CHUNK + 1, 3], (0.4, 1.3)),
        (sizes(12, 2, 2, 2), [1, 4, 2], open),
        (sizes(1, 16, 1, 20), [1, CHUNK + 6, 2], open),
    ] {
        // Lane 0 was left by a segment of 5 rows; then three segments share a step.
        let segments = [
            segment(1, lens[0], true, true),
            segment(0, lens[1], false, false),
            segment(1, lens[2], true, false),
        ];
        let carried = inputs(sizes, 5, 20);
        let inputs = inputs(sizes, lens.iter().sum(), 1);
        let frozen: Vec<_> = inputs.iter().map(Tensor::detach).collect();
        let op = |x: &[Tensor]| {
            let constant = scan(sizes, &frozen, limit);
            let mut state = constant.start(2);
            let first = [segment(0, 5, true, false)];
            constant.forward(&carried[0], &carried[1], &mut state, &first)?;
            scan(sizes, x, limit).forward(&x[0], &x[1], &mut state, &segments)
        };
        let mut before = vec![0.0; sizes.inner() * sizes.states];
        let mut values: Vec<_> = inputs.iter().map(wide).collect();
        values[..2].clone_from_slice(&[wide(&carried[0]), wide(&carried[1])]);
        plain(sizes, &values, 0..5, limit, &mut before);
        check(&inputs, 5e-5, op, |x| {
            let mut from = 0;
            let runs = lens.map(|len| {
                let mut s = vec![0.0; before.len()];
                if len == lens[1] {
                    s.copy_from_slice(&before);
                }
                from += len;
                plain(sizes, x, from - len..from, limit, &mut s)
            });
            runs.concat()
        });
    }
}

#[test]
fn gradients_of_a_reversed_scan_equal_differences_of_a_plain_f64_loop() {
    let sizes = SsdSizes {
        heads: 2,
        channels: 2,
        groups: 1,
        states: 3,
    };
    let lens = [3, CHUNK + 2];
    let segments = lens.map(|len| segment(0, len, true, true));
    let open = (0.0, f64::INFINITY);
    let op = |x: &[Tensor]| {
        let scan = scan(sizes, x, open).reversed();
        scan.forward(&x[0], &x[1], &mut scan.start(1), &segments)
    };
    let rows = crate::sequence::mirrored(&segments);
    let turned = |x: &[f64]| -> Vec<f64> {
        let width = x.len() / rows.len();
        let row = |&row: &u32| x[row as usize * width..][..width].to_vec();
        rows.iter().flat_map(row).collect()
    };
    check(&inputs(sizes, rows.len(), 1), 5e-5, op, |x| {
        let mut x = x.to_vec();
        for rows in &mut x[..2] {
            *rows = turned(rows);
        }
        let mut from = 0;
        let out = lens.map(|len| {
            from += len;
            let mut s = vec![0.0; sizes.inner() * sizes.states];
            plain(sizes, &x, from - len..from, open, &mut s)
        });
        turned(&out.concat())
    });
}

/// Several bands: from differences along one random direction of each input.
#[test]
fn bands_leave_nothing_out() {
    let sizes = SsdSizes {
        heads: 3,
        channels: 2,
        groups: 1,
        states: 3,
    };
    let rows = 2 * BAND * CHUNK + 100;
    let inputs = inputs(sizes, rows, 1);
    let open = (0.0, f64::INFINITY);
    let parameters = inputs.each_ref().map(Tensor::parameter);
    let scan = scan(sizes, &parameters, open);
    let whole = [
        segment(0, 70, true, true),
        segment(0, rows - 70, true, true),
    ];
    let mut state = scan.start(1);
    let out = scan
        .forward(&parameters[0], &parameters[1], &mut state, &whole)
        .unwrap();
    let seed = random(out.dims(), 30);
    let gradients = out.backward(seed.clone()).unwrap();
    for (i, input) in inputs.iter().enumerate() {
        let along = wide(&random(input.dims(), 40));
        let loss = |step: f64| -> f64 {
            let mut x: Vec<_> = inputs.iter().map(wide).collect();
            x[i].iter_mut()
                .zip(&along)
                .for_each(|(x, a)| *x += step * a);
            let parts = [0..70, 70..rows].map(|rows| {
                plain(
                    sizes,
                    &x,
                    rows,
                    open,
                    &mut vec![0.0; sizes.inner() * sizes.states],
                )
            });
            let y = parts.concat();
            y.iter().zip(wide(&seed)).map(|(y, seed)| y * seed).sum()
        };
        let expected = (loss(1e-6) - loss(-1e-6)) / 2e-6;
        let found = wide(gradients.of(&parameters[i]).unwrap());
        let length = found.iter().map(|x| x * x).sum::<f64>().sqrt();
        let found: f64 = found.iter().zip(&along).map(|(g, a)| g * a).sum();
        assert!(
            (found - expected).abs() < 1e-4 * length,
            "{i}: {found} {expected}"
        );
    }
}
