use super::*;
use crate::checkpoint::{Config, create, preset};
use crate::encoder::{Encoder, Model, Segment};
use crate::ops::testing::{close, difference};
use std::fs;
use std::path::PathBuf;

/// A small random model, in `dir`.
fn original(dir: &Path) -> PathBuf {
    let mut config = preset("hyenadna-tiny-1k").unwrap();
    for (key, value) in [("d_model", 8), ("d_inner", 32), ("max_seq_len", 258)] {
        config.insert(key.into(), json!(value));
    }
    let out = dir.join("original");
    create(&Config::new("small", config), 3, &out, 1 << 30).unwrap();
    out
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn run(model: &Model, tokens: &[u32], lengths: &[usize]) -> Vec<f32> {
    let mut state = model.start(1).unwrap();
    let (mut out, mut from) = (Vec::new(), 0);
    for &len in lengths {
        let segment = Segment {
            lane: 0,
            len,
            starts: from == 0,
            ends: from + len == tokens.len(),
        };
        let piece = Tensor::new(&tokens[from..from + len], &Device::Cpu).unwrap();
        let hidden = model.forward(&piece, &[segment], &mut state).unwrap();
        out.extend(hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        from += len;
    }
    out
}

/// JSON as read again: its parser may round the last digit.
fn reread(value: Value) -> Value {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn tokens(check: &Check) -> Vec<u32> {
    check.sequences[0]
        .iter()
        .map(|code| 7 + u32::from(*code))
        .collect()
}

#[test]
fn a_distilled_model_is_small_close_and_the_original_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let from = original(dir.path());
    let before = files(&from);
    let source = Checkpoint::open(&from).unwrap();
    let out = dir.path().join("distilled");
    let (report, digest) = distil(&source, 16, None, &out).unwrap();
    assert_eq!(files(&from), before);

    let checkpoint = Checkpoint::open(&out).unwrap();
    assert_eq!(checkpoint.digest.get(), digest);
    let (exact, exact_facts) = Model::load(&source).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    assert_eq!(checkpoint.weights.unused(), ["lm_head.weight"]);
    assert!(facts.state_bytes < exact_facts.state_bytes / 2);
    assert_eq!(facts.kept_bytes, 0);
    assert!(
        facts
            .note
            .unwrap()
            .contains(&format!("{} exponentials", report.modes))
    );

    // Chunks change nothing, beyond the filter's length too.
    let check = Check::random(700);
    let tokens = tokens(&check);
    let whole = run(&model, &tokens, &[700]);
    for lengths in [vec![1; 700], vec![7; 100], vec![300, 400]] {
        close("pieces", &run(&model, &tokens, &lengths), &whole, 1e-5);
    }

    // The figures are those of the two models as they stand in their directories.
    let check = Check::random(256);
    assert_eq!(report.output.bases, 256);
    let tokens = self::tokens(&check);
    let (x, y) = (run(&exact, &tokens, &[256]), run(&model, &tokens, &[256]));
    let recomputed = difference(&y, &x);
    assert!(
        (recomputed - report.output.largest).abs() < 1e-6,
        "{recomputed} {report}"
    );
    assert!(recomputed < 0.05, "{recomputed}");
}

#[test]
fn more_modes_are_never_worse_and_the_tail_of_a_filter_is_bounded_by_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&original(dir.path())).unwrap();
    let sizes = hyena::Hyperparameters::read(&source.config).unwrap();
    let mut before: Vec<LayerErrors> = Vec::new();
    for modes in [2, 8, 24, 100] {
        let layers = filters(&source, &sizes, modes)
            .unwrap()
            .pop()
            .unwrap()
            .layers;
        for (now, before) in layers.iter().zip(&before) {
            assert!(now.max.l1 <= before.max.l1, "{modes}: {now:?}, {before:?}");
            assert!(
                now.median.l1 <= before.median.l1,
                "{modes}: {now:?}, {before:?}"
            );
        }
        assert!(
            layers.iter().all(|layer| layer.max.is_bounded()),
            "{layers:?}"
        );
        before = layers;
    }
    // Far beyond the filters' length the hidden vectors stay what they are.
    let check = || Check::random(1500);
    let error = |modes: usize| {
        let out = dir.path().join(format!("m{modes}"));
        distil(&source, modes, Some(check()), &out)
            .unwrap()
            .0
            .output
            .rms
    };
    let errors = [8, 32, 48, 64].map(error);
    assert!(errors.is_sorted_by(|a, b| a >= b), "{errors:?}");
}

