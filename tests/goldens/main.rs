//! Outputs equal those of the published implementations. `mamba1-untied` (float16, biases) and
//! `mamba2-groups` (bfloat16, three groups, four shards) were saved by transformers 5.23, whose
//! `config.json` has keys of its own.

#![allow(clippy::unwrap_used)] // helpers outside the test functions

#[path = "../../src/ops/testing/compare.rs"]
mod compare;
mod layers;
mod plain;
mod published;

use candle_core::{DType, Device, Tensor};
use crocuta::checkpoint::Checkpoint;
use crocuta::encoder::{Encoder, Model, Segment};
use crocuta::head::LanguageModel;
use std::collections::{BTreeMap, HashMap};
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
    let values = |x: &Tensor| -> Vec<f64> {
        let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        x.to_vec1().unwrap()
    };
    compare::difference(&values(found), &values(expected))
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
        .forward(&ids.flatten_all().unwrap().into(), &segments, &mut state)
        .unwrap();
    let logits = head.forward(&hidden).unwrap();
    let reshaped = |x: &Tensor| x.reshape((rows, len, ())).unwrap();
    if let Some(published) = expected.get("last_hidden_state") {
        assert!(difference(&reshaped(&hidden.stored().unwrap()), published) < 1e-5);
    }
    assert!(difference(&reshaped(&logits.stored().unwrap()), &expected["logits"]) < 1e-5);
}

/// The loss of predicting each token from those before it, and its gradient to every parameter,
/// equal PyTorch's (gradients.py).
fn gradients_equal_pytorch_s(name: &str) {
    let path = folder(name).join("gradients.safetensors");
    let mut expected = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let loss = expected.remove("loss").unwrap().to_vec1::<f32>().unwrap()[0];
    let mut checkpoint = Checkpoint::open(&folder(name)).unwrap();
    let weights = checkpoint.weights;
    let parameters = expected.keys().map(|name| {
        let shape = weights.shape(name).unwrap();
        (
            name.clone(),
            weights.tensor(name, shape).unwrap().parameter(),
        )
    });
    let parameters: BTreeMap<_, _> = parameters.collect();
    checkpoint.weights = weights.replacing(parameters.clone());
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let head = LanguageModel::load(&checkpoint, &model, &facts).unwrap();
    let ids = self::expected(name)["input_ids"]
        .to_dtype(DType::U32)
        .unwrap(); // (2, L)
    let (rows, len) = ids.dims2().unwrap();
    let whole = |lane| Segment {
        lane,
        len,
        starts: true,
        ends: true,
    };
    let segments: Vec<_> = (0..rows).map(whole).collect();
    let ids = ids.flatten_all().unwrap();
    let mut state = model.start(rows).unwrap();
    let hidden = model
        .forward(&ids.clone().into(), &segments, &mut state)
        .unwrap();
    let logits = head.forward(&hidden).unwrap();
    // The last token of a sequence has nothing after it.
    let mut targets = ids.to_vec1::<u32>().unwrap();
    targets.rotate_left(1);
    let counted = |i| {
        if (i + 1) % len == 0 {
            0.0
        } else {
            1.0 / (rows * (len - 1)) as f32
        }
    };
    let counted: Vec<f32> = (0..targets.len()).map(counted).collect();
    let (found, seed) = crocuta::ops::cross_entropy(&logits, &targets, &counted).unwrap();
    assert!((found - f64::from(loss)).abs() < 1e-5 * f64::from(loss));
    let gradients = logits.backward(seed).unwrap();
    for (name, expected) in &expected {
        let found = gradients
            .of(&parameters[name])
            .unwrap_or_else(|| panic!("{name}"));
        let difference = difference(&found.stored().unwrap(), expected);
        assert!(difference < 2e-5, "{name}: {difference:e}");
    }
}

#[test]
fn hyenadna_s_gradients_equal_pytorch_s() {
    gradients_equal_pytorch_s("hyenadna");
}

