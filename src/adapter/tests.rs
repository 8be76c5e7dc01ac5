use super::*;
use crate::checkpoint::{self, Staging};
use candle_core::{Device, Tensor as Stored};

fn tensor(values: &[f32], shape: (usize, usize)) -> Stored {
    Stored::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// A model of an embedding, two layers and a bias, without a head of its own.
fn base() -> Weights {
    let weight = || tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (2, 3));
    let tensors = [
        ("embeddings.weight", tensor(&[0.5; 6], (2, 3))),
        ("l.0.in_proj.weight", weight()),
        ("l.1.in_proj.weight", weight()),
        ("l.1.in_proj.bias", tensor(&[0.0; 2], (1, 2))),
    ];
    Weights::new(
        "base",
        tensors.map(|(name, x)| (name.to_string(), x)).into(),
    )
}

/// The tensors of an adapter of rank 1 for the first layer of `base`, and of a head.
fn pair() -> BTreeMap<String, Stored> {
    let tensors = [
        (
            "l.0.in_proj.lora_A.weight",
            tensor(&[1.0, 0.0, -1.0], (1, 3)),
        ),
        ("l.0.in_proj.lora_B.weight", tensor(&[1.0, 10.0], (2, 1))),
        ("score.weight", tensor(&[7.0], (1, 1))),
    ];
    tensors.map(|(name, x)| (name.to_string(), x)).into()
}

/// The adapter of these tensors for `base`, with these keys of its configuration changed.
fn applied(tensors: BTreeMap<String, Stored>, changes: Value) -> Result<Adapter> {
    let scale = Scale {
        rank: 1,
        alpha: 2.0,
    };
    let (text, weights) = files((&scale, 0.0), ("base", ""), Map::new(), tensors);
    let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap();
    config.extend(changes.as_object().unwrap().clone());
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("a");
    let text = Value::Object(config).to_string();
    let files = [("adapter_config.json", text)];
    checkpoint::write_directory(
        Staging::begin(&out).unwrap(),
        (weights.0, &weights.1),
        &files,
    )
    .unwrap();
    read(&out, &base())
}

fn merged(changes: Value) -> Result<Adapter> {
    applied(pair(), changes)
}

/// The error of an adapter with one more tensor.
fn refused(name: &str, shape: (usize, usize)) -> String {
    let mut tensors = pair();
    let values = vec![0.0; shape.0 * shape.1];
    tensors.insert(name.to_string(), tensor(&values, shape));
    let error = applied(tensors, json!({"modules_to_save": ["score"]}))
        .err()
        .unwrap();
    assert_eq!(error.kind(), crate::error::Kind::Model);
    error.to_string()
}