#[test]
fn stored_figures_equal_those_of_the_stored_modes() {
    let dir = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&original(dir.path())).unwrap();
    let out = dir.path().join("distilled");
    let (report, _) = distil(&source, 4, None, &out).unwrap();
    let checkpoint = Checkpoint::open(&out).unwrap();
    let text = fs::read_to_string(out.join("distillation.json")).unwrap();
    let stored: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stored["original"]["sha256"], json!(source.digest.get()));
    assert_eq!(
        stored["output"]["largest_difference"],
        reread(json!(report.output.largest))
    );
    let sizes = hyena::Hyperparameters::read(&source.config).unwrap();
    for (i, (weights, filter)) in hyena::filters(&sizes, &checkpoint.weights)
        .unwrap()
        .iter()
        .enumerate()
    {
        let taps = filter.taps(0..sizes.width, sizes.length).unwrap();
        let pairs = |name: &str| -> Vec<Vec<[f32; 2]>> {
            let tensor = weights
                .at("modal")
                .tensor(name, &[sizes.width, report.modes, 2])
                .unwrap();
            let rows = tensor.stored().unwrap().to_vec3::<f32>().unwrap();
            rows.iter()
                .map(|row| row.iter().map(|x| [x[0], x[1]]).collect())
                .collect()
        };
        let (poles, residues) = (pairs("poles"), pairs("residues"));
        let errors: Vec<Errors> = taps
            .chunks(sizes.length)
            .zip(poles.into_iter().zip(residues))
            .map(|(h, (poles, residues))| Modes { poles, residues }.errors(h))
            .collect();
        let layer = LayerErrors::of(&errors);
        assert_eq!(layer, report.layers[i]);
        assert_eq!(stored["filters"][i], reread(layer.to_json()));
        let shown = format!("{:.2e}/{:.2e}", layer.max.l1, layer.median.l1);
        assert!(report.to_string().contains(&shown), "{report}");
        let h0 = weights.at("modal").tensor("h0", &[sizes.width]).unwrap();
        let first: Vec<f32> = taps.chunks(sizes.length).map(|h| h[0]).collect();
        assert_eq!(h0.to_vec1::<f32>().unwrap(), first);
    }
}

#[test]
fn what_cannot_be_distilled_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&original(dir.path())).unwrap();
    let out = dir.path().join("out");
    for modes in [0, 200] {
        assert_eq!(
            distil(&source, modes, None, &out).unwrap_err().kind(),
            Kind::Usage
        );
    }
    distil(&source, 1, Some(Check::random(20)), &out).unwrap();
    let again = Checkpoint::open(&out).unwrap();
    let refused = distil(&again, 1, None, &dir.path().join("twice")).unwrap_err();
    assert!(
        refused.to_string().contains("distilled before"),
        "{refused}"
    );
    assert_eq!(
        distil(&source, 1, None, &out).unwrap_err().kind(),
        Kind::Usage
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn poles_that_do_not_decay_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = Checkpoint::open(&original(dir.path())).unwrap();
    let sizes = hyena::Hyperparameters::read(&source.config).unwrap();
    let mut tensors = filters(&source, &sizes, 2).unwrap().pop().unwrap().tensors;
    for value in [1.0f32, f32::NAN] {
        for (name, tensor) in &mut tensors {
            if name.ends_with("poles") {
                *tensor =
                    candle_core::Tensor::full(value, tensor.shape(), tensor.device()).unwrap();
            }
        }
        let all = source.weights.stored().iter().chain(&tensors);
        let all = all
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect();
        let sizes = hyena::Hyperparameters {
            modes: Some(2),
            ..sizes.clone()
        };
        let error = hyena::Model::load(&sizes, &Weights::new("bad", all))
            .err()
            .unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
        let words = if value.is_nan() {
            "not a finite number"
        } else {
            "magnitude"
        };
        assert!(error.to_string().contains(words), "{error}");
    }
}
