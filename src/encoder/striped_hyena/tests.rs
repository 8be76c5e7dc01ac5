use super::super::Model;
use super::*;
use crate::checkpoint::Checkpoint;
use crate::ops::Device;
use serde_json::json;

fn open(name: &str) -> (Model, Facts) {
    let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens");
    let checkpoint = Checkpoint::open(format!("{goldens}/{name}").as_ref()).unwrap();
    Model::load(&checkpoint).unwrap()
}

#[test]
fn a_window_as_long_as_the_sequence_changes_nothing_and_a_shorter_one_does() {
    for name in ["evo1", "evo2"] {
        let (mut model, mut facts) = open(name);
        let tokens: Vec<u32> = (0..100).map(|i| 65 + i * i % 7).collect();
        let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
        let whole = Segment {
            lane: 0,
            len: 100,
            starts: true,
            ends: true,
        };
        let mut with = |window| {
            model.set_attention_window(window, &mut facts).unwrap();
            assert_eq!(facts.token_bytes == 0, window.is_some());
            let mut state = model.start(1).unwrap();
            let hidden = model.forward(&tokens, &[whole], &mut state).unwrap();
            hidden.to_vec2::<f32>().unwrap()
        };
        let all = with(None);
        assert_eq!(with(Some(100)), all);
        let short = with(Some(20));
        assert_eq!(short[..20], all[..20]);
        assert!(short[20..].iter().zip(&all[20..]).all(|(a, b)| a != b));
    }
}

#[test]
fn new_weights_are_all_used() {
    use crate::checkpoint::{Config, create, preset};
    for (name, lists) in [
        (
            "evo-1-131k",
            json!({"attn_layer_idxs": [1], "hyena_layer_idxs": [0]}),
        ),
        (
            "evo2-1b",
            json!({
                "attn_layer_idxs": [3], "hcl_layer_idxs": [2],
                "hcm_layer_idxs": [1], "hcs_layer_idxs": [0]
            }),
        ),
    ] {
        let mut config = preset(name).unwrap();
        for key in ["hidden_size", "num_filters", "hcl_filter_groups"] {
            if config.contains_key(key) {
                config.insert(key.to_string(), json!(32));
            }
        }
        for key in [
            "hcm_filter_groups",
            "hcs_filter_groups",
            "num_attention_heads",
        ] {
            if config.contains_key(key) {
                config.insert(key.to_string(), json!(4));
            }
        }
        let layers: usize = lists
            .as_object()
            .unwrap()
            .values()
            .map(|list| list.as_array().unwrap().len())
            .sum();
        config.insert("num_layers".to_string(), json!(layers));
        config.extend(lists.as_object().unwrap().clone());
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("model");
        create(&Config::new("config.json", config), 1, &out, 1 << 30).unwrap();
        let checkpoint = Checkpoint::open(&out).unwrap();
        Model::load(&checkpoint).unwrap();
        assert_eq!(checkpoint.weights.unused(), Vec::<String>::new());
    }
}

#[test]
fn a_window_without_attention_is_a_usage_error() {
    let (mut model, mut facts) = open("hyenadna");
    let error = model.set_attention_window(Some(9), &mut facts).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
}