fn weight(adapter: &Adapter) -> Vec<f32> {
    let tensor = &adapter.tensors["l.0.in_proj.weight"];
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_merged_weight_is_that_of_the_formula() {
    let adapter = merged(json!({})).unwrap();
    assert_eq!(weight(&adapter), [3.0, 2.0, 1.0, 24.0, 5.0, -14.0]);
    assert!(adapter.tensors.contains_key("score.weight"));
}

#[test]
fn the_configuration_lists_the_modules_whose_tensors_there_are() {
    let scale = Scale {
        rank: 1,
        alpha: 2.0,
    };
    let config: Value =
        serde_json::from_str(&files((&scale, 0.0), ("base", ""), Map::new(), pair()).0).unwrap();
    assert_eq!(config["modules_to_save"], json!(["score"]));
    assert_eq!(config["target_modules"], json!(["l.0.in_proj"]));
}

#[test]
fn keys_of_patterns_are_regular_expressions_for_the_end_of_a_name() {
    let weak = [2.0, 2.0, 2.0, 14.0, 5.0, -4.0];
    let usual = weight(&merged(json!({})).unwrap());
    for (key, matches) in [
        ("in_proj", true),
        (r"l\.\d+\.in_proj", true),
        (r"\d\.(in|out)_proj", true),
        ("^l.0.in_proj", true),
        ("in_proj|out_proj", true),
        ("^in_proj", false),
        ("n_proj", false),
        (r"l\.[1-9]\.in_proj", false),
        ("in_pro", false),
    ] {
        let adapter = merged(json!({"alpha_pattern": {key: 1}})).unwrap();
        let expected = if matches { &weak[..] } else { &usual };
        assert_eq!(weight(&adapter), expected, "{key}");
    }
    // The first one that matches counts.
    let both = json!({"alpha_pattern": {"l.*": 1, "in_proj": 8}});
    assert_eq!(weight(&merged(both).unwrap()), weak);
    let ranks = json!({"r": 64, "rank_pattern": {r"\d+\.in_proj": 1}});
    assert_eq!(weight(&merged(ranks).unwrap()), usual);
    let error = merged(json!({"alpha_pattern": {"(?=x)": 1}}))
        .err()
        .unwrap();
    assert!(error.to_string().contains("alpha_pattern.(?=x)"), "{error}");
}

#[test]
fn a_root_of_the_rank_is_taken_where_the_configuration_says_so() {
    let mut tensors = pair();
    tensors.insert(
        "l.0.in_proj.lora_A.weight".into(),
        tensor(
            &[1.0, 0.0, -1.0, 0., 0., 0., 0., 0., 0., 0., 0., 0.],
            (4, 3),
        ),
    );
    let b = tensor(&[1.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0], (2, 4));
    tensors.insert("l.0.in_proj.lora_B.weight".into(), b);
    let config = json!({"r": 4, "lora_alpha": 4, "use_rslora": true});
    let adapter = applied(tensors, config).unwrap();
    assert_eq!(weight(&adapter), [3.0, 2.0, 1.0, 24.0, 5.0, -14.0]);
}

#[test]
fn initialisations_that_change_the_base_model_are_refused_and_others_are_not() {
    for kind in [
        json!(true),
        json!(false),
        json!(null),
        json!("eva"),
        json!("gaussian"),
        json!("orthogonal"),
    ] {
        assert!(merged(json!({"init_lora_weights": kind})).is_ok(), "{kind}");
    }
    for kind in [
        "pissa",
        "pissa_niter_16",
        "PiSSA",
        "olora",
        "loftq",
        "corda",
        "lora_ga",
        "new",
    ] {
        let error = merged(json!({"init_lora_weights": kind})).err().unwrap();
        let words = ["key init_lora_weights", &kind.to_lowercase()];
        assert!(
            words.iter().all(|word| error.to_string().contains(word)),
            "{error}"
        );
    }
}

#[test]
fn what_is_not_computed_as_asked_is_an_error_that_names_the_key() {
    for (changes, key) in [
        (json!({"peft_type": "IA3"}), "peft_type"),
        (json!({"use_dora": true}), "use_dora"),
        (json!({"fan_in_fan_out": true}), "fan_in_fan_out"),
        (json!({"lora_bias": true}), "lora_bias"),
        (json!({"bias": "some"}), "bias"),
        (json!({"megatron_config": {"x": 1}}), "megatron_config"),
        (json!({"target_parameters": ["l.0.w"]}), "target_parameters"),
        (
            json!({"trainable_token_indices": [7, 8]}),
            "trainable_token_indices",
        ),
        (
            json!({"trainable_token_indices": {"embeddings": [7]}}),
            "trainable_token_indices",
        ),
        (json!({"layer_replication": [[0, 1]]}), "layer_replication"),
        (json!({"target_modules": ["out_proj"]}), "target_modules"),
        (json!({"target_modules": "l\\.1\\..*"}), "target_modules"),
        (
            json!({"target_modules": ["in_proj"], "layers_to_transform": [1, 2]}),
            "layers_to_transform",
        ),
        (json!({"exclude_modules": ["in_proj"]}), "exclude_modules"),
        (json!({"exclude_modules": ".*0.*"}), "exclude_modules"),
        (json!({"r": 2}), "key r"),
        (json!({"rank_pattern": {"in_proj": 2}}), "rank_pattern"),
        (json!({"lora_alpha": null}), "lora_alpha"),
    ] {
        let error = merged(changes).err().unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Model);
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
    for same in [
        json!({"target_modules": "all-linear", "trainable_token_indices": null}),
        json!({"target_modules": ".*in_proj", "exclude_modules": ["out_proj"]}),
        json!({"target_modules": ["in_proj"], "layers_to_transform": null, "target_parameters": []}),
        json!({"target_modules": "l\\.0.*", "megatron_core": "megatron.core", "megatron_config": null}),
    ] {
        assert!(merged(same.clone()).is_ok(), "{same}");
    }
    // The number stands behind two names: l.0.in_proj has too few, so no layer is chosen by it.
    let mut tensors = BTreeMap::new();
    let name = |part: &str| format!("m.l.3.in_proj.{part}.weight");
    tensors.insert(name("lora_A"), tensor(&[0.0; 3], (1, 3)));
    tensors.insert(name("lora_B"), tensor(&[0.0; 2], (2, 1)));
    let config = |key: &str| json!({"target_modules": ["in_proj"], "layers_to_transform": 3, "layers_pattern": key});
    for (key, words) in [("l", "no matrix"), ("h", "layers_to_transform")] {
        let error = applied(tensors.clone(), config(key)).err().unwrap();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn every_tensor_of_an_adapter_is_used_or_an_error_that_names_it() {
    for name in ["l.1.in_proj.lora_A.weight", "l.1.in_proj.lora_B.weight"] {
        let shape = if name.contains("_A") { (1, 3) } else { (2, 1) };
        let error = refused(name, shape);
        assert!(
            error.contains("missing") && error.contains("l.1.in_proj"),
            "{error}"
        );
    }
    for name in [
        "l.0.in_proj.lora_magnitude_vector",
        "l.0.in_proj.lora_B.bias",
        "embeddings.lora_embedding_A",
        "embeddings.token_adapter.trainable_tokens_delta",
        "l.0.other.weight",
    ] {
        let error = refused(name, (2, 3));
        assert!(error.contains(name) && error.contains("kind"), "{error}");
    }
    let error = refused("l.0.in_proj.base_layer.weight", (2, 3));
    assert!(error.contains("another tensor"), "{error}");
    let error = refused("l.1.in_proj.weight", (1, 3));
    assert!(error.contains("shape [1, 3]"), "{error}");
    // Biases that were trained too, by PEFT's name of them.
    let mut tensors = pair();
    let bias = tensor(&[3.0, 4.0], (1, 2));
    tensors.insert("l.1.in_proj.base_layer.bias".into(), bias);
    let adapter = applied(tensors, json!({"bias": "all"})).unwrap();
    assert!(adapter.tensors.contains_key("l.1.in_proj.bias"));
}

#[test]
fn an_embedding_that_changes_says_what_becomes_of_the_head_that_is_tied_to_it() {
    let error = refused("embeddings.weight", (2, 3));
    assert!(
        error.contains("embeddings.weight") && error.contains("head"),
        "{error}"
    );
    let mut tensors = pair();
    for name in ["embeddings.weight", "lm_head.weight"] {
        tensors.insert(name.into(), tensor(&[1.0; 6], (2, 3)));
    }
    let adapter = applied(tensors, json!({})).unwrap();
    assert!(adapter.tensors.contains_key("lm_head.weight"));
}

#[test]
fn adapters_are_for_linear_layers() {
    let names = [
        "blocks.0.mlp.l1.weight",
        "blocks.0.projections.weight",
        "embedding_layer.weight",
        "lm_head.weight",
        "blocks.0.norm.weight",
    ];
    let tensors = names.map(|name| (name.to_string(), tensor(&[0.0; 4], (2, 2))));
    let found = modules(&Weights::new("x", tensors.into()));
    assert_eq!(found, ["blocks.0.mlp.l1", "blocks.0.projections"]);
}
