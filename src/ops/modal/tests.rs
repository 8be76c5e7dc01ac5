use super::*;
use proptest::prelude::*;

const CHANNELS: usize = 21;
const MODES_USED: usize = 6;

fn tensor(shape: &[usize], f: impl Fn(usize) -> f32) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(f).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Poles of magnitude 0.5 to 0.999 at any angle.
fn poles(parts: usize) -> Tensor {
    tensor(&[CHANNELS, MODES_USED, 2][..1 + parts], |i| {
        let mode = i / parts;
        let (magnitude, angle) = (0.999 - (mode % 7) as f32 * 0.08, mode as f32);
        match (parts, i % 2) {
            (1, _) => magnitude,
            (_, 0) => magnitude * angle.cos(),
            _ => magnitude * angle.sin(),
        }
    })
}

fn filter(parts: usize) -> Modal {
    let residues = tensor(&[CHANNELS, MODES_USED, 2][..1 + parts], |i| {
        (i as f32 * 1.7).sin()
    });
    let skip = tensor(&[CHANNELS], |i| i as f32 * 0.1);
    match parts {
        2 => Modal::complex(&poles(2), &residues, Some(&skip)),
        _ => Modal::real(&poles(1), &residues, Some(&skip)),
    }
    .unwrap()
}

fn input(rows: usize) -> Tensor {
    tensor(&[rows, CHANNELS], |i| (i as f32 * 0.37).sin())
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn piece(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

#[test]
fn whole_sequences_equal_a_plain_f64_recurrence() {
    const ROWS: usize = 300;
    for parts in [1, 2] {
        let modal = filter(parts);
        let x = input(ROWS);
        let whole = piece(0, ROWS, true, true);
        let found = values(&modal.forward(&x, &mut modal.start(1), &[whole]).unwrap());
        let (x, poles) = (values(&x), values(&poles(parts)));
        for c in 0..CHANNELS {
            let mut states = [(0f64, 0f64); MODES_USED];
            for t in 0..ROWS {
                let g = f64::from(x[t * CHANNELS + c]);
                let mut y = f64::from(c as f32 * 0.1) * g;
                for (n, (a, b)) in states.iter_mut().enumerate() {
                    let at = (c * MODES_USED + n) * parts;
                    let value = |i: usize| f64::from((i as f32 * 1.7).sin());
                    let (p, r) = (f64::from(poles[at]), value(at));
                    let (q, i) = match parts {
                        2 => (f64::from(poles[at + 1]), value(at + 1)),
                        _ => (0.0, 0.0),
                    };
                    (*a, *b) = (p * *a - q * *b + g, p * *b + q * *a);
                    y += r * *a - i * *b;
                }
                let found = f64::from(found[t * CHANNELS + c]);
                assert!((found - y).abs() < 1e-4, "{parts} {c} {t}: {found} {y}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_split_among_any_neighbours_gives_the_same_bits(
        cuts in prop::collection::vec(1usize..200, 1..8),
        parts in 1usize..=2,
    ) {
        let modal = filter(parts);
        let rows = cuts.iter().sum();
        let x = input(rows);
        let expected = modal.forward(&x, &mut modal.start(1), &[piece(0, rows, true, true)]).unwrap();
        // Lane 1 held another sequence before.
        let mut state = modal.start(2);
        modal.forward(&input(9), &mut state, &[piece(1, 9, true, false)]).unwrap();
        let (mut found, mut from) = (Vec::new(), 0);
        for (i, &len) in cuts.iter().enumerate() {
            let ours = piece(1, len, i == 0, i + 1 == cuts.len());
            let step = Tensor::cat(&[&input(3), &x.narrow(0, from, len).unwrap()], 0).unwrap();
            let out = modal.forward(&step, &mut state, &[piece(0, 3, true, true), ours]).unwrap();
            found.extend_from_slice(&values(&out)[3 * CHANNELS..]);
            from += len;
        }
        prop_assert_eq!(found, values(&expected));
    }
}