#[test]
fn mamba_s_gradients_equal_pytorch_s() {
    gradients_equal_pytorch_s("mamba1");
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
fn evo1_equals_the_published_model() {
    equals_published("evo1");
}

#[test]
fn evo2_equals_the_published_model() {
    equals_published("evo2");
}

#[test]
fn mamba2_equals_the_published_model() {
    equals_published("mamba2");
}

#[test]
fn files_of_transformers_5_equal_its_models() {
    for name in ["mamba1-untied", "mamba2-groups"] {
        equals_published(name);
    }
}

#[test]
fn hyenadna_s_filter_equals_the_published_filter() {
    use crocuta::encoder::hyena::{Hyperparameters, ImplicitFilter};
    let checkpoint = Checkpoint::open(&folder("hyenadna")).unwrap();
    let sizes = Hyperparameters::read(&checkpoint.config).unwrap();
    let layer = checkpoint
        .weights
        .at("hyena.backbone.layers")
        .at(0)
        .at("mixer")
        .at("filter_fn");
    let taps = ImplicitFilter::load(&sizes, &layer)
        .unwrap()
        .taps(0..sizes.width, sizes.length)
        .unwrap();
    let taps = Tensor::from_vec(taps, (sizes.width, sizes.length), &Device::Cpu).unwrap();
    assert!(difference(&taps.t().unwrap(), &expected("hyenadna")["layer0_filter"]) < 1e-5);
}

#[test]
fn caduceus_ph_equals_the_published_model() {
    equals_published("caduceus-ph");
}

#[test]
fn caduceus_ps_equals_the_published_model() {
    equals_published("caduceus-ps");
}

/// By plain loops in f64 (caduceus_mamba2.py), which are held to the published code.
#[test]
fn caduceus_with_mamba_2_equals_the_published_model() {
    for name in ["caduceus-ph-mamba2", "caduceus-ps-mamba2"] {
        equals_published(name);
    }
}

#[test]
fn mamba_in_the_original_layout_equals_candle_s_token_by_token() {
    use candle_transformers::models::mamba as oracle;
    use crocuta::checkpoint::{Config, Weights};
    use crocuta::encoder::mamba;

    let (d, inner, states, rank, rows) = (40, 80, 16, 3, 16);
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize], scale: f64| {
        let n = shape.iter().product::<usize>();
        let seed = name.len() as f32 + tensors.len() as f32;
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 1.7 + seed).sin()).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(name, (tensor * scale).unwrap());
    };
    add("embedding.weight".into(), &[rows, d], 1.0);
    add("norm_f.weight".into(), &[d], 1.0);
    for i in 0..2 {
        add(format!("layers.{i}.norm.weight"), &[d], 1.0);
        let at = format!("layers.{i}.mixer");
        add(format!("{at}.in_proj.weight"), &[2 * inner, d], 0.3);
        add(format!("{at}.conv1d.weight"), &[inner, 1, 4], 0.5);
        add(format!("{at}.conv1d.bias"), &[inner], 0.5);
        add(
            format!("{at}.x_proj.weight"),
            &[rank + 2 * states, inner],
            0.3,
        );
        add(format!("{at}.dt_proj.weight"), &[inner, rank], 0.5);
        add(format!("{at}.dt_proj.bias"), &[inner], 2.0);
        add(format!("{at}.A_log"), &[inner, states], 2.0);
        add(format!("{at}.D"), &[inner], 1.0);
        add(format!("{at}.out_proj.weight"), &[d, inner], 0.3);
    }
    let config = Config::parse(
        "config.json",
        r#"{"d_model": 40, "n_layer": 2, "vocab_size": 12, "ssm_cfg": {}, "rms_norm": true}"#,
    );
    let sizes = mamba::Hyperparameters::read(&config.unwrap()).unwrap();
    assert_eq!((sizes.mixer.rank, sizes.vocabulary), (rank, rows));
    let weights = Weights::new("oracle", tensors.clone().into_iter().collect());
    let model = mamba::Model::load(&sizes, &weights).unwrap();
    assert_eq!(weights.unused(), Vec::<String>::new());

    let ids: Vec<u32> = (0..90).map(|i| 7 + (i * i / 3) % 5).collect();
    let whole = Segment {
        lane: 0,
        len: ids.len(),
        starts: true,
        ends: true,
    };
    let tokens = Tensor::new(&ids[..], &Device::Cpu).unwrap();
    let hidden = model
        .forward(
            &tokens.clone().into(),
            &[whole],
            &mut model.start(1).unwrap(),
        )
        .unwrap();
    let embedding = model.embedding().t().unwrap().stored().unwrap();
    let logits = hidden.stored().unwrap().matmul(&embedding).unwrap();

    let config = oracle::Config {
        d_model: d,
        n_layer: 2,
        vocab_size: 12,
        pad_vocab_size_multiple: 8,
    };
    let weights = candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
    let theirs = oracle::Model::new(&config, weights).unwrap();
    let mut state = oracle::State::new(1, &config, DType::F32, &Device::Cpu).unwrap();
    let expected: Vec<_> = ids
        .iter()
        .map(|id| {
            let token = Tensor::new(&[*id], &Device::Cpu).unwrap();
            theirs.forward(&token, &mut state).unwrap()
        })
        .collect();
    assert!(difference(&logits, &Tensor::cat(&expected, 0).unwrap()) < 1e-5);
}
