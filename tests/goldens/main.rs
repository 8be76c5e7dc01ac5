//! Outputs equal those of the published implementations.

use candle_core::{DType, Device, Tensor};
use crocuta::checkpoint::Checkpoint;
use crocuta::encoder::{Encoder, Model, Segment};
use crocuta::head::LanguageModel;
use std::collections::HashMap;
use std::path::PathBuf;

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "goldens", name]
        .iter()
        .collect()
}

fn expected(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder(name).join("expected.safetensors"), &Device::Cpu).unwrap()
}

/// The largest difference, as a part of the largest expected magnitude.
fn difference(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.dims(), expected.dims());
    let largest = |x: &Tensor| {
        let x = x
            .to_dtype(DType::F64)
            .unwrap()
            .abs()
            .unwrap()
            .flatten_all()
            .unwrap();
        x.max(0).unwrap().to_scalar::<f64>().unwrap()
    };
    largest(&(found - expected).unwrap()) / largest(expected)
}

fn equals_published(name: &str) {
    let checkpoint = Checkpoint::open(&folder(name)).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let head = LanguageModel::load(&checkpoint, &model, &facts).unwrap();
    assert_eq!(checkpoint.weights.unused(), Vec::<String>::new());
    let expected = expected(name);
    let ids = expected["input_ids"].to_dtype(DType::U32).unwrap(); // (2, L)
    let (rows, len) = ids.dims2().unwrap();
    // Both sequences share one step.
    let segments: Vec<_> = (0..rows)
        .map(|lane| Segment {
            lane,
            len,
            starts: true,
            ends: true,
        })
        .collect();
    let mut state = model.start(rows).unwrap();
    let hidden = model
        .forward(&ids.flatten_all().unwrap(), &segments, &mut state)
        .unwrap();
    let logits = head.forward(&hidden).unwrap();
    let reshaped = |x: &Tensor| x.reshape((rows, len, ())).unwrap();
    if let Some(published) = expected.get("last_hidden_state") {
        assert!(difference(&reshaped(&hidden), published) < 1e-5);
    }
    assert!(difference(&reshaped(&logits), &expected["logits"]) < 1e-5);
}

#[test]
fn hyenadna_equals_the_published_model() {
    equals_published("hyenadna");
}

#[test]
fn mamba_equals_the_published_model() {
    equals_published("mamba1");
}

#[test]
fn hyenadna_s_filter_equals_the_published_filter() {
    use crocuta::encoder::hyena::{Filter, Hyperparameters};
    let checkpoint = Checkpoint::open(&folder("hyenadna")).unwrap();
    let sizes = Hyperparameters::read(&checkpoint.config).unwrap();
    let layer = checkpoint
        .weights
        .at("hyena.backbone.layers")
        .at(0)
        .at("mixer")
        .at("filter_fn");
    let taps = Filter::load(&sizes, &layer)
        .unwrap()
        .taps(0..sizes.width, sizes.length)
        .unwrap();
    let taps = Tensor::from_vec(taps, (sizes.width, sizes.length), &Device::Cpu).unwrap();
    assert!(difference(&taps.t().unwrap(), &expected("hyenadna")["layer0_filter"]) < 1e-5);
}
