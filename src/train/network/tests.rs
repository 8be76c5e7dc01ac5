use super::*;
use crate::checkpoint::{preset, untrained};
use crate::encoder::{Encoder, State};
use crate::ops::check::random;
use crate::ops::cross_entropy;
use crate::sequence::Segment;
use serde_json::{Value, json};
use std::path::Path;

/// A preset made small, its weights random enough that all of them matter.
fn trainee(name: &str, changes: Value) -> Trainee {
    let mut config = preset(name).unwrap();
    if let Value::Object(changes) = changes {
        config.extend(changes);
    }
    config.insert("initializer_range".into(), json!(0.5));
    let config = Config::new("config.json", config);
    let source = untrained(config, 1, Path::new("."), 1 << 30).unwrap();
    shaken(Trainee::new(source, None, Trained::All, 0).unwrap())
}

/// Every value moved a little.
fn shaken(mut trainee: Trainee) -> Trainee {
    for (seed, values) in (0..).zip(trainee.values.values_mut()) {
        let noise: Vec<f32> = random(&[values.len()], seed).to_vec1().unwrap();
        values
            .iter_mut()
            .zip(noise)
            .for_each(|(x, e)| *x += 0.1 * e);
    }
    trainee
}

/// The logits of two sequences side by side, and the bases that come next.
fn step(
    network: &Network,
    state: &mut State,
    lens: [usize; 2],
    starts: bool,
) -> (Tensor, Vec<u32>) {
    let vocabulary = &network.facts.vocabulary;
    let count = lens[0] + lens[1];
    let bases: Vec<u32> = (0..=count)
        .map(|i| vocabulary.token(((i * i + i / 3) % 4) as u8))
        .collect();
    let tokens = Tensor::new(&bases[..count], &Device::Cpu).unwrap();
    let segments = [0, 1].map(|lane| Segment {
        lane,
        len: lens[lane],
        starts,
        ends: !network.facts.causal,
    });
    let hidden = network.model.forward(&tokens, &segments, state).unwrap();
    let head = network.language_model().unwrap();
    (head.forward(&hidden).unwrap(), bases[1..].to_vec())
}

/// The loss of a step that goes on from a state, which is a constant.
fn loss(network: &Network, state: &State) -> (Tensor, f64, Tensor) {
    let starts = !network.facts.causal || matches!(network.model, Model::Hyena(_));
    let (logits, targets) = step(network, &mut state.clone(), [40, 33], starts);
    let weights: Vec<f32> = (0..targets.len()).map(|i| (i % 3) as f32).collect();
    let (sum, seed) = cross_entropy(&logits, &targets, &weights).unwrap();
    (logits, sum, seed)
}

