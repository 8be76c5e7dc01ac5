use super::super::Model;
use super::*;
use crate::checkpoint::{Checkpoint, Config, preset, untrained};
use crate::ops::Device;
use serde_json::json;

/// A model of these layers, with few channels and random weights.
fn small(name: &str) -> Checkpoint {
    let mut config = preset(name).unwrap();
    let lists = match name {
        "evo-1-131k" => json!({"attn_layer_idxs": [1], "hyena_layer_idxs": [0], "num_layers": 2}),
        "evo2-1b" => json!({
            "attn_layer_idxs": [3], "hcl_layer_idxs": [2], "hcm_layer_idxs": [1],
            "hcs_layer_idxs": [0], "num_layers": 4
        }),
        _ => json!({}),
    };
    config.extend(lists.as_object().unwrap().clone());
    for (keys, value) in [
        (["hidden_size", "num_filters", "hcl_filter_groups"], 32),
        (
            [
                "hcm_filter_groups",
                "hcs_filter_groups",
                "num_attention_heads",
            ],
            4,
        ),
    ] {
        for key in keys {
            if let Some(size) = config.get_mut(key) {
                *size = json!(value);
            }
        }
    }
    untrained(
        Config::new("config.json", config),
        1,
        "small".as_ref(),
        1 << 30,
    )
    .unwrap()
}

#[test]
fn a_window_as_long_as_the_sequence_changes_nothing_and_a_shorter_one_does() {
    for name in ["evo-1-131k", "evo2-1b"] {
        let (mut model, mut facts) = Model::load(&small(name)).unwrap();
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
    for name in ["evo-1-131k", "evo2-1b"] {
        let checkpoint = small(name);
        Model::load(&checkpoint).unwrap();
        assert_eq!(checkpoint.weights.unused(), Vec::<String>::new());
    }
}

#[test]
fn a_window_without_attention_is_a_usage_error() {
    let (mut model, mut facts) = Model::load(&small("hyenadna-tiny-1k")).unwrap();
    let error = model.set_attention_window(Some(9), &mut facts).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
}
