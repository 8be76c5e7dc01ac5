use super::*;
use crate::checkpoint::Checkpoint;
use crate::error::Kind;
use std::path::Path;

fn config(changes: Value) -> Config {
    let mut config = json!({
        "model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 72,
        "max_position_embeddings": 128
    });
    if let (Some(config), Value::Object(changes)) = (config.as_object_mut(), changes) {
        config.extend(changes);
    }
    Config::parse("config.json", &config.to_string()).unwrap()
}

fn golden(class: &str) -> (super::super::Model, Facts) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/pretrained");
    super::super::Model::load(&Checkpoint::open(&folder.join(class)).unwrap()).unwrap()
}

fn whole(len: usize) -> Segment {
    Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    }
}

#[test]
fn what_the_classes_do_not_have_is_refused_by_its_key() {
    for (class, changes, key) in [
        (
            Class::Llama,
            json!({"attention_bias": true}),
            "attention_bias",
        ),
        (
            Class::Llama,
            json!({"num_attention_heads": 5}),
            "num_attention_heads",
        ),
        (
            Class::Llama,
            json!({"num_key_value_heads": 3}),
            "num_key_value_heads",
        ),
        (Class::Mistral, json!({"head_dim": 16}), "head_dim"),
        (Class::Qwen3, json!({"head_dim": 7}), "head_dim"),
        (
            Class::Llama,
            json!({"rope_scaling": {"rope_type": "llama3"}}),
            "rope_scaling.rope_type",
        ),
        (
            Class::Bert,
            json!({"hidden_size": 33}),
            "num_attention_heads",
        ),
    ] {
        let error = Hyperparameters::read(&config(changes), class).unwrap_err();
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn a_window_is_no_longer_than_what_attention_sees() {
    let positions = |class, changes| {
        let sizes = Hyperparameters::read(&config(changes), class).unwrap();
        sizes.positions
    };
    assert_eq!(positions(Class::Mistral, json!({"sliding_window": 50})), 50);
    assert_eq!(
        positions(Class::Mistral, json!({"sliding_window": null})),
        128
    );
    let qwen = json!({"sliding_window": 50, "use_sliding_window": false, "head_dim": 8});
    assert_eq!(positions(Class::Qwen3, qwen), 128);
}

#[test]
fn the_context_in_bases_fits_the_model_s_tokens() {
    for (class, context, step) in [
        ("llama", 3 * 126, 3),
        ("bert", 126 + 2, 1),
        ("mistral", 126, 1),
        ("qwen3", 127, 1),
    ] {
        let (model, facts) = golden(class);
        assert_eq!(
            (facts.context, facts.token_step),
            (Some(context), step),
            "{class}"
        );
        assert!(!facts.streams() && !facts.runs_on_gpu);
        let codes: Vec<u32> = (0..context as u32).map(|i| (i * i / 3) % 4).collect();
        let tokens = Tensor::new(codes, &Device::Cpu).unwrap();
        let mut state = model.start(1).unwrap();
        let run = model.forward(&tokens, &[whole(context)], &mut state);
        assert_eq!(run.unwrap().dims(), [context, 32]);
    }
}

#[test]
fn longer_windows_and_pieces_of_sequences_are_refused() {
    let (model, _) = golden("qwen3");
    let tokens = Tensor::new(vec![0u32; 200], &Device::Cpu).unwrap();
    let mut state = model.start(1).unwrap();
    let error = model
        .forward(&tokens, &[whole(200)], &mut state)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(
        error.to_string().contains("201 tokens, more than 128"),
        "{error}"
    );
    let piece = Segment {
        ends: false,
        ..whole(200)
    };
    let error = model.forward(&tokens, &[piece], &mut state).unwrap_err();
    assert_eq!(error.kind(), Kind::Internal);
}

#[test]
fn a_masked_base_hides_the_tokens_that_cover_it_alone() {
    let (model, facts) = golden("bert");
    let run = |masked: u32| {
        let mut codes: Vec<u32> = (0..30).map(|i| (i * i / 3) % 4).collect();
        codes[10] = masked;
        let tokens = Tensor::new(codes, &Device::Cpu).unwrap();
        let mut state = model.start(1).unwrap();
        let found = model.forward_layers(&tokens, &[whole(30)], &mut state, &[Layer::Bases]);
        found.unwrap().remove(0).to_vec2::<f32>().unwrap()
    };
    let mask = facts.vocabulary.mask.unwrap();
    let masked = run(mask);
    // Whatever stood there, what is said of it is the same.
    assert_ne!(run(0)[10], run(1)[10]);
    assert_eq!(masked[10].len(), facts.vocabulary.size);
    let sum: f64 = masked[10].iter().map(|&x| f64::from(x).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert_eq!(golden("mosaic-bert").1.vocabulary.mask, None);
}
