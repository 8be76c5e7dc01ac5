//! A model that `models new` makes is one that every command opens.

use crocuta::checkpoint::{Checkpoint, Config, Tokenizer, create, preset};
use crocuta::encoder::Model;
use serde_json::{Map, Value, json};
use std::path::Path;

/// A small configuration of every architecture, with the keys that its preset or golden has.
fn configurations() -> Vec<(String, Map<String, Value>)> {
    let goldens = [
        "hyenadna",
        "mamba1",
        "mamba2",
        "caduceus-ph",
        "caduceus-ps",
        "caduceus-ps-mamba2",
        "evo1",
        "evo2",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let golden = |name: &str| {
        let config = Config::read(&root.join(name).join("config.json")).unwrap();
        (name.to_string(), config.as_json().clone())
    };
    let small = |name: &str, changes: Value| {
        let mut config = preset(name).unwrap();
        config.extend(changes.as_object().unwrap().clone());
        (name.to_string(), config)
    };
    let mut all: Vec<_> = goldens.map(golden).into();
    all.push(small(
        "hyenadna-tiny-1k",
        json!({"d_model": 8, "d_inner": 16, "max_seq_len": 34, "filter_order": 8}),
    ));
    all.push(small(
        "caduceus-ph-1k",
        json!({"d_model": 16, "n_layer": 2}),
    ));
    all.push(small(
        "s4d-d256-l8",
        json!({"d_model": 8, "n_layer": 1, "d_state": 4}),
    ));
    for attention in ["causal", "performer", "nystrom"] {
        all.push(small(
            "transformer-d256-l8",
            json!({"attention": attention, "hidden_size": 8, "num_heads": 2, "num_layers": 1,
                "inner_size": 16, "features": 8, "landmarks": 4, "conv_size": 3}),
        ));
    }
    all
}

/// Keys that presets leave out, and that change tensors or their values.
const MORE: [&str; 16] = [
    "bidirectional_weight_tie",
    "conv_bias",
    "expand",
    "filter",
    "fused_add_norm",
    "hcm_filter_groups",
    "hcs_filter_groups",
    "initializer_range",
    "layer_norm_epsilon",
    "norm_epsilon",
    "num_inner_mlps",
    "pad_vocab_size_multiple",
    "rms_norm",
    "tie_word_embeddings",
    "use_bias",
    "use_conv_bias",
];

#[test]
fn what_models_new_makes_is_opened_whatever_the_configuration_says() {
    let values = [json!(0), json!(7), json!(-1e-5), json!(1e300), json!(false)];
    let dir = tempfile::tempdir().unwrap();
    let (mut made, mut refused) = (0, 0);
    for (name, config) in configurations() {
        let keys: Vec<String> = config.keys().cloned().collect();
        let more = MORE.iter().map(|key| (*key).to_string());
        for key in keys.into_iter().chain(more) {
            for value in &values {
                let mut config = config.clone();
                config.insert(key.clone(), value.clone());
                let config = Config::new(&name, config);
                let out = dir.path().join("model");
                let created = Model::describe(&config, &Tokenizer::default())
                    .and_then(|_| create(&config, 1, &out, 1 << 24));
                if created.is_err() {
                    refused += 1;
                    assert!(!out.exists(), "{name}: {key} {value}");
                    continue;
                }
                made += 1;
                let opened = Checkpoint::open(&out).and_then(|model| Model::load(&model));
                let error = opened.err().map(|error| error.to_string());
                assert_eq!(error, None, "{name}: {key} {value}");
                std::fs::remove_dir_all(&out).unwrap();
            }
        }
    }
    assert!(
        made > 300 && refused > 300,
        "{made} made, {refused} refused"
    );
}
