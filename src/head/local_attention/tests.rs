use super::*;
use crate::ops::testing::close;
use proptest::prelude::*;

pub(super) const D: usize = 12;
const CLASSES: usize = 3;

pub(super) fn sizes(window: usize, causal: bool) -> LocalSizes {
    LocalSizes {
        width: D,
        heads: 3,
        window,
        classes: CLASSES,
        causal,
    }
}

/// Every tensor that `create` makes, filled with numbers that matter.
pub(super) fn weights(sizes: LocalSizes) -> BTreeMap<String, candle_core::Tensor> {
    let created = LocalAttention::create(sizes, 1).unwrap();
    let filled = created.into_iter().enumerate().map(|(n, (name, tensor))| {
        let values: Vec<f32> = (0..tensor.elem_count())
            .map(|i| ((i * 13 + n * 7) as f32 * 0.9).sin() * 0.8)
            .collect();
        let filled = candle_core::Tensor::from_vec(values, tensor.shape(), tensor.device());
        (name, filled.unwrap())
    });
    filled.collect()
}

fn head(sizes: LocalSizes) -> LocalAttention {
    LocalAttention::load(sizes, &Weights::new("head", weights(sizes))).unwrap()
}

fn input(rows: usize, seed: usize) -> Vec<f32> {
    (0..rows * D)
        .map(|i| ((i * i % 1013 + seed) as f32 * 0.7).sin() * 2.0)
        .collect()
}

