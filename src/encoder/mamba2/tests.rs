use super::*;
use crate::checkpoint::Config;
use crate::encoder::Vocabulary;
use crate::ops::Device;
use std::collections::BTreeMap;

const WIDTH: usize = 24;

/// transformers' configuration, two layers of 6 heads of 8 channels.
fn config(groups: usize) -> Config {
    let text = format!(
        r#"{{"hidden_size": {WIDTH}, "num_hidden_layers": 2, "num_heads": 6, "head_dim": 8,
            "state_size": 10, "n_groups": {groups}, "vocab_size": 16,
            "time_step_limit": [0.0, Infinity], "transformers_version": "4.57.1"}}"#
    );
    Config::parse("config.json", &text).unwrap()
}

/// mamba_ssm's for the same sizes.
fn original(groups: usize) -> Config {
    let text = format!(
        r#"{{"d_model": {WIDTH}, "n_layer": 2, "vocab_size": 12, "rms_norm": true,
            "pad_vocab_size_multiple": 16, "attn_layer_idx": [], "d_intermediate": 0,
            "ssm_cfg": {{"layer": "Mamba2", "headdim": 8, "d_state": 10, "ngroups": {groups}}}}}"#
    );
    Config::parse("config.json", &text).unwrap()
}

fn weights(sizes: &Hyperparameters, words: &str) -> Weights {
    let (scan, d) = (sizes.mixer.scan, sizes.width);
    let mut tensors = BTreeMap::new();
    let mut add = |name: String, shape: &[usize], scale: f64, shift: f64| {
        let n = shape.iter().product::<usize>();
        let seed = tensors.len() as f32;
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * 1.7 + seed).sin()).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(name, tensor.affine(scale, shift).unwrap().stored().unwrap());
    };
    add(format!("backbone.{words}.weight"), &[16, d], 1.0, 0.0);
    add("backbone.norm_f.weight".into(), &[d], 0.2, 1.0);
    for i in 0..2 {
        let at = format!("backbone.layers.{i}");
        add(format!("{at}.norm.weight"), &[d], 0.2, 1.0);
        let at = format!("{at}.mixer");
        let (inner, columns, heads) = (scan.inner(), scan.columns(), scan.heads);
        add(
            format!("{at}.in_proj.weight"),
            &[sizes.mixer.projected(), d],
            0.3,
            0.0,
        );
        add(format!("{at}.conv1d.weight"), &[columns, 1, 4], 0.5, 0.0);
        add(format!("{at}.conv1d.bias"), &[columns], 0.5, 0.0);
        add(format!("{at}.A_log"), &[heads], 2.0, 0.0);
        add(format!("{at}.dt_bias"), &[heads], 2.0, -2.0);
        add(format!("{at}.D"), &[heads], 1.0, 0.0);
        add(format!("{at}.norm.weight"), &[inner], 0.2, 1.0);
        add(format!("{at}.out_proj.weight"), &[d, inner], 0.3, 0.0);
    }
    Weights::new("test", tensors)
}

fn tokens(rows: usize, seed: usize) -> Vec<u32> {
    (0..rows)
        .map(|i| 7 + ((i * i + seed * i * 7 + i / 5 + seed) % 5) as u32)
        .collect()
}

fn whole(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let segment = Segment {
        lane: 0,
        len: tokens.len(),
        starts: true,
        ends: true,
    };
    let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
    let mut state = model.start(1).unwrap();
    let hidden = model.forward(&tokens, &[segment], &mut state).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn both_styles_are_one_model_with_one_group_and_differ_in_the_norm_with_more() {
    for groups in [1, 2] {
        let sizes = Hyperparameters::read(&original(groups)).unwrap();
        let model = Model::load(&sizes, &weights(&sizes, "embedding")).unwrap();
        let other = Hyperparameters::read(&config(groups)).unwrap();
        assert_eq!(sizes.mixer.gate_groups, groups);
        assert_eq!(sizes == other, groups == 1);
        assert_eq!(
            other.facts(Vocabulary::characters(16)).note.is_some(),
            groups > 1
        );
        let other = Model::load(&other, &weights(&other, "embeddings")).unwrap();
        let tokens = tokens(40, 3);
        assert_eq!(
            whole(&model, &tokens) == whole(&other, &tokens),
            groups == 1
        );
    }
}

#[test]
fn the_release_that_wrote_the_configuration_decides_which_channels_are_normalised_together() {
    for (version, gate_groups) in [
        (Some("4.44.0.dev0"), 1),
        (Some("5.22.1"), 1),
        (Some("5.23.0"), 2),
        (Some("6.0.0"), 2),
        (None, 2),
    ] {
        let mut json = config(2).as_json().clone();
        json.insert("transformers_version".into(), version.into());
        let sizes = Hyperparameters::read(&Config::new("config.json", json)).unwrap();
        assert_eq!(sizes.mixer.gate_groups, gate_groups, "{version:?}");
    }
}

#[test]
fn keys_of_early_files_that_nothing_reads_change_nothing() {
    let mut json = config(2).as_json().clone();
    for (key, value) in [
        ("norm_before_gate", serde_json::json!(true)),
        ("intermediate_size", 48.into()),
        ("time_step_init_scheme", "random".into()),
        ("time_step_scale", 1.0.into()),
    ] {
        json.insert(key.into(), value);
    }
    let config = Config::new("config.json", json);
    let (read, said) = crate::io::testing::logged(|| Hyperparameters::read(&config));
    assert_eq!(
        read.unwrap(),
        Hyperparameters::read(&self::config(2)).unwrap()
    );
    assert_eq!(said, "");
}

#[test]
fn what_would_run_as_another_model_is_an_error() {
    let changed = |config: Config, key: &str, value: serde_json::Value| {
        let mut json = config.as_json().clone();
        match key.strip_prefix("ssm_cfg.") {
            Some(key) => json["ssm_cfg"][key] = value,
            None => drop(json.insert(key.into(), value)),
        }
        Hyperparameters::read(&Config::new("config.json", json))
    };
    for (key, value) in [
        ("n_groups", 4.into()),
        ("num_heads", 5.into()),
        ("hidden_act", "gelu".into()),
        ("time_step_limit", serde_json::json!([1.0, 0.0])),
        ("time_step_limit", serde_json::json!(["Infinity"])),
    ] {
        let error = changed(config(1), key, value).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
        assert!(error.to_string().contains(&format!("key {key}")), "{error}");
    }
    for (key, value) in [
        ("attn_layer_idx", serde_json::json!([1])),
        ("d_intermediate", 8.into()),
        ("ssm_cfg.norm_before_gate", true.into()),
        ("ssm_cfg.D_has_hdim", true.into()),
        ("ssm_cfg.d_ssm", 8.into()),
        ("ssm_cfg.ngroups", 4.into()),
        ("ssm_cfg.headdim", 7.into()),
    ] {
        let error = changed(original(1), key, value).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
        assert!(error.to_string().contains(&format!("key {key}")), "{error}");
    }
}