/// Panics unless each parameter has a gradient, and along a direction of random signs it is what
/// differences of the whole network's loss say.
fn every_parameter_learns(mut trainee: Trainee) {
    let network = trainee.network(true).unwrap();
    let mut state = network.model.start(2).unwrap();
    // The state of a long convolution holds what its taps made of the past: nothing to compare.
    if network.facts.causal && !matches!(network.model, Model::Hyena(_)) {
        step(&network, &mut state, [5, 9], true);
    }
    let (logits, _, seed) = loss(&network, &state);
    let gradients = logits.backward(seed).unwrap();
    let names: Vec<String> = trainee.values.keys().cloned().collect();
    let mut wrong = Vec::new();
    for (number, name) in (0..).zip(&names) {
        let gradient = gradients.of(&network.parameters[name]);
        let gradient = gradient.unwrap_or_else(|| panic!("{name} has no gradient"));
        let gradient: Vec<f32> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let signs: Vec<f32> = random(&[gradient.len()], number).to_vec1().unwrap();
        let signs: Vec<f32> = signs.into_iter().map(f32::signum).collect();
        let pairs = gradient.iter().zip(&signs);
        let found: f64 = pairs.map(|(g, sign)| f64::from(g * sign)).sum();
        let square = |g: &f32| f64::from(*g).powi(2);
        let length = gradient.iter().map(square).sum::<f64>().sqrt();
        let kept = trainee.values[name].clone();
        let mut at = |step: f32| {
            let moved = kept.iter().zip(&signs).map(|(x, sign)| x + step * sign);
            trainee.values.insert(name.clone(), moved.collect());
            loss(&trainee.network(false).unwrap(), &state).1
        };
        // The error of a difference that grows with the square of the step cancels.
        let mut difference = |step: f32| (at(step) - at(-step)) / (2.0 * f64::from(step));
        let near = |step: f32| 8e-3 / (gradient.len() as f32).sqrt() * step;
        let expected = (4.0 * difference(near(1.0)) - difference(near(2.0))) / 3.0;
        trainee.values.insert(name.clone(), kept);
        if length == 0.0 || (found - expected).abs() > 0.03 * length + 0.03 {
            wrong.push(format!(
                "{name}: {found}, expected {expected}, length {length}"
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_parameter_of_crocuta_bacteria_learns() {
    every_parameter_learns(trainee(
        "crocuta-bacteria",
        json!({
            "hidden_size": 16, "num_filters": 16, "inner_mlp_size": 24, "num_layers": 4,
            "attn_layer_idxs": [3], "hcl_layer_idxs": [2], "hcm_layer_idxs": [1],
            "hcs_layer_idxs": [0], "hcl_filter_groups": 16, "hcm_filter_groups": 16,
            "hcs_filter_groups": 8, "state_size": 3, "attention_window": 20,
            "num_attention_heads": 2
        }),
    ));
}

#[test]
fn every_parameter_of_evo_learns() {
    every_parameter_learns(trainee(
        "evo-1-131k",
        json!({
            "hidden_size": 16, "num_filters": 16, "inner_mlp_size": 24, "num_layers": 2,
            "attn_layer_idxs": [1], "hyena_layer_idxs": [0], "state_size": 3,
            "num_attention_heads": 2, "num_heads": 2, "vocab_size": 128
        }),
    ));
}

#[test]
fn every_parameter_of_s4d_learns() {
    every_parameter_learns(trainee(
        "s4d-d256-l8",
        json!({"d_model": 12, "d_state": 6, "n_layer": 2}),
    ));
}

#[test]
fn every_parameter_of_a_transformer_learns() {
    for changes in [
        json!({"attention": "causal"}),
        json!({"attention": "sliding", "window": 10}),
        json!({"attention": "bidirectional"}),
        json!({"attention": "performer", "features": 6}),
        json!({"attention": "nystrom", "landmarks": 3, "conv_size": 3}),
    ] {
        let Value::Object(mut all) = json!({
            "hidden_size": 12, "num_layers": 2, "num_heads": 3, "inner_size": 20
        }) else {
            unreachable!()
        };
        if let Value::Object(changes) = changes {
            all.extend(changes);
        }
        every_parameter_learns(trainee("transformer-d256-l8", Value::Object(all)));
    }
}

#[test]
fn every_parameter_of_a_distilled_hyenadna_learns() {
    let mut config = preset("hyenadna-tiny-1k").unwrap();
    let changes = json!({
        "d_model": 8, "d_inner": 16, "n_layer": 2, "max_seq_len": 66, "initializer_range": 0.5
    });
    if let Value::Object(changes) = changes {
        config.extend(changes);
    }
    let config = Config::new("config.json", config);
    let source = untrained(config, 1, Path::new("."), 1 << 30).unwrap();
    let mut tensors = source.weights.stored().clone();
    // The original filter of the first layer stays beside the modes: it is not a parameter.
    let original = |name: &str| name.contains("layers.1.") && name.contains("implicit_filter");
    tensors.retain(|name, _| !original(name));
    for (i, part) in [(0, "poles"), (1, "residues"), (2, "h0")] {
        for layer in 0..2 {
            let shape = &[8, 3, 2][..if i == 2 { 1 } else { 3 }];
            let values = random(shape, 10 * i + layer).affine(0.5, 0.0).unwrap();
            let name = format!("hyena.backbone.layers.{layer}.mixer.filter_fn.modal.{part}");
            tensors.insert(name, values.stored().unwrap());
        }
    }
    let mut distilled = source.with(Weights::new("distilled", tensors));
    let mut config = source.config.as_json().clone();
    config.insert("filter".into(), json!("modal"));
    config.insert("modes".into(), json!(3));
    distilled.config = Config::new("config.json", config);
    let trainee = Trainee::new(distilled, None, Trained::All, 0).unwrap();
    assert!(
        trainee
            .values
            .keys()
            .all(|name| !name.contains("implicit_filter"))
    );
    every_parameter_learns(shaken(trainee));
}

#[test]
fn every_parameter_of_hyenadna_learns() {
    let mut trainee = trainee(
        "hyenadna-tiny-1k",
        json!({"d_model": 8, "d_inner": 16, "n_layer": 2, "max_seq_len": 66, "filter_order": 8}),
    );
    // Sines slow enough for differences.
    for (name, values) in &mut trainee.values {
        if name.ends_with(".freq") {
            values.iter_mut().for_each(|x| *x *= 0.1);
        }
    }
    every_parameter_learns(trainee);
}

#[test]
fn every_parameter_of_mamba_learns() {
    every_parameter_learns(trainee(
        "mamba-d256-l16",
        json!({
            "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "state_size": 4,
            "time_step_rank": 2
        }),
    ));
}

#[test]
fn every_parameter_of_mamba2_learns() {
    every_parameter_learns(trainee(
        "mamba2-d256-l16",
        json!({
            "hidden_size": 8, "num_heads": 4, "head_dim": 4, "n_groups": 2, "state_size": 5,
            "num_hidden_layers": 2
        }),
    ));
}

#[test]
fn what_is_part_of_the_architecture_is_not_trained() {
    let config = Config::new("test", preset("crocuta-bacteria").unwrap());
    let source = untrained(config, 1, Path::new(""), 1 << 30).unwrap();
    let trainee = Trainee::new(source, None, Trained::All, 1).unwrap();
    let trained = |name: &str| trainee.values.contains_key(name);
    assert!(trained("blocks.2.filter.residues") && trained("blocks.2.filter.D"));
    assert!(!trained("blocks.2.filter.log_poles"));
    assert!(!trained("blocks.3.inner_mha_cls.rotary_emb.inv_freq"));
}