fn run(
    head: &LocalAttention,
    x: &[f32],
    segments: &[Segment],
    state: &mut LocalState,
) -> LocalRows {
    let x = Tensor::from_slice(x, (x.len() / D, D), &Device::Cpu).unwrap();
    head.forward(&x, segments, state).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn piece(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

fn whole(head: &LocalAttention, x: &[f32]) -> Vec<f32> {
    let rows = x.len() / D;
    let found = run(head, x, &[piece(0, rows, true, true)], &mut head.start(0));
    assert_eq!(
        found.pieces,
        [LocalPiece {
            offset: 0,
            len: rows
        }]
    );
    values(&found.logits)
}

/// The head by its formula, on one sequence.
pub(super) fn plain(
    sizes: LocalSizes,
    weights: &BTreeMap<String, Vec<f64>>,
    x: &[f64],
) -> Vec<f64> {
    let get = |name: &str| weights[name].clone();
    let linear = |x: &[f64], name: &str| -> Vec<f64> {
        let (weight, bias) = (get(&format!("{name}.weight")), get(&format!("{name}.bias")));
        let rows = weight.chunks(D).zip(bias);
        rows.map(|(w, b)| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b)
            .collect()
    };
    let (scale, shift) = (get("norm.weight"), get("norm.bias"));
    let norm = |x: &[f64]| -> Vec<f64> {
        let mean = x.iter().sum::<f64>() / D as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / D as f64;
        let deviation = (variance + EPS).sqrt();
        (0..D)
            .map(|i| (x[i] - mean) / deviation * scale[i] + shift[i])
            .collect()
    };
    let x: Vec<&[f64]> = x.chunks(D).collect();
    let project =
        |name: &str| -> Vec<Vec<f64>> { x.iter().map(|row| linear(&norm(row), name)).collect() };
    let (q, k, v) = (project("q"), project("k"), project("v"));
    let position = get("position.weight");
    let width = D / sizes.heads;
    let mut out = Vec::new();
    for i in 0..x.len() {
        let last = if sizes.causal { i } else { i + sizes.window };
        let seen = i.saturating_sub(sizes.window)..=last.min(x.len() - 1);
        let mut attended = vec![0.0; D];
        for head in 0..sizes.heads {
            let columns = head * width..(head + 1) * width;
            let weight = |j: usize| {
                let dot: f64 = columns.clone().map(|c| q[i][c] * k[j][c]).sum();
                let bias = position[head * sizes.distances() + j + sizes.window - i];
                (dot / (width as f64).sqrt() + bias).exp()
            };
            let sum: f64 = seen.clone().map(weight).sum();
            for c in columns.clone() {
                attended[c] = seen.clone().map(|j| weight(j) * v[j][c]).sum::<f64>() / sum;
            }
        }
        let y = linear(&attended, "out");
        let y: Vec<f64> = y.iter().zip(x[i]).map(|(y, x)| y + x).collect();
        out.extend(linear(&y, "classes"));
    }
    out
}

#[test]
fn logits_equal_a_plain_f64_loop() {
    for (rows, window) in [(1, 2), (5, 9), (150, 0), (150, 4), (150, 70)] {
        for causal in [false, true] {
            let sizes = sizes(window, causal);
            let x = input(rows, 1);
            let wide = |x: Vec<f32>| -> Vec<f64> { x.into_iter().map(f64::from).collect() };
            let weights = weights(sizes).into_iter();
            let weights = weights
                .map(|(name, x)| (name, wide(values(&x.into()))))
                .collect();
            let expected = plain(sizes, &weights, &wide(x.clone()));
            let expected: Vec<f32> = expected.iter().map(|&x| x as f32).collect();
            close("logits", &whole(&head(sizes), &x), &expected, 1e-5);
        }
    }
}

#[test]
fn output_lags_by_the_window_and_the_end_flushes_it() {
    let head = head(sizes(4, false));
    let mut state = head.start(1);
    let mut step = |from: usize, to: usize| {
        let segment = piece(0, to - from, from == 0, to == 9);
        let rows = run(
            &head,
            &input(9, 1)[from * D..to * D],
            &[segment],
            &mut state,
        );
        assert_eq!(rows.logits.dims(), [rows.pieces[0].len, CLASSES]);
        (rows.pieces[0].offset, rows.pieces[0].len)
    };
    assert_eq!(
        [step(0, 3), step(3, 6), step(6, 9)],
        [(0, 0), (0, 2), (2, 7)]
    );
}

#[test]
fn untrained_logits_are_a_linear_function_of_the_row_alone() {
    let sizes = sizes(4, false);
    let created = LocalAttention::create(sizes, 7).unwrap();
    let again = LocalAttention::create(sizes, 7).unwrap();
    let classes = values(&created["classes.weight"].clone().into());
    assert_eq!(classes, values(&again["classes.weight"].clone().into()));
    let head = LocalAttention::load(sizes, &Weights::new("new", created)).unwrap();
    let x = input(20, 1);
    let found = whole(&head, &x);
    for (row, logits) in x.chunks(D).zip(found.chunks(CLASSES)) {
        for (weight, logit) in classes.chunks(D).zip(logits) {
            let expected: f32 = weight.iter().zip(row).map(|(w, x)| w * x).sum();
            assert!((expected - logit).abs() < 1e-5);
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let read = |text: &str| LocalSizes::read(&Config::parse("head.json", text).unwrap());
    let good = read(r#"{"width": 12, "heads": 3, "window": 8, "classes": 2}"#).unwrap();
    assert!(!good.causal && good.lag() == 8);
    let error = read(r#"{"width": 12, "heads": 5, "classes": 2}"#).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
    assert!(error.to_string().contains("does not divide"), "{error}");
    assert!(read(r#"{"width": 12, "heads": 0, "classes": 2}"#).is_err());
    assert!(read(r#"{"width": 12}"#).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn pieces_neighbours_and_forks_change_nothing(
        cuts in prop::collection::vec(1usize..40, 1..8),
        fork in 0usize..8,
        window in 0usize..20,
        causal: bool,
    ) {
        let head = head(sizes(window, causal));
        let rows = cuts.iter().sum();
        let x = input(rows, 1);
        let expected = whole(&head, &x);
        // Lane 1 held another sequence before.
        let mut state = head.start(2);
        run(&head, &input(30, 2), &[piece(1, 30, true, false)], &mut state);
        let (mut found, mut from) = (Vec::new(), 0);
        for (i, &len) in cuts.iter().enumerate() {
            if i == fork {
                // A fork that runs on elsewhere.
                let mut fork = state.clone();
                run(&head, &input(25, 3), &[piece(1, 25, false, false)], &mut fork);
            }
            let other = input(3, 5);
            let step = [&other, &x[from * D..(from + len) * D]].concat();
            let segments = [
                piece(0, 3, true, true),
                piece(1, len, i == 0, i + 1 == cuts.len()),
            ];
            let out = run(&head, &step, &segments, &mut state);
            prop_assert_eq!(out.pieces[1].offset * CLASSES, found.len());
            found.extend_from_slice(&values(&out.logits)[3 * CLASSES..]);
            from += len;
        }
        close("logits", &found, &expected, 1e-5);
    }
}
